"""What if a weight, a kernel or a map were another: edits of the model's parameters, each with the way back."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Edit:
    """``parts`` are (parameter's full name, place in it, what stood there)."""

    text: str
    parts: tuple[tuple[str, tuple[int, ...], Tensor], ...]


class Surgeon:
    """Edits of one model, newest last. A place is an index of any length: (5,) is output map 5's kernels, (5, 2) its
    kernel over input map 2, (5, 2, 0, 1) one weight."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.edits: list[Edit] = []

    @torch.no_grad()
    def change(self, module: str, parameter: str, index: tuple[int, ...], value: float, scale: bool = False) -> Edit:
        """Set the numbers at ``index`` of a module's parameter to ``value``, or (``scale``) multiply them by it."""
        name = f"{module}.{parameter}" if module else parameter
        text = f"{name}[{', '.join(map(str, index))}] {'×=' if scale else '='} {value:g}"
        return self._done(text, [(name, index)], value, scale)

    @torch.no_grad()
    def silence(self, module: str, number: int) -> Edit:
        """All weights that make output map ``number`` of a layer, and its bias, become 0."""
        found = self.model.get_submodule(module)
        if getattr(found, "transposed", False):
            raise ArgumentError("layer", module, "one whose weight lists the output maps first")
        names = [name for name, _ in found.named_parameters(recurse=False)]
        if not names:
            raise ArgumentError("layer", module, "a layer with weights of its own")
        lengths = {len(each) for each in found.parameters(recurse=False) if each.ndim}
        if len(lengths) != 1:
            raise ArgumentError("layer", module, "one whose weight lists the output maps first")
        return self._done(f"{module}, {number} = 0", [(f"{module}.{name}", (number,)) for name in names], 0.0, False)

    @torch.no_grad()
    def undo(self) -> Edit:
        """Take the newest edit back, bit for bit."""
        if not self.edits:
            raise ArgumentError("edits", 0, "an edit to take back")
        edit = self.edits.pop()
        for name, index, before in reversed(edit.parts):
            self.model.get_parameter(name)[index] = before
        return edit

    def originals(self) -> dict[str, Tensor]:
        """The edited parameters as they were before the first edit."""
        found: dict[str, Tensor] = {}
        for edit in reversed(self.edits):
            for name, index, before in reversed(edit.parts):
                if name not in found:
                    found[name] = self.model.get_parameter(name).detach().clone()
                found[name][index] = before
        return found

    def forget(self) -> None:
        """The weights were changed from elsewhere: what was edited stays, and cannot be taken back."""
        self.edits.clear()

    def _done(self, text: str, places: list[tuple[str, tuple[int, ...]]], value: float, scale: bool) -> Edit:
        known = dict(self.model.named_parameters())
        parts = []
        for name, index in places:
            if name not in known:
                raise UnknownNameError("parameter", name, known)
            shape = tuple(known[name].shape)
            if len(index) > len(shape) or any(not 0 <= at < side for at, side in zip(index, shape, strict=False)):
                raise ArgumentError("index", list(index), f"a place within {shape}")
            parts.append((name, index, known[name].detach()[index].clone()))
        for name, index, before in parts:
            known[name][index] = before * value if scale else torch.full_like(before, value)
        edit = Edit(text, tuple(parts))
        self.edits.append(edit)
        return edit
