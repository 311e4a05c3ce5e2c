"""docs/zoo.md: every architecture with its exact parameter count, and how it compares with torchvision's.

    python -m docs.pages.zoo --reference tests/models/torchvision.json --output docs/zoo.md

A reference file holds, for each network, parameters, state-dict layout and logits computed by torchvision in float64
with weights and input made by formula (``formula``, ``reference_input``), so that no weights need to be downloaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from convscope.errors import DataError
from convscope.files import write_text
from convscope.layers import AuxiliaryOutputs, convolution_costs
from convscope.models.catalog import MODELS, Entry


@dataclasses.dataclass(frozen=True)
class Reference:
    """torchvision's numbers for one network.

    ``entries`` of the state dict and their ``digest`` (see ``layout_digest``), the first logits of each picture, the
    norm of all, and, where the file has them, the norms of all outputs in training mode without dropout, the logits
    first and then the side classifiers'.
    """

    parameters: int
    input_shape: tuple[int, ...]
    entries: int
    digest: str
    logits: Sequence[Sequence[float]]
    norm: float
    training_norms: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Compared:
    """Ours beside the reference; errors are relative to the largest logit and to each norm."""

    parameters: int
    keys_agree: bool
    logits_error: float
    norm_error: float
    training_error: float | None  # None where the reference has no figures of training mode


def read_reference(path: str | Path) -> dict[str, Reference]:
    """The reference file by network name; DataError when it is not one.

    ``state_dict`` is each key's shape, or in their stead their number and digest.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        references = {}
        for name, each in found.items():
            layout = each["state_dict"]
            if set(layout) == {"entries", "sha256"}:
                entries, digest = layout["entries"], layout["sha256"]
            else:
                entries, digest = len(layout), layout_digest((key, tuple(shape)) for key, shape in layout.items())
            references[name] = Reference(
                parameters=each["parameters"],
                input_shape=tuple(each["input"]),
                entries=entries,
                digest=digest,
                logits=each["logits"],
                norm=each["logits_norm"],
                training_norms=each.get("training_norms", ()),
            )
        return references
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, f"not a reference file ({error})") from error


_CHUNK = 1 << 17  # numbers worked out at a time: a megabyte, which stays in cache


def formula(key: str, like: torch.Tensor) -> torch.Tensor:
    """The value of a state-dict entry, float64, from its key and flat index k: s = sin(0.7·k + crc32(key) mod 1000).

    Counters are 0, running variances 1 + 0.1·|s|, running means and other vectors 0.1·s, normalisation weights
    1 + 0.1·s, kernels and matrices s·√(4/fan-in).
    """
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    s = torch.empty(like.shape, dtype=torch.float64)
    for part, start in zip(torch.split(s.view(-1), _CHUNK), range(0, like.numel(), _CHUNK), strict=True):
        torch.arange(start, start + len(part), dtype=torch.float64, out=part)
        part.mul_(0.7).add_(zlib.crc32(key.encode()) % 1000).sin_()
    if key.endswith("running_var"):
        return 1 + 0.1 * s.abs()
    if like.ndim != 1:
        return s.mul_(math.sqrt(4 / math.prod(like.shape[1:])))
    return 1 + 0.1 * s if key.endswith("weight") else 0.1 * s


def reference_input(shape: Sequence[int]) -> torch.Tensor:
    """sin(0.01·k) for the flat index k, float64."""
    return torch.sin(0.01 * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(tuple(shape))


def layout_digest(layout: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """SHA-256 over the lines "key shape", which stands for keys, their order and shapes: 64 letters for 30 kB."""
    return hashlib.sha256("\n".join(f"{key} {shape}" for key, shape in layout).encode()).hexdigest()


def keys_agree(model: nn.Module, reference: Reference) -> bool:
    """Whether the state dicts have the same keys in the same order, and the same shapes."""
    own = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    return (len(own), layout_digest(own)) == (reference.entries, reference.digest)


def by_formula(name: str) -> nn.Module:
    """Catalogue model ``name`` in float64, filled by formula."""
    with torch.device("meta"):  # no time spent on random weights that the formula replaces
        model = MODELS[name].create(1000, 3, {})
    model = model.to_empty(device="cpu").double().eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            value.copy_(formula(key, value))
    return model


def compare(name: str, reference: Reference) -> Compared:
    """Build catalogue model ``name``, fill it by formula and compare it with the reference in float64."""
    return compared(by_formula(name), reference)


def compared(model: nn.Module, reference: Reference) -> Compared:
    """Compare a model in float64 with the reference."""
    x = reference_input(reference.input_shape)
    with torch.no_grad():
        logits = model.eval()(x)
        in_training = _training_norms(model, x) if reference.training_norms else []
    wanted = torch.tensor(reference.logits, dtype=torch.float64)
    error = (logits[:, : wanted.shape[1]] - wanted).abs().max() / wanted.abs().max()
    norm_error = abs(float(logits.norm()) / reference.norm - 1)
    training_error = None
    if reference.training_norms:
        pairs = zip(in_training, reference.training_norms, strict=True)
        training_error = max(abs(own / its - 1) for own, its in pairs)
    agree = keys_agree(model, reference)
    return Compared(count_parameters(model), agree, float(error), norm_error, training_error)


def _training_norms(model: nn.Module, x: torch.Tensor) -> list[float]:
    """The norms of all outputs in training mode: batch normalisation by the batch, side classifiers, no dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    outputs = model(x)
    every = [outputs.logits, *outputs.auxiliary] if isinstance(outputs, AuxiliaryOutputs) else [outputs]
    return [float(each.norm()) for each in every]


def count_parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


def _shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _zoo_row(entry: Entry) -> str:
    card = entry.card
    with torch.device("meta"):
        counted = count_parameters(entry.create(card.classes, card.channels, {}))
    options = ", ".join(f"`{name}`" for name in entry.options()) or "–"
    exact = f"{counted:,}" if counted == card.parameters else f"{counted:,} (card: {card.parameters:,})"
    return (
        f"| `{entry.name}` | {card.year} | {_shape_text(card.input_shape)} | {exact} | {card.published} | {options} |"
    )


def _parity_row(name: str, reference: Reference) -> str:
    compared = compare(name, reference)
    keys = "equal" if compared.keys_agree else "DIFFERENT"
    training = "–" if compared.training_error is None else f"{compared.training_error:.1e}"
    return (
        f"| `{name}` | {_shape_text(reference.input_shape[1:])} | {compared.parameters:,} | {reference.parameters:,} "
        f"| {reference.entries}, {keys} | {compared.logits_error:.1e} | {compared.norm_error:.1e} | {training} |"
    )


def _cost_rows() -> list[str]:
    costs = convolution_costs(128, 128, 3, (28, 28), groups=4)
    return [
        f"| {cost.form} | {cost.formula} | {cost.parameters:,} | {cost.multiply_adds:,} | {cost.share(costs[0]):.3f} |"
        for cost in costs
    ]


def page(references: Sequence[tuple[str, Reference]]) -> str:
    """The whole page as Markdown; a row of the parity table for each (name, reference) given."""
    entries = [MODELS[name] for name in MODELS]
    lines = [
        "# The zoo",
        "",
        "Written by `python -m docs.pages.zoo`; do not edit by hand. Parameters are counted, not copied.",
        "",
        "| model | year | input | parameters | published result | options |",
        "|---|---|---|---|---|---|",
        *(_zoo_row(entry) for entry in sorted(entries, key=lambda entry: (entry.card.year, entry.name))),
        "",
        "`classes=` and `in_channels=` work for all. `small=True` builds the variant for pictures of 32×32,",
        "`input_size=` one for another size; `weights=` loads a file (ours or torchvision's), `freeze=` keeps layers",
        "from being trained.",
        "",
        "## What differs between editions",
        "",
        *(f"- `{entry.name}`: {entry.card.note}. {entry.card.paper}." for entry in entries if entry.card.note),
        "",
    ]
    if references:
        lines += [
            "## Against torchvision",
            "",
            "Two pictures, float64, weights and pictures by formula. Errors are relative: of the logits in evaluation",
            "mode to the largest, of the norm of all logits, and of the norms of all outputs in training mode without",
            "dropout (batch normalisation by the batch, side classifiers).",
            "",
            "| model | input | parameters | torchvision's | state-dict entries | logits | norm | training |",
            "|---|---|---|---|---|---|---|---|",
            *(_parity_row(name, reference) for name, reference in references),
            "",
        ]
    lines += [
        "## What a convolution costs",
        "",
        "A 3×3 layer from 128 to 128 maps of 28×28 (C, D maps in and out; k×l kernel; h×w places; g groups):",
        "",
        "| form | multiply-adds | kernel weights | multiply-adds here | of the dense one |",
        "|---|---|---|---|---|",
        *_cost_rows(),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.pages.zoo", description="Write the page of the zoo.")
    parser.add_argument(
        "--reference", type=Path, nargs="+", default=[], help="torchvision's numbers (JSON files); else no parity table"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/zoo.md"), help="where to write (docs/zoo.md)")
    chosen = parser.parse_args(arguments)
    text = page([row for path in chosen.reference for row in read_reference(path).items()])
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(chosen.output, text)
    print(f"wrote {chosen.output}")


if __name__ == "__main__":
    main()
