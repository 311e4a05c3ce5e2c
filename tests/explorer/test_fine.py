"""A sure network still has a loss; what is shown first has one to look at; ink on paper; data of other tasks."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tests.data.kinds import some
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.explorer.inputs import Desk
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session
from convscope.inspect.inputs import InputOfModel
from convscope.spec import ModelSpec, Preprocessing, attach


def sure(gap: float) -> nn.Module:
    """Logits whose first is ``gap`` above the other two, through a convolution and a tanh."""
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
    torch.manual_seed(0)
    with torch.no_grad():
        model[3].weight.mul_(0.01)
        model[3].bias.copy_(torch.tensor([gap, 0, 0]))
    found: nn.Module = attach(model.eval(), ModelSpec("graph", {}, (1, 6, 6), ("a", "b", "c")))
    return found


@pytest.mark.parametrize("gap", [10.0, 18.0, 30.0, 60.0])
def test_the_end_of_the_chain_is_not_zero(gap: float) -> None:
    """p rounds to 1 in float32 from a gap of 17 on, in float64 from 37 on; J, every δ and every gradient are autograd's
    of ln(1 + Σ e^(y_k − y_0)) in float64."""
    model = sure(gap)
    session = Session(model)
    x = session.snapshot.question.x
    twin = sure(gap).double()
    y = twin(x.double())[0]
    loss = torch.log1p(torch.exp(y[1:] - y[0]).sum())
    torch.autograd.backward(loss)
    assert float(loss.detach()) > 0
    # Logits of float32 near the gap carry its rounding: eps·gap.
    assert session.snapshot.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        expected = parameter.grad.float()
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(
            session.snapshot.gradients[name], expected, rtol=2e-4, atol=float(expected.abs().max()) * 1e-5
        )


@pytest.mark.parametrize("end", ["softmax", "sigmoid", "tanh"])
@pytest.mark.parametrize("loss", ["squared_error", "mean_squared_error"])
def test_outputs_near_their_targets_keep_their_difference(end: str, loss: str) -> None:
    """y = 0.9999999 is 1 − 1.2e−7 or 1 in float32; J and every gradient are autograd's in float64 of the same u."""
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
    torch.manual_seed(0)
    with torch.no_grad():
        model[3].weight.mul_(0.01)
        model[3].bias.copy_(torch.tensor([9.0, -9.0, -9.0]))
    ended = copy.deepcopy(model).append({"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh()}[end])
    session = Session(ended.eval(), loss=loss, input_shape=(1, 6, 6))
    twin = model.double()
    u = twin(session.snapshot.question.x.double())[0]
    if end == "softmax":
        away = torch.stack([u[1:].exp().sum() / u.exp().sum(), *u.softmax(0)[1:]])
    elif end == "sigmoid":
        away = torch.stack([torch.sigmoid(-u[0]), *torch.sigmoid(u[1:])])
    else:
        away = torch.stack([2 * torch.sigmoid(-2 * u[0]), *(2 * torch.sigmoid(2 * u[1:]))])
    truth = away.square().sum() * (0.5 if loss == "squared_error" else 1 / 3)
    torch.autograd.backward(truth)
    assert 0 < float(truth.detach()) < 1e-7
    assert session.snapshot.loss == pytest.approx(float(truth.detach()), rel=1e-4)
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        largest = float(parameter.grad.abs().max())
        torch.testing.assert_close(
            session.snapshot.gradients[name].double(), parameter.grad, rtol=1e-3, atol=largest * 1e-4
        )
    foreseen = session.answer("preview", Arguments({}), b"").values["loss_after"]
    stepped = session.answer("step", Arguments({}), b"").values["loss_after"]
    assert foreseen == pytest.approx(stepped, rel=1e-6)
    session.close()


def test_the_first_item_has_a_loss_to_look_at() -> None:
    """Of the threes that the network gets right, the one with the smallest margin; not one that it gets wrong."""
    images = torch.zeros(40, 1, 6, 6, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    images[:, 0, 0, 0] = torch.arange(40) * 6
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, 0] = 4
        model[1].bias.copy_(torch.tensor([2.0, 0.0]))  # the three from a brightness of a half on
    attach(model.eval(), ModelSpec("graph", {}, (1, 6, 6), ("2", "3"), Preprocessing(1, (6, 6), (0.0,), (1.0,))))
    data = Dataset.from_arrays(images, labels, classes=["2", "3"])
    session = Session(model, data)
    test = data.test
    brightness = test.images[:, 0, 0, 0].double() / 255
    right = [i for i in range(len(test)) if int(test.labels[i]) == 1 and brightness[i] > 0.5]
    assert right
    assert session.picture.source["index"] == min(right, key=lambda i: float(brightness[i]))
    assert session.snapshot.predicted == 1


def paper(ink: int, ground: int, place: tuple[int, int] = (60, 20)) -> bytes:
    image = Image.new("L", (120, 160), ground)
    pen = ImageDraw.Draw(image)
    x, y = place
    pen.line([x, y, x + 6, y + 60], fill=ink, width=8)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def desk(mean: float) -> Desk:
    return Desk(InputOfModel((1, 28, 28), Preprocessing(1, (28, 28), (mean,), (0.3,)), "model"), None)


def test_ink_on_paper_is_inverted_and_centred() -> None:
    found = desk(0.13).from_file(paper(20, 235), "upload")
    assert [stage.name for stage in found.stages] == ["original", "inverted", "centred", "size", "normalise"]
    pixels = found.pixels[0, 0].double()
    assert float(pixels[[0, -1]].max()) == float(pixels[:, [0, -1]].max()) == 0
    assert float(pixels.max()) > 200
    places = np.argwhere(pixels.numpy() > 100)
    assert np.abs(places.mean(0) - 13.5).max() < 1.5
    assert places[:, 0].max() - places[:, 0].min() in range(17, 22)  # 20 of 28 pixels high, as MNIST has it


def test_what_is_no_ink_on_paper_is_left_alone() -> None:
    for content, mean in ((paper(235, 10), 0.13), (paper(20, 235), 0.45)):
        assert "inverted" not in [stage.name for stage in desk(mean).from_file(content, "upload").stages]
    empty = desk(0.13).from_file(paper(235, 235), "upload")
    assert float(empty.pixels.max()) < 32


def test_data_of_another_task_is_refused_by_naming_both(tmp_path: Path) -> None:
    boxes = some.some_boxes(tmp_path)
    data: Any = Dataset("cells", boxes, boxes)
    with pytest.raises(ArgumentError, match="a data set of kind 'boxes'"):
        Session(sure(1.0), data)
