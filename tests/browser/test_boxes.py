"""Detection explained on the page: the boxes by keys, their numbers, the thresholds, and a bin's own sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.browser.test_bench import adds_up, bench_is_python_s
from tests.explorer.test_detector import PICTURE, extent, file_of, iou, network
from tests.tasks.detection.test_detection import SMALL, detector, squares

from convscope import fit
from convscope.data import Dataset
from convscope.explorer import Handle, explore
from convscope.explorer.protocol import Arguments
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


@pytest.mark.long
def test_the_clicked_box_sees_the_planted_object(visit: Callable[..., Any], tmp_path: Path) -> None:
    """A detector that has learned to find squares and bars; each planted one is found, and the field of the box that is
    clicked contains it, on the picture and, in its scale, on every map in between."""
    data = Dataset("squares", squares(48), squares(12, seed=1))
    model = detector(anchor_sizes=(16, 24), proposals=40)
    fit(
        model, data, epochs=12, batch_size=4, learning_rate=4e-3, settings=SMALL, evaluate_every=12, watch=False,
        run_dir=str(tmp_path / "run"), engine="torch", device="cpu",
    )  # fmt: skip
    with explore(model, port=0) as handle:
        session = handle.session
        assert isinstance(session, Session)
        session.load_upload(file_of(data.test.pictures.picture(0)), "upload")
        page = visit(handle, "#/?tab=boxes")
        for planted in data.test.boxes[0].tolist():
            page.evaluate("() => convscope.store.set({ tab: 'boxes' })")
            page.wait_for_selector("#boxes-list button")
            told = session.answer("boxes", Arguments({"score": 0.5}), b"").values["boxes"]
            near = max(told, key=lambda row: iou(row["box"], planted))
            assert iou(near["box"], planted) > 0.5
            name = f"{near['region']}/{near['label']}"
            page.locator(f"#boxes-list button[data-box='{name}']").click()
            page.wait_for_selector(f"#boxes-list button[data-box='{name}'][aria-pressed='true']")
            page.locator("#boxes-field").click()
            page.wait_for_selector("#field-boxes")
            rows = page.evaluate(
                "() => [...document.querySelectorAll('#field-boxes tbody tr')].map((row) =>"
                " [...row.querySelectorAll('.num')].map((each) => each.dataset.exact.split(',').map(Number)))"
            )
            *maps, picture = sorted(rows, key=lambda row: row[0][1] - row[0][0])
            assert picture == ask_field(page)
            assert within(extent(session, "pool"), picture)
            x1, y1, x2, y2 = planted
            assert within([[y1, y2], [x1, x2]], picture)
            pooled = maps[0]
            assert pooled[0][1] - pooled[0][0] < 8  # a part of the last map, of 8 × 9 places
            assert pooled[1][1] - pooled[1][0] < 9
            middle = [[y1 + 4, y2 - 4], [x1 + 4, x2 - 4]]  # of the object, but for half a place
            assert within(middle, [[8 * at for at in side] for side in pooled])


@pytest.mark.long
@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn"])
def test_what_speaks_for_a_box(visit: Callable[..., Any], name: str) -> None:
    """By every method as in Python: for the class of the box that is chosen, which is not what its region looks most
    like. One picture at a time is what a region's view answers."""
    model = network(name)
    with torch.no_grad():
        for path, each in model.named_modules():
            if path.endswith("cls_score") and isinstance(each, torch.nn.Linear):
                each.bias[0] += 4  # the background, before most boxes
    with explore(model, port=0) as handle:
        session = handle.session
        assert isinstance(session, Session)
        assert session.detector is not None
        session.load_upload(file_of(PICTURE), "upload")
        assert session.snapshot.question.target == session.detector.chosen[1] + 1
        told = session.answer("boxes", Arguments({"score": 0.0}), b"").values["boxes"]
        row = told[-1]
        page = visit(handle, "#/?tab=boxes")
        page.locator("#boxes-score").fill("0")
        box = f"#boxes-list button[data-box='{row['region']}/{row['label']}']"
        page.locator(box).click()
        page.wait_for_selector(f"{box}[aria-pressed='true']")
        version = session.snapshot.version
        page.wait_for_function("version => convscope.store.get('frame')?.version === version", arg=version)
        assert page.evaluate("() => convscope.store.get('frame').target") == row["label"] + 1
        assert session.snapshot.predicted == 0
        page.locator("#tab-bench").click()
        page.wait_for_selector("#bench-table")
        assert session.classes[row["label"] + 1] in page.locator("#bench-about").inner_text()
        found = bench_is_python_s(page, session, row["label"] + 1)
        assert {"occlusion", "integrated_gradients", "grad_cam"} <= set(found)
        x = session.snapshot.question.x
        with torch.no_grad():
            now, before = (session.model(each)[0, row["label"] + 1] for each in (x, torch.zeros_like(x)))
        adds_up(page, found, float(now - before))


def within(inner: list[list[Any]], outer: list[list[int]]) -> bool:
    return all(out[0] <= own[0] and own[1] <= out[1] for own, out in zip(inner, outer, strict=True))


def ask_field(page: Any) -> list[list[int]]:
    return list(page.evaluate("async () => (await convscope.connection.ask('box_field')).boxes.input"))


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
    after = page.locator("#boxes-count").get_attribute("data-exact")
    page.reload()
    page.wait_for_selector(f"#boxes-count[data-exact='{after}']")
    assert page.locator("#boxes-score-now").inner_text() == "1.00"


def test_no_other_model_has_the_tab(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert page.locator("#tab-boxes").count() == 0
