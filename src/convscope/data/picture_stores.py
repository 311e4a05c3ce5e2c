"""Where pictures are kept: in memory, as files decoded when they are wanted, or in one file of pixels read in pieces.

All of them give uint8 pictures of one number of channels, of one size or of many.
"""

from __future__ import annotations

import functools
import os
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy
import torch
from torch import Tensor

from convscope.data.figures import mean_and_deviation
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError, DataError

# Pictures on disk that means and deviations are taken from, evenly spaced: 0.2 to 4 s of decoding. On CIFAR-10 the mean
# of so many is within 0.005 of that of all.
SAMPLE = 2_000
_FINGERPRINTED = 16  # decoding so many of 640×480 takes 0.1 s


class PictureStore(ABC):
    """uint8 pictures (channels, h, w) by their place; ``sizes`` are their heights and widths, int64 (n, 2)."""

    on_disk: bool

    def __init__(self, channels: int, sizes: Tensor) -> None:
        if sizes.dtype != torch.int64 or sizes.ndim != 2 or sizes.shape[1] != 2:
            raise ArgumentError("sizes", tuple(sizes.shape), "an int64 tensor of shape (pictures, 2)")
        if len(sizes) and int(sizes.min()) < 1:
            raise ArgumentError("sizes", sizes.min().item(), "pictures of at least one pixel")
        self.channels, self.sizes = channels, sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def picture(self, index: int) -> Tensor:
        """Picture ``index``, uint8 (channels, h, w); DataError, naming the file, where it cannot be read."""

    @abstractmethod
    def select(self, indices: Tensor) -> Self:
        """Only the pictures at ``indices``, in that order."""

    @functools.cached_property
    def uniform(self) -> bool:
        """Whether all are of one size. Kept: among 50,000 it takes 0.13 ms to see, longer than reading 64 of them."""
        return len(self) == 0 or bool((self.sizes == self.sizes[0]).all())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture; ArgumentError where they differ."""
        if not self.uniform:
            low, high = self.sizes.amin(0).tolist(), self.sizes.amax(0).tolist()
            sizes = f"sizes from {low[0]}×{low[1]} to {high[0]}×{high[1]}"
            raise ArgumentError("data", sizes, "pictures of one size", "Load them with size=")
        height, width = self.sizes[0].tolist() if len(self) else (0, 0)
        return self.channels, height, width

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        return int(self.sizes.prod(1).sum()) * self.channels

    def stacked(self, indices: Tensor, fill: int = 0) -> Tensor:
        """The pictures at ``indices`` as uint8 (n, channels, H, W): H and W are the largest height and width among
        them; what is smaller has ``fill`` at the right and at the bottom."""
        pictures = [self.picture(index) for index in indices.tolist()]
        return stacked(pictures, fill) if pictures else torch.zeros((0, *self.shape), dtype=torch.uint8)

    def some(self, most: int, together: int = 512) -> Iterator[Tensor]:
        """About ``most`` of them, evenly spaced, uint8 (m, channels, h, w) each time: those of one size ``together``,
        others one by one."""
        places = torch.arange(0, len(self), max(1, len(self) // most))
        for part in torch.split(places, together if self.uniform else 1):
            yield self.stacked(part)

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, as fractions of 255; of about ``SAMPLE`` pictures where they are
        on disk; after conversion to ``channels`` where given."""
        parts = self.some(SAMPLE if self.on_disk else max(len(self), 1))
        return mean_and_deviation(part if channels is None else convert_channels(part, channels) for part in parts)

    def fingerprint(self, checksum: int = 0, most: int = _FINGERPRINTED) -> int:
        """A CRC-32 of all sizes and of the pixels of about ``most`` pictures, evenly spaced."""
        checksum = zlib.crc32(self.sizes.numpy().tobytes(), checksum)
        for part in self.some(most):
            checksum = zlib.crc32(part.contiguous().numpy().tobytes(), checksum)
        return checksum


class PicturesInMemory(PictureStore):
    """Pictures as tensors, uint8 (channels, h, w) each."""

    on_disk = False

    def __init__(self, pictures: Sequence[Tensor], channels: int | None = None) -> None:
        """``channels`` need be given only where there are no pictures."""
        for place, picture in enumerate(pictures):
            if picture.dtype != torch.uint8 or picture.ndim != 3:
                described = f"{str(picture.dtype).removeprefix('torch.')} {tuple(picture.shape)} at place {place}"
                raise ArgumentError("pictures", described, "uint8 tensors of shape (channels, h, w)")
        found = {picture.shape[0] for picture in pictures} | (set() if channels is None else {channels})
        if len(found) != 1:
            raise ArgumentError("pictures", f"{sorted(found)} channels", "pictures of one number of channels")
        sizes = torch.tensor([picture.shape[1:] for picture in pictures], dtype=torch.int64).reshape(-1, 2)
        super().__init__(found.pop(), sizes)
        self._pictures = list(pictures)

    def picture(self, index: int) -> Tensor:
        return self._pictures[index]

    def select(self, indices: Tensor) -> PicturesInMemory:
        return PicturesInMemory([self._pictures[index] for index in indices.tolist()], self.channels)


class PictureFiles(PictureStore):
    """Files, each read when it is wanted: ``read(path)`` gives uint8 (channels, h, w) of the size in ``sizes``."""

    on_disk = True

    def __init__(self, paths: Sequence[Path], channels: int, sizes: Tensor, read: Callable[[Path], Tensor]) -> None:
        super().__init__(channels, sizes)
        if len(paths) != len(sizes):
            raise ArgumentError("sizes", len(sizes), f"one for each of the {len(paths)} files")
        self.paths, self._read = tuple(paths), read

    def picture(self, index: int) -> Tensor:
        picture = self._read(self.paths[index])
        wanted = (self.channels, *self.sizes[index].tolist())
        if tuple(picture.shape) != wanted:
            now, then = ("×".join(map(str, shape)) for shape in (picture.shape, wanted))
            raise DataError(self.paths[index], f"a picture of {now}, where {then} was wanted", "Was it changed?")
        return picture

    def select(self, indices: Tensor) -> PictureFiles:
        return PictureFiles(
            [self.paths[index] for index in indices.tolist()], self.channels, self.sizes[indices], self._read
        )


class PixelFile(PictureStore):
    """Pictures of one size in an .npy file of uint8, (n, h, w), (n, c, h, w) or (n, h, w, c), read piece by piece.

    The file is read, not mapped: pages of a mapped file count as the process's own memory, and grow to the whole file.
    """

    on_disk = True

    def __init__(self, path: Path, rows: Tensor | None = None) -> None:
        self.path = path
        shape, self._first = _npy_header(path)
        self._last = len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)  # channels last
        channels, height, width = (shape[3], *shape[1:3]) if self._last else (1, *shape[1:])[-3:]
        self.rows = torch.arange(shape[0]) if rows is None else rows
        super().__init__(channels, torch.tensor([[height, width]]).repeat(len(self.rows), 1))
        self._length = channels * height * width  # bytes of a picture
        self._opened: int | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            os.close(self._opened)  # type: ignore[arg-type]

    def picture(self, index: int) -> Tensor:
        return self.stacked(torch.tensor([index]))[0]

    def stacked(self, indices: Tensor, fill: int = 0) -> Tensor:
        result = torch.empty(len(indices) * self._length, dtype=torch.uint8)
        pixels = memoryview(result.numpy())  # type: ignore[arg-type]
        file = self._descriptor()
        place = 0
        for row, count in _runs(self.rows[indices].tolist()):
            length = count * self._length
            # ``preadv`` keeps no position and lets other threads run, so several may read at once
            if os.preadv(file, [pixels[place : place + length]], self._first + row * self._length) != length:
                raise DataError(self.path, f"cut short: pictures from {row} on are missing", "Make or fetch it again")
            place += length
        channels, height, width = self.shape
        if self._last:
            return result.reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()
        return result.reshape(-1, channels, height, width)

    def select(self, indices: Tensor) -> PixelFile:
        return PixelFile(self.path, self.rows[indices])

    def _descriptor(self) -> int:
        with self._lock:
            if self._opened is None:
                try:
                    self._opened = os.open(self.path, os.O_RDONLY)
                except OSError as error:
                    raise DataError(self.path, f"cannot be read: {error.strerror or error}") from error
            return self._opened


class PixelShards(PictureStore):
    """Pictures of one size in several files of pixels, one behind another: a set that no single file holds."""

    on_disk = True

    def __init__(self, shards: Sequence[PixelFile], rows: Tensor | None = None) -> None:
        """DataError, naming the file, for a shard whose pictures are not of the first one's shape."""
        first = shards[0]
        for shard in shards:
            if shard.shape != first.shape:
                now, then = ("×".join(map(str, each.shape)) for each in (shard, first))
                raise DataError(shard.path, f"pictures of {now}, where those of {first.path.name} are of {then}")
        self.shards = tuple(shards)
        self._ends = torch.tensor([len(shard) for shard in shards]).cumsum(0)
        self.rows = torch.arange(int(self._ends[-1])) if rows is None else rows
        super().__init__(first.channels, torch.tensor([first.shape[1:]]).repeat(len(self.rows), 1))

    def picture(self, index: int) -> Tensor:
        return self.stacked(torch.tensor([index]))[0]

    def stacked(self, indices: Tensor, fill: int = 0) -> Tensor:
        rows = self.rows[indices]
        owners = torch.searchsorted(self._ends, rows, right=True)
        result = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        for owner in sorted(set(owners.tolist())):
            places, shard = torch.nonzero(owners == owner).flatten(), self.shards[owner]
            result[places] = shard.stacked(rows[places] - int(self._ends[owner]) + len(shard))
        return result

    def select(self, indices: Tensor) -> PixelShards:
        return PixelShards(self.shards, self.rows[indices])


class LookedUp(PictureStore):
    """The pictures of another store, each value v replaced by ``table[v]``; ``table`` is uint8 (256,)."""

    def __init__(self, store: PictureStore, table: Tensor) -> None:
        if table.dtype != torch.uint8 or table.shape != (256,):
            raise ArgumentError("table", tuple(table.shape), "256 values of uint8")
        super().__init__(store.channels, store.sizes)
        self.store, self.table = store, table
        self.on_disk = store.on_disk

    def picture(self, index: int) -> Tensor:
        return self.table[self.store.picture(index).to(torch.int64)]

    def select(self, indices: Tensor) -> LookedUp:
        return LookedUp(self.store.select(indices), self.table)


def stacked(pictures: Sequence[Tensor], fill: int = 0) -> Tensor:
    """Tensors (…, h, w), alike but for the last two, as one (n, …, H, W), smaller ones with ``fill`` at the right and
    at the bottom. At least one."""
    first = pictures[0]
    if all(picture.shape == first.shape for picture in pictures):
        return torch.stack(list(pictures))
    height, width = (max(picture.shape[place] for picture in pictures) for place in (-2, -1))
    result = torch.full((len(pictures), *first.shape[:-2], height, width), fill, dtype=first.dtype)
    for place, picture in enumerate(pictures):
        result[place, ..., : picture.shape[-2], : picture.shape[-1]] = picture
    return result


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, how many) of each run of rows that follow one another in the file."""
    first = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place] != rows[place - 1] + 1:
            yield rows[first], place - first
            first = place


def _npy_header(path: Path) -> tuple[tuple[int, ...], int]:
    """Shape and the place of the first byte of pixels; DataError for anything but uint8 pictures in C order."""
    try:
        with path.open("rb") as file:
            version = numpy.lib.format.read_magic(file)
            old = version == (1, 0)
            form = numpy.lib.format
            shape, fortran, dtype = form.read_array_header_1_0(file) if old else form.read_array_header_2_0(file)
            first = file.tell()
            length = os.fstat(file.fileno()).st_size - first
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(path, f"not an .npy file, or damaged ({error})") from error
    if dtype != numpy.uint8 or fortran or len(shape) not in (3, 4):
        order = " in Fortran's order" if fortran else ""
        raise DataError(path, f"{dtype} {shape}{order}, wanted uint8 pictures (n, h, w), (n, c, h, w) or (n, h, w, c)")
    wanted = int(numpy.prod(shape, dtype=numpy.int64))
    if length < wanted:
        raise DataError(path, f"cut short: {length:,} bytes of pixels, its header says {wanted:,}", "Make it again")
    return shape, first
