"""What is measured: a mapping of figures that knows which one tells most and which way is better."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from convscope.displays import Shown


class Figures(Shown, Mapping[str, Any]):
    """Base of a task's figures, a frozen dataclass of them: ``figures.accuracy``, ``figures["accuracy"]``, ``keys()``.

    ``headline`` names the figure that tells most; ``higher_is_better`` says which way it should go. ``counted`` names
    the figure that says on how many examples all was measured.
    """

    headline: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    counted: ClassVar[str] = "examples"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan (a class without examples, say) becomes None, which JSON can hold."""
        return {name: plain(getattr(self, name)) for name in self._names()}

    def better_than(self, other: Figures) -> bool:
        """Whether the headline is better than ``other``'s."""
        own, its = self[self.headline], other[self.headline]
        return bool(own > its if self.higher_is_better else own < its)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: tuples as lists, numbers that are none as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    return value
