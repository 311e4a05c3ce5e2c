"""Colours that can be compared: one scale a column, told below it; what a window of another size must not disorder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.browser.pages import select, settle
from tests.explorer.fixtures import MODELS
from torch import nn

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session

pytestmark = pytest.mark.long
PANELS = """() => convscope.apart.panels.map(({ role, limit, largest }) => ({ role, limit, largest }))"""
STRIP = """(name) => {
  const box = convscope.camera.boxOf(name);
  const { canvas } = convscope.frames.strip(name, box.columns);
  return [box.columns, canvas.width, canvas.height];
}"""


def limits(page: Any) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for panel in page.evaluate(PANELS):
        found.setdefault(panel["role"], set()).add(panel["limit"])
    return found


def test_partial_sums_share_one_scale(visit: Callable[..., Any], lenet: Handle) -> None:
    """The limit is the largest of the column's own; the map and its activation share one, too."""
    page = visit(lenet)
    select(page, "c3", 5)
    found = limits(page)
    assert all(len(each) == 1 for each in found.values()), found
    assert found["out"] == found["activation"]
    assert isinstance(lenet.session, Session)
    layer = lenet.session.snapshot.layer("c3")
    x, w = layer.inputs[0], lenet.session.model.get_parameter("c3.weight")[5].detach()
    parts = torch.stack([nn.functional.conv2d(x[:, [at]], w[None, [at]])[0, 0] for at in range(6)])
    quantiles = [float(part.abs().flatten().quantile(0.995, interpolation="lower")) for part in parts]
    assert found["partial"].pop() == pytest.approx(max(quantiles), rel=1e-4)


def test_a_map_without_a_number_but_zero_has_no_scale(visit: Callable[..., Any]) -> None:
    """An all-zero input next to small ones: these keep their colours, though a scale of nothing stands at 1."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 3)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.01, -0.01])[:, None, None, None])  # type: ignore[operator]
        model[2].weight.mul_(0.01)  # type: ignore[operator]
    with explore(model, input_shape=(1, 8, 8), port=0) as handle:
        assert isinstance(handle.session, Session)
        handle.session.show(handle.session.desk.from_pixels(bytes([200]) * 64))
        page = visit(handle)
        select(page, "2", 0)
        found = limits(page)
        assert max(found["source"]) < 0.1
        select(page, "1", 1)
        assert {panel["largest"] for panel in page.evaluate(PANELS) if panel["role"] == "out"} == {0}


def test_a_window_of_another_size_arranges_vectors_anew(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    wide = page.evaluate(STRIP, "flatten")
    page.set_viewport_size({"width": 1024, "height": 600})
    settle(page, 400)
    columns, width, height = page.evaluate(STRIP, "flatten")
    assert columns != wide[0]
    assert (width, height) == (columns, -(-400 // columns))


def test_the_tour_stays_in_the_window(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, tour=True)
    page.wait_for_selector("#tour")
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page, 300)
    box = page.locator("#tour").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_the_board_opens_the_window_of_the_weight(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    select(page, "c3", 5, [5, 3, 7], tab="gradient")
    page.evaluate("() => convscope.store.set({ weight: { parameter: 'weight', index: [5, 2, 1, 1] } })")
    page.wait_for_function("() => convscope.store.get('weighed') === '5,2'")
    page.wait_for_function("() => convscope.gridHits[0]?.row === 2")


def test_the_input_of_a_weight_comes_onto_the_board(visit: Callable[..., Any], open_file: Any, tmp_path: Path) -> None:
    """One that adds so little that it is not among those drawn first; on a saved page, too."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Conv2d(20, 4, 3), nn.Flatten(), nn.Linear(4 * 8 * 8, 3))
    with explore(model.eval(), port=0, input_shape=(1, 12, 12)) as handle:
        session = handle.session
        assert isinstance(session, Session)
        y, weight = session.snapshot.layers["1"].y, session.model.get_parameter("2.weight").detach()
        sizes = [float(nn.functional.conv2d(y[:, [k]], weight[1:2, [k]]).abs().sum()) for k in range(20)]
        order = sorted(range(20), key=lambda k: -sizes[k])
        served = visit(handle, "#/2/1/1,4,4?tab=gradient")
        explore(model, input_shape=(1, 12, 12), save=tmp_path / "saved.html")
        for page in (served, open_file(tmp_path / "saved.html", "#/2/1/1,4,4?tab=gradient")):
            page.wait_for_selector("body[data-shown$='/gradient/2/1/1,4,4']")
            for rank in (19, 9, 0):
                page.evaluate(
                    "(k) => convscope.store.set({ weight: { parameter: 'weight', index: [1, k, 1, 1] } })", order[rank]
                )
                page.wait_for_function(
                    """(k) => convscope.hits?.some(({ panel }) => panel.role === 'source' && panel.map === k
                    && panel.row === convscope.gridHits?.[0]?.row)""",
                    arg=order[rank],
                )
                assert page.evaluate("() => convscope.selection.elastic.first") == rank // 8 * 8
            page.keyboard.press("]")  # the reader turns the page
            page.wait_for_function("() => convscope.selection.elastic?.first === 8")


def test_names_are_set_smaller_before_they_are_cut(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(1024, 768))
    cut = page.evaluate(
        """() => [...document.querySelectorAll('#heads b')].filter((name) => name.scrollWidth > name.clientWidth + 1)
          .map((name) => name.textContent)"""
    )
    assert cut == []
    page.evaluate("() => convscope.store.set({ show: 'weight' })")
    page.wait_for_function("() => document.querySelector('#heads [data-layer=c3]')?.innerText.includes('16×6')")


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720)])
def test_a_lane_s_limit_stands_above_the_next_lane_s_name(visit: Callable[..., Any], size: tuple[int, int]) -> None:
    """Two branches below each other, each with its limit and its name."""
    torch.manual_seed(3)
    with explore(MODELS["branching"](), port=0, input_shape=(1, 14, 10)) as handle:
        page = visit(handle, size=size)
        upper, lower, name = page.evaluate(
            """() => { const [upper, lower] = ['grouped', 'dilated'].map((name) => convscope.camera.boxOf(name))
                .sort((one, other) => one.y - other.y);
              const board = document.querySelector('#board').getBoundingClientRect();
              const head = document.querySelector(`#heads button[data-layer=${lower.item.shows}]`);
              return [upper.y + upper.height, lower.y, head.getBoundingClientRect().top - board.top]; }"""
        )
        assert upper + 15 <= name < lower  # the limit is written around 9 pixels below, 10 high
