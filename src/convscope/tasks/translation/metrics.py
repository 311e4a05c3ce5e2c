"""Figures of a translator."""

from __future__ import annotations

import dataclasses

from torch import nn

from convscope.data.kinds.parallel import Parallel
from convscope.errors import ArgumentError
from convscope.models.searching import Search
from convscope.tasks.bleu import bleu
from convscope.tasks.token_writing import TokenTally
from convscope.tasks.translation.translating import translate
from convscope.training.figures import Figures

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class TranslationFigures(Figures):
    """``bleu`` from 0 to 100 with sacrebleu's ``signature``; ``loss`` the mean over the target's tokens of −ln p, the
    translation so far being given, ``perplexity`` its exponential, ``token_accuracy`` the share foretold rightly.
    ``first`` are the first few sentences: source, translation, reference. ``unended``: translations that had no end
    before they were too long."""

    headline = "bleu"
    counted = "sentences"

    sentences: int
    loss: float
    perplexity: float
    token_accuracy: float
    bleu: float
    signature: str
    unended: int
    first: tuple[tuple[str, str, str], ...]


class TranslationTally(TokenTally):
    """Adds up the loss of every token, and at the end translates all sentences by ``search``."""

    def __init__(self, model: nn.Module, examples: Parallel, search: Search) -> None:
        super().__init__()
        self.model, self.examples, self.search = model, examples, search

    def figures(self) -> TranslationFigures:
        """ArgumentError when nothing was added."""
        if not self.seen:
            raise ArgumentError("split", "no sentences", "at least one sentence to evaluate")
        examples = self.examples
        found = translate(self.model, [row.tolist() for row in examples.source], self.search)
        texts = [examples.target_vocabulary.decode(each.tokens) for each in found]
        measured = bleu(texts, examples.target_texts)
        shown = zip(examples.source_texts, texts, examples.target_texts, strict=True)
        return TranslationFigures(
            sentences=self.seen,
            **self.by_token(),
            bleu=measured.score,
            signature=measured.signature,
            unended=sum(not each.whole for each in found),
            first=tuple(list(shown)[:_SHOWN]),
        )
