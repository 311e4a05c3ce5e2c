"""Weights from files, heads for other classes, freezing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.models import create_model, spec_of
from convscope.models.weights import freeze, read_state


def small(**options: Any) -> nn.Module:
    return create_model("resnet18", small=True, **options)


def same(one: nn.Module, other: nn.Module, skip: str = "-") -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for (name, a), b in pairs if not name.startswith(skip))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(11)
    model = small(classes=6)
    model.get_buffer("bn1.running_mean").uniform_()
    return model


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested", "parallel"])
def test_every_kind_of_file(tmp_path: Path, trained: nn.Module, kind: str) -> None:
    path = tmp_path / "weights"
    state = trained.state_dict()
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "pth":
        torch.save(state, path)
    elif kind == "nested":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    model = small(weights=path, classes=6)
    assert same(model, trained)
    found = small(weights=path)  # the file says how many classes
    assert same(found, trained)
    described = spec_of(found)
    assert described is not None
    assert described.options == {"classes": 6, "in_channels": 3, "small": True}


def test_a_new_head_for_new_classes(tmp_path: Path, trained: nn.Module) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path)
    model = small(weights=path, classes=4)
    assert same(model, trained, skip="fc.")
    assert model.get_parameter("fc.weight").shape == (4, 512)
    assert bool(model.get_parameter("fc.weight").any())


def test_states_before_batch_counters(tmp_path: Path, trained: nn.Module) -> None:
    path = tmp_path / "old.pth"
    torch.save({k: v for k, v in trained.state_dict().items() if "num_batches" not in k}, path)
    assert same(small(weights=path, classes=6), trained)


def test_old_densenet_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = create_model("densenet121", small=True, classes=3)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in name else name: value
        for name, value in model.state_dict().items()
    }
    assert any("norm.1.weight" in name for name in old)
    path = tmp_path / "old.pth"
    torch.save(old, path)
    assert same(create_model("densenet121", small=True, classes=3, weights=path), model)


def test_other_ports_name_the_head_differently(tmp_path: Path) -> None:
    model = create_model("squeezenet1_0", classes=3)
    path = tmp_path / "x.pth"
    xception = create_model("xception", classes=3)
    torch.save({name.replace("last_linear", "fc"): value for name, value in xception.state_dict().items()}, path)
    assert same(create_model("xception", classes=3, weights=path), xception)
    with pytest.raises(CheckpointError, match="weights of another architecture"):
        create_model("squeezenet1_0", weights=path)
    assert model is not None


def test_side_classifiers_may_be_left_out(tmp_path: Path) -> None:
    torch.manual_seed(2)
    whole = create_model("googlenet", classes=3, input_size=64)
    path = tmp_path / "x.pth"
    torch.save(whole.state_dict(), path)
    model = create_model("googlenet", classes=3, auxiliary=False, weights=path)
    assert torch.equal(model.get_parameter("fc.weight"), whole.get_parameter("fc.weight"))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def test_files_that_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read \(No such file"):
        small(weights=tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match="neither a safetensors file nor a torch state dict"):
        small(weights=write(tmp_path / "text", b"hello, world"))
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    with pytest.raises(CheckpointError, match="not a state dict of tensors alone, or damaged"):
        small(weights=write(tmp_path / "cut.pth", content[: len(content) // 2]))
    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="whole pickled models are never opened"):
        small(weights=tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="whole pickled models are never opened"):
        small(weights=write(tmp_path / "plain.pkl", pickle.dumps(Evil())))
    assert "unpickled" not in capsys.readouterr().out
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        small(weights=tmp_path / "numbers.pth")


def test_weights_that_do_not_fit(tmp_path: Path, trained: nn.Module) -> None:
    path = tmp_path / "weights.pth"
    state = dict(trained.state_dict())
    torch.save({**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="1 are unknown to the model, first 'extra'"):
        small(weights=path)
    del state["layer1.0.conv1.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 entries are missing, first 'layer1.0.conv1.weight'"):
        small(weights=path)
    torch.save(trained.state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"'conv1.weight' is \(64, 3, 3, 3\), the model's \(64, 1, 3, 3\).*in_channels"
    ):
        small(weights=path, in_channels=1)
    with pytest.raises(CheckpointError, match=r"'conv1.weight' is \(64, 3, 3, 3\), the model's \(64, 3, 7, 7\)"):
        create_model("resnet18", weights=path)


def frozen(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def test_freeze_by_name() -> None:
    model = small(classes=3, freeze=["conv1", "bn1", "layer1"])
    assert {name.split(".")[0] for name in frozen(model)} == {"conv1", "bn1", "layer1"}
    assert {name.split(".")[0] for name in frozen(small(freeze="layer"))} == {f"layer{n}" for n in range(1, 5)}
    names = freeze(create_model("lenet5"), "c3")
    assert names == ["c3.weight", "c3.bias"]


def test_freeze_by_depth() -> None:
    assert frozen(create_model("lenet5", freeze=2)) == ["c1.weight", "c1.bias", "c3.weight", "c3.bias"]
    model = create_model("lenet5", freeze=-1)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "output.weight",
        "output.bias",
    ]
    assert frozen(small(freeze=1)) == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert frozen(create_model("lenet5_1998", freeze=1)) == ["c1.weight", "c1.bias", "s2.weight", "s2.bias"]


def test_frozen_parameters_do_not_move() -> None:
    model = create_model("lenet5", freeze=-1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(torch.randn(4, 1, 28, 28)).square().sum().backward()
    optimiser.step()
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert moved == ["output.weight", "output.bias"]


def test_freeze_refuses() -> None:
    with pytest.raises(UnknownNameError, match="freeze: got 'layer9'.*Did you mean"):
        small(freeze="layer9")
    for depth in (0, 6, -5):
        with pytest.raises(ArgumentError, match=f"freeze: got {depth}, wanted a number of layers from −4 to 5"):
            create_model("lenet5", freeze=depth)
    with pytest.raises(ArgumentError, match="freeze: got True, wanted module names or a number"):
        create_model("lenet5", freeze=True)


def test_optimiser_state_beside_the_weights_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1), "__optimiser__/a": torch.zeros(1)}, path)
    assert list(read_state(path)) == ["a"]
