"""Evidence and what a unit likes: each on the page as in Python, and each can be ended."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, open_tab, select, session_of
from tests.explorer.fixtures import MODELS
from tests.inspect.attribution.test_maximise_and_examples import edge_detector, planted
from torch import nn

from convscope.data import Dataset, Labelled
from convscope.errors import ArgumentError
from convscope.explorer import Handle, explore
from convscope.explorer.beside import outputs_of
from convscope.explorer.session import Session
from convscope.inspect.attribution import METHODS, Place, Target, attribute, honesty, top_examples
from convscope.inspect.attribution.checks import Curve
from convscope.spec import ModelSpec, Preprocessing, attach

DRAWN = """([at, points]) => {
  const canvas = document.querySelectorAll('#bench-detail figure canvas')[at];
  const brush = document.createElement('canvas').getContext('2d');
  brush.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--accent');
  brush.fillRect(0, 0, 1, 1);
  const line = brush.getImageData(0, 0, 1, 1).data;
  return points.map(([x, y]) => { // within two pixels of it
    const { data } = canvas.getContext('2d').getImageData(Math.round(x) - 2, Math.round(y) - 2, 5, 5);
    const at = [...Array(25).keys()].map((k) => data.slice(4 * k, 4 * k + 4));
    return at.some((found) => line.every((part, channel) => Math.abs(part - found[channel]) < 10));
  });
}"""


def is_drawn(page: Any, at: int, curve: Curve) -> None:
    """Every point of the curve lies on the line of its picture, and a line moved by nine pixels would be seen."""
    low, high = min(0.0, *curve.scores), max(1e-9, *curve.scores)
    points = [
        (8 + share * 304, 142 - (score - low) / (high - low) * 132)
        for share, score in zip(curve.shares, curve.scores, strict=True)
    ][1:-1]
    assert all(page.evaluate(DRAWN, [at, points]))
    assert not all(page.evaluate(DRAWN, [at, [(x, y - 9 if y > 70 else y + 9) for x, y in points]]))


def shown_by(page: Any, method: str) -> torch.Tensor:
    """The map that a click on the method lays over the picture."""
    page.locator(f"tr[data-method={method}] button").click()
    page.wait_for_function("method => convscope.store.get('evidence')?.method === method", arg=method)
    return torch.tensor(page.evaluate("() => [...convscope.store.get('evidence').values]"))


def numbers_of(page: Any, selector: str) -> list[float]:
    return [float(each) for each in page.locator(f"{selector} .num").evaluate_all("a => a.map((n) => n.dataset.exact)")]


def bench_is_python_s(page: Any, session: Session, target: Target) -> dict[str, torch.Tensor]:
    """Of every method the map, both curves and how alike it stays with random weights, as Python has them; what this
    model does not allow is refused in the same words. The maps as shown."""
    page.locator("#bench-all").click()
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden", timeout=150_000)  # of a detector
    rows = page.locator("#bench-table tbody tr")
    assert rows.evaluate_all("all => all.map((each) => each.dataset.method)") == METHODS.names()
    x, found = session.snapshot.question.x, {}
    for method in METHODS.names():
        options: dict[str, Any] = {"baseline": session.desk.x(session.desk.blank())} if method == "occlusion" else {}
        try:
            expected = attribute(session.model, x, target, method, **options)
        except ArgumentError as error:
            page.locator(f"tr[data-method={method}] button").click()
            told = page.wait_for_selector("#bench-failed").inner_text()
            if told != str(error):
                raise AssertionError(told) from error
            continue
        wanted = expected[0].sum(0)
        found[method] = shown_by(page, method).reshape(wanted.shape)
        scale = float(wanted.abs().max())
        assert scale > 0
        torch.testing.assert_close(found[method], wanted, rtol=0, atol=1e-4 * scale)
        checks = honesty(session.model, x, target, method, found=expected, **options)
        areas = [checks.deletion.area, checks.by_chance[0], checks.insertion.area, checks.by_chance[1]]
        row = f"tr[data-method={method}]"
        agreements = [each.agreement for each in checks.randomised]
        assert numbers_of(page, row) == pytest.approx([*areas, agreements[-1]], rel=1e-3, abs=1e-3)
        assert numbers_of(page, "#bench-random") == pytest.approx(agreements, abs=1e-3)
        is_drawn(page, 0, checks.deletion)
        is_drawn(page, 1, checks.insertion)
        assert page.locator(f"{row} .warned").count() == (not METHODS[method].honest)
        if METHODS[method].adds_up:
            assert numbers_of(page, "#bench-gap") == pytest.approx([checks.gap], rel=1e-3, abs=1e-5)
    return found


def adds_up(page: Any, found: dict[str, torch.Tensor], rise: float) -> None:
    """What integrated gradients share out is the score's rise from the empty picture, within 1 %, and the page says by
    how much it is not."""
    shown_by(page, "integrated_gradients")
    gap = (float(found["integrated_gradients"].double().sum()) - rise) / abs(rise)
    assert abs(gap) < 0.01
    assert exact(page, "#bench-gap .num") == pytest.approx(gap, abs=1e-4)


def test_the_bench_shows_every_method_with_its_checks(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    x, said = session.snapshot.question.x, session.snapshot.predicted
    assert said is not None
    open_tab(page, "bench")
    found = bench_is_python_s(page, session, said)
    assert set(METHODS) - set(found) == {"class_activation_map"}  # the network does not end in the mean of its maps
    score = copy.deepcopy(session.model).double()
    with torch.no_grad():
        adds_up(page, found, float(score(x.double())[0, said] - score(torch.zeros_like(x).double())[0, said]))
        blank = session.desk.x(session.desk.blank())
        total, covered = torch.zeros(28, 28, dtype=torch.float64), torch.zeros(28, 28)
        for top, left in itertools.product(range(0, 25, 2), repeat=2):
            there = (..., slice(top, top + 4), slice(left, left + 4))
            changed = x.clone()
            changed[there] = blank[there]
            total[there] += score(x.double())[0, said] - score(changed.double())[0, said]
            covered[there] += 1
    wanted = (total / covered).float()
    torch.testing.assert_close(found["occlusion"], wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.long
@pytest.mark.parametrize("unit", [[2, 3, 4], None])
def test_the_bench_explains_a_unit_and_a_map(visit: Callable[..., Any], lenet: Handle, unit: list[int] | None) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    select(page, "c3", 2, unit, "bench")
    assert ("unit (2, 3, 4) of c3" if unit else "map 2 of c3") in page.locator("#bench-about").inner_text()
    place = Place("c3", *(unit or [2]))
    found = bench_is_python_s(page, session, place)
    x = session.snapshot.question.x
    now, before = (place.of(outputs_of(session.network.graph, each)["c3"]) for each in (x, torch.zeros_like(x)))
    adds_up(page, found, float(now - before))


@pytest.mark.parametrize("unit", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_bench_of_a_network_that_ends_in_means(visit: Callable[..., Any], unit: bool) -> None:
    """Class activation maps too; of the class, and of what the last layer answers for another one."""
    torch.manual_seed(4)
    with explore(MODELS["global_pool"](), port=0) as handle:
        page, session = visit(handle), session_of(handle)
        said = session.snapshot.predicted
        assert said is not None
        other = (said + 1) % 3
        if unit:
            select(page, "4", other, [other], "bench")
        else:
            open_tab(page, "bench")
        assert set(bench_is_python_s(page, session, Place("4", other) if unit else said)) == set(METHODS)


def test_the_planted_square_wins(visit: Callable[..., Any]) -> None:
    """A class that looks for brightness, and one bright square in a dark picture: every mark on the page is strongest
    there. (A deconvnet without poolings does not look at the picture.)"""
    layers = [nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(1, 2)).eval()
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1 / 9)
        model.get_parameter("4.weight").copy_(torch.tensor([[0.0], [5.0]]))
        model.get_parameter("4.bias").zero_()
    attach(model, ModelSpec("graph", {}, (1, 16, 16), ("dark", "bright"), Preprocessing(1, (16, 16), (0.0,), (1.0,))))
    with explore(model, port=0) as handle:
        page = visit(handle)
        square = "new Uint8Array(256).map((_, at) => 255 * (at >> 4 > 8 && at >> 4 < 13 && at % 16 > 1 && at % 16 < 6))"
        page.evaluate(f"() => convscope.frames.change('show_pixels', {{ kind: 'drawn' }}, {square}, 'pixels')")
        open_tab(page, "bench")
        assert "bright" in page.locator("#bench-about").inner_text()
        page.locator("#bench-maps").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        for method in METHODS.names():
            found = shown_by(page, method).reshape(16, 16)
            if method == "deconvnet":
                continue
            row, column = divmod(int(found.argmax()), 16)
            assert 8 <= row < 14, method
            assert 1 <= column < 7, method


def test_the_bench_of_a_network_that_answers_with_maps(visit: Callable[..., Any]) -> None:
    """There is no class to speak for, but every unit."""
    with explore(MODELS["detector"](), port=0) as handle:
        page, session = visit(handle), session_of(handle)
        open_tab(page, "bench")
        assert page.locator("#bench-table").count() == 0
        select(page, "boxes", 3, [3, 1, 2], "bench")
        expected = attribute(session.model, session.snapshot.question.x, Place("boxes", 3, 1, 2), "gradient")[0].sum(0)
        torch.testing.assert_close(shown_by(page, "gradient"), expected.flatten(), rtol=1e-4, atol=1e-6)


def test_the_last_choice_is_the_one_that_is_shown(visit: Callable[..., Any], lenet: Handle) -> None:
    """While what an earlier choice, or all methods, still asks for is under way."""
    page = visit(lenet)
    click = """async (buttons) => {
      for (const button of buttons) {
        document.querySelector(button).click();
        for (let turn = 0; turn < 9; turn++) await null; // it has begun, and nothing of it has come
        if (document.querySelector('#detail .running').hidden) return false;
      }
      return true;
    }"""
    one, other, third = (f"tr[data-method={name}] button" for name in ("occlusion", "gradient", "smooth_grad"))
    for tab, buttons in (("bench", [one, other]), ("forward", []), ("bench", ["#bench-all", one, third])):
        open_tab(page, tab)
        if not buttons:
            page.evaluate("() => convscope.frames.change('poke', { channel: 0, row: 5, column: 5, value: 200 })")
            continue
        assert page.evaluate(click, buttons)
        method = buttons[-1].split("=")[1].split("]")[0]
        page.wait_for_function("method => convscope.store.get('evidence')?.method === method", arg=method)
        page.wait_for_selector("#bench-random")
        assert page.locator(f"tr[data-method={method}] button").get_attribute("aria-pressed") == "true"
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        assert page.evaluate("() => convscope.store.get('evidence').method") == method


def test_what_a_map_likes(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    select(page, "c3", 5, tab="likes")
    page.locator("#find-patches").click()
    page.wait_for_selector("#patches button >> nth=8")
    assert session.desk.data is not None
    expected = top_examples(session.model, session.desk.data, "c3", 5, 9)
    found = page.locator("#patches button").evaluate_all(
        "all => all.map((each) => [each.dataset.index, each.dataset.box])"
    )
    assert [(int(index), json.loads(box)) for index, box in found] == [
        (each.index, [list(side) for side in each.box]) for each in expected
    ]
    page.locator("#grow").click()
    page.wait_for_selector("#grown-to")
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    assert session.growing is not None
    history = session.growing.history
    assert len(history) == 129
    assert exact(page, "#grown-to .num") == pytest.approx(history[-1])
    assert history[-1] >= 10 * abs(history[0])
    page.locator("#patches button >> nth=0").click()
    page.wait_for_function("(index) => convscope.store.get('frame')?.source?.index === index", arg=expected[0].index)


def test_the_planted_winner_is_first_with_the_right_crop(visit: Callable[..., Any]) -> None:
    """Of pictures of faint noise two have the edge that map 1 likes: the stronger one first, cut to what the unit saw;
    what the map would like best grows tenfold, as the page says it."""
    data, images = planted()
    with explore(edge_detector(), data, port=0) as handle:
        page = visit(handle)
        select(page, "1", 1, tab="likes")
        page.locator("#find-patches").click()
        page.wait_for_selector("#patches button >> nth=8")
        found = page.locator("#patches button").evaluate_all(
            """all => all.map((each) => {
              const canvas = each.querySelector('canvas');
              const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              const pixels = [...data].filter((_, at) => at % 4 === 0);
              return [each.dataset.index, each.dataset.box, pixels, each.querySelector('.num').dataset.exact];
            })"""
        )
        assert [int(each[0]) for each in found[:2]] == [5, 2]
        for (_, box, pixels, _), rows, columns in zip(found, ((5, 8), (11, 14)), ((8, 11), (3, 6)), strict=False):
            assert json.loads(box) == [list(rows), list(columns)]
            assert pixels == images[5 if rows == (5, 8) else 2, 0, slice(*rows), slice(*columns)].flatten().tolist()
        values = [float(each[3]) for each in found]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[1] > 2 * values[2]
        page.locator("#grow").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        before, after = numbers_of(page, "#grown dl")
        assert after >= 10 * abs(before) > 0


def test_a_long_climb_is_ended_and_gives_way(visit: Callable[..., Any]) -> None:
    """A wide network takes long for it: the page ends it, and what is asked meanwhile goes before it. A search for what
    a map likes is ended alike."""
    torch.manual_seed(0)
    widths = (3, 48, 48, 48, 48)
    layers = [nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 3)).eval()
    pictures = torch.randint(0, 256, (512, 3, 96, 96), dtype=torch.uint8)
    part = Labelled(pictures, torch.zeros(512, dtype=torch.int64), ("a", "b", "c"))
    with explore(model, Dataset("noise", part, part), port=0, input_shape=(3, 96, 96)) as handle:
        page = visit(handle)
        select(page, "3", 5, tab="likes")
        page.locator("#find-patches").click()
        page.locator("#detail [data-cancel]").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        assert page.locator("#patches button").count() == 0
        page.locator("#grow").click()
        page.wait_for_function(
            """() => {
              const steps = document.querySelector('#grown dd:last-child')?.textContent;
              if (steps) (window.seen ??= new Set()).add(steps); // it is shown as it grows
              return window.seen?.size > 2 && !document.querySelector('#detail .running')?.hidden;
            }"""
        )
        page.locator("#detail [data-cancel]").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        growing = session_of(handle).growing
        assert growing is not None
        assert 0 < len(growing.history) < 129
        page.locator("#grow").click()
        page.wait_for_selector("#detail [data-cancel]:visible")
        blank = "{ kind: 'blank' }, new Uint8Array(3 * 96 * 96)"
        page.evaluate(f"() => convscope.frames.change('show_pixels', {blank}, 'pixels')")
        assert page.evaluate("() => convscope.store.get('frame').source.kind") == "blank"
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_new_tabs_by_keys_without_clipping(
    visit: Callable[..., Any], lenet: Handle, lang: str, size: tuple[int, int]
) -> None:
    page = visit(lenet, lang=lang, size=size)
    select(page, "c3", 2)
    page.locator("#board").focus()
    for key, tab in (("a", "bench"), ("l", "likes"), ("w", "surgery"), ("h", "health")):
        page.keyboard.press(key)
        page.wait_for_selector(f"body[data-shown*='/{tab}/']")
        beyond = (
            "(all) => all.filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"
        )
        assert page.locator("#detail *").evaluate_all(beyond) == []


def test_what_runs_is_shown_in_a_panel_drawn_anew(visit: Callable[..., Any], lenet: Handle) -> None:
    """The panel is drawn again while the jobs run (as another language or a newer frame makes it): nothing is lost."""
    page = visit(lenet)
    again = "async (button) => { document.querySelector(button).click(); await convscope.ondetail(); }"
    select(page, "c3", 5, tab="likes")
    for button, found in (("#grow", "#grown canvas"), ("#find-patches", "#patches button >> nth=8")):
        page.evaluate(again, button)
        page.wait_for_selector(found)
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    open_tab(page, "bench")
    page.evaluate(again, "tr[data-method=gradient] button")
    page.wait_for_selector("#bench-random")
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    open_tab(page, "health")
    page.evaluate(again, "#examine")
    page.wait_for_selector("#health-table")
