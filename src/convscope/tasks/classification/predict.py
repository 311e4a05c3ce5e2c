"""Which class a picture shows, with what probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.columns import shown
from convscope.data.examples import map_tensors
from convscope.data.given import Images, given_pictures
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.models import probabilities as answers
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import preprocessing_for


@dataclasses.dataclass(frozen=True)
class Prediction:
    """``label`` is the most probable class, ``probabilities`` those of all ``classes``, in their order.

    ``source`` is the picture's file, or its place in what was given.
    """

    source: str
    label: str
    probability: float
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` most probable classes, best first."""
        order = sorted(range(len(self.classes)), key=lambda index: -self.probabilities[index])
        return [(self.classes[index], self.probabilities[index]) for index in order[:count]]

    def line(self, most: int) -> str:
        told = "  ".join(f"{shown(name)} {share:.1%}" for name, share in self.top(most))
        return f"{shown(self.source)}: {told}"

    def to_json(self) -> dict[str, Any]:
        shares = dict(zip(self.classes, self.probabilities, strict=True))
        content = {"picture": self.source, "class": self.label, "probability": self.probability}
        return {**content, "probabilities": shares}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, rank, name, f"{share:.6f}") for rank, (name, share) in enumerate(self.top(most), 1)]

    def save(self, folder: Path) -> list[Path]:
        return []  # a class is a word: there is nothing to draw


def predict(
    network: nn.Module,
    images: Images,
    batch_size: int = 64,
    preprocessing: spec.Preprocessing | None = None,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Prediction]:
    """The class of every picture, batch by batch, for more pictures than fit into memory.

    ``images``: paths of picture files or of folders (searched through all levels), uint8 arrays or tensors (h, w),
    (h, w, c), (c, h, w), (n, c, h, w) or (n, h, w, c), PIL pictures, or a sequence of these. Pictures of any size are
    brought to the model's as its preprocessing says.

    Probabilities: softmax of the outputs, for an RBF output softmax of minus the distances (so that one unit of
    distance is a factor e); outputs that end in a sigmoid or tanh are scaled to 0…1 and divided by their sum; those
    that end in a softmax are probabilities already.

    ``engine``: "auto", "native" or "torch", as for ``evaluate``; "auto" asks torch where there are only a few pictures.
    ``told`` hears which it is.

    Raises DataError for a missing, unreadable or damaged picture, ArgumentError for an empty request, wrong types, a
    model without preprocessing, or one whose outputs are no numbers.
    """
    described = spec.spec_of(network)
    preprocessing = preprocessing or preprocessing_for(network)
    sources = list(given_pictures(images))
    if not sources:
        raise ArgumentError("images", images, "at least one picture")
    pictures = spec.Input("pictures", preprocessing=preprocessing)
    inference = prepare_inference(network, (pictures,), engine, len(sources))
    told(inference)
    for start in range(0, len(sources), batch_size):
        part = sources[start : start + batch_size]
        pixels = torch.cat([prepare(source.pixels()[None], preprocessing) for source in part])
        shares = probabilities(network, inference.outputs((pixels,))).tolist()
        names = described.classes if described is not None and described.classes else ()
        classes = names if len(names) == len(shares[0]) else tuple(map(str, range(len(shares[0]))))
        for source, row in zip(part, shares, strict=True):
            if any(share != share for share in row):
                hint = f"First seen for picture {source.name}; the model's weights may have exploded in training"
                raise ArgumentError("model", "outputs that are no numbers", "a model whose outputs are finite", hint)
            best = max(range(len(row)), key=row.__getitem__)
            yield Prediction(source.name, classes[best], row[best], classes, tuple(row))


def probabilities(model: nn.Module, outputs: Any) -> torch.Tensor:
    """The model's outputs for some pictures → probabilities (n, classes), float64 on the CPU; see ``predict``."""
    exact = map_tensors(outputs, lambda each: each.detach().to("cpu", torch.float64))
    return answers.probabilities(model, exact)
