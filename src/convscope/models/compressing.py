"""Fully connected layers made of two smaller ones by a truncated singular value decomposition."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.errors import ArgumentError, UnknownNameError

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
#: Elements of a matrix that is taken apart in float64; larger ones in float32, four times as fast and half the memory.
_EXACTLY = 1 << 22


@dataclasses.dataclass(frozen=True)
class Compressed:
    """What became of a fully connected layer of ``shape`` (u, v): ``rank`` t (None: left as it is, ``reason`` says
    why), its weights ``before`` and ``after``, and ``error`` = ‖W − U·Σ_t·Vᵀ‖ / ‖W‖ by Frobenius' norm."""

    name: str
    shape: tuple[int, int]
    rank: int | None
    before: int
    after: int
    error: float
    reason: str = ""


def compress(model: nn.Module, energy: float | None = None, rank: int | Mapping[str, int] | None = None) -> nn.Module:
    """A copy of ``model`` whose fully connected layers are two smaller ones each, where that is fewer weights.

    W ≈ U·Σ_t·Vᵀ with the t largest singular values, so that f(W·x + b) becomes f(U·(Σ_t·Vᵀ·x) + b): a layer without
    bias, then one with the old bias, t·(u + v) weights instead of u·v (Xue 2016, eq. (41)–(43); Girshick 2015, 3.1).
    Either ``rank`` t, for all layers or by their names (others stay), or ``energy``, the least share of Σ σ² that the t
    values must hold, 0 to 1. ``compression_of`` lists what became of each. The copy trains, saves and loads as the
    model does; layer ``fc`` has become ``fc.0`` and ``fc.1``.

    Raises ArgumentError for both or neither, values that cannot be, weights that are not finite, and where no layer
    becomes smaller; UnknownNameError for a layer that is not there.
    """
    if (energy is None) == (rank is None):
        raise ArgumentError("energy, rank", (energy, rank), "one of the two")
    if energy is not None:
        _check_energy(energy)
    found = _linear_layers(model)
    if not found:
        raise ArgumentError("model", type(model).__name__, "a model with fully connected layers (torch.nn.Linear)")
    wanted = _wanted_ranks(rank, found)
    other = copy.deepcopy(model)
    rows = [_compressed(other, name, reason, energy, wanted) for name, reason in found.items()]
    if all(row.rank is None for row in rows):
        reasons = "; ".join(f"{row.name}: {row.reason}" for row in rows)
        argument, got = ("energy", energy) if rank is None else ("rank", rank)
        raise ArgumentError(argument, got, "one with which a layer becomes smaller", f"{reasons}.")
    other.__dict__["convscope_compression"] = tuple(rows)
    described = spec.spec_of(model)
    if described is not None:
        ranks = {row.name: row.rank for row in rows if row.rank is not None}
        spec.attach(other, described.replace(ranks={**described.ranks, **ranks}))
    return other


def compression_of(model: nn.Module) -> tuple[Compressed, ...]:
    """What became of each fully connected layer of a model that ``compress`` made, in order; () for another model."""
    rows: tuple[Compressed, ...] = model.__dict__.get("convscope_compression", ())
    return rows


def factorise(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """``model`` with the named layers as two of these ranks, their weights not yet set: what a file's weights fit.

    Raises ArgumentError for names that are no fully connected layers, and ranks that cannot be.
    """
    for name, rank in ranks.items():
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            layer = None
        whole = isinstance(rank, int) and not isinstance(rank, bool)
        if type(layer) is not nn.Linear or not whole or not 1 <= rank <= min(layer.weight.shape):
            raise ArgumentError("ranks", f"{rank} of {name}", "ranks of the model's fully connected layers")
        _put(model, layer, _two(layer, rank)[0])
    return model


def _check_energy(energy: float) -> None:
    if isinstance(energy, bool) or not isinstance(energy, int | float) or not 0 < energy <= 1:
        raise ArgumentError("energy", energy, "a share of the squared singular values, above 0 and at most 1")


def _wanted_ranks(rank: int | Mapping[str, int] | None, found: Mapping[str, str]) -> dict[str, int] | None:
    """By the names of the layers; None where the energy decides."""
    if rank is None:
        return None
    chosen = dict(rank) if isinstance(rank, Mapping) else dict.fromkeys(found, rank)
    for name, each in chosen.items():
        if name not in found:
            raise UnknownNameError("layer", name, found)
        if isinstance(each, bool) or not isinstance(each, int) or each < 1:
            got = f"{each!r} for {name}" if isinstance(rank, Mapping) else each
            raise ArgumentError("rank", got, "a whole number of singular values, at least 1")
        if found[name] and isinstance(rank, Mapping):
            raise ArgumentError("rank", name, "layers that can be replaced", f"This one cannot: {found[name]}.")
    return chosen


def _linear_layers(model: nn.Module) -> dict[str, str]:
    """Every fully connected layer under its first name, with the reason why it must stay, or ""."""
    parents = dict(model.named_modules())
    owners: dict[int, int] = {}
    for module in parents.values():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found = {}
    for name, module in parents.items():
        if type(module) is not nn.Linear or not name:
            continue
        parent = parents[name.rpartition(".")[0]]
        if type(parent).__module__.startswith(("torch.", "convscope.layers")) and type(parent) not in _CONTAINERS:
            found[name] = f"{type(parent).__name__} computes with its weights"
        elif owners[id(module.weight)] > 1:
            found[name] = "its weights are shared"
        elif module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            found[name] = "it has hooks"
        else:
            found[name] = ""
    return found


def _compressed(
    model: nn.Module, name: str, reason: str, energy: float | None, wanted: Mapping[str, int] | None
) -> Compressed:
    """Replace one layer of the copy, where that is fewer weights."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    u, v = layer.weight.shape
    if not reason and wanted is not None and name not in wanted:
        reason = "no rank was given for it"
    if not reason and wanted is not None and wanted[name] * (u + v) >= u * v:
        reason = f"rank {wanted[name]} is no fewer weights, {wanted[name] * (u + v)} for {u * v}"
    if reason:
        return Compressed(name, (u, v), None, u * v, u * v, 0.0, reason)
    left, values, right = decomposed(layer.weight, name)
    total = float(values.square().sum())
    if wanted is None:
        assert energy is not None
        held = values.square().cumsum(0)
        t = min(int((held < energy * total * (1 - 1e-12)).sum()) + 1, len(values))
        if t * (u + v) >= u * v:
            return Compressed(name, (u, v), None, u * v, u * v, 0.0, f"rank {t} would be needed, no fewer weights")
    else:
        t = min(wanted[name], len(values))
    two, first, second = _two(layer, t)
    with torch.no_grad():
        first.weight.copy_(values[:t, None] * right[:t])
        second.weight.copy_(left[:, :t])
        if layer.bias is not None:
            second.bias.copy_(layer.bias)
    _put(model, layer, two)
    error = math.sqrt(float(values[t:].square().sum()) / total) if total else 0.0
    return Compressed(name, (u, v), t, u * v, t * (u + v), error)


@torch.no_grad()
def decomposed(weight: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """(U, σ, Vᵀ) of W (u, v) = U·diag(σ)·Vᵀ, σ falling. Raises ArgumentError for numbers that are not finite."""
    if not weight.isfinite().all():
        raise ArgumentError("model", f"layer {name!r} with weights that are not finite", "finite weights")
    exact = weight.double() if weight.numel() <= _EXACTLY else weight.float()
    left, values, right = torch.linalg.svd(exact, full_matrices=False)
    return left, values, right


def _two(layer: nn.Linear, rank: int) -> tuple[nn.Sequential, nn.Linear, nn.Linear]:
    """Two layers, together and each, of the one's mode, type and place, and as trainable as it; weights not yet set."""
    weight = layer.weight
    first, second = (
        nn.Linear(columns, rows, bias=bias, device="meta", dtype=weight.dtype).to_empty(device=weight.device)
        for columns, rows, bias in (
            (layer.in_features, rank, False),
            (rank, layer.out_features, layer.bias is not None),
        )
    )
    first.weight.requires_grad_(weight.requires_grad)
    second.weight.requires_grad_(weight.requires_grad)
    if layer.bias is not None:
        second.bias.requires_grad_(layer.bias.requires_grad)
    return nn.Sequential(first, second).train(layer.training), first, second


def _put(model: nn.Module, layer: nn.Module, replacement: nn.Module) -> None:
    """In the layer's stead, under every name that it has."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is layer:
                parent._modules[name] = replacement
