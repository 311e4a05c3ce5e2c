"""Copied code prints the number of the page, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.explorer.fixtures import MODELS, described, plain, printed_by
from tests.explorer.test_session import ask, noise
from torch import nn

from convscope.explorer.session import Session


@pytest.mark.parametrize("kind", ["activation", "delta", "weight", "gradient", "logit", "probability", "loss", "input"])
def test_copied_code_prints_the_number(kind: str) -> None:
    torch.manual_seed(1)
    session = Session(described(plain(), (3, 12, 12), 4))
    ask(session, "show_pixels", noise(session))
    index = {
        "activation": [2, 1, 3],
        "delta": [2, 1, 3],
        "weight": [2, 1, 0, 1],
        "gradient": [2, 1, 0, 1],
        "input": [0, 3, 4],
    }
    args: dict[str, Any] = {"kind": kind, "index": index.get(kind, [2])}
    if kind in ("activation", "delta", "weight", "gradient"):
        args["layer"] = "4" if kind == "delta" else "3"
    code = ask(session, "snippet", **args).values["code"]
    snapshot = session.snapshot
    numbers: dict[str, Callable[[], Any]] = {
        "activation": lambda: snapshot.layers["3"].y[0, 2, 1, 3],
        "delta": lambda: snapshot.deltas()["4"][0, 2, 1, 3],
        "weight": lambda: session.model[3].weight.detach()[2, 1, 0, 1],  # type: ignore[index]
        "gradient": lambda: snapshot.gradients["3.weight"][2, 1, 0, 1],
        "logit": lambda: snapshot.logits[0, 2],
        "probability": lambda: torch.softmax(snapshot.logits[0].double(), 0)[2],
        "loss": lambda: torch.tensor(snapshot.loss),
        "input": lambda: snapshot.question.x[0, 0, 3, 4],
    }
    truth = numbers[kind]()
    assert float(printed_by(code, alone=kind == "delta")) == pytest.approx(float(truth), rel=1e-4, abs=1e-7)
    session.close()


@pytest.mark.parametrize("rule", ["deconv", "guided"])
@pytest.mark.parametrize("layer", ["stem", "norm", "relu1", "pool"])
def test_copied_code_prints_the_delta_of_the_rule_chosen(rule: str, layer: str) -> None:
    """In-place ReLUs and ReLU6 among them; another number than the plain δ."""
    torch.manual_seed(4)
    model = MODELS["residual"]()
    model.relu2 = nn.ReLU6(inplace=True)
    session = Session(model, input_shape=(3, 12, 12))
    ask(session, "show_pixels", noise(session, 4))
    found = session.snapshot.deltas(rule)[layer]
    different = (found - session.snapshot.deltas()[layer]).abs() > 1e-2 * found.abs().max()
    at = torch.nonzero(different & (found != 0))[0, 1:].tolist() if layer != "pool" else [0, 0, 0]
    code = ask(session, "snippet", kind="delta", layer=layer, index=at, rule=rule).values["code"]
    assert float(printed_by(code)) == pytest.approx(float(found[(0, *at)]), rel=1e-4, abs=1e-7)
    session.close()
