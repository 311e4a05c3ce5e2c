"""What a notebook is given: tables that hold the figures, pictures that can be opened, a bar that moves."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import fit
from convscope.displays import html, table
from convscope.tasks.displays import NotebookProgress
from convscope.training import events


def pictures(text: str | None) -> list[Any]:
    assert text is not None
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in found]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> events.Result:
    folder = tmp_path_factory.mktemp("runs") / "a<b"
    return fit("lenet5", "digits", run_dir=str(folder), epochs=2, batch_size=256, engine="torch", watch=False)


def test_a_result(result: events.Result) -> None:
    text = result._repr_html_()
    assert text is not None
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert f'<td style="text-align:right">{result.metrics.accuracy:.4g}</td>' in text
    curves, confusion = pictures(text)
    assert curves.shape[1] > curves.shape[0]  # two panels side by side
    assert confusion.std() > 10


def test_a_history_and_figures(result: events.Result) -> None:
    assert list(result.history) == result.history
    text = result.history._repr_html_()  # type: ignore[attr-defined]
    assert len(pictures(text)) == 1
    assert text.count("<tr>") == 3
    assert f"{result.history[-1].train_loss:.4g}" in text
    assert len(pictures(result.metrics._repr_html_())) == 1


def test_a_trace_and_a_count() -> None:
    model = convscope.create_model("lenet5")
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    traced = convscope.trace(model, x, torch.tensor([3, 4]))
    text = traced._repr_html_()
    assert text is not None
    assert f"J = {float(traced.loss):.6g}" in text  # type: ignore[arg-type]
    assert all(f">{name}</td>" in text for name in traced.names())
    assert len(pictures(text)) == 4
    counted = convscope.count(model)
    text = counted._repr_html_()
    assert text is not None
    assert f"{counted.parameters:,}" in text
    assert text.count("<tr>") == len(counted) + 2


def test_what_has_no_form_is_left_to_its_text() -> None:
    assert html(3) is None
    assert "&lt;script&gt;" in table([("a",), ("<script>",)])


def test_the_bar_moves_and_ends_with_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content: str) -> None:
            shown.append(content)

    def display(content: str, display_id: bool) -> Handle:
        assert display_id
        shown.append(content)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display, module.HTML = display, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("convscope.tasks.displays._REFRESH_SECONDS", 0.0)
    fit(
        "lenet5", "digits", run_dir=str(tmp_path / "run"), epochs=1, batch_size=256, engine="torch", watch=False,
        listeners=[NotebookProgress()],
    )  # fmt: skip
    steps = [int(step) for each in shown for step in re.findall(r'progress value="(\d+)"', each)]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert f'max="{steps[-1]}"' in shown[-2]
    assert len(pictures(shown[-1])) == 2


def test_without_a_notebook_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="listeners: got 'NotebookProgress', wanted a notebook"):
        NotebookProgress()
