"""The one page of settings that a training run has; it is checked at the door and travels in every checkpoint."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

import torch

from convscope.data.augment import parse_augmentation
from convscope.errors import ArgumentError, UnknownNameError

Engine = Literal["auto", "native", "torch", "rules"]
Precision = Literal["auto", "float32", "bfloat16", "float64"]


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run; ``Config.of(**options)`` makes one and refuses unknown names."""

    # What is minimised
    loss: str | None = None  # a name in LOSSES; None: the one on the architecture's card, else cross_entropy

    # The task's own page of settings, by name; see the task's ``Settings``
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    # How long
    epochs: int = 12  # passes over the training examples
    # Most descent steps in all; None: no limit but the epochs. Schedules that end with the run, as cosine, follow it.
    max_steps: int | None = None
    batch_size: int = 64  # examples a descent step, over all processes together
    stop_tolerance: float = 0.0  # stop when |ΔJ| between epochs stays below this (in units of the loss); 0: never
    stop_patience: int = 3  # … for so many epochs running

    # The descent step
    optimiser: str = "adam"  # sgd, nesterov, adam, adamw, rmsprop, adagrad or the name of a torch.optim class
    learning_rate: float | None = None  # step length at the schedule's factor 1; None: the optimiser's usual one
    momentum: float = 0.9  # share of the last step kept (sgd, nesterov, rmsprop)
    weight_decay: float = 0.0  # λ of the penalty λ/2·‖w‖²; adamw takes it off the weights directly
    optimiser_options: dict[str, Any] = dataclasses.field(default_factory=dict)  # passed on by name, e.g. betas
    # Parameter-name prefix → factor on the learning rate, the longest prefix that fits; 0 leaves the parameters alone.
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    gradient_clip: float | None = None  # longest gradient (L2 norm over all parameters) let through; None: any

    # The learning rate over time
    schedule: str = "cosine"  # constant, step, exponential, decaying, cosine, one_cycle
    schedule_options: dict[str, float] = dataclasses.field(default_factory=dict)  # its numbers, see schedules.py
    warmup: float = 0.0  # epochs over which the rate first rises in a straight line from 0

    # The start
    init: str = "default"  # how weights are drawn (a name in INITIALISERS); default: as the architecture's builder does
    init_scale: float | None = None  # the constant of the initialiser's formula; None: its own
    seed: int = 0  # all chance in a run derives from it

    # The pictures
    augment: str = ""  # operations on every training batch, e.g. "translate:2,rotate:10"; see convscope.data.augment
    fit: Literal["auto", "resize", "pad", "crop"] = "auto"  # how a picture meets the input size; auto: see preparing.py

    # The end
    average_epochs: int = 1  # the finished model is the mean of its parameters after so many of the last epochs

    # The engine
    engine: Engine = "auto"
    device: str = "auto"  # cpu, cuda, cuda:1 …; auto: a GPU when there is one
    precision: Precision = "auto"  # of the layers' arithmetic; auto: bfloat16 on a GPU that has it, float32 elsewhere
    compile: bool | None = None  # torch.compile and one CUDA graph a step; None: on a GPU only
    threads: int | None = None  # CPU threads; None: as torch is set
    # Of several processes: batch normalisation by the whole batch's statistics, not each process's share's; torch only.
    sync_batch_norm: bool = False
    # Of several processes: seconds after which one that does not come to an exchange counts as lost. The longest wait
    # of a healthy run is that for the first process's checkpoint and its look at the layers after an epoch.
    process_timeout: float = 300.0
    check_engine: bool = True  # compare the native engine's first step and evaluation with torch's: native/trust.py

    # The run folder
    run_dir: str | None = None  # None: runs/<model>-<data>-<number>
    resume: bool = False  # go on from run_dir's newest whole checkpoint
    checkpoint_seconds: float = 60.0  # least time between checkpoints inside an epoch; every epoch's end has one
    checkpoint_batches: int | None = None  # also one every so many batches, which does not depend on the clock
    keep_checkpoints: int = 2  # so that a damaged one is not the only one
    log: Literal["csv", "tensorboard"] = "csv"  # tensorboard: history.csv as ever, and files for TensorBoard beside it
    watch: bool = True  # record activations, deltas and dead units of a few test examples after every epoch

    # Evaluation
    evaluate_every: int = 1  # epochs; the last epoch is always evaluated
    evaluation_batch_size: int = 256  # examples at a time

    @classmethod
    def of(cls, **options: Any) -> Config:
        """A checked configuration; UnknownNameError for a name that is no setting, ArgumentError for a bad value."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError("training option", name, known)
        if isinstance(options.get("augment"), list | tuple):
            options["augment"] = ",".join(map(str, options["augment"]))
        if options.get("augment", "") is None:
            options["augment"] = ""
        config = cls(**options)
        config.check()
        return config

    def replace(self, **changes: Any) -> Config:
        return type(self).of(**{**_shallow(self), **changes})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Config:
        return cls.of(**saved)

    def check(self) -> None:
        """Raise ArgumentError for the first field whose value cannot work (names of registries are checked on use)."""
        _count("epochs", self.epochs)
        _count("max_steps", self.max_steps, optional=True)
        _count("batch_size", self.batch_size)
        _count("stop_patience", self.stop_patience)
        _count("average_epochs", self.average_epochs)
        _count("keep_checkpoints", self.keep_checkpoints)
        _count("checkpoint_batches", self.checkpoint_batches, optional=True)
        _count("evaluate_every", self.evaluate_every)
        _count("evaluation_batch_size", self.evaluation_batch_size)
        _count("threads", self.threads, optional=True)
        _count("seed", self.seed, least=0)
        _number("stop_tolerance", self.stop_tolerance)
        _number("learning_rate", self.learning_rate, positive=True, optional=True)
        _number("momentum", self.momentum, below=1.0)
        _number("weight_decay", self.weight_decay)
        _number("init_scale", self.init_scale, positive=True, optional=True)
        _number("gradient_clip", self.gradient_clip, positive=True, optional=True)
        _number("warmup", self.warmup)
        _number("checkpoint_seconds", self.checkpoint_seconds)
        _number("process_timeout", self.process_timeout, positive=True)
        for prefix, factor in _mapping("learning_rates", self.learning_rates).items():
            _number(f"learning_rates[{prefix!r}]", factor)
        for option, value in _mapping("schedule_options", self.schedule_options).items():
            _number(f"schedule_options[{option!r}]", value)
        _mapping("optimiser_options", self.optimiser_options)
        _mapping("settings", self.settings)
        _choice("engine", self.engine, get_args(Engine))
        _choice("precision", self.precision, get_args(Precision))
        _choice("fit", self.fit, ("auto", "resize", "pad", "crop"))
        _choice("log", self.log, ("csv", "tensorboard"))
        for argument in ("resume", "watch", "check_engine"):
            if not isinstance(getattr(self, argument), bool):
                raise ArgumentError(argument, getattr(self, argument), "True or False")
        if self.resume and self.run_dir is None:
            raise ArgumentError("run_dir", None, "the folder of the run to resume")
        for argument in ("optimiser", "schedule", "init", "device", "augment"):
            if not isinstance(getattr(self, argument), str):
                raise ArgumentError(argument, getattr(self, argument), "a name")
        if self.augment:
            parse_augmentation(self.augment)
        check_device(self.device)


def check_device(device: str) -> None:
    """Raise ArgumentError unless ``device`` is "auto" or a device that this computer has."""
    if device == "auto":
        return
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as problem:
        raise ArgumentError("device", device, "auto, cpu, cuda or cuda:<number>") from problem
    if parsed.type not in ("cpu", "cuda"):
        raise ArgumentError("device", device, "auto, cpu, cuda or cuda:<number>")
    if parsed.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found <= (parsed.index or 0):
            raise ArgumentError(
                "device", device, f"a device that is there: torch finds {found} GPUs", "Use device='cpu'"
            )


def _shallow(config: Config) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _count(argument: str, value: object, least: int = 1, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ArgumentError(argument, value, f"an integer ≥ {least}" + (" or None" if optional else ""))


def _number(
    argument: str, value: object, positive: bool = False, below: float = math.inf, optional: bool = False
) -> None:
    if value is None and optional:
        return
    wanted = "a number > 0" if positive else "a number ≥ 0"
    wanted += f" and < {below:g}" if below < math.inf else ""
    wanted += " or None" if optional else ""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ArgumentError(argument, value, wanted)
    if value < 0 or value >= below or (positive and value == 0):
        raise ArgumentError(argument, value, wanted)


def _choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(argument, value, choices)


def _mapping(argument: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ArgumentError(argument, value, "a dictionary with names as keys")
    return value
