"""Which models of others ``foreign_models.py`` tries, and how each is built small."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.foreign_sets import OWN
from benchmarks.foreign_vision import Built, Shape, stand_in_operators, vision_models
from torch import nn

#: What makes families' members shallow; builders refuse what is not theirs.
SHALLOW: tuple[dict[str, Any], ...] = (
    {"depth": 2, "embed_dim": 96, "num_heads": 3}, {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)},
    {"layers": [1, 1, 1]}, {"depths": (1, 1, 1)}, {"depth": 2}, {},
)  # fmt: skip
MOST = 12_000_000  # parameters; the rules take each in float64
#: Of modules of timm in which the smallest model is no model of pictures, or large: the one to take, and what for.
CHOSEN: dict[str, tuple[str, dict[str, Any]]] = {
    "davit": ("davit_tiny", {"depths": (1, 1), "embed_dims": (48, 96), "num_heads": (3, 6)}),
    "vision_transformer": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64}),
    "eva": ("eva02_tiny_patch14_224", {"depth": 2, "img_size": 56}),
    "coat": ("coat_tiny", {"serial_depths": (1, 1, 1, 1), "parallel_depth": 1, "img_size": 64,
                           "embed_dims": (32, 32, 32, 32), "mlp_ratios": (2, 2, 2, 2), "num_heads": 4}),
    "crossvit": ("crossvit_tiny_240", {"depth": ((1, 1, 0), (1, 1, 0)), "img_size": 120}),
    "byoanet": ("lambda_resnet26t", {}),
    "byobnet": ("mobileone_s0", {}),
}  # fmt: skip


class ConvMixer(nn.Module):
    """timm's ConvMixer at width 32: its builder fixes the depth, 32."""

    def __new__(cls) -> Any:
        return importlib.import_module("timm.models.convmixer").ConvMixer(32, 2, num_classes=10)


def models(largest: int = 1024) -> Iterator[tuple[str, Built]]:
    """Names, and what builds the model and says the shape of one input."""
    for name, (own, own_shape) in OWN.items():
        yield f"own {name}", functools.partial(_built, own, {}, own_shape)
    stand_in_operators()
    import timm

    for name, build in vision_models():
        yield f"torchvision {name}", build
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if module == "convmixer":
            yield "timm convmixer", functools.partial(_built, ConvMixer, {}, (3, 64, 64))
        elif module in CHOSEN:
            name, options = CHOSEN[module]
            yield f"timm {name}", functools.partial(built_small, name, largest, (options,))
        elif names:
            yield f"timm {smallest(names)}", functools.partial(built_small, smallest(names), largest)


def _built(builder: Any, options: dict[str, Any], shape: Shape) -> tuple[nn.Module, Shape]:
    return builder(**options), shape


def smallest(names: list[str]) -> str:
    """By what the names say: building all of timm to count takes half an hour."""
    said = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "_t0", "tiny", "_050", "_b0", "small", "18", "_s")
    return min(names, key=lambda name: (next((i for i, each in enumerate(said) if each in name), 99), len(name)))


def built_small(
    name: str, largest: int, shallow: tuple[dict[str, Any], ...] = SHALLOW
) -> tuple[nn.Module, tuple[int, ...]]:
    """The model at the smallest of some depths and sizes that its builder and it take, and the shape of one input."""
    import timm

    described = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = 224 if described is None else described.input_size[-1]
    tried: list[tuple[int, dict[str, Any]]] = [(64, {"img_size": 64}), (64, {}), (96, {}), (128, {"img_size": 128})]
    if "img_size" in shallow[0]:
        tried = [(shallow[0]["img_size"], {})]
    sides = [each for each in [*tried, (size, {})] if each[0] <= largest]
    problems = []
    for (side, sized), less in itertools.product(sides, shallow):
        try:
            with torch.device("meta"):  # the number of parameters costs nothing there
                parameters = sum(
                    each.numel() for each in timm.create_model(name, num_classes=10, **sized, **less).parameters()
                )
            if parameters > MOST:
                problems.append(f"{parameters} parameters")
                continue
            model = timm.create_model(name, num_classes=10, **sized, **less).eval()
            with torch.no_grad():
                _ = model(torch.randn(2, 3, side, side))
        except Exception as problem:  # whatever it does not take
            problems.append(f"{type(problem).__name__}: {problem}"[:100])
            continue
        return model, (3, side, side)
    raise ValueError(f"{name} takes none of the sizes, or is larger than {MOST} parameters at each: {problems[-1]}")
