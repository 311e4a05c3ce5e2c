"""What cannot work is refused with the argument's name, what came and what was wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from convscope import layers
from convscope.errors import ArgumentError, UnknownNameError

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: layers.Conv2d(3, 4, 3, groups=2), "groups: got 2, wanted a divisor of 3 and 4"),
    (lambda: layers.Conv2d(0, 4, 3), "in_channels: got 0, wanted an integer ≥ 1"),
    (lambda: layers.Conv2d(3, 4, 0), "kernel_size: got 0"),
    (lambda: layers.TableConv2d(6, 15, 5, table="lenet5_c3"), "out_channels: got 15, wanted 16"),
    (lambda: layers.TableConv2d(5, 16, 5, table="lenet5_c3"), "in_channels: got 5, wanted 6"),
    (lambda: layers.TableConv2d(6, 16, 5, table="lenet_c3"), "Did you mean 'lenet5_c3'"),
    (lambda: layers.TableConv2d(3, None, 5), "out_channels: got None"),
    (lambda: layers.TableConv2d(1, None, 5, table="pairs"), "in_channels: got 1, wanted at least 2"),
    (lambda: layers.TableConv2d(3, 2, 5, table=[[0], [3]]), "table: got 3, wanted input maps 0…2"),
    (lambda: layers.TableConv2d(3, 2, 5, table=[[0], []]), r"table: got \[1\], wanted at least one input map"),
    (lambda: layers.TableConv2d(3, 2, 5, table=torch.ones(2, 4)), r"table: got \(2, 4\)"),
    (lambda: layers.CombinedConv2d(3, 4, 3, sparsity=-1), "sparsity: got -1, wanted a number ≥ 0"),
    (lambda: layers.LocallyConnected2d(1, 1, 5, 4), "kernel_size: got 5, wanted a kernel that fits"),
    (lambda: layers.Subsample2d(3, activation="tahn"), "Did you mean 'tanh'"),
    (lambda: layers.Subsample2d(3)(torch.zeros(1, 2, 4, 4)), r"x: got \(1, 2, 4, 4\), wanted 3 channels"),
    (lambda: layers.L2Pool2d(3, padding=2), "padding: got 2, wanted at most half the kernel size"),
    (lambda: layers.MedianPool2d((2, 2, 2)), "kernel_size: got"),
    (lambda: layers.ScaledSigmoid(0), "beta: got 0, wanted a finite number above 0"),
    (lambda: layers.RBF(84, 10, torch.zeros(10, 83)), r"codes: got \(10, 83\), wanted the shape \(10, 84\)"),
    (lambda: layers.activation("rleu"), "Did you mean 'relu'"),
    (lambda: layers.initialise(nn.Linear(2, 2), "hee_normal"), "Did you mean 'he_normal'"),
    (lambda: layers.initialise(nn.Linear(2, 2), "normal", scale=0), "scale: got 0, wanted a finite number above 0"),
    (lambda: layers.loss_for("cros_entropy"), "Did you mean 'cross_entropy'"),
    (lambda: layers.depthwise_separable_conv2d(2, 0, 3), "out_channels: got 0"),
    (lambda: layers.spatially_separable_conv2d(2, 3, 3, between=0), "between: got 0"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()


def test_unknown_names_are_argument_errors() -> None:
    assert issubclass(UnknownNameError, ArgumentError)
