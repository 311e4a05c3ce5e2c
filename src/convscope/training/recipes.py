"""What a recipe is: which settings train which model well on which data.

It is a starting point that was measured, not a secret: it is printed before training begins, every setting can be
overridden one by one, and ``--recipe none`` goes without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """``options`` are those of the model's builder, ``settings`` fields of ``convscope.training.Config``.

    ``data`` "*" is for any data. ``note`` says what it reaches, and on what that was measured.
    """

    name: str
    model: str
    data: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    note: str = ""

    def contradictions(self, options: Mapping[str, Any]) -> int:
        """How many of the model options asked for are other than this recipe's."""
        return sum(1 for name, value in options.items() if self.options.get(name, value) != value)
