"""Feature 9: learning from the user's own data, its steps those of torch, what is shown the model's at that step."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact
from torch import nn

from convscope.data import prepare
from convscope.explorer import Handle
from convscope.explorer.session import Session
from convscope.models.modelfile import load

STEP = "#live-now"
pytestmark = pytest.mark.long


def opened(visit: Callable[..., Any], handle: Handle, tab: str = "training", lang: str = "en") -> tuple[Any, Session]:
    session = handle.session
    assert isinstance(session, Session)
    page = visit(handle, lang=lang)
    page.evaluate("tab => convscope.store.set({ tab })", tab)
    return page, session


def same_answers(page: Any, session: Session) -> None:
    """The page shows the model as it is."""
    shown = torch.tensor(page.evaluate("() => convscope.store.get('frame').logits"))
    with torch.no_grad():
        expected = session.model(session.desk.x(session.picture))[0]
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-4)


def test_three_steps_are_those_of_torch(visit: Callable[..., Any], lenet: Handle) -> None:
    page, session = opened(visit, lenet)
    twin = copy.deepcopy(session.model).train()
    start = copy.deepcopy(session.model.state_dict())
    data = session.desk.data
    assert data is not None
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05)
    page.wait_for_selector("#learning")
    for turn in range(3):
        page.locator("#live-one").click()
        page.wait_for_selector(f"{STEP}:has-text('step {turn + 1} ')")
        rows = torch.tensor(session.learner.progress.items)
        x = session.desk.preprocessing.normalise(prepare(data.train.images[rows], session.desk.preprocessing))
        loss = nn.functional.cross_entropy(twin(x), data.train.labels[rows].long())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        assert exact(page, f"{STEP} .num") == pytest.approx(float(loss.detach()), rel=1e-5)
        for mine, theirs in zip(session.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        same_answers(page, session)
    assert page.locator("#live-mixed .num").count() > 0
    page.locator("#sgd-rewind").click()
    page.wait_for_selector("#sgd-steps:has-text('0 steps')")
    assert all(torch.equal(each, start[name]) for name, each in session.model.state_dict().items())


def test_it_runs_pauses_and_is_saved(visit: Callable[..., Any], lenet: Handle, tmp_path: Any) -> None:
    """Real clicks while it runs; a reload finds it running; after a pause page, model and file are of one step."""
    page, session = opened(visit, lenet)
    page.locator("#live-run").click()
    page.wait_for_selector("#live-run:has-text('Pause')")
    page.wait_for_function("() => Number(document.querySelector('#live-now')?.textContent.match(/[0-9]+/)?.[0]) > 12")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#live-run:has-text('Pause')")
    page.locator("#sgd-rate").fill("0.01")
    page.locator("#sgd-rate").press("Tab")
    page.locator("#live-run").click()
    page.wait_for_selector("#live-run:has-text('Start')")
    page.wait_for_selector("#sgd-step")
    stopped = session.stepper.steps
    assert stopped == session.learner.progress.steps > 12
    assert session.stepper.settings.rate == 0.01
    page.wait_for_selector(f"{STEP}:has-text('step {stopped} ')")
    same_answers(page, session)
    with page.expect_download() as download:
        page.locator("#live-save").click()
    path = tmp_path / "model.safetensors"
    download.value.save_as(path)
    for mine, theirs in zip(session.model.parameters(), load(path).parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_another_tab_of_numbers_goes_along_and_a_step_ends_it(visit: Callable[..., Any], lenet: Handle) -> None:
    """The sum behind a unit is of the newest weights while these change; the step on one picture ends the learning."""
    page, session = opened(visit, lenet)
    page.locator("#live-run").click()
    page.wait_for_selector("#live-run:has-text('Pause')")
    page.evaluate("() => convscope.store.set({ tab: 'forward', layer: 'c1', map: 0, unit: [0, 3, 7] })")
    page.wait_for_function(
        """() => {
          const shown = document.querySelector('tr.equals .num')?.dataset.exact;
          if (shown) (window.seen ??= new Set()).add(shown);
          return window.seen?.size > 2;
        }"""
    )
    page.evaluate("() => convscope.connection.ask('step')")
    page.wait_for_function("async () => (await convscope.connection.ask('learning')).learning.state === 'idle'")
    assert session.stepper.steps == session.learner.progress.steps + 1


NUMBERS = "() => [...document.querySelectorAll('#detail .num, #verdict .num')].map((each) => each.dataset.exact)"


@pytest.mark.parametrize(
    ("lang", "told", "step"), [("en", "The server has stopped", "step"), ("zh", "服务器已停止", "步")]
)
def test_a_server_that_stops_while_it_learns_is_said(
    visit: Callable[..., Any], lenet: Handle, lang: str, told: str, step: str
) -> None:
    """In the page's language, and in the other one when that is chosen; the numbers stay those of the last step that
    was told, of one and the same step, while the page looks for its server and whatever is pressed."""
    page, session = opened(visit, lenet, lang=lang)
    losses: dict[int, float | None] = {}
    made = session.make_snapshot

    def make_snapshot(*given: Any, **options: Any) -> Any:
        snapshot = made(*given, **options)
        losses[session.learner.progress.steps] = snapshot.loss
        return snapshot

    session.make_snapshot = make_snapshot  # type: ignore[method-assign]
    page.locator("#live-run").click()
    page.wait_for_function("() => Number(document.querySelector('#live-now')?.textContent.match(/[0-9]+/)?.[0]) > 12")
    lenet.close()
    page.wait_for_selector(f"#notice:has-text('{told}')")
    shown = page.evaluate(NUMBERS)
    number = int(re.search(r"\d+", page.locator(STEP).inner_text())[0])  # type: ignore[index]
    assert step in page.locator(STEP).inner_text()
    progress = session.learner.progress
    loss, right = (float(each.get_attribute("data-exact")) for each in page.locator(f"{STEP} .num").all())
    assert loss == pytest.approx(progress.losses[number - 1 - progress.steps])
    assert 0 <= right <= 1
    assert exact(page, "#verdict .loss .num") == pytest.approx(losses[number], rel=1e-6)
    for button in ("#live-run", "#live-run", "#next"):
        with page.expect_event("websocket"):  # the page tries to find its server again
            page.locator(button).click()
    assert page.evaluate(NUMBERS) == shown
    assert page.locator("#notice").is_visible()
    page.locator("#language-button").click()
    other = "服务器已停止" if lang == "en" else "The server has stopped"
    page.wait_for_selector(f"#notice:has-text('{other}')")
    assert page.evaluate(NUMBERS) == shown
    page.problems[:] = [each for each in page.problems if "ERR_CONNECTION_REFUSED" not in each]


PACED = """async ([looks, long, asleep]) => {
  const { Pace } = await import('/js/views/pace.js');
  const pace = new Pace(0);
  let now = 0;
  let server = 0;
  for (let at = 0; at < 500; at++) {
    const began = now;
    const [spent, took] = at === 250 && asleep ? [asleep, looks[1]] : long && at % 5 === 0 ? long : looks;
    now += spent;
    server += took;
    now += pace.rest(began, now, took) + 3; // every timer is late
  }
  return { rate: 500_000 / now, share: server / now };
}"""


def test_the_clock_of_the_looks(visit: Callable[..., Any], lenet: Handle) -> None:
    """At least twenty times a second, whatever one look or a timer takes; and a server that takes long for a look is
    asked more seldom: a tenth of its time, half of all."""
    page = visit(lenet)
    for looks, long in (([14, 2], None), ([10, 2], [40, 9]), ([5, 4], None)):
        assert 20 <= page.evaluate(PACED, [looks, long])["rate"] < 21
    assert page.evaluate(PACED, [[14, 2], None, 1000])["rate"] > 19  # a second's sleep, and no more
    slow = page.evaluate(PACED, [[30, 20], None])
    assert slow["rate"] < 5.1
    assert slow["share"] < 0.101
    assert page.evaluate(PACED, [[100, 1], None])["rate"] < 5.1


STUBBED = """() => {
  window.looks = 0;
  const nothing = { epoch: 0, first: 0, losses: [], right: null, items: [], mixed: [], recent: 0, total: 0 };
  const learning = { ...nothing, run: 99, state: 'running', brief: true };
  convscope.connection.ask = async (op) => {
    if (op === 'look') looks++;
    return { learning: { ...learning, steps: looks }, took: 2, training: {} };
  };
}"""


def test_the_page_looks_by_that_clock(visit: Callable[..., Any], lenet: Handle) -> None:
    """By a clock that the test turns: how loaded the machine is changes nothing."""
    page, _ = opened(visit, lenet)
    page.wait_for_selector("#live-run")
    page.evaluate(STUBBED)
    page.clock.install()
    page.evaluate("() => void document.querySelector('#live-run').click()")
    page.clock.run_for(500)
    before = page.evaluate("() => looks")
    page.clock.run_for(5000)
    assert 100 <= page.evaluate("() => looks") - before < 106


def test_no_name_is_given_twice(visit: Callable[..., Any], lenet: Handle) -> None:
    """An element is found by its id: a second of the same would be written over in its place."""
    page, _ = opened(visit, lenet)
    for tab in page.evaluate("async () => (await import('/js/views/detail.js')).tabsOf(convscope)"):
        page.evaluate("tab => convscope.store.set({ tab })", tab)
        page.wait_for_function("tab => document.body.dataset.shown?.includes(`/${tab}/`)", arg=tab)
        ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(each => each.id)")
        assert len(ids) == len(set(ids)), tab
