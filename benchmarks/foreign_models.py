"""Other people's models: is what convscope says of them what torch says?

    python -m benchmarks.foreign_models [--only PART] [--out foreign.jsonl] [--table docs/trust.md]

Small models as people write them (``foreign_sets.py``), torchvision's model files and every family of timm, at small
picture sizes and shallow where the family's builder allows, in evaluation mode, each in its turn:

trace       J and all derivatives in float64 against autograd, to 1e-9 of each tensor's largest number; how many steps
            the rules took and how many autograd
accelerate  outputs and gradients in float32 against autograd in float64, by a bound of 10 times torch's own distance
            from it; whether the engine has all layers, some, or refuses the model by name
count       multiply-adds of convolutions and matrix products against fvcore's
save        what is loaded again answers alike, to the bit; or the model is refused by name

and whether the model is afterwards what it was before. torchvision has to be importable, its operators need not be
there (those that its files name when they are imported are defined here; no model that is tried calls them). Results
are appended to ``--out``, one line a model, and models that are in it are not tried again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import functools
import importlib
import itertools
import json
import math
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.foreign_sets import OWN
from benchmarks.foreign_table import write_table
from torch import Tensor, nn

from convscope import accelerate, count, load, save, trace
from convscope.errors import ConvscopeError
from convscope.graph import structure
from convscope.native.mixed import MixedNetwork

SECONDS = 20
EXACT = 1e-9
VISION = {
    "alexnet": 64, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "googlenet": 96, "inception_v3": 128, "maxvit_t": 224, "mnasnet0_5": 64, "mnasnet1_0": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "mobilenet_v3_large": 64, "regnet_y_400mf": 64, "regnet_x_400mf": 64, "resnet18": 64,
    "resnet50": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_0": 64,
    "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64, "vgg11": 64, "vgg11_bn": 64, "vit_b_32": 64,
    "segmentation.fcn_resnet50": 64, "segmentation.deeplabv3_mobilenet_v3_large": 64,
    "segmentation.lraspp_mobilenet_v3_large": 64, "video.r3d_18": 0, "video.mc3_18": 0, "video.r2plus1d_18": 0,
}  # fmt: skip
#: What makes families' members shallow; builders refuse what is not theirs.
SHALLOW: tuple[dict[str, Any], ...] = (
    {"depth": 2, "embed_dim": 96, "num_heads": 3}, {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)},
    {"layers": [1, 1, 1]}, {"depths": (1, 1, 1)}, {"depth": 2}, {},
)  # fmt: skip
MOST = 40_000_000  # parameters
#: Of modules of timm in which the smallest model is no model of pictures, or large: the one to take.
CHOSEN = {"davit": "davit_tiny", "vision_transformer": "vit_tiny_patch16_224", "eva": "eva02_tiny_patch14_224"}


class Late(BaseException):
    """The benchmark's own time is up: no Exception, so that nobody on the way takes it for a fault of the model."""


def define_operators() -> None:
    """What torchvision's files name of its compiled part when they are imported."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms", "qroi_align", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        for each in (name, f"_{name}_backward"):
            with contextlib.suppress(RuntimeError):
                library.define(f"{each}(Tensor a) -> Tensor")  # type: ignore[no-untyped-call]
    define_operators.library = library  # type: ignore[attr-defined]


Inputs = tuple[Tensor, ...]
Built = Callable[[], tuple[nn.Module, tuple[Any, ...]]]


def models(largest: int = 1024) -> Iterator[tuple[str, Built]]:
    """Names, and what builds the model and says the shape of one input."""
    for name, (own, own_shape) in OWN.items():
        yield f"own {name}", functools.partial(_built, own, {}, own_shape)
    define_operators()
    import timm

    vision = importlib.import_module("torchvision.models")

    for name, size in VISION.items():
        builder: Any = vision
        for part in name.split("."):
            builder = getattr(builder, part)
        options: dict[str, Any] = {"weights": None, "num_classes": 10}
        if name.startswith("segmentation"):
            options |= {"weights_backbone": None}
        if name in ("googlenet", "inception_v3"):
            options |= {"init_weights": False}
        if name == "vit_b_32":
            options |= {"image_size": size}
        shape = (3, 4, 32, 32) if not size else (3, size, size)
        yield f"torchvision {name}", functools.partial(_built, builder, options, shape)
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            name = CHOSEN.get(module) or smallest(names)
            yield f"timm {name}", functools.partial(built_small, name, largest)


def _built(builder: Any, options: dict[str, Any], shape: tuple[Any, ...]) -> tuple[nn.Module, tuple[Any, ...]]:
    return builder(**options), shape


def smallest(names: list[str]) -> str:
    """By what the names say: building all of timm to count takes half an hour."""
    said = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "_t0", "tiny", "_050", "_b0", "small", "18", "_s")
    return min(names, key=lambda name: (next((i for i, each in enumerate(said) if each in name), 99), len(name)))


def built_small(name: str, largest: int) -> tuple[nn.Module, tuple[int, ...]]:
    """The model at the smallest of some depths and sizes that its builder and it take, and the shape of one input."""
    import timm

    tried: list[tuple[int, dict[str, Any]]] = [(64, {"img_size": 64}), (64, {}), (96, {}), (128, {"img_size": 128})]
    described = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = 224 if described is None else described.input_size[-1]
    sides = [each for each in [*tried, (size, {})] if each[0] <= largest]
    for (side, sized), less in itertools.product(sides, SHALLOW):
        options = {**sized, **less}
        try:
            model = timm.create_model(name, num_classes=10, **options).eval()
            with torch.no_grad():
                model(torch.randn(2, 3, side, side))
        except Exception:  # whatever it does not take
            continue
        if sum(each.numel() for each in model.parameters()) > MOST:
            continue
        return model, (3, side, side)
    raise ValueError(f"{name} takes none of the sizes, or is larger than {MOST} parameters at each")


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


def try_trace(model: nn.Module, x: Inputs) -> dict[str, Any]:
    twin = copy.deepcopy(model).double()
    doubled = tuple(each.double() for each in x)
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
    sizes = {name: float(each.abs().max()) for name, each in right.items()}
    gap = max(float((found[name] - right[name]).abs().max()) / size for name, size in sizes.items() if size > 1e-14)
    steps = len(traced.layers)
    mended = [f"{layer.name}: {layer.reason}" for layer in traced.layers if "rule gives" in layer.reason]
    return {
        "trace": "right" if gap <= EXACT else f"WRONG by {gap:.2g}", "trace_gap": gap, "steps": steps,
        "by_autograd": sum(layer.kind == "other" for layer in traced.layers), "rules_mended": mended[:5],
    }  # fmt: skip


def try_accelerate(model: nn.Module, x: Inputs) -> dict[str, Any]:
    right = derivatives(copy.deepcopy(model).double(), tuple(each.double() for each in x))
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


_PRODUCTS = ("conv", "addmm", "linear", "matmul", "bmm", "einsum", "baddbmm", "mm", "scaled_dot_product_attention")


def _attention(inputs: Any, _: Any) -> collections.Counter[str]:
    """What fvcore has no row for, told to it: q kᵀ and its product with v."""
    q, k, v = ([*each.type().sizes()] for each in inputs[:3])
    products = math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    return collections.Counter({"scaled_dot_product_attention": products})


def try_count(model: nn.Module, x: Inputs) -> dict[str, Any]:
    FlopCountAnalysis: Any = importlib.import_module("fvcore.nn").FlopCountAnalysis

    try:
        ours = count(copy.deepcopy(model), _shape(x)).multiply_adds
    except ConvscopeError as problem:
        return {"count": f"refused: {problem}"[:200]}
    analysis = FlopCountAnalysis(copy.deepcopy(model), tuple(each[:1] for each in x)).unsupported_ops_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    try:
        theirs = int(sum(n for name, n in analysis.by_operator().items() if name in _PRODUCTS))
    except Exception as problem:
        return {"count": f"fvcore fails ({type(problem).__name__})", "count_ours": ours}
    missed = {
        name for name in analysis.unsupported_ops() if any(each in name for each in ("attention", "conv", "lstm"))
    }
    verdict = "equal" if ours == theirs else f"fvcore leaves out {', '.join(sorted(missed))}" if missed else "other"
    return {"count": verdict, "count_ours": ours, "count_fvcore": theirs}


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
    for attempt in (try_trace, try_accelerate, try_count, try_save):
        begun = time.perf_counter()
        key = attempt.__name__.removeprefix("try_")
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                row |= attempt(model, x)
            except Late:
                row[key] = "too long"
            except Exception as problem:
                row[key] = f"CRASHED: {type(problem).__name__}: {problem}"[:300]
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        row[f"{key}_s"] = round(time.perf_counter() - begun, 1)
    after = state(model, x)
    same = all(torch.equal(a, b) for part in (0, 1) for a, b in zip(before[part], after[part], strict=True))
    row["damaged"] = not (same and before[2] == after[2])
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("foreign.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of processor time, for one step of one model")
    parser.add_argument("--largest", type=int, default=1024, help="side of the pictures that timm's models get")
    parser.add_argument("--share", type=int, default=0, help="this process's share …")
    parser.add_argument("--of", type=int, default=1, help="… of so many")
    arguments = parser.parse_args()

    def late(number: int, frame: object) -> None:
        raise Late

    signal.signal(signal.SIGPROF, late)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    if arguments.table is None:
        done = {row["name"] for row in rows}
        for number, (name, build) in enumerate(models(arguments.largest)):
            mine = number % arguments.of == arguments.share
            if mine and name not in done and arguments.only in name:
                try:
                    row = examine(name, build, arguments.seconds)
                except Exception as problem:
                    row = {"name": name, "problem": f"{type(problem).__name__}: {problem}"[:300]}
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    else:
        write_table(arguments.table, [row for row in rows if "problem" not in row])


if __name__ == "__main__":
    main()
