"""Every way in which a program gives a model other numbers, layers or modes that we know of.

A way may prepare the model before its first call, and is then given what it has kept.
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune


class Way(NamedTuple):
    change: Callable[[Any, Any], Any]  # of the model, and what was kept
    prepare: Callable[[Any], Any] = lambda model: None


class Bent(nn.Module):
    """A parametrisation with a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + 0.1 * x.square()


def _no_grad(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def changed(model: Any, kept: Any) -> Any:
        with torch.no_grad():
            return change(model, kept)

    return changed


def _in_inference_mode(model: Any, kept: Any) -> None:
    with torch.inference_mode():
        model.a.weight.mul_(1.5)


def _halved(model: Any, kept: Any) -> None:
    """Rounds to 11 bits: seen, though little."""
    with torch.no_grad():
        model.a.weight.mul_(1.5)
    model.half()
    model.float()


def _swapped(model: Any, kept: Any) -> None:
    gc.collect()  # torch swaps nothing that a dead cycle, as recording a model leaves some, still holds
    torch.utils.swap_tensors(model.a.weight, nn.Parameter(model.a.weight.detach() * 1.5))  # type: ignore[no-untyped-call]


def _converted_by_swapping(model: Any, kept: Any) -> None:
    gc.collect()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
        with torch.no_grad():
            model.a.weight.mul_(1.5)
        model.float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def _loaded_by_swapping(model: Any, kept: Any) -> None:
    gc.collect()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.load_state_dict({name: each * 1.5 for name, each in model.state_dict().items()})
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def _emptied_and_filled(model: Any, kept: Any) -> None:
    state = {name: each.clone() * 1.5 for name, each in model.state_dict().items()}
    model.to_empty(device="cpu")
    model.load_state_dict(state)


def _by_optimiser(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Way:
    def step(model: Any, optimiser: torch.optim.Optimizer) -> None:
        for each in model.parameters():
            each.grad = torch.ones_like(each)
        optimiser.step()
        optimiser.zero_grad()

    return Way(step, lambda model: make(model.parameters(), lr=0.1, **options))


def _averaged(model: Any, kept: Any) -> None:
    other = copy.deepcopy(model)
    for each in other.parameters():
        each.data.mul_(2)
    average = torch.optim.swa_utils.AveragedModel(other)
    average.update_parameters(other)
    model.load_state_dict(average.module.state_dict())


def _by_another_process(model: Any, kept: Any) -> None:
    """Only the child writes; it leaves at once, without Python's and torch's last acts."""
    numbers = model.a.weight.detach().numpy()
    child = os.fork()
    if child == 0:
        numbers *= 1.5
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def _scaled_by(factor: float) -> Callable[[Any, Any], None]:
    def change(model: Any, kept: Any) -> None:
        kept *= factor

    return change


def _to_the_storage(model: Any, kept: Any) -> None:
    torch.empty(0).set_(model.a.weight.untyped_storage())[:].mul_(1.2)


def _deleted_and_registered(model: Any, kept: Any) -> None:
    other = nn.Parameter(model.a.weight.detach() * 1.5)
    del model.a.weight
    model.a.register_parameter("weight", other)


def _layer(model: Any) -> nn.Conv2d:
    layer = nn.Conv2d(3, 8, 3, padding=1)
    layer.weight.data = model.a.weight.data * 1.5
    return layer


def _pruned(model: Any, kept: Any = None) -> None:
    prune.l1_unstructured(model.a, "weight", 0.5)  # type: ignore[no-untyped-call]


def _shared_later(model: Any, kept: Any) -> None:
    model.share_memory()
    _by_another_process(model, kept)


def _statistics_by_torch(model: Any, kept: Any) -> None:
    model.norm.train()
    with torch.no_grad():
        model.norm(torch.full((2, 8, 4, 4), 3.0) + torch.arange(4))
    model.norm.train(model.training)


NUMBERS: dict[str, Way] = {
    "in place": Way(_no_grad(lambda m, _: m.a.weight.mul_(1.5))),
    "in place, in inference mode": Way(_in_inference_mode),
    "one number": Way(_no_grad(lambda m, _: m.a.weight[1, 2].__setitem__((0, 1), 3.0))),
    "a bias": Way(_no_grad(lambda m, _: m.b.bias.add_(1))),
    "the last layer": Way(_no_grad(lambda m, _: m.out.weight.mul_(-2))),
    "copy_": Way(_no_grad(lambda m, _: m.a.weight.copy_(m.a.weight * 1.5))),
    "nn.init": Way(lambda m, _: nn.init.constant_(m.a.weight, 0.1)),
    "foreach": Way(_no_grad(lambda m, _: torch._foreach_mul_([*m.parameters()], 1.5))),
    "data =": Way(lambda m, _: setattr(m.a.weight, "data", m.a.weight.data * 1.5)),
    "data = of other strides": Way(
        lambda m, _: setattr(m.a.weight, "data", (m.a.weight.data * 1.5).to(memory_format=torch.channels_last))
    ),
    "data.mul_": Way(lambda m, _: m.a.weight.data.mul_(1.5)),
    "data.copy_": Way(lambda m, _: m.a.weight.data.copy_(m.a.weight.data * 1.5)),
    "data[…] =": Way(lambda m, _: m.a.weight.data.__setitem__(0, 1.0)),
    "detach()": Way(lambda m, _: m.a.weight.detach()[1:].mul_(2)),
    "a view of before": Way(_scaled_by(1.5), lambda m: m.a.weight.data.view(-1)),
    "a view of after": Way(lambda m, _: m.a.weight.detach().view(-1)[5:].mul_(2)),
    "numpy, of before": Way(_scaled_by(1.5), lambda m: m.a.weight.detach().numpy()),
    "numpy, of after": Way(lambda m, _: np.multiply(m.a.weight.detach().numpy(), 1.5, m.a.weight.detach().numpy())),
    "dlpack": Way(lambda m, _: torch.utils.dlpack.from_dlpack(m.a.weight.detach()).mul_(1.5)),
    "the storage": Way(_to_the_storage),
    "set_": Way(_no_grad(lambda m, _: m.a.weight.set_(m.a.weight.detach() * 1.5))),
    "swap_tensors": Way(_swapped),
    "load_state_dict": Way(lambda m, _: m.load_state_dict({k: v * 1.5 for k, v in m.state_dict().items()})),
    "load_state_dict, assign": Way(
        lambda m, _: m.load_state_dict({k: v * 1.5 for k, v in m.state_dict().items()}, assign=True)
    ),
    "load_state_dict of one layer": Way(
        lambda m, _: m.b.load_state_dict({k: v * 1.5 for k, v in m.b.state_dict().items()})
    ),
    "load_state_dict, swapping": Way(_loaded_by_swapping),
    "state_dict's tensors": Way(_no_grad(lambda m, _: m.state_dict()["a.weight"].mul_(1.5))),
    "state_dict's of before": Way(_no_grad(lambda m, kept: kept["a.weight"].mul_(1.5)), lambda m: m.state_dict()),
    "vector_to_parameters": Way(
        lambda m, _: nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(m.parameters()).detach() * 1.2, m.parameters()
        )
    ),
    "another parameter": Way(lambda m, _: setattr(m.a, "weight", nn.Parameter(m.a.weight.detach() * 1.5))),
    "another parameter in the dictionary": Way(
        lambda m, _: m.a._parameters.__setitem__("weight", nn.Parameter(m.a.weight.detach() * 1.5))
    ),
    "deleted and registered": Way(_deleted_and_registered),
    "another layer": Way(lambda m, _: setattr(m, "a", _layer(m))),
    "another layer in the dictionary": Way(lambda m, _: m._modules.__setitem__("a", _layer(m))),
    "another layer, set_submodule": Way(lambda m, _: m.set_submodule("a", _layer(m))),
    "a layer's whole dictionary": Way(lambda m, _: setattr(m.a, "_parameters", dict(_layer(m)._parameters))),
    "another layer of another kind": Way(lambda m, _: setattr(m, "act", nn.Sigmoid())),
    "double and back": Way(lambda m, _: (m.double(), m.a.weight.data.mul_(1.5), m.float())),
    "half and back": Way(_halved),
    "double and back, swapping": Way(_converted_by_swapping),
    "to_empty": Way(_emptied_and_filled),
    "apply": Way(
        lambda m, _: m.apply(lambda each: nn.init.ones_(each.weight) if isinstance(each, nn.Linear) else None)
    ),
    "SGD": _by_optimiser(torch.optim.SGD),
    "SGD, one by one": _by_optimiser(torch.optim.SGD, foreach=False),
    "SGD, foreach": _by_optimiser(torch.optim.SGD, foreach=True, momentum=0.9),
    "SGD, fused": _by_optimiser(torch.optim.SGD, fused=True),
    "Adam, fused": _by_optimiser(torch.optim.Adam, fused=True),
    "Adam, foreach": _by_optimiser(torch.optim.Adam, foreach=True),
    "AdamW, one by one": _by_optimiser(torch.optim.AdamW, foreach=False),
    "Adagrad": _by_optimiser(torch.optim.Adagrad),
    "RMSprop": _by_optimiser(torch.optim.RMSprop),
    "an average's": Way(_averaged),
    "shared memory, by another process": Way(_by_another_process, lambda m: m.share_memory()),
    "shared memory, later": Way(_shared_later),
}

STATISTICS: dict[str, Way] = {
    "running_mean, in place": Way(lambda m, _: m.norm.running_mean.add_(1)),
    "running_var, in place": Way(lambda m, _: m.norm.running_var.mul_(3)),
    "running_mean, data =": Way(lambda m, _: setattr(m.norm.running_mean, "data", torch.ones(8))),
    "running_mean, numpy": Way(lambda m, _: np.add(m.norm.running_mean.numpy(), 1, m.norm.running_mean.numpy())),
    "running_mean, another": Way(lambda m, _: setattr(m.norm, "running_mean", torch.ones(8))),
    "running_var, in the dictionary": Way(
        lambda m, _: m.norm._buffers.__setitem__("running_var", torch.full((8,), 4.0))
    ),
    "statistics' whole dictionary": Way(
        lambda m, _: setattr(m.norm, "_buffers", {n: each * 3 for n, each in m.norm._buffers.items()})
    ),
    "reset_running_stats": Way(lambda m, _: m.norm.reset_running_stats()),
    "a batch in torch": Way(_statistics_by_torch),
}

STRUCTURE: dict[str, Way] = {
    "a parametrisation": Way(lambda m, _: parametrize.register_parametrization(m.a, "weight", Bent())),
    "a parametrisation's original": Way(
        _no_grad(lambda m, _: m.a.parametrizations.weight.original.mul_(1.5)),
        lambda m: parametrize.register_parametrization(m.a, "weight", Bent()),
    ),
    "a parametrisation's own number": Way(
        _no_grad(lambda m, _: m.a.parametrizations.weight[0].gain.mul_(2)),
        lambda m: parametrize.register_parametrization(m.a, "weight", Bent()),
    ),
    "a parametrisation, assigned": Way(
        lambda m, _: setattr(m.a, "weight", m.a.weight.detach() * 1.5),
        lambda m: parametrizations.weight_norm(m.a),
    ),
    "a parametrisation, removed": Way(
        lambda m, _: (parametrize.remove_parametrizations(m.a, "weight"), m.a.weight.data.mul_(1.5)),
        lambda m: parametrize.register_parametrization(m.a, "weight", Bent()),
    ),
    "weight_norm": Way(
        lambda m, _: (parametrizations.weight_norm(m.a), m.a.parametrizations.weight.original0.data.mul_(1.5))
    ),
    "weight_norm's length": Way(
        _no_grad(lambda m, _: m.a.parametrizations.weight.original0.mul_(1.5)),
        lambda m: parametrizations.weight_norm(m.a),
    ),
    "weight_norm's direction": Way(
        _no_grad(lambda m, _: m.a.parametrizations.weight.original1[:, 1].mul_(3)),
        lambda m: parametrizations.weight_norm(m.a),
    ),
    "spectral_norm": Way(lambda m, _: parametrizations.spectral_norm(m.out)),
    "spectral_norm's original": Way(
        _no_grad(lambda m, _: m.out.parametrizations.weight.original[1].mul_(5)),
        lambda m: parametrizations.spectral_norm(m.out),
    ),
    "pruned": Way(_pruned),
    "pruned before, its original": Way(
        _no_grad(lambda m, _: m.a.weight_orig.mul_(1.5)),
        _pruned,
    ),
    "pruned before, its mask": Way(lambda m, _: m.a.weight_mask.zero_(), _pruned),
}

#: Of gradients alone: outputs stay.
MODES: dict[str, Way] = {
    "frozen": Way(lambda m, _: m.a.requires_grad_(False)),
    "thawed": Way(lambda m, _: m.a.requires_grad_(True), lambda m: m.a.requires_grad_(False)),
    "one frozen": Way(lambda m, _: setattr(m.b.bias, "requires_grad", False)),
}


def ways(*tables: dict[str, Way]) -> Iterator[tuple[str, Way]]:
    for table in tables:
        yield from table.items()
