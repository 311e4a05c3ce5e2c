"""Model files and checkpoints: everything comes back, and nothing damaged or foreign is taken."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from convscope import create_model, spec
from convscope.errors import ArgumentError, CheckpointError
from convscope.tensorfile import write_tensors
from convscope.training import checkpoints, describe, load, load_weights, save


def lenet() -> nn.Module:
    torch.manual_seed(4)
    model = create_model("lenet5", classes=3, activation="relu", pool="max")
    described = spec.spec_of(model)
    assert described is not None
    preprocessing = spec.Preprocessing(1, (28, 28), (0.1,), (0.3,), "pad")
    return spec.attach(model, described.replace(classes=("one", "two", "drei"), preprocessing=preprocessing))


def same(first: nn.Module, second: nn.Module) -> bool:
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_model_comes_back_with_all_it_needs(tmp_path: Path) -> None:
    model = lenet()
    path = save(model, tmp_path / "model.safetensors", metrics={"accuracy": 0.5})
    loaded = load(path)
    assert same(model, loaded)
    assert spec.spec_of(loaded) == spec.spec_of(model)
    assert not loaded.training
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(loaded(x), model.eval()(x))
    assert describe(path)["metrics"] == {"accuracy": 0.5}
    with safe_open(path, "pt") as file:  # any reader of safetensors sees ordinary tensors
        assert torch.equal(file.get_tensor("c1.weight"), model.state_dict()["c1.weight"])
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_loading_takes_no_random_numbers(tmp_path: Path) -> None:
    path = save(lenet(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load(path)
    save(load(path), tmp_path / "again.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_a_users_own_module_and_a_replaced_head(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 4 * 5, 2))
    own[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loaded = load(save(own, tmp_path / "own.safetensors", input_shape=(2, 6, 7)))
    x = torch.randn(3, 2, 6, 7)
    torch.testing.assert_close(loaded(x), own(x))
    with pytest.raises(ArgumentError, match=r"input_shape: got None, wanted the \(channels, height, width\)"):
        save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "no.safetensors")

    changed = lenet()
    changed.output = nn.Linear(84, 7)
    assert load(save(changed, tmp_path / "changed.safetensors")).state_dict()["output.weight"].shape == (7, 84)


def test_tied_weights_and_bfloat16(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    path = save(model, tmp_path / "tied.safetensors", input_shape=(3,))
    loaded = load(path)
    assert loaded.get_parameter("0.weight") is loaded.get_parameter("2.weight")
    assert same(loaded, model)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    return save(small, tmp_path / "small.safetensors", input_shape=(1, 4, 4))


def test_every_single_byte_is_watched(saved: Path) -> None:
    """Each byte of the file in turn gets another value (a flipped bit, all bits flipped): header, checksum and data."""
    content = saved.read_bytes()
    load(saved)
    for offset in range(len(content)):
        for flip in (1 << offset % 8, 0xFF):
            changed = bytearray(content)
            changed[offset] ^= flip
            saved.write_bytes(changed)
            with pytest.raises(CheckpointError, match=str(saved)):
                load(saved)
    saved.write_bytes(content)
    load(saved)


def test_every_length_but_the_whole_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(len(content)):
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="cut short|damaged"):
            load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="damaged: the content does not fit its checksum"):
        load(saved)


def test_foreign_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load(path)
    with pytest.raises(CheckpointError, match="Is a directory"):
        load(tmp_path)
    path.write_text("this is a letter to a friend")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"written by torch.save.*create_model\(NAME, weights=FILE\)"):
        load(path)
    save_file(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"weights alone \(2 tensors.*create_model.*convscope.save makes"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "of format version 99; this convscope reads versions 1 and 2"),
        ({"architecture": "lenet6"}, "cannot be built here.*lenet6.*Did you mean 'lenet5"),
        ({"options": {"classes": 3, "depth": 9}}, "cannot be built here: option of lenet5: got 'depth'"),
        ({"options": {"classes": 4}}, "weights of another architecture: 'output.weight' has the shape"),
        ({"architecture": "mcdnn_column", "options": {}}, "weights of another architecture: it lacks"),
    ],
)
def test_other_versions_and_architectures_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(lenet(), tmp_path / "model.safetensors")
    description = describe(path)
    if "format" in change:
        description |= change
    else:
        description["model"] |= change
    write_tensors(path, lenet().state_dict(), description)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_weights_go_into_a_module_that_fits_and_no_other(tmp_path: Path) -> None:
    path = save(lenet(), tmp_path / "model.safetensors")
    other = create_model("lenet5", classes=3, activation="relu", pool="max")
    assert same(load_weights(other, path), lenet())
    with pytest.raises(CheckpointError, match="has the shape"):
        load_weights(create_model("lenet5", classes=5), path)
    with pytest.raises(CheckpointError, match="a finished model, not a checkpoint"):
        checkpoints.load_state(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(lenet(), tmp_path / "model.safetensors")
    before = path.read_bytes()

    for number, words in ((errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only")):

        def refuse(descriptor: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(CheckpointError, match=f"{words}. What was there before is untouched"):
                save(create_model("lenet5"), path)
        assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="directory"):
        save(lenet(), tmp_path / "folder")
    with pytest.raises(CheckpointError, match="a part of the path is a file"):
        save(lenet(), path / "inside.safetensors")
    with pytest.raises(CheckpointError, match="No such file or directory"):
        save(lenet(), tmp_path / "nowhere" / "model.safetensors")


def test_a_file_system_that_takes_no_more(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: the write breaks off half-way."""
    script = """
import sys, resource, torch
from convscope import create_model, save
from convscope.errors import CheckpointError
model = create_model("lenet5")
save(model, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(model, sys.argv[1])
except CheckpointError as problem:
    print(problem)
"""
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "larger than the system allows. What was there before is untouched" in done.stdout
    load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_description_is_json_without_surprises(tmp_path: Path) -> None:
    path = save(lenet(), tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["convscope"])
    assert described["format"] == 2
    assert described["model"]["task"] == "classification"
    assert described["model"]["answers"] == {"kind": "classes", "names": ["one", "two", "drei"]}
    assert described["model"]["inputs"][0]["kind"] == "pictures"
    assert described["model"]["inputs"][0]["preprocessing"]["fit"] == "pad"
    assert len(metadata["sha256"]) == 64
