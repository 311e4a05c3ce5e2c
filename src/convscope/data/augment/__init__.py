"""Whole-batch augmentation of uint8 pictures, seeded, on CPU and GPU."""

from convscope.data.augment.operations import KINDS
from convscope.data.augment.pipeline import Augmentation, parse_augmentation
from convscope.data.transforms import normalise_width

__all__ = ["KINDS", "Augmentation", "normalise_width", "parse_augmentation"]
