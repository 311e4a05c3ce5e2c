"""The task of writing captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.examples import Examples
from convscope.data.kinds.captions import Captions
from convscope.models.searching import Search
from convscope.spec import Preprocessing
from convscope.tasks.captions import preparing
from convscope.tasks.captions.foretelling import Foretelling
from convscope.tasks.captions.metrics import CaptionFigures, CaptionTally
from convscope.tasks.captions.predict import Caption, predict
from convscope.tasks.captions.recipes import RECIPES
from convscope.tasks.registry import register
from convscope.tasks.token_writing import TokenWriting
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared


@dataclasses.dataclass(frozen=True)
class CaptionSettings:
    size: int = 0  # pixels a side that pictures are brought to; 0: their own, of many sizes 128
    smoothing: float = 0.0  # share of a target that is spread over all words
    beam: int | None = None  # captions kept while searching, 1: greedy; None: as in training, and there 4
    length_penalty: float | None = None  # α of ((5 + length)/6)^α; None: as in training, and there 0


@register
class Captioning(TokenWriting):
    """What is to be seen in a picture, in words."""

    name = "captions"
    kinds = ("captions",)
    unit = "images"
    noun = "pictures"
    history = ("loss", "token_accuracy", "bleu", "exact_match")
    shares = ("token_accuracy", "exact_match")
    most_at_a_time = 64
    answer_header = ("picture", "caption", "log_probability")
    Settings = CaptionSettings
    recipes = RECIPES
    usual = Search(4, 0.0)
    texts = "captions"
    learning = "captions are learned by cross-entropy, smoothed or not"

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        size = self.settings.size
        self.check("size", "0, or pixels, at least 8", size == 0 or size >= 8)

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.train.vocabulary), "in_channels": dataset.train.pictures.channels}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset, self.settings.size, self.reading(model), config)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> CaptionTally:
        assert isinstance(examples, Foretelling)
        return CaptionTally(model, examples, self.search(model))

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        assert isinstance(examples, Captions)
        vocabulary, own = preparing.known_to(model)
        described = spec.spec_of(model)
        assert described is not None
        return Examined(preparing.told(examples, vocabulary, own), (), described.inputs)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Caption]:
        return predict(model, inputs, self.search(model), batch_size, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, CaptionFigures)
        exact = f"exact match {figures.exact_match:.2%} of {figures.images:,} pictures, BLEU-4 {figures.bleu:.2f}"
        return f"{exact}, loss {figures.loss:.4f} a word"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, CaptionFigures)
        lines = [self.summary(figures), f"signature {figures.signature}"]
        lines += [f"words foretold rightly {figures.token_accuracy:.2%}; without an end {figures.unended:,}"]
        for text, reference in figures.first:
            lines += ["", f"caption    {text}", f"reference  {reference}"]
        return "\n".join(lines)
