"""Every view of the explorer as pictures to look at: ``python docs/pages/explorer_pictures.py --out FOLDER``.

Each view is taken at 1440×900 (with what its panel holds below the screen), at 1024×768 and at 390×844 (with what a
finger scrolls to), in both languages, light and dark; two sheets a view and look: ``NAME-en-light-wide.png`` and
``NAME-en-light-small.png``. Nothing of it leaves this computer. ``--only`` names views; ``--looks en-light zh-dark``
names looks; ``--detector FILE`` and ``--sentences FILE`` show trained models of these kinds instead of small random
ones.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from convscope.data import load_dataset
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import Vocabulary
from convscope.errors import CheckpointError
from convscope.explorer import Handle, explore, serve
from convscope.explorer.lessons import read_lesson, ready_lesson
from convscope.explorer.unopened import unopened_file
from convscope.models import create_model
from convscope.training import load

LOOKS = ("en-light", "en-dark", "zh-light", "zh-dark")
WIDE, TABLET, PHONE = (1440, 900), (1024, 768), (390, 844)
PHONE_SCREENS = 4  # of the phone's page, from its top
GAP = 12
PATIENCE = 300_000  # ms, for one thing on the page
TEXTS = ("a gripping , funny film", "a dull film", "funny and gripping", "a film with no end at all")

Prepare = Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class View:
    """What is shown: on which model, at which address, and what is done there before the picture is taken."""

    on: str
    address: str = ""
    prepare: Prepare | None = None
    tour: bool = False
    at_every_size: bool = False
    """Whether it is done again when the page's size has changed."""


SHOWN = """() => {
  if (document.querySelector('#detail .running:not([hidden])') || document.body.dataset.stale) return false;
  if (!window.convscope) return true;  // a card
  const { tab, layer, map, unit } = convscope.store.state;
  const wanted = `/${tab}/${[layer, map, (unit ?? []).join(',')].join('/')}`;
  return !document.querySelector('#working') && document.body.dataset.shown?.endsWith(wanted);
}"""


def settled(page: Any) -> None:
    """The panel is that of what is chosen and stands, nothing moves, and no job runs."""
    page.wait_for_function(SHOWN)
    page.wait_for_timeout(250)
    page.wait_for_function(SHOWN)


def press(*selectors: str) -> Prepare:
    """Click one after the other, each when what the one before it began is done."""

    def go(page: Any) -> None:
        for selector in selectors:
            page.wait_for_selector(selector, state="attached")
            page.locator(selector).first.dispatch_event("click")
            settled(page)

    return go


def state(**values: Any) -> Prepare:
    def go(page: Any) -> None:
        page.evaluate("(values) => convscope.store.set(values)", values)
        settled(page)

    return go


def until(expression: str) -> Prepare:
    """Wait for something of the page that no mark tells."""

    def go(page: Any) -> None:
        page.wait_for_function(expression)
        settled(page)

    return go


def both(*parts: Prepare) -> Prepare:
    def go(page: Any) -> None:
        for part in parts:
            part(page)

    return go


def hover(layer: str, map: int) -> Prepare:
    """Rest the pointer on the middle of a map."""

    def go(page: Any) -> None:
        place = page.evaluate(
            """async ([layer, map]) => {
              const { tilePlace } = await import('/js/draw/columns.js');
              const { camera } = convscope;
              const place = tilePlace(camera.boxOf(layer), map);
              const board = document.querySelector('#board').getBoundingClientRect();
              return [board.x + place.x - camera.x + place.w / 2, board.y + place.y + place.h / 2];
            }""",
            [layer, map],
        )
        page.mouse.move(*place)
        page.wait_for_timeout(500)

    return go


def film(page: Any) -> None:
    press("#film-maps")(page)
    page.locator("#film-at").evaluate(
        "(slider) => { slider.value = slider.max; slider.dispatchEvent(new Event('input')); }"
    )


def learn(page: Any) -> None:
    """Learn for a moment, then pause: the curve, and what was mixed up."""
    press("#live-run")(page)
    page.wait_for_timeout(2500)
    press("#live-run")(page)
    page.wait_for_selector("#live-run:not([disabled])")


def to_question(page: Any) -> None:
    """To the lesson's first question, which is to be answered before one can go on, and a wrong answer to it."""
    while page.locator("#lesson-next").is_enabled():
        page.locator("#lesson-next").click()
        settled(page)
    if page.locator("#lesson-number").count():
        page.locator("#lesson-number").fill("0.5")
        page.keyboard.press("Enter")


VIEWS = {
    "overview": View("lenet"),
    "overview-hover": View("lenet", prepare=hover("c3", 5), at_every_size=True),
    "overview-delta": View("lenet", "#/?show=delta"),
    "overview-weight": View("lenet", "#/?show=weight"),
    "overview-gradient": View("lenet", "#/?show=gradient"),
    "map": View("lenet", "#/c3/5"),
    "unit": View("lenet", "#/c3/5/5,3,7"),
    "unit-delta": View("lenet", "#/c3/5/5,3,7?tab=backward"),
    "unit-gradient": View("lenet", "#/c3/5/5,3,7?tab=gradient"),
    "field": View("lenet", "#/c3/5/5,3,7?tab=field"),
    "pool": View("lenet", "#/s2/2/2,3,7"),
    "pool-delta": View("lenet", "#/s2/2/2,3,7?tab=backward"),
    "linear": View("lenet", "#/f5/3/3"),
    "loss": View("lenet", "#/output/3/3?tab=backward"),
    "norm": View("norm", "#/1/2/2,3,4"),
    "softmax": View("norm", "#/7/1/1"),
    "attribution": View("lenet", "#/?tab=bench", press("#bench-all", "tr[data-method=guided_backprop] button")),
    "grid": View("lenet", "#/c3?"),
    "health": View("lenet", "#/?tab=health", press("#examine")),
    "patches": View("lenet", "#/c3/5?tab=likes", press("#find-patches", "#grow")),
    "surgery": View("lenet", "#/c3/5?tab=surgery", press("#flip-kernel", "#silence")),
    "beside": View("beside", "#/c3?tab=beside"),
    "film": View("beside", "#/c3?tab=beside", film),
    "step": View("lenet", "#/c3/5/5,3,7?tab=training"),
    "learning": View("lenet", "#/?tab=training", learn),
    "lab": View("lenet", "#/?tab=lab", press("#lab-begin")),
    "tour": View("lenet", tour=True),
    "help": View("lenet", prepare=lambda page: page.keyboard.press("?")),
    "lesson": View("lesson", prepare=to_question),
    "boxes": View("detector", "#/?tab=boxes"),
    "boxes-field": View(
        "detector", "#/?tab=boxes", both(press("#boxes-field"), until("() => convscope.store.state.field"))
    ),
    "sentence": View("sentences", "#/conv4/1/1,2"),
    "long": View("long", "#/?show=activation"),
    "long-unit": View("long", "#/features.24/100/100,5,5"),
    "card": View("card"),
}


def opened(name: str, options: argparse.Namespace, folder: Path) -> Handle:
    """The explorer on a model of this kind."""
    torch.manual_seed(0)
    digits = load_dataset("digits")
    lesson = read_lesson(ready_lesson("convolution"))
    assert lesson.model is not None
    trained = lesson.path.parent / lesson.model
    if name == "lenet":
        return explore(load(trained), digits, port=0)
    if name == "lesson":
        return explore(load(trained), digits, port=0, lesson=lesson.path)
    if name == "beside":
        others = {f"step {at}": away(load(trained), at) for at in (0, 100, 200)}
        return explore(load(trained), digits, port=0, beside=others)
    if name == "norm":
        parts = (nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        model = nn.Sequential(*parts, nn.Linear(6 * 3 * 3, 10), nn.LayerNorm(10), nn.LogSoftmax(1)).eval()
        return explore(model, digits, port=0)
    if name == "long":
        return explore(create_model("vgg16"), port=0)
    if name == "detector":
        found = load(options.detector) if options.detector else create_model("faster_rcnn", classes=3)
        handle = explore(found, port=0)
        if options.picture:
            handle.session.load_upload(options.picture.read_bytes(), "upload")  # type: ignore[union-attr]
        return handle
    if name == "card":
        from safetensors.torch import save_file

        save_file({"c1.weight": torch.zeros(6, 1, 5, 5), "c1.bias": torch.zeros(6)}, folder / "weights.safetensors")
        path = folder / "weights.safetensors"
        try:
            load(path)
        except CheckpointError as error:
            return serve(unopened_file(path, error), port=0)
    return explore(load(options.sentences) if options.sentences else reader(), port=0)


def away(model: nn.Module, step: int) -> nn.Module:
    """A checkpoint as if from earlier: the later the step, the nearer."""
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn_like(each), alpha=0.0005 * (300 - step) * float(each.std()))
    return model


def reader() -> nn.Module:
    """A classifier of sentences with random weights."""
    from convscope.data import Dataset
    from convscope.tasks.sentences.preparing import prepare_data

    whole = Sentences(TEXTS, torch.tensor([1, 0, 1, 0]), ("bad", "good"), Vocabulary.build(TEXTS))
    model = create_model("text_cnn", size=5, maps=3, classes=2, vocabulary=len(whole.vocabulary))
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(8)  # or every answer would be next to 0
    prepare_data(model, Dataset("reviews", whole, whole))
    return model.eval()


@contextlib.contextmanager
def page_of(browser: Any, handle: Handle, view: View, look: str) -> Iterator[Any]:
    lang, theme = look.split("-")
    context = browser.new_context(
        viewport={"width": WIDE[0], "height": WIDE[1]}, locale="zh-CN" if lang == "zh" else "en-US",
        color_scheme=theme, reduced_motion="reduce",
    )  # fmt: skip
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("pageerror", lambda error: print(f"  error on the page: {error}", file=sys.stderr))
    page.goto(f"{handle.url}{'' if view.tour else '&tour=0'}{view.address}")
    page.wait_for_selector("body[data-ready]" if view.on != "card" else ".card-page")
    settled(page)
    if view.prepare:
        view.prepare(page)
        settled(page)
    yield page
    context.close()


def shot(page: Any, selector: str | None = None, **options: Any) -> Image.Image:
    taken = page.locator(selector).screenshot() if selector else page.screenshot(**options)
    return Image.open(io.BytesIO(taken)).convert("RGB")


def wide(page: Any) -> list[Image.Image]:
    """The screen, and the rest of its panel."""
    parts = [shot(page)]
    for _ in range(3):
        moved = page.evaluate(
            """() => { const panel = document.querySelector('#detail');
              if (!panel) return 0;
              const at = panel.scrollTop;
              panel.scrollTop += panel.clientHeight - 40; return panel.scrollTop - at; }"""
        )
        if moved < 8:
            break
        page.wait_for_timeout(80)
        parts.append(shot(page, "#detail"))
    return parts


def phone(page: Any) -> list[Image.Image]:
    """The page's first screens, one beside the other."""
    whole = shot(page, full_page=True)
    width, height = PHONE
    tops = range(0, min(whole.height, PHONE_SCREENS * height), height)
    return [whole.crop((0, top, width, min(top + height, whole.height))) for top in tops]


def sheet(parts: list[Image.Image]) -> Image.Image:
    """Pictures side by side on grey."""
    found = Image.new(
        "RGB", (sum(each.width + GAP for each in parts) - GAP, max(each.height for each in parts)), (128, 128, 128)
    )
    at = 0
    for each in parts:
        found.paste(each, (at, 0))
        at += each.width + GAP
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(VIEWS), default=list(VIEWS), metavar="VIEW")
    parser.add_argument("--looks", nargs="+", choices=LOOKS, default=list(LOOKS))
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--picture", type=Path, help="what the detector looks at")
    parser.add_argument("--sentences", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CONVSCOPE_CHROMIUM") or shutil.which("chromium")
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for kind in dict.fromkeys(VIEWS[name].on for name in options.only):
            for name in (each for each in options.only if VIEWS[each].on == kind):
                for look in options.looks:
                    with opened(kind, options, options.out) as handle:
                        take(browser, handle, name, look, options.out)
        browser.close()


def take(browser: Any, handle: Handle, name: str, look: str, folder: Path) -> None:
    """Both sheets of a view in one look."""
    view = VIEWS[name]
    with page_of(browser, handle, view, look) as page:
        sheet(wide(page)).save(folder / f"{name}-{look}-wide.png")
        parts: list[Image.Image] = []
        for size in (TABLET, PHONE):
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.evaluate("() => document.querySelector('#detail')?.scrollTo(0, 0)")
            settled(page)
            if view.prepare and view.at_every_size:
                view.prepare(page)
            parts += phone(page) if size == PHONE else [shot(page)]
    sheet(parts).save(folder / f"{name}-{look}-small.png")
    print(f"{name}-{look}", flush=True)


if __name__ == "__main__":
    main()
