from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.data.kinds.some import SIZES, noise, some_maps

from convscope.data.kinds.maps import Maps
from convscope.data.picture_stores import PicturesInMemory
from convscope.errors import ArgumentError


def test_a_batch_has_maps_of_the_pictures_size_ignored_beyond_them(tmp_path: Path) -> None:
    examples = some_maps(tmp_path)
    places = [2, 7, 5]
    batch = examples.batch(torch.tensor(places))
    assert batch.targets.dtype == torch.int64
    assert batch.targets.shape == (3, *batch.inputs[0].shape[2:])
    classified = 0
    for row, place in enumerate(places):
        height, width = SIZES[place]
        assert torch.equal(batch.targets[row, :height, :width], examples.maps.picture(place)[0].long())
        assert (batch.targets[row, height:] == 255).all()
        assert (batch.targets[row, :, width:] == 255).all()
        classified += sum(int(value) != 255 for value in examples.maps.picture(place).flatten())
    assert batch.weight == examples.weight(torch.tensor(places)) == classified


def test_pixels_of_each_class(tmp_path: Path) -> None:
    examples = some_maps(tmp_path)
    counts = [0, 0, 0]
    for place in range(len(examples)):
        for value in examples.maps.picture(place).flatten().tolist():
            if value != 255:
                counts[value] += 1
    assert examples.counts() == counts


def test_only_some_classes(tmp_path: Path) -> None:
    examples = some_maps(tmp_path)
    owls = examples.restrict(["owl", "cat"])
    assert owls.classes == ("owl", "cat")
    assert owls.palette == ((0, 0, 255), (255, 0, 0))
    before, after = (each.batch(torch.tensor([1, 2])).targets for each in (examples, owls))
    wanted = {0: 1, 1: 255, 2: 0, 255: 255}
    assert after.flatten().tolist() == [wanted[value] for value in before.flatten().tolist()]
    assert owls.counts() == [examples.counts()[2], examples.counts()[0]]


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    whole = some_maps(tmp_path)
    with pytest.raises(ArgumentError, match=r"maps: got '\[5, 9\] at place 1', wanted maps of their pictures' sizes"):
        dataclasses.replace(whole, maps=PicturesInMemory(noise([(5, 9)] * 11, 1)))
    with pytest.raises(ArgumentError, match=r"maps: got '11 of 3 channel\(s\)'"):
        dataclasses.replace(whole, maps=whole.pictures)
    with pytest.raises(ArgumentError, match="ignored: got 2, wanted a value from 3 to 255, which no class has"):
        dataclasses.replace(whole, ignored=2)
    with pytest.raises(ArgumentError, match="palette: got 1, wanted a colour for each of the 3 classes"):
        dataclasses.replace(whole, palette=((0, 0, 0),))
    with pytest.raises(ArgumentError, match="histogram: got"):
        dataclasses.replace(whole, histogram=whole.histogram[1:])
    with pytest.raises(ArgumentError, match="maps: got '2 at place 0', wanted class numbers 0 … 1, or 255"):
        Maps(whole.pictures, whole.maps, ("a", "b"))
    with pytest.raises(ArgumentError, match="test: got '3 channels, ignored = 77', wanted those of train, 3 and 255"):
        whole.check_test(dataclasses.replace(whole.restrict(["cat", "dog", "owl"]), ignored=77, maps=_zeros(whole)))


def _zeros(examples: Maps) -> PicturesInMemory:
    return PicturesInMemory([torch.zeros((1, *size), dtype=torch.uint8) for size in examples.pictures.sizes.tolist()])
