"""Every number written out: forward sums, δ and weight gradients against float64 autograd on torch's own modules."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.explorer.fixtures import LAYERS, MODELS, Reference, Residual, around, described, reference
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.arithmetic import Explanation, Line, Terms, follow
from convscope.explorer.network import Network
from convscope.explorer.snapshot import Question, Snapshot
from convscope.layers.losses import LOSSES
from convscope.models import create_model

UNITS = 200
WEIGHTS = 100


def snapshot_of(model: nn.Module, shape: tuple[int, ...], loss: str = "cross_entropy", target: int = 1) -> Snapshot:
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5)).to(next(model.parameters()).dtype)
    return Snapshot(Network(model, shape), Question(x, target, loss), 1)


def some(shape: tuple[int, ...], count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """``count`` random places (all of them where there are no more)."""
    everything = list(np.ndindex(*shape))
    chosen = random.Random(seed)
    return everything if len(everything) <= count else chosen.sample(everything, count)


def closes(found: Explanation, true: float, scale: float = 1e-9, largest: float = 0.0) -> None:
    """The written lines give the value, and the value is the true one, to ``scale`` of the size of what was added
    (float32 passes: of the layer's ``largest`` value too, for that is what their rounding grows with)."""
    size = largest + float(np.abs(found.terms.product).sum()) + abs(true) + 1e-6
    for step in found.steps:
        if step.operation in ("×", "÷"):
            size *= max(1.0, abs(step.value), 1 / max(abs(step.value), 1e-3))
    assert found.value == pytest.approx(true, abs=scale * size)
    assert found.computed == pytest.approx(true, abs=scale * size)


def true_delta(truth: Reference, name: str, module: Any) -> Tensor:
    """∂J/∂u by autograd: before an activation or softmax, behind every other layer."""
    before = isinstance(module, nn.ReLU | nn.Tanh | nn.LeakyReLU | nn.Sigmoid | nn.GELU | nn.Mish | nn.Softmax)
    before = before or type(module).__name__ == "ScaledTanh"
    return truth.grad_x[name] if before else truth.grad_y[name]


@pytest.mark.parametrize("name", LAYERS)
def test_forward_sum_of_every_layer_type(name: str) -> None:
    model = around(name).double()
    snapshot = snapshot_of(model, (2, 7, 9))
    truth = reference(model, snapshot.question.x, 1)
    for layer in ("0", "1", "3"):
        for unit in some(snapshot.layers[layer].shape, UNITS):
            closes(snapshot.forward(layer, unit), float(truth.y[layer][(0, *unit)]))


@pytest.mark.parametrize("name", LAYERS)
def test_delta_through_every_layer_type(name: str) -> None:
    model = around(name).double()
    snapshot = snapshot_of(model, (2, 7, 9))
    truth = reference(model, snapshot.question.x, 1)
    modules = dict(model.named_modules())
    for unit in some(snapshot.layers["0"].shape, UNITS):
        closes(snapshot.backward("0", unit), float(truth.grad_y["0"][(0, *unit)]))
    if name == "subsample":
        return  # its δ stands at u, inside the module, where no hook reaches: checked below
    delta = true_delta(truth, "1", modules["1"])
    for unit in some(snapshot.layers["1"].shape, UNITS):
        closes(snapshot.backward("1", unit), float(delta[(0, *unit)]))


@pytest.mark.parametrize("name", [name for name in LAYERS if list(LAYERS[name]().parameters())])
def test_gradient_of_weights_as_a_sum_over_positions(name: str) -> None:
    model = around(name).double()
    snapshot = snapshot_of(model, (2, 7, 9))
    truth = reference(model, snapshot.question.x, 1)
    for layer in ("0", "1", "3"):
        for parameter, gradient in snapshot.layers[layer].gradients.items():
            for index in some(tuple(gradient.shape), WEIGHTS):
                closes(
                    snapshot.gradient(layer, parameter, index), float(truth.gradients[f"{layer}.{parameter}"][index])
                )


def test_subsampling_delta_stands_before_its_own_activation() -> None:
    model = around("subsample").double()
    snapshot = snapshot_of(model, (2, 7, 9))
    module: Any = model[1]  # type: ignore[index]
    truth = reference(model, snapshot.question.x, 1)
    u = module.pre_activation(truth.y["0"]).detach()
    slope = 1.7159 * 2 / 3 * (1 - torch.tanh(2 * u / 3) ** 2)
    for unit in some(snapshot.layers["1"].shape, UNITS):
        closes(snapshot.backward("1", unit), float((truth.grad_y["1"] * slope)[(0, *unit)]))


@pytest.mark.parametrize("name", ["residual", "plain", "batch_norm", "global_pool", "dense_only", "non_square"])
def test_whole_networks_in_float32_with_relus_in_place(name: str) -> None:
    model = MODELS[name]()
    shape = model.__dict__["convscope_spec"].input_shape
    snapshot = snapshot_of(model, shape)
    truth = reference(model, snapshot.question.x, 1)
    torch.testing.assert_close(snapshot.logits.double(), truth.logits, rtol=1e-5, atol=1e-5)
    modules = dict(model.named_modules())
    for layer in truth.y:
        for unit in some(snapshot.layers[layer].shape, 40):
            y, delta = truth.y[layer], true_delta(truth, layer, modules[layer])
            closes(snapshot.forward(layer, unit), float(y[(0, *unit)]), 1e-5, float(y.abs().max()))
            closes(snapshot.backward(layer, unit), float(delta[(0, *unit)]), 1e-5, float(delta.abs().max()))


@pytest.mark.parametrize("rule", ["deconv", "guided"])
def test_backward_rules_of_zeiler_and_springenberg(rule: str) -> None:
    def back(u: Tensor, grad: Tensor) -> Tensor:
        return grad.clamp_min(0) * (u > 0) if rule == "guided" else grad.clamp_min(0)

    model = described(Residual(), (3, 9, 9), 5).double()
    snapshot = snapshot_of(model, (3, 9, 9))
    truth = reference(model, snapshot.question.x, 1, relu=back)
    for layer in ("stem", "norm", "conv", "pool", "head"):
        for unit in some(snapshot.layers[layer].shape, UNITS):
            closes(snapshot.backward(layer, unit, rule), float(truth.grad_y[layer][(0, *unit)]))
    plain = reference(model, snapshot.question.x, 1)
    assert not torch.allclose(plain.grad_y["stem"], truth.grad_y["stem"], atol=1e-6)  # the rules do differ


@pytest.mark.parametrize(("name", "loss"), [("lenet5", "cross_entropy"), ("lenet5_1998", "rbf"), ("lenet5", "hinge")])
def test_catalogue_models_under_their_losses(name: str, loss: str) -> None:
    model = create_model(name).eval()
    shape = model.__dict__["convscope_spec"].input_shape
    snapshot = snapshot_of(model, shape, loss, target=3)
    wide = create_model(name).double().eval()
    wide.load_state_dict(model.state_dict())
    logits = wide(snapshot.question.x.double()).detach().requires_grad_()
    value = LOSSES[loss].value(logits, torch.tensor([3]))
    (delta,) = torch.autograd.grad(value, logits)
    for unit in range(10):
        closes(snapshot.backward("output", (unit,)), float(delta[0, unit]), 1e-4)
    for layer in snapshot.layers:
        for unit_index in some(snapshot.layers[layer].shape, 20):
            found = snapshot.backward(layer, unit_index)
            assert found.computed == pytest.approx(
                found.value, rel=1e-4, abs=1e-6 * np.abs(found.terms.product).sum() + 1e-9
            )


def test_softmax_and_loss_give_p_minus_y() -> None:
    snapshot = snapshot_of(around("relu"), (2, 7, 9), target=2)
    p = torch.softmax(snapshot.logits[0].double(), 0)
    for unit in range(4):
        found = snapshot.backward("3", (unit,))
        assert found.family == "loss"
        assert len(found.terms) == 4
        assert found.computed == pytest.approx(float(p[unit]) - (unit == 2), abs=1e-6)


def test_pages_put_the_largest_terms_first_and_the_rest_into_one_subtotal() -> None:
    snapshot = snapshot_of(around("conv"), (2, 7, 9))
    found = snapshot.forward("1", (2, 1, 3))
    everything = found.page(0, 5000)
    assert everything["count"] == 6 * 9
    sizes = np.abs(everything["terms"]["product"])
    assert (np.diff(sizes) <= 0).all()
    page = found.page(10, 20)
    parts = [page["before"], *page["terms"]["product"], page["rest"]]
    assert sum(parts) == pytest.approx(everything["sum"], rel=1e-12)
    assert page["shown"] == 20
    product = np.array(everything["terms"]["coefficient"]) * np.array(everything["terms"]["value"])
    np.testing.assert_allclose(product, everything["terms"]["product"], rtol=1e-12)


def test_terms_name_their_true_places() -> None:
    model = around("conv_groups")
    snapshot = snapshot_of(model, (2, 7, 9))
    found = snapshot.forward("1", (4, 0, 8))
    x, w = snapshot.layers["1"].inputs[0][0], model[1].weight.detach()  # type: ignore[index]
    terms = found.terms
    assert terms.source is not None
    assert terms.weight is not None
    assert terms.coefficient is not None
    assert terms.padding is not None
    assert terms.padding.any()
    assert not terms.padding.all()
    for row in range(len(terms)):
        assert float(w[tuple(terms.weight[row])]) == pytest.approx(terms.coefficient[row])
        inside = all(0 <= at < side for at, side in zip(terms.source[row], x.shape, strict=True))
        assert inside != terms.padding[row]
        assert terms.value[row] == pytest.approx(float(x[tuple(terms.source[row])]) if inside else 0.0)


def test_a_perturbed_weight_is_caught() -> None:
    """The comparison can fail: a weight changed behind the trace's back no longer gives its values."""
    model = around("conv")
    snapshot = snapshot_of(model, (2, 7, 9))
    with torch.no_grad():
        model[1].weight[2, 0, 0, 0] += 0.5  # type: ignore[index]
    gaps = [abs(each.computed - each.value) for each in (snapshot.forward("1", (2, 0, at)) for at in range(7))]
    assert max(gaps) > 1e-3


def test_steps_are_followed_in_order() -> None:
    steps = (Line("×", "a", 3.0), Line("−", "b", 1.0), Line("÷", "c", 2.0), Line("^", "p", 2.0), Line("√", "√", 0.0))
    assert follow(3.0, steps) == 4.0
    assert follow(3.0, (Line("=", "y", 9.0), Line("f", "g", 7.0), Line("+", "d", 1.0))) == 8.0


def test_joined_terms_keep_their_origins() -> None:
    one = Terms(np.array([1.0]), np.array([2.0]), np.array([2.0]), source=np.array([[1]]))
    two = Terms(np.array([3.0]), np.array([3.0]), np.array([1.0]), source=np.array([[4, 5]]))
    joined = Terms.join([one, two])
    assert joined.origin is not None
    assert joined.source is not None
    assert joined.origin.tolist() == [0, 1]
    assert joined.source.tolist() == [[1, -1], [4, 5]]


def test_refused_questions_say_what_was_wanted() -> None:
    snapshot = snapshot_of(around("conv"), (2, 7, 9))
    with pytest.raises(UnknownNameError, match="layer: got 'nowhere'"):
        snapshot.forward("nowhere", (0, 0, 0))
    with pytest.raises(ArgumentError, match=r"unit: got \[9, 0, 0\], wanted 3 indices: 0…4, 0…4, 0…6"):
        snapshot.forward("1", (9, 0, 0))
    with pytest.raises(UnknownNameError, match="parameter: got 'gamma'"):
        snapshot.gradient("1", "gamma", (0,))
    with pytest.raises(ArgumentError, match=r"index: got \[0\], wanted 4 indices"):
        snapshot.gradient("1", "weight", (0,))
    with pytest.raises(UnknownNameError, match="rule: got 'magic'"):
        snapshot.backward("1", (0, 0, 0), "magic")
    silent = Snapshot(snapshot.network, Question(snapshot.question.x, None, "cross_entropy"), 2)
    with pytest.raises(ArgumentError, match="target: got None, wanted a class"):
        silent.backward("1", (0, 0, 0))
    with pytest.raises(ArgumentError, match="target: got None, wanted a class"):
        silent.gradient("1", "weight", (0, 0, 0, 0))


def test_a_lazy_snapshot_says_the_same() -> None:
    eager = snapshot_of(around("conv"), (2, 7, 9))
    lazy = Snapshot(eager.network, eager.question, 2, lazy=True)
    assert lazy.layers["1"].delta is None
    assert lazy.loss == pytest.approx(eager.loss)
    assert lazy.backward("0", (1, 2, 3)).value == eager.backward("0", (1, 2, 3)).value
    assert lazy.gradients.keys() == eager.gradients.keys()
