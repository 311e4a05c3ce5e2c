"""The report of everything there is to see in a model, for graphs with branches and for any loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from convscope import create_model
from convscope.errors import UnknownNameError
from convscope.inspect.album import Example, write_album
from convscope.inspect.pictures.canvas import numbers
from convscope.spec import ModelSpec, attach


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.left = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.right = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 4, 1))
        self.norm = nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = self.norm(torch.cat([self.left(x) + x, self.right(x)], 1))
        result: torch.Tensor = self.head(x.mean((2, 3)))
        return result


def branches() -> nn.Module:
    return attach(Branches(), ModelSpec("graph", {}, (3, 9, 11)))


def test_a_graph_with_branches_is_reported_whole(tmp_path: Path) -> None:
    model = branches().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(5, 3, 9, 11)
    example = Example(x[:1], 2, x, torch.tensor([0, 1, 2, 0, 1]), ("a", "b", "c"))
    paths = list(write_album(model, tmp_path, "branches", example=example))
    assert all(path.stat().st_size > 0 for path in paths)
    names = {path.relative_to(tmp_path).as_posix() for path in paths}
    maps = {name.split("-", 1)[1] for name in names if name.startswith("maps/")}
    assert {"stem.png", "left.png", "right.1.png", "add.png", "cat.png", "norm.png", "head.png", "input.png"} <= maps
    assert {name.split("/")[1][3:] for name in names if name.startswith("gradients/")} >= {"stem.png", "left.png"}
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_a_class_the_models_own_guess_is_taken_back(tmp_path: Path) -> None:
    model = create_model("lenet5_1998")
    x = torch.randn(1, 1, 32, 32)
    names = {
        path.name for path in write_album(model, tmp_path, "lenet", "rbf", Example(x, None, x, None), layers=["c1"])
    }
    assert {"outputs.png", "dead.txt", "index.html", "01-c1.png"} <= names
    assert "06-s4.png" not in names


def test_unknown_layers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="layer: got 'stm'.*Did you mean 'stem'"):
        list(write_album(branches(), tmp_path, "branches", layers=["stm"]))
    assert list(tmp_path.iterdir()) == []


def test_names_and_titles_are_safe_in_the_page(tmp_path: Path) -> None:
    list(write_album(branches(), tmp_path, "<b>mine & yours</b>"))
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;mine &amp; yours&lt;/b&gt;" in page
    assert numbers(torch.ones(2)).tolist() == [1.0, 1.0]
