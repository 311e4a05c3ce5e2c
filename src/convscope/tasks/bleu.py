"""BLEU of translations and captions, by sacrebleu."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Bleu:
    """``score`` from 0 to 100; ``signature`` says how it was computed, so that others can compare."""

    score: float
    signature: str


def bleu(texts: Sequence[str], references: Sequence[Sequence[str] | str], tokenize: str = "13a") -> Bleu:
    """BLEU of whole ``texts`` against one or several ``references`` each (Papineni et al. 2002; Post 2018).

    ``tokenize`` as sacrebleu names it: "13a", "intl", "zh" for Chinese, "char". ArgumentError for other numbers of
    references than texts, none at all, or a missing package.
    """
    if not texts or len(texts) != len(references):
        raise ArgumentError("references", len(references), f"some for each of {len(texts)} texts, at least one text")
    several = [[each] if isinstance(each, str) else list(each) for each in references]
    if not all(several):
        raise ArgumentError("references", several[[bool(each) for each in several].index(False)], "one for each text")
    most = max(map(len, several))
    streams = [[each[place] if place < len(each) else None for each in several] for place in range(most)]
    metric = _library().BLEU(tokenize=tokenize)
    found = metric.corpus_score(list(texts), streams)
    return Bleu(float(found.score), str(metric.get_signature()))


def _library() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise ArgumentError("bleu", None, "the package sacrebleu", "Install convscope[text]") from error
    return metrics
