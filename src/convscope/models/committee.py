"""Committees: several classifiers, each with its own preprocessing, whose probabilities are averaged.

Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.errors import ArgumentError
from convscope.layers import FigureWidth
from convscope.models import modelfile, portable
from convscope.models.catalog import Card, create_model, register
from convscope.models.probabilities import log_probabilities
from convscope.spec import Answers, Input, ModelSpec, Preprocessing

PAPER = "Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012"
_NOT_FROM_FILES = {"weights", "freeze"}
_LEVELS = 255  # of a pixel taken as 0 … 1


class Committee(nn.Module):
    """ln((1/N)·Σ_i p_i(x)), the logarithm of the mean of the members' probabilities.

    As scores they make the usual cross-entropy −ln of that mean, and their softmax is that mean again. The input is
    (n, channels, height, width) with pixels as 0 … 1, from which every member gets its own: the figure at its width,
    then its mean and deviation. A member without preprocessing takes the input as it is. Output (n, classes).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.widths = nn.ModuleDict()
        self.normalised: list[bool] = []
        for place, member in enumerate(members):
            preprocessing = own_preprocessing(member)
            self.normalised.append(preprocessing is not None)
            if preprocessing is None:
                continue
            if preprocessing.width is not None:
                self.widths[str(place)] = FigureWidth(preprocessing.width, levels=_LEVELS)
            for name in ("mean", "std"):
                values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32).reshape(1, -1, 1, 1)
                self.register_buffer(f"{name}_{place}", values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found = [log_probabilities(member, member(self.seen(x, place))) for place, member in enumerate(self.members)]
        return log_mean(found)

    def seen(self, x: Tensor, place: int) -> Tensor:
        """What member ``place`` sees of pixels as 0 … 1."""
        if not self.normalised[place]:
            return x
        if str(place) in self.widths:
            x = self.widths[str(place)](x)
        return (x - self.get_buffer(f"mean_{place}")) / self.get_buffer(f"std_{place}")

    def extra_repr(self) -> str:
        return f"{len(self.members)} members"


def log_mean(logarithms: Sequence[Tensor]) -> Tensor:
    """ln of the mean of what these (n, classes) are the logarithms of."""
    return torch.logsumexp(torch.stack(list(logarithms)), 0) - math.log(len(logarithms))


def own_preprocessing(member: nn.Module) -> Preprocessing | None:
    described = spec.spec_of(member)
    return None if described is None else described.preprocessing


def committee(models: Sequence[nn.Module]) -> Committee:
    """A model that averages the probabilities of ``models``, classifiers that keep their own preprocessing each.

    All must know the same classes in the same order and take pictures of one size and number of channels, brought there
    in the same way; means, deviations and figure widths may differ. The members are used, not copied. Saved, the whole
    committee is one file. Raises ArgumentError, naming the member, for models that do not go together.
    """
    members = list(models) if isinstance(models, Sequence) else []
    if not members or not all(isinstance(each, nn.Module) for each in members):
        got = [type(each).__name__ for each in members] or type(models).__name__
        raise ArgumentError("models", got, "a list of at least one trained model")
    described = [_described(member, place) for place, member in enumerate(members)]
    first = described[0]
    assert first.preprocessing is not None
    for place, other in enumerate(described):
        _check_alike(place, first, other)
    common = dataclasses.replace(
        first.preprocessing, mean=(0.0,) * first.input_shape[0], std=(1.0,) * first.input_shape[0], width=None
    )
    model = Committee(members)
    model.train(members[0].training)
    options = {
        "classes": len(first.classes),
        "in_channels": first.input_shape[0],
        "members": json.loads(json.dumps([each.to_json() for each in described])),
    }
    inputs = (Input("pictures", first.input_shape, common),)
    answers = Answers("classes", first.classes)
    spec.attach(model, ModelSpec("committee", options, task=first.task, inputs=inputs, answers=answers))
    return model


def _described(member: nn.Module, place: int) -> ModelSpec:
    wanted = "trained classifiers that carry their preprocessing and class names"
    described = None if spec.spec_of(member) is None else modelfile.current_spec(member)
    if described is None or described.preprocessing is None or not described.classes:
        raise ArgumentError(f"models[{place}]", type(member).__name__, wanted, "Train it with fit, or load a saved one")
    if described.task != "classification":
        raise ArgumentError(f"models[{place}]", f"a model for {described.task}", wanted)
    return described


def _check_alike(place: int, first: ModelSpec, other: ModelSpec) -> None:
    argument = f"models[{place}]"
    if other.classes != first.classes:
        raise ArgumentError(argument, f"classes {other.classes}", f"those of models[0], {first.classes}, in that order")
    one, its = first.preprocessing, other.preprocessing
    assert one is not None
    assert its is not None
    if (its.channels, *its.size) != (one.channels, *one.size):
        sizes = [f"{each.channels}×{each.size[0]}×{each.size[1]}" for each in (its, one)]
        raise ArgumentError(argument, f"pictures of {sizes[0]}", f"those of models[0], {sizes[1]}")
    if its.fit != one.fit:
        hint = "Pictures of another size would be fitted in two ways"
        raise ArgumentError(argument, f"pictures fitted by {its.fit!r}", f"by {one.fit!r}, as models[0]", hint)


def _rebuilt(member: Any) -> nn.Module:
    if not isinstance(member, Mapping):
        raise ArgumentError("members", type(member).__name__, "descriptions of models")
    described = ModelSpec.from_json(member)
    if described.architecture != "graph" and described.options.keys() & _NOT_FROM_FILES:
        raise ArgumentError("members", sorted(described.options), "options of the architecture alone")
    return portable.rebuild(described)


@register(
    "committee",
    Card(
        title="A committee of any classifiers",
        year=2012,
        paper=PAPER,
        input_shape=(1, 28, 28),
        classes=10,
        parameters=3 * 61_706,
        published="MCDNN's 35 columns: MNIST test error 0.23 %, single columns 0.4 % and more",
        note="built by itself, three of lenet5 with ReLU and max pooling; `convscope committee FILE…` makes one of "
        "trained models",
        family="committee",
    ),
)
def untrained(classes: int = 10, in_channels: int = 1, members: Sequence[Mapping[str, Any]] | None = None) -> nn.Module:
    """``members`` are descriptions of models, as their files hold them."""
    if members is not None:
        if isinstance(members, str) or not isinstance(members, Sequence) or not members:
            raise ArgumentError("members", members, "a list of descriptions of models")
        return Committee([_rebuilt(member) for member in members])
    options: dict[str, Any] = {"activation": "relu", "pool": "max"}
    return Committee([create_model("lenet5", classes, in_channels, **options) for _ in range(3)])
