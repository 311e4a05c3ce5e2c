"""The convolution lab: as torch computes it, what cannot be explained, the questions by keys alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, session_of
from tests.explorer.test_texts import CHINESE, ENGLISH
from torch import nn
from torch.nn import functional as F

from convscope.explorer import Handle, explore

RUN = """async ([values, shape, settings]) => {
  const { convolve, wrong } = await import('/js/lab/convolve.js');
  const problem = wrong(settings, shape);
  if (problem) return { problem };
  const found = convolve(values, shape, settings);
  return { shape: found.shape, values: [...found.values] };
}"""


def by_torch(x: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """One kernel for every channel; each group's channels are summed."""
    groups, channels = settings["groups"], len(x)
    kernel = torch.tensor(settings["kernel"], dtype=torch.float64)
    per = channels // groups
    places = {"stride": settings["stride"], "padding": settings["padding"], "dilation": settings["dilation"]}
    if settings["transpose"]:
        weight = kernel.expand(channels, 1, -1, -1)
        return F.conv_transpose2d(x[None], weight, groups=groups, **places)[0]
    return F.conv2d(x[None], kernel.expand(groups, per, -1, -1), groups=groups, **places)[0]


def test_random_settings_are_torch_s(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    chance = random.Random(5)
    done = {False: 0, True: 0}
    refused = 0
    for turn in range(80):
        channels = chance.choice([1, 3, 4])
        shape = [channels, chance.randint(4, 11), chance.randint(4, 11)]
        size = chance.randint(1, 5)
        settings: dict[str, Any] = {
            "kernel": [[chance.uniform(-1, 1) for _ in range(size)] for _ in range(size)],
            "stride": chance.randint(1, 3), "padding": chance.randint(0, 3), "dilation": chance.randint(1, 3),
            "groups": chance.choice([1, 2, channels]), "transpose": turn % 3 == 0,
        }  # fmt: skip
        x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(turn))
        found = page.evaluate(RUN, [x.flatten().tolist(), shape, settings])
        if "problem" in found:
            refused += 1
            if channels % settings["groups"] == 0:
                with pytest.raises(RuntimeError):
                    by_torch(x, settings)
            continue
        expected = by_torch(x, settings)
        assert found["shape"] == list(expected.shape)
        torch.testing.assert_close(torch.tensor(found["values"], dtype=torch.float64), expected.flatten())
        done[settings["transpose"]] += 1
    assert min(done.values()) >= 15
    assert refused >= 3


@pytest.fixture
def four() -> Iterator[Handle]:
    """A picture of four channels, not square."""
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 13 * 10, 2)).eval()
    with explore(model, port=0, input_shape=(4, 15, 12)) as handle:
        yield handle


FILL = """(fields) => {
  for (const [selector, place, value] of fields) {
    const field = document.querySelectorAll(selector)[place]; // the panel is made anew by each change
    if (typeof value === 'boolean') field.checked = value;
    else field.value = value;
    field.dispatchEvent(new Event('change'));
  }
}"""


def fill(page: Any, **settings: Any) -> None:
    """Into the lab's fields, one after the other."""
    page.evaluate(FILL, [[f"#lab-{name}", 0, value] for name, value in settings.items()])


def test_random_settings_in_the_lab_s_fields(visit: Callable[..., Any], four: Handle) -> None:
    """What stands on the page (rows and columns, as many maps as groups, the sum of the cell under the pointer) is
    torch's, for kernels of one's own with groups and dilation, as they are and transposed."""
    page, session = visit(four), session_of(four)
    page.locator("#tab-lab").click()
    x = session.picture.pixels[0].double() / 255
    chance = random.Random(7)
    shown, groups = {False: 0, True: 0}, set()
    for turn in range(24):
        size = chance.randint(1, 5)
        kernel = [[chance.uniform(-1, 1) for _ in range(size)] for _ in range(size)]
        settings: dict[str, Any] = {
            "stride": chance.randint(1, 3), "padding": chance.randint(0, 3), "dilation": chance.randint(1, 3),
            "groups": chance.choice([1, 2, 4]), "transpose": turn % 2 == 1,
        }  # fmt: skip
        fill(page, **{"size-k": size}, **settings)
        page.evaluate(FILL, [[".lab-weight", at, value] for at, value in enumerate(itertools.chain(*kernel))])
        if page.locator("#lab-wrong").count():
            with pytest.raises(RuntimeError):
                by_torch(x, {**settings, "kernel": kernel})
            continue
        expected = by_torch(x, {**settings, "kernel": kernel})
        numbers = page.locator("#lab-size .num").evaluate_all("all => all.map((each) => Number(each.dataset.exact))")
        assert numbers == list(expected.shape[1:])
        assert page.locator(".lab-map").count() == len(expected) == settings["groups"]
        result = torch.tensor(page.evaluate("[...convscope.lab.result.values]"), dtype=torch.float64)
        torch.testing.assert_close(result, expected.flatten())
        place = [chance.randrange(side) for side in expected.shape]
        drawn = page.locator(".lab-map").nth(place[0])
        box = drawn.bounding_box()
        across, down = ((at + 0.5) / side for at, side in zip(place[:0:-1], expected.shape[:0:-1], strict=True))
        drawn.hover(position={"x": across * box["width"], "y": down * box["height"]})
        assert f"y[{', '.join(map(str, place))}]" in page.locator("#lab-sum").inner_text()
        assert exact(page, "#lab-sum .num") == pytest.approx(float(expected[tuple(place)]), rel=1e-9, abs=1e-12)
        shown[settings["transpose"]] += 1
        groups.add(settings["groups"])
    assert min(shown.values()) >= 8
    assert groups == {1, 2, 4}
    fill(page, stride=2, padding=1, dilation=1, groups=4, transpose=False)
    page.locator("#lab-known").select_option("sharpen")
    page.wait_for_function("() => document.querySelectorAll('.lab-weight').length === 9")
    lab = page.evaluate(
        "({ ...convscope.lab, values: [...convscope.lab.values], result: [...convscope.lab.result.values] })"
    )
    torch.testing.assert_close(torch.tensor(lab["values"], dtype=torch.float64), x.flatten())
    assert lab["settings"]["kernel"] == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    expected = by_torch(x, lab["settings"])
    torch.testing.assert_close(torch.tensor(lab["result"], dtype=torch.float64), expected.flatten())


FITS = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "transpose": False, "size-k": 3}
#: settings that cannot be, and why: the text's key with its blanks
WRONG: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    *(({"stride": value}, "number", {"name": "stride", "low": 1, "high": 5}) for value in (0, 6, 1.5, "")),
    *(({"padding": value}, "number", {"name": "padding", "low": 0, "high": 8}) for value in (-1, 9)),
    *(({"dilation": value}, "number", {"name": "dilation", "low": 1, "high": 4}) for value in (0, 5)),
    *(({"groups": value}, "number", {"name": "groups", "low": 1, "high": 4}) for value in (0, -1, 1.5, 5)),
    ({"groups": 3}, "groups", {"groups": 3, "channels": 4}),
    ({"size-k": 7, "dilation": 3}, "reach", {"reach": 19, "side": 14}),
    ({"size-k": 1, "padding": 8, "transpose": True}, "empty", {"rows": -1, "columns": -4}),
]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_cannot_be_is_explained(visit: Callable[..., Any], four: Handle, lang: str) -> None:
    """In the page's language, a setting named as its field is; nothing is drawn then, and it goes on when it fits."""
    texts = {"en": ENGLISH, "zh": CHINESE}[lang]
    page = visit(four, lang=lang)
    page.locator("#tab-lab").click()
    for settings, why, values in WRONG:
        fill(page, **{**FITS, **settings})
        if "name" in values:
            values = {**values, "name": texts[f"lab_{values['name']}"]}
        assert page.locator("#lab-wrong").inner_text() == texts[f"lab_wrong_{why}"].format(**values)
        assert page.locator(".lab-map, #lab-sum .num").count() == 0
        fill(page, **FITS)
        assert page.locator(".lab-map").count() == 1


ANSWERS = ["26", "2", "5", "7", None, "57"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_questions_by_keys_alone(visit: Callable[..., Any], lenet: Handle, lang: str) -> None:
    page = visit(lenet, lang=lang)
    page.locator("#heads button[data-layer=c1]").focus()
    page.keyboard.press("c")
    page.wait_for_selector("#lab-begin")
    page.locator("#lab-begin").focus()
    page.keyboard.press("Enter")
    for number, answer in enumerate(ANSWERS):
        page.wait_for_selector("#lab-answer:focus")
        assert f"{number + 1} / 6" in page.locator("#lab-question").inner_text()
        assert page.locator(".lab-map").count() == 0  # nothing is shown before the prediction
        if answer is None:
            pixels = lenet.session.picture.pixels[0, 0].double() / 255  # type: ignore[union-attr]
            window = pixels[13:16, 13:16]
            answer = f"{float(window[:, 2].sum() - window[:, 0].sum()):.6f}"
        wrong = number == 1
        page.keyboard.type("9" if wrong else answer)
        page.keyboard.press("Enter")
        page.wait_for_selector("#lab-verdict")
        assert page.locator("#lab-verdict").get_attribute("data-right") == str(not wrong).lower()
        assert page.locator(".lab-map").count() == 1
        page.wait_for_selector("#lab-next:focus")
        page.keyboard.press("Enter")
    page.wait_for_selector("#lab-begin")
