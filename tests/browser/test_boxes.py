"""Detection explained on the page: the boxes by keys, their numbers, the thresholds, and a bin's own sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.explorer.test_detector import PICTURE, file_of, network

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session


@pytest.fixture
def cells() -> Iterator[Handle]:
    with explore(network("faster_rcnn"), port=0) as handle:
        assert isinstance(handle.session, Session)
        handle.session.load_upload(file_of(PICTURE), "upload")
        yield handle


def test_a_box_is_chosen_by_keys_and_its_numbers_are_the_network_s(visit: Callable[..., Any], cells: Handle) -> None:
    page = visit(cells, "#/?tab=boxes")
    page.wait_for_selector("#boxes-chosen, #boxes-list button")
    page.locator("#boxes-list button").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#boxes-list button:nth-child(2)[aria-pressed='true']")
    assert isinstance(cells.session, Session)
    assert cells.session.detector is not None
    region, label = cells.session.detector.chosen
    assert page.locator("#boxes-list button").nth(1).get_attribute("data-box") == f"{region}/{label}"
    assert cells.session.detector.seen is not None
    outputs = cells.session.detector.seen.outputs
    told = [float(each.get_attribute("data-exact")) for each in page.locator("#boxes-scores [data-exact]").all()]
    assert told[::2] == pytest.approx(outputs.scores[region].tolist(), rel=1e-6)
    told = [float(each.get_attribute("data-exact")) for each in page.locator("#boxes-region [data-exact]").all()]
    assert told == pytest.approx(outputs.rois[region, 1:].tolist(), rel=1e-6)
    page.evaluate("async () => { document.querySelector('#boxes-list button').focus(); await convscope.ondetail(); }")
    assert page.evaluate("() => document.activeElement === document.querySelector('#boxes-list button')")
    page.locator("#boxes-pool").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-shown$='/forward/pool/0/0,0,0']")
    value = float(page.locator("#result .num").first.get_attribute("data-exact"))
    assert value == pytest.approx(float(cells.session.snapshot.layers["pool"].y[0, 0, 0, 0]), rel=1e-6)


def test_a_threshold_moves_and_in_chinese(visit: Callable[..., Any], cells: Handle) -> None:
    page = visit(cells, "#/?tab=boxes&lang=zh", lang="zh")
    page.wait_for_selector("#boxes-count")
    assert page.locator("#tab-boxes").inner_text() == "框"
    before = int(page.locator("#boxes-count").get_attribute("data-exact"))
    page.locator("#boxes-score").focus()
    page.keyboard.press("End")
    page.wait_for_function(
        "before => Number(document.querySelector('#boxes-count')?.dataset.exact) < before", arg=before
    )
    assert page.locator("#boxes-score-now").inner_text() == "1.00"


def test_no_other_model_has_the_tab(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert page.locator("#tab-boxes").count() == 0
