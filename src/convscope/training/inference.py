"""A trained model asked for its outputs: on the native engine where that can run it, else with torch."""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from convscope import native, spec
from convscope.data.transforms import normalise_width
from convscope.errors import ArgumentError, ConvscopeError, LoweringError
from convscope.graph.training_modes import looking
from convscope.models.committee import Committee, log_mean, own_preprocessing
from convscope.models.probabilities import log_probabilities
from convscope.native import Accelerated, NativeNetwork
from convscope.native.lowprecision import asked
from convscope.native.memory import SharedMemory
from convscope.native.mixed import MixedNetwork
from convscope.native.trust import Trust
from convscope.spec import Input
from convscope.training.part_inference import with_part_on_engine
from convscope.training.task import model_inputs

ENGINES = ("auto", "native", "torch")
# Seven pictures of MobileNetV2 take torch 0.25 s, the engine 0.07 s after 0.8 s for its plan and the comparison.
FEW = 8
# What a mixed plan's time may be of torch's: a quarter less than a measurement's scatter would be chance.
_MUCH_QUICKER = 0.8


Outputs = Callable[[Sequence[torch.Tensor]], Any]


@dataclasses.dataclass(frozen=True)
class Inference:
    """``outputs(inputs)``: what the model answers in evaluation mode, without gradients, to a batch's inputs (uint8
    pictures of its size, tokens …). ``engine`` is "native" or "torch", ``reason`` says in words why it is this one."""

    engine: str
    reason: str
    outputs: Outputs


def prepare_inference(
    model: nn.Module, inputs: Sequence[Input], engine: str = "auto", examples: int | None = None
) -> Inference:
    """``model``, which takes ``inputs``, ready to answer; its parameters, buffers and modes are left alone.

    "auto": the native engine, with batch normalisation folded into the layers before it, where it is built, has every
    layer and ``examples`` (None: many) are not just a few; else torch where the parameters are. Where it lacks some
    layers, these run in torch between segments on the engine: with "native", and with "auto" if that proves quicker on
    a few pictures. The native engine works on a copy of the model as it is now; its first answers are compared with
    torch's (``native.checking`` can switch that off), and torch answers where they differ. Within
    ``native.lowprecision.answering_in`` it answers in low precision, and "auto" is "native". Raises ArgumentError for
    another engine, or for "native" where it can run nothing of the model.
    """
    if engine not in ENGINES:
        raise ArgumentError("engine", engine, f"one of {', '.join(ENGINES)}")
    precision, _ = asked()
    engine = _engine_of(engine, precision)
    if isinstance(model, Accelerated):
        model = model.model
    if isinstance(model, Committee) and (together := _by_members(model, inputs, engine, examples)) is not None:
        return together
    by_torch = _with_torch(model, inputs)
    if engine == "torch":
        return Inference("torch", "asked for", by_torch)
    if hasattr(model, "picture_part"):
        return _by_part(model, inputs, engine, by_torch, examples)
    obstacle = _obstacle(model) or _unlike_a_picture(inputs)
    if obstacle is None and engine == "auto" and examples is not None and examples < FEW:
        obstacle = _few(examples)
    found = obstacle if obstacle is not None else _natively(model, inputs[0], by_torch)
    if isinstance(found, _Mixed) and engine == "auto":
        found = _if_quicker(found, by_torch, inputs[0])
    return _told(found, engine, precision, by_torch)


def _told(found: Outputs | _Mixed | str, engine: str, precision: str | None, by_torch: Outputs) -> Inference:
    """What answers, and why: the engine's outputs, or those of torch for the reason that is ``found``."""
    if isinstance(found, _Mixed):
        return Inference("native", "asked for" if engine == "native" else found.reason, found.outputs)
    if not isinstance(found, str):
        why = "asked for" + ("" if precision is None else f" in {precision}")
        return Inference("native", why if engine == "native" else "every layer has a native kernel", found)
    return _by_torch_alone(found, engine, by_torch)


def _engine_of(engine: str, precision: str | None) -> str:
    """Low precision is the native engine's."""
    if precision is None:
        return engine
    if engine == "torch":
        raise ArgumentError("precision", precision, "float32 with engine='torch'", "The native engine has others.")
    return "native"


def _few(examples: int) -> str:
    return f"{examples} pictures are few: torch has answered before the native engine's plan is made and compared"


def _by_torch_alone(reason: str, engine: str, by_torch: Outputs) -> Inference:
    """Torch, where the native engine was not insisted on."""
    if engine == "native":
        raise ArgumentError("engine", "native", f"another engine: {reason}", "engine='auto' chooses one")
    return Inference("torch", reason, by_torch)


def _by_part(
    model: nn.Module, inputs: Sequence[Input], engine: str, by_torch: Outputs, examples: int | None
) -> Inference:
    """The part that takes the pictures on the native engine, the rest in torch; "auto" not for a few pictures, which
    torch has answered before a plan is made and compared."""
    found: tuple[nn.Module, str] | str | None = _obstacle(model)
    if found is None and engine == "auto" and examples is not None and examples < FEW:
        found = _few(examples)
    found = found or with_part_on_engine(model, inputs[0])
    if not isinstance(found, str):
        twin, name = found
        return Inference("native", f"{name} has native kernels, torch does the rest", _with_torch(twin, inputs))
    return _by_torch_alone(found, engine, by_torch)


def _by_members(model: Committee, inputs: Sequence[Input], engine: str, examples: int | None) -> Inference | None:
    """Each member asked by itself, on what can run it; None where the members have no preprocessing of their own, or
    pictures come otherwise than the committee says."""
    described, own = spec.spec_of(model), [own_preprocessing(member) for member in model.members]
    if described is None or None in own or len(inputs) != 1 or inputs[0].preprocessing != described.preprocessing:
        return None
    asked: list[tuple[nn.Module, int | None, Outputs]] = []
    engines: list[Inference] = []
    for member, preprocessing in zip(model.members, own, strict=True):
        assert preprocessing is not None
        found = prepare_inference(member, (Input("pictures", preprocessing=preprocessing),), engine, examples)
        engines.append(found)
        asked.append((member, preprocessing.width, found.outputs))

    def outputs(given: Sequence[torch.Tensor]) -> torch.Tensor:
        (pixels,) = given
        widths = {width: pixels if width is None else normalise_width(pixels, width) for _, width, _ in asked}
        with torch.inference_mode():
            return log_mean([log_probabilities(member, call((widths[width],))) for member, width, call in asked])

    names = sorted({each.engine for each in engines})
    reasons = "; ".join(dict.fromkeys(each.reason for each in engines))
    return Inference(" and ".join(names), f"{len(engines)} members, each by itself: {reasons}", outputs)


@dataclasses.dataclass(frozen=True)
class _Mixed:
    """A model that runs in part on the native engine; ``reason`` says which layer does not."""

    outputs: Outputs
    reason: str


def _natively(model: nn.Module, picture: Input, by_torch: Outputs) -> Outputs | _Mixed | str:
    """A copy of the model on the native engine, in part where it lacks a layer, or why that cannot be."""
    preprocessing = picture.preprocessing
    assert preprocessing is not None
    shape = (preprocessing.channels, *preprocessing.size)
    precision, calibration = asked()
    try:
        twin = copy.deepcopy(model).eval()
        if precision is not None:
            return _in_low_precision(twin, preprocessing.normalise, precision, calibration)
        network = NativeNetwork(twin, shape, preprocessing=preprocessing, fold=True)
    except LoweringError as problem:
        reason = f"the native engine cannot run {problem}"
        try:
            mixed = MixedNetwork(twin, shape, SharedMemory(twin, take=True), preprocessing, fold=True)
        except LoweringError:
            return reason
        return _Mixed(_compared(mixed, by_torch), reason)
    except ConvscopeError as problem:
        return f"the native engine cannot run {problem}"
    except (RuntimeError, TypeError) as problem:  # what cannot be copied
        return f"the native engine works on a copy, and {type(model).__name__} cannot be copied ({problem})"
    return _compared(network, by_torch)


def _in_low_precision(
    twin: nn.Module,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    precision: str,
    calibration: torch.Tensor | None,
) -> Outputs:
    """Without folding: the engine takes batch normalisation in behind its products by itself."""
    known = None if calibration is None else normalise(calibration)
    fast = native.accelerate(twin, precision=precision, calibration=known)

    def outputs(given: Sequence[torch.Tensor]) -> Any:
        with torch.no_grad():
            return fast(normalise(given[0]))

    return outputs


def _compared(network: NativeNetwork | MixedNetwork, by_torch: Outputs) -> Outputs:
    """The network's outputs without gradients, its first calls compared with torch; torch's where they differ."""
    trust = Trust()

    def outputs(given: Sequence[torch.Tensor]) -> Any:
        with torch.no_grad():
            if trust.forward(network, network.ready(), given[0]) is None:
                return by_torch(given)
            return network.forward(given[0]) if isinstance(network, NativeNetwork) else network(given[0])

    return outputs


def _if_quicker(mixed: _Mixed, by_torch: Outputs, picture: Input) -> _Mixed | str:
    """``mixed`` where it answers some pictures in less time than torch; else why not."""
    assert picture.preprocessing is not None
    pictures = torch.zeros(16, picture.preprocessing.channels, *picture.preprocessing.size, dtype=torch.uint8)
    own, other = (_milliseconds(functools.partial(way, (pictures,))) for way in (mixed.outputs, by_torch))
    times = f"16 pictures take {own:.3g} ms with the rest of it on the native engine, {other:.3g} ms with torch alone"
    if own > _MUCH_QUICKER * other:
        return f"{mixed.reason}; {times}"
    return _Mixed(mixed.outputs, f"{mixed.reason}, which torch does; {times}")


def _milliseconds(call: Callable[[], Any]) -> float:
    """The shortest of three calls, after one that makes everything ready."""
    taken = []
    with torch.inference_mode():
        for _ in range(4):
            begun = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - begun))
    return min(taken[1:])


def _unlike_a_picture(inputs: Sequence[Input]) -> str | None:
    """Why these inputs are not what the native engine takes; None where they are."""
    if len(inputs) == 1 and inputs[0].more.get("any_size"):
        return "the pictures differ in size, the native engine takes one size"
    if len(inputs) == 1 and inputs[0].preprocessing is not None:
        return None
    return f"the model takes {' and '.join(each.kind for each in inputs)}, the native engine one picture of fixed size"


def _obstacle(model: nn.Module) -> str | None:
    """Why the native engine cannot be used whatever the layers, or None."""
    for name, each in (*model.named_parameters(), *model.named_buffers()):
        if each.device.type != "cpu":
            return f"the native engine runs on CPUs, and {name} is on {each.device}"
        if each.is_floating_point() and each.dtype != torch.float32:
            return f"the native engine computes in float32, and {name} is {each.dtype}"
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{name or type(model).__name__} has hooks, which the native engine would not call"
    if not native.available():
        return "the native engine is not built here"
    return None


def _with_torch(model: nn.Module, inputs: Sequence[Input]) -> Outputs:
    first = next(model.parameters(), torch.empty(0))

    def outputs(given: Sequence[torch.Tensor]) -> Any:
        with torch.inference_mode(), looking(model):
            return model(*model_inputs(inputs, [x.to(first.device) for x in given], first.dtype))

    return outputs
