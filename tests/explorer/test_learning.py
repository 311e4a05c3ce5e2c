"""Learning beside the page: whose weights are when the model's, and how it ends."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import pytest
import torch
from torch import nn

from convscope.data import Dataset, load_dataset
from convscope.errors import ArgumentError
from convscope.explorer.learning import ENDING, IDLE, KEPT, RECENT, RUNNING, Learner
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session


@pytest.fixture(scope="module")
def digits() -> Dataset[Any]:
    return load_dataset("digits")


def small(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, classes))


@pytest.fixture
def session(digits: Dataset[Any]) -> Any:
    made = Session(small(), digits, input_shape=(1, 8, 8))
    yield made
    made.close()


def until(what: Any) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.002)


def weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in session.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def ask(session: Session, op: str, **args: Any) -> dict[str, Any]:
    return dict(session.answer(op, Arguments(args), b"").values)


def test_the_model_changes_only_when_it_is_looked_at(session: Session) -> None:
    learner, start = session.learner, weights(session)
    assert ask(session, "learn", batch=4)["learning"]["state"] == RUNNING
    until(lambda: learner.made > 3)
    assert same(start, weights(session))
    assert session.stepper.steps == 0
    until(lambda: ask(session, "look")["learning"]["steps"] > 0)
    seen = weights(session)
    assert not same(start, seen)
    assert session.stepper.steps == learner.progress.steps > 0
    assert ask(session, "pause")["learning"]["state"] in (ENDING, IDLE)
    until(lambda: ask(session, "look")["learning"]["state"] == IDLE)
    assert learner.progress == learner._going
    copied = dict(learner._copy.state_dict()) if learner._copy is not None else {}
    assert same(weights(session), copied)
    progress = learner.progress
    assert learner.describe()["losses"] == list(progress.losses)
    assert learner.describe(progress.steps - 1, progress.run)["losses"] == [progress.losses[-1]]
    assert learner.describe(progress.steps, progress.run + 1)["losses"] == list(progress.losses)


def test_a_small_model_learns_in_one_thread(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number is by then that all others compute with."""
    learner, before = session.learner, torch.get_num_threads()
    seen: list[int] = []
    made = learner._step

    def step(*given: Any) -> None:
        time.sleep(0.02)  # by now the beginner has put the number back
        seen.append(torch.get_num_threads())
        made(*given)

    monkeypatch.setattr(learner, "_step", step)
    torch.set_num_threads(2)
    try:
        learner.start(4)
        until(lambda: len(seen) > 2)
        learner.rest()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_what_is_paused_goes_on_as_if_it_had_not_been(session: Session, digits: Dataset[Any]) -> None:
    """The order of the pictures, the momentum and batch normalisation's means are taken up again."""
    ask(session, "configure", momentum=0.9)
    for _ in range(2):
        ask(session, "learn", batch=4)
        until(lambda: ask(session, "look")["learning"]["steps"] > 2)
        session.settle()
        assert session.learner.state == IDLE
    other = Session(small(), digits, input_shape=(1, 8, 8))
    ask(other, "configure", momentum=0.9)
    for _ in range(session.learner.progress.steps):
        other.learner.once(4)
    assert other.learner.progress == session.learner.progress
    assert same(weights(other), weights(session))


class Bare(nn.Module):
    """Weights outside any layer: not for the engine."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(0.1 * torch.randn(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("np,pk->nk", x.flatten(1).cos(), self.weight)


@pytest.mark.parametrize(("make", "engine"), [(small, True), (Bare, False)])
def test_its_steps_are_those_of_torch(make: Any, engine: bool, digits: Dataset[Any]) -> None:
    """With momentum and decay, by the engine or by torch, over an epoch's end: the last batch is smaller."""
    session = Session(make(), digits, input_shape=(1, 8, 8))
    learner, model = session.learner, make().double().train()
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    ask(session, "configure", rate=0.05, momentum=0.9, decay=1e-3)
    data = digits.train
    for _ in range(5):
        learner.once(512)
        images, labels = learner._batch(data, torch.tensor(learner.progress.items))
        loss = nn.functional.cross_entropy(model(images.double()), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        assert learner.progress.losses[-1] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert learner.progress.epoch == 1
    assert (learner._fast is not None) == engine
    if learner._fast is not None:
        assert "native: every layer" in learner._fast.report()
        assert all(each.difference is None for each in learner._fast.verdicts())
    for name, value in model.state_dict().items():
        found = session.model.state_dict()[name]
        torch.testing.assert_close(found.double(), value.double(), rtol=1e-4, atol=1e-6, msg=name)
    session.close()


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
@pytest.mark.parametrize("gap", [0.0, 20.0])
def test_a_network_that_ends_in_a_softmax_learns_with_the_loss_shown(
    end: nn.Module, gap: float, digits: Dataset[Any]
) -> None:
    """J = −ln y_t, as the page has it, with no second softmax; it learns also where float32 says that p is 1."""
    plain: Any = small()
    with torch.no_grad():
        plain[4].bias[3] = gap
    session = Session(copy.deepcopy(plain).append(end), digits, input_shape=(1, 8, 8))
    rate = 1e4 if gap else 0.05
    optimiser = torch.optim.SGD(plain.double().train().parameters(), rate)
    ask(session, "configure", rate=rate, momentum=0.0, decay=0.0)
    threes = torch.nonzero(digits.train.labels == 3)[:, 0] if gap else torch.arange(64)
    session.learner._order = (0, threes)
    for _ in range(2):
        session.learner.once(32)
        images, labels = session.learner._batch(digits.train, torch.tensor(session.learner.progress.items))
        y = plain(images.double())
        rivals = (y - y.gather(1, labels[:, None])).exp().scatter(1, labels[:, None], 0).sum(1)
        loss = rivals.log1p().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert session.learner.progress.losses[-1] == pytest.approx(float(loss.detach()), rel=2e-4)
    assert float((plain[4].weight - small()[4].weight).detach().abs().max()) > 1e-4
    for name, value in plain.named_parameters():
        found = dict(session.model.named_parameters())[name].detach().double()
        torch.testing.assert_close(found, value.detach(), rtol=1e-4, atol=1e-6, msg=name)
    session.close()


def test_whatever_else_changes_the_weights_ends_it_first(session: Session) -> None:
    for op, args in (("step", {}), ("edit", {"layer": "0", "index": [0, 0, 1, 1], "value": 2.0}), ("learn_once", {})):
        ask(session, "learn", batch=4)
        until(lambda: session.learner.made > session.learner.progress.steps)
        before = session.learner.progress.steps
        ask(session, op, **args)
        assert session.learner.state == IDLE
        assert session.learner.progress.steps > before
    assert session.stepper.steps == session.learner.progress.steps + 1
    ask(session, "rewind")
    assert session.learner.progress.steps == session.stepper.steps == 0


def test_it_ends_by_itself_where_nobody_looks_and_where_it_fails(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.learner.patience = 0.0
    ask(session, "learn", batch=4)
    until(lambda: ask(session, "look")["learning"]["state"] == IDLE)
    assert session.learner.failed is None
    session.learner.patience = 60.0

    def broken(*_: Any) -> Any:
        raise RuntimeError("no more memory")

    with monkeypatch.context() as patch:
        patch.setattr(session.learner, "_batch", broken)
        with pytest.raises(RuntimeError, match="no more memory"):
            session.learner.start(4)
    ask(session, "learn", batch=4)
    monkeypatch.setattr(session.learner, "_batch", broken)
    until(lambda: ask(session, "look")["learning"]["state"] == IDLE)
    assert session.learner.failed == "RuntimeError: no more memory"


def test_data_of_other_classes_is_refused(digits: Dataset[Any]) -> None:
    session = Session(small(7), digits, input_shape=(1, 8, 8))
    with pytest.raises(ArgumentError, match="data: got '10 classes', wanted 7, as many as the model answers"):
        session.learner.start(4)
    assert session.learner.state == IDLE
    without = Session(small(), input_shape=(1, 8, 8))
    with pytest.raises(ArgumentError, match="Start with --data"):
        without.learner.start(4)


def test_what_is_kept_has_an_end(session: Session) -> None:
    learner: Learner = session.learner
    learner.start(1024)
    until(lambda: len(learner._going.answers) == RECENT)
    learner.rest()
    assert len(learner.progress.losses) <= KEPT
    mixed = learner.describe()["mixed"]
    assert isinstance(mixed, list)
    assert sum(times for _, _, times in mixed) == RECENT


def test_a_look_at_a_small_model_that_learns_takes_one_thread(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the look and one of the steps would be three on two cores."""
    before, seen = torch.get_num_threads(), []
    made = session.make_snapshot

    def make_snapshot(*args: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return made(*args, **options)

    monkeypatch.setattr(session, "make_snapshot", make_snapshot)
    torch.set_num_threads(2)
    try:
        ask(session, "learn", batch=4)
        until(lambda: ask(session, "look") and seen)
        assert set(seen) == {1}
        answer = ask(session, "look", layers=["0"])
        assert 0 < answer["took"] < 10_000  # by this the page finds its pace
        assert torch.get_num_threads() == 2
        session.learner._small = False
        seen.clear()
        until(lambda: ask(session, "look") and seen)
        assert set(seen) == {2}
    finally:
        session.learner.rest()
        torch.set_num_threads(before)


def test_a_brief_look_says_where_it_stands_and_no_more(session: Session) -> None:
    learner = session.learner
    ask(session, "learn", batch=4)
    until(lambda: learner.take())
    run = learner.progress.run
    told = ask(session, "learning", brief=True, run=run)["learning"]
    assert set(told) == {"state", "run", "steps", "brief", "total"}
    assert "mixed" in ask(session, "learning", brief=True, run=run + 1)["learning"]  # another page
    learner.rest()
    assert ask(session, "learning", brief=True, run=run)["learning"]["losses"]  # it has ended: the rest is told


def test_no_step_waits_for_a_look_that_takes_long(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, made = session.learner, session.make_snapshot
    go, begun = threading.Event(), threading.Event()

    def make_snapshot(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(30)
        return made(*args, **options)

    ask(session, "learn", batch=4)
    until(lambda: learner.made > 0)
    monkeypatch.setattr(session, "make_snapshot", make_snapshot)
    until(lambda: learner._offer is not None or not learner.take())
    looking = threading.Thread(target=lambda: until(lambda: ask(session, "look") and begun.is_set()))
    looking.start()
    assert begun.wait(30)
    before = learner.made
    until(lambda: learner.made > before + 20)
    go.set()
    looking.join()
    learner.rest()


def test_a_look_waits_for_no_step_that_takes_long(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, batch = session.learner, session.learner._batch
    go, begun = threading.Event(), threading.Event()
    ask(session, "learn", batch=4)

    def waiting(*given: Any) -> Any:
        begun.set()
        assert go.wait(30)
        return batch(*given)

    monkeypatch.setattr(learner, "_batch", waiting)
    assert begun.wait(30)
    before = learner.made
    for _ in range(3):
        assert ask(session, "look")["learning"]["state"] == RUNNING
    assert learner.made == before
    go.set()
    learner.rest()
