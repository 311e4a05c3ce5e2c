"""Picture data sets in Parquet as Hugging Face lays them out: a column of {bytes, path}, a column of class numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.decoded import DECODED_FOLDER, cached, fingerprint_of, home_cache
from convscope.data.files import UNPACKED_LIMIT, MissingFileError, naming, read_names
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.labels import Labels, class_numbers
from convscope.data.pictures import decode_pixels
from convscope.data.transforms import convert_channels
from convscope.errors import DataError

_PICTURE_COLUMNS = ("img", "image")
_ROWS = 1024  # read at once, at most
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def find_parquet(folder: Path, part: str) -> list[Path]:
    """``train.parquet``, ``train-00000-of-00002.parquet`` …, directly in ``folder`` or in data/ or plain_text/."""
    for place in (folder, folder / "data", folder / "plain_text"):
        found = sorted(place.glob(f"{part}.parquet")) or sorted(place.glob(f"{part}-*.parquet"))
        if found:
            return found
    return []


@layout(
    "parquet",
    "train.parquet and test.parquet, or a path to one file, pictures and labels as Hugging Face publishes them",
    lambda path: bool(find_parquet(path, "train")) if path.is_dir() else path.suffix == ".parquet",
)
def load_parquet(
    path: Path,
    *,
    name: str = "",
    classes: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The data set at ``path``: a folder with train and test (or validation) files, or one file; decoded once, then
    kept.

    Labels are numbers or names. Class names come from classes.txt, else from the file's own description, else from
    ``classes``, else are the labels' own numbers or the names, sorted.
    Without test files ``test_fraction`` of every class is set aside. Raises DataError for missing or damaged files,
    wrong columns, or pictures of different sizes.
    """
    folder = path.parent if path.is_file() else path
    name = name or (path.stem if path.is_file() else folder.resolve().name)
    train_files = [path] if path.is_file() else find_parquet(folder, "train")
    if not train_files:
        raise MissingFileError(folder, "file missing: train.parquet", f"Put it into the folder {folder}")
    test_files = [] if path.is_file() else find_parquet(folder, "test") or find_parquet(folder, "validation")
    parts = {"train": train_files, "test": test_files}
    files = [path for paths in parts.values() for path in paths]

    def build() -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for part, paths in parts.items():
            if paths:
                tensors[f"{part}_images"], labels = _read(paths)
                tensors[f"{part}_labels"] = labels if isinstance(labels, torch.Tensor) else _as_bytes(labels)
        return tensors

    places = [folder / DECODED_FOLDER, home_cache(name)]
    tensors = cached(f"{name}-parquet", places, fingerprint_of(files), build)
    with naming(folder):
        given: dict[str, Labels] = {
            f"{part}_labels": _as_labels(tensors[f"{part}_labels"]) for part in parts if parts[part]
        }
        default = None if classes is None else tuple(classes)
        numbers, names = class_numbers(given, _class_names(folder, train_files[0], default))
        train = Labelled(tensors["train_images"], numbers[0], names)
        if "test_images" in tensors:
            return Dataset(name, train, Labelled(tensors["test_images"], numbers[1], names))
        train, test = stratified_split(train, test_fraction, seed)
        return Dataset(name, train, test)


def _class_names(folder: Path, file: Path, default: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if (folder / "classes.txt").is_file():
        return read_names(folder / "classes.txt")
    return _described_names(file) or default


def _described_names(file: Path) -> tuple[str, ...]:
    """Names in the Hugging Face description that may travel in the file's schema."""
    with _opened(file) as opened:
        metadata = opened.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return next((tuple(features[key]["names"]) for key in _LABEL_COLUMNS if "names" in features.get(key, {})), ())
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A pyarrow ParquetFile; whatever goes wrong with it becomes a DataError."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(path, "Parquet files need the package pyarrow", "Install convscope[parquet]") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # of a damaged file pyarrow raises OSError, ArrowException, ValueError, UnicodeError …
        raise DataError(path, f"not a Parquet file, or damaged ({error})", "Fetch the file again") from error


def _rows_at_once(path: Path, size: int, limit: int) -> int:
    """How many rows of a group of ``size`` bytes may be unpacked together: one value that stands there once may be
    repeated in every row. DataError where the group alone is more than the limit."""
    if size > limit:
        raise DataError(
            path, f"a row group unpacks to {size:,} bytes, more than the limit of {limit:,}", "Choose fewer"
        )
    return max(1, min(_ROWS, limit // max(size, 1)))


def _as_bytes(names: list[str]) -> torch.Tensor:
    """Labels that are names, as a tensor that can be kept."""
    return torch.frombuffer(bytearray(json.dumps(names).encode("utf-8")), dtype=torch.uint8)


def _as_labels(kept: torch.Tensor) -> Labels:
    """What ``_read`` read: numbers, int64, or names, kept as bytes."""
    if kept.dtype != torch.uint8:
        return kept
    names: list[str] = json.loads(kept.numpy().tobytes())
    return names


def _read(paths: list[Path], limit: int = UNPACKED_LIMIT) -> tuple[torch.Tensor, torch.Tensor | list[str]]:
    """Pictures and labels of several files, of at most ``limit`` bytes decoded."""
    images: list[torch.Tensor] = []
    labels: list[int | str] = []
    for path in paths:
        with _opened(path) as file:
            columns = file.schema_arrow.names
            picture_column = next((name for name in _PICTURE_COLUMNS if name in columns), None)
            label_column = next((name for name in _LABEL_COLUMNS if name in columns), None)
            if picture_column is None or label_column is None:
                raise DataError(path, f"columns {', '.join(columns)}, wanted img = {{bytes, path}} and label")
            for group in range(file.num_row_groups):
                rows = _rows_at_once(path, file.metadata.row_group(group).total_byte_size, limit)
                for batch in file.iter_batches(rows, [group], [picture_column, label_column]):
                    decoded = sum(part.numel() for part in images)
                    images.append(_decode(batch.column(picture_column), path, sum(map(len, images)), decoded, limit))
                    labels += _labels(batch.column(label_column), path)
    return _joined(images, paths[0]), _all_alike(labels, paths[0])


def _joined(images: list[torch.Tensor], path: Path) -> torch.Tensor:
    """The pictures of all row groups, in colour where one of them is: a group may have grey ones alone."""
    sizes = sorted({tuple(part.shape[2:]) for part in images})
    if len(sizes) != 1:
        shown = ", ".join(f"{height}×{width}" for height, width in sizes[:5])
        raise DataError(path, f"pictures of different sizes: {shown}" if sizes else "holds no pictures")
    channels = max(part.shape[1] for part in images)
    return torch.cat([convert_channels(part, channels) for part in images])


def _all_alike(labels: list[int | str], path: Path) -> torch.Tensor | list[str]:
    names = [label for label in labels if isinstance(label, str)]
    if names and len(names) < len(labels):
        raise DataError(path, "labels are names in one file and numbers in another")
    return names or torch.tensor(labels, dtype=torch.int64)


def _labels(column: Any, path: Path) -> list[int | str]:
    labels: list[Any] = column.to_pylist()
    kinds = {type(label) for label in labels}
    if kinds not in ({int}, {str}, set()):
        raise DataError(path, f"label column of type {column.type}, wanted class numbers without gaps, or names")
    return labels


def _decode(column: Any, path: Path, first: int, decoded: int, limit: int) -> torch.Tensor:
    """All pictures of some rows as one uint8 (n, c, h, w): with the ``decoded`` bytes before at most ``limit``.

    One thread: of the 0.1 ms that a picture of 32×32 takes, most is Python's; two threads were twice as slow.
    """
    import pyarrow

    kind = column.type
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise DataError(path, f"picture column of type {kind}, wanted a struct of bytes and path")
    contents: list[bytes | None] = column.field("bytes").to_pylist()

    pictures: list[numpy.ndarray] = []
    for place, content in enumerate(contents):
        if content is None:
            raise DataError(path, f"row {first + place} has no picture bytes")
        pictures.append(decode_pixels(content, Path(f"{path} row {first + place}")))
        decoded += pictures[-1].size
        if decoded > limit:
            raise DataError(path, f"its pictures take more than the limit of {limit:,} bytes", "Choose fewer")
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        raise DataError(path, f"pictures of different sizes: {', '.join(f'{h}×{w}' for h, w in sizes[:5])}")
    if len({picture.ndim for picture in pictures}) > 1:  # grey ones among colour
        pictures = [numpy.broadcast_to(picture.reshape(*sizes[0], -1), (*sizes[0], 3)) for picture in pictures]
    stacked = torch.from_numpy(numpy.stack(pictures))  # (n, h, w) or (n, h, w, 3)
    return stacked.unsqueeze(1) if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
