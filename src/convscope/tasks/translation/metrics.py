"""Figures of a translator."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor, nn
from torch.nn import functional as F

from convscope.data.examples import Batch
from convscope.data.kinds.parallel import Parallel
from convscope.data.vocabulary import PADDING
from convscope.errors import ArgumentError
from convscope.models.searching import Search
from convscope.tasks.bleu import bleu
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


class TranslationTally:
    """Adds up the loss of every token, and at the end translates all sentences by ``search``."""

    def __init__(self, model: nn.Module, examples: Parallel, search: Search) -> None:
        self.model, self.examples, self.search = model, examples, search
        self.loss, self.right, self.tokens, self.sentences = 0.0, 0, 0, 0

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Scores (n, t, tokens) of a batch."""
        targets = batch.targets
        real = targets != PADDING
        logits = outputs.flatten(0, 1)
        self.loss += float(F.cross_entropy(logits, targets.flatten(), ignore_index=PADDING, reduction="sum"))
        self.right += int(((outputs.argmax(2) == targets) & real).sum())
        self.tokens += int(real.sum())
        self.sentences += batch.examples

    def figures(self) -> TranslationFigures:
        """ArgumentError when nothing was added."""
        if not self.sentences:
            raise ArgumentError("split", "no sentences", "at least one sentence to evaluate")
        examples = self.examples
        found = translate(self.model, [row.tolist() for row in examples.source], self.search)
        texts = [examples.target_vocabulary.decode(each.tokens) for each in found]
        measured = bleu(texts, examples.target_texts)
        shown = zip(examples.source_texts, texts, examples.target_texts, strict=True)
        mean = self.loss / self.tokens
        return TranslationFigures(
            sentences=self.sentences,
            loss=mean,
            perplexity=math.exp(min(mean, 700.0)),
            token_accuracy=self.right / self.tokens,
            bleu=measured.score,
            signature=measured.signature,
            unended=sum(not each.whole for each in found),
            first=tuple(list(shown)[:_SHOWN]),
        )
