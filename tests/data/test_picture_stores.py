from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from tests.data.kinds.some import SIZES, as_files, noise

from convscope.data.picture_stores import LookedUp, PictureFiles, PicturesInMemory, PixelFile, stacked
from convscope.data.pictures import load_picture
from convscope.errors import ArgumentError, DataError


def test_pictures_of_many_sizes_are_padded_at_the_right_and_the_bottom() -> None:
    pictures = noise(SIZES)
    store = PicturesInMemory(pictures)
    places = [3, 0, 9]
    batch = store.stacked(torch.tensor(places))
    heights, widths = zip(*(SIZES[place] for place in places), strict=True)
    wanted = torch.zeros((3, 3, max(heights), max(widths)), dtype=torch.uint8)
    for row, place in enumerate(places):
        for channel in range(3):
            for y in range(SIZES[place][0]):
                for x in range(SIZES[place][1]):
                    wanted[row, channel, y, x] = pictures[place][channel, y, x]
    assert torch.equal(batch, wanted)
    assert store.sizes.tolist() == [list(size) for size in SIZES]
    assert store.bytes == sum(3 * height * width for height, width in SIZES)
    assert not store.uniform
    with pytest.raises(ArgumentError, match="sizes from 5×6 to 7×9.*, wanted pictures of one size"):
        _ = store.shape


def test_filling_with_another_value() -> None:
    parts = [torch.zeros(1, 2, 3, dtype=torch.uint8), torch.ones(1, 1, 4, dtype=torch.uint8)]
    assert stacked(parts, 7)[:, 0].tolist() == [[[0, 0, 0, 7]] * 2, [[1, 1, 1, 1], [7, 7, 7, 7]]]


def test_some_of_them_evenly_spaced() -> None:
    store = PicturesInMemory(noise([(4, 4)] * 10))
    assert [len(part) for part in store.some(5)] == [5]
    assert torch.equal(next(store.some(5)), store.stacked(torch.arange(0, 10, 2)))
    assert [len(part) for part in store.some(10, together=4)] == [4, 4, 2]
    mixed = PicturesInMemory(noise(SIZES))
    assert [part.shape[2:] for part in mixed.some(100)] == SIZES


def test_figures_of_pictures_of_many_sizes() -> None:
    pictures = noise(SIZES)
    mean, deviation = PicturesInMemory(pictures).statistics()
    pixels = torch.cat([picture.reshape(3, -1) for picture in pictures], 1).double() / 255
    assert mean == pytest.approx(pixels.mean(1).tolist())
    assert deviation == pytest.approx(pixels.std(1, correction=0).tolist())
    assert len(PicturesInMemory(pictures).statistics(channels=1)[0]) == 1


def test_files_are_read_when_wanted(tmp_path: Path) -> None:
    pictures = noise(SIZES)
    store = as_files(tmp_path, pictures)
    assert all(torch.equal(store.picture(place), pictures[place]) for place in range(len(store)))
    assert torch.equal(store.select(torch.tensor([4, 2])).picture(1), pictures[2])


def test_a_file_that_has_changed_is_named(tmp_path: Path) -> None:
    store = as_files(tmp_path, noise(SIZES))
    store.paths[1].write_bytes(store.paths[0].read_bytes())
    with pytest.raises(DataError, match=r"001\.png: a picture of 3×5×9, where 3×6×8 was wanted\. Was it changed"):
        store.picture(1)
    store.paths[2].write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"002\.png: not a picture"):
        store.stacked(torch.tensor([0, 2]))
    with pytest.raises(ArgumentError, match="sizes: got 11, wanted one for each of the 1 files"):
        PictureFiles(store.paths[:1], 3, store.sizes, load_picture)


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "nhw", "n1hw"])
def test_a_file_of_pixels_is_read_piece_by_piece(tmp_path: Path, layout: str) -> None:
    wanted = torch.stack(noise([(6, 9)] * 12, channels=3 if "c" in layout else 1))
    array = wanted.numpy()
    array = {"nchw": array, "n1hw": array, "nhwc": array.transpose(0, 2, 3, 1), "nhw": array[:, 0]}[layout]
    numpy.save(tmp_path / "pixels.npy", numpy.ascontiguousarray(array))
    store = PixelFile(tmp_path / "pixels.npy")
    assert store.shape == wanted.shape[1:]
    for places in ([0], [3, 4, 5, 9, 0, 1], list(range(12)), []):
        assert torch.equal(store.stacked(torch.tensor(places, dtype=torch.int64)), wanted[places])
    some = store.select(torch.tensor([7, 8, 2])).select(torch.tensor([2, 0]))
    assert torch.equal(some.stacked(torch.arange(2)), wanted[[2, 7]])
    assert torch.equal(store.picture(3), wanted[3])


def test_a_file_that_is_no_array_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "pixels.npy"
    with pytest.raises(DataError, match=r"pixels\.npy: cannot be read: No such file"):
        PixelFile(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"pixels\.npy: not an \.npy file, or damaged"):
        PixelFile(path)
    for array, problem in (
        (numpy.zeros((2, 3, 4)), r"float64 \(2, 3, 4\), wanted uint8 pictures"),
        (numpy.zeros((2, 3), dtype=numpy.uint8), r"uint8 \(2, 3\), wanted"),
        (numpy.asfortranarray(numpy.zeros((2, 3, 4), dtype=numpy.uint8)), r"in Fortran's order"),
    ):
        numpy.save(path, array)
        with pytest.raises(DataError, match=problem):
            PixelFile(path)
    numpy.save(path, numpy.zeros((9, 8, 8), dtype=numpy.uint8))
    whole = path.read_bytes()
    store = PixelFile(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="cut short: 575 bytes of pixels, its header says 576"):
        PixelFile(path)
    with pytest.raises(DataError, match="cut short: pictures from 8 on are missing"):
        store.picture(8)


def test_values_through_a_table() -> None:
    table = torch.arange(256, dtype=torch.uint8).flip(0)
    pictures = noise(SIZES, channels=1)
    looked_up = LookedUp(PicturesInMemory(pictures), table)
    assert torch.equal(looked_up.picture(2), 255 - pictures[2])
    assert torch.equal(looked_up.select(torch.tensor([5])).picture(0), 255 - pictures[5])
    with pytest.raises(ArgumentError, match="table: got .*, wanted 256 values of uint8"):
        LookedUp(looked_up, table[:9])


def test_pictures_that_do_not_fit_together() -> None:
    with pytest.raises(ArgumentError, match=r"pictures: got '\[1, 3\] channels', wanted pictures of one number"):
        PicturesInMemory([*noise([(2, 2)]), *noise([(2, 2)], channels=1)])
    with pytest.raises(ArgumentError, match=r"pictures: got 'float32 \(3, 2, 2\) at place 0', wanted uint8 tensors"):
        PicturesInMemory([torch.zeros(3, 2, 2)])
    with pytest.raises(ArgumentError, match="sizes: got 0, wanted pictures of at least one pixel"):
        PicturesInMemory([torch.zeros((3, 0, 2), dtype=torch.uint8)])
