"""Random programs: models that do what everyday code does, and what is done to them between their calls.

    python -m tests.programs 20000 [--first 0]      so many programs; differences are printed and counted

A program is drawn from a seed: a model whose forward carries out statements drawn from ``STATEMENTS`` (layers, writes
in place, views, aliases, blocks without gradients or under autocast, functions of one's own, branches, buffers that
are counted on, outputs in dicts and tuples), and a session of calls with ``CHANGES`` between them (attributes, weights,
hooks, modes, layers). After every change

- ``trace`` in float64 must give the outputs and derivatives that autograd gives, to 1e-9, and leave the model as one
  call of it does;
- ``accelerate``, its comparison with torch switched off, must give in float32 what torch gives, or refuse by name.

A difference in float32 counts where three other batches show it too: a unit may be within rounding of a kink.
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
from typing import Any

import torch
from tests.program_statements import CHANNELS, STATEMENTS, Gated
from torch import Tensor, nn

from convscope import accelerate, trace
from convscope.errors import ConvscopeError, LoweringError
from convscope.graph import structure

SIDE = 5
EXACT = 1e-9
ROUGH = 2e-3  # of float32's gradients, in parts of the largest


class Program(nn.Module):
    """A model that carries out statements one after another."""

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

    def forward(self, x: Tensor) -> Any:
        for name in self.statements:
            x = STATEMENTS[name](self, x)
        y = self.head(x.mean((2, 3)))
        if self.answer == "plain":
            return y
        return {"y": y, "x": x} if self.answer == "dict" else (y, x)


def _swap(m: Any) -> None:
    m.conv.weight.data = m.conv.weight.data * 0.5


def _write(m: Any) -> None:
    with torch.no_grad():
        m.conv.weight.mul_(1.5)
        m.head.bias.add_(0.5)


def _reload(m: Any) -> None:
    m.load_state_dict({name: each * 0.9 for name, each in m.state_dict().items()})


def _another(m: Any) -> None:
    fresh = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(m.conv.weight.dtype)
    with torch.no_grad():
        fresh.weight.fill_(0.05)
        fresh.bias.zero_()  # type: ignore[union-attr]
    m.conv = fresh


def _patched(m: Any) -> None:
    m.gated.forward = lambda x, gain=1.0: x * gain * 0.5


CHANGES: dict[str, Callable[[Any], object]] = {
    "nothing": lambda m: None,
    "scale": lambda m: setattr(m, "scale", -0.5),
    "option": lambda m: m.options.update(gain=0.5),
    "setting": lambda m: setattr(m.settings, "shift", -0.7),
    "depth": lambda m: setattr(m, "depth", 1),
    "way": lambda m: setattr(m, "deep", False),
    "cast": lambda m: setattr(m, "cast", False),
    "gate": lambda m: setattr(m.gated, "gate", None),
    "bound": lambda m: setattr(m, "bound", -5.0),
    "offset": lambda m: m.offset.fill_(3.0),
    "evaluation": lambda m: m.eval(),
    "training": lambda m: m.train(),
    "one layer's mode": lambda m: m.norm.eval(),
    "frozen": lambda m: m.conv.requires_grad_(False),
    "thawed": lambda m: m.conv.requires_grad_(True),
    "epsilon": lambda m: setattr(m.norm, "eps", 0.3),
    "padding": lambda m: vars(m.conv).update(padding=(2, 2), dilation=(2, 2), _reversed_padding_repeated_twice=[2] * 4),
    "activation": lambda m: setattr(m, "act", nn.Sigmoid()),
    "hook": lambda m: m.act.register_forward_hook(lambda module, given, y: y * 0.5),
    "hook before": lambda m: m.conv.register_forward_pre_hook(lambda module, given: (given[0] + 1,)),
    "hook back": lambda m: m.norm.register_full_backward_hook(lambda module, dx, dy: (dx[0] * 2,)),
    "hook on a parameter": lambda m: m.head.weight.register_hook(lambda delta: delta * 3),
    "hook on the model": lambda m: m.register_forward_pre_hook(lambda module, given: (given[0] * 2,)),
    "swap": _swap, "write": _write, "reload": _reload, "another layer": _another, "patched": _patched,
}  # fmt: skip


class Session:
    """A drawn program."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.seed = seed
        self.statements = [chance.choice([*STATEMENTS]) for _ in range(chance.randint(1, 5))]
        self.answer = chance.choice(["plain", "plain", "dict", "tuple"])
        self.training = chance.random() < 0.5
        self.changes = ["nothing", *(chance.choice([*CHANGES]) for _ in range(chance.randint(0, 2)))]
        self.images = chance.choice([2, 3, 5])

    def __str__(self) -> str:
        mode = "training" if self.training else "evaluation"
        return f"program {self.seed}: {self.statements} → {self.answer}, {mode}, {self.images} pictures; {self.changes}"

    def model(self) -> Program:
        torch.manual_seed(self.seed)
        made = Program(self.statements, self.answer).train(self.training)
        with torch.no_grad():
            made.norm.running_mean.normal_()  # type: ignore[union-attr]
            made.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        return made

    def batch(self, number: int) -> Tensor:
        chance = torch.Generator().manual_seed(1000 * self.seed + number)
        return torch.randn(self.images, CHANNELS, SIDE, SIDE, generator=chance)


def by_torch(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Outputs, derivatives of a fixed combination of the first output, and buffers."""
    leaf = x.clone().requires_grad_()
    outputs = structure.tensors(model(leaf))
    y = outputs[0]
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    wanted = {"x": leaf, **{name: each for name, each in model.named_parameters() if each.requires_grad}}
    found = torch.autograd.grad((y * weights.to(y.dtype)).sum(), list(wanted.values()), allow_unused=True)
    pairs = zip(wanted.items(), found, strict=True)
    given = {name: torch.zeros_like(each) if delta is None else delta for (name, each), delta in pairs}
    answers = {f"output {place}": each.detach() for place, each in enumerate(outputs)}
    return answers | given | {f"buffer {name}": each.clone() for name, each in model.named_buffers()}


class Weighted:
    """The same combination for ``trace``."""

    def value_and_delta(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view(outputs.shape).to(outputs.dtype)
        return (outputs * weights).sum(), weights


def unlike(found: dict[str, Tensor], right: dict[str, Tensor], tolerance: float) -> list[str]:
    """The names that differ; gradients that cancel out are held against the largest."""
    largest = max(
        (float(e.abs().max()) for n, e in right.items() if "output" not in n and "buffer" not in n), default=0
    )
    names = []
    for name, wanted in right.items():
        own = found.get(name)
        if own is None or own.shape != wanted.shape:
            names.append(name)
            continue
        size = float(wanted.abs().max()) if wanted.numel() else 0.0
        scale = max(size, 1e-3 * largest) if "buffer" not in name and "output" not in name else max(size, 1e-3)
        if not bool(((own.double() - wanted.double()).abs() <= tolerance * scale).all()):
            names.append(name)
    return names


def traced(model: nn.Module, x: Tensor) -> list[str]:
    """How a trace differs from autograd, and what it changed."""
    twin, other = (copy.deepcopy(model).double() for _ in range(2))
    right = by_torch(other, x.double())
    found = trace(twin, x.double(), torch.zeros(len(x), dtype=torch.int64), loss=Weighted())
    zeros = {name: torch.zeros_like(each) for name, each in right.items()}
    state = {f"buffer {name}": each for name, each in twin.named_buffers()}
    own = {**zeros, "output 0": found.logits, "x": found.grad_x, **found.gradients, **state}
    right.pop("output 1", None)
    same = all(torch.equal(one, another) for one, another in zip(twin.parameters(), other.parameters(), strict=True))
    return unlike(own, right, EXACT) + ([] if same else ["parameters"])


def differences(session: Session, counts: collections.Counter[str]) -> Iterator[str]:
    """Everything that is not as in torch."""
    plain = session.model()
    fast = accelerate(copy.deepcopy(plain), check=False)
    for number, change in enumerate(session.changes):
        for model in (plain, fast.model):
            CHANGES[change](model)
        fast.training = fast.model.training
        x = session.batch(number)
        yield from (f"trace after {change}: {name}" for name in traced(plain, x))
        counts["traces"] += 1
        bad: set[str] = set()
        for attempt in range(4):
            x = session.batch(number + 10 * attempt)
            try:
                own = by_torch(fast, x)
            except LoweringError:
                counts["refused"] += 1
                fast.model.load_state_dict(plain.state_dict())
                break
            except ConvscopeError as problem:
                yield f"accelerate after {change}: {problem}"
                break
            right = by_torch(plain, x)
            counts["accelerated"] += 1
            wrong = set(unlike(own, right, ROUGH))
            bad = wrong if not attempt else bad & wrong
            if not bad:
                break
        yield from (f"accelerate after {change}: {name}" for name in sorted(bad))


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
