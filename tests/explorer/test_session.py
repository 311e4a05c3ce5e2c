"""What the page may ask: every operation on generated models, beside torch."""

from __future__ import annotations

import copy
import io
import threading
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explorer.fixtures import MODELS, described, plain, reference
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError, DataError, UnknownNameError
from convscope.explorer.inputs import MAX_UPLOAD_BYTES, as_npy
from convscope.explorer.pictures import QUANTITIES
from convscope.explorer.protocol import Arguments, ProtocolError, Reply
from convscope.explorer.session import Session
from convscope.layers.losses import LOSSES
from convscope.models import MODELS as CATALOGUE
from convscope.models import create_model


def ask(session: Session, op: str, payload: bytes = b"", /, **args: Any) -> Reply:
    return session.answer(op, Arguments(args), payload)


def noise(session: Session, seed: int = 0) -> bytes:
    count = int(np.prod(session.desk.picture_shape))
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8).tobytes()


@pytest.fixture
def session() -> Session:
    torch.manual_seed(1)
    opened = Session(described(plain(), (3, 12, 12), 4))
    ask(opened, "show_pixels", noise(opened))
    return opened


@pytest.mark.parametrize("name", MODELS)
def test_own_models_without_conversion(name: str) -> None:
    """Layer count, shapes and outputs as torch has them; every layer can be opened and explained."""
    torch.manual_seed(2)
    model = MODELS[name]()
    session = Session(model)
    ask(session, "show_pixels", noise(session))
    modules = {key: each for key, each in model.named_modules() if key and not list(each.children())}
    hello = ask(session, "hello").values
    nodes = {node["name"]: node for node in hello["nodes"]}
    assert set(modules) <= set(nodes)
    shapes: dict[str, list[int]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, y, key=key: shapes.__setitem__(key, list(y.shape[1:])))
        for key, module in modules.items()
    ]
    with torch.no_grad():
        y = model(session.snapshot.question.x)
    for hook in hooks:
        hook.remove()
    assert {key: nodes[key]["shape"] for key in modules} == shapes
    torch.testing.assert_close(session.snapshot.logits, y, rtol=1e-5, atol=1e-5)
    for key, node in nodes.items():
        middle = [side // 2 for side in node["shape"]]
        number = middle[0] if middle else 0
        assert ask(session, "elastic", layer=key, map=number).data
        ask(session, "explain", layer=key, index=middle)
        assert ask(session, "grid", layer=key).values["total"] == (node["shape"] or [1])[0]
        if session.snapshot.loss is not None:
            assert ask(session, "elastic", layer=key, map=number, direction="backward").data
            ask(session, "explain", layer=key, index=middle, direction="backward")


def test_frames_hold_every_layer_about_zero(session: Session) -> None:
    for kind in QUANTITIES:
        reply = ask(session, "frame", quantity=kind)
        assert reply.data is not None
        for tile in reply.values["tiles"]:
            if tile.get("none") or tile.get("pixels"):
                continue
            size = tile["count"] * tile["height"] * tile["width"]
            raw = np.frombuffer(reply.data, np.uint8, size, tile["offset"]).astype(float)
            if kind == "activation" and tile["full"] == [tile["height"], tile["width"]]:
                shown = (raw.reshape(tile["count"], tile["height"], tile["width"]) - 128) / 127 * tile["limit"]
                y = session.snapshot.layers[tile["layer"]].y[0].reshape(shown.shape).double().numpy()
                np.testing.assert_allclose(shown, y.clip(-tile["limit"], tile["limit"]), atol=tile["limit"] / 253)


def test_exact_values(session: Session) -> None:
    reply = ask(session, "values", layer="3", map=5)
    y = np.frombuffer(reply.data or b"", "<f4").reshape(reply.values["shape"])
    np.testing.assert_array_equal(y, session.snapshot.layers["3"].y[0, 5].numpy())
    reply = ask(session, "values", layer="3", quantity="weight", map=2)
    np.testing.assert_array_equal(
        np.frombuffer(reply.data or b"", "<f4"),
        session.model[3].weight[2].detach().numpy().ravel(),  # type: ignore[index]
    )
    assert ask(session, "values", layer="input", quantity="delta").data
    with pytest.raises(ArgumentError, match="map: got 99"):
        ask(session, "values", layer="3", map=99)
    with pytest.raises(UnknownNameError, match="parameter: got 'gamma'"):
        ask(session, "values", layer="3", quantity="weight", parameter="gamma")


def test_partial_sums_add_up_to_the_map(session: Session) -> None:
    reply = ask(session, "elastic", layer="3", map=2)
    panels = reply.values["panels"]
    values = {
        (p["role"], p["row"]): np.frombuffer(reply.data or b"", "<f4", p["height"] * p["width"], p["offset"]).reshape(
            p["height"], p["width"]
        )
        for p in panels
    }
    total = sum(value for (role, _), value in values.items() if role in ("partial", "rest")) + reply.values["bias"]
    np.testing.assert_allclose(total, values["out", 0], atol=1e-5)
    back = ask(session, "elastic", layer="2", map=1, direction="backward")
    parts = [p for p in back.values["panels"] if p["role"] in ("partial", "rest")]
    out = next(p for p in back.values["panels"] if p["role"] == "out")

    def read(panel: dict[str, Any]) -> Any:
        return np.frombuffer(back.data or b"", "<f4", panel["height"] * panel["width"], panel["offset"])

    np.testing.assert_allclose(sum(read(p) for p in parts), read(out), atol=1e-6)
    truth = reference(session.model, session.snapshot.question.x, session.target or 0)
    np.testing.assert_allclose(read(out), truth.grad_y["2"][0, 1].numpy().ravel(), atol=1e-6)


def test_nudging_a_weight_changes_the_loss_as_its_gradient_says(session: Session) -> None:
    for layer, index in (("0", [1, 2, 3, 3]), ("3", [4, 1, 0, 2]), ("6", [2, 17])):
        found = ask(session, "nudge", layer=layer, index=index, epsilon=1e-4).values
        assert found["predicted"] == pytest.approx(found["change"], rel=0.01, abs=1e-12)
    before = copy.deepcopy(session.model.state_dict())
    ask(session, "nudge", layer="0", index=[0, 0, 0, 0], epsilon=1.0)
    assert all(torch.equal(each, before[name]) for name, each in session.model.state_dict().items())


def test_three_steps_are_those_of_torch_sgd_and_rewind_restores_every_bit(session: Session) -> None:
    twin = copy.deepcopy(session.model).train(False)
    start = copy.deepcopy(session.model.state_dict())
    first = ask(session, "training").values["training"]["hash"]
    ask(session, "configure", rate=0.1, momentum=0.9, decay=0.01)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    x, target = session.snapshot.question.x, torch.tensor([session.target])
    for turn in range(3):
        if turn == 2:  # another rate in the middle, without a new start
            ask(session, "configure", rate=0.05)
            optimiser.param_groups[0]["lr"] = 0.05
        beats = ask(session, "preview", parameter="3.weight", index=[1, 1, 1, 1]).values["weight"]
        foreseen = ask(session, "preview").values
        stepped = ask(session, "step", parameter="3.weight", index=[1, 1, 1, 1]).values
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(twin(x), target))
        optimiser.step()
        for mine, theirs in zip(session.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        assert beats["new_w"] == pytest.approx(float(session.model[3].weight.detach()[1, 1, 1, 1]), abs=1e-6)  # type: ignore[index]
        assert foreseen["loss_after"] == pytest.approx(stepped["loss_after"], abs=1e-5)
    assert ask(session, "training").values["training"]["hash"] != first
    ask(session, "rewind")
    assert all(torch.equal(each, start[name]) for name, each in session.model.state_dict().items())
    assert ask(session, "training").values["training"]["hash"] == first
    with pytest.raises(ArgumentError, match="rate: got -1"):
        ask(session, "configure", rate=-1)
    with pytest.raises(UnknownNameError, match="parameter: got 'nothing'"):
        ask(session, "preview", parameter="nothing", index=[0])
    with pytest.raises(ArgumentError, match=r"index: got \[9\]"):
        ask(session, "preview", parameter="3.bias", index=[9])


def test_target_and_loss_can_be_chosen(session: Session) -> None:
    for loss in ("cross_entropy", "squared_error", "hinge"):
        reply = ask(session, "ask", target=3, loss=loss).values
        y = session.snapshot.logits
        assert reply["loss"] == pytest.approx(float(LOSSES[loss].value(y, torch.tensor([3]))), rel=1e-5)
        assert reply["target_chosen"]
    assert ask(session, "ask", target=None).values["target"] == session.snapshot.predicted
    with pytest.raises(ArgumentError, match="target: got 4"):
        ask(session, "ask", target=4)
    with pytest.raises(ProtocolError, match="loss: got 'guess'"):
        ask(session, "ask", target=1, loss="guess")


def test_evidence(session: Session) -> None:
    """gradient × input is autograd's; covering the planted square takes the score away."""
    reply = session.answer("evidence", Arguments({"method": "gradient_x_input", "class": 2}), b"")
    x = session.snapshot.question.x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(session.model(x)[0, 2], x)
    found = np.frombuffer(reply.data or b"", "<f4").reshape(reply.values["shape"])
    np.testing.assert_allclose(found, (x * gradient)[0].sum(0).detach().numpy(), atol=1e-5)
    torch.manual_seed(0)
    bright: Any = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        bright[0].weight.fill_(1 / 9)
        bright[2].weight[0].zero_()
        bright[2].weight[1].fill_(0.1)
    planted = Session(described(bright, (1, 16, 16), 2))
    picture = np.zeros((16, 16), np.uint8)
    picture[9:13, 2:6] = 255
    ask(planted, "show_pixels", picture.tobytes())
    occlusion = planted.answer("evidence", Arguments({"method": "occlusion", "class": 1}), b"")
    seen = np.frombuffer(occlusion.data or b"", "<f4").reshape(16, 16)
    row, column = np.unravel_index(int(seen.argmax()), seen.shape)
    assert 9 <= row < 13
    assert 2 <= column < 6
    planted.cancel()
    with pytest.raises(Exception, match="cancelled"):
        planted.answer("evidence", Arguments({"method": "occlusion", "class": 1}), b"")


def png(array: Any, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array, mode).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["rgba", "grey", "tiny", "huge"])
def test_pictures_of_every_kind_reach_the_model_as_in_python(session: Session, kind: str) -> None:
    random = np.random.default_rng(3)
    shape = {"rgba": (40, 30, 4), "grey": (30, 50), "tiny": (1, 1, 3), "huge": (1500, 900, 3)}[kind]
    content = png(random.integers(0, 256, shape, dtype=np.uint8))
    session.load_upload(content, "upload")
    exported = np.load(io.BytesIO(as_npy(session.snapshot.question.x)))
    with torch.no_grad():
        logits = session.model(torch.from_numpy(exported))
    torch.testing.assert_close(logits, session.snapshot.logits, rtol=1e-5, atol=1e-5)
    stages = ask(session, "stages").values["stages"]
    assert stages[0]["name"] == "original"
    assert stages[-1]["name"] == "normalise"
    names = {stage["name"] for stage in stages}
    assert ("channels" in names) == (kind == "grey")
    assert "size" in names


def test_pictures_that_are_refused(session: Session) -> None:
    with pytest.raises(DataError, match="not a picture"):
        session.load_upload(b"GIF? no", "upload")
    with pytest.raises(ArgumentError, match="upload: got"):
        session.load_upload(bytes(MAX_UPLOAD_BYTES + 1), "upload")
    with pytest.raises(DataError, match="too large"):
        session.load_upload(png(np.zeros((10_000, 10_000), np.uint8)), "upload")  # 100 megapixels in 97 kB
    with pytest.raises(ArgumentError, match="pixels: got '3 bytes'"):
        ask(session, "show_pixels", b"abc")
    with pytest.raises(ArgumentError, match=r"pixel: got \[0, 99, 0\]"):
        ask(session, "poke", channel=0, row=99, column=0, value=5)
    with pytest.raises(ArgumentError, match="value: got 300"):
        ask(session, "poke", channel=0, row=1, column=0, value=300)
    with pytest.raises(ArgumentError, match="data: got None"):
        ask(session, "show_data", split="test", index=0)


def test_poking_a_pixel_changes_it_alone(session: Session) -> None:
    before = session.picture.pixels.clone()
    value = 255 - int(before[0, 2, 7, 5])
    ask(session, "poke", channel=2, row=7, column=5, value=value)
    after = session.picture.pixels
    assert after[0, 2, 7, 5] == value
    assert int((after != before).sum()) <= 1


def test_items_of_a_data_set() -> None:
    images = torch.randint(0, 256, (30, 3, 12, 12), dtype=torch.uint8)
    data = Dataset.from_arrays(images, torch.arange(30) % 4, classes=["a", "b", "3", "d"])
    session = Session(described(plain(), (3, 12, 12), 4), data)
    assert session.picture.source["class"] == "3"
    reply = ask(session, "show_data", split="test", index=1).values
    assert reply["label"] == reply["target"] == int(data.test.labels[1])
    found = session.answer("show_data", Arguments({"split": "test", "index": 0, "class": 2}), b"").values
    assert data.test.classes[found["label"]] == "3"
    with pytest.raises(ArgumentError, match="index: got 9999"):
        ask(session, "show_data", split="train", index=9999)


def test_unknown_operations_are_refused(session: Session) -> None:
    with pytest.raises(UnknownNameError, match="op: got 'open_file'"):
        ask(session, "open_file", path="/etc/passwd")


def test_a_model_that_says_nothing_of_its_input() -> None:
    with pytest.raises(ArgumentError, match="input_shape: got None, wanted \\(channels, height, width\\)"):
        Session(nn.Sequential(nn.Conv2d(1, 2, 3)))


def test_ways_through_calls_that_are_not_shown_are_owned_up_to() -> None:
    """A gate by the mean over everything: its δ has a part that no shown layer gives; it is printed as a constant."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.flatten, self.head = nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            z: torch.Tensor = self.head(self.flatten(y * torch.sigmoid(y.mean())))
            return z

    torch.manual_seed(0)
    session = Session(described(Gated(), (3, 6, 6), 3))
    ask(session, "show_pixels", noise(session))
    truth = reference(session.model, session.snapshot.question.x, session.target or 0)
    for unit in ((0, 0, 0), (1, 3, 2)):
        found = session.snapshot.backward("conv", unit)
        assert found.computed == pytest.approx(float(truth.grad_y["conv"][(0, *unit)]), rel=1e-4, abs=1e-7)
        assert [step.symbol for step in found.steps] == ["c", "δ"]
        assert abs(found.steps[0].value) > 1e-6
        assert session.snapshot.forward("mul", unit).computed == pytest.approx(
            float(session.snapshot.layers["mul"].y[(0, *unit)])
        )


def test_a_fingerprint_is_never_of_half_changed_weights(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """While weights are being put back, a question for their fingerprint waits."""
    ask(session, "configure", rate=0.5)
    first = ask(session, "training").values["training"]["hash"]
    ask(session, "step")
    rewind = session.stepper.rewind
    seen: list[str] = []

    def rewind_slowly() -> None:
        with torch.no_grad():
            next(session.model.parameters()).add_(1.0)
        asking = threading.Thread(target=lambda: seen.append(ask(session, "training").values["training"]["hash"]))
        asking.start()
        asking.join(0.2)
        rewind()
        threads.append(asking)

    threads: list[threading.Thread] = []
    monkeypatch.setattr(session.stepper, "rewind", rewind_slowly)
    ask(session, "rewind")
    threads[0].join()
    assert seen == [first]


def test_models_of_token_numbers_are_refused_by_name() -> None:
    options: dict[str, Any] = {**dict(CATALOGUE["transformer"].card.economical), "classes": 20}
    with pytest.raises(ArgumentError, match="got 'Transformer', wanted a model that was trained to translate"):
        Session(create_model("transformer", **options))
    table = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(
        ArgumentError, match="model: got 'Sequential, which reads numbers of tokens'.*convscope predict"
    ):
        Session(table, input_shape=(3,))


@pytest.mark.parametrize("name", ["crnn", "caption_lstm", "caption_attention"])
def test_models_that_write_of_pictures_open(name: str) -> None:
    options: dict[str, Any] = {"small": True, "hidden": 4} if name == "crnn" else {"maps": (2, 2, 2, 4), "size": 8}
    torch.manual_seed(0)
    session = Session(create_model(name, **options))
    ask(session, "show_pixels", noise(session))
    hello = ask(session, "hello").values
    assert {"reader", "output"} <= {node["name"] for node in hello["nodes"]}
    scores = session.model(session.desk.x(session.picture)).detach()
    index = [0] * (scores.ndim - 1)
    shown = ask(session, "explain", layer="output", index=index).values
    assert shown["value"] == pytest.approx(float(scores.flatten()[0]), rel=1e-5)
    ask(session, "explain", layer="reader", index=index)
