"""The one training loop. It yields events and prints nothing. It knows a batch, a step and events, never a label."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from convscope import seeding
from convscope.data.examples import Batch, Examples
from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.errors import TrainingError
from convscope.models.modelfile import write_model
from convscope.spec import ModelSpec
from convscope.tensorfile import write_tensors
from convscope.training import events
from convscope.training.averaging import averaged
from convscope.training.checkpoints import State
from convscope.training.config import Config
from convscope.training.distributed import Group
from convscope.training.evaluation import evaluate_examples
from convscope.training.events import Result
from convscope.training.figures import Figures
from convscope.training.run_folder import RunFolder
from convscope.training.schedules import Clock, rate_at
from convscope.training.signals import StopSignals
from convscope.training.steppers import Reading, Share, Stepper
from convscope.training.stopping import LossGuard, converged, first_broken_layer
from convscope.training.task import Examined, Objective, Prepared, Task
from convscope.training.watching import EXAMPLES, watch

_NOISE_SEEDS = 1 << 62
# A sign in an error of torch's, and what a person can do.
_ADVICE = {
    "out of memory": "There is not enough memory: a smaller batch_size needs less",
    "can't allocate memory": "There is not enough memory: a smaller batch_size needs less",
    "more than 1 value per channel": "Batch normalisation cannot work on one example: choose another batch_size, so "
    "that the last batch of an epoch has more than one",
}


@dataclasses.dataclass
class Progress:
    """Where a run stands between two batches, and the sums of the epoch under way."""

    epoch: int = 1
    batch: int = 0  # batches done in this epoch
    step: int = 0  # steps done in all
    loss: float = 0.0  # sum of J times the weight over this epoch's batches so far
    weight: float = 0.0
    examples: int = 0
    counts: dict[str, float] = dataclasses.field(default_factory=dict)  # what the objective counts, by name
    seconds: float = 0.0  # of training in this epoch, all its processes' runs together
    history: list[events.EpochDone] = dataclasses.field(default_factory=list)

    def position(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "history"}

    @classmethod
    def of(cls, state: State) -> Progress:
        position = dict(state.position)
        if "images" in position:  # format 1, of classifiers only
            images = position.pop("images")
            position |= {"examples": images, "weight": float(images), "counts": {"correct": position.pop("correct")}}
        return cls(**position, history=[events.EpochDone.of(row) for row in state.history])

    def add(self, reading: Reading, names: Sequence[str]) -> None:
        self.loss += reading.loss
        self.weight += reading.weight
        self.examples += reading.examples
        for name, value in zip(names, reading.counts, strict=True):
            self.counts[name] = self.counts.get(name, 0.0) + value


@dataclasses.dataclass
class Run:
    """Everything a run needs; ``train()`` does it.

    ``folder`` is None in the processes that do not write. ``resume_command`` is what a person types to go on.
    """

    config: Config
    task: Task
    stepper: Stepper
    prepared: Prepared
    objective: Objective
    group: Group
    folder: RunFolder | None
    run_dir: Path
    spec: ModelSpec | None
    data: dict[str, Any]
    progress: Progress
    steps: int  # in all
    steps_per_epoch: int
    resume_command: str
    learning_rate: float

    def __post_init__(self) -> None:
        self._guard = LossGuard()
        self._saved_at = time.monotonic()
        self._last_good: Path | None = None
        self._asked_to_stop = False
        self.metrics: Figures | None = None

    def train(self, signals: StopSignals) -> Iterator[events.Event]:
        """Train to the end, or until a signal, divergence or convergence. Raises TrainingError when the loss breaks."""
        started = time.monotonic()
        stopped = "epochs"
        if self._converged() is not None:  # a run that had come to rest, resumed
            stopped = "converged"
        while self.progress.epoch <= self.config.epochs and stopped != "converged":
            if self.progress.step >= self.steps:
                stopped = "max_steps"
                break
            finished = yield from self._epoch(signals)
            if not finished:
                return
            change = self._converged()
            if change is not None:
                yield events.Converged(len(self.progress.history), change, self.config.stop_tolerance)
                stopped = "converged"
        history = self.progress.history
        if self.progress.batch:
            history = [*history, (yield from self._cut_short())]
        if self.config.average_epochs > 1:
            yield from self._averaged(history)
        metrics = self.metrics or self._evaluate()
        if self.folder is not None:
            figures = metrics.to_json()
            more = {"metrics": figures, "config": self.config.to_json(), "data": self.data}
            write_model(self.stepper.model, self.folder.model, self.spec, **more)
            self.folder.write_metrics(figures)
        yield events.RunFinished(
            Result(
                model=self.stepper.model,
                task=self.task.name,
                history=list(history),
                metrics=metrics,
                run_dir=self.run_dir,
                config=self.config,
                stopped=stopped,
                seconds=time.monotonic() - started,
            )
        )

    def _epoch(self, signals: StopSignals) -> Generator[events.Event, None, bool]:
        """Train one epoch from where it stands; returns whether to go on."""
        progress, config, stepper = self.progress, self.config, self.stepper
        feed = self._feed(progress.epoch, progress.batch)
        yield events.EpochStarted(progress.epoch, feed.count, progress.batch, self._rate())
        stepper.model.train()
        noise = seeding.derive(config.seed, "noise", progress.epoch, self.group.rank)
        begun, begun_examples, seconds_before = time.monotonic(), progress.examples, progress.seconds
        for batch in feed:
            rate = self._rate()
            stepper.wants_to_stop = signals.received is not None
            self._step(batch, (noise + progress.batch) % _NOISE_SEEDS, rate, Share(*feed.whole(progress.batch)))
            progress.step += 1
            progress.batch += 1
            at_end = progress.batch == feed.count or progress.step == self.steps
            stop = False
            if at_end or progress.batch % stepper.reads_every == 0:
                loss = self._read().mean_loss
                stop = self._asked_to_stop
                if self._guard.broken(loss):
                    yield from self._diverged(loss, batch)
                progress.seconds = seconds_before + time.monotonic() - begun
            yield events.BatchDone(
                epoch=progress.epoch,
                batch=progress.batch,
                batches=feed.count,
                step=progress.step,
                examples=progress.examples,
                figures=self._training_figures(),
                unit=self.task.unit,
                per_second=(progress.examples - begun_examples) / max(time.monotonic() - begun, 1e-9),
                learning_rate=rate,
            )
            if stop and not at_end:
                yield from self._interrupt(signals)
                return False
            if self._checkpoint_is_due() and not at_end:
                yield from self.save()
            if at_end:
                break
        # An epoch that ``max_steps`` cuts short stays under way, so that a later run with more steps goes on inside it.
        yield from self._end_of_epoch() if progress.batch == feed.count else self.save()
        # Of several processes all must stop after the same step: only what they have told each other counts.
        if self._asked_to_stop or (self.group.world == 1 and signals.received is not None):
            yield from self._interrupt(signals)
            return False
        return True

    def _step(self, batch: Batch, seed: int, rate: float, whole: Share) -> None:
        try:
            self.stepper.step(batch, seed, rate, whole)
        except (RuntimeError, ValueError, MemoryError) as problem:
            advice = next((advice for sign, advice in _ADVICE.items() if sign in str(problem)), "")
            place = f"epoch {self.progress.epoch}, batch {self.progress.batch + 1} ({batch.examples} {self.task.noun})"
            raise TrainingError(f"{place}: {problem}" + (f". {advice}" if advice else "")) from problem

    def _training_figures(self) -> dict[str, float]:
        progress = self.progress
        return self.task.training_figures(progress.loss, progress.weight, progress.examples, progress.counts)

    def _end_of_epoch(self) -> Iterator[events.Event]:
        progress, config = self.progress, self.config
        begun = time.monotonic()
        last = progress.epoch == config.epochs or progress.step >= self.steps
        row = self._row(last or progress.epoch % config.evaluate_every == 0, begun)
        watched = self._watch() if config.watch and self.folder is not None else None
        self.progress = Progress(progress.epoch + 1, step=progress.step, history=[*progress.history, row])
        if self.folder is not None:
            self.folder.write_history(self.progress.history)
        yield row
        if watched is not None:
            yield watched
        yield from self.save()

    def _cut_short(self) -> Generator[events.Event, None, events.EpochDone]:
        """The figures of an epoch that ``max_steps`` ended after some of its batches; the checkpoint is written already
        and knows nothing of them."""
        row = self._row(True, time.monotonic())
        if self.folder is not None:
            self.folder.write_history([*self.progress.history, row])
        yield row
        if self.config.watch and self.folder is not None:
            yield self._watch()
        return row

    def _row(self, evaluated: bool, begun: float) -> events.EpochDone:
        """The figures of the epoch under way, which count the seconds since ``begun`` too."""
        progress = self.progress
        self.group.same_buffers(self.stepper.model)
        self.metrics = self._evaluate() if evaluated else None
        return events.EpochDone(
            epoch=progress.epoch,
            step=progress.step,
            learning_rate=self._rate(progress.step - 1),
            train=self._training_figures(),
            test={name: None if self.metrics is None else self.metrics[name] for name in self.task.history},
            unit=self.task.unit,
            per_second=progress.examples / max(progress.seconds, 1e-9),
            seconds=progress.seconds + time.monotonic() - begun,
        )

    def _read(self) -> Reading:
        """Take the sums from the stepper into the progress."""
        reading = self.stepper.read()
        self.progress.add(reading, self.objective.counts)
        self._asked_to_stop |= reading.stop
        return reading

    def _rate(self, step: int | None = None) -> float:
        """The learning rate of the step with this number, counted from 0; None: of the next one."""
        clock = Clock(self.progress.step if step is None else step, self.steps, self.steps_per_epoch)
        config = self.config
        return rate_at(clock, self.learning_rate, config.schedule, config.schedule_options, config.warmup)

    def _feed(self, epoch: int, start: int = 0) -> Feed[Examples]:
        train, config, group = self.prepared.train, self.config, self.group
        order = Order(
            len(train), self.prepared.batch_size(config), config.seed, epoch, start=start, rank=group.rank,
            world=group.world, lengths=train.lengths, tokens=self.prepared.tokens,
        )  # fmt: skip
        return Feed(train, order, self.prepared.stages, self.stepper.device)

    def _averaged(self, history: Sequence[events.EpochDone]) -> Iterator[events.Event]:
        """The mean weights in every process; what was measured before was of others."""
        if self.folder is not None:
            yield from averaged(self.folder, self.stepper.model, history, self.config.average_epochs)
        self.group.same_start(self.stepper.model)
        self.metrics = None

    def _evaluate(self) -> Figures:
        prepared = self.prepared
        return evaluate_examples(
            self.task,
            self.stepper.model,
            Examined(prepared.test, prepared.test_stages, prepared.inputs),
            self.config.evaluation_batch_size,
            self.objective,
            self.stepper.outputs,
        )

    def _watch(self) -> events.LayersWatched:
        assert self.folder is not None
        most = min(EXAMPLES, self.task.most_at_a_time, len(self.prepared.test))  # they are answered together
        some = self.prepared.test.select(torch.arange(most))
        feed = Feed(some, Order(len(some), EXAMPLES, shuffle=False), self.prepared.test_stages, self.stepper.device)
        batch = next(iter(feed))
        inputs = self.stepper.model_inputs(batch.inputs)
        watched = watch(self.stepper.model, inputs, batch.targets, self.objective)
        path = self.folder.path / "watch" / f"epoch-{self.progress.epoch:04d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        layers = [dataclasses.asdict(each) for each in watched.layers]
        write_tensors(
            path, watched.tensors, {"format": 1, "kind": "watch", "epoch": self.progress.epoch, "layers": layers}
        )
        return events.LayersWatched(self.progress.epoch, watched.layers)

    def _converged(self) -> float | None:
        losses = [row.train["loss"] for row in self.progress.history]
        if converged(losses, self.config.stop_tolerance, self.config.stop_patience):
            return abs(losses[-1] - losses[-2])
        return None

    def _checkpoint_is_due(self) -> bool:
        batches = self.config.checkpoint_batches
        if batches is not None and self.progress.step % batches == 0:
            return True
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds > 0

    def save(self) -> Iterator[events.Event]:
        """A checkpoint of this moment, unless the weights are broken: then the last good one stays the newest."""
        self._saved_at = time.monotonic()
        if self.folder is None:
            return
        progress = self.progress
        self._read()
        if not torch.isfinite(self.stepper.parameters.values).all():
            return
        state = State(
            weights=self.stepper.model.state_dict(),
            optimiser=self.stepper.descent.state(),
            position=progress.position(),
            config=self.config.to_json(),
            data=self.data,
            history=[row.row() for row in progress.history],
            model=self.spec,
        )
        self._last_good = self.folder.save_state(state, self.config.keep_checkpoints, self.config.average_epochs)
        yield events.CheckpointSaved(self._last_good, progress.epoch, progress.step)

    def _interrupt(self, signals: StopSignals) -> Iterator[events.Event]:
        yield from self.save()
        where = self._last_good or self.run_dir
        name = signals.received or "SIGTERM"  # another process's signal, when this one has none
        yield events.Interrupted(name, where, self.progress.epoch, self.progress.step, self.resume_command)

    def _diverged(self, loss: float, batch: Batch) -> Iterator[events.Event]:
        progress = self.progress
        what = "is not a number" if loss != loss else f"has exploded to {loss:.4g}"
        where = first_broken_layer(self.stepper.model, self.stepper.model_inputs(batch.inputs))
        rate = self._rate(progress.step - 1)
        own = "" if rate == self.learning_rate else f", {rate:.3g} in this step"
        kept = f" The last good checkpoint is {self._last_good}." if self._last_good is not None else ""
        message = (
            f"the loss {what} in epoch {progress.epoch}, batch {progress.batch} (step {progress.step}): {where}. "
            f"Lower learning_rate (it was {self.learning_rate:.3g}{own}), or set warmup or gradient_clip.{kept}"
        )
        yield events.Diverged(progress.epoch, progress.step, loss, message, self._last_good)
        raise TrainingError(message)
