"""Two checkpoints, or two pictures, side by side, and a film of many."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import select
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.explorer import explore
from convscope.explorer.session import Session
from convscope.models import create_model

DOWNSTREAM = ["c3", "c3_activation", "s4", "flatten", "f5", "f5_activation", "f6", "f6_activation", "output"]


def figures(page: Any, table: str, key: str) -> dict[str, float]:
    rows = page.locator(f"{table} tbody tr").evaluate_all(
        "(all, key) => all.map((row) => [row.dataset[key], Number(row.querySelector('.num').dataset.exact)])", key
    )
    return dict(rows)


def test_a_model_beside_itself_and_beside_one_perturbed_kernel(
    visit: Callable[..., Any], trained: nn.Module, digits: Dataset
) -> None:
    """Nothing differs from itself; one other kernel of c3 shows in c3's map 5, behind it, and nowhere before."""
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other.get_parameter("c3.weight")[5, 2] += 0.1
    besides = {"same": copy.deepcopy(trained), "other": other}
    with explore(copy.deepcopy(trained), digits, port=0, beside=besides) as handle:
        page = visit(handle)
        select(page, "c3", tab="beside")
        page.wait_for_selector("#beside-maps canvas")
        assert set(figures(page, "#beside-layers", "layer").values()) == {0}
        assert set(figures(page, "#beside-parameters", "parameter").values()) == {0}
        page.locator("#beside-with").select_option("other")
        page.wait_for_function(
            "() => Number(document.querySelector('#beside-layers [data-layer=c3] .num')?.dataset.exact) > 0"
        )
        layers = figures(page, "#beside-layers", "layer")
        assert [name for name, value in layers.items() if value > 0] == DOWNSTREAM
        changed = figures(page, "#beside-parameters", "parameter")
        assert [name for name, value in changed.items() if value > 0] == ["c3.weight"]
        assert isinstance(handle.session, Session)
        x = handle.session.snapshot.question.x
        with torch.no_grad():
            shown, wanted = (nn.Sequential(*list(m.children())[:1])(x) for m in (trained, other))
            outputs = trained(x), other(x)
        assert torch.equal(shown, wanted)
        expected = float((outputs[1] - outputs[0]).norm() / outputs[0].norm())
        assert layers["output"] == pytest.approx(expected, rel=1e-4)


def test_two_pictures(visit: Callable[..., Any], trained: nn.Module, digits: Dataset) -> None:
    with explore(copy.deepcopy(trained), digits, port=0) as handle:
        page = visit(handle)
        page.locator("#tab-beside").click()
        page.locator("#pin").click()
        page.wait_for_selector("#beside-layers")
        assert set(figures(page, "#beside-layers", "layer").values()) == {0}
        page.locator("#next").click()
        page.wait_for_function(
            "() => Number(document.querySelector('#beside-layers [data-layer=c1] .num')?.dataset.exact) > 0"
        )
        assert isinstance(handle.session, Session)
        session = handle.session
        assert session.pinned is not None
        now, then = session.snapshot.question.x, session.desk.x(session.pinned)
        with torch.no_grad():
            first, second = (session.model.get_submodule("c1")(each) for each in (now, then))
        expected = float((second - first).norm() / first.norm())
        assert figures(page, "#beside-layers", "layer")["c1"] == pytest.approx(expected, rel=1e-4)


def test_a_film_of_twenty_checkpoints(visit: Callable[..., Any], trained: nn.Module, digits: Dataset) -> None:
    """Every frame is drawn from memory; what it says of the answer is that checkpoint's."""
    besides: dict[str, nn.Module] = {}
    for step in range(20):
        each = copy.deepcopy(trained)
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(step / 19)
        besides[f"step {step}"] = each
    with explore(copy.deepcopy(trained), digits, port=0, beside=besides) as handle:
        page = visit(handle)
        select(page, "c1", tab="beside")
        page.locator("#film-maps").click()
        page.wait_for_selector("#film-at")
        slide = """(slider) => {
          for (let at = 0; at < 20; at++) {
            slider.value = at;
            slider.dispatchEvent(new Event('input'));
          }
        }"""
        page.locator("#film-at").evaluate(slide)
        assert isinstance(handle.session, Session)
        with torch.no_grad():
            p = besides["step 19"](handle.session.snapshot.question.x).softmax(1)[0]
        text = page.locator("#film-text").inner_text()
        assert text.startswith("step 19 · ")
        assert digits.test.classes[int(p.argmax())] in text
        page.locator("#film-kernels").click()
        page.wait_for_function("() => document.querySelector('#film-at')?.value === '0'")
        assert page.locator("#film canvas").evaluate("(canvas) => canvas.width") > 0


def test_another_architecture_is_refused(trained: nn.Module, digits: Dataset) -> None:
    other = create_model("lenet5_1998")
    with pytest.raises(ArgumentError, match="beside: got .old: .*, wanted the shown model's layers"):
        Session(copy.deepcopy(trained), digits, beside={"old": other})
