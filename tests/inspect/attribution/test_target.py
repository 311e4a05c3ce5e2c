"""What is explained, as Python objects and as text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.inspect.attribution import Place, attribute, place_of
from convscope.spec import ModelSpec, attach


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("conv2[5, 3, 7]", Place("conv2", 5, 3, 7)),
        ("conv2[5]", Place("conv2", 5)),
        ("block.1.conv:2[ 5, 2:6, : ]", Place("block.1.conv:2", 5, slice(2, 6), slice(None, None))),
        ("[3]", Place("", 3)),
        ("c3[]", Place("c3")),
    ],
)
def test_text(text: str, place: Place) -> None:
    assert place_of(text) == place
    assert place_of(str(place)) == place


def test_text_that_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"target: got 'conv2', wanted a class, or a place such as"):
        place_of("conv2")
    with pytest.raises(ArgumentError, match="ranges of two ends, 2:6"):
        place_of("conv2[1:2:3]")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).eval()


def test_values_and_seeds() -> None:
    y = torch.arange(24.0).reshape(2, 3, 2, 2)
    place = Place("x", 1, slice(0, 1))
    assert place.of(y).tolist() == [4 + 5, 16 + 17]
    assert place.seed(y).sum() == 4
    assert float((place.seed(y) * y).sum()) == float(place.of(y).sum())
    for wrong in (Place("x", 3), Place("x", 0, 0, 0, 0), Place("x", slice(5, 6)), Place("x", -1)):
        with pytest.raises(ArgumentError, match="wanted units of x: 0…2, 0…1, 0…1"):
            wrong.of(y)


def test_classes_by_name_number_and_by_the_model_s_own_word() -> None:
    model = attach(net(), ModelSpec("graph", {}, (1, 6, 6), ("cat", "dog")))
    x = torch.randn(3, 1, 6, 6)
    said = model(x).argmax(1)
    torch.testing.assert_close(attribute(model, x, None, "gradient"), attribute(model, x, said, "gradient"))
    torch.testing.assert_close(attribute(model, x, "dog", "gradient"), attribute(model, x, 1, "gradient"))
    with pytest.raises(UnknownNameError, match="target: got 'dgo', wanted one of cat, dog. Did you mean 'dog'"):
        attribute(model, x, "dgo", "gradient")
    with pytest.raises(ArgumentError, match="or one for each of 3 inputs"):
        attribute(model, x, torch.tensor([1, 0]), "gradient")
    with pytest.raises(ArgumentError, match="or one for each of 3 inputs"):
        attribute(model, x, torch.tensor(1.0), "gradient")


def test_maps_as_output_have_no_classes() -> None:
    model = nn.Conv2d(1, 3, 3)
    x = torch.randn(1, 1, 6, 6)
    with pytest.raises(
        ArgumentError, match=r"wanted a Place. The model's output, \(1, 3, 4, 4\), is no list of classes"
    ):
        attribute(model, x, 1, "gradient")
    found = attribute(model, x, Place("", 1, slice(0, 2), slice(0, 2)), "gradient")
    assert int((found != 0).sum()) == 16


def test_the_smallest_distance_wins() -> None:
    """For outputs that are distances to codes the score is their negative."""

    class Distances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([((x - 1) ** 2).sum(1), ((x + 1) ** 2).sum(1)], 1)

    x = torch.tensor([[0.5, 2.0]])
    found = attribute(Distances(), x, None, "gradient", loss="rbf")
    torch.testing.assert_close(found, torch.tensor([[1.0, -2.0]]))  # −2·(x − 1): class 0 is nearer


def test_parts_that_cannot_be_seen_through_are_refused_where_it_matters() -> None:
    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() if float(x.detach().sum()) < 1e9 else x

    model = nn.Sequential(nn.Conv2d(1, 2, 3), Hidden(), nn.Flatten(), nn.Linear(32, 2))
    x = torch.randn(1, 1, 6, 6)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf)[0, 1], leaf)
    torch.testing.assert_close(attribute(model, x, 1, "gradient"), expected)
    for method in ("deconvnet", "guided_backprop"):
        with pytest.raises(ArgumentError, match=f"method: got '{method}'.*The rectifiers within '1' .Hidden"):
            attribute(model, x, 1, method)


def test_other_methods_and_names() -> None:
    with pytest.raises(UnknownNameError, match="method: got 'gradcam'.*Did you mean 'grad_cam'"):
        attribute(net(), torch.randn(1, 1, 6, 6), 1, "gradcam")
    with pytest.raises(ArgumentError, match="wanted a model with feature maps"):
        attribute(nn.Linear(3, 2), torch.randn(1, 3), 1, "grad_cam")
    with pytest.raises(ArgumentError, match="class_activation_map.*'2' stands between|No layer takes the mean"):
        attribute(net(), torch.randn(1, 1, 6, 6), 1, "class_activation_map")
    with pytest.raises(ArgumentError, match="baseline: got .2,., wanted a number, or what fits"):
        attribute(net(), torch.randn(1, 1, 6, 6), 1, "integrated_gradients", baseline=torch.zeros(2))
    for method, option, value, wanted in (
        ("integrated_gradients", "steps", 0, "an integer ≥ 1"),
        ("smooth_grad", "samples", 0, "an integer ≥ 1"),
        ("smooth_grad", "noise", -1.0, "a number ≥ 0"),
        ("occlusion", "patch", 0, "an integer ≥ 1, or 2 of them"),
        ("occlusion", "stride", (1, 2, 3), "an integer ≥ 1, or 2 of them"),
    ):
        with pytest.raises(ArgumentError, match=f"{option}: got .*, wanted {wanted}"):
            attribute(net(), torch.randn(1, 1, 6, 6), 1, method, **{option: value})  # type: ignore[arg-type]
