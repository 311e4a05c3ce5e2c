"""A map taken apart: of many inputs any page is shown, and what is not shown adds what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convscope.errors import ArgumentError
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session


@pytest.fixture
def session() -> Session:
    """Eleven maps into three, and back from five."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 11, 3), nn.ReLU(), nn.Conv2d(11, 13, 3, padding=1), nn.Flatten(), nn.Linear(13 * 36, 3)
    )
    return Session(model, input_shape=(1, 8, 8))


def apart(session: Session, **args: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The answer, and what its panels of a role sum to."""
    reply = session.answer("elastic", Arguments(args), b"")
    assert reply.data is not None
    sums: dict[str, torch.Tensor] = {}
    for panel in reply.values["panels"]:
        count = panel["height"] * panel["width"]
        if panel["role"] in ("partial", "rest"):
            raw = np.frombuffer(reply.data, "<f4", count, panel["offset"]).reshape(panel["height"], -1)
            sums[panel["role"]] = sums.get(panel["role"], torch.zeros(raw.shape)) + torch.tensor(raw)
    return dict(reply.values), sums


@pytest.mark.parametrize("start", [0, 3, 8, 10])
def test_every_page_and_its_rest_are_the_map(session: Session, start: int) -> None:
    answer, sums = apart(session, layer="2", map=4, start=start)
    assert (answer["first"], answer["count"], answer["more"]) == (start, 11, 11 - min(8, 11 - start))
    layer = session.model.get_submodule("2")
    assert isinstance(layer, nn.Conv2d)
    x = session.snapshot.layers["2"].inputs[0].double()
    true = nn.functional.conv2d(x, layer.weight.double(), padding=1)[0, 4]
    torch.testing.assert_close((sums["partial"] + sums["rest"]).double(), true, rtol=1e-5, atol=1e-6)


def test_on_the_way_back_too(session: Session) -> None:
    """∂J/∂y of a map is what all thirteen readers send back, whichever of them are drawn."""
    true = session.snapshot.layers["1"].upstream
    assert true is not None
    for start in (0, 8):
        answer, sums = apart(session, layer="0", map=4, start=start, direction="backward")
        assert answer["count"] == 13
        torch.testing.assert_close(sums["partial"] + sums["rest"], true[0, 4].float(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_place_that_no_input_has_is_refused(session: Session, direction: str) -> None:
    for layer, places in (("2", 11), ("0", 1)) if direction == "forward" else (("0", 13), ("2", 1)):
        with pytest.raises(ArgumentError, match="a place among the map's inputs"):
            apart(session, layer=layer, map=0, start=places, direction=direction)
