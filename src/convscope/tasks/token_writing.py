"""What tasks share whose models write a text token by token: captions, translations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from convscope import spec
from convscope.data.examples import Batch
from convscope.data.vocabulary import PADDING
from convscope.errors import ArgumentError
from convscope.models.searching import Search
from convscope.tasks.token_loss_in_parts import likeliest
from convscope.tasks.token_objective import TokenObjective
from convscope.training.task import Task


class TokenWriting(Task):
    """A task with the settings ``smoothing``, ``beam`` and ``length_penalty``, the last two None for: as the model was
    trained with, and there as ``usual``. ``texts`` names what is written, ``learning`` says how that is learned."""

    usual: ClassVar[Search]
    texts: ClassVar[str]
    learning: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        page = self.settings
        beam, penalty = page.beam, page.length_penalty
        self.check("smoothing", "a share from 0 to below 1", 0 <= page.smoothing < 1)
        self.check("beam", f"a number of {self.texts} ≥ 1", beam is None or (_is(beam, int) and beam >= 1))
        self.check("length_penalty", "a number ≥ 0", penalty is None or (_is(penalty, int | float) and penalty >= 0))

    def check(self, name: str, wanted: str, fine: bool) -> None:
        """Raises ArgumentError for the setting ``name`` that is not fine."""
        if not fine:
            raise ArgumentError(name, getattr(self.settings, name), wanted)

    def objective(self, model: nn.Module, loss: Any = None) -> TokenObjective:
        if loss not in (None, "cross_entropy"):
            raise ArgumentError("loss", loss, f"none: {self.learning}")
        return TokenObjective(self.settings.smoothing)

    def search(self, model: nn.Module) -> Search:
        """How texts are looked for: as these settings say, else as the model does, else as ``usual``."""
        described = spec.spec_of(model)
        kept = described.answers.more if described is not None else {}
        beam, penalty = self.settings.beam, self.settings.length_penalty
        return Search(
            int(kept.get("beam", self.usual.beam)) if beam is None else beam,
            float(kept.get("length_penalty", self.usual.penalty)) if penalty is None else float(penalty),
        )

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """What of the search goes into the model's description."""
        search = self.search(model)
        return {"beam": search.beam, "length_penalty": search.penalty}

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        done = max(weight, 1.0)
        return {"loss": loss / done, "token_accuracy": counts.get("right", 0.0) / done}


class TokenTally:
    """Adds up the loss of every token, the text so far being given; ``seen`` counts the examples."""

    def __init__(self) -> None:
        self.loss, self.right, self.tokens, self.seen = 0.0, 0, 0, 0

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Scores (n, t, tokens) of a batch."""
        targets = batch.targets
        real = targets != PADDING
        logits = outputs.flatten(0, 1)
        self.loss += float(F.cross_entropy(logits, targets.flatten(), ignore_index=PADDING, reduction="sum"))
        self.right += int(((likeliest(outputs) == targets) & real).sum())
        self.tokens += int(real.sum())
        self.seen += batch.examples

    def by_token(self) -> dict[str, float]:
        """``loss``, its exponential and ``token_accuracy`` over all tokens so far."""
        mean = self.loss / self.tokens
        return {
            "loss": mean, "perplexity": math.exp(min(mean, 700.0)), "token_accuracy": self.right / self.tokens,
        }  # fmt: skip


def _is(value: object, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
