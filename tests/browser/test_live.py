"""Feature 9: learning from the user's own data, its steps those of torch, what is shown the model's at that step."""

from __future__ import annotations

import copy
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


def test_learning_from_the_data_step_by_step(visit: Callable[..., Any], lenet: Handle, tmp_path: Any) -> None:
    """Three steps are torch.optim.SGD's on the same pictures; then it runs, pauses, is saved and rewound."""
    session = lenet.session
    assert isinstance(session, Session)
    twin = copy.deepcopy(session.model).train()
    start = copy.deepcopy(session.model.state_dict())
    data = session.desk.data
    assert data is not None
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05)
    page = visit(lenet)
    page.evaluate("() => convscope.store.set({ tab: 'training' })")
    page.wait_for_selector("#live")
    for turn in range(3):
        page.locator("#live-one").click()
        page.wait_for_selector(f"#live p:has-text('step {turn + 1} ')")
        rows = torch.tensor(session.learner.items)
        x = session.desk.preprocessing.normalise(prepare(data.train.images[rows], session.desk.preprocessing))
        loss = nn.functional.cross_entropy(twin(x), data.train.labels[rows].long())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        assert exact(page, "#live p .num") == pytest.approx(float(loss.detach()), rel=1e-5)
        for mine, theirs in zip(session.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        shown = torch.tensor(page.evaluate("() => convscope.store.get('frame').logits"))
        with torch.no_grad():
            torch.testing.assert_close(shown, twin.eval()(session.snapshot.question.x)[0], rtol=1e-4, atol=1e-4)
        twin.train()
    page.locator("#live-run").click()
    page.wait_for_function("() => Number(document.querySelector('#sgd-steps')?.textContent.match(/[0-9]+/)?.[0]) > 12")
    page.locator("#live-run").dispatch_event("pointerdown")
    page.wait_for_selector("#live-run:has-text('Start')")
    stopped = session.stepper.steps
    page.wait_for_timeout(300)
    assert session.stepper.steps == stopped
    assert not session.model.training
    with page.expect_download() as download:
        page.locator("#live-save").click()
    path = tmp_path / "model.safetensors"
    download.value.save_as(path)
    for mine, theirs in zip(session.model.parameters(), load(path).parameters(), strict=True):
        assert torch.equal(mine, theirs)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector(f"#live p:has-text('step {stopped} ')")
    page.locator("#sgd-rewind").click()
    page.wait_for_selector("#sgd-steps:has-text('0 steps')")
    assert all(torch.equal(each, start[name]) for name, each in session.model.state_dict().items())
