"""The task of sentence classification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convscope import spec
from convscope.columns import padded, width
from convscope.data import Dataset
from convscope.data.examples import Examples
from convscope.data.kinds.sentences import Sentences
from convscope.layers import Loss, loss_for
from convscope.spec import Preprocessing
from convscope.tasks.registry import register
from convscope.tasks.sentences import preparing
from convscope.tasks.sentences.metrics import SentenceFigures, SentenceTally
from convscope.tasks.sentences.predict import SentencePrediction, predict
from convscope.tasks.sentences.recipes import RECIPES
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared, Scalar, Task


class SentenceObjective(Objective):
    """A loss of class scores and class numbers, and how many answers were right."""

    counts = ("correct",)

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss.value(outputs, targets)

    def value_and_delta(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        return self.loss.value_and_delta(outputs, targets)

    def count(self, outputs: Tensor, targets: Tensor) -> Sequence[Scalar]:
        return ((outputs.argmax(1) == targets).sum(),)


@register
class SentenceClassification(Task):
    """Which of several classes a sentence is of."""

    name = "sentences"
    kinds = ("sentences",)
    unit = "sentences"
    noun = "sentences"
    history = ("loss", "accuracy")
    shares = ("accuracy",)
    uses = frozenset({"loss"})
    answer_header = ("sentence", "rank", "class", "probability")
    recipes = RECIPES

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.classes), "vocabulary": len(dataset.train.vocabulary)}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        return SentenceObjective(loss if isinstance(loss, Loss) else loss_for(loss or "cross_entropy", model))

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> SentenceTally:
        assert isinstance(examples, Sentences)
        return SentenceTally(examples.classes)

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        done = max(examples, 1)
        return {"loss": loss / done, "accuracy": counts.get("correct", 0.0) / done}

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        assert isinstance(examples, Sentences)
        vocabulary, described = preparing.known_vocabulary(model), spec.spec_of(model)
        assert described is not None
        return Examined(preparing.fitted(examples, vocabulary, described.classes), (), described.inputs)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[SentencePrediction]:
        return predict(model, inputs, batch_size, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, SentenceFigures)
        wrong = round(figures.error * figures.sentences)
        right = f"{figures.accuracy:.2%} right ({wrong:,} of {figures.sentences:,} sentences wrong)"
        return f"{right}, loss {figures.loss:.4f}"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, SentenceFigures)
        cells = max(width(name) for name in ("class", *figures.classes))
        lines = [self.summary(figures), "", f"{padded('class', cells)}  {'right':>9}  {'sentences':>9}  taken for"]
        for index, name in enumerate(figures.classes):
            row = figures.confusion[index]
            share = f"{figures.per_class[index]:.2%}" if sum(row) else "–"
            taken = ", ".join(f"{figures.classes[k]} {n:,}" for k, n in enumerate(row) if k != index and n)
            lines.append(f"{padded(name, cells)}  {share:>9}  {sum(row):>9,}  {taken or '–'}")
        return "\n".join(lines)

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:
        from convscope.inspect.pictures import confusion_figure, save_picture

        text = f"{title}: {100 * figures['accuracy']:.2f} % of {figures['sentences']:,} test sentences right"
        save_picture(confusion_figure(figures["confusion"], figures["classes"], text), folder / "confusion.png")
