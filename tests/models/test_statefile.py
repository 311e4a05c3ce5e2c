"""Weights as people publish them: wrapped, prefixed, beside a script's arguments; what is in the way of the others."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import os
import re
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from convscope.errors import CheckpointError
from convscope.models import create_model
from convscope.models.statefile import read_state

State = dict[str, Any]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(5)
    return create_model("lenet5", classes=6)


@pytest.fixture
def state(trained: nn.Module) -> State:
    return dict(trained.state_dict())


def loads(path: Path, trained: nn.Module, **options: Any) -> bool:
    found, own = create_model("lenet5", weights=path, **options).state_dict(), trained.state_dict()
    return found.keys() == own.keys() and all(torch.equal(found[name], own[name]) for name in own)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


class Config(dict[str, Any]):
    """What a script's own configuration may be: a class that is nowhere when the file is read."""


SCRIPTS: dict[str, Callable[[State], object]] = {
    "lightning": lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "torch tutorial": lambda s: {"epoch": 1, "model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": 0.5},
    "pytorch-cifar": lambda s: {"net": prefixed(s, "module."), "acc": 93.2, "epoch": 199},
    "torchvision": lambda s: {"model": s, "optimizer": {}, "epoch": 1, "args": argparse.Namespace(lr=0.1)},
    "with a running average": lambda s: {"model": s, "model_ema": prefixed(s, "module."), "epoch": 1},
    "timm": lambda s: {
        "arch": "lenet5",
        "state_dict": s,
        "args": argparse.Namespace(amp=True),
        "metric": np.float64(1),
    },
    "under a name of its own": lambda s: {"lenet": s, "step": 9},
    "deeper": lambda s: {"checkpoint": {"model": {"state_dict": s}}},
    "an epoch among the weights": lambda s: {**s, "epoch": 7, "date": datetime.date(2020, 1, 1)},
    "a loss of its own": lambda s: {**prefixed(s, "model."), "criterion.weight": torch.ones(6)},
    "numbers of NumPy": lambda s: {"net": s, "best": np.float32(0.5), "history": np.arange(3), "kind": np.dtype("i4")},
    "objects of all sorts": lambda s: {
        "net": s,
        "path": Path("x"),
        "price": decimal.Decimal("1.5"),
        "device": torch.device("cpu"),
        "sizes": torch.Size([1, 2]),
        "kind": torch.float16,
        "found": {1, 2},
        "counts": collections.Counter("ab"),
        "nested": argparse.Namespace(inner=argparse.Namespace(path=Path("y"))),
    },
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("old", [False, True])
def test_what_training_scripts_write(tmp_path: Path, trained: nn.Module, state: State, script: str, old: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(SCRIPTS[script](state), path, _use_new_zipfile_serialization=not old)
    assert loads(path, trained)
    assert loads(path, trained, classes=6)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "net.",
        "encoder.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "a.b.",
    ],
)
def test_prefixes(tmp_path: Path, trained: nn.Module, state: State, prefix: str) -> None:
    safetensors.torch.save_file(prefixed(state, prefix), tmp_path / "weights.safetensors")
    assert loads(tmp_path / "weights.safetensors", trained)


def test_layers_that_were_compiled_one_by_one(tmp_path: Path, trained: nn.Module, state: State) -> None:
    compiled = {name.replace(".", "._orig_mod.", 1): value for name, value in state.items()}
    assert "c1._orig_mod.weight" in compiled
    torch.save(compiled, tmp_path / "weights.pth")
    assert loads(tmp_path / "weights.pth", trained)


def test_a_model_of_a_user_whose_layers_have_such_names(tmp_path: Path) -> None:
    from convscope.models.weights import fit_names, put_state

    model = nn.Sequential()
    model.add_module("module", nn.Linear(3, 2))
    model.add_module("backbone", nn.Linear(2, 2))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    state = fit_names(read_state(tmp_path / "weights.pth"), model, "x")
    assert put_state(model, state, "x", 2) == []


def test_a_backbone_without_its_last_layer(tmp_path: Path, trained: nn.Module, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save(prefixed({name: value for name, value in state.items() if "output" not in name}, "backbone."), path)
    torch.manual_seed(3)
    model = create_model("lenet5", classes=4, weights=path)
    assert torch.equal(model.get_parameter("f6.weight"), trained.get_parameter("f6.weight"))
    assert model.get_parameter("output.weight").abs().sum() > 0
    with pytest.raises(CheckpointError, match=r"no last layer \('output.weight'\). Give the number of classes"):
        create_model("lenet5", weights=path)
    torch.save({name: value for name, value in state.items() if name != "output.weight"}, path)
    with pytest.raises(CheckpointError, match="1 entries are missing, first 'output.weight'"):
        create_model("lenet5", weights=path, classes=4)


def test_which_of_two_models_is_not_guessed(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**prefixed(state, "teacher."), **prefixed(state, "student.")}, path)
    with pytest.raises(CheckpointError, match=r"the model 2 times: student\.\*, teacher\.\*.*Save the one"):
        create_model("lenet5", weights=path)
    torch.save({"generator": state, "discriminator": state}, path)
    with pytest.raises(CheckpointError, match=r"several state dicts: 'generator', 'discriminator'"):
        create_model("lenet5", weights=path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "no state dict: wanted tensors by name (it has 'epoch')"),
        ([torch.ones(1)], "no state dict: wanted tensors by name but list"),
        (torch.ones(1), "no state dict: wanted tensors by name but Tensor"),
        ({}, "no state dict"),
        ({"args": argparse.Namespace(a=1)}, "(it has 'args'); in it are Python objects: argparse.Namespace"),
        (nn.Linear(2, 2), "no state dict: wanted tensors by name; in it are Python objects: torch.nn.modules.linear"),
        ({"model": nn.Linear(2, 2)}, "torch.nn.modules.linear.Linear"),
        ({"c1.weight": torch.ones(1, device="meta")}, "'c1.weight' is a meta tensor: a shape without numbers"),
    ],
)
def test_what_is_in_the_way_is_named(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        read_state(path)


class Hostile:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("old", [False, True])
def test_no_object_of_a_file_is_ever_made(tmp_path: Path, state: State, old: bool) -> None:
    path, marker = tmp_path / "weights.pth", tmp_path / "made"
    torch.save({"net": state, "x": Hostile(open, marker, "w")}, path, _use_new_zipfile_serialization=not old)
    assert read_state(path).keys() == state.keys()
    torch.save({"net": state, "x": Hostile(os.mkdir, marker)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match="it asks for posix.mkdir, which files have no"):
        read_state(path)
    torch.save({"net": state, "x": Hostile(exec, f"open({str(marker)!r}, 'w')")}, path)
    assert read_state(path).keys() == state.keys()
    assert not marker.exists()


def test_kinds_of_numbers(tmp_path: Path, trained: nn.Module, state: State) -> None:
    path = tmp_path / "weights.pth"
    for kind in (torch.float64, torch.bfloat16, torch.float16):
        torch.save({name: value.to(kind) for name, value in state.items()}, path)
        found = create_model("lenet5", weights=path).get_parameter("c3.weight")
        assert found.dtype == torch.float32
        assert torch.equal(found, state["c3.weight"].to(kind).float())
    for kind in (torch.int8, torch.complex64):
        torch.save({**state, "c3.weight": state["c3.weight"].to(kind)}, path)
        with pytest.raises(
            CheckpointError, match=f"another kind of number: 'c3.weight' is {str(kind)[6:]}, the model's"
        ):
            create_model("lenet5", weights=path)


def test_sparse_and_quantised_weights_are_made_dense(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "f6.weight": state["f6.weight"].to_sparse()}, path)
    assert torch.equal(read_state(path)["f6.weight"], state["f6.weight"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to drop quantised tensors; files of them will stay
        quantised = torch.quantize_per_tensor(state["f6.weight"], 0.01, 0, torch.qint8)
        torch.save({**state, "f6.weight": quantised}, path)
    assert (read_state(path)["f6.weight"] - state["f6.weight"]).abs().max() <= 0.0051


def test_an_archive_that_unpacks_to_far_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(3_000_000))
    monkeypatch.setattr("convscope.models.statefile._UNPACKED", 2_000_000)
    with pytest.raises(CheckpointError, match="unpacks to 3,000,000 bytes, more than 2,000,000"):
        read_state(path)


def test_folders_and_files_that_are_no_archives(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\)"):
        read_state(tmp_path)
    for content in (b"PK", b"PK\x03\x04" + bytes(50), b"\x80", b"\x80\x02", b"\x80\x02}q\x00."):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a state dict of tensors alone, or damaged|no state dict"):
            read_state(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(CheckpointError, match="neither a safetensors file nor"):
        read_state(tmp_path / "x")


@pytest.mark.parametrize("length", [0x80 + 256 * second for second in (2, 3, 4, 5)] + [0x4B50])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path: Path, length: int) -> None:
    path, state = tmp_path / "weights.safetensors", {"a": torch.ones(1)}
    shortest = int.from_bytes(safetensors.torch.save(state, {"pad": ""})[:8], "little")
    safetensors.torch.save_file(state, path, {"pad": "x" * (length - shortest)})
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert read_state(path).keys() == state.keys()


def test_threads_read_at_once_and_leave_no_silence_behind(tmp_path: Path, state: State) -> None:
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.pth")
        torch.save({"net": state, "args": argparse.Namespace(number=number), "x": Config(a=1)}, paths[-1])
    before, safe = list(warnings.filters), torch.serialization.get_safe_globals()
    found: list[int] = []

    def read(path: Path) -> None:
        for _ in range(5):
            with pytest.raises(CheckpointError, match=r"Config"):
                read_state(path)
            found.append(1)

    threads = [threading.Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 20
    assert list(warnings.filters) == before
    assert torch.serialization.get_safe_globals() == safe


def test_an_archive_that_goes_on_on_another_disk(tmp_path: Path, state: State) -> None:
    """Python raises for it already where it only asks whether it is an archive."""
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x06\x07")  # the locator of the long end record: signature, disk, place, number of disks
    content[place + 16] = 2
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a state dict of tensors alone, or damaged"):
        read_state(path)
