"""What a model returns in training when it has auxiliary classifiers."""

from __future__ import annotations

from typing import NamedTuple

import torch


class AuxiliaryOutputs(NamedTuple):
    """Logits of the main classifier and of the auxiliary ones, all (n, classes).

    The training loss is loss(logits) + weight · Σ loss(auxiliary). Only in training mode; in evaluation such a model
    returns the logits alone. ``weight`` is 0.3 for GoogLeNet (Szegedy et al. 2014), 0.4 for Inception-v3 (2015).
    """

    logits: torch.Tensor
    auxiliary: tuple[torch.Tensor, ...]
    weight: float
