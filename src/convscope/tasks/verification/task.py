"""Verification: two pictures in, whether they show one person out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.data import Dataset, prepare
from convscope.data.augment import Augmentation, parse_augmentation
from convscope.data.examples import Batch, Examples
from convscope.data.feed import FixedStage, Stage
from convscope.data.kinds.pairs import Pairs
from convscope.errors import ArgumentError
from convscope.rules.pair_loss import pair_loss
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.registry import register
from convscope.tasks.verification import protocol
from convscope.tasks.verification.pairs import pairs_of
from convscope.tasks.verification.predict import Verdict, predict
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.preparing import description_of, how_to_fit, preprocessing_for
from convscope.training.task import AnyStage, Examined, Objective, Prepared, Scalar, Task, model_inputs
from convscope.training.trying import two_examples


@dataclasses.dataclass(frozen=True)
class VerificationSettings:
    pairs: int = 4000  # drawn of labelled pictures, half of one person; data of pairs are taken as they are
    # HEIGHTxWIDTH that pictures are brought to, of which patches of the model's size are then cut, anywhere while
    # training and from the middle else; empty: the model's size
    whole: str = ""


class PairObjective(Objective):
    """J = (1/n)·Σ ln(1 + e^(δ·D)), D the model's output, δ = ±1 (Xue 2016, eq. (29)–(31))."""

    counts = ("right",)

    def value(self, outputs: Any, targets: Tensor) -> Tensor:
        sign = 2 * targets.to(outputs.dtype) - 1
        return nn.functional.softplus(sign * outputs).mean()

    def value_and_delta(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Any]:
        return pair_loss(outputs, targets)

    def count(self, outputs: Any, targets: Tensor) -> Sequence[Scalar]:
        return (((outputs.detach() <= 0) == targets.to(torch.bool)).sum(),)


class PairTally:
    """Keeps every pair's D, and measures them all at the end."""

    def __init__(self, folds: Tensor | None) -> None:
        self.folds = folds
        self._outputs: list[Tensor] = []
        self._same: list[Tensor] = []

    def add(self, outputs: Any, batch: Batch) -> None:
        self._outputs.append(outputs.detach().to("cpu", torch.float64))
        self._same.append(batch.targets.cpu())

    def figures(self) -> protocol.Verified:
        if not self._outputs:
            raise ArgumentError("split", "no pairs", "at least one pair to evaluate")
        D, same = torch.cat(self._outputs), torch.cat(self._same)
        return protocol.verify(-D, same, self.folds, loss=float(pair_loss(D, same)[0]))


@register
class Verification(Task):
    """Whether two pictures show the same person."""

    name = "verification"
    kinds = ("pairs", "labelled")
    unit = "pairs"
    noun = "pairs"
    history = ("loss", "accuracy", "auc")
    shares = ("accuracy",)
    uses = frozenset({"augment", "fit"})
    answer_header = ("first", "second", "score", "same")
    Settings = VerificationSettings

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"in_channels": dataset.shape[0]}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        train = pairs_of(dataset.train, self.settings.pairs, config.seed)
        test = pairs_of(dataset.test, self.settings.pairs, 0)
        described = description_of(model, dataset.shape)
        preprocessing = described.preprocessing if described is not None else None
        if preprocessing is None:
            shape = described.input_shape if described is not None else dataset.shape
            mean, std = train.statistics(shape[0])
            fit = how_to_fit(dataset.shape, shape, config)
            preprocessing = Preprocessing(shape[0], (shape[1], shape[2]), mean, std, fit)
        whole = whole_size(self.settings.whole, preprocessing)
        inputs = (Input("pictures", (preprocessing.channels, *preprocessing.size), preprocessing),) * 2
        if described is not None:
            answers = Answers("verdict", (), {"whole": list(whole)})
            spec.attach(model, described.replace(task=self.name, inputs=inputs, answers=answers))
        stages: list[AnyStage] = [_fitting(preprocessing, whole)]
        if config.augment:
            stages.append(_augmenting(parse_augmentation(config.augment).fitted(train)))
        return Prepared(
            train, test, (*stages, _cutting(preprocessing.size)), (stages[0], _centring(preprocessing.size)), inputs
        )

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        first = next(model.parameters(), torch.empty(0))
        batch = two_examples(prepared, first.device)
        try:
            with torch.no_grad():
                outputs = model(*model_inputs(prepared.inputs, batch.inputs, first.dtype))
        except (RuntimeError, TypeError) as problem:
            said = str(problem).split("\n")[0]
            raise ArgumentError("model", type(model).__name__, "one that takes two pictures", said) from problem
        if not isinstance(outputs, Tensor) or outputs.shape != (batch.examples,):
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ArgumentError("model", got, "one number D for each pair, below 0 for the same person")

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        if loss is not None and not isinstance(loss, PairObjective):
            raise ArgumentError("loss", loss, "nothing: verification has its own")
        return PairObjective()

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> PairTally:
        return PairTally(examples.folds if isinstance(examples, Pairs) else None)

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        chosen = preprocessing or preprocessing_for(model)
        stages = (_fitting(chosen, whole_of(model, chosen)), _centring(chosen.size))
        pictures = Input("pictures", preprocessing=chosen)
        pairs = pairs_of(examples, self.settings.pairs, 0)  # type: ignore[arg-type]
        return Examined(pairs, stages, (pictures, pictures))

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Verdict]:
        chosen = preprocessing or preprocessing_for(model)
        return predict(model, inputs, chosen, whole_of(model, chosen), batch_size, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, protocol.Verified)
        told = f"accuracy {figures.accuracy:.2%}"
        told += f" ± {figures.standard_error:.2%}" if len(figures.folds) > 1 else ""
        return told + f", area below the ROC {figures.auc:.4f}, equal error {figures.equal_error:.2%}"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, protocol.Verified)
        return protocol.page(figures)

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:
        protocol.draw_roc(folder / "roc.png", {title: figures["roc"]}, title)


def whole_size(text: str, preprocessing: Preprocessing) -> tuple[int, int]:
    """ "48x40" as (48, 40), at least the model's size; "" the model's size."""
    if not text:
        return preprocessing.size
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if size[0] < preprocessing.size[0] or size[1] < preprocessing.size[1]:
        least = f"{preprocessing.size[0]}x{preprocessing.size[1]}"
        raise ArgumentError("whole", text, f"HEIGHTxWIDTH in pixels, at least the model's {least}")
    return size


def whole_of(model: nn.Module, preprocessing: Preprocessing) -> tuple[int, int]:
    """The size that pictures are brought to before a patch of the model's size is cut out."""
    described = spec.spec_of(model)
    kept = described.answers.more.get("whole") if described is not None else None
    return (int(kept[0]), int(kept[1])) if kept else preprocessing.size


def _fitting(preprocessing: Preprocessing, whole: tuple[int, int]) -> FixedStage:
    wanted = dataclasses.replace(preprocessing, size=whole)
    return FixedStage("fit", lambda batch: _both(batch, lambda pictures: prepare(pictures, wanted)))


def _augmenting(augmentation: Augmentation) -> Stage:
    return Stage("augment", lambda batch, chance: _both(batch, lambda pictures: augmentation(pictures, chance)))


def _cutting(size: tuple[int, int]) -> Stage:
    """One place for a whole batch, the same in both pictures: which patch it is, is what must not matter."""

    def cut(batch: Batch, chance: torch.Generator) -> Batch:
        height, width = batch.inputs[0].shape[2:]
        top = int(torch.randint(height - size[0] + 1, (), generator=chance))
        left = int(torch.randint(width - size[1] + 1, (), generator=chance))
        return _both(batch, lambda pictures: pictures[:, :, top : top + size[0], left : left + size[1]].contiguous())

    return Stage("patch", cut)


def _centring(size: tuple[int, int]) -> FixedStage:
    def cut(pictures: Tensor) -> Tensor:
        top, left = (pictures.shape[2] - size[0]) // 2, (pictures.shape[3] - size[1]) // 2
        return pictures[:, :, top : top + size[0], left : left + size[1]].contiguous()

    return FixedStage("middle", lambda batch: _both(batch, cut))


def _both(batch: Batch, f: Callable[[Tensor], Tensor]) -> Batch:
    first, second = batch.inputs
    return dataclasses.replace(batch, inputs=(f(first), f(second)))
