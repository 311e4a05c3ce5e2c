"""The explorer as one file: what is in it, what it refuses, and how it is asked for."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.explorer.fixtures import LAYERS, MODELS, around
from torch import nn

from convscope.cli.commands import explore as command
from convscope.data import load_dataset
from convscope.errors import ArgumentError
from convscope.explorer import Handle, explore
from convscope.explorer.lessons import Page, page_of, save_page
from convscope.explorer.lessons.plan import _Weights, plan_of
from convscope.explorer.session import Session
from convscope.models import create_model

REFUSED = [
    "conv_reflected", "conv_transposed", "l2_pool", "median_pool", "lrn", "group_norm", "gelu", "mish",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_the_page_cannot_compute_is_refused_by_name(name: str) -> None:
    kind = type(LAYERS[name]()).__name__
    with pytest.raises(ArgumentError, match=rf"layer '1' \({kind}"):
        plan_of(Session(around(name), input_shape=(2, 7, 9)))


def test_models_beyond_the_page_are_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="layer 'cat'"):
        plan_of(Session(MODELS["branching"]()))
    with pytest.raises(ArgumentError, match="one number for each of at least two classes"):
        plan_of(Session(MODELS["detector"]()))
    with pytest.raises(ArgumentError, match="that float32 holds exactly"):
        _Weights().add("w", torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="loss.*hinge"):
        plan_of(Session(MODELS["plain"](), loss="hinge"))
    with pytest.raises(ArgumentError, match="weights are used twice"):
        plan_of(Session(_Twice(), input_shape=(1, 4, 4)))

    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    with pytest.raises(ArgumentError, match="layer 'conv2d'"):
        plan_of(Session(nn.Sequential(Own(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), input_shape=(1, 4, 4)))


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(torch.flatten(self.conv(self.conv(x)), 1))
        return y


def test_the_file_is_whole_small_and_asks_for_nothing(tmp_path: Path) -> None:
    for name, path in (("lenet5", tmp_path / "a.html"), ("lenet5_1998", tmp_path / "b.html")):
        assert save_page(Session(create_model(name), load_dataset("digits")), path) == path
        text = path.read_text("utf-8")
        assert path.stat().st_size < 5_000_000
        assert "connect-src 'none'" in text
        outside = [each for each in re.findall(r'(?:src|href)="([^"]*)"', text) if not each.startswith("#")]
        assert outside == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_names_and_texts_cannot_break_out_of_the_page() -> None:
    session = Session(MODELS["plain"](), name="</script><b>&x")
    text = page_of(session)
    assert "<b>" not in text
    assert "<title>&lt;/script&gt;&lt;b&gt;&amp;x</title>" in text
    found = re.search(r'id="convscope-model">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1])["hello"]["model"]["name"] == "</script><b>&x"


def test_pictures_of_every_class_are_in_it_the_shown_one_first() -> None:
    session = Session(create_model("lenet5"), load_dataset("digits"), start=7)
    plan = plan_of(session)
    assert plan["items"][0]["index"] == 7
    assert {item["label"] for item in plan["items"]} == set(range(10))
    assert plan["source"]["index"] == 0
    assert plan["hello"]["data"]["test"] == len(plan["items"]) <= 24


def test_explore_saves_and_shows_inline_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_server(*args: object, **keywords: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr(Handle, "__init__", no_server)
    model = MODELS["plain"]()
    page = explore(model, save=tmp_path / "lesson.html")
    assert (tmp_path / "lesson.html").read_text("utf-8") == page.html
    inline = explore(model, inline=True)
    assert isinstance(inline, Page)
    shown = inline._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert html.unescape(shown.split('"')[1]) == inline.html
    with pytest.raises(ArgumentError, match="save.*which need a server"):
        explore(model, save=tmp_path / "x.html", port=0)  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="save.*in a folder that exists"):
        explore(model, save=tmp_path / "none" / "x.html")


def test_the_command_writes_a_file_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "lesson.html"
    arguments = ["lenet5", "--save", str(path), "--lang", "zh"]
    result = CliRunner().invoke(command.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "without a network" in result.output
    assert '"lang":"zh"' in path.read_text("utf-8")
