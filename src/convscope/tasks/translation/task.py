"""The task of translation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.examples import Examples
from convscope.data.kinds.parallel import Parallel
from convscope.models.searching import Search
from convscope.spec import Preprocessing
from convscope.tasks.registry import register
from convscope.tasks.token_writing import TokenWriting
from convscope.tasks.translation import preparing
from convscope.tasks.translation.metrics import TranslationFigures, TranslationTally
from convscope.tasks.translation.predict import Translated, predict
from convscope.tasks.translation.recipes import RECIPES
from convscope.tasks.translation.translating import places_of
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared


@dataclasses.dataclass(frozen=True)
class TranslationSettings:
    pieces: int = 8000  # byte pairs of both languages together; 0: the words of the data set, each language its own
    tokens: int = 0  # of a batch: sentences times the longest of them; 0: batch_size sentences, however long
    smoothing: float = 0.1  # share of a target that is spread over all tokens
    too_long: str = "cut"  # sentences beyond the model's places: cut (pairs for training: left out), or refuse
    beam: int | None = None  # translations kept while searching; None: as in training, and there 4
    length_penalty: float | None = None  # α of ((5 + length)/6)^α; None: as in training, and there 0.6


@register
class Translation(TokenWriting):
    """A sentence of one language in another."""

    name = "translation"
    kinds = ("parallel",)
    unit = "sentences"
    noun = "sentences"
    history = ("loss", "token_accuracy", "bleu")
    shares = ("token_accuracy",)
    most_at_a_time = 64
    answer_header = ("source", "sentence", "translation", "log_probability")
    Settings = TranslationSettings
    recipes = RECIPES
    usual = Search(4, 0.6)  # Vaswani et al. 2017, 6.1
    texts = "translations"
    learning = "translators learn by cross-entropy, smoothed"

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        page = self.settings
        self.check("pieces", "0, or a number of tokens ≥ 5", page.pieces == 0 or page.pieces >= 5)
        self.check("tokens", "a number ≥ 0", page.tokens >= 0)
        self.check("too_long", "cut or refuse", page.too_long in ("cut", "refuse"))

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        source, target = preparing.codings(dataset, self.settings.pieces)
        return {"classes": len(target), "vocabulary": None if source == target else len(source)}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        page = self.settings
        return preparing.prepare_data(model, dataset, page.pieces, page.tokens, page.too_long, self.reading(model))

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> TranslationTally:
        assert isinstance(examples, Parallel)
        return TranslationTally(model, examples, self.search(model))

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        assert isinstance(examples, Parallel)
        codings, described = preparing.known_to(model), spec.spec_of(model)
        assert described is not None
        fitted = preparing.cut(preparing.coded(examples, *codings), places_of(model), self.settings.too_long)
        return Examined(fitted, (), described.inputs)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Translated]:
        return predict(model, inputs, self.search(model), batch_size, engine, told, self.settings.too_long)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, TranslationFigures)
        loss = f"loss {figures.loss:.4f} a token (perplexity {figures.perplexity:.2f})"
        return f"BLEU {figures.bleu:.2f} on {figures.sentences:,} sentences, {loss}"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, TranslationFigures)
        lines = [self.summary(figures), f"signature {figures.signature}"]
        lines += [f"tokens foretold rightly {figures.token_accuracy:.2%}; without an end {figures.unended:,}"]
        for source, text, reference in figures.first:
            lines += ["", f"source       {source}", f"translation  {text}", f"reference    {reference}"]
        return "\n".join(lines)
