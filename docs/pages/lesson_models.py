"""The two models that the ready lessons are about, beside the lessons in src/convscope/explorer/lessons/ready/.

``python docs/pages/lesson_models.py RUN/model.safetensors`` writes both: ``by_hand`` of the numbers below, ``digits``
from a run of ``convscope train lenet5 --data digits --epochs 6 --seed 1``, of which 13 of 359 test pictures are wrong.
Lessons quote numbers of these files: where a model is made anew, ``convscope lessons`` names every answer that changed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from convscope.graph.examples import example_inputs
from convscope.models.modelfile import save
from convscope.models.portable import describe
from convscope.spec import ModelSpec, Preprocessing, attach
from convscope.training import load

READY = Path(__file__).parents[2] / "src/convscope/explorer/lessons/ready"
SHAPE = (1, 6, 6)
UPRIGHT = [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
FLAT = [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
OUTPUT = [
    [0.5, 0.25, 0.5, 0.25, -0.25, -0.25, -0.25, -0.25],
    [-0.5, -0.25, -0.5, -0.25, 0.5, 0.25, 0.5, 0.25],
]


def by_hand() -> nn.Module:
    """A network of two kernels whose every number can be worked out on paper; float32 holds all its weights exactly."""
    conv, output = nn.Conv2d(1, 2, 3), nn.Linear(8, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[UPRIGHT], [FLAT]]))
        conv.bias.copy_(torch.tensor([-1.0, -0.5]))  # type: ignore[union-attr]
        output.weight.copy_(torch.tensor(OUTPUT))
        output.bias.zero_()
    layers: list[tuple[str, nn.Module]] = [("conv", conv), ("relu", nn.ReLU()), ("pool", nn.MaxPool2d(2))]
    layers += [("flatten", nn.Flatten()), ("output", output)]
    model = nn.Sequential(OrderedDict(layers))
    preprocessing = Preprocessing(1, (6, 6), (0.0,), (1.0,))
    described = ModelSpec(
        "graph", describe(model, example_inputs(model, SHAPE)), SHAPE, ("upright", "flat"), preprocessing
    )
    return attach(model.eval(), described)


if __name__ == "__main__":
    save(by_hand(), READY / "by_hand.safetensors")
    save(load(sys.argv[1]), READY / "digits.safetensors")
