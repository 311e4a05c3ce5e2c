from __future__ import annotations

import pytest

from convscope.data.augment import KINDS, parse_augmentation
from convscope.errors import ArgumentError, UnknownNameError


def test_text_and_back() -> None:
    text = "flip:0.5,crop:4,translate:2,rotate:10,scale:0.1,elastic:34:4,brightness:0.2,cutout:8"
    assert str(parse_augmentation(text)) == text
    assert str(parse_augmentation(text.split(","))) == text
    assert str(parse_augmentation([" flip , crop : 4", "elastic"])) == "flip:0.5,crop:4,elastic:34:4"
    assert repr(parse_augmentation("flip")) == "Augmentation('flip:0.5')"
    parsed = parse_augmentation(text)
    assert parse_augmentation(parsed) is parsed


def test_defaults() -> None:
    assert parse_augmentation("width").operations[0].values == (10, 20)
    assert parse_augmentation("width:14").operations[0].values == (14, 14)
    assert parse_augmentation("elastic:8").operations[0].values == (8, 4)
    assert parse_augmentation("pca").operations[0].values == (0.1,)


def test_every_kind_says_how_it_is_written() -> None:
    assert KINDS["elastic"].usage() == "elastic:ALPHA:SIGMA"
    for kind in KINDS.values():
        text = ":".join([kind.name, *(f"{parameter.high:g}" for parameter in kind.parameters)])
        assert parse_augmentation(text).operations[0].name == kind.name
        assert kind.help


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotat:10", r"augment: got 'rotat', wanted one of .*Did you mean 'rotate'"),
        ("flip,eastic", "Did you mean 'elastic'"),
        ("rotate", "augment: got 'rotate', wanted rotate:DEGREES, degrees a number from 0 to 180"),
        ("rotate:ten", "augment: got 'rotate:ten', wanted rotate:DEGREES"),
        ("rotate:200", "augment: got 'rotate:200', wanted rotate:DEGREES"),
        ("rotate:nan", "augment: got 'rotate:nan'"),
        ("rotate:1:2", "augment: got 'rotate:1:2'"),
        ("crop:2.5", "wanted crop:PIXELS, pixels a whole number from 1 to 1024"),
        ("flip:1.5", "wanted flip:P, p a number from 0 to 1"),
        ("width:20:10", "wanted width:LEAST:MOST with least ≤ most"),
        ("elastic:1:2,elastic:3:4", "wanted elastic once"),
        ("", "augment: got '', wanted operations among flip, crop"),
        (" , ", "wanted operations among"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises((ArgumentError, UnknownNameError), match=message):
        parse_augmentation(text)
