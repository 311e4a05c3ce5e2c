"""Model files whose checksum is right and whose description was made up: by mistake, or by somebody who means harm.

(What comes back whole, and damage that the checksum finds: tests/training/test_checkpoints.py.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convscope import create_model
from convscope.errors import CheckpointError
from convscope.models.modelfile import current_spec, describe, load, save
from convscope.tensorfile import read_tensors, write_tensors

Change = Callable[[dict[str, Any]], object]


def own() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 3))


def changed(path: Path, change: Change, graph: bool = False) -> Path:
    """A whole, signed file whose description went through ``change``."""
    save(own() if graph else create_model("lenet5"), path, (1, 8, 8))
    tensors, description = read_tensors(path)
    change(description)
    write_tensors(path, tensors, description)
    return path


CATALOGUE: dict[str, tuple[Change, str]] = {
    "no model": (lambda d: d.pop("model"), "the user's own module"),
    "model a list": (lambda d: d.update(model=[]), "description is damaged (model: list)"),
    "config a text": (lambda d: d.update(config="x"), "description is damaged (config: str)"),
    "data a number": (lambda d: d.update(data=1), "description is damaged (data: int)"),
    "format a text": (lambda d: d.update(format="2"), "of format version 2"),
    "no architecture": (lambda d: d["model"].pop("architecture"), "description of the model is damaged"),
    "unknown architecture": (lambda d: d["model"].update(architecture="lenet6"), "Did you mean 'lenet5'"),
    "unknown option": (lambda d: d["model"]["options"].update(speed=1), "cannot be built here"),
    "classes a text": (lambda d: d["model"]["options"].update(classes="ten"), "cannot be built here"),
    "classes nothing": (lambda d: d["model"]["options"].update(classes=0), "cannot be built here"),
    "classes negative": (lambda d: d["model"]["options"].update(classes=-5), "cannot be built here"),
    "other classes": (lambda d: d["model"]["options"].update(classes=11), "'output.weight' has the shape (10, 84)"),
    "classes that fill memory": (lambda d: d["model"]["options"].update(classes=10**9), "has the shape (10, 84)"),
    "channels that fill memory": (lambda d: d["model"]["options"].update(in_channels=10**12), "has the shape"),
    "weights from elsewhere": (lambda d: d["model"]["options"].update(weights="/etc/passwd"), "cannot be built here"),
    "a shape of texts": (lambda d: d["model"]["inputs"][0].update(shape=["1", "28"]), "is damaged"),
    "a shape of nothing": (lambda d: d["model"]["inputs"][0].update(shape=[0, 28, 28]), "is damaged"),
}


@pytest.mark.parametrize("change", CATALOGUE)
def test_a_description_that_was_made_up_is_refused(tmp_path: Path, change: str) -> None:
    apply, said = CATALOGUE[change]
    path = changed(tmp_path / "model.safetensors", apply)
    with pytest.raises(CheckpointError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


def linear(**arguments: Any) -> Change:
    return lambda d: d["model"]["options"]["modules"]["2"]["arguments"].update(arguments)


GRAPH: dict[str, tuple[Change, str]] = {
    "units that fill memory": (linear(out_features=10**12), "has the shape (3, 72), the model's is (10000"),
    "units a text": (linear(out_features="3"), "cannot be built here"),
    "units negative": (linear(out_features=-1), "cannot be built here"),
    "no graph": (lambda d: d["model"]["options"].pop("graph"), "cannot be built here"),
    "no modules": (lambda d: d["model"]["options"].update(modules=5), "cannot be built here"),
    "a forbidden layer": (
        lambda d: d["model"]["options"]["modules"]["2"].update({"class": "os.system"}), "cannot be built here"
    ),
    "a graph of numbers": (lambda d: d["model"]["options"].update(graph=[1, 2]), "cannot be built here"),
}  # fmt: skip


@pytest.mark.parametrize("change", GRAPH)
def test_a_graph_that_was_made_up_is_refused(tmp_path: Path, change: str) -> None:
    apply, said = GRAPH[change]
    path = changed(tmp_path / "model.safetensors", apply, graph=True)
    with pytest.raises(CheckpointError) as raised:
        load(path)
    assert said in str(raised.value)


def test_weights_of_another_kind_of_number(tmp_path: Path) -> None:
    path = save(create_model("lenet5"), tmp_path / "model.safetensors")
    tensors, description = read_tensors(path)
    write_tensors(path, {**tensors, "c1.bias": tensors["c1.bias"].to(torch.int8)}, description)
    with pytest.raises(CheckpointError, match="another kind of number: 'c1.bias' is int8, the model's is float32"):
        load(path)


def test_numbers_that_are_none_come_back(tmp_path: Path) -> None:
    metrics = {"loss": float("nan"), "all": [float("inf"), -float("inf"), 1.5, {"number": "nan"}, {"number": 3}]}
    path = save(create_model("lenet5"), tmp_path / "model.safetensors", metrics=copy.deepcopy(metrics))
    found = describe(path)["metrics"]
    assert repr(found["loss"]) == "nan"
    assert found["all"][:3] == [float("inf"), -float("inf"), 1.5]
    assert found["all"][4] == {"number": 3}
    assert b"NaN" not in path.read_bytes()[: 1 << 14]
    assert current_spec(load(path)).architecture == "lenet5"
