"""Networks longer than the board: layers found by name, the board moved and enlarged, inputs page by page; by keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.browser.pages import select
from torch import nn

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session


@pytest.fixture
def long_network() -> Iterator[Handle]:
    """Twenty convolutions of twenty maps, each with its ReLU."""
    torch.manual_seed(5)
    layers: list[nn.Module] = [nn.Conv2d(3, 20, 3, padding=1), nn.ReLU()]
    for _ in range(19):
        layers += [nn.Conv2d(20, 20, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(20, 4)]
    with explore(nn.Sequential(*layers).eval(), input_shape=(3, 12, 12), port=0) as handle:
        yield handle


def focused(page: Any) -> str:
    return str(page.evaluate("() => document.activeElement?.dataset.layer ?? document.activeElement?.id"))


def board(page: Any) -> list[float]:
    """Where it stands, and how large it is drawn."""
    found: list[float] = page.evaluate("() => { const { x, y, zoom } = convscope.camera; return [x, y, zoom]; }")
    return found


@pytest.mark.parametrize("lang", ["en", pytest.param("zh", marks=pytest.mark.long)])
def test_a_layer_is_found_by_its_kind_or_name(visit: Callable[..., Any], long_network: Handle, lang: str) -> None:
    page = visit(long_network, lang=lang)
    page.keyboard.press("/")
    assert focused(page) == "find-layer"
    words, found = ("max pool", "40") if lang == "en" else ("全连接", "42")
    page.keyboard.type(words)
    page.wait_for_selector("#found-layers li[aria-selected=true]")
    assert page.locator("#found-layers li").count() == 1
    page.wait_for_function("() => document.querySelector('#live')?.textContent.includes('1')")
    page.keyboard.press("Enter")
    page.wait_for_function("(name) => document.activeElement?.dataset.layer === name", arg=found)
    assert page.evaluate("() => convscope.store.get('layer')") == found
    assert page.evaluate(
        "() => convscope.camera.inSight('38') && convscope.camera.onBoard(convscope.camera.boxOf('40'))"
    )
    page.keyboard.press("/")
    page.keyboard.type("conv 1")
    page.wait_for_function("() => document.querySelectorAll('#found-layers li').length > 3")
    page.keyboard.press("ArrowDown")
    second = page.locator("#found-layers li[aria-selected=true] b").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_function("(name) => convscope.store.get('layer') === name", arg=second)
    page.keyboard.press("/")
    page.keyboard.type("nothing of this kind")
    page.wait_for_selector("#found-layers li[aria-disabled=true]")
    page.keyboard.press("Escape")
    assert page.locator("#found-layers").is_hidden()


def test_ends_scrollbar_and_size_by_keys(visit: Callable[..., Any], long_network: Handle) -> None:
    page = visit(long_network)
    page.keyboard.press("End")
    assert focused(page) == "42"
    reach = page.evaluate("() => convscope.camera.reach.x")
    assert board(page)[0] == pytest.approx(reach, abs=1)
    bar = page.locator("#minimap")
    assert float(bar.get_attribute("aria-valuenow")) == pytest.approx(reach, abs=1)
    assert bar.get_attribute("aria-valuetext").endswith("42")
    page.keyboard.press("Home")
    assert focused(page) == "input"
    bar.focus()
    page.keyboard.press("PageDown")
    assert board(page)[0] > 300
    page.keyboard.press("End")
    assert board(page)[0] == pytest.approx(reach, abs=1)
    page.locator("#heads button[tabindex='0']").evaluate("(head) => head.blur()")
    page.keyboard.press("9")
    assert page.evaluate("() => convscope.camera.layout.width <= convscope.stage.width + 1")
    assert (
        page.evaluate("() => document.querySelector('#live').textContent").strip()
        == page.locator("#zoom-now").inner_text()
    )
    page.keyboard.press("0")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert board(page)[2] == pytest.approx(1.25**2)
    page.locator("#zoom-out").click()
    assert board(page)[2] == pytest.approx(1.25)


def test_wheel_and_two_fingers_keep_the_place_under_them(visit: Callable[..., Any], long_network: Handle) -> None:
    page = visit(long_network)
    page.evaluate("() => { convscope.camera.move(500); convscope.render(false); }")
    place = page.locator("#board").bounding_box()
    x, y = place["x"] + 300, place["y"] + 260
    page.mouse.move(x, y)
    under = "() => (300 + convscope.camera.x) / convscope.camera.zoom"
    before = page.evaluate(under)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -40)
    page.keyboard.up("Control")
    page.wait_for_function("() => convscope.camera.zoom > 1.3")
    assert page.evaluate(under) == pytest.approx(before, abs=0.5)
    page.mouse.wheel(0, 60)
    page.wait_for_function("() => convscope.camera.y > 0")
    page.keyboard.press("0")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})

    def fingers(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 40)
    for apart in (50, 60, 70, 80):
        fingers("touchMove", apart)
    fingers("touchEnd", 0)
    page.wait_for_function("() => convscope.camera.zoom > 1.6")
    assert page.evaluate("() => convscope.store.get('layer')") is None


def test_all_inputs_of_a_map_are_shown_page_by_page(visit: Callable[..., Any], long_network: Handle) -> None:
    """Over the pages every input once; what they add is the map without its bias, as torch has it in float64."""
    page = visit(long_network)
    assert isinstance(long_network.session, Session)
    layer = long_network.session.snapshot.layers["20"]
    select(page, "20", 7)
    page.wait_for_selector("#pager:not([hidden])")
    seen: list[int] = []
    total = torch.zeros(12, 12, dtype=torch.float64)
    for first in (0, 8, 16):
        page.wait_for_function("(first) => convscope.selection.current?.first === first", arg=first)
        panels = page.evaluate(
            """() => convscope.selection.current.panels
              .map((p) => [p.role, p.map, p.role === 'partial' ? [...p.values] : []])"""
        )
        seen += [number for role, number, _ in panels if role == "source"]
        for role, _, values in panels:
            if role == "partial":
                total += torch.tensor(values, dtype=torch.float64).reshape(12, 12)
        page.wait_for_function(
            "(text) => document.querySelector('#inputs-shown')?.textContent.includes(text)",
            arg=f"{first + 1}–{min(20, first + 8)} of 20",
        )
        page.keyboard.press("]")
    assert sorted(seen) == list(range(20))
    conv = long_network.session.model.get_submodule("20")
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    true = nn.functional.conv2d(layer.inputs[0].double(), conv.weight.double(), padding=1)[0, 7]
    torch.testing.assert_close(total, true, rtol=1e-5, atol=1e-7)
    assert page.locator("#inputs-after").is_disabled()
    page.keyboard.press("[")
    page.wait_for_function("() => convscope.selection.current?.first === 8")
    select(page, "20", 8)
    page.wait_for_function("() => convscope.selection.current?.map === 8 && convscope.selection.current?.first === 0")


def test_maps_are_reached_in_the_grid_by_keys(visit: Callable[..., Any], long_network: Handle) -> None:
    page = visit(long_network)
    select(page, "20")
    page.locator("#layer-grid").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    spoken = page.evaluate("() => document.querySelector('#live').textContent")
    page.keyboard.press("Enter")
    page.wait_for_function("() => convscope.store.get('map') !== null")
    number = page.evaluate("() => convscope.store.get('map')")
    assert number > 2
    assert str(number) in spoken


def test_what_was_chosen_before_is_not_drawn_under_a_new_choice(
    visit: Callable[..., Any], long_network: Handle
) -> None:
    """While the answer is on its way, whatever draws the board anew draws the network, not the older layer."""
    page = visit(long_network)
    select(page, "20", 7)
    before, during = page.evaluate(
        """async () => {
          const before = convscope.apart?.layer;
          convscope.selection.select('30', 2);
          convscope.render(false);
          return [before, convscope.apart?.layer ?? null];
        }"""
    )
    assert before == "20"
    assert during is None
    page.wait_for_function("() => convscope.apart?.layer === '30'")
