"""Sentences with their translations: a text file for each part and language, a sentence a line, plain or gzipped.

train.en.gz  train.de.gz  val.en.gz  val.de.gz  test.en.gz  test.de.gz
"""

from __future__ import annotations

import re
from pathlib import Path

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_lines
from convscope.data.kinds.parallel import Parallel
from convscope.data.left_out import LeftOut
from convscope.data.vocabulary import Cut, Vocabulary
from convscope.errors import ArgumentError, DataError

_NAME = re.compile(r"(?P<part>.+?)\.(?P<language>[a-z]{2,3})(\.gz)?")
_NOT_LANGUAGES = {"txt", "csv", "tsv", "xml", "npz", "npy", "bin", "zip", "tar", "png", "jpg", "gz", "md", "py"}


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of each part by language; a plain one before a gzipped one."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and match["language"] not in _NOT_LANGUAGES:
            found.setdefault(match["part"], {}).setdefault(match["language"], path)
    return found


@layout(
    "parallel",
    "train.en and train.de, test.en and test.de (any two languages; also .gz), a sentence a line",
    lambda path: len(_files(path).get("train", {})) > 1,
)
def load_parallel(
    folder: Path,
    *,
    name: str = "",
    source: str | None = None,
    target: str | None = None,
    test: str | None = None,
    cut: Cut = "words",
    lower: bool = False,
    least: int = 1,
    most: int | None = None,
    encoding: str = "utf-8",
) -> Dataset[Parallel]:
    """The sentences of train in the languages ``source`` and ``target`` (left out: the two there are, by the alphabet),
    and those of ``test`` (left out: the first part whose name begins with test, else val, valid or dev).

    Each language has the vocabulary of its own training sentences, cut as ``cut`` says: tokens that come at least
    ``least`` times, at most ``most``. Pairs of which one side is empty are left out of training, counted and said.
    DataError for files that are missing, of another encoding, or of different numbers of lines.
    """
    name = name or folder.resolve().name
    files = _files(folder)
    languages = _languages(folder, files, source, target)
    if test is None:
        usual = [part for start in ("test", "val", "dev") for part in sorted(files) if part.startswith(start)]
        test = usual[0] if usual else "test"
    left_out = LeftOut()
    train_texts = _whole(_read(folder, files, "train", languages, encoding), left_out)
    test_texts = _read(folder, files, test, languages, encoding)
    left_out.say(folder)
    with naming(folder):
        known = [Vocabulary.build(texts, least, most, cut=cut, lower=lower) for texts in train_texts]
        both = (train_texts, test_texts)
        parts = [Parallel(tuple(one), tuple(other), known[0], known[1]) for one, other in both]
        return Dataset(name, parts[0], parts[1])


def _languages(
    folder: Path, files: dict[str, dict[str, Path]], source: str | None, target: str | None
) -> tuple[str, str]:
    there = sorted(files.get("train", {}))
    if len(there) < 2:
        raise MissingFileError(
            folder, "files missing: train in two languages, such as train.en and train.de",
            f"Put them into the folder {folder}",
        )  # fmt: skip
    for argument, language in (("source", source), ("target", target)):
        if language is not None and language not in there:
            raise ArgumentError(argument, language, f"a language that train is there in: {', '.join(there)}")
    if source is None or target is None:
        rest = [language for language in there if language not in (source, target)]
        if len(there) > 2:
            raise ArgumentError("target" if target is None else "source", None, f"one of {', '.join(rest)}")
        source, target = source or rest[0], target or rest[-1]
    if source == target:
        raise ArgumentError("target", target, "another language than source")
    return source, target


def _read(
    folder: Path, files: dict[str, dict[str, Path]], part: str, languages: tuple[str, str], encoding: str
) -> tuple[list[str], list[str]]:
    for language in languages:
        if language not in files.get(part, {}):
            parts = ", ".join(sorted(files))
            raise MissingFileError(folder, f"file missing: {part}.{language}", f"There are the parts {parts}")
    paths = [files[part][language] for language in languages]
    sides = [[line.strip() for line in read_lines(path, encoding)] for path in paths]
    if len(sides[0]) != len(sides[1]):
        raise DataError(paths[1], f"{len(sides[1]):,} lines, but {paths[0].name} has {len(sides[0]):,}")
    return sides[0], sides[1]


def _whole(texts: tuple[list[str], list[str]], left_out: LeftOut) -> tuple[list[str], list[str]]:
    """The pairs that have both sides."""
    pairs = list(zip(*texts, strict=True))
    for line, pair in enumerate(pairs, 1):
        if not all(pair):
            left_out.note("pairs with an empty side", f"line {line}")
    whole = [pair for pair in pairs if all(pair)]
    return [one for one, _ in whole], [other for _, other in whole]
