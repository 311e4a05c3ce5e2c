"""What models remember from call to call is put back after a call that only looks; what cannot be is not used up."""

from __future__ import annotations

import array
import collections
import functools
import io
import itertools
import queue
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convscope import accelerate, count, trace
from convscope.errors import LoweringError
from convscope.graph.capture import HiddenStateError, capture
from convscope.graph.holding import holds

X = torch.randn(2, 1, 6, 6)
CALLS, HISTORY = 0, [0.0]
NUMBERS = itertools.count(1)


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


SLOT: Any = vars(Slotted)["n"]


class Computed(Slotted):
    """The slot's name stands for a property here, which computes and cannot be set."""

    __slots__ = ()

    @property  # type: ignore[override]
    def n(self) -> float:
        return float(SLOT.__get__(self))

    @n.setter
    def n(self, value: int) -> None:
        if value:
            raise AttributeError("n")
        SLOT.__set__(self, value)


class Counter:
    n = 0

    def step(self) -> int:
        self.n += 1
        return self.n


class Scaled(nn.Module):
    """A convolution, times what ``factor`` says."""

    times = 0

    def __init__(self, factor: Callable[[Any], float], **held: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.factor = nn.Conv2d(1, 2, 3), factor
        for name, item in held.items():
            setattr(self, name, item)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) * float(self.factor(self))
        return y


def _yields() -> Iterator[float]:
    while True:
        yield 0.5
        yield 1.5


def _queue(kind: Any) -> Any:
    made = kind()
    for number in range(1, 60):
        made.put(float(number))
    return made


def _closure() -> Callable[[], int]:
    n = 0

    def step() -> int:
        nonlocal n
        n += 1
        return n

    return step


def _default(seen: list[int] = [0]) -> int:  # noqa: B006
    seen[0] += 1
    return seen[0]


def _own_attribute() -> int:
    found: int = vars(_own_attribute).get("n", 0) + 1
    vars(_own_attribute)["n"] = found
    return found


def _global(m: Any) -> float:
    global CALLS
    CALLS += 1
    return CALLS


def _global_list(m: Any) -> float:
    HISTORY[0] += 1
    return HISTORY[0]


def _class(m: Any) -> float:
    type(m).times += 1
    return float(type(m).times)


def _first(m: Any) -> float:
    m.it.move_to_end(next(iter(m.it)))
    return float(next(iter(m.it.values())))


def _add(m: Any) -> float:
    m.it[0] += 1
    return float(m.it[0])


def _step(m: Any) -> float:
    m.it.n += 1
    return float(m.it.n)


def _add_inside(m: Any) -> float:
    m.it[0][0] += 1
    return float(m.it[0][0])


def _factor(model: Any) -> float:
    with torch.no_grad():
        return float((model(X) / model.conv(X)).mean())


HIDDEN: dict[str, Callable[[], Scaled]] = {
    "iterator": lambda: Scaled(lambda m: next(m.it), it=iter([0.5, 1.5] * 30)),
    "cycle": lambda: Scaled(lambda m: next(m.it), it=itertools.cycle([0.5, 1.5])),
    "generator": lambda: Scaled(lambda m: next(m.it), it=_yields()),
    "loop": lambda: Scaled(lambda m: next(number for number in m.it), it=map(float, range(1, 60))),
    "inside": lambda: Scaled(lambda m: next(m.box["it"][0]), box={"it": [iter([0.5, 1.5] * 30)]}),
    "in a tuple": lambda: Scaled(lambda m: next(m.it[0]), it=(_yields(),)),
    "its method": lambda: Scaled(lambda m: m.it(), it=itertools.count(1).__next__),
    "partial": lambda: Scaled(lambda m: m.it(), it=functools.partial(next, itertools.count(1))),
    "global": lambda: Scaled(lambda m: next(NUMBERS)),
    "file": lambda: Scaled(lambda m: m.it.readline(), it=io.StringIO("0.5\n1.5\n" * 30)),
    "queue": lambda: Scaled(lambda m: m.it.get(), it=_queue(queue.SimpleQueue)),
}
PUT_BACK: dict[str, Callable[[], Scaled]] = {
    "global": lambda: Scaled(_global),
    "list in a global": lambda: Scaled(_global_list),
    "class": lambda: Scaled(_class),
    "slots": lambda: Scaled(_step, it=Slotted()),
    "object in a namespace": lambda: Scaled(_step, it=types.SimpleNamespace(n=1)),
    "array of numpy": lambda: Scaled(_add, it=np.zeros(2)),
    "array": lambda: Scaled(_add, it=array.array("d", [0])),
    "bytes": lambda: Scaled(_add, it=bytearray(2)),
    "list in a tuple": lambda: Scaled(_add_inside, it=([0.0],)),
    "closure": lambda: Scaled(lambda m: m.it(), it=_closure()),
    "default": lambda: Scaled(lambda m: m.it(), it=_default),
    "function": lambda: Scaled(lambda m: m.it(), it=_own_attribute),
    "method": lambda: Scaled(lambda m: m.it(), it=Counter().step),
    "queue": lambda: Scaled(lambda m: m.it.get(), it=_queue(queue.Queue)),
    "order": lambda: Scaled(_first, it=collections.OrderedDict(a=1.0, b=2.0, c=3.0)),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_cannot_be_put_back_is_refused_before_it_is_used(kind: str) -> None:
    model = HIDDEN[kind]()
    for look in (capture, trace):
        with pytest.raises(HiddenStateError, match="a model whose state can be put back after a call"):
            look(model, X)
    with pytest.raises(HiddenStateError):
        count(model, (1, 6, 6))
    with pytest.raises(LoweringError, match="is an iterator, a file or a queue, which every call moves on"):
        accelerate(model, check=False)(X)
    numbers = [_factor(model) for _ in range(2)]
    if kind != "global":
        assert numbers == pytest.approx([0.5, 1.5]) or numbers == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("kind", PUT_BACK)
def test_what_is_remembered_is_put_back_and_not_frozen(kind: str) -> None:
    model = PUT_BACK[kind]()
    before = _factor(model)
    assert torch.equal(trace(model, X).logits, capture(model, X)(X))
    count(model, (1, 6, 6))
    with pytest.raises(LoweringError, match="the model changes this in every call"):
        accelerate(model, check=False)(X)
    after = _factor(model)
    assert after == pytest.approx(before + 1)


def test_what_is_held_but_not_used_is_no_hindrance() -> None:
    model = Scaled(lambda m: 2.0, log=io.StringIO(), ids=itertools.count())
    y = model(X)
    assert torch.allclose(accelerate(model)(X), y, atol=1e-5)
    assert torch.allclose(trace(model, X).logits, y, atol=1e-5)
    assert next(model.ids) == 0  # type: ignore[call-overload]


def test_a_guest_s_buffers_are_put_back() -> None:
    guest = nn.BatchNorm2d(1)
    model = Scaled(lambda m: float(m.it[0](X).detach().sum()) * 0 + 1, it=[guest])
    capture(model, X)
    assert guest.running_mean is not None
    assert float(guest.running_mean.abs().sum()) == 0


def test_exchanged_parameters_of_a_part_are_not_taken_for_its_own() -> None:
    class Lends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(self.conv, {"weight": self.conv.weight * 3}, (x,))
            return found

    model = Lends()
    assert torch.allclose(trace(model, X).logits, model(X), atol=1e-6)
    with pytest.raises(LoweringError, match="exchanges the parameters or buffers of a part for a while"):
        accelerate(model, check=False)(X)


def test_inference_mode_within_a_model() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                z = x.mean()
            y: Tensor = self.conv(x) + z.clone()
            return y

    model = Partly()
    assert torch.allclose(trace(model, X).logits, model(X), atol=1e-6)
    with pytest.raises(LoweringError, match="computes in inference mode"):
        accelerate(model, check=False)(X)


def test_large_arrays_and_plain_values_are_left_aside() -> None:
    assert not holds(np.zeros(1 << 22))
    assert not holds(3)
    assert holds(np.zeros(4))
    assert holds(Slotted())


def test_slots_are_read_and_put_back_past_properties_of_their_name() -> None:
    held = Computed()

    def count_up(model: Any) -> float:
        SLOT.__set__(held, SLOT.__get__(held) + 1)
        return held.n

    model = Scaled(count_up, held=held).eval()
    trace(model, X)
    assert held.n == 0.0
    assert torch.equal(model(X), model.conv(X))
    assert held.n == 1.0
