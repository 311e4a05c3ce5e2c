"""``run``: a task, a model and a data set become a trained, evaluated and saved model, told as events."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.order import Order
from convscope.errors import ArgumentError, LostProcessError
from convscope.training import distributed, events
from convscope.training.averaging import refuse_statistics
from convscope.training.begin import Source, checked_epochs, describe_run, go_on, identify, rate_leap
from convscope.training.config import Config
from convscope.training.loop import Progress, Run
from convscope.training.optimisers import usual_learning_rate
from convscope.training.run_folder import RunFolder, new_run_dir
from convscope.training.schedules import check_options
from convscope.training.signals import StopSignals
from convscope.training.smallest import try_smallest_batch
from convscope.training.steppers import Assignment, choose
from convscope.training.task import Prepared, Task

# Data up to this share of a GPU's free memory is kept there, so that batches are made without the CPU.
_KEPT_ON_GPU = 0.25
# Settings of Config that only some tasks have a meaning for.
_OPTIONAL = ("loss", "augment", "fit")


def run(task: Task, model: nn.Module, dataset: Dataset[Any], source: Source, config: Config) -> Iterator[events.Event]:
    """Train ``model`` for ``task`` on ``dataset``; the last event is RunFinished or Interrupted.

    ``source`` is what the user named the data by, for the run's description. The model goes back to its device at the
    end and torch's number of threads is restored.
    """
    check_options(config.schedule, config.schedule_options)
    for name in _OPTIONAL:
        if name not in task.uses and getattr(config, name) != getattr(Config(), name):
            raise ArgumentError(name, getattr(config, name), f"nothing: {task.name} has no use for it")
    home = next(model.parameters(), torch.empty(0)).device
    device = distributed.own_device(config.device)
    threads = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        with contextlib.ExitStack() as stack:
            group = stack.enter_context(distributed.group(device, config.process_timeout))
            yield from _run(stack, task, model, dataset, source, config, group, device)
    finally:
        model.to(home)
        torch.set_num_threads(threads)


def _run(
    stack: contextlib.ExitStack,
    task: Task,
    model: nn.Module,
    dataset: Dataset[Any],
    source: Source,
    config: Config,
    group: distributed.Group,
    device: torch.device,
) -> Iterator[events.Event]:
    objective = task.objective(model, config.loss)
    prepared = task.prepare(model, dataset, config)
    task.ready(model, prepared, objective, dataset)
    refuse_statistics(model, config.average_epochs)
    order = _order(prepared, config, group)
    try_smallest_batch(model, prepared, order, config.sync_batch_norm)
    steps_per_epoch = order.count
    steps = min(config.epochs * steps_per_epoch, config.max_steps or config.epochs * steps_per_epoch)
    stepper, reason = choose(Assignment(model, objective, prepared.inputs, config, device, group, steps))
    stack.callback(stepper.close)
    prepared = _kept_on_gpu(prepared, device)
    described = spec.spec_of(model)
    name = described.architecture if described is not None else type(model).__name__
    identity = identify(dataset, source)
    folder, run_dir = _folder(stack, config, group, name, dataset.name)
    config = config.replace(run_dir=str(run_dir))
    progress, leap = Progress(), None
    if config.resume:
        progress, before = yield from go_on(stepper, folder, run_dir, group, identity)
        checked_epochs(config, progress)
        leap = rate_leap(before, config, progress, steps_per_epoch, steps)
    training = Run(
        config=config,
        task=task,
        stepper=stepper,
        prepared=prepared,
        objective=objective,
        group=group,
        folder=folder,
        run_dir=run_dir,
        spec=described,
        data=identity,
        progress=progress,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        resume_command=f"convscope train --resume {shlex.quote(str(run_dir))}",
        learning_rate=config.learning_rate or usual_learning_rate(config.optimiser),
    )
    more: list[events.Event] = [] if leap is None else [leap]
    if folder is not None:
        if progress.step == 0:
            # A run that has its configuration can be gone on with, from the weights that it began with: the checkpoint
            # comes first, however early the run is killed.
            more += training.save()
        folder.write_config(describe_run(model, task.name, config, identity))
    yield from _told(training, dataset, name, reason, more)


def _folder(
    stack: contextlib.ExitStack, config: Config, group: distributed.Group, model: str, data: str
) -> tuple[RunFolder | None, Path]:
    """The run folder, of the process that writes it, and its path: a new folder's number is the first process's."""
    run_dir = Path(config.run_dir) if config.run_dir is not None else new_run_dir(model, data)
    folder: RunFolder | None = None
    if group.writes:
        folder = RunFolder(run_dir, config.resume)
        stack.callback(folder.close)
        run_dir = folder.path
    return folder, Path(group.same_bytes(str(run_dir).encode()).decode())


def _told(
    training: Run, dataset: Dataset[Any], model: str, reason: str, more: Sequence[events.Event]
) -> Iterator[events.Event]:
    """The events of ``training``, RunStarted and ``more`` first; the run folder notes all but the single batches."""
    task, config, stepper = training.task, training.config, training.stepper
    started = events.RunStarted(
        run_dir=training.run_dir,
        task=task.name,
        model=model,
        data=dataset.name,
        parameters=len(stepper.parameters.values),
        train_examples=len(dataset.train),
        test_examples=len(dataset.test),
        noun=task.noun,
        unit=task.unit,
        shares=task.shares,
        epochs=config.epochs,
        steps=training.steps,
        engine=stepper.name,
        device=str(stepper.device),
        reason=reason,
        processes=training.group.world,
        resumed_at=training.progress.step,
    )
    with StopSignals() as signals, _said_how_to_go_on(training):
        for event in itertools.chain([started, *more], training.train(signals)):
            if training.folder is not None and not isinstance(event, events.BatchDone):
                training.folder.note(event)
            yield event


@contextlib.contextmanager
def _said_how_to_go_on(training: Run) -> Iterator[None]:
    """Where a process of several is lost the error says what a person types."""
    try:
        yield
    except LostProcessError as problem:
        message = f"{problem}. Go on, with any number of processes: {training.resume_command}"
        raise LostProcessError(message, problem.silent) from problem


def _order(prepared: Prepared, config: Config, group: distributed.Group) -> Order:
    """An epoch's batches, as to their number and sizes."""
    train = prepared.train
    shared: dict[str, Any] = {"rank": group.rank, "world": group.world, "tokens": prepared.tokens}
    return Order(len(train), prepared.batch_size(config), shuffle=False, lengths=train.lengths, **shared)


def _kept_on_gpu(prepared: Prepared, device: torch.device) -> Prepared:
    """The examples on the GPU where they are small enough to stay there."""
    if device.type != "cuda":
        return prepared
    to, size = getattr(prepared.train, "to", None), getattr(prepared.train, "nbytes", None)
    if to is None or size is None or size >= _KEPT_ON_GPU * torch.cuda.mem_get_info(device)[0]:
        return prepared
    return dataclasses.replace(prepared, train=to(device), test=prepared.test.to(device))  # type: ignore[attr-defined]
