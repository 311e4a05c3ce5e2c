"""Pictures made again by an autoencoder, beside the originals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from convscope.columns import shown
from convscope.data.given import given_pictures
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.files import replacing
from convscope.spec import Input, Preprocessing
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import preprocessing_for

_ACTIVE = 0.5  # a unit above it is said to be active
_GAP = 2  # pixels between the two pictures


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstructed:
    """``error`` is ½‖y − x‖², ``active`` how many of the ``units`` are above 0.5; ``original`` and ``picture`` are
    uint8 (c, h, w), or None where the model codes something else than pixels."""

    source: str
    error: float
    active: int
    units: int
    original: Tensor | None
    picture: Tensor | None

    def line(self, most: int) -> str:
        return f"{shown(self.source)}: ½‖y − x‖² {self.error:.3f}, {self.active} of {self.units} units active"

    def to_json(self) -> dict[str, Any]:
        return {"picture": self.source, "error": self.error, "active_units": self.active, "units": self.units}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, f"{self.error:.6f}", self.active)]

    def save(self, folder: Path) -> list[Path]:
        """One PNG: the picture as the model sees it, and beside it what comes out."""
        if self.picture is None or self.original is None:
            return []
        gap = torch.full((*self.original.shape[:2], _GAP), 255, dtype=torch.uint8)
        both = torch.cat((self.original, gap, self.picture), 2)
        pixels = both[0] if len(both) == 1 else both.permute(1, 2, 0)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{Path(self.source).stem or 'picture'}-reconstructed.png"
        with replacing(path) as temporary:
            Image.fromarray(pixels.numpy()).save(temporary, "PNG")
        return [path]


def predict(
    network: nn.Module,
    images: Any,
    batch_size: int = 64,
    preprocessing: Preprocessing | None = None,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Reconstructed]:
    """Every picture made again. ``images`` as for classification: files, folders, arrays, tensors, PIL pictures."""
    chosen = preprocessing or preprocessing_for(network)
    sources = list(given_pictures(images))
    if not sources:
        raise ArgumentError("images", images, "at least one picture")
    inference = prepare_inference(network, (Input("pictures", preprocessing=chosen),), engine, len(sources))
    told(inference)
    for start in range(0, len(sources), batch_size):
        part = sources[start : start + batch_size]
        pixels = torch.cat([prepare(source.pixels()[None], chosen) for source in part])
        y, code, x = (each.float().cpu() for each in inference.outputs((pixels,)))
        whole = y.shape[1] == pixels[0].numel()
        again = chosen.denormalise(y.reshape(pixels.shape)) if whole else None
        errors = 0.5 * (y - x).square().sum(1)
        for place, source in enumerate(part):
            yield Reconstructed(
                source.name,
                float(errors[place]),
                int((code[place] > _ACTIVE).sum()),
                code.shape[1],
                pixels[place] if whole else None,
                None if again is None else again[place],
            )
