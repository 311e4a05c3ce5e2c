"""The convolution lab: as torch computes it, what cannot be explained, the questions by keys alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.explorer.fixtures import Residual
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


def test_what_is_shown_and_what_cannot_be(visit: Callable[..., Any]) -> None:
    with explore(Residual().eval(), port=0, input_shape=(3, 16, 16)) as handle:
        page = visit(handle)
        page.locator("#tab-lab").click()
        page.locator("#lab-known").select_option("sharpen")
        page.locator("#lab-stride").fill("2")
        page.locator("#lab-stride").press("Tab")
        page.locator("#lab-groups").fill("3")
        page.locator("#lab-groups").press("Tab")
        page.wait_for_function("() => document.querySelectorAll('.lab-map').length === 3")
        lab = page.evaluate("({ ...convscope.lab, values: [...convscope.lab.values] })")
        result = page.evaluate("[...convscope.lab.result.values]")
        x = torch.tensor(lab["values"], dtype=torch.float64).reshape(lab["shape"])
        torch.testing.assert_close(x, handle.session.picture.pixels[0].double() / 255)  # type: ignore[union-attr]
        expected = by_torch(x, lab["settings"])
        torch.testing.assert_close(torch.tensor(result, dtype=torch.float64), expected.flatten())
        page.locator("#lab-groups").fill("2")
        page.locator("#lab-groups").press("Tab")
        assert "2 groups do not divide 3 channels" in page.locator("#lab-wrong").inner_text()


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
