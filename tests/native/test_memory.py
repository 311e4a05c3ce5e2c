"""Parameters stay torch's: whatever happens to a model, the engine reads what the model holds."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import nn

from convscope import accelerate
from convscope.errors import ArgumentError, LoweringError
from convscope.layers import RBF
from convscope.native import NativeNetwork
from convscope.native.memory import SharedMemory

pytestmark = pytest.mark.usefixtures("any_engine")


def net() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(96, 6), nn.ReLU())
    model.add_module("codes", RBF(6, 5))
    return randomised(model)  # type: ignore[return-value]


def replace_parameter(model: Any) -> None:
    model[0].weight = nn.Parameter(torch.randn(4, 3, 3, 3))


def replace_several(model: Any) -> None:
    model.load_state_dict({key: value + 1 for key, value in model.state_dict().items()}, assign=True)


def load(model: Any) -> None:
    model.load_state_dict({key: value * 2 for key, value in model.state_dict().items()})


def there_and_back(model: Any) -> None:
    model.double()
    with torch.no_grad():
        model[3].weight.mul_(3)
    model.float()


def channels_last(model: Any) -> None:
    model.to(memory_format=torch.channels_last)


def data_swapped(model: Any) -> None:
    model[3].bias.data = torch.randn(6)


def statistics_replaced(model: Any) -> None:
    model[1].running_mean = torch.randn(4)


def bias_removed(model: Any) -> None:
    model[0].bias = None


def layer_replaced(model: Any) -> None:
    model[0] = nn.Conv2d(3, 4, 3, bias=False)


def no_gradient(model: Any) -> None:
    for parameter in model.parameters():
        parameter.grad = None


CHANGES: list[Callable[[Any], None]] = [
    replace_parameter, replace_several, load, there_and_back, channels_last, data_swapped, statistics_replaced,
    no_gradient, lambda model: None,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("training", [True, False])
def test_changes_are_seen(change: Callable[[Any], None], training: bool) -> None:
    torch.manual_seed(0)
    model = net().train(training)
    network = NativeNetwork(model, (3, 8, 6), "rbf")
    x, targets = pictures(5, (3, 8, 6)), torch.tensor([0, 1, 2, 3, 4])
    network.loss_and_grad(x, targets)
    change(model)
    exact = copy.deepcopy(model).double()
    loss, outputs = network.loss_and_grad(x, targets)
    answers = exact(x.double())
    assert relative(outputs[0].double(), answers) < 1e-5
    from convscope.layers import LOSSES

    value = LOSSES["rbf"].value(answers, targets)
    value.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(value.item(), rel=1e-5)
    wanted = dict(exact.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        right = wanted[name].grad
        assert right is not None
        if name != "0.bias":  # 0 but for rounding, since batch normalisation takes every constant away
            assert relative(parameter.grad.double(), right) < 2e-5, name
    for (name, own), (_, other) in zip(model.named_buffers(), exact.named_buffers(), strict=True):
        assert relative(own.double(), other.double()) < 1e-5, name


@pytest.mark.parametrize("change", [bias_removed, layer_replaced])
def test_another_structure_makes_new_buffers(change: Callable[[Any], None]) -> None:
    model = net().eval()
    memory = SharedMemory(model)
    version = memory.version
    change(model)
    memory.check()
    assert memory.version == version + 1
    assert set(memory.places) == {name for name, _ in model.named_parameters()}
    x = pictures(2, (3, 8, 6))
    network = NativeNetwork(model, (3, 8, 6), memory=memory)
    assert relative(network.forward(x), model(x)) < 1e-5


def test_buffers_stay_for_the_optimiser_where_the_structure_does() -> None:
    model = net()
    memory = SharedMemory(model)
    before = memory.flat.values.data_ptr()
    there_and_back(model)
    memory.check()
    assert memory.flat.values.data_ptr() == before
    assert memory.flat.values_intact()
    assert all(each.grad is None for each in model.parameters())


def test_any_torch_optimiser_steps_the_buffer() -> None:
    model = net()
    network = NativeNetwork(model, (3, 8, 6), "rbf")
    x, targets = pictures(33, (3, 8, 6)), torch.arange(33) % 5
    for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        optimiser = make(model.parameters(), lr=1e-3)
        first = network.loss_and_grad(x, targets)[0]
        for _ in range(5):
            network.loss_and_grad(x, targets)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        assert network.loss_and_grad(x, targets)[0] < first


def test_frozen_parameters_keep_out() -> None:
    model: Any = net()
    model[0].requires_grad_(False)
    network = NativeNetwork(model, (3, 8, 6), "rbf")
    x, targets = pictures(4, (3, 8, 6)), torch.tensor([0, 1, 2, 3])
    network.loss_and_grad(x, targets)
    assert model[0].weight.grad is None
    assert model[3].weight.grad is not None
    model[0].requires_grad_(True)
    network.loss_and_grad(x, targets)
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.abs().max() > 0


def test_shared_parameters_add_their_gradients() -> None:
    shared = nn.Linear(12, 12)
    model = nn.Sequential(nn.Flatten(), shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(12, 12))
    model[5].weight = shared.weight
    other = copy.deepcopy(model)
    network = NativeNetwork(model, (3, 2, 2), "cross_entropy")
    x, targets = pictures(17, (3, 2, 2)), torch.arange(17) % 12
    network.loss_and_grad(x, targets)
    torch.nn.functional.cross_entropy(other(x), targets).backward()  # type: ignore[no-untyped-call]
    for own, right in zip(model.parameters(), other.parameters(), strict=True):
        assert own.grad is not None
        assert right.grad is not None
        assert relative(own.grad, right.grad) < 1e-5
    assert len(network.memory.places) == 3


def test_parameters_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model: got '0.weight: torch.float64 on cpu', wanted float32 on the CPU"):
        NativeNetwork(net().double(), (3, 8, 6))
    model = net()
    network = NativeNetwork(model, (3, 8, 6))
    model.bfloat16()
    with pytest.raises(ArgumentError, match=r"0.weight: torch.bfloat16 on cpu"):
        network.forward(pictures(1, (3, 8, 6)))


def small() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(96, 6)).eval()


def test_weights_exchanged_for_a_moment_are_used_and_given_back_unchanged() -> None:
    """As averaging of weights does it: keep ``p.data``, put others there, evaluate, put the kept ones back."""
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    fast(x)
    for _ in range(2):
        before = model[0].weight.detach().clone()
        kept = model[0].weight.data
        model[0].weight.data = before * 2
        assert relative(fast(x), model(x)) < 1e-5
        assert torch.equal(model[0].weight, before * 2)
        model[0].weight.data = kept
        assert torch.equal(model[0].weight, before)
        assert relative(fast(x), model(x)) < 1e-5
        assert model[0].weight.data_ptr() == kept.data_ptr()


def test_another_model_s_tensors_for_one_call() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    fast(x)
    before = model[0].weight.detach().clone()
    other = {"0.weight": (before * 2).requires_grad_(), "1.running_mean": torch.ones(4)}
    found = torch.func.functional_call(fast, other, (x,))
    wanted = torch.func.functional_call(model, other, (x,))
    assert relative(found, wanted) < 1e-5
    own, right = (torch.autograd.grad(y.square().sum(), other["0.weight"])[0] for y in (found, wanted))
    assert relative(own, right) < 1e-5
    assert torch.equal(model[0].weight, before)
    assert not model[1].running_mean.any()


def test_memory_that_others_share_is_left_where_it_is() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    alias, numbers = model[0].weight.data, model[4].bias.detach().numpy()
    fast = accelerate(model)
    for _ in range(2):
        alias.mul_(1.5)  # neither is seen by the parameters' version counters
        numbers += 1
        assert torch.equal(model[0].weight, alias)
        assert relative(fast(x), model(x)) < 1e-5
    fast.loss_and_grad(x, torch.tensor([0, 1, 2]))
    torch.optim.SGD(fast.parameters(), lr=0.1).step()
    assert torch.equal(model[0].weight, alias)
    assert relative(fast(x), model(x)) < 1e-5


def test_dead_cycles_share_no_memory() -> None:
    model = net()
    cycle: list[Any] = [model.get_parameter("3.weight").detach().t()]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        memory = SharedMemory(model)
        assert not memory.borrowed
        held = nn.Linear(2, 3)
        view = held.weight.detach().t()
        assert SharedMemory(held).borrowed  # a living one does
        assert view.shape == (2, 3)
    finally:
        gc.enable()


def test_memory_shared_between_processes_stays_shared() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    fast(x)
    model.share_memory()
    with torch.no_grad():
        model[4].bias += 1
    assert relative(fast(x), model(x)) < 1e-5
    assert all(each.is_shared() for each in model.parameters())


def test_buffers_stay_where_they_are() -> None:
    model, x = small().train(), pictures(5, (3, 8, 6))
    mean = model[1].running_mean
    place = mean.data_ptr()
    other = copy.deepcopy(model)
    accelerate(model)(x)
    other(x)
    assert model[1].running_mean is mean
    assert mean.data_ptr() == place
    assert relative(mean, other[1].running_mean) < 1e-5
    assert model[1].num_batches_tracked == 1


def test_what_is_saved_of_one_layer_is_one_layer() -> None:
    model, plain = small(), small()
    accelerate(model)(pictures(1, (3, 8, 6)))
    sizes = []
    for each in (model, plain):
        file = io.BytesIO()
        torch.save(each[0].state_dict(), file)
        sizes.append(len(file.getvalue()))
    assert sizes[0] == sizes[1]


def test_weights_of_another_shape_touch_nothing_else() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    fast(x)
    others = {name: each.detach().clone() for name, each in model.named_parameters() if name != "0.weight"}
    model[0].weight.data = torch.full((4, 3, 5, 5), 7.0)
    with pytest.raises(LoweringError, match="layer '4': the model itself fails here.*1x32 and 96x6"):
        fast(x)
    assert all(torch.equal(model.get_parameter(name), each) for name, each in others.items())
    model[4] = nn.Linear(32, 6)
    assert relative(fast(x), model(x)) < 1e-5
    model[4].weight.data = model[4].weight.data[:4]
    model[4].bias.data = model[4].bias.data[:4]
    assert relative(fast(x), model(x)) < 1e-5


def test_freed_storage_is_an_error_and_no_crash() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    fast(x)
    with pytest.raises(RuntimeError, match="not resizable"):
        model[0].weight.untyped_storage().resize_(0)
    model[0].weight.data = torch.randn(4, 3, 3, 3)
    model[0].weight.untyped_storage().resize_(0)
    with pytest.raises(ArgumentError, match="model: got '0.weight: a storage of 0 bytes', wanted one of 432 bytes"):
        fast(x)
    model[0].weight.untyped_storage().resize_(432)
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    assert relative(fast(x), model(x)) < 1e-5
    model[1].running_mean.untyped_storage().resize_(0)
    with pytest.raises(ArgumentError, match="model: got '1.running_mean: a storage of 0 bytes'"):
        fast(x)


def test_parameters_that_are_not_dense_are_refused() -> None:
    model = small()
    model[4].weight = nn.Parameter(torch.randn(6, 96).to_sparse(), requires_grad=False)
    with pytest.raises(ArgumentError, match="4.weight: torch.sparse_coo', wanted dense tensors"):
        SharedMemory(model)


def test_first_used_in_inference_mode() -> None:
    model, x = small(), pictures(3, (3, 8, 6))
    fast = accelerate(model)
    with torch.inference_mode():
        fast(x)
    for each in (fast, model):
        each(x).sum().backward()
    assert not any(each.is_inference() for each in (*model.parameters(), *model.buffers()))
