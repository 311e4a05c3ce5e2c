"""Random programs: models that do what everyday code does, and what is done to them between their calls.

    python -m tests.programs 20000 [--first 0]      so many programs; differences are printed and counted

A program is drawn from a seed: a model of one input or two whose forward carries out statements drawn from
``STATEMENTS`` (layers, writes in place, views, aliases, blocks without gradients or under autocast, functions of one's
own, branches, buffers that are counted on) and, one in six, from ``ODDITIES`` (memory, chance, iterators, inference
mode), with outputs in dicts and tuples; and a session of calls with ``CHANGES`` between them (attributes, weights,
hooks, modes, layers, copies), each made in one of several ``WAYS``. After every change

- ``trace`` in float64 must give the outputs and derivatives that autograd gives, to 1e-9, and leave the model as one
  call of it does, or refuse by name where the model uses what cannot be put back;
- ``accelerate``, its comparison with torch switched off, must give in float32 what torch gives, or refuse by name and
  leave the model as it was.

A difference in float32 counts where three other batches show it too: a unit may be within rounding of a kink. What
torch itself refuses (a tensor written over that the way back needs) is counted and left.
"""

from __future__ import annotations

import argparse
import collections
import copy
import gc
import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.program_changes import CHANGES
from tests.program_oddities import CHANCE, HIDDEN, ODDITIES, SETTINGS, Seen
from tests.program_statements import CHANNELS, STATEMENTS, Gated
from torch import Tensor, nn

from convscope import accelerate, trace
from convscope.errors import ConvscopeError, LoweringError
from convscope.graph import structure
from convscope.graph.capture import HiddenStateError

SIDE = 5
EXACT = 1e-9
ROUGH = 2e-3  # of float32's gradients, in parts of the largest


WAYS = ("plain", "plain", "plain", "no_grad", "inference", "penalty", "twice", "functional")


class Named(NamedTuple):
    y: Tensor
    x: Tensor


class Program(nn.Module):
    """A model that carries out statements one after another."""

    factor = 1.25

    steps: Tensor
    centre: Tensor
    offset: Tensor

    def __init__(self, statements: list[str], answer: str) -> None:
        super().__init__()
        self.statements, self.answer = statements, answer
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.act: nn.Module = nn.ReLU()
        self.gated = Gated()
        self.layers = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(2))
        self.gain = nn.Parameter(torch.randn(CHANNELS, 1, 1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(CHANNELS))
        self.register_buffer("offset", torch.ones(()))
        self.scale, self.depth, self.deep, self.cast, self.bound = 0.75, 2, True, True, 0.1
        self.options = {"gain": 1.25}
        self.settings = types.SimpleNamespace(shift=0.3)
        self.head = nn.Linear(CHANNELS, 3)
        self.seen, self.last, self.table = Seen(), None, np.array([0.5, 1.5])
        self.numbers, self.chance = np.random.default_rng(0), torch.Generator()
        self.functions: list[Callable[[Tensor], Tensor]] = [torch.tanh, self.gated]
        self.guests = [nn.BatchNorm2d(CHANNELS)]
        self.gains = iter([0.5, 1.5, -0.5, 2.0] * 50)
        if "walked" in statements:
            self.options["gains"] = iter([0.5, 1.5, -0.5, 2.0] * 50)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Any:
        for name in self.statements:
            x = EVERY[name](self, x)
        y = self.head(x.mean((2, 3)))
        if self.answer == "plain":
            return y
        if self.answer == "named":
            return Named(y, x)
        return {"y": y, "x": x} if self.answer == "dict" else (y, x)


class Second(Program):
    """Takes two inputs."""

    def forward(self, x: Tensor, z: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x + z.tanh() * self.scale)


EVERY = STATEMENTS | ODDITIES


class Session:
    """A drawn program; ``statements`` and ``changes`` where it is not drawn."""

    def __init__(self, seed: int, statements: list[str] | None = None, changes: list[str] | None = None) -> None:
        chance = random.Random(seed)
        self.seed = seed
        tables = [chance.choice([*[STATEMENTS] * 5, ODDITIES]) for _ in range(chance.randint(1, 5))]
        self.statements = [chance.choice([*table]) for table in tables]
        self.answer = chance.choice(["plain", "plain", "dict", "tuple", "named"])
        self.training = chance.random() < 0.5
        self.changes = ["nothing", *(chance.choice([*CHANGES]) for _ in range(chance.randint(0, 2)))]
        self.images = chance.choice([2, 3, 5])
        self.inputs = chance.choice([1, 1, 1, 1, 2])
        self.statements, self.changes = statements or self.statements, changes or self.changes
        self.ways = [chance.choice(WAYS) for _ in self.changes]

    def __str__(self) -> str:
        mode = "training" if self.training else "evaluation"
        given = f"{self.inputs} × {self.images} pictures"
        return f"program {self.seed}: {self.statements} → {self.answer}, {mode}, {given}; {self.changes}, {self.ways}"

    def model(self) -> Program:
        Program.factor = Second.factor = 1.25
        SETTINGS.update(shift=0.2, gains=[0.9, 1.1])
        torch.manual_seed(self.seed)
        made = (Program if self.inputs == 1 else Second)(self.statements, self.answer).train(self.training)
        with torch.no_grad():
            made.norm.running_mean.normal_()  # type: ignore[union-attr]
            made.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        return made

    def batch(self, number: int) -> tuple[Tensor, ...]:
        chance = torch.Generator().manual_seed(1000 * self.seed + number)
        return tuple(torch.randn(self.images, CHANNELS, SIDE, SIDE, generator=chance) for _ in range(self.inputs))


def by_torch(model: Any, xs: tuple[Tensor, ...], way: str = "plain") -> dict[str, Tensor]:
    """Outputs, derivatives of a fixed combination of the first output, and buffers."""
    _seed(model, len(xs[0]))
    leaves = [x.clone().requires_grad_(way not in ("no_grad", "inference")) for x in xs]
    given = tuple(leaf.clone() for leaf in leaves)
    wanted = dict(zip("xz", leaves, strict=False)) | {
        n: each for n, each in model.named_parameters() if each.requires_grad
    }
    if way in ("no_grad", "inference"):
        with torch.no_grad() if way == "no_grad" else torch.inference_mode():
            outputs, wanted = structure.tensors(model(*given)), {}
    elif way == "functional":
        wanted |= {name: (each.detach() * 0.9).requires_grad_() for name, each in wanted.items() if name not in "xz"}
        others = {name: each for name, each in wanted.items() if name not in "xz"}
        outputs = structure.tensors(torch.func.functional_call(model, others, given))
    else:
        outputs = structure.tensors(model(*given))
    goal = _combined(outputs[0])
    if way == "twice":
        goal = goal + 2 * _combined(structure.tensors(model(*(leaf * 1.5 for leaf in leaves)))[0])
    if way == "penalty":
        (slope,) = torch.autograd.grad(goal, leaves[0], create_graph=True, allow_unused=True)
        goal = goal if slope is None else goal + slope.square().sum()
    found = torch.autograd.grad(goal, list(wanted.values()), allow_unused=True) if wanted and goal.requires_grad else []
    deltas = {name: torch.zeros_like(each) for name, each in wanted.items()}
    deltas |= {name: each for name, each in zip(wanted, found, strict=False) if each is not None}
    answers = {f"output {place}": each.detach() for place, each in enumerate(outputs)}
    return answers | deltas | {f"buffer {name}": each.clone() for name, each in model.named_buffers()}


def _combined(y: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    return (y * weights.to(y.dtype)).sum()


def _seed(model: Any, number: int) -> None:
    """All chance begins anew, so that a model and its copy draw alike."""
    random.seed(number)
    torch.manual_seed(number)
    model.numbers.bit_generator.state = np.random.default_rng(number).bit_generator.state
    model.chance.manual_seed(number)


class Weighted:
    """The same combination for ``trace``."""

    def value_and_delta(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view(outputs.shape).to(outputs.dtype)
        return (outputs * weights).sum(), weights


def unlike(found: dict[str, Tensor], right: dict[str, Tensor], tolerance: float) -> list[str]:
    """The names that differ; gradients that cancel out are held against the largest."""
    largest = max((_largest(e) for n, e in right.items() if "output" not in n and "buffer" not in n), default=0)
    names = []
    for name, wanted in right.items():
        own = found.get(name)
        if own is None or own.shape != wanted.shape:
            names.append(name)
            continue
        size = _largest(wanted)
        scale = max(size, 1e-3 * largest) if "buffer" not in name and "output" not in name else max(size, 1e-3)
        close = (own.double() - wanted.double()).abs() <= tolerance * scale
        if not bool((close | (own == wanted) | (own.isnan() & wanted.isnan())).all()):
            names.append(name)
    return names


def _largest(numbers: Tensor) -> float:
    finite = numbers[numbers.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def traced(model: Any, xs: tuple[Tensor, ...], hidden: bool) -> list[str]:
    """How a trace differs from autograd, and what it changed."""
    twin, other = (copy.deepcopy(model).double() for _ in range(2))
    xs = tuple(x.double() for x in xs)
    right = by_torch(other, xs)
    _seed(twin, len(xs[0]))
    try:
        given = xs[0] if len(xs) == 1 else xs
        found = trace(twin, given, torch.zeros(len(xs[0]), dtype=torch.int64), loss=Weighted())
    except HiddenStateError:
        return unlike(by_torch(twin, xs), right, EXACT) if hidden else ["refused"]
    if hidden:
        return ["not refused"]
    zeros = {name: torch.zeros_like(each) for name, each in right.items()}
    state = {f"buffer {name}": each for name, each in twin.named_buffers()}
    grad_x = dict(zip("xz", [found.grad_x] if len(xs) == 1 else found.grad_x, strict=False))
    own = {**zeros, "output 0": found.logits, **grad_x, **found.gradients, **state}
    right.pop("output 1", None)
    same = all(torch.equal(one, another) for one, another in zip(twin.parameters(), other.parameters(), strict=True))
    return unlike(own, right, EXACT) + ([] if same else ["parameters"])


def with_hooks(model: Any) -> Any:
    """A copy that has the parameters' hooks too, which deepcopy leaves behind."""
    other = copy.deepcopy(model)
    for own, copied in zip(model.parameters(), other.parameters(), strict=True):
        for hook in (own._backward_hooks or {}).values():
            copied.register_hook(hook)
    return other


def accelerated(session: Session, plain: Any, fast: Any, number: int, counts: collections.Counter[str]) -> list[str]:
    """How the engine differs from torch in one call; nothing where it refuses it by name."""
    way, bad = session.ways[number], set[str]()
    for attempt in range(4):
        xs = session.batch(number + 10 * attempt)
        own, tolerance = {}, ROUGH
        try:
            own = by_torch(fast, xs, way)
        except LoweringError:
            counts["refused"] += 1
            own, tolerance = by_torch(fast.model, xs, way), ROUGH / 20  # it is as it was before the call
        except ConvscopeError as problem:
            if way != "penalty":
                return [str(problem)]
            counts["refused"] += 1
            fast.__dict__.update(accelerate(with_hooks(plain), check=False).__dict__)
            by_torch(plain, xs, way)
            fast.model.load_state_dict(plain.state_dict())
            return []
        right = by_torch(plain, xs, way)
        if plain.training and CHANCE & set(session.statements):
            counts["drew otherwise"] += 1
            return []
        counts["accelerated"] += tolerance == ROUGH
        wrong = set(unlike(own, right, tolerance))
        bad = wrong if not attempt else bad & wrong
        if not bad:
            return []
    return sorted(bad)


def differences(session: Session, counts: collections.Counter[str]) -> Iterator[str]:
    """Everything that is not as in torch."""
    plain: Any = session.model()
    fast: Any = accelerate(copy.deepcopy(plain), check=False)
    hidden = bool(HIDDEN & set(session.statements))
    for number, change in enumerate(session.changes):
        if change == "copied":
            plain, fast = copy.deepcopy(plain), copy.deepcopy(fast)
        xs = session.batch(number)
        try:
            for model in (plain, fast.model):
                CHANGES[change](model)
            fast.training = fast.model.training
            for way in ("plain", session.ways[number]):
                by_torch(copy.deepcopy(plain), xs, way)
                by_torch(copy.deepcopy(plain).double(), tuple(x.double() for x in xs), "plain")
        except RuntimeError:
            counts["refused by torch"] += 1
            return
        yield from (f"trace after {change}: {name}" for name in traced(plain, xs, hidden))
        counts["traces"] += 1
        if session.inputs == 1:
            found = accelerated(session, plain, fast, number, counts)
            yield from (f"accelerate after {change}, {session.ways[number]}: {name}" for name in found)


def run(first: int, last: int, seconds: float = 1e9) -> tuple[list[str], collections.Counter[str]]:
    """The differences of these programs, and how many calls there were."""
    found: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    begun = time.monotonic()
    for seed in range(first, last):
        if time.monotonic() - begun > seconds:
            break
        session = Session(seed)
        try:
            here = list(differences(session, counts))
        except Exception as problem:
            here = [f"CRASHED {type(problem).__name__}: {problem}"[:300]]
        counts["programs"] += 1
        if here:
            found.append(f"{session}\n    " + "\n    ".join(here))
            print(found[-1], flush=True)
    return found, counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # the libraries' own objects, which accelerate's search for dead views would look through each time
    found, counts = run(arguments.first, arguments.first + arguments.programs, arguments.seconds)
    print(f"{len(found)} of {counts['programs']} programs differ; {dict(counts)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
