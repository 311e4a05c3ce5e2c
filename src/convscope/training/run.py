"""``fit`` and ``run``: from a model and a data set to a trained, evaluated and saved model."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset, Order, list_datasets, load_dataset
from convscope.data.augment import parse_augmentation
from convscope.errors import ArgumentError, CheckpointError
from convscope.layers import loss_for
from convscope.models import modelfile
from convscope.training import checkpoints, distributed, events
from convscope.training.config import Config
from convscope.training.evaluation import default_loss
from convscope.training.loop import Progress, Run
from convscope.training.optimisers import usual_learning_rate
from convscope.training.preparing import build_model, initialise_model, prepare_data
from convscope.training.results import Result
from convscope.training.run_folder import RunFolder, new_run_dir, read_config
from convscope.training.schedules import check_options
from convscope.training.signals import StopSignals
from convscope.training.steppers import Task, choose

# Settings that a resumed run may change without becoming another run.
_CHANGEABLE = {
    "epochs", "max_steps", "run_dir", "resume", "checkpoint_seconds", "checkpoint_batches", "keep_checkpoints",
    "threads", "watch", "evaluate_every", "evaluation_batch_size", "stop_tolerance", "stop_patience", "device",
}  # fmt: skip

# Data up to this share of a GPU's free memory is kept there, so that batches are made without the CPU.
_KEPT_ON_GPU = 0.25

Data = Dataset | str | Path


def fit(
    model: nn.Module | str | None = None,
    data: Data | None = None,
    *,
    listeners: Sequence[events.Listener] = (),
    model_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Result:
    """Train ``model`` on ``data`` and return history, figures on the test pictures and the run folder.

    ``model`` is a module or a catalogue name (built with ``model_options``), ``data`` a data set, its name or a path.
    ``options`` are the fields of ``Config``. Each of ``listeners`` is called with every event. With ``resume=True`` and
    ``run_dir``, the run in that folder goes on exactly where its newest whole checkpoint was taken; model and data then
    come from the folder unless given.

    Ctrl-C and SIGTERM finish the batch and save a checkpoint; then KeyboardInterrupt or SystemExit goes on up. Raises
    ArgumentError (UnknownNameError for names) for settings that cannot work, TrainingError when the loss breaks,
    CheckpointError when the folder cannot be written.
    """
    result: Result | None = None
    for event in run(model, data, model_options=model_options, **options):
        for listener in listeners:
            listener(event)
        if isinstance(event, events.RunFinished):
            result = event.result
        if isinstance(event, events.Interrupted):
            if event.signal == "SIGINT":
                raise KeyboardInterrupt(f"training was interrupted; to go on: {event.resume}")
            raise SystemExit(128 + signal.Signals[event.signal])
    assert result is not None
    return result


def run(
    model: nn.Module | str | None = None,
    data: Data | None = None,
    *,
    model_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Generator[events.Event, None, None]:
    """``fit`` as a generator of its events; the last is RunFinished or Interrupted."""
    config, begun = _configuration(options)
    if begun is not None:
        model, data = begun.model(model), data if data is not None else begun.data
    if model is None or data is None:
        missing = "model" if model is None else "data"
        raise ArgumentError(
            missing, None, "a catalogue name or a module" if model is None else "a data set or its name"
        )
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    check_options(config.schedule, config.schedule_options)
    if isinstance(model, str):
        model = build_model(model, dataset, dict(model_options or {}), config)
        initialise_model(model, config)
    elif model_options:
        raise ArgumentError("model_options", model_options, "none beside a module, which is built already")
    elif begun is None:
        initialise_model(model, config)
    home = next(model.parameters(), torch.empty(0)).device
    device = distributed.own_device(config.device)
    threads = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        with contextlib.ExitStack() as stack:
            group = stack.enter_context(distributed.group(device))
            yield from _run(stack, model, dataset, data, config, group, device)
    finally:
        model.to(home)
        torch.set_num_threads(threads)


def _run(
    stack: contextlib.ExitStack,
    model: nn.Module,
    dataset: Dataset,
    data: Data,
    config: Config,
    group: distributed.Group,
    device: torch.device,
) -> Iterator[events.Event]:
    loss = loss_for(config.loss or default_loss(model), model)
    prepared = prepare_data(model, dataset, config, loss)
    described = spec.spec_of(model)
    name = described.architecture if described is not None else type(model).__name__
    augmentation = parse_augmentation(config.augment).fitted(prepared.train) if config.augment else None
    batches = Order(len(prepared.train), config.batch_size, shuffle=False, rank=group.rank, world=group.world).count
    steps = min(config.epochs * batches, config.max_steps or config.epochs * batches)
    task = Task(model, loss, prepared.preprocessing, config, device, group, steps)
    stepper, reason = choose(task)
    stack.callback(stepper.close)
    if device.type == "cuda" and prepared.train.images.numel() < _KEPT_ON_GPU * torch.cuda.mem_get_info(device)[0]:
        prepared = dataclasses.replace(prepared, train=prepared.train.to(device), test=prepared.test.to(device))

    identity = identify(dataset, data)
    run_dir = Path(config.run_dir) if config.run_dir is not None else new_run_dir(name, dataset.name)
    folder: RunFolder | None = None
    if group.writes:
        folder = RunFolder(run_dir, config.resume)
        stack.callback(folder.close)
        run_dir = folder.path
    config = config.replace(run_dir=str(run_dir))
    progress = Progress()
    content = b""
    if config.resume:
        path: Path | None = None
        if folder is not None:
            for found in folder.newest_state():
                if isinstance(found, events.CheckpointRefused):
                    yield found
                else:
                    path, content = found
        content = group.same_bytes(content)
        if content:
            state = checkpoints.load_state(path or run_dir, content)
            _check_identity(path or run_dir, state.data, identity)
            modelfile.put_weights(path or run_dir, stepper.model, state.weights)
            try:
                stepper.descent.load_state(state.optimiser)
            except ArgumentError as problem:
                raise CheckpointError(path or run_dir, str(problem)) from problem
            progress = Progress.of(state)
    if folder is not None:
        folder.write_config(
            {
                "model": None if described is None else modelfile.spec_to_json(described),
                "frozen": [each for each, parameter in model.named_parameters() if not parameter.requires_grad],
                "data": identity,
                "config": config.replace(resume=False).to_json(),
            }
        )
    training = Run(
        config=config,
        stepper=stepper,
        prepared=prepared,
        loss=loss,
        group=group,
        folder=folder,
        run_dir=run_dir,
        spec=described,
        data=identity,
        progress=progress,
        augmentation=augmentation,
        steps=steps,
        steps_per_epoch=batches,
        resume_command=f"convscope train --resume {run_dir}",
        learning_rate=config.learning_rate or usual_learning_rate(config.optimiser),
    )
    started = events.RunStarted(
        run_dir=run_dir,
        model=name,
        data=dataset.name,
        parameters=len(stepper.parameters.values),
        train_images=len(dataset.train),
        test_images=len(dataset.test),
        epochs=config.epochs,
        steps=steps,
        engine=stepper.name,
        device=str(device),
        reason=reason,
        processes=group.world,
        resumed_at=progress.step,
    )
    with StopSignals() as signals:
        for event in _with(started, training.train(signals)):
            if folder is not None and not isinstance(event, events.BatchDone):
                folder.note(event)
            yield event


def _with(first: events.Event, others: Iterator[events.Event]) -> Iterator[events.Event]:
    yield first
    yield from others


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A run that was begun before, as its folder describes it."""

    run_dir: Path
    described: dict[str, Any]

    @property
    def data(self) -> str:
        return str(self.described["data"]["source"])

    def model(self, given: nn.Module | str | None) -> nn.Module:
        """The model to go on with: ``given``, or built anew from the folder. Its weights come from the checkpoint, its
        class names and preprocessing from the folder."""
        saved = self.described["model"]
        if saved is None:
            if isinstance(given, nn.Module):
                return given
            raise ArgumentError("model", given, "the module that the run was begun with: the folder cannot rebuild it")
        described = modelfile.spec_from_json(saved)
        if isinstance(given, nn.Module):
            own = modelfile.current_spec(given, described.input_shape)
            return spec.attach(given, own.replace(classes=described.classes, preprocessing=described.preprocessing))
        if given is not None and given != described.architecture:
            raise CheckpointError(self.run_dir, f"a run of {described.architecture!r}, not of {given!r}")
        model = modelfile.rebuild(self.run_dir, described)
        for name in self.described.get("frozen", []):
            model.get_parameter(name).requires_grad_(False)
        return model


def _configuration(options: dict[str, Any]) -> tuple[Config, _Begun | None]:
    """The checked configuration; for a resumed run the folder's, with the few changes that leave it the same run."""
    config = Config.of(**options)
    if not config.resume:
        return config, None
    run_dir = Path(str(config.run_dir)).expanduser()
    if not (run_dir / "config.json").is_file():
        raise ArgumentError("run_dir", str(run_dir), "the folder of a run that was begun (it has no config.json)")
    described = read_config(run_dir)
    saved = Config.from_json(described["config"])
    for name in options:
        before, now = getattr(saved, name), getattr(config, name)
        if name not in _CHANGEABLE and before != now:
            hint = f"Only {', '.join(sorted(_CHANGEABLE - {'resume', 'run_dir'}))} may change"
            raise ArgumentError(name, now, f"{before!r}, as the run was begun with", hint)
    return saved.replace(**options), _Begun(run_dir, described)


def identify(dataset: Dataset, data: Data) -> dict[str, Any]:
    """What tells a data set from another: name, sizes, classes, and a checksum over labels and some 256 pictures."""
    source = dataset.name if isinstance(data, Dataset) else str(data)
    if not isinstance(data, Dataset) and source not in list_datasets() and Path(source).exists():
        source = str(Path(source).absolute())  # so that the run can be resumed from any folder
    return {
        "source": source,
        "name": dataset.name,
        **dataset.describe(),
        "checksum": dataset.fingerprint(),
    }


def _check_identity(path: Path, saved: dict[str, Any], identity: dict[str, Any]) -> None:
    for name in ("train_images", "test_images", "classes", "checksum"):
        if saved[name] != identity[name]:
            problem = f"the run was begun with other data ({name}: {saved[name]}, now {identity[name]})"
            raise CheckpointError(path, problem, "Resume with the same data set")
