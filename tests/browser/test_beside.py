"""Two checkpoints, or two pictures, side by side, and a film of many."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import select, session_of
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.explorer import explore
from convscope.explorer.beside import outputs_of
from convscope.explorer.session import Session
from convscope.models import create_model

DOWNSTREAM = ["c3", "c3_activation", "s4", "flatten", "f5", "f5_activation", "f6", "f6_activation", "output"]


def figures(page: Any, table: str, key: str) -> dict[str, float]:
    rows = page.locator(f"{table} tbody tr").evaluate_all(
        "(all, key) => all.map((row) => [row.dataset[key], Number(row.querySelector('.num').dataset.exact)])", key
    )
    return dict(rows)


def apart(page: Any) -> dict[str, tuple[int, list[str]]]:
    """Of the chosen layer how many maps ("") and how many parts of each parameter differ, and which are named."""
    rows = page.locator("[data-apart]").evaluate_all(
        """all => all.map((each) => [each.dataset.apart, Number(each.dataset.exact),
                                     [...each.querySelectorAll('[data-part]')].map((part) => part.dataset.part)])"""
    )
    return {what: (count, sorted(parts)) for what, count, parts in rows}


def tinted(page: Any) -> list[int]:
    """The tiles of the picture of differences, of as many maps as the layer has, in which some pixel is not zero's."""
    found: list[int] = page.evaluate(
        """async () => {
          const { Atlas } = await import('/js/draw/atlas.js');
          const { colours } = await import('/js/draw/colour.js');
          const canvas = [...document.querySelectorAll('#beside-maps canvas')].at(-1);
          const [count, height, width = 1] = [...convscope.model.byName.get(convscope.store.get('layer')).shape, 1];
          const { columns } = new Atlas(null, Math.min(64, count), height, width, 'activation');
          const context = canvas.getContext('2d');
          const pixels = (x, y) => new Uint32Array(context.getImageData(x, y, width, height).data.buffer);
          const zero = colours('activation')[128];
          return [...Array(Math.min(64, count)).keys()].filter((tile) =>
            pixels((tile % columns) * width, Math.floor(tile / columns) * height).some((each) => each !== zero));
        }"""
    )
    return found


def test_a_model_beside_itself(visit: Callable[..., Any], trained: nn.Module, digits: Dataset) -> None:
    """Every difference of every layer, parameter and map is 0."""
    with explore(copy.deepcopy(trained), digits, port=0, beside={"same": copy.deepcopy(trained)}) as handle:
        page = visit(handle)
        for layer in page.evaluate("() => convscope.model.nodes.map(({ name }) => name)"):
            select(page, layer, tab="beside")
            page.wait_for_selector("#beside-maps canvas")
            numbers = page.locator("#beside-layers .num, #beside-parameters .num")
            assert set(numbers.evaluate_all("all => all.map((each) => each.dataset.exact)")) == {"0"}
            named = session_of(handle).snapshot.layers[layer].gradients
            assert apart(page) == {what: (0, []) for what in ("", *named)}
            assert tinted(page) == []


def test_one_other_kernel_flags_itself_and_what_follows(
    visit: Callable[..., Any], trained: nn.Module, digits: Dataset
) -> None:
    """One other kernel of c3: of all kernels this one, of c3's maps map 5, no layer before it, every layer behind it;
    each of these with as many maps as a loop finds."""
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other.get_parameter("c3.weight")[5, 2] += 0.1
    with explore(copy.deepcopy(trained), digits, port=0, beside={"other": other}) as handle:
        page, session = visit(handle), session_of(handle)
        x = session.snapshot.question.x
        now, then = outputs_of(session.network.graph, x), outputs_of(session.besides[0].graph, x)
        select(page, "c3", tab="beside")
        page.wait_for_selector("#beside-maps canvas")
        layers = figures(page, "#beside-layers", "layer")
        assert [name for name, value in layers.items() if value > 0] == DOWNSTREAM
        assert [name for name, value in layers.items() if value == 0] == ["c1", "c1_activation", "s2"]
        changed = figures(page, "#beside-parameters", "parameter")
        assert [name for name, value in changed.items() if value > 0] == ["c3.weight"]
        assert apart(page) == {"": (1, ["5"]), "weight": (1, ["5,2"]), "bias": (0, [])}
        assert tinted(page) == [5]
        page.locator("[data-apart=weight] [data-part]").click()
        page.wait_for_selector("body[data-shown$='/beside/c3/5/']")
        assert page.evaluate("() => convscope.store.get('weight')") == {"parameter": "weight", "index": [5, 2, 0, 0]}
        for layer in layers:
            select(page, layer, tab="beside")
            differs = (then[layer] - now[layer])[0].flatten(1 if now[layer].ndim > 2 else 0).abs()
            maps = torch.nonzero(differs.reshape(len(differs), -1).amax(1)).flatten().tolist()
            count, parts = apart(page)[""]
            assert count == len(maps)
            assert len(parts) == min(8, count)
            assert set(map(int, parts)) <= set(maps)
            assert (count > 0) == (layer in DOWNSTREAM)
        with torch.no_grad():
            expected = float((other(x) - trained(x)).norm() / trained(x).norm())
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
        select(page, "c1", tab="beside")
        differs = (second - first)[0].abs().flatten(1).amax(1)
        assert apart(page) == {"": (6, sorted(map(str, torch.nonzero(differs).flatten().tolist())))}


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
        page.locator("#beside-with").select_option("step 7")
        page.wait_for_function("() => convscope.address && location.hash.includes('beside=step+7')")
        page.reload()
        page.wait_for_selector("#beside-layers")
        assert page.locator("#beside-with").input_value() == "step 7"
        x = handle.session.snapshot.question.x
        with torch.no_grad():
            expected = float((besides["step 7"](x) - trained(x)).norm() / trained(x).norm())
        assert figures(page, "#beside-layers", "layer")["output"] == pytest.approx(expected, rel=1e-4)


def test_another_architecture_is_refused(trained: nn.Module, digits: Dataset) -> None:
    other = create_model("lenet5_1998")
    with pytest.raises(ArgumentError, match="beside: got .old: .*, wanted the shown model's layers"):
        Session(copy.deepcopy(trained), digits, beside={"old": other})
