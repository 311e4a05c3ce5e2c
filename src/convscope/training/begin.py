"""What a run begins from: its configuration, or the folder of a run that was begun before."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset, list_datasets
from convscope.errors import ArgumentError, CheckpointError
from convscope.models import modelfile
from convscope.spec import ModelSpec
from convscope.training import checkpoints, events
from convscope.training.config import Config
from convscope.training.distributed import Group
from convscope.training.loop import Progress
from convscope.training.optimisers import usual_learning_rate
from convscope.training.run_folder import RunFolder, read_config
from convscope.training.schedules import Clock, rate_at
from convscope.training.steppers import Stepper

# Settings that a resumed run may change without becoming another run.
_CHANGEABLE = {
    "epochs", "max_steps", "run_dir", "resume", "checkpoint_seconds", "checkpoint_batches", "keep_checkpoints",
    "threads", "watch", "check_engine", "evaluate_every", "evaluation_batch_size", "stop_tolerance", "stop_patience",
    "device", "log", "average_epochs", "process_timeout",
}  # fmt: skip

# A change of the learning rate by less than this share is no leap.
_LEAP = 0.1

Source = Dataset[Any] | str | Path


@dataclasses.dataclass(frozen=True)
class Begun:
    """A run that was begun before, as its folder describes it."""

    run_dir: Path
    described: dict[str, Any]

    @property
    def data(self) -> str:
        return str(self.described["data"]["source"])

    @property
    def task(self) -> str:
        """The task's name; runs of before there were several were all classifiers'."""
        return str(self.described.get("task", "classification"))

    def model(self, given: nn.Module | str | None) -> nn.Module:
        """The model to go on with: ``given``, or built anew from the folder. Its weights come from the checkpoint, its
        answers' names and preprocessing from the folder."""
        saved = self.described["model"]
        if saved is None:
            if isinstance(given, nn.Module):
                return given
            raise ArgumentError("model", given, "the module that the run was begun with: the folder cannot rebuild it")
        described = modelfile.spec_from_json(self.run_dir / "config.json", saved)
        assert described is not None
        if isinstance(given, nn.Module):
            shapes: tuple[Any, ...] = tuple(each.shape for each in described.inputs)
            own = modelfile.current_spec(given, shapes if len(shapes) > 1 else described.input_shape)
            return spec.attach(
                given, own.replace(task=described.task, inputs=described.inputs, answers=described.answers)
            )
        if given is not None and given != described.architecture:
            raise CheckpointError(self.run_dir, f"a run of {described.architecture!r}, not of {given!r}")
        model = modelfile.rebuild(self.run_dir / "config.json", described)
        parameters = dict(model.named_parameters())
        for name in self.described.get("frozen", []):
            if name not in parameters:
                raise CheckpointError(self.run_dir / "config.json", f"damaged: the model has no parameter {name!r}")
            parameters[name].requires_grad_(False)
        return model


def configuration(options: dict[str, Any]) -> tuple[Config, Begun | None]:
    """The checked configuration; for a resumed run the folder's, with the few changes that leave it the same run."""
    config = Config.of(**options)
    if not config.resume:
        return config, None
    run_dir = Path(str(config.run_dir)).expanduser()
    if not (run_dir / "config.json").is_file():
        raise ArgumentError("run_dir", str(run_dir), "the folder of a run that was begun (it has no config.json)")
    described = read_config(run_dir)
    try:
        # what may change does so before it is checked: the device of that time may not be here
        saved = Config.from_json(described["config"] | {"device": config.device})
    except ArgumentError as problem:
        raise CheckpointError(run_dir / "config.json", f"its configuration is damaged ({problem})") from problem
    saved = dataclasses.replace(saved, device=str(described["config"].get("device", config.device)))
    for name in options:
        before, now = getattr(saved, name), getattr(config, name)
        if name not in _CHANGEABLE and before != now:
            hint = f"Only {', '.join(sorted(_CHANGEABLE - {'resume', 'run_dir'}))} may change"
            raise ArgumentError(name, now, f"{before!r}, as the run was begun with", hint)
    return saved.replace(**options), Begun(run_dir, described)


def go_on(
    stepper: Stepper, folder: RunFolder | None, run_dir: Path, group: Group, identity: dict[str, Any]
) -> Generator[events.Event, None, tuple[Progress, Config | None]]:
    """Put the newest whole checkpoint of the folder into ``stepper``, in every process; where it stood, and with what
    configuration.

    Tells of damaged checkpoints that were passed over. Raises CheckpointError for one of other data or another model.
    """
    path: Path | None = None
    content = b""
    if folder is not None:
        for found in folder.newest_state():
            if isinstance(found, events.CheckpointRefused):
                yield found
            else:
                path, content = found
    content = group.same_bytes(content)
    if not content:
        return Progress(), None
    place = path or run_dir
    state = checkpoints.load_state(place, content)
    _check_identity(place, state.data, identity)
    modelfile.put_weights(place, stepper.model, state.weights)
    try:
        stepper.descent.load_state(state.optimiser)
    except ArgumentError as problem:
        raise CheckpointError(place, str(problem)) from problem
    try:
        return Progress.of(state), Config.from_json({**state.config, "device": "auto", "resume": False})
    except (ArgumentError, KeyError, TypeError, ValueError, AttributeError, StopIteration) as problem:
        raise CheckpointError(place, f"its description of the run is damaged ({problem!r})") from problem


def checked_epochs(config: Config, progress: Progress) -> None:
    """ArgumentError for a run that is to end before where it stands."""
    begun = progress.epoch if progress.batch else progress.epoch - 1
    if config.epochs < begun:
        raise ArgumentError("epochs", config.epochs, f"at least {begun}: so many the run has begun")


def rate_leap(
    before: Config | None, now: Config, progress: Progress, steps_per_epoch: int, steps: int
) -> events.RateLeaps | None:
    """What the learning rate does where a run goes on for more (or fewer) epochs than it was begun with: a schedule
    that spans the run is stretched, and a cosine that had come to its end goes on from half its height."""
    if before is None or not progress.step:
        return None
    planned = min(before.epochs * steps_per_epoch, before.max_steps or before.epochs * steps_per_epoch)
    rate = now.learning_rate or usual_learning_rate(now.optimiser)
    last, following = (
        rate_at(Clock(step, whole, steps_per_epoch), rate, now.schedule, now.schedule_options, now.warmup)
        for step, whole in ((progress.step - 1, planned), (progress.step, steps))
    )
    undisturbed = rate_at(
        Clock(progress.step, planned, steps_per_epoch), rate, now.schedule, now.schedule_options, now.warmup
    )
    if steps == planned or progress.step == steps or abs(following - undisturbed) <= _LEAP * max(following, last):
        return None
    return events.RateLeaps(progress.step, last, following, now.schedule, planned, steps)


def identify(dataset: Dataset[Any], data: Source) -> dict[str, Any]:
    """What tells a data set from another: name, kind, sizes, what its examples say of themselves, and a checksum."""
    source = dataset.name if isinstance(data, Dataset) else str(data)
    if not isinstance(data, Dataset) and source not in list_datasets() and Path(source).exists():
        source = str(Path(source).absolute())  # so that the run can be resumed from any folder
    described = {"kind": dataset.kind, **dataset.describe(), "checksum": dataset.fingerprint()}
    return {"source": source, "name": dataset.name, **described}


def _check_identity(path: Path, saved: dict[str, Any], identity: dict[str, Any]) -> None:
    for name, now in identity.items():
        before = saved.get(name, now)  # format 1 knew one kind, and did not name it
        if name not in ("source", "name") and before != now:
            problem = f"the run was begun with other data ({name}: {before}, now {now})"
            raise CheckpointError(path, problem, "Resume with the same data set")


def describe_run(model: nn.Module, task: str, config: Config, identity: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds."""
    described: ModelSpec | None = spec.spec_of(model)
    return {
        "task": task,
        "model": None if described is None else described.to_json(),
        "frozen": [each for each, parameter in model.named_parameters() if not parameter.requires_grad],
        "data": identity,
        "config": config.replace(resume=False).to_json(),
    }
