"""Batch normalisation folded into the convolution or linear layer before it, for plans that only evaluate.

With the running statistics μ and σ², γ·(W∗x + b − μ)/√(σ² + ε) + β is a convolution again, W' = s·W and
b' = β + s·(b − μ) with s = γ/√(σ² + ε): one pass over the maps less for every such pair.
"""

from __future__ import annotations

import collections
import dataclasses

import torch
from torch import nn

from convscope.lowering.plan import Constant, Plan, Record


def fold_batch_norms(plan: Plan, model: nn.Module) -> Plan:
    """``plan`` of ``model`` without those batch normalisations whose input is a convolution or linear layer of theirs
    alone.

    Left as they are: plans that train, a convolution whose output something else reads or the plan returns, and one
    with a connection table, whose kernels are kept by connection. Such a plan has no gradients of what was folded. The
    weights are read anew before each use, as all constants are.
    """
    if plan.training:
        return plan
    readers = collections.Counter(number for record in plan.records for number in record.inputs)
    readers.update(output.number for output in plan.outputs)
    makers = {record.output: record for record in plan.records}
    constants = list(plan.constants)
    folded: dict[int | None, Record] = {}  # by the convolution's own output
    gone: set[int | None] = set()  # outputs of batch normalisations that are no more
    for norm in plan.records:
        if norm.kind != "batch_norm":
            continue
        maker = makers.get(norm.inputs[0])
        if maker is None or not _can_take(maker) or readers[norm.inputs[0]] != 1:
            continue
        pair = _Pair(model, maker, norm)
        names = {"weight": pair.weight, "bias": pair.bias}
        sizes = {"weight": model.get_parameter(maker.parameters["weight"]).numel(), "bias": _channels(maker)}
        parameters = {}
        for key, value in names.items():
            parameters[key] = f"constant.{len(constants)}"
            constants.append(Constant(parameters[key], sizes[key], value, fixed=False))
        folded[maker.output] = dataclasses.replace(
            maker, name=f"{maker.name}+{norm.name}", output=norm.output, parameters=parameters, trainable=False
        )
        gone.add(norm.output)
    kept = [folded.get(record.output, record) for record in plan.records if record.output not in gone]
    return dataclasses.replace(plan, records=tuple(kept), constants=tuple(constants)) if folded else plan


def _can_take(record: Record) -> bool:
    return record.kind in ("conv2d", "linear") and "table" not in record.attributes


def _channels(record: Record) -> int:
    assert record.shape is not None
    return record.shape[0]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A layer and the batch normalisation after it; tensors are looked up by name at each use, as they may be replaced
    by then."""

    model: nn.Module
    layer: Record
    norm: Record

    def weight(self) -> torch.Tensor:
        """s·W, (weights,)"""
        weight = self.model.get_parameter(self.layer.parameters["weight"]).detach()
        return (weight.flatten(1) * self._slope().float()[:, None]).flatten()

    def bias(self) -> torch.Tensor:
        """β + s·(b − μ), (channels,)"""
        mean = self.model.get_buffer(self.norm.state["running_mean"]).double()
        bias, beta = self._parameter(self.layer, "bias", 0.0), self._parameter(self.norm, "bias", 0.0)
        return (beta + self._slope() * (bias - mean)).float()

    def _slope(self) -> torch.Tensor:
        """γ/√(σ² + ε) in float64, (channels,)"""
        variance = self.model.get_buffer(self.norm.state["running_var"]).double()
        epsilon = self.norm.attributes["eps"]
        assert isinstance(epsilon, float)
        return self._parameter(self.norm, "weight", 1.0) / (variance + epsilon).sqrt()

    def _parameter(self, record: Record, key: str, absent: float) -> torch.Tensor:
        name = record.parameters.get(key)
        if name is None:
            return torch.full((_channels(record),), absent, dtype=torch.float64)
        return self.model.get_parameter(name).detach().double()
