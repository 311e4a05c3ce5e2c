"""A convolutional network as an estimator of scikit-learn."""

from __future__ import annotations

import contextlib
import copy
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import nn

from convscope import seeding, spec
from convscope.data import Dataset, Labelled
from convscope.data.examples import map_tensors
from convscope.data.kinds.labelled import stratified_places
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.models import modelfile, portable
from convscope.models.probabilities import probabilities
from convscope.sklearn.answering import Answering
from convscope.sklearn.arrays import (
    Array,
    InputShape,
    as_array,
    as_pixels,
    channels_first,
    picture_shape,
    pixels_tensor,
)
from convscope.sklearn.numbers import Numbers, NumbersClassification, as_tensor, standardised
from convscope.sklearn.weights import (
    WeighedClassification,
    WeighedNumbers,
    WeighedNumbersClassification,
    WeighedPictures,
    checked_weights,
    weighed,
)
from convscope.spec import Input, ModelSpec
from convscope.tasks import fit as train
from convscope.tasks.classification.task import Classification
from convscope.training import events
from convscope.training.preparing import preprocessing_of

Network = str | Path | ModelSpec | nn.Module | Callable[..., nn.Module]
_NESTED = ("model_options", "fit_options")
# Without validation examples the loop's one evaluation, at the end, looks at so many training examples only.
_LOOKED_AT = 256


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network of the catalogue, or your own, with ``fit``, ``predict``, ``predict_proba`` and ``score``.

    X is numpy's or torch's: pictures (n, h, w), (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels, or rows of
    features with ``input_shape``, the shape of a picture as numpy's ``reshape`` takes it ("row": one line of pixels,
    for signals). uint8 is taken as pixels, as everywhere in convscope, and only these can be augmented and train on the
    native engine; other numbers are standardised by each channel's mean and deviation in the training data. y holds
    labels of any type that scikit-learn takes.

    Parameters:

    - ``model``: a catalogue name, a saved model's file to train on, a ``ModelSpec``, a module (copied), or a function
      that makes one; of ``classes``, ``in_channels`` and ``input_shape`` (c, h, w) it is given what it has arguments
      for.
    - ``input_shape``: see above; None where X holds pictures.
    - ``epochs``, ``batch_size``, ``optimiser``, ``learning_rate``, ``weight_decay``, ``augment``, ``engine``,
      ``device``: as ``convscope.fit`` has them.
    - ``model_options``: of the builder or function; ``model_options__NAME`` sets a single one, in a grid search too.
    - ``fit_options``: any other setting of ``convscope.fit``, also as ``fit_options__NAME``.
    - ``validation_fraction``: share of each class that is set aside and evaluated after every epoch; 0: none.
    - ``warm_start``: ``fit`` goes on from the weights of the last one; labels and pictures must be of the same kind.
    - ``run_dir``: a folder in which every ``fit`` makes a run folder of its own; None: it is thrown away.
    - ``random_state``: the seed of weights, order and augmentation; None takes it from numpy's global generator.
    - ``verbose``: show a progress bar, a line an epoch where there is no terminal.

    After ``fit``: ``classes_``, ``n_features_in_`` (numbers in a picture), ``model_`` (an ordinary convscope model),
    ``history_`` (one mapping an epoch), ``engine_``, ``run_dir_``.

    Pickled, as joblib's workers need it, the model is the bytes of its safetensors file, and is read back as such.
    """

    classes_: Array
    n_features_in_: int
    shape_in_: tuple[int, ...]
    pixels_: bool
    input_: Input
    model_: nn.Module
    history_: list[dict[str, Any]]
    engine_: str
    run_dir_: str | None
    _answering: Answering

    def __init__(
        self,
        model: Network = "lenet5",
        *,
        input_shape: InputShape = None,
        epochs: int = 12,
        batch_size: int = 64,
        optimiser: str = "adam",
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        augment: str = "",
        engine: str = "auto",
        device: str = "auto",
        model_options: Mapping[str, Any] | None = None,
        fit_options: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.0,
        warm_start: bool = False,
        run_dir: str | Path | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.input_shape = input_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.augment = augment
        self.engine = engine
        self.device = device
        self.model_options = model_options
        self.fit_options = fit_options
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.run_dir = run_dir
        self.random_state = random_state
        self.verbose = verbose

    # ── parameters ──

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """scikit-learn's, with ``deep`` also each entry of ``model_options`` and ``fit_options``."""
        found: dict[str, Any] = super().get_params(deep=False)
        for name in _NESTED if deep else ():
            if isinstance(found[name], Mapping):
                found |= {f"{name}__{key}": value for key, value in found[name].items()}
        return found

    def set_params(self, **params: Any) -> CNNClassifier:
        """scikit-learn's; ``model_options__NAME`` and ``fit_options__NAME`` set one entry and leave the others."""
        nested = {name: value for name, value in params.items() if name.partition("__")[0] in _NESTED and "__" in name}
        super().set_params(**{name: value for name, value in params.items() if name not in nested})
        for name, value in nested.items():
            whole, _, key = name.partition("__")
            setattr(self, whole, {**(getattr(self, whole) or {}), key: value})
        return self

    # ── training ──

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CNNClassifier:
        """Train on pictures X and labels y; returns itself. Raises ArgumentError (a ValueError) for what cannot be.

        ``sample_weight``: a number for every example. One of weight 2 is the same as two of it, but for the batches
        that they fall into. Where the weights are not all equal, engine "auto" is torch's; "native" has its weighed
        loss taken by torch. Validation examples count alike.
        """
        going_on = self.warm_start and hasattr(self, "model_")
        before = (self.classes_.tolist(), self.shape_in_, self.pixels_) if going_on else None
        if y is None:
            raise ArgumentError(
                "y", None, "a class for each picture", "requires y to be passed, but the target y is None"
            )
        pictures = self._read(as_array(X), reset=True)
        y = column_or_1d(as_array(y), warn=True)
        check_consistent_length(pictures, y)
        weights = checked_weights(sample_weight, len(y))
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ArgumentError("y", f"one class, {self.classes_[0]!r}", "labels of at least two classes")
        if weights is not None and len(np.unique(numbers[weights > 0])) < 2:
            raise ArgumentError(
                "sample_weight", "0 in all classes but one class", "weights above 0 in at least two classes"
            )
        now = (self.classes_.tolist(), self.shape_in_, self.pixels_)
        if before is not None and before != now:
            wanted = f"labels, shape and kind of number of the last fit, {before}"
            raise ArgumentError("warm_start", now, wanted, "warm_start=False begins anew")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        dataset = self._dataset(pictures, torch.from_numpy(numbers.astype(np.int64)), seed, weights)
        with self._folder() as folder:
            self._train(dataset, seed, folder, going_on)
        return self

    def _train(self, dataset: Dataset[Any], seed: int, folder: Path, going_on: bool) -> None:
        options = {**self._settings(), **dict(self.fit_options or {}), "seed": seed, "run_dir": str(folder)}
        task = self._task(dataset, going_on)
        if not self.pixels_ and self.augment:
            raise ArgumentError("augment", self.augment, "none: only uint8 pictures can be augmented")
        network: Any = self.model_ if going_on else self._network(dataset, seed)
        given = {"model_options": dict(self.model_options or {}) or None} if isinstance(network, str) else {}
        heard: list[events.RunStarted] = []

        def listen(event: events.Event) -> None:
            if isinstance(event, events.RunStarted):
                heard.append(event)

        with _display(self.verbose) as shown:
            result = train(network, dataset, task=task, listeners=[listen, *shown], **given, **options)
        self.model_, self._answering = result.model.eval(), Answering()
        if isinstance(task, NumbersClassification):
            assert task.own is not None
            self.input_ = task.own
        else:
            preprocessing = preprocessing_of(self.model_, dataset, result.config)
            self.input_ = Input("pictures", preprocessing=preprocessing)
        self.engine_ = heard[0].engine
        self.run_dir_ = None if self.run_dir is None else str(result.run_dir)
        hidden = "" if self.validation_fraction else "test_"  # figures of training examples under another name
        self.history_ = [
            {name: value for name, value in row.row().items() if not hidden or not name.startswith(hidden)}
            for row in result.history
        ]

    def _task(self, dataset: Dataset[Any], going_on: bool) -> Classification:
        plain = not isinstance(dataset.train, WeighedPictures | WeighedNumbers)
        if self.pixels_:
            return Classification() if plain else WeighedClassification()
        before = self.input_ if going_on else None
        return NumbersClassification(before) if plain else WeighedNumbersClassification(before)

    def _settings(self) -> dict[str, Any]:
        names = ("epochs", "batch_size", "optimiser", "learning_rate", "weight_decay", "augment", "engine", "device")
        usual = {"watch": False, **({} if self.validation_fraction else {"evaluate_every": self.epochs})}
        return {**usual, **{name: getattr(self, name) for name in names}}

    def _dataset(self, pictures: Array, labels: torch.Tensor, seed: int, weights: Array | None) -> Dataset[Any]:
        names = tuple(map(str, self.classes_.tolist()))
        if self.pixels_:
            whole = Labelled(pixels_tensor(pictures), labels, names)
        else:
            whole = Numbers(as_tensor(pictures), labels, names)
        places = some = torch.arange(len(whole))
        if self.validation_fraction:
            places, some = stratified_places(labels, len(names), self.validation_fraction, seed)
        train = whole if len(places) == len(whole) else whole.select(places)
        if weights is not None:
            train = weighed(train, weights[places.numpy()])
        if not self.validation_fraction:
            some = some[:: max(1, len(whole) // _LOOKED_AT)]
        return Dataset("arrays", train, whole.select(some))

    def _network(self, dataset: Dataset[Any], seed: int) -> nn.Module | str:
        """The model to train: a module, or the catalogue name that ``fit`` builds it by."""
        model, options = self.model, dict(self.model_options or {})
        if isinstance(model, str) and not model.endswith(".safetensors"):
            return model
        if options and isinstance(model, str | Path | ModelSpec | nn.Module):
            raise ArgumentError("model_options", options, "none beside a model that is built already")
        if isinstance(model, str | Path):
            return modelfile.load(model)
        if isinstance(model, nn.Module):
            return copy.deepcopy(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive(seed, "model"))
            if isinstance(model, ModelSpec):
                return spec.attach(portable.rebuild(model), model)
            if callable(model):
                given = {"classes": len(self.classes_), "in_channels": dataset.shape[0], "input_shape": dataset.shape}
                return model(**_taken(model, given), **options)
        raise ArgumentError("model", model, "a catalogue name, a model's file, a ModelSpec, a module or a function")

    def _folder(self) -> contextlib.AbstractContextManager[Path]:
        if self.run_dir is None:
            return _passing()
        below = Path(self.run_dir).expanduser()
        below.mkdir(parents=True, exist_ok=True)
        return contextlib.nullcontext(Path(tempfile.mkdtemp(prefix="fit-", dir=below)))

    # ── prediction ──

    def predict_proba(self, X: Any) -> Array:
        """(n, classes) float64, in the order of ``classes_``."""
        check_is_fitted(self)
        pictures = self._read(as_array(X), reset=False)
        if self.pixels_:
            assert self.input_.preprocessing is not None
            pixels = pixels_tensor(as_pixels(pictures))
            given, x = self.input_, prepare(pixels, self.input_.preprocessing)
        else:
            given, x = Input("numbers", self.input_.shape), standardised(as_tensor(pictures), self.input_)
        engine = self.engine if self.engine != "rules" and self.pixels_ else "torch"
        parts = self._answering.outputs(self.model_, given, engine, x)
        return torch.cat([probabilities(self.model_, _exact(part)) for part in parts]).numpy()

    def predict(self, X: Any) -> Array:
        """The most probable label of every picture."""
        shares = self.predict_proba(X)  # checks that there was a fit
        found: Array = self.classes_[shares.argmax(1)]
        return found

    def _read(self, X: Any, reset: bool) -> Array:
        """X checked as scikit-learn does and laid out as (n, c, h, w); ``reset`` notes its kind, else it must agree."""
        if getattr(X, "ndim", 2) <= 2:
            X = validate_data(self, X, reset=reset, dtype="numeric")
        else:
            X = check_array(X, allow_nd=True, dtype="numeric", estimator=self)
        shape = picture_shape(X.shape, self.input_shape)
        if reset:
            self.shape_in_, self.pixels_ = shape, X.dtype == np.uint8
            self.n_features_in_ = int(np.prod(shape))
        elif shape != self.shape_in_:
            raise ArgumentError("X", shape, f"pictures of shape {self.shape_in_}, as in fit")
        return channels_first(X, shape)

    # ── what scikit-learn asks of an estimator ──

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_answering", None)
        if "model_" in state:
            state["model_"] = _to_bytes(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        content = state.pop("model_", None)
        super().__setstate__(state)
        if content is not None:
            self.model_, self._answering = _from_bytes(content), Answering()


@contextlib.contextmanager
def _passing() -> Iterator[Path]:
    """A run folder's path that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="convscope-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "run"


@contextlib.contextmanager
def _display(wanted: bool) -> Iterator[list[events.Listener]]:
    if not wanted:
        yield []
        return
    from rich.console import Console

    from convscope.cli.progress import TrainingDisplay
    from convscope.tasks.displays import NotebookProgress

    console = Console()
    if console.is_jupyter:
        yield [NotebookProgress()]
        return
    with TrainingDisplay(console) as shown:
        yield [shown]


def _taken(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``given`` what the function has arguments for."""
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in parameters}


def _exact(outputs: Any) -> Any:
    return map_tensors(outputs, lambda each: each.detach().to("cpu", torch.float64))


def _to_bytes(model: nn.Module) -> bytes:
    """The model's safetensors file. Raises ArgumentError for a module that no description can rebuild."""
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        if spec.spec_of(model) is None:
            hint = "It trains and predicts, but joblib's workers cannot give it back"
            raise ArgumentError("model", type(model).__name__, "a module that a model file can describe", hint)
        return modelfile.save(model, Path(folder) / "model.safetensors").read_bytes()


def _from_bytes(content: bytes) -> nn.Module:
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        return modelfile.load(path)
