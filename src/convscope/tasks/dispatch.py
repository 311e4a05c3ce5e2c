"""``fit``, ``evaluate`` and ``predict``: they find out which task is meant, and ask it."""

from __future__ import annotations

import signal
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset, load_dataset
from convscope.data.examples import Examples
from convscope.errors import ArgumentError
from convscope.models.catalog import MODELS
from convscope.models.modelfile import load
from convscope.native.trust import checking
from convscope.tasks.registry import TASKS, task_of
from convscope.tasks.tensorboard_log import check_package, logged
from convscope.training import begin, events
from convscope.training.evaluation import evaluate_examples
from convscope.training.events import Result
from convscope.training.figures import Figures
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import build_model, initialise_model
from convscope.training.run import run as run_task
from convscope.training.task import Task


def fit(
    model: nn.Module | str | None = None,
    data: begin.Source | None = None,
    *,
    task: str | Task | None = None,
    settings: Mapping[str, Any] | None = None,
    listeners: Sequence[events.Listener] = (),
    model_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Result:
    """Train ``model`` on ``data`` and return history, figures on the test examples and the run folder.

    ``model`` is a module or a catalogue name (built with ``model_options``), ``data`` a data set, its name or a path.
    ``task`` is by default what the model is for, ``settings`` are those of the task's own page. ``options`` are the
    fields of ``Config``. Each of ``listeners`` is called with every event. With ``resume=True`` and ``run_dir``, the
    run in that folder goes on exactly where its newest whole checkpoint was taken; model and data then come from the
    folder unless given.

    Ctrl-C and SIGTERM finish the batch and save a checkpoint; then KeyboardInterrupt or SystemExit goes on up. Raises
    ArgumentError (UnknownNameError for names) for settings that cannot work, TrainingError when the loss breaks,
    CheckpointError when the folder cannot be written.
    """
    result: Result | None = None
    for event in run(model, data, task=task, settings=settings, model_options=model_options, **options):
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
    data: begin.Source | None = None,
    *,
    task: str | Task | None = None,
    settings: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Generator[events.Event, None, None]:
    """``fit`` as a generator of its events; the last is RunFinished or Interrupted."""
    config, begun = begin.configuration({**options, **({"settings": dict(settings)} if settings is not None else {})})
    if config.log == "tensorboard":
        check_package()
    if begun is not None:
        model, data = begun.model(model), data if data is not None else begun.data
        task = task if task is not None else begun.task
    if model is None or data is None:
        missing = "model" if model is None else "data"
        raise ArgumentError(
            missing, None, "a catalogue name or a module" if model is None else "a data set or its name"
        )
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    if isinstance(model, str):
        named = MODELS[model].card.task if task is None else task
        chosen = named if isinstance(named, Task) else TASKS[named](config.settings)
        task_of(nn.Identity(), dataset, chosen)  # data of another kind are refused before anything is built
        model = build_model(model, {**chosen.options(dataset), **dict(model_options or {})}, config)
    elif model_options:
        raise ArgumentError("model_options", model_options, "none beside a module, which is built already")
    else:
        chosen = task_of(model, dataset, task, config.settings)
        if begun is None:
            initialise_model(model, config)
    told = run_task(chosen, model, dataset, data, config)
    yield from told if config.log == "csv" else logged(told, model, config)


def evaluate(
    model: nn.Module,
    data: Examples | Dataset[Any] | str | Path,
    batch_size: int = 256,
    loss: Any = None,
    preprocessing: spec.Preprocessing | None = None,
    engine: str | Inference = "auto",
    *,
    task: str | Task | None = None,
    check: bool = True,
) -> Figures:
    """The figures of the model's task on ``data``: examples, a data set or its name (then its test examples).

    The model runs in evaluation mode where its parameters are, and is left in the mode it had. ``preprocessing``
    defaults to the one the model carries. Raises ArgumentError when data and model do not go together. Names go
    together by what they are, not by their numbers: those of the data must be among the model's. ``check``: the native
    engine's first answers are compared with torch's.
    """
    if isinstance(data, str | Path):
        data = load_dataset(data)
    dataset = data if isinstance(data, Dataset) else None
    chosen = task_of(model, dataset, task)
    examples = data.test if isinstance(data, Dataset) else data
    examined = chosen.examine(model, examples, dataset, preprocessing)
    objective = chosen.objective(model, loss)
    inference = engine
    if not isinstance(inference, Inference):
        with checking(check):
            inference = prepare_inference(model, examined.inputs, inference, len(examples))
    return evaluate_examples(chosen, model, examined, batch_size, objective, inference.outputs)


def predict(
    model: nn.Module | str | Path,
    inputs: Any,
    batch_size: int = 64,
    preprocessing: spec.Preprocessing | None = None,
    engine: str = "auto",
    *,
    task: str | Task | None = None,
    check: bool = True,
) -> list[Any]:
    """The model's answer to each of ``inputs``: whatever its task takes (files, folders, arrays, tensors, sentences),
    answers of its task. See the task's own page, for classification ``convscope.tasks.classification.predict``.

    ``model`` is a module or the path of a saved one. ``engine``: "auto", "native" or "torch", and ``check``, as for
    ``evaluate``.
    """
    network = model if isinstance(model, nn.Module) else load(model)
    with checking(check):
        return list(task_of(network, task=task).predict(network, inputs, batch_size, preprocessing, engine))
