"""Whether a rebuilt model is the model that was described: both are called and must give the same."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, ConvscopeError
from convscope.graph import structure
from convscope.graph.capture import FailedCallError, record
from convscope.graph.training_modes import kept_modes


def given_shapes(inputs: Sequence[Any]) -> list[list[int]]:
    """The shape of each input; of what is no tensor none."""
    return [list(each.shape) if isinstance(each, Tensor) else [] for each in inputs]


def check_rebuilt(model: nn.Module, rebuilt: nn.Module, inputs: Sequence[Any]) -> bool:
    """Call ``rebuilt``, with the weights of ``model``, beside ``model``: on ``inputs``, on other numbers and another
    number of examples, and on longer sides. Both modes are tried.

    Raises ArgumentError where the two differ; False where that is so for longer sides only.
    """
    own = {name: each.detach().clone() for name, each in model.state_dict().items()}
    rebuilt.load_state_dict(own, assign=True)  # in the precision that the model is in
    with kept_modes(model):
        for training, tried in ((True, (tuple(inputs),)), (False, (tuple(inputs), _others(inputs)))):
            rebuilt.train(training)
            for module in model.modules():
                module.training = training
            for each in tried:
                problem = _difference(model, rebuilt, each)
                if problem is not None:
                    wanted = "a model that its layers and the calls between them describe"
                    raise ArgumentError("model", type(model).__name__, wanted, f"Rebuilt from them {problem}.")
        return _difference(model, rebuilt, _larger(inputs)) is None


def _difference(model: nn.Module, rebuilt: nn.Module, inputs: Sequence[Any]) -> str | None:
    """How the two differ on ``inputs``, or None; what the model itself refuses does not count."""
    results: list[Any] = []
    state = torch.get_rng_state()
    try:
        record(model, tuple(inputs), look=lambda result, _: results.append(_numbers(result)))
    except FailedCallError:
        return None
    try:
        with torch.no_grad():
            torch.set_rng_state(state)
            other = _numbers(_twin(rebuilt)(*structure.transform(tuple(inputs), _copy)))
    except (ConvscopeError, RuntimeError, TypeError, ValueError, IndexError) as problem:
        return f"it fails: {problem}"
    finally:
        torch.set_rng_state(state)
    if len(results[0]) != len(other):
        return f"it puts out {len(other)} tensors instead of {len(results[0])}"
    for number, (one, two) in enumerate(zip(results[0], other, strict=True)):
        if one.shape != two.shape or not torch.allclose(one, two, rtol=1e-5, atol=1e-6, equal_nan=True):
            return f"its output {number} is another, for inputs of {given_shapes(inputs)}"
    return None


def _twin(rebuilt: nn.Module) -> nn.Module:
    """A copy with tensors of its own and the same description, which nobody changes: copying its thousands of dicts
    was a quarter of a save of a deep model."""
    shared = [each for name in ("description", "graphs") if (each := vars(rebuilt).get(name)) is not None]
    return copy.deepcopy(rebuilt, {id(each): each for each in shared})


def _numbers(result: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in structure.tensors(result)]


def _copy(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _others(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The same inputs in another order and one more of them: other numbers, another number of examples."""
    examples = {each.shape[0] for each in structure.tensors(tuple(inputs)) if each.ndim}

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.ndim or len(examples) != 1:
            return leaf
        changed = leaf.flip(0)
        if leaf.is_floating_point():
            changed = changed * 0.7 + 0.1
        return torch.cat([changed, changed[:1]])

    changed: tuple[Any, ...] = structure.transform(tuple(inputs), change)
    return changed


def _larger(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Pictures, and sequences, longer by 32 (or twice as long) along every side behind the channels."""

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim < 3:
            return leaf
        for side in range(2, leaf.ndim):
            leaf = torch.cat([leaf, leaf.narrow(side, 0, min(32, leaf.shape[side]))], side)
        return leaf

    changed: tuple[Any, ...] = structure.transform(tuple(inputs), change)
    return changed
