"""Learning from the user's own pictures while the page looks on: minibatches in a seeded order, saved at any time.

The steps are made on a copy of the model, in a thread of their own, by the native engine where it can run the model:
they wait for no drawing, and what the page shows changes only when it asks for it (``Learner.take``). Unlike the step
on the one picture shown, the copy is in training mode (dropout on, batch normalisation by the batch).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data import Labelled, prepare
from convscope.errors import ArgumentError, LoweringError
from convscope.explorer.inputs import Desk
from convscope.explorer.stepping import Stepper
from convscope.inspect.attribution.subject import first_tensor
from convscope.layers.losses import Loss
from convscope.native import Accelerated, accelerate, available

KEPT = 2000  # steps whose loss is kept for the curve
RECENT = 2000  # pictures that the confusion counts
SMALL = 3_000_000
"""Parameters; up to these one thread learns, and leaves the others to the page. On two cores torch made 415 steps of a
LeNet-5 a second with one and 130 to 230 with two, which wait for each other."""
PATIENCE = 180.0  # seconds without a look; a tab in the background asks once a minute
CLOSING = 5.0  # seconds that the server's end waits for a step
SEED = 0
IDLE, RUNNING, ENDING = "idle", "running", "ending"


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where the learning stands. ``run`` counts the beginnings, ``steps`` the minibatches of this one; ``losses`` are
    of the last of them, ``answers`` the latest pictures' (class, class said)."""

    run: int
    steps: int = 0
    epoch: int = 0
    place: int = 0
    losses: tuple[float, ...] = ()
    right: float | None = None
    items: tuple[int, ...] = ()
    answers: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class _Offer:
    """The copy's parameters and buffers after a step, and all that belongs to them."""

    progress: Progress
    weights: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    steps: int


class Learner:
    """IDLE → RUNNING (``start``) → ENDING (``pause``) → IDLE, by itself as soon as the step under way is made.

    ``start``, ``once``, ``rest``, ``take`` and ``begin`` are called by one thread at a time, and only they touch the
    page's model; ``pause`` and ``describe`` by any.
    """

    def __init__(self, model: nn.Module, desk: Desk, stepper: Stepper, objective: Callable[[], Loss]) -> None:
        self.model, self.desk, self.stepper, self.objective = model, desk, stepper, objective
        self.progress = Progress(0)
        self.failed: str | None = None
        self.patience = PATIENCE
        self._copy: nn.Module | None = None
        self._fast: Accelerated | None = None  # the copy on the engine, where that can run it
        self._shown: dict[str, Tensor] = {}  # parameters and buffers by name: of the page's model,
        self._learned: dict[str, Tensor] = {}  # and of the copy; reading them from a model takes as long as a layer
        self._small = False
        self._own = stepper
        self._order: tuple[int, Tensor] | None = None
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._wanted = threading.Event()  # the page would like the weights of the next step
        self._offer: _Offer | None = None
        self._door = threading.Lock()  # of the offer: the last one must not be lost
        self._looked = 0.0
        self._going = self.progress  # the copy's

    @property
    def state(self) -> str:
        alive = self._thread is not None and self._thread.is_alive()
        if alive and not self._end.is_set():
            return RUNNING
        return ENDING if alive or self._offer is not None else IDLE

    @property
    def made(self) -> int:
        """Steps that the copy has made, looked at or not."""
        return self._going.steps

    def begin(self) -> None:
        """Before the first step; the weights have been put back."""
        self.rest()
        self._offer = None
        self.failed = None
        self.progress = Progress(self.progress.run + 1)

    def start(self, batch: int) -> None:
        """Go on until ``pause``. Raises ArgumentError where data and model do not fit."""
        if self.state == RUNNING:
            return
        self.rest()
        chosen = self._ready()
        self._end.clear()
        self._looked = time.monotonic()
        begun, threads = threading.Event(), torch.get_num_threads()
        self._thread = threading.Thread(
            target=self._run, args=(chosen, batch, begun), name="explorer-learning", daemon=True
        )
        self._thread.start()
        begun.wait()
        torch.set_num_threads(threads)  # what the thread has set counts for all that are begun after it, too

    def pause(self) -> None:
        """End after the step under way; returns at once."""
        self._end.set()

    def rest(self) -> None:
        """Pause, wait for the end, and give the page's model the last weights."""
        self.pause()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.take()

    def close(self) -> None:
        """Pause for good; a step that takes long is not waited for: its thread ends with the process."""
        self.pause()
        if self._thread is not None:
            self._thread.join(timeout=CLOSING)

    def once(self, batch: int) -> None:
        """One minibatch. Raises ArgumentError where data and model do not fit."""
        self.rest()
        self._step(self._ready(), batch)
        self._make_offer()
        self.take()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """For what is computed while a small model learns: one thread, as the steps have. With a second one they were
        three on two cores, and a look of 4 ms cost the steps 10 to 40. Between two steps, instead of beside them, a
        look costs more: 374 steps a second were left of 421, not 396."""
        if not self._small or self.state == IDLE:
            yield
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def take(self) -> bool:
        """Give the page's model the newest weights that were offered, and ask for the next; False: there are none."""
        self._looked = time.monotonic()
        with self._door:
            offer, self._offer = self._offer, None
        self._wanted.set()
        if offer is None:
            return False
        with torch.no_grad():
            for name, value in self._shown.items():
                value.copy_(offer.weights[name])
        self.stepper.go_on(offer.velocity, offer.steps)
        self.progress = offer.progress
        return True

    def describe(self, since: int = 0, run: int = -1, brief: bool = False) -> dict[str, object]:
        """``losses`` are those after step ``since`` of the page's ``run``, as many as are kept; ``brief``: while it
        goes on without them, and without what was mixed up."""
        now = self.progress
        if brief and run == now.run and self.state == RUNNING:
            return {"state": RUNNING, "run": run, "steps": now.steps, "brief": True}
        first = max(since if run == now.run else 0, now.steps - len(now.losses))
        return {
            "state": self.state, "failed": self.failed, "run": now.run, "steps": now.steps, "epoch": now.epoch,
            "first": first, "losses": list(now.losses[len(now.losses) - (now.steps - first) :]), "right": now.right,
            "items": list(now.items), "mixed": _mixed(now.answers), "recent": len(now.answers),
        }  # fmt: skip

    def _ready(self) -> Labelled:
        """The data, if it fits; the copy is made what the page's model is."""
        chosen = self.desk.split("train")
        if not isinstance(chosen, Labelled):
            raise ArgumentError("data", f"data of kind {chosen.kind!r}", "pictures with a class each")
        with torch.no_grad():
            example, _ = self._batch(chosen, torch.zeros(1, dtype=torch.long))
            scores = first_tensor(self.model(example))
        if scores.ndim != 2 or scores.shape[1] != len(chosen.classes):
            raise ArgumentError(
                "data", f"{len(chosen.classes)} classes", f"{scores[0].numel()}, as many as the model answers"
            )
        self.stepper.remember()
        if self._copy is None:
            self._copy = copy.deepcopy(self.model)
            self._fast = _on_the_engine(self._copy)
            self._own = Stepper(self._copy)
        else:
            with torch.no_grad():
                for name, value in _held(self._copy).items():
                    value.copy_(_held(self.model)[name])
        self._shown, self._learned = _held(self.model), _held(self._copy)
        self._small = sum(each.numel() for each in self.model.parameters()) <= SMALL
        self._own.go_on(self.stepper.velocity, self.stepper.steps)
        self._copy.train()
        self._going = self.progress
        self.failed = None
        return chosen

    def _run(self, chosen: Labelled, batch: int, begun: threading.Event) -> None:
        """The thread: its own progress and the copy are its alone while it lives."""
        if self._small:
            torch.set_num_threads(1)
            torch.get_num_threads()  # a thread keeps what it finds at its first use: now, not what `start` puts back
        begun.set()
        try:
            while not self._end.is_set():
                self._step(chosen, batch)
                if self._wanted.is_set():
                    self._wanted.clear()
                    self._make_offer()
                if time.monotonic() - self._looked > self.patience:
                    break
        except Exception as error:  # the page tells it; the server goes on
            self.failed = f"{type(error).__name__}: {error}"
        self._make_offer()

    def _step(self, chosen: Labelled, batch: int) -> None:
        """One step of the page's SGD on a minibatch's mean loss."""
        assert self._copy is not None
        was = self._going
        rows = self._rows(was, len(chosen), batch)
        x, labels = self._batch(chosen, rows)
        parameters = {name: value for name, value in self._learned.items() if value.requires_grad}
        with torch.enable_grad():
            output = self._outputs(self._copy, x)
            objective = self.objective()
            value = objective.value(output, labels)
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        self._own.settings = self.stepper.settings
        self._own.descend({name: g for name, g in zip(parameters, found, strict=True) if g is not None})
        said = objective.predictions(first_tensor(output)).detach().argmax(1)
        over = was.place + len(rows) >= len(chosen)
        pairs = tuple(zip(labels.tolist(), said.tolist(), strict=True))
        self._going = dataclasses.replace(
            was,
            steps=was.steps + 1,
            epoch=was.epoch + over,
            place=0 if over else was.place + len(rows),
            losses=(*was.losses[1 - KEPT :], float(value.detach())),
            right=float((said == labels).double().mean()),
            items=tuple(rows.tolist()),
            answers=(*was.answers, *pairs)[-RECENT:],
        )

    def _outputs(self, own: nn.Module, x: Tensor) -> Any:
        """What the copy answers: by the engine, which is compared with torch at its first step, or by torch."""
        if self._fast is not None:
            try:
                return self._fast(x)
            except (ArgumentError, LoweringError):
                self._fast = None
        return own(x)

    def _make_offer(self) -> None:
        weights = {name: value.detach().clone() for name, value in self._learned.items()}
        with self._door:
            self._offer = _Offer(self._going, weights, dict(self._own.velocity), self._own.steps)

    def _rows(self, now: Progress, count: int, batch: int) -> Tensor:
        """The next rows of this epoch's order; the last batch of an epoch may be smaller."""
        if self._order is None or self._order[0] != now.epoch:
            generator = torch.Generator().manual_seed(SEED + now.epoch)
            self._order = (now.epoch, torch.randperm(count, generator=generator))
        return self._order[1][now.place : now.place + batch]

    def _batch(self, chosen: Labelled, rows: Tensor) -> tuple[Tensor, Tensor]:
        some = chosen.select(rows)
        pixels = prepare(some.images.cpu(), self.desk.preprocessing)
        x = self.desk.preprocessing.normalise(pixels).reshape(len(rows), *self.desk.input_shape)
        return x, some.labels.cpu().long()


def _on_the_engine(own: nn.Module) -> Accelerated | None:
    """The engine makes a step without the interpreter, which the page's questions need meanwhile. None: torch steps."""
    try:
        return accelerate(own) if available() else None
    except (ArgumentError, LoweringError):
        return None


def _held(model: nn.Module) -> dict[str, Tensor]:
    return dict((*model.named_parameters(), *model.named_buffers()))


def _mixed(answers: tuple[tuple[int, int], ...]) -> list[list[int]]:
    """[class, class said, how often] of every pair that occurs, the most frequent first."""
    return [[*pair, count] for pair, count in Counter(answers).most_common()]
