"""Numbers that a paper or textbook prints of single layers, and details that a parameter count does not show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convscope import layers
from convscope.layers import AuxiliaryOutputs
from convscope.models import create_model, inception_v3


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def shapes(model: nn.Module, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(path, tuple(output.shape[1:]))

    for path, module in model.named_children():
        module.register_forward_hook(note(path))
    model(x)
    return found


def test_lenet5_of_1998_layer_by_layer() -> None:
    model = create_model("lenet5_1998")
    counts = {name: parameters(each) for name, each in model.named_children() if parameters(each)}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    found = shapes(model, torch.zeros(1, 1, 32, 32))
    wanted = {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["output"] == (10,)
    assert 2.4 / 25 * 0.9 < float(model.get_parameter("c1.weight").detach().abs().max()) <= 2.4 / 25


def test_slides_shapes() -> None:
    found = shapes(create_model("slides_caltech101"), torch.zeros(1, 3, 200, 200))
    assert [found[f"pool{n}"] for n in (1, 2, 3, 4)] == [(12, 98, 98), (24, 48, 48), (20, 22, 22), (16, 9, 9)]


def test_alexnet_normalises_by_the_papers_formula() -> None:
    """b_i = a_i / (2 + 1e-4·Σ_{|j−i| ≤ 2} a_j²)^0.75, by a loop; torch divides its α by the size."""
    norm = create_model("alexnet_2012", hidden=8).get_submodule("norm1").double()
    a = torch.randn(1, 7, 2, 3, dtype=torch.float64) * 30
    expected = torch.empty_like(a)
    for i in range(7):
        near = a[:, max(0, i - 2) : i + 3].square().sum(1)
        expected[:, i] = a[:, i] / (2 + 1e-4 * near) ** 0.75
    assert torch.allclose(norm(a), expected, rtol=1e-12)


def test_alexnet_starts_as_published() -> None:
    model = create_model("alexnet_2012", hidden=64)
    assert float(model.get_parameter("fc7.weight").detach().std()) == pytest.approx(0.01, rel=0.05)
    assert bool((model.get_parameter("conv4.bias") == 1).all())
    assert bool((model.get_parameter("conv3.bias") == 0).all())
    assert [model.get_submodule(f"conv{n}").groups for n in range(1, 6)] == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "inception_v4", "inception_resnet_v2"])
def test_inception_normalisation_constant(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 50
    assert {norm.eps for norm in norms} == {0.001}


def test_googlenet_side_classifiers_in_training_only() -> None:
    model = create_model("googlenet", classes=5, input_size=64)
    x = torch.randn(2, 3, 64, 64)
    outputs = model(x)
    assert isinstance(outputs, AuxiliaryOutputs)
    assert outputs.logits.shape == outputs.auxiliary[0].shape == outputs.auxiliary[1].shape == (2, 5)
    assert outputs.weight == 0.3
    assert model.eval()(x).shape == (2, 5)
    assert create_model("googlenet", small=True).train()(torch.randn(2, 3, 32, 32)).shape == (2, 1000)
    with torch.device("meta"):
        assert parameters(create_model("googlenet", auxiliary=False)) == 6_624_904
        assert parameters(create_model("inception_v3", auxiliary=False)) == 23_834_568


def test_inception_v3_side_classifier() -> None:
    with torch.device("meta"):
        outputs = create_model("inception_v3", classes=5).train()(torch.zeros(2, 3, 299, 299))
    assert isinstance(outputs, AuxiliaryOutputs)
    assert outputs.auxiliary[0].shape == (2, 5)
    assert outputs.weight == 0.4
    side = inception_v3.Auxiliary(6, 5)
    y = side(torch.randn(3, 6, 17, 17))
    gradients = torch.autograd.grad(layers.LOSSES["cross_entropy"].value(y, torch.arange(3)), list(side.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_shufflenet_exchanges_groups() -> None:
    """Each map of a group goes to another group: map k of 6 in 3 groups lands at 0 3 1 4 2 5 transposed."""
    model = create_model("shufflenet_v1")
    shuffle = model.get_submodule("stage2.1.shuffle")
    order = shuffle(torch.arange(6.0).reshape(1, 6, 1, 1)).flatten().tolist()
    assert order == [0, 2, 4, 1, 3, 5]
    assert model.get_submodule("stage2.0.compress.0").groups == 1
    assert model.get_submodule("stage2.1.compress.0").groups == 3


def test_small_variants_keep_the_resolution_longer() -> None:
    with torch.device("meta"):
        for name, size in (("resnet18", 4), ("densenet121", 4), ("mobilenet_v2", 4), ("shufflenet_v2_x1_0", 4)):
            model = create_model(name, small=True, classes=10).eval()
            seen: list[tuple[int, ...]] = []
            model.get_submodule("avgpool").register_forward_hook(
                lambda module, inputs, output, seen=seen: seen.append(tuple(inputs[0].shape))
            )
            model(torch.zeros(2, 3, 32, 32))
            assert seen[0][2:] == (size, size), name


def test_small_vgg_has_one_linear_layer_unless_asked() -> None:
    with torch.device("meta"):
        assert parameters(create_model("vgg11", small=True, classes=10).get_submodule("classifier")) == 5130
        wide = create_model("vgg11", small=True, classes=10, hidden=512)
    assert parameters(wide.get_submodule("classifier")) == 2 * (512 * 512 + 512) + 5130
