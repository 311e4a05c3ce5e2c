"""Feature 5: pen, eraser, single pixels, files, camera, data set; what Python makes of the exported input."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.browser.pages import select, settle

from convscope.explorer import Handle
from convscope.explorer.questions import attributing
from convscope.explorer.session import Session
from convscope.inspect.attribution import METHODS, attribute
from convscope.inspect.attribution.subject import StoppedError


def stroke(page: Any, points: list[tuple[float, float]]) -> None:
    box = page.locator("#pad").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    settle(page, 300)


def exported(page: Any, handle: Handle) -> torch.Tensor:
    content = page.evaluate("async () => [...new Uint8Array(await (await fetch('/input.npy')).arrayBuffer())]")
    x = torch.from_numpy(np.load(io.BytesIO(bytes(content))))
    assert isinstance(handle.session, Session)
    with torch.no_grad():
        logits: torch.Tensor = handle.session.model(x)
    torch.testing.assert_close(
        torch.tensor(page.evaluate("() => convscope.store.get('frame').logits")).float(), logits[0]
    )
    return x


def test_drawing_erasing_and_poking(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert isinstance(lenet.session, Session)
    page.locator("#clear").click()
    settle(page)
    assert int(lenet.session.picture.pixels.max()) == 0
    stroke(page, [(0.3, 0.25), (0.7, 0.25), (0.45, 0.85)])
    drawn = lenet.session.picture.pixels.clone()
    assert int(drawn.max()) == 255
    assert 20 < int((drawn > 0).sum()) < 250
    exported(page, lenet)
    page.locator("#tool-erase").click()
    stroke(page, [(0.3, 0.25), (0.7, 0.25)])
    assert int(lenet.session.picture.pixels.sum()) < int(drawn.sum())
    page.locator("#tool-poke").click()
    page.locator("#poke-value").fill("77")
    box = page.locator("#pad").bounding_box()
    before = lenet.session.picture.pixels.clone()
    page.mouse.click(box["x"] + box["width"] * 2.5 / 28, box["y"] + box["height"] * 20.5 / 28)
    settle(page)
    changed = (lenet.session.picture.pixels != before).nonzero().tolist()
    assert changed == [[0, 0, 20, 2]]
    assert int(lenet.session.picture.pixels[0, 0, 20, 2]) == 77
    exported(page, lenet)
    assert "drawn" in page.locator("#verdict").inner_text()


def test_items_of_the_data_set(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    first = page.evaluate("() => convscope.store.get('frame').source.index")
    page.locator("#next").click()
    settle(page)
    assert page.evaluate("() => convscope.store.get('frame').source.index") == first + 1
    page.locator("#of-class").select_option("7")
    settle(page)
    assert page.evaluate("() => convscope.store.get('frame').label") == 7
    page.locator("#random").click()
    settle(page)
    exported(page, lenet)


@pytest.mark.parametrize("kind", ["rgba", "grey", "tiny", "huge"])
def test_files_and_their_preprocessing_step_by_step(
    visit: Callable[..., Any], lenet: Handle, tmp_path: Path, kind: str
) -> None:
    shape = {"rgba": (50, 40, 4), "grey": (60, 60), "tiny": (2, 3, 3), "huge": (3000, 2200, 3)}[kind]
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(1).integers(0, 256, (shape[0], 1, *shape[2:]), dtype=np.uint8)
    Image.fromarray(np.broadcast_to(noise, shape).copy()).save(path)
    page = visit(lenet)
    page.locator("#file").set_input_files(path)
    page.wait_for_selector("#verdict:has-text('from a file')")
    exported(page, lenet)
    page.locator("#stages-box summary").click()
    page.wait_for_selector("#stages li")
    steps = page.locator("#stages li").all_inner_texts()
    assert steps[0].startswith("1. as it came")
    assert "/255" in steps[-1]
    assert ("1 channels" in " ".join(steps)) == (kind != "grey")
    assert page.locator("#stages canvas").count() == len(steps)


def test_a_file_that_is_no_picture_is_refused_in_words(
    visit: Callable[..., Any], lenet: Handle, tmp_path: Path
) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    page = visit(lenet)
    page.locator("#file").set_input_files(path)
    page.wait_for_selector("#notice:has-text('not a picture')")
    page.problems[:] = [each for each in page.problems if "422" not in each]  # the browser's own line about the answer


def test_the_camera_asks_only_when_clicked(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert page.locator("video").count() == 0
    page.locator("#camera").click()
    page.wait_for_selector("#video")
    page.wait_for_selector("#snap")
    settle(page, 800)
    page.locator("#snap").click()
    page.wait_for_selector("#verdict:has-text('from the camera')")
    exported(page, lenet)
    page.locator("#camera").click()
    assert page.locator("video").count() == 0


def test_what_mattered(visit: Callable[..., Any], lenet: Handle) -> None:
    """Every method that the registry lists is offered, and its map on the page is Python's."""
    page = visit(lenet)
    session = lenet.session
    assert isinstance(session, Session)
    x, cls = session.snapshot.question.x, session.snapshot.predicted
    offered = page.locator("#attribution option").evaluate_all("all => all.map((each) => each.value)")
    assert offered == ["", *METHODS]
    for method in ("gradient", "gradient_x_input", "guided_backprop", "grad_cam", "occlusion"):
        page.locator("#attribution").select_option(method)
        page.wait_for_function("(method) => convscope.store.get('evidence')?.method === method", arg=method)
        shown = torch.tensor(page.evaluate("() => [...convscope.store.get('evidence').values]"))
        options: dict[str, Any] = {"baseline": session.desk.x(session.desk.blank())} if method == "occlusion" else {}
        expected = attribute(session.model, x, cls, method, **options)[0].sum(0).flatten()
        torch.testing.assert_close(shown, expected, rtol=1e-3, atol=1e-5)
    page.locator("#attribution").select_option("class_activation_map")
    page.wait_for_selector("text=ends in the mean of each map")
    assert page.locator("#attribution").input_value() == ""


def test_what_takes_long_is_told_and_can_be_ended(
    visit: Callable[..., Any], lenet: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the page answers; once ended nothing is left of it, and another choice ends it as well."""

    def slowly(*args: Any, stopped: Callable[[], bool], **options: Any) -> Any:
        if options["method"] != "occlusion":
            return attribute(*args, stopped=stopped, **options)
        while not stopped():
            time.sleep(0.01)
        raise StoppedError("cancelled")

    monkeypatch.setattr(attributing, "attribute", slowly)
    page = visit(lenet)
    page.locator("#attribution").select_option("occlusion")
    page.wait_for_selector("#input-side .running:not([hidden])")
    select(page, "c3", 5, [5, 3, 7])
    page.wait_for_function("() => /[0-9]+ s/.test(document.querySelector('#input-side .running .num')?.textContent)")
    assert page.locator("#attribution").input_value() == "occlusion"
    page.locator("#input-side [data-cancel]").click()
    page.wait_for_selector("#input-side .running", state="hidden")
    assert page.locator("#attribution").input_value() == ""
    assert page.evaluate("() => convscope.store.get('evidence')") is None
    page.locator("#attribution").select_option("occlusion")
    page.wait_for_selector("#input-side .running:not([hidden])")
    page.locator("#attribution").select_option("gradient")
    page.wait_for_function("() => convscope.store.get('evidence')?.method === 'gradient'")
    page.wait_for_selector("#input-side .running", state="hidden")
    assert page.locator("#attribution").input_value() == "gradient"


def test_two_windows_show_one_picture(visit: Callable[..., Any], lenet: Handle) -> None:
    """What another window has changed is shown as soon as this one hears of it, never its numbers alone."""
    first, second = visit(lenet), visit(lenet)
    before = first.evaluate("() => convscope.store.get('frame').version")
    second.locator("#of-class").select_option("7")
    second.wait_for_function("() => convscope.store.get('frame')?.label === 7")
    select(first, "output", 7, [7])
    first.wait_for_function("(before) => convscope.store.get('frame')?.version > before", arg=before)
    session = lenet.session
    assert isinstance(session, Session)
    pixels = torch.tensor(first.evaluate("() => [...convscope.frames.pixels]"))
    assert torch.equal(pixels, session.picture.pixels.flatten().long())
    first.wait_for_function("(z) => Math.abs(Number(document.querySelector('#result .num')?.dataset.exact) - z) < 1e-4",
                            arg=float(session.snapshot.logits[0, 7]))  # fmt: skip
