"""Sentences with their classes: a text file for each class, a sentence a line.

reviews/positive.txt  reviews/negative.txt
reviews/train/positive.txt …  reviews/test/positive.txt …                           or in parts
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from convscope import seeding
from convscope.data.catalog import layout
from convscope.data.choosing import class_list
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_lines
from convscope.data.kinds.labelled import stratified_places
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import Cut, Vocabulary
from convscope.errors import ArgumentError, DataError

_TEST_NAMES = ("test", "val", "valid", "validation")
_BESIDES = (  # texts that are no class
    *("readme", "license", "classes", "captions"),
    *("flickr8k.token", "flickr_8k.trainimages", "flickr_8k.devimages", "flickr_8k.testimages"),
)


def _class_files(folder: Path) -> dict[str, Path]:
    paths = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    return {path.stem: path for path in paths if path.stem.lower() not in _BESIDES}


def _recognised(path: Path) -> bool:
    return len(_class_files(path)) > 1 or len(_class_files(path / "train")) > 1


@layout("sentences", "a .txt file for each class, a sentence a line, also below train/ and test/", _recognised)
def load_sentences(
    folder: Path,
    *,
    name: str = "",
    classes: str | Sequence[str] | None = None,
    cut: Cut = "words",
    lower: bool = False,
    least: int = 1,
    most: int | None = None,
    encoding: str = "utf-8",
    test_fraction: float = 0.2,
    seed: int = 0,
    fold: int | None = None,
    folds: int = 10,
) -> Dataset[Sentences]:
    """The sentences below ``folder``, empty lines left out; classes are the files' names, sorted, or ``classes``.

    The vocabulary is that of the training sentences, cut as ``cut`` says: tokens that come at least ``least`` times, at
    most ``most``. Without a test folder ``test_fraction`` of every class is set aside by ``seed``, or with ``fold``, 1
    to ``folds``, that one of so many parts of each class. DataError for a class without sentences or a file of another
    encoding.
    """
    name = name or folder.resolve().name
    parts = [_class_files(folder)]
    if not parts[0]:
        test = next((folder / each for each in _TEST_NAMES if (folder / each).is_dir()), None)
        parts = [_class_files(folder / "train"), *([] if test is None else [_class_files(test)])]
    if not parts[0]:
        raise MissingFileError(folder, "files missing: a .txt for each class", f"Put them into the folder {folder}")
    names = class_list(classes) or tuple(parts[0])
    for part in parts:
        for each in names:
            if each not in part:
                raise DataError(folder, f"no file {each}.txt in one of its parts", f"There are: {', '.join(part)}")
    texts = [{each: read_lines(part[each], encoding) for each in names} for part in parts]
    with naming(folder):
        chosen = Split(test_fraction, seed, fold, folds)
        return sentences_of(name, texts, chosen, cut=cut, lower=lower, least=least, most=most)


@dataclasses.dataclass(frozen=True)
class Split:
    """Which sentences are set aside for testing: ``fraction`` of every class, or of ``folds`` equal parts of every
    class number ``fold``, counted from 1; ``seed`` says who is in which."""

    fraction: float = 0.2
    seed: int = 0
    fold: int | None = None
    folds: int = 10

    def places(self, labels: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The places of both parts, int64; ArgumentError for a fold that there is not."""
        if self.fold is None:
            return stratified_places(labels, classes, self.fraction, self.seed)
        if not isinstance(self.folds, int) or self.folds < 2:
            raise ArgumentError("folds", self.folds, "a number of parts ≥ 2")
        if not isinstance(self.fold, int) or not 1 <= self.fold <= self.folds:
            raise ArgumentError("fold", self.fold, f"a part's number, 1 to {self.folds}")
        tested = torch.zeros(len(labels), dtype=torch.bool)
        for number in range(classes):
            members = torch.nonzero(labels == number).flatten()
            order = torch.randperm(len(members), generator=seeding.generator(self.seed, "folds", number))
            tested[members[order[self.fold - 1 :: self.folds]]] = True
        if not tested.any():
            raise ArgumentError("folds", self.folds, f"so few that each of them has some of {len(labels)} sentences")
        return torch.nonzero(~tested).flatten(), torch.nonzero(tested).flatten()


def sentences_of(
    name: str,
    parts: Sequence[Mapping[str, Sequence[str]]],
    split: Split,
    *,
    cut: Cut,
    lower: bool,
    least: int,
    most: int | None,
) -> Dataset[Sentences]:
    """A data set of the sentences of each class, in one part (``split`` then sets some aside) or in two."""
    classes = tuple(parts[0])
    texts: list[list[str]] = []
    labels: list[torch.Tensor] = []
    for part in parts:
        found = [[line.strip() for line in part[each] if line.strip()] for each in classes]
        for each, lines in zip(classes, found, strict=True):
            if not lines:
                raise DataError(Path(name), f"no sentence of class {each!r}")
        texts.append([line for lines in found for line in lines])
        sizes = torch.tensor([len(lines) for lines in found])
        labels.append(torch.repeat_interleave(torch.arange(len(classes)), sizes))
    if len(parts) == 1:
        places = split.places(labels[0], len(classes))
        texts = [[texts[0][place] for place in each.tolist()] for each in places]
        labels = [labels[0][each] for each in places]
    vocabulary = Vocabulary.build(texts[0], least, most, cut=cut, lower=lower)
    made = [Sentences(tuple(lines), own, classes, vocabulary) for lines, own in zip(texts, labels, strict=True)]
    return Dataset(name, made[0], made[1])
