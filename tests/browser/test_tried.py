"""What a new user met: the rule under the pointer, keys after going back, the panel after the tour, two windows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, settle
from torch import nn

from convscope.data import Dataset
from convscope.explorer import Handle, explore
from convscope.explorer.session import Session


def positive(module: nn.Module, grads: Any, above: Any) -> Any:
    """What a guided ReLU passes back of what went through it."""
    return (grads[0].clamp_min(0),)


def guided(model: nn.Module, x: torch.Tensor, target: int, of: str) -> torch.Tensor:
    """∂J/∂y of a layer in float64, each ReLU on the way passing back only what is positive and went through it."""
    model = copy.deepcopy(model).double()
    kept: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            module.register_full_backward_hook(positive)
        if name == of:
            module.register_forward_hook(lambda _, __, y: kept.setdefault("y", y.requires_grad_() if y.is_leaf else y))
    y = model(x.double().requires_grad_())
    loss = nn.functional.cross_entropy(y, torch.tensor([target]))
    (found,) = torch.autograd.grad(loss, kept["y"])
    return found


def test_the_pointer_says_the_rule_s_delta(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=5")
    assert isinstance(lenet.session, Session)
    session = lenet.session
    page.evaluate("() => convscope.store.set({ show: 'delta', rule: 'guided' })")
    page.wait_for_function("() => convscope.store.get('frame')?.output_delta")
    settle(page, 400)
    x = session.snapshot.question.x
    true = guided(session.model, x, 5, "s2")
    plain = session.snapshot.deltas("plain")["s2"]
    assert hovered(page, "s2", at := differing(true, plain)) == pytest.approx(float(true[(0, *at)]), rel=1e-3, abs=1e-8)
    first = session.model.get_submodule("c1")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(first.padding, tuple)
    delta, weight = guided(session.model, x, 5, "c1"), first.weight.detach().double()
    sent = nn.functional.conv_transpose2d(delta, weight, padding=first.padding)  # of stride 1
    assert session.snapshot.grad_x is not None
    at = differing(sent, session.snapshot.grad_x)
    assert hovered(page, "input", at) == pytest.approx(float(sent[(0, *at)]), rel=1e-3, abs=1e-8)
    assert page.locator("#heads button[data-layer=input] b").inner_text() == "δ · guided"
    page.evaluate("([_, row, column]) => convscope.store.set({ pixel: [row, column], tab: 'field' })", at)
    page.wait_for_selector("#pixel-delta-0")
    rows = page.locator("#pixel-delta-0 [data-exact]").evaluate_all("(all) => all.map((each) => each.dataset.exact)")
    assert [float(rows[0]), float(rows[-1])] == pytest.approx([float(sent[(0, *at)])] * 2, rel=1e-3, abs=1e-8)


def differing(one: torch.Tensor, other: torch.Tensor) -> list[int]:
    """A place where the two differ."""
    found: list[int] = torch.nonzero((one[0] - other[0]).abs() > 1e-3 * one.abs().max())[0].tolist()
    return found


def hovered(page: Any, layer: str, at: list[int]) -> float:
    """What the pointer says of a place of the overview."""
    place = page.evaluate(
        """([layer, map, row, column]) => {
          const box = convscope.camera.boxOf(layer);
          const [rows, columns] = convscope.model.sizeOf(layer);
          const tiles = box.kind === 'tiles' ? box
            : { columns: 1, tileWidth: box.width, tileHeight: box.height, gap: 0 };
          const across = map % tiles.columns, down = Math.floor(map / tiles.columns);
          const left = box.x - convscope.camera.x + across * (tiles.tileWidth + tiles.gap);
          return [left + tiles.tileWidth * (column + 0.5) / columns,
                  box.y + down * (tiles.tileHeight + tiles.gap) + tiles.tileHeight * (row + 0.5) / rows];
        }""",
        [layer, *at],
    )
    board = page.locator("#board").bounding_box()
    page.mouse.move(board["x"] + place[0], board["y"] + place[1])
    page.wait_for_selector("#tip[data-exact]")
    settle(page)
    return exact(page, "#tip")


def test_every_picture_of_a_delta_taken_apart_is_drawn(visit: Callable[..., Any], lenet: Handle) -> None:
    """Of an activation ∂J/∂y and δ, which are of one map."""
    page = visit(lenet, "#/c1_activation/2/2,9,9?tab=backward&target=5")
    page.wait_for_selector("body[data-shown$='/backward/c1_activation/2/2,9,9']")
    drawn = page.evaluate(
        """() => convscope.hits.map(({ panel, x, y }) => [panel.role,
          [...convscope.stage.scene.pictures.values()].some((each) => each.x === x && each.y === y)])"""
    )
    assert {role for role, _ in drawn} >= {"source", "out", "activation"}
    assert all(there for _, there in drawn), drawn


def test_a_sure_network_s_default_page_has_a_loss(
    visit: Callable[..., Any], trained: nn.Module, digits: Dataset
) -> None:
    """Its logits fourfold: p rounds to 1 in float32, and J and p − t are still float64's own."""
    model = copy.deepcopy(trained)
    with torch.no_grad():
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.weight.mul_(4)
        last.bias.mul_(4)
    with explore(model, digits, port=0) as handle:
        page = visit(handle)
        session = handle.session
        assert isinstance(session, Session)
        logits = session.snapshot.logits.detach().double().reshape(1, -1)
        target = torch.tensor([session.snapshot.question.target])
        loss = float(nn.functional.cross_entropy(logits, target))
        assert exact(page, "#verdict .loss .num") == pytest.approx(loss, rel=1e-6)
        assert loss > 0


def test_arrows_go_on_after_going_back_twice(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/c3/5/5,3,7")
    page.wait_for_selector("body[data-shown$='/c3/5/5,3,7']")
    page.locator("#board").focus()
    page.keyboard.press("Escape")
    page.wait_for_function("() => convscope.store.get('unit') === null")
    page.keyboard.press("Escape")
    page.wait_for_function("() => convscope.store.get('layer') === null && document.activeElement?.dataset.layer")
    before = page.evaluate("() => document.activeElement.dataset.layer")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.layer") != before


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (390, 844)])
def test_closing_the_tour_shows_the_panel_s_top(
    visit: Callable[..., Any], lenet: Handle, size: tuple[int, int]
) -> None:
    page = visit(lenet, size=size, tour=True)
    page.wait_for_selector("#tour")
    for _ in range(4):
        settle(page, 300)
        page.keyboard.press("Enter")
    settle(page, 400)
    page.keyboard.press("Escape")
    page.wait_for_selector("#tour", state="detached")
    assert page.evaluate("() => document.querySelector('#detail').scrollTop") == 0
    assert page.evaluate("() => document.querySelector('#input-side').scrollTop") == 0
    assert page.evaluate("() => document.scrollingElement.scrollTop") == 0


def test_two_windows_never_mix_their_pictures(visit: Callable[..., Any], lenet: Handle) -> None:
    """What is asked about a picture that the other window has replaced is dropped, and said; nothing is done to it."""
    session = lenet.session
    assert isinstance(session, Session)
    page, other = visit(lenet, "#/c3/5/5,3,7?item=test:1"), visit(lenet)
    page.wait_for_selector("body[data-shown$='/forward/c3/5/5,3,7']")
    shown = (
        "() => [convscope.store.get('frame').version, convscope.selection.elastic.version, "
        "Number(document.querySelector('#result .num').dataset.exact)]"
    )
    before = page.evaluate(shown)
    other.evaluate("() => convscope.frames.change('show_data', { split: 'test', index: 2 })")
    other.wait_for_function("() => convscope.store.get('frame')?.source?.index === 2")
    assert page.evaluate(shown) == before
    dropped = "(op) => convscope.connection.ask(op[0], op[1]).then(() => 'answered', (error) => error.kind)"
    asked = [("explain", {"layer": "c3", "index": [5, 3, 6]}), ("step", {}), ("poke", {"row": 1, "column": 1})]
    page.evaluate("() => { convscope.following = true; }")  # as long as the new picture is on its way
    assert [page.evaluate(dropped, each) for each in asked] == ["superseded"] * 3
    assert (session.stepper.steps, session.picture.source["index"], page.evaluate(shown)) == (0, 2, before)
    status = "(at) => fetch(`/input.npy?version=${at}`).then((answer) => answer.status)"
    assert [page.evaluate(status, at) for at in (before[0], session.snapshot.version)] == [409, 200]
    page.problems.clear()  # the browser itself tells of the answer 409
    page.evaluate("() => { convscope.following = false; }")
    page.evaluate("() => { window.dispatchEvent(new Event('focus')); }")
    page.wait_for_selector("#notice:has-text('Another window has changed')")
    page.wait_for_selector(f"body[data-shown='{session.snapshot.version}/forward/c3/5/5,3,7']")
    true = float(session.snapshot.layers["c3"].y[0, 5, 3, 7])
    assert page.evaluate(shown) == [session.snapshot.version, session.snapshot.version, pytest.approx(true)]
    other.evaluate("() => convscope.frames.change('show_data', { split: 'test', index: 3 })")
    page.evaluate("() => { document.querySelector('#notice').hidden = true; }")
    page.locator("#target").select_option("9")  # of the picture before: it is not asked of the new one
    page.wait_for_selector("#notice:has-text('Another window has changed')")
    page.wait_for_selector(f"body[data-shown='{session.snapshot.version}/forward/c3/5/5,3,7']")
    assert not session.target_chosen
    assert page.locator("#target").input_value() == ""


def test_a_question_right_after_a_change_waits_for_its_picture(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = lenet.session
    assert isinstance(session, Session)
    found = page.evaluate(
        """async () => {
          const before = convscope.store.get('frame').version;
          const change = convscope.frames.change('show_data', { split: 'test', index: 2 });
          const asked = convscope.connection.ask('evidence', { method: 'gradient' });
          await change;
          return [before, (await asked).version, convscope.store.get('frame').version];
        }"""
    )
    assert found[0] < found[1] == found[2] == session.snapshot.version
    assert not page.locator("#notice").is_visible()


def test_nothing_is_told_of_what_is_no_longer_under_the_pointer(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(1024, 768))
    tip = "() => document.querySelector('#tip').hidden"
    hovered(page, "c1", [1, 9, 9])
    assert not page.evaluate(tip)
    page.evaluate("() => convscope.camera.zoomTo(2)")
    assert page.evaluate(tip)
    page.evaluate("() => convscope.camera.zoomTo(1)")
    hovered(page, "c1", [1, 9, 9])
    page.evaluate("() => convscope.selection.select('c3', 5)")
    page.wait_for_selector("body[data-shown$='/forward/c3/5/']")
    assert page.evaluate(tip)


def test_a_column_s_limit_is_written_once_below_it(visit: Callable[..., Any]) -> None:
    """Also where what the other inputs add stands under the partial sums."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.Conv2d(12, 4, 3), nn.Flatten(), nn.Linear(4 * 8 * 8, 3))
    with explore(model.eval(), port=0, input_shape=(1, 12, 12)) as handle:
        page = visit(handle, "#/1/2", size=(1280, 720))
        page.wait_for_selector("body[data-shown$='/forward/1/2/']")
        drawing = page.evaluate("async () => (await import('/js/views/share.js')).svg(convscope)")
        assert {"source", "kernel", "partial", "rest", "out"} == set(
            page.evaluate("() => convscope.hits.map((hit) => hit.panel.role)")
        )
        assert drawing.count("±") == 4


GATES = """() => { const { connection } = convscope; const ask = connection.ask.bind(connection);
  window.gates = {}; window.answered = [];
  for (const op of ['explain', 'elastic']) gates[op] = Promise.resolve();
  connection.ask = async (op, ...rest) => {
    const answer = await ask(op, ...rest);
    await gates[op];
    answered.push(op);
    return answer;
  }; }"""


def test_a_unit_s_name_stands_over_its_own_numbers(visit: Callable[..., Any], lenet: Handle) -> None:
    """Where the numbers of the unit before come after another was chosen, whose map is still on its way."""
    page = visit(lenet, "#/c3/5/5,3,7")
    page.wait_for_selector("body[data-shown$='/forward/c3/5/5,3,7']")
    page.evaluate(GATES)
    close = "(op) => { window.open = window.open ?? {}; gates[op] = new Promise((go) => { window.open[op] = go; }); }"
    page.evaluate(close, "explain")
    page.evaluate("() => { convscope.selection.select('c3', 5, [5, 3, 8]); }")
    page.wait_for_function("() => answered.length === 1")  # its map; its numbers wait
    page.evaluate(close, "elastic")
    page.evaluate("() => { convscope.selection.select('c1', 2, [2, 4, 4]); }")
    page.evaluate("() => { window.open.explain(); }")
    page.wait_for_function("() => answered.length === 2")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator("#detail h2").first.inner_text().startswith("c3")
    page.evaluate("() => { window.open.elastic(); }")
    page.wait_for_selector("body[data-shown$='/forward/c1/2/2,4,4']")
    assert isinstance(lenet.session, Session)
    true = float(lenet.session.snapshot.layers["c1"].y[0, 2, 4, 4])
    assert exact(page, "#result .num") == pytest.approx(true)
