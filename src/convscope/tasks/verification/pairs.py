"""Pairs of pictures of people: drawn from labelled pictures, or listed in a pairs.txt as published."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from convscope.data import Labelled, LabelledOnDisk
from convscope.data.kinds.pairs import Pairs, draw_pairs
from convscope.errors import ArgumentError, DataError

LIST = "pairs.txt"


def most_pairs(examples: Labelled | LabelledOnDisk, most: int) -> int:
    """The largest even number of pairs, at most ``most``, that are half of one person each; ArgumentError for none."""
    sizes = torch.bincount(examples.labels.cpu(), minlength=len(examples.classes))
    alike = int((sizes * (sizes - 1) // 2).sum())
    unlike = len(examples) * (len(examples) - 1) // 2 - alike
    count = 2 * min(most // 2, alike, unlike)
    if count < 2:
        lacking = "two pictures of any person" if not alike else "pictures of a second person"
        raise ArgumentError("data", f"{len(examples)} pictures without {lacking}", "at least one pair of each kind")
    return count


def pairs_of(examples: Labelled | LabelledOnDisk | Pairs, most: int, seed: int) -> Pairs:
    """Pairs as they are; of labelled pictures at most ``most``, half of one person, drawn by ``seed``."""
    if isinstance(examples, Pairs):
        return examples
    return draw_pairs(examples, most_pairs(examples, most), seed)


def folds_of_people(examples: Labelled, folds: int, most: int, seed: int) -> Pairs:
    """Pairs within ``folds`` groups of people that have nobody in common, at most ``most`` pairs a group.

    Raises ArgumentError where a group has nobody with two pictures, or one person only.
    """
    people = len(examples.classes)
    if folds < 2 or folds * 2 > people:
        raise ArgumentError(
            "folds", folds, f"from 2 to {people // 2} folds, of at least two of the {people} people each"
        )
    first, second, same, fold = [], [], [], []
    group = torch.arange(people) * folds // people
    for number in range(folds):
        places = torch.nonzero(group[examples.labels] == number).flatten()
        own = examples.select(places)
        drawn = draw_pairs(own, most_pairs(own, most), seed + number)
        first.append(places[drawn.first])
        second.append(places[drawn.second])
        same.append(drawn.same)
        fold.append(torch.full((len(drawn),), number))
    return Pairs(examples, torch.cat(first), torch.cat(second), torch.cat(same), torch.cat(fold))


def read_pairs(path: Path, examples: Labelled, names: dict[tuple[str, int], int]) -> Pairs:
    """The pairs that ``path`` lists in the way of Labeled Faces in the Wild.

    The first line is "FOLDS\\tPAIRS" (or "PAIRS" of one fold), then for each fold so many lines "NAME\\tI\\tJ" of one
    person and as many "NAME\\tI\\tNAME\\tJ" of two; pictures are counted from 1. ``names`` tells the place of picture
    (name, number). Raises DataError, naming the line, for one that is none of these or a picture that is not there.
    """
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines or len(lines[0]) not in (1, 2) or not all(part.isdecimal() for part in lines[0]):
        raise DataError(path, "line 1 is not the number of folds and of pairs")
    counts = [int(part) for part in lines[0]]
    folds, each = (1, counts[0]) if len(counts) == 1 else (counts[0], counts[1])
    if len(lines) - 1 != 2 * folds * each:
        raise DataError(path, f"{len(lines) - 1} pairs, wanted {2 * folds * each}: {folds} folds of twice {each}")
    wanted = [_pictures(path, number, parts) for number, parts in enumerate(lines[1:], 2)]
    for number, pair in enumerate(wanted, 2):
        for name, picture in pair:
            if (name, picture) not in names:
                raise DataError(path, f"line {number}: there is no picture {picture} of {name!r}")
    first, second = (torch.tensor([names[pair[side]] for pair in wanted]) for side in (0, 1))
    same = torch.tensor([pair[0][0] == pair[1][0] for pair in wanted])
    fold = torch.arange(len(same)) // (2 * each)
    return Pairs(examples, first, second, same, fold if folds > 1 else None)


def _pictures(path: Path, number: int, parts: list[str]) -> tuple[tuple[str, int], tuple[str, int]]:
    """The two pictures that line ``number`` names."""
    if len(parts) == 3:
        parts = [*parts[:2], parts[0], parts[2]]
    if len(parts) != 4 or not parts[1].isdecimal() or not parts[3].isdecimal():
        raise DataError(path, f"line {number} is neither NAME I J nor NAME I NAME J")
    return (parts[0], int(parts[1])), (parts[2], int(parts[3]))


def numbered(files: list[Path]) -> dict[tuple[str, int], int]:
    """(person, number) → place, for files NAME/NAME_0001.jpg (or NAME/1.pgm), in the order of ``files``."""
    found = {}
    for place, file in enumerate(files):
        digits = re.search(r"(\d+)$", file.stem)
        if digits is None:
            raise DataError(file, "its name does not end in a number, as NAME_0001.jpg does")
        found[file.parent.name, int(digits.group(1))] = place
    return found
