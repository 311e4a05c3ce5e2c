"""Other people's models: is what convscope says of them what torch says?

    python -m benchmarks.foreign_models [--only PART] [--out foreign.jsonl] [--table docs/trust.md]

Small models as people write them (``foreign_sets.py``), torchvision's model files and every family of timm, at small
picture sizes and shallow where the family's builder allows (``foreign_sources.py``), in evaluation mode, each in its
turn:

trace       J and all derivatives in float64 against autograd, to 1e-9 of each tensor's largest number; how many steps
            the rules took and how many autograd
accelerate  outputs and gradients in float32 against autograd in float64, by a bound of 10 times torch's own distance
            from it; whether the engine has all layers, some, or refuses the model by name
count       multiply-adds of convolutions and matrix products against fvcore's (``foreign_counts.py``)
fields      of up to three layers: every pixel with a gradient to the unit lies in its receptive field
save        what is loaded again answers alike, to the bit; or the model is refused by name

and whether the model is afterwards what it was before. torchvision has to be importable, its compiled part need not be
there. Each model has a process of its own, with limits of processor time and memory. Results are appended to ``--out``,
one line a model, and models that are in it are not tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import resource
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from benchmarks.foreign_counts import try_count
from benchmarks.foreign_sources import models
from benchmarks.foreign_table import write_table
from benchmarks.foreign_vision import Built
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convscope import accelerate, load, save, trace
from convscope.errors import ConvscopeError
from convscope.graph import structure
from convscope.inspect import ReceptiveFields
from convscope.native.mixed import MixedNetwork

Inputs = tuple[Tensor, ...]

SECONDS = 25  # of the processor, for one step of one model
LIMIT = 120  # … for one model
MEMORY = 6 << 30  # bytes of addresses more than the process has when it begins
EXACT = 1e-9


class Late(BaseException):
    """The benchmark's own time is up: no Exception, so that nobody on the way takes it for a fault of the model."""


class Combined:
    """J: a fixed random combination of a model's first output."""

    def value_and_delta(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Any]:
        y = structure.tensors(outputs)[0]
        delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype) / len(y)
        return (y.detach() * delta).sum(), delta

    def value(self, outputs: Any, targets: Tensor) -> Tensor:
        y = structure.tensors(outputs)[0]
        value: Tensor = (y * self.value_and_delta(outputs, targets)[1]).sum()
        return value


def called(model: nn.Module, x: Inputs) -> Any:
    """The model's answer to copies of the inputs, by the same chance every time."""
    torch.manual_seed(3)
    return model(*(each.clone() for each in x))


def derivatives(model: nn.Module, x: Inputs) -> dict[str, Tensor]:
    """By autograd: the first output, ∂J/∂x of the first input, and ∂J/∂θ."""
    leaf = x[0].clone().requires_grad_()
    outputs = called(model, (leaf, *x[1:]))
    value = Combined().value(outputs, leaf)
    named = {"x": leaf, **{name: each for name, each in model.named_parameters() if each.requires_grad}}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    own = {name: torch.zeros_like(each) if delta is None else delta.detach() for (name, each), delta in pairs}
    return {"y": structure.tensors(outputs)[0].detach(), **own}


def distance(found: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """The largest difference, in parts of each tensor's length; gradients that cancel out against the largest one."""
    lengths = {name: float(each.double().norm()) for name, each in right.items()}
    least = 1e-3 * max(length for name, length in lengths.items() if name != "y")
    return max(
        float((found[name].double() - each.double()).norm()) / max(lengths[name], least, 1e-300)
        for name, each in right.items()
    )


def precise(model: nn.Module, x: Inputs) -> tuple[nn.Module, Inputs]:
    """A copy of the model, and the inputs, in float64; as they are where the model works in float32 only."""
    twin, doubled = copy.deepcopy(model).double(), tuple(each.double() for each in x)
    try:
        with torch.no_grad():
            called(twin, doubled)
    except RuntimeError:
        return copy.deepcopy(model), x
    return twin, doubled


class _Narrow(TorchFunctionMode):
    """Notes whether a call made of float64 computes in float32 somewhere, as attention that casts for itself does."""

    found = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float32 and result.numel() > 1:
            self.found = True
        return result


def narrow(model: nn.Module, x: Inputs) -> bool:
    noted = _Narrow()
    with torch.no_grad(), noted:
        called(copy.deepcopy(model), x)
    return noted.found


def try_trace(model: nn.Module, x: Inputs) -> dict[str, Any]:
    twin, doubled = precise(model, x)
    right = derivatives(twin, doubled)
    torch.manual_seed(3)
    try:
        given: Any = doubled if len(x) > 1 else doubled[0]
        traced = trace(twin, given, torch.zeros(len(x[0]), dtype=torch.int64), loss=Combined())
    except ConvscopeError as problem:
        return {"trace": f"refused: {problem}"[:200]}
    zeros = {name: torch.zeros_like(each) for name, each in right.items()}
    to_first = traced.grad_x if len(x) == 1 else traced.grad_x[0]
    found = {**zeros, "y": structure.tensors(traced.logits)[0], "x": to_first, **traced.gradients}
    single = doubled[0].dtype == torch.float32
    partly = not single and narrow(twin, doubled)
    sizes = {name: float(each.abs().max()) for name, each in right.items() if each.numel()}
    if single:  # gradients that cancel out, as of a bias before a normalisation, are nothing but rounding there
        gap = distance(found, right)
    else:
        gap = max(float((found[name] - right[name]).abs().max()) / size for name, size in sizes.items() if size > 1e-14)
    steps = len(traced.layers)
    mended = [f"{layer.name}: {layer.reason}" for layer in traced.layers if "rule gives" in layer.reason]
    return {
        "trace": (
            "right in float32, which is all it does" if single
            else "right in float32, which it computes in between" if partly and gap > EXACT
            else "right"
        )
        if gap <= (1e-3 if single else 1e-5 if partly else EXACT)
        else f"WRONG by {gap:.2g}", "trace_gap": gap, "steps": steps,
        "by_autograd": sum(layer.kind == "other" for layer in traced.layers), "rules_mended": mended[:5],
    }  # fmt: skip


def try_accelerate(model: nn.Module, x: Inputs) -> dict[str, Any]:
    right = derivatives(*precise(model, x))
    own = distance(derivatives(copy.deepcopy(model), x), right)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            fast = accelerate(copy.deepcopy(model))
            found = derivatives(fast, x)
        except ConvscopeError as problem:
            return {"accelerate": f"refused: {problem}"[:200]}
    gap = distance(found, right)
    kept = list(fast._networks._kept.values())
    if len(kept) != 1:
        return {
            "accelerate": "torch's" if gap <= min(max(1e-3, 10 * own), 0.05) else f"WRONG by {gap:.2g}",
            "accelerate_gap": gap,
        }
    ((network, trust),) = kept
    parts = "segments" if isinstance(network, MixedNetwork) else "whole"
    differs = [str(each.message)[:200] for each in told if "differs from torch" in str(each.message)]
    return {
        "accelerate": parts if gap <= min(max(1e-3, 10 * own), 0.05) else f"WRONG by {gap:.2g}", "accelerate_gap": gap,
        "torch_gap": own, "differs": differs, "check_s": round(sum(each.seconds for each in trust.verdicts), 2),
    }  # fmt: skip


def _shape(x: Inputs) -> tuple[Any, ...]:
    """One input's, or several inputs', without the batch."""
    shapes = tuple(tuple(each.shape[1:]) for each in x)
    return shapes if len(shapes) > 1 else shapes[0]


def try_fields(model: nn.Module, x: Inputs) -> dict[str, Any]:
    """The first, the middle and the last layer that sees the picture: the pixels that autograd reaches from the middle
    unit lie in its box. (They may be fewer: rectifiers and maxima let only some pass.)"""
    twin, doubled = precise(model, x)
    try:
        fields = ReceptiveFields(twin, _shape(x), 0)
    except ConvscopeError as problem:
        return {"fields": f"refused: {problem}"[:200]}
    paths = dict(twin.named_modules())
    layers = [layer for layer in fields.layers() if layer in paths]
    leaf = doubled[0][:1].clone().requires_grad_()
    for layer in dict.fromkeys([layers[0], layers[len(layers) // 2], layers[-1]] if layers else []):
        field, seen = fields[layer], []
        hook = paths[layer].register_forward_hook(lambda _, __, out: seen.append(out))  # noqa: B023 - called at once
        called(twin, (leaf, *(each[:1] for each in doubled[1:])))
        hook.remove()
        unit = seen[0][(0, ..., *field.position)].sum()
        (reached,) = torch.autograd.grad(unit, leaf, allow_unused=True) if unit.requires_grad else (None,)
        if reached is None:
            continue
        inside = torch.zeros_like(reached)
        at: Any = (..., *field.slices)
        inside[at] = 1
        if bool(((reached != 0) & (inside == 0)).any()):
            return {"fields": f"WRONG at {layer}: {field}"[:300]}
    return {"fields": "right" if layers else "no layer sees the picture"}


def try_save(model: nn.Module, x: Inputs) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.safetensors"
        try:
            save(model, path, input_shape=_shape(x))
            again = load(path).eval()
        except ConvscopeError as problem:
            return {"save": f"refused: {problem}"[:200]}
        pairs = zip(structure.tensors(called(model, x)), structure.tensors(called(again, x)), strict=True)
        same = all(torch.equal(one, other) for one, other in pairs)
        order = [name for name, _ in model.named_parameters()] == [name for name, _ in again.named_parameters()]
    return {"save": "right" if same and order else "WRONG: other answers" if not same else "WRONG: other order"}


def state(model: nn.Module, x: Inputs) -> Any:
    with torch.no_grad():
        answers = [each.clone() for each in structure.tensors(called(model, x))]
    attributes = {path: sorted(vars(module)) for path, module in model.named_modules()}
    return [each.clone() for each in model.state_dict().values()], answers, attributes


def examine(name: str, build: Built, seconds: float = SECONDS) -> dict[str, Any]:
    torch.manual_seed(0)
    model, shape = build()
    model.eval()
    for each in model.modules():  # as after a training: running statistics and gains that are not 0 and 1
        if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.running_mean is not None:
            each.running_mean.normal_(0, 0.1)
            assert each.running_var is not None
            each.running_var.uniform_(0.5, 1.5)
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    x = tuple(torch.randn(2, *each) for each in shapes)
    before = state(model, x)
    row: dict[str, Any] = {"name": name, "shape": shape, "parameters": sum(p.numel() for p in model.parameters())}
    for attempt in (try_trace, try_accelerate, try_count, try_fields, try_save):
        begun = time.process_time()
        key = attempt.__name__.removeprefix("try_")
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                row |= attempt(model, x)
            except Late:
                row[key] = "too long"
            except MemoryError:
                row[key] = "too large"
            except Exception as problem:
                row[key] = f"CRASHED: {type(problem).__name__}: {problem}"[:300]
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        row[f"{key}_s"] = round(time.process_time() - begun, 1)
    after = state(model, x)
    same = all(torch.equal(a, b) for part in (0, 1) for a, b in zip(before[part], after[part], strict=True))
    row["damaged"] = not (same and before[2] == after[2])
    return row


def in_own_process(name: str, build: Built, seconds: float) -> dict[str, Any]:
    """The row of one model; what ends its process is in it too."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        try:
            row = examine(name, build, seconds)
        except BaseException as problem:
            row = {"name": name, "problem": f"{type(problem).__name__}: {problem}"[:300]}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(row))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        found: dict[str, Any] = json.loads(text)
        return found
    number = os.waitstatus_to_exitcode(status)
    limited = -number in (signal.SIGXCPU, signal.SIGKILL)
    return {"name": name, "problem": "too long" if limited else f"CRASHED: the process ended with {number}"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("foreign.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of processor time, for one step of one model")
    parser.add_argument("--largest", type=int, default=1024, help="side of the pictures that timm's models get")
    arguments = parser.parse_args()

    def late(number: int, frame: object) -> None:
        raise Late

    signal.signal(signal.SIGPROF, late)
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    if arguments.table is not None:
        write_table(arguments.table, rows)
        return
    done = {row["name"] for row in rows}
    for name, build in models(arguments.largest):
        if name not in done and arguments.only in name:
            row = in_own_process(name, build, arguments.seconds)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
