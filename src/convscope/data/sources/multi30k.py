"""Multi30k: what is to be seen in photographs, in English, German and French."""

from __future__ import annotations

from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.kinds.parallel import Parallel
from convscope.data.layouts.parallel import load_parallel
from convscope.data.vocabulary import Cut


@register(
    "multi30k",
    Card(
        title="Multi30k captions, English, German, French",
        year=2016,
        source="Elliott, Frank, Sima'an, Specia: Multi30K: multilingual English-German image descriptions",
        shape=None,
        classes=0,
        train=29_000,
        test=1_000,
        files="train, val and test_2016_flickr, each .en, .de and .fr, a sentence a line (or .gz)",
        note="From English to German unless source= and target= say otherwise. Words that come once are unknown.",
        kind="parallel",
    ),
    Remote("train.en.gz", (), "", provides=("train.en", "train.en.gz"), page="https://github.com/multi30k/dataset"),
)
def load(
    folder: Path,
    source: str = "en",
    target: str = "de",
    test: str = "test_2016_flickr",
    cut: Cut = "words",
    lower: bool = False,
    least: int = 2,
    most: int | None = None,
) -> Dataset[Parallel]:
    """Options as ``load_parallel``; ``test`` may be val."""
    return load_parallel(
        folder,
        name="multi30k",
        source=source,
        target=target,
        test=test,
        cut=cut,
        lower=lower,
        least=least,
        most=most,
    )
