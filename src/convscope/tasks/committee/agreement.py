"""What the members of a committee say, one by one and together: errors of one, two, five, all; who agrees with whom."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import seeding
from convscope.data import Labelled, LabelledOnDisk
from convscope.data.examples import Examples
from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.errors import ArgumentError
from convscope.models.committee import Committee, own_preprocessing
from convscope.models.probabilities import probabilities
from convscope.tasks.classification.preparing import examine
from convscope.training.inference import prepare_inference

_SUBSETS = 100  # of members at most, for each number of them
_BATCH = 256


def votes(
    member: nn.Module, examples: Examples, engine: str = "auto", tell: Callable[[float], object] = lambda share: None
) -> Tensor:
    """The member's probabilities (n, classes), float32, of examples that are seen as its own preprocessing says."""
    examined = examine(member, examples, None, own_preprocessing(member))
    inference = prepare_inference(member, examined.inputs, engine, len(examples))
    order = Order(len(examined.examples), _BATCH, shuffle=False)
    found = []
    for number, batch in enumerate(Feed(examined.examples, order, examined.stages)):
        found.append(probabilities(member, inference.outputs(batch.inputs)).to("cpu", torch.float32))
        tell((number + 1) / order.count)
    return torch.cat(found)


def study(model: nn.Module, examples: Examples, names: Sequence[str], engine: str = "auto", seed: int = 0) -> Agreement:
    """What the members of the committee ``model`` say of labelled pictures; ArgumentError for a model that is none."""
    if not isinstance(model, Committee):
        raise ArgumentError("model", type(model).__name__, "a committee")
    examined = examine(model, examples, None, None)
    assert isinstance(examined.examples, Labelled | LabelledOnDisk)
    found = torch.stack([votes(member, examples, engine) for member in model.members])
    return agreement(found, examined.examples.labels.cpu(), names, seed)


@dataclasses.dataclass(frozen=True)
class Errors:
    """The error of committees of ``members`` of the members, over ``committees`` choices of them."""

    members: int
    committees: int
    mean: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """``errors`` of each member; ``together`` those of one, two, five and all; ``agree[i][j]`` the share of examples
    where i and j name the same class; ``all_agree`` where all do, ``nobody_right`` where all are wrong."""

    names: tuple[str, ...]
    examples: int
    errors: tuple[float, ...]
    together: tuple[Errors, ...]
    agree: tuple[tuple[float, ...], ...]
    all_agree: float
    nobody_right: float

    @property
    def error(self) -> float:
        """Of the whole committee."""
        return self.together[-1].mean

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Agreement:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
        }
        values["together"] = tuple(Errors(**each) for each in saved["together"])
        values["agree"] = tuple(map(tuple, saved["agree"]))
        return cls(**values)

    def table(self) -> str:
        """A page of text."""
        lines = [f"{self.examples:,} examples, {len(self.names)} members", ""]
        width = max(len(name) for name in (*self.names, "members"))
        lines += [f"{'member':<{width}}  {'error':>8}", *_rows(self.names, self.errors, width), ""]
        lines.append(f"{'members':<{width}}  {'error':>8}  {'from':>8}  {'to':>8}  committees")
        for each in self.together:
            shares = "  ".join(f"{share:>8.2%}" for share in (each.mean, each.least, each.most))
            lines.append(f"{each.members:<{width}}  {shares}  {each.committees:>10}")
        lines += ["", f"all agree on {self.all_agree:.2%}; nobody is right on {self.nobody_right:.2%}"]
        if 1 < len(self.names) <= 12:
            lines += ["", "two members name the same class, in %"]
            for name, row in zip(self.names, self.agree, strict=True):
                lines.append(f"{name:<{width}} " + "".join(f"{100 * share:>7.2f}" for share in row))
        return "\n".join(lines)

    def draw(self, path: Path, title: str) -> Path:
        """The errors over the number of members, and who agrees with whom."""
        from convscope.inspect.pictures.canvas import FAINT, INK, SERIES, new_figure, plain_axes, save_picture

        drawn = new_figure(10.0, 4.2)
        drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
        left, right = drawn.subplots(1, 2)
        axes = plain_axes(left)
        sizes = [each.members for each in self.together]
        means = [100 * each.mean for each in self.together]
        reach = [
            [100 * (each.mean - each.least) for each in self.together],
            [100 * (each.most - each.mean) for each in self.together],
        ]
        axes.errorbar(range(len(sizes)), means, yerr=reach, fmt="o-", color=SERIES[0], capsize=4)
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_xlabel("members", fontsize=9, color=FAINT)
        axes.set_ylabel("error, %: mean, least and most", fontsize=9, color=FAINT)
        image = right.imshow([[100 * share for share in row] for row in self.agree], cmap="Blues")
        right.set_title("the same class named, %", fontsize=9, color=FAINT)
        drawn.colorbar(image, ax=right)
        return save_picture(drawn, path)


def _rows(names: Sequence[str], errors: Sequence[float], width: int) -> list[str]:
    return [f"{name:<{width}}  {error:>8.2%}" for name, error in zip(names, errors, strict=True)]


def agreement(found: Tensor, labels: Tensor, names: Sequence[str], seed: int = 0) -> Agreement:
    """From the members' probabilities (members, n, classes) and the true classes (n,).

    Of one, two, five and all members the errors of the committees that they form: of all such committees where they are
    at most 100, else of 100 drawn by ``seed``. Raises ArgumentError where there is nothing to measure.
    """
    if found.ndim != 3 or len(found) != len(names) or found.shape[1] != len(labels) or len(labels) == 0:
        raise ArgumentError(
            "found", tuple(found.shape), f"probabilities ({len(names)} members, {len(labels)} ≥ 1 examples, classes)"
        )
    members = len(found)
    named = found.argmax(2)  # (members, n)
    right = named == labels
    together = [_errors(found, labels, size, seed) for size in sorted({1, 2, 5, members}) if size <= members]
    same = (named[:, None] == named[None]).to(torch.float64).mean(2)  # (members, members)
    return Agreement(
        names=tuple(names),
        examples=len(labels),
        errors=tuple((~right).to(torch.float64).mean(1).tolist()),
        together=tuple(together),
        agree=tuple(map(tuple, same.tolist())),
        all_agree=float((named == named[0]).all(0).to(torch.float64).mean()),
        nobody_right=float((~right).all(0).to(torch.float64).mean()),
    )


def _errors(found: Tensor, labels: Tensor, size: int, seed: int) -> Errors:
    chosen = subsets(len(found), size, seed)
    errors = [float((found[list(each)].mean(0).argmax(1) != labels).to(torch.float64).mean()) for each in chosen]
    return Errors(size, len(errors), sum(errors) / len(errors), min(errors), max(errors))


def subsets(members: int, size: int, seed: int) -> list[tuple[int, ...]]:
    """All ways to choose ``size`` of ``members`` where they are at most 100, else 100 different ones by ``seed``."""
    if math.comb(members, size) <= _SUBSETS:
        return list(itertools.combinations(range(members), size))
    chance = seeding.generator(seed, "subsets", members, size)
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < _SUBSETS:
        drawn[tuple(sorted(torch.randperm(members, generator=chance)[:size].tolist()))] = None
    return list(drawn)
