"""A run as TensorBoard shows it: files of the package ``tensorboard`` in the run folder's ``tensorboard/``.

scalars               figures after every epoch, learning rate, speed, and the running figures some fifty times an epoch
images                the first-layer kernels after every epoch
histograms            weights, and their gradients in the epoch's last step, after every epoch
graph                 the model's layers
hparams               the settings, beside the finished model's figures
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from convscope.errors import ArgumentError, ConvscopeError
from convscope.graph.calls import Walk, walk
from convscope.graph.examples import needed_inputs
from convscope.spec import spec_of
from convscope.tasks.registry import TASKS
from convscope.training import events
from convscope.training.config import Config

FOLDER = "tensorboard"
_TIMES = 50  # running figures an epoch


def check_package() -> None:
    """ArgumentError, naming the extra, where the package ``tensorboard`` is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        hint = "pip install 'convscope[tensorboard]'"
        raise ArgumentError("log", "tensorboard", "the optional extra 'tensorboard' to be installed", hint)


def logged(told: Iterator[events.Event], model: nn.Module, config: Config) -> Iterator[events.Event]:
    """The events of a run of ``model``, each noted before it goes on; of several processes the first one notes."""
    check_package()
    writer: _Log | None = None
    try:
        for event in told:
            if isinstance(event, events.RunStarted) and _first():
                writer = _Log(event, model, config)
            if writer is not None:
                writer(event)
            yield event
    finally:
        if writer is not None:
            writer.close()


def _first() -> bool:
    if distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return os.environ.get("RANK", "0") == "0"


class _Log:
    """Writes one process's events. What a resumed run had written beyond its checkpoint is purged by its readers: the
    new file begins with the step from which on all before is void."""

    def __init__(self, started: events.RunStarted, model: nn.Module, config: Config) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.model, self.config, self.started = model, config, started
        purged = started.resumed_at + 1 if started.resumed_at else None
        self.writer: Any = SummaryWriter(str(Path(started.run_dir) / FOLDER), purge_step=purged)
        if not started.resumed_at:
            self._begin()
        self.writer.flush()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.BatchDone):
            if event.batch % max(1, event.batches // _TIMES) == 0:
                self._scalars("running", event.figures, event.step)
        elif isinstance(event, events.EpochDone):
            self._epoch(event)
        elif isinstance(event, events.RunFinished):
            self._end(event.result)

    def close(self) -> None:
        self.writer.close()

    def _scalars(self, group: str, figures: Mapping[str, Any], step: int) -> None:
        for name, value in figures.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(f"{name}/{group}", float(value), step)

    def _epoch(self, event: events.EpochDone) -> None:
        self._scalars("training", event.train, event.step)
        self._scalars("test", event.test, event.step)
        speeds = {"learning_rate": event.learning_rate, f"{event.unit}_per_second": event.per_second}
        for name, value in {**speeds, "seconds": event.seconds, "number": event.epoch}.items():
            self.writer.add_scalar(f"epoch/{name}", float(value), event.step)
        for name, parameter in self.model.named_parameters():
            self._histogram(f"weights/{name}", parameter, event.step)
            if parameter.grad is not None:
                self._histogram(f"gradients/{name}", parameter.grad, event.step)
        self._kernels(event.step)
        self.writer.flush()

    def _histogram(self, name: str, values: torch.Tensor, step: int) -> None:
        flat = values.detach().float().cpu().flatten().numpy()
        if flat.size and np.isfinite(flat).all():
            self.writer.add_histogram(name, flat, step)

    def _kernels(self, step: int) -> None:
        from convscope.inspect.pictures import kernels_figure, kernels_of

        for name, module in self.model.named_modules():
            sheet = kernels_of(name, module, colour=getattr(module, "in_channels", 0) == 3)
            if sheet is None or sheet.values.shape[2] * sheet.values.shape[3] == 1:
                continue
            figure = kernels_figure(sheet)
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
            self.writer.add_image(f"kernels/{name}", pixels, step, dataformats="HWC")
            return

    def _begin(self) -> None:
        """The graph and the settings."""
        from tensorboard.compat.proto.config_pb2 import RunMetadata

        writer = self.writer.file_writer
        if (graph := _graph(self.model)) is not None:
            writer.add_graph((graph, RunMetadata()))
        names = TASKS[self.started.task].history
        experiment, begun, _ = _hparams(self.config, self.started, {f"final/{name}": 0.0 for name in names})
        writer.add_summary(experiment)
        writer.add_summary(begun)

    def _end(self, result: events.Result) -> None:
        figures = {f"final/{name}": float(value) for name, value in result.metrics.items() if _number(value)}
        _, _, ended = _hparams(self.config, self.started, figures)
        for name, value in figures.items():
            self.writer.add_scalar(name, value, result.history[-1].step)
        self.writer.file_writer.add_summary(ended)
        self.writer.flush()


def _hparams(config: Config, started: events.RunStarted, figures: Mapping[str, float]) -> Any:
    """The plugin's three summaries: which settings and figures there are, the settings, the end."""
    from torch.utils.tensorboard import summary

    made: Any = summary.hparams  # torch gives it no types
    return made(_settings(config, started), dict(figures))


def _settings(config: Config, started: events.RunStarted) -> dict[str, Any]:
    """The configuration and what the run is of, as values that the plugin takes."""
    told: dict[str, Any] = {"model": started.model, "data": started.data, "engine_used": started.engine}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in ("run_dir", "resume"):
            told[field.name] = value if isinstance(value, bool | int | float | str) else str(value)
    return told


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _graph(model: nn.Module) -> Any:
    """TensorBoard's graph of a model of one input; None for others, and for one that cannot be walked."""
    described = spec_of(model)
    if described is None or len(needed_inputs(model)) != 1:
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            walked = walk(model)
    except (ConvscopeError, RuntimeError):
        return None
    return _as_definition(walked)


def _as_definition(walked: Walk) -> Any:
    """Names with dots become scopes, as TensorBoard folds them."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    def shaped(shape: tuple[int, ...]) -> Any:
        sizes = [TensorShapeProto.Dim(size=each) for each in shape]
        return AttrValue(list=AttrValue.ListValue(shape=[TensorShapeProto(dim=sizes)]))

    place: Callable[[str], str] = lambda name: name.replace(".", "/").replace(":", "_")  # noqa: E731
    nodes = [NodeDef(name=walked.input_name, op="input", attr={"_output_shapes": shaped((1, *walked.input_shape))})]
    known = {walked.input_name}
    for step in walked:
        sources = [place(each) for each in dict.fromkeys(step.input_names) if each in known]
        shape = {} if step.output_shape is None else {"_output_shapes": shaped(step.output_shape)}
        nodes.append(NodeDef(name=place(step.name), op=step.kind, input=sources, attr=shape))
        known.add(step.name)
    return GraphDef(node=nodes, versions=VersionDef(producer=22))
