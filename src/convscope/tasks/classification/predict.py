"""Which class a picture shows, with what probability."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import nn

from convscope import spec
from convscope.columns import shown
from convscope.data.pictures import SUFFIXES, decode_picture, find_pictures_below, load_picture
from convscope.data.transforms import as_images, prepare
from convscope.errors import ArgumentError, DataError
from convscope.layers import ScaledSigmoid, ScaledTanh, loss_for
from convscope.models.catalog import default_loss
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import preprocessing_for

Images = Any  # a path, an array, a tensor, a PIL picture, or a sequence of these


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
    sources = list(_sources(images))
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
    scores = loss_for(default_loss(model), model).predictions(outputs).detach().to("cpu", torch.float64)
    last = [module for module in model.modules() if not list(module.children())][-1]
    if isinstance(last, nn.Softmax):
        return scores
    if isinstance(last, nn.LogSoftmax):
        return scores.exp()
    if isinstance(last, nn.Sigmoid | ScaledSigmoid):
        return _shares(scores)
    if isinstance(last, nn.Tanh | ScaledTanh):
        return _shares((scores + 1).clamp(min=0) / 2)
    return scores.softmax(dim=1)


def _shares(values: torch.Tensor) -> torch.Tensor:
    """Each row divided by its sum; a row of zeros becomes even."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total > 0, values / total, torch.full_like(values, 1 / values.shape[1]))


@dataclasses.dataclass(frozen=True)
class _Source:
    """One picture: its name, and a file or pixels."""

    name: str
    path: Path | None = None
    content: torch.Tensor | None = None

    def pixels(self) -> torch.Tensor:
        """uint8 (c, h, w)."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        return load_picture(self.path)


def _sources(images: Images, place: str = "") -> Iterator[_Source]:
    if isinstance(images, str | Path):
        yield from _files(Path(images).expanduser())
    elif isinstance(images, Image.Image):
        yield _Source(place or "0", content=_from_pil(images, place or "0"))
    elif isinstance(images, torch.Tensor | numpy.ndarray):
        pictures = _pictures(images)
        if place and len(pictures) == 1:
            yield _Source(place, content=pictures[0])
        else:
            prefix = f"{place}/" if place else ""
            yield from (_Source(f"{prefix}{index}", content=picture) for index, picture in enumerate(pictures))
    elif isinstance(images, Sequence):
        for index, item in enumerate(images):
            yield from _sources(item, f"{place}/{index}" if place else str(index))
    else:
        raise ArgumentError(
            "images", type(images).__name__, "paths, uint8 arrays or tensors, PIL pictures, or a list of these"
        )


def _files(path: Path) -> Iterator[_Source]:
    """The file itself, or all pictures below the folder, sorted by path; hidden ones are left out, as in training."""
    if not path.exists():
        raise DataError(path, "no such file or folder")
    if not path.is_dir():
        yield _Source(str(path), path=path)
        return
    found = find_pictures_below(path)
    if not found:
        known = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(path, "a folder without pictures", f"Picture files end in {known}")
    yield from (_Source(str(item), path=item) for item in found)


def _pictures(images: torch.Tensor | numpy.ndarray) -> torch.Tensor:
    """(n, c, h, w) of one picture or several; three dimensions are one picture, (c, h, w) or (h, w, c)."""
    shape = tuple(images.shape)
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4)):
        images = images[None]
    elif len(shape) == 3 and shape[0] in (1, 3, 4):
        tensor = images if isinstance(images, torch.Tensor) else torch.from_numpy(numpy.ascontiguousarray(images))
        if tensor.dtype == torch.uint8:
            return tensor[None]
    return as_images(images, "images")


def _from_pil(image: Image.Image, name: str) -> torch.Tensor:
    """uint8 (c, h, w), by the same rules as a picture file (transparency, 16 bits, orientation)."""
    if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    return decode_picture(buffer.getvalue(), name)
