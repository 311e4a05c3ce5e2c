from __future__ import annotations

import warnings

import torch

from convscope.rules import checked


def test_results_that_require_gradients_are_compared_in_silence() -> None:
    """torch warns once a process where such a tensor becomes a number; here it is made to warn always."""
    one = 2 * torch.ones(3, requires_grad=True)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert checked._tensors_alike(one, one.clone(), {torch.float32: 1e-6})
            assert not checked._tensors_alike(one, one + 1e-4, {torch.float32: 1e-6})
    finally:
        torch.set_warn_always(False)
