"""Sentences with their classes in one file: a table with a header, or a class and a sentence a line.

reviews.csv:  text,label          reviews.tsv: the same with tabs          reviews.txt:  positive<TAB>a fine film
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from convscope.data.catalog import layout
from convscope.data.choosing import class_list
from convscope.data.dataset import Dataset
from convscope.data.files import naming, read_lines
from convscope.data.kinds.sentences import Sentences
from convscope.data.layouts.sentences import Split, sentences_of
from convscope.data.left_out import LeftOut
from convscope.data.vocabulary import Cut
from convscope.errors import ArgumentError, DataError

_ENDINGS = (".csv", ".tsv", ".txt")
_TEXT = ("text", "sentence", "review", "phrase")
_LABEL = ("label", "class", "sentiment", "category", "polarity")
_PARTS = {"train": 0, "test": 1, "val": 1, "valid": 1, "validation": 1, "dev": 1}

Row = tuple[int, str, str, int]
"""Line, class, sentence, part."""


@layout(
    "sentence_table",
    "a .csv or .tsv file with columns text and label (perhaps split: train or test), or a .txt file with a class, a "
    "tab and a sentence a line",
    lambda path: path.is_file() and path.suffix.lower() in _ENDINGS,
)
def load_sentence_table(
    path: Path,
    *,
    name: str = "",
    text: str | None = None,
    label: str | None = None,
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
    """The sentences of the columns ``text`` and ``label`` (left out: the first whose name is usual); classes are the
    labels, sorted, or ``classes``, and other labels are left out. Rows without a sentence are left out, counted and
    said.

    Where a column split says train or test, that is kept; else test sentences are set aside as ``load_sentences`` does.
    The vocabulary is that of the training sentences. DataError, naming the line, for a row with too few or too many
    cells, for missing columns, and for a file of another encoding.
    """
    lines = read_lines(path, encoding)
    table = path.suffix.lower() != ".txt"
    rows = list(_table(path, lines, text, label) if table else _pairs(path, lines, text, label))
    left_out = LeftOut()
    names = class_list(classes) or tuple(sorted({found for _, found, sentence, _ in rows if sentence}))
    kept: list[Row] = []
    for row in rows:
        number, found, sentence, _ = row
        if not sentence:
            left_out.note("rows without a sentence", f"line {number}")
        elif found not in names:
            left_out.note("sentences of other classes", f"line {number}")
        else:
            kept.append(row)
    left_out.say(path)
    if len(names) < 2:
        raise DataError(path, f"sentences of {len(names)} classes ({', '.join(names)}), wanted at least two")
    count = 2 if any(part for *_, part in kept) else 1
    parts = [
        {each: [row[2] for row in kept if row[1] == each and row[3] == part] for each in names} for part in range(count)
    ]
    with naming(path):
        split = Split(test_fraction, seed, fold, folds)
        return sentences_of(name or path.stem, parts, split, cut=cut, lower=lower, least=least, most=most)


def _table(path: Path, lines: Sequence[str], text: str | None, label: str | None) -> Iterator[Row]:
    reader = csv.reader(
        (f"{line}\n" for line in lines), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        header = [cell.strip() for cell in next(reader, [])]
        columns = [_column(path, header, "text", text, _TEXT), _column(path, header, "label", label, _LABEL)]
        split = header.index("split") if "split" in header else None
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                problem = f"line {reader.line_num} has {len(cells)} cells, the header {len(header)}"
                raise DataError(path, problem, "Put a sentence with commas between quotation marks")
            part = _part(path, reader.line_num, cells[split].strip()) if split is not None else 0
            yield reader.line_num, cells[columns[1]].strip(), " ".join(cells[columns[0]].split()), part
    except csv.Error as error:
        raise DataError(path, f"line {reader.line_num}: {error}") from error


def _column(path: Path, header: Sequence[str], argument: str, given: str | None, usual: Sequence[str]) -> int:
    if given is not None:
        if given not in header:
            raise ArgumentError(argument, given, f"a column of {path.name}: {', '.join(header)}")
        return header.index(given)
    found = next((place for each in usual for place, cell in enumerate(header) if cell.lower() == each), None)
    if found is None:
        problem = f"no column {' or '.join(usual)} in its first line, which has {', '.join(header) or 'nothing'}"
        raise DataError(path, problem, f"Say which column it is: {argument}=…")
    return found


def _part(path: Path, line: int, found: str) -> int:
    if found.lower() not in _PARTS:
        raise DataError(path, f"line {line}: split {found!r}, wanted one of {', '.join(_PARTS)}")
    return _PARTS[found.lower()]


def _pairs(path: Path, lines: Sequence[str], text: str | None, label: str | None) -> Iterator[Row]:
    for argument, given in (("text", text), ("label", label)):
        if given is not None:
            raise ArgumentError(argument, given, f"none: {path.name} has no columns with names")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found, tab, sentence = line.partition("\t")
        if not tab:
            raise DataError(path, f"line {number} has no tab between class and sentence")
        yield number, found.strip(), sentence.strip(), 0
