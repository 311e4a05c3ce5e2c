"""Movie-review polarity: sentences that praise and sentences that blame."""

from __future__ import annotations

from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.files import find_file, naming, read_lines
from convscope.data.kinds.sentences import Sentences
from convscope.data.layouts.sentences import Split, sentences_of
from convscope.data.vocabulary import Cut

_FILES = {"negative": "rt-polarity.neg", "positive": "rt-polarity.pos"}


@register(
    "rt_polarity",
    Card(
        title="Movie-review sentences, polarity 1.0",
        year=2005,
        source="Pang, Lee: Seeing stars: exploiting class relationships for sentiment categorization",
        shape=None,
        classes=2,
        train=9_596,
        test=1_066,
        files="rt-polarity.pos and rt-polarity.neg (latin-1), also in rt-polaritydata/",
        note="A tenth of each class is for testing, chosen by seed. Cut as Kim 2014 cut it, in small letters.",
        kind="sentences",
    ),
    Remote(
        "rt-polaritydata.tar.gz",
        (),  # no checksum was ever published
        "",
        provides=("rt-polarity.pos", "rt-polaritydata/rt-polarity.pos"),
        unpack=True,
        page="https://www.cs.cornell.edu/people/pabo/movie-review-data",
    ),
)
def load(
    folder: Path,
    cut: Cut = "clean",
    least: int = 1,
    most: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    fold: int | None = None,
    folds: int = 10,
) -> Dataset[Sentences]:
    """``cut``: "clean" as Kim 2014, who so counts 18,765 words and marks in all, or "spaces" as the files have them.
    ``least`` and ``most`` limit the vocabulary, which is that of the training sentences. ``fold``, 1 to ``folds``,
    takes that part for testing, as in cross-validation."""
    inner = folder / "rt-polaritydata"
    place = inner if inner.is_dir() and not (folder / _FILES["positive"]).is_file() else folder
    texts = {name: read_lines(find_file(place, [file]), "latin-1") for name, file in _FILES.items()}
    with naming(place):
        split = Split(test_fraction, seed, fold, folds)
        return sentences_of("rt_polarity", [texts], split, cut=cut, lower=True, least=least, most=most)
