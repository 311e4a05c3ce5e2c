"""A page saved to one file: the network off, no server, and every number worked out in the page as float64 has it."""

from __future__ import annotations

import copy
import html
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, select, settle, table
from tests.browser.test_arithmetic import closes
from tests.explorer.fixtures import MODELS, around, reference
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.explorer.lessons import save_page
from convscope.explorer.lessons.plan import FUNCTIONS, exact_input, exact_model, plan_of
from convscope.explorer.session import Session
from convscope.layers import activation
from convscope.layers.losses import loss_for
from convscope.models import create_model
from convscope.rules.elementwise import ELEMENTWISE

COMPUTED = [
    "conv", "conv_padded", "conv_same", "conv_groups", "conv_no_bias", "conv_flipped", "conv_table", "max_pool",
    "max_pool_overlapping", "mean_pool", "mean_pool_ceil", "adaptive_mean_pool", "sum_pool", "min_pool", "subsample",
    "batch_norm", "relu", "relu_in_place", "leaky_relu", "sigmoid", "scaled_tanh", "dropout", "identity",
]  # fmt: skip
CLOSE = 1e-10  # of the largest number of its kind: both sides compute in float64, the weights are float32 in both

DUMP = (Path(__file__).parent / "saved_dump.js").read_text("utf-8").partition("\n")[2]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, trained: nn.Module, digits: Dataset) -> Path:
    """The trained LeNet-5 with some digits, saved."""
    return save_page(Session(copy.deepcopy(trained), digits), tmp_path_factory.mktemp("saved") / "lesson.html")


@pytest.fixture
def dump(open_file: Callable[..., Any], file: Path) -> Callable[[Session], dict[str, Any]]:
    """Everything that the page's scripts compute of a session's model."""
    page = open_file(file)
    draw = random.Random(7)
    units = [[draw.random() for _ in range(4)] for _ in range(6)]
    return lambda session: page.evaluate(DUMP, [plan_of(session), units])


def close(found: Mapping[str, list[float]], wanted: Mapping[str, Tensor]) -> None:
    """Every tensor that the reference has, within ``CLOSE`` of its largest number."""
    for name, tensor in wanted.items():
        numbers = torch.tensor(found[name], dtype=torch.float64)
        size = float(tensor.abs().max())
        assert float((numbers - tensor.flatten()).abs().max()) <= CLOSE * size + 1e-14, name


def check(session: Session, found: dict[str, Any]) -> None:
    """Outputs, δ and gradients against autograd, and every written-out sum against its own value."""
    target = session.snapshot.question.target
    assert target is not None
    truth = reference(session.model, exact_input(session), target)
    close({"logits": found["logits"]}, {"logits": truth.logits})
    assert found["loss"] == pytest.approx(float(truth.loss), rel=1e-10)
    flat = {name: value for name, value in truth.y.items() if name in found["y"]}
    close(found["y"], flat)
    close(found["upstream"], {name: value for name, value in truth.grad_y.items() if name in found["upstream"]})
    close(found["gradients"], truth.gradients)
    assert len(found["sums"]) > 30
    for what, computed, value, largest in found["sums"]:
        assert abs(computed - value) <= 1e-11 * (largest + 1e-3), what


@pytest.mark.long
def test_every_layer_is_computed_as_torch_does_in_float64(dump: Callable[[Session], dict[str, Any]]) -> None:
    for name in COMPUTED:
        session = Session(around(name), input_shape=(2, 7, 9))
        check(session, dump(session))
    for name in ("plain", "residual", "grouped", "dilated", "non_square", "no_bias", "dense_only", "global_pool"):
        session = Session(MODELS[name]())
        check(session, dump(session))


def test_a_wrong_number_would_be_seen(dump: Callable[[Session], dict[str, Any]]) -> None:
    session = Session(around("conv"), input_shape=(2, 7, 9))
    found = dump(session)
    found["y"]["0"][3] += 1e-6
    with pytest.raises(AssertionError):
        check(session, found)


def test_the_published_lenet_with_its_own_loss(dump: Callable[[Session], dict[str, Any]], digits: Dataset) -> None:
    torch.manual_seed(2)
    session = Session(create_model("lenet5_1998"), digits)
    found = dump(session)
    model = exact_model(session).requires_grad_()
    target = torch.tensor([session.snapshot.question.target])
    loss = loss_for("rbf", model).value(model(exact_input(session)), target)
    assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    names, parameters = zip(*model.named_parameters(), strict=True)
    close(found["gradients"], dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
    for what, computed, value, largest in found["sums"]:
        assert abs(computed - value) <= 1e-11 * (largest + 1e-3), what


@pytest.mark.parametrize("gap", [1.0, 30.0])
def test_an_ending_softmax_is_not_put_on_twice(dump: Callable[[Session], dict[str, Any]], gap: float) -> None:
    """J = −ln y_t, and what comes back is p − t, with all its digits where the network is sure."""
    torch.manual_seed(3)
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3), nn.Softmax(1))
    with torch.no_grad():
        model[3].bias.copy_(torch.tensor([0, gap, 0]))
    session = Session(model.eval(), input_shape=(1, 6, 6))
    found = dump(session)
    whole: Any = exact_model(session)
    twin = whole[:4].requires_grad_()
    t = session.snapshot.question.target
    y = twin(exact_input(session))[0]
    loss = torch.log1p(torch.exp(y - y[t])[torch.arange(3) != t].sum())
    names, parameters = zip(*twin.named_parameters(), strict=True)
    assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    close(found["gradients"], dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
    for what, computed, value, largest in found["sums"]:
        assert abs(computed - value) <= 1e-11 * (largest + 1e-3), what


@pytest.mark.long
def test_every_function_of_the_page_is_the_table_s(open_file: Callable[..., Any], file: Path) -> None:
    page = open_file(file)
    names = page.evaluate('async () => Object.keys((await import("convscope/offline/functions.js")).FUNCTIONS)')
    assert sorted(names) == sorted(FUNCTIONS)
    u = torch.linspace(-9.1, 9.3, 47, dtype=torch.float64)
    for name in FUNCTIONS:
        rule = ELEMENTWISE[name].rule()
        options = {key: getattr(rule, key) for key in ELEMENTWISE[name].options}
        found = page.evaluate(
            """async ([name, options, us]) => {
              const { f, slope } = (await import("convscope/offline/functions.js")).FUNCTIONS[name](options);
              return [us.map(f), us.map(slope)];
            }""",
            [name, options, u.tolist()],
        )
        with torch.no_grad():  # torch's own hardsigmoid has its 1/6 in float32
            close({"f": found[0], "slope": found[1]}, {"f": activation(name).double()(u), "slope": rule.slope_at(u)})


def test_hover_click_forward_backward_field_and_pen(
    open_file: Callable[..., Any], file: Path, trained: nn.Module
) -> None:
    assert file.stat().st_size < 5_000_000
    page = open_file(file)
    page.locator("#board").hover(position={"x": 200, "y": 300})
    select(page, "c3", 5, [5, 4, 6])
    target = page.evaluate("convscope.store.get('frame').target")
    session = Session(copy.deepcopy(trained))
    pixels = torch.tensor(page.evaluate("[...convscope.frames.pixels]"), dtype=torch.uint8).reshape(1, 1, 28, 28)
    truth = reference(trained, exact_input(session, pixels), target)
    assert exact(page, "#result .num") == pytest.approx(float(truth.y["c3"][0, 5, 4, 6]), rel=1e-9)
    closes(table(page))
    page.locator("#tab-backward").click()
    page.wait_for_selector("body[data-shown*='/backward/c3']")
    settle(page)
    assert exact(page, "#result .num") == pytest.approx(float(truth.grad_y["c3"][0, 5, 4, 6]), rel=1e-8, abs=1e-14)
    page.locator("#tab-gradient").click()
    page.wait_for_selector("body[data-shown*='/gradient/c3']")
    assert exact(page, "#result .num") == pytest.approx(float(truth.gradients["c3.weight"][5, 0, 2, 2]), rel=1e-8)
    closes(table(page))
    page.locator("#tab-field").click()
    page.wait_for_selector("#field-box")
    assert page.locator("#field-box").inner_text().split()[:4].count("14") >= 1  # 5, then 6 by pooling, then 14
    page.evaluate("convscope.selection.select(null)")
    settle(page)
    page.locator("#clear").click()
    settle(page)
    before = page.evaluate("[...convscope.store.get('frame').logits]")
    pad = page.locator("#pad").bounding_box()
    page.mouse.move(pad["x"] + 100, pad["y"] + 40)
    page.mouse.down()
    page.mouse.move(pad["x"] + 100, pad["y"] + 160, steps=6)
    page.mouse.up()
    settle(page)
    drawn = torch.tensor(page.evaluate("[...convscope.frames.pixels]"), dtype=torch.uint8).reshape(1, 1, 28, 28)
    assert int(drawn.max()) == 255
    logits = page.evaluate("[...convscope.store.get('frame').logits]")
    assert logits != before
    with torch.no_grad():
        wanted = exact_model(session)(exact_input(session, drawn))
    close({"logits": logits}, {"logits": wanted})


def test_steps_change_the_weights_as_torch_s_sgd(open_file: Callable[..., Any], file: Path, trained: nn.Module) -> None:
    page = open_file(file, "#/c1?tab=training&target=8")
    pixels = torch.tensor(page.evaluate("[...convscope.frames.pixels]"), dtype=torch.uint8).reshape(1, 1, 28, 28)
    session = Session(copy.deepcopy(trained))
    model = exact_model(session)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    page.evaluate("convscope.connection.ask('configure', { momentum: 0.9, decay: 0.01 })")
    start = page.evaluate("convscope.connection.stepper.hash()")
    for _ in range(3):
        found = page.evaluate("convscope.connection.ask('step', { parameter: 'c1.weight', index: [0, 0, 2, 2] })")
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(exact_input(session, pixels)), torch.tensor([8]))
        torch.autograd.backward(loss)
        optimiser.step()
        assert found["loss_before"] == pytest.approx(float(loss.detach()), rel=1e-9)
        assert found["weight"]["new_w"] == pytest.approx(
            float(model.get_parameter("c1.weight").detach()[0, 0, 2, 2]), rel=1e-11
        )
    page.evaluate("convscope.connection.ask('rewind')")
    assert page.evaluate("convscope.connection.stepper.hash()") == start


def test_receptive_fields_are_the_server_s(open_file: Callable[..., Any], file: Path, trained: nn.Module) -> None:
    page = open_file(file)
    session = Session(copy.deepcopy(trained))
    for layer, unit in (("c1", [0, 0, 27]), ("s2", [3, 7, 0]), ("c3", [2, 9, 4]), ("s4", [1, 2, 2]), ("f5", [3])):
        found = page.evaluate("([layer, index]) => convscope.connection.ask('field', { layer, index })", [layer, unit])
        wanted = session.reach().of_unit(layer, tuple(unit))
        assert found["boxes"] == wanted["boxes"]
        assert (found["size"], found["jump"], found["padded"]) == (wanted["size"], wanted["jump"], wanted["padded"])
    found = page.evaluate("convscope.connection.ask('field', { layer: 'input', index: [3, 25] })")
    assert found["boxes"] == session.reach().of_pixel((3, 25))["boxes"]


def test_a_page_whose_numbers_are_not_torch_s_shows_none(
    open_file: Callable[..., Any], file: Path, tmp_path: Path
) -> None:
    text = file.read_text("utf-8")
    spoilt = tmp_path / "spoilt.html"
    changed, count = re.subn(r'("check":{"logits":\[)', r"\g<1>1e-3,", text)
    assert count == 1
    spoilt.write_text(changed, "utf-8")
    page = open_file(spoilt, ready=False)
    page.wait_for_selector("#notice:not([hidden])")
    assert "other outputs than torch" in page.locator("#notice").inner_text()
    assert page.evaluate("document.body.dataset.ready") is None
    assert len(page.problems) == 1
    page.problems.clear()


def test_a_notebook_shows_the_page_within_a_page(open_file: Callable[..., Any], file: Path, tmp_path: Path) -> None:
    outer = tmp_path / "notebook.html"
    inner = html.escape(file.read_text("utf-8"))
    frame_of = f'<iframe srcdoc="{inner}" width="1300" height="780">'
    outer.write_text(f'<!doctype html><meta charset="utf-8">{frame_of}', "utf-8")
    page = open_file(outer, ready=False)
    frame = page.frames[1]
    frame.wait_for_selector("body[data-ready='true']")
    frame.evaluate("convscope.selection.select('c1', 0, [0, 3, 4])")
    frame.wait_for_selector("#result .num")
    assert frame.locator("#result .num").first.get_attribute("data-exact")


@pytest.mark.parametrize(("lang", "size"), [("en", (1440, 900)), ("zh", (390, 844))])
def test_both_languages_and_a_telephone(
    open_file: Callable[..., Any], file: Path, lang: str, size: tuple[int, int]
) -> None:
    page = open_file(file, size=size, lang=lang)
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if lang == "zh" else "en")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("#upload, #tour-button, #tab-bench").count() == 0
