"""A spatial transformer on the page: the four pixels of a place, the lattice, and what comes back to a pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from convscope.explorer import explore
from convscope.explorer.session import Session
from convscope.models import create_model


@pytest.mark.long
def test_a_place_is_the_sum_of_four_pixels_in_chinese(visit: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = create_model("stn_lenet", input_size=28, output_size=14).eval()
    with torch.no_grad():
        model.get_parameter("transformer.theta.bias").copy_(torch.tensor([0.6, 0.25, 0.1, -0.25, 0.6, -0.1]))
    with explore(model, port=0) as handle:
        assert isinstance(handle.session, Session)
        snapshot = handle.session.snapshot
        page = visit(handle, lang="zh")
        page.evaluate("convscope.selection.select('grid_sample', 0, [0, 5, 7])")
        page.wait_for_selector("body[data-shown$='/forward/grid_sample/0/0,5,7']")
        assert "双线性采样" in page.locator(".detail-head").inner_text()
        told = [float(each.get_attribute("data-exact")) for each in page.locator("tr.term .num").all()]
        weights, values, products = told[::3], told[1::3], told[2::3]
        assert len(weights) == 4
        assert sum(weights) == pytest.approx(1, abs=1e-6)
        assert products == pytest.approx([w * x for w, x in zip(weights, values, strict=True)], rel=1e-6, abs=1e-9)
        assert sum(products) == pytest.approx(float(snapshot.layers["grid_sample"].y[0, 0, 5, 7]), abs=1e-6)
        page.wait_for_function("convscope.gridHits?.length === 3")
        drawn = page.evaluate("convscope.gridHits.map((grid) => [...grid.values])")
        assert sorted(drawn[1]) == pytest.approx(sorted(weights), abs=1e-3)  # the board's lattice has four digits
        page.evaluate("convscope.store.set({ layer: null, map: null, unit: null, pixel: [9, 9], tab: 'field' })")
        page.wait_for_selector("#pixel-delta-0")
        assert snapshot.grad_x is not None
        back = float(page.locator("#pixel-delta-0 .num").first.get_attribute("data-exact"))
        assert back == pytest.approx(float(snapshot.grad_x[0, 0, 9, 9]), rel=1e-5, abs=1e-9)
