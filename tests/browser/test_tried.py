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
    true = guided(session.model, session.snapshot.question.x, 5, "s2")
    plain = session.snapshot.deltas("plain")["s2"]
    at = torch.nonzero((true[0] - plain[0]).abs() > 1e-3 * true.abs().max())[0].tolist()
    size = true.shape[2]
    place = page.evaluate(
        """([map, row, column, size]) => {
          const box = convscope.camera.boxOf('s2');
          const across = map % box.columns, down = Math.floor(map / box.columns);
          const left = box.x - convscope.camera.x + across * (box.tileWidth + box.gap);
          return [left + box.tileWidth * (column + 0.5) / size,
                  box.y + down * (box.tileHeight + box.gap) + box.tileHeight * (row + 0.5) / size];
        }""",
        [*at, size],
    )
    board = page.locator("#board").bounding_box()
    page.mouse.move(board["x"] + place[0], board["y"] + place[1])
    page.wait_for_selector("#tip[data-exact]")
    settle(page)
    assert exact(page, "#tip") == pytest.approx(float(true[(0, *at)]), rel=1e-3, abs=1e-8)


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


def test_closing_the_tour_shows_the_panel_s_top(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(1280, 720), tour=True)
    page.wait_for_selector("#tour")
    for _ in range(4):
        settle(page, 300)
        page.keyboard.press("Enter")
    settle(page, 400)
    page.keyboard.press("Escape")
    page.wait_for_selector("#tour", state="detached")
    assert page.evaluate("() => document.querySelector('#detail').scrollTop") == 0
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
