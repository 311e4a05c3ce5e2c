"""A stage of a job: a piece of work with a name, settings, and a result in a folder of its own."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError, CheckpointError
from convscope.models.modelfile import load
from convscope.tasks.dispatch import fit
from convscope.tasks.stages.events import JobEvent, StageProgress, StageTold
from convscope.tasks.stages.folder import MODEL, PARTS, digest, read_result, read_values, write_values
from convscope.tensorfile import read_bytes, write_text
from convscope.training import events
from convscope.training.events import Result
from convscope.training.task import Task

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_TOLD_SECONDS = 0.1  # between two batches that are told of


@dataclasses.dataclass(frozen=True)
class Stage:
    """One piece of a job.

    ``name`` is its folder below the job's ("features", "columns/w20-1"). ``settings`` are JSON values: everything that
    the result depends on, but for earlier stages; they are kept beside the result and compared when the job is called
    again. ``work(here)`` does it: it may train once by ``here.fit`` and returns tensors and JSON values by name, or
    None. ``after`` names the stages whose results it reads. ``threads`` of the processor is what it takes, None all:
    as many stages run side by side as there is room for. (The number of threads changes the order of sums and with it
    the last bits, so it belongs to the settings.)
    """

    name: str
    work: Callable[[Here], Mapping[str, Any] | None]
    settings: Mapping[str, Any]
    after: Sequence[str] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ArgumentError(
                "name", self.name, "a stage's name: letters, digits, '_', '-', '.', parts joined by '/'"
            )
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ArgumentError("threads", self.threads, "an integer ≥ 1 or None")
        try:
            plain = json.loads(json.dumps(dict(self.settings), allow_nan=False))
        except (TypeError, ValueError) as problem:
            raise ArgumentError(
                f"settings of stage {self.name!r}", self.settings, "JSON values", str(problem)
            ) from None
        object.__setattr__(self, "settings", plain)
        object.__setattr__(self, "after", tuple(self.after))


class MissingError(ArgumentError, KeyError):
    """A name that is not there, told of as ArgumentError does; a KeyError, so that ``in`` and ``get`` work."""

    __str__ = Exception.__str__


class Outcome(Mapping[str, Any]):
    """The result of a finished stage: what its work returned, by name, and, where it trained, the run.

    Read from the stage's files when first asked for, whether it was made a moment ago or last week.
    """

    def __init__(self, stage: str, folder: Path, fingerprint: str, seconds: float) -> None:
        self.stage, self.folder, self.fingerprint, self.seconds = stage, folder, fingerprint, seconds

    @functools.cached_property
    def values(self) -> dict[str, Any]:  # type: ignore[override]
        """Tensors and JSON values that the work returned."""
        return read_result(self.folder)

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise MissingError(
                "name", name, f"one of stage {self.stage!r}'s values: {', '.join(self.values) or 'none'}"
            )
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def weights(self) -> Path:
        """The file of the trained model."""
        return self.folder / MODEL

    def model(self) -> nn.Module:
        """The trained model, loaded anew on every call."""
        return load(self.weights)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The figures of the trained model, as metrics.json has them."""
        path = self.folder / "metrics.json"
        try:
            found: dict[str, Any] = json.loads(read_bytes(path))
        except ValueError as problem:
            raise CheckpointError(path, f"damaged ({problem})") from problem
        return found

    @functools.cached_property
    def history(self) -> list[dict[str, float | None]]:
        """A row an epoch, as history.csv has them; None where nothing was measured."""
        with (self.folder / "history.csv").open(encoding="utf-8", newline="") as file:
            return [
                {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)
            ]

    def pictures(self, below: Path) -> list[str]:
        """The PNG files of the stage's folder, relative to the folder ``below``."""
        below = below.expanduser().absolute()  # as the job's folder is
        return [path.relative_to(below).as_posix() for path in sorted(self.folder.glob("*.png"))]


class Here:
    """What the work of a stage is given: its ``folder``, the results of ``earlier`` stages, its ``threads``."""

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        earlier: Mapping[str, Outcome],
        threads: int,
        listener: Callable[[JobEvent], object],
    ) -> None:
        self.stage, self.folder, self.threads = stage, folder, threads
        self.earlier = _Earlier(stage.name, earlier)
        self.trained = False
        self._listener = listener
        self._told_at = 0.0

    def fit(
        self,
        model: nn.Module | str,
        data: Any,
        *,
        listeners: Sequence[events.Listener] = (),
        model_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """``convscope.fit`` in the stage's folder: begun afresh, or gone on with where a killed call left it.

        Raises what ``fit`` raises, and ArgumentError for a second call, ``run_dir`` or ``resume``.
        """
        for name in ("run_dir", "resume"):
            if name in options:
                raise ArgumentError(
                    name, options[name], "nothing: the stage decides where it trains and whether it goes on"
                )
        if self.trained:
            raise ArgumentError("fit", f"a second call in stage {self.stage.name!r}", "one training a stage")
        self.trained = True
        options = {"threads": self.threads, **options, "run_dir": str(self.folder)}
        if (self.folder / "config.json").is_file():
            options["resume"] = True
            if isinstance(model, str):
                model_options = None  # the folder knows them
        heard = [self._hear, *listeners]
        result = fit(model, data, listeners=heard, model_options=model_options, **options)
        if not (self.folder / "history.csv").is_file():  # it was damaged, and a finished run writes none
            write_history(self.folder / "history.csv", result.history)
        return result

    def part(self, name: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """A piece of a long work: ``make()`` returns tensors and JSON values, which are kept until the stage is
        finished; a call after a kill reads them instead. ``name`` as a stage's."""
        if not _NAME.fullmatch(name):
            raise ArgumentError("name", name, "a part's name: letters, digits, '_', '-', '.', parts joined by '/'")
        path = self.folder / PARTS / f"{name}.safetensors"
        if path.is_file():
            try:
                return read_values(path)
            except CheckpointError:
                path.unlink()  # damaged: made anew
        path.parent.mkdir(parents=True, exist_ok=True)
        write_values(path, make(), self.stage.name, legible=False)
        return read_values(path)

    def tell(self, share: float, text: str = "") -> None:
        """Tell who listens how far the work is: ``share`` from 0 to 1."""
        self._listener(StageProgress(self.stage.name, share, text))

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.BatchDone):
            if time.monotonic() - self._told_at < _TOLD_SECONDS:
                return
            self._told_at = time.monotonic()
        self._listener(StageTold(self.stage.name, events.to_json(event)))


def write_history(path: Path, history: Sequence[events.EpochDone]) -> None:
    """A row an epoch, as the run folder writes them."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    names = history[0].keys() if history else []
    rows.writerow(names)
    rows.writerows(["" if row[name] is None else row[name] for name in names] for row in history)
    write_text(path, table.getvalue())


class _Earlier(Mapping[str, Outcome]):
    """The results that a stage said it reads; any other is refused, for it might not be there yet."""

    def __init__(self, stage: str, outcomes: Mapping[str, Outcome]) -> None:
        self._stage, self._outcomes = stage, outcomes

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._outcomes:
            hint = f"Name it in after= of stage {self._stage!r}"
            raise MissingError("earlier", name, f"one of {', '.join(self._outcomes) or 'no stages'}", hint)
        return self._outcomes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)


def training(
    name: str,
    model: nn.Module | str | Callable[[Mapping[str, Outcome]], nn.Module],
    data: Any,
    *,
    model_options: Mapping[str, Any] | Callable[[Mapping[str, Outcome]], Mapping[str, Any]] | None = None,
    described: Mapping[str, Any] | None = None,
    after: Sequence[str] = (),
    threads: int | None = None,
    listeners: Sequence[events.Listener] = (),
    **options: Any,
) -> Stage:
    """A stage that trains ``model`` on ``data`` with ``options``, as ``convscope.fit`` takes them.

    Model, data and model options may be functions of the earlier results, called when the stage's turn comes; then
    ``described`` must say in words what they give ({"data": "cifar10, vehicles only"}), since only what is said there
    can be compared when the job is called again. A data set or module given itself is told from another by a checksum.
    """
    said = dict(described or {})
    given: dict[str, Any] = {"model": model, "data": data, "model_options": model_options}
    for argument, value in given.items():
        if argument not in said:
            said[argument] = _described(argument, value)
    if isinstance(options.get("task"), Task):
        said["task"] = options["task"].name

    def work(here: Here) -> None:
        made = {name: value(here.earlier) if _is_function(value) else value for name, value in given.items()}
        here.fit(made["model"], made["data"], model_options=made["model_options"], listeners=listeners, **options)

    return Stage(name, work, {**options, **said}, after, threads)


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, nn.Module)


def _described(argument: str, value: Any) -> Any:
    if _is_function(value):
        raise ArgumentError(
            f"described[{argument!r}]", None, f"words that say what the function given as {argument} gives"
        )
    if isinstance(value, nn.Module):
        return {"module": type(value).__name__, "checksum": digest(value.state_dict())}
    if value is None or isinstance(value, str | Mapping):
        return value
    if isinstance(value, Path):
        return str(value)
    splits = {split: getattr(value, split) for split in ("train", "test")}
    tensors = {f"{split}.{name}": each for split, whole in splits.items() for name, each in vars(whole).items()}
    return {"name": value.name, "checksum": digest({n: each for n, each in tensors.items() if torch.is_tensor(each)})}
