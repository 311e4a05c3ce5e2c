"""Feature 7: the receptive field on the page is the extent of the gradient; what lies outside changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from tests.browser.pages import select, settle
from torch import nn

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session
from convscope.graph.replay import unit_gradient
from convscope.models import create_model


def test_the_box_is_the_gradient_s_extent(visit: Callable[..., Any]) -> None:
    model = create_model("lenet5", activation="linear")
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    chosen = random.Random(2)
    with explore(model, port=0) as handle:
        page = visit(handle)
        assert isinstance(handle.session, Session)
        for layer in ("c1", "s2", "c3", "s4"):
            shape = handle.session.snapshot.layers[layer].shape
            for _ in range(3):
                unit = [chosen.randrange(side) for side in shape]
                select(page, layer, unit[0], unit, tab="field")
                settle(page, 80)
                printed = [each.get_attribute("data-exact") for each in page.locator("#field-box [data-exact]").all()]
                graph, x = handle.session.network.graph, handle.session.snapshot.question.x
                gradient = unit_gradient(graph, x, layer, tuple(unit))
                hit = torch.nonzero(gradient[0].abs().sum(0))
                rows = f"{int(hit[:, 0].min())},{int(hit[:, 0].max()) + 1}"
                columns = f"{int(hit[:, 1].min())},{int(hit[:, 1].max()) + 1}"
                assert printed == [rows, columns]
        page.locator("#effective").click()
        page.wait_for_timeout(400)
        assert page.evaluate("() => convscope.store.get('evidence').method") == "effective"


def test_a_pixel_outside_leaves_the_unit_bit_equal(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    select(page, "c3", 5, [5, 1, 1], tab="field")
    settle(page)
    select(page, "c3", 5, [5, 1, 1])
    before = page.locator("#result .num").first.get_attribute("data-exact")
    for row, column in ((27, 27), (20, 3), (3, 20)):
        page.evaluate(
            "([row, column]) => convscope.frames.change('poke', { channel: 0, row, column, value: 255 })", [row, column]
        )
        settle(page, 200)
        assert page.locator("#result .num").first.get_attribute("data-exact") == before
    page.evaluate("() => convscope.frames.change('poke', { channel: 0, row: 5, column: 5, value: 200 })")
    settle(page, 300)
    assert page.locator("#result .num").first.get_attribute("data-exact") != before


def test_the_other_way_from_a_pixel(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    page.evaluate("() => convscope.store.set({ tab: 'field' })")
    page.locator("#pixel-row").fill("10")
    page.locator("#pixel-column").fill("12")
    page.locator("#pixel-go").click()
    page.wait_for_selector("#field-boxes")
    boxes = dict(zip(["input", "c1", "c1_activation", "s2"], page.evaluate(
        "() => [...document.querySelectorAll('#field-boxes tbody tr')]"
        ".map((r) => [...r.querySelectorAll('.num')].map((n) => n.dataset.exact))"
    ), strict=False))  # fmt: skip
    assert boxes["c1"] == ["8,13", "10,15"]
    assert boxes["s2"] == ["4,7", "5,8"]
