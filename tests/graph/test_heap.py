"""Memory that a recording takes while it runs, what it leaves behind, and that it tells the truth all the same."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.graph.cases import leaves
from torch import Tensor, nn

from convscope.graph import values
from convscope.graph.capture import capture, facts, record
from convscope.graph.heap import give_back, sparing

SIDE = 512  # a map of 1 MB


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Deep(nn.Module):
    def __init__(self, layers: int = 4, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Mourned(nn.Module):
    """Leaves a file for each result that is gone, and one that says how many there were before the last call."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.layers = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number == 5:
                (self.path / f"{len(list(self.path.iterdir()))} before the last").touch()
            x = layer(x)
            weakref.finalize(x, (self.path / str(number)).touch)
        return x


def pictures(channels: int = 2) -> Tensor:
    return torch.randn(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.usefixtures("uncollected")
def test_a_recording_keeps_no_tensor(tmp_path: Path) -> None:
    capture(Mourned(tmp_path), torch.randn(1, 2, 3, 3).requires_grad_())
    assert {each.name for each in tmp_path.iterdir()} == {*map(str, range(6)), "3 before the last"}


def test_results_that_are_asked_for_have_their_numbers() -> None:
    x, model = pictures(), Deep()
    results: dict[Any, Any] = {}
    graph = record(model, (x,), results=results)
    first = next(node for node in graph.graph.nodes if node.op == "call_module")
    assert torch.equal(results[first].tensor(), model.layers[0](x))


def test_gradients_of_a_call_that_is_looked_at_are_right() -> None:
    x, model = pictures(), Deep()
    found: list[Tensor] = []
    record(model, (x,), look=lambda y, leaves: found.extend(torch.autograd.grad(y.sum(), leaves)))
    assert torch.equal(found[0], torch.autograd.grad(model(x).sum(), x)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory it has lent")
def test_a_recording_holds_few_results_at_once() -> None:
    model, x = Deep(layers=24, channels=8), pictures(8)  # 48 results of 8 MB
    capture(model, x)
    give_back()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    capture(model, x)
    assert _status("VmHWM") - before < 80
    give_back()
    assert _status("VmRSS") - before < 20


def test_a_spared_call_answers_alike() -> None:
    model, x = nn.Sequential(*[nn.Conv2d(8, 8, 1) for _ in range(12)]), pictures(8).detach()
    with torch.no_grad():
        wanted = model(x)
        with sparing():
            assert sys.getprofile() is not None
            found = model(x)
    assert sys.getprofile() is None
    assert torch.equal(found, wanted)


def test_a_profiler_at_work_goes_on() -> None:
    def event(*_: object) -> None:
        pass

    sys.setprofile(event)
    try:
        with contextlib.suppress(KeyError), sparing():
            assert sys.getprofile() is event
            raise KeyError
        assert sys.getprofile() is event
    finally:
        sys.setprofile(None)


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(field + ":"))


def many(x: Tensor) -> Tensor:
    """Identities and addresses are used again and again."""
    for number in range(100):
        x = (x * 1.01).relu() + number / 100
        x = torch.stack(x.unbind(1)[:2], 1)
    return x


def only_parts(x: Tensor) -> Tensor:
    """What they are parts of has no name any longer when they are written."""
    parts = []
    for number in range(8):
        part = (x * number)[:, :1]
        beside = part[..., 0]
        part += 1
        parts.append((part * 2).sum() + beside.sum())
    whole = torch.stack(parts)
    below = (x + 1).transpose(0, 1)
    below[0].mul_(3)
    return whole.sum() + below * 2


def gone_sizes(x: Tensor) -> Tensor:
    count, sides = (x * 2).size(0), (x + 1)[:, :2].shape
    for _ in range(9):
        x = x.sigmoid()
    return x.reshape(count, -1)[:, : sides[1]]


def written_behind(x: Tensor) -> Tensor:
    """A size is asked for of what is out of date and gone."""
    whole = x * 2
    width = whole.size(1)
    whole.view(-1).add_(1)
    del whole
    for _ in range(5):
        x = x.sigmoid()
    return x.flatten(1)[:, :width]


def tuples(x: Tensor) -> Any:
    """Tuples go as others of their identity come; one of them is returned as it is."""
    for _ in range(20):
        x = torch.cat([each.exp().sin() for each in x.chunk(2, -1)], -1)
    return x.max(1)


def comes_back(x: Tensor) -> Tensor:
    """Nobody but autograd has what another tensor is a view of, and gives it out."""
    view = (x * 3).view(-1)
    for _ in range(5):
        x = x.sigmoid()
    base = view._base
    assert base is not None
    return x + base


def own_gradient(x: Tensor) -> Tensor:
    y = x.exp().sum()
    return x + torch.autograd.grad(y, x, create_graph=True)[0]


def asks_in_vain(x: Tensor) -> Tensor:
    y: Any = x.exp()
    for _ in range(5):
        x = x.sigmoid()
    with contextlib.suppress(RuntimeError):
        found: Tensor = x + y.grad_fn._saved_result
        return found
    return x


def differentiates(x: Tensor) -> Tensor:
    def cubes(y: Tensor) -> Tensor:
        return (y**3).sum()

    with contextlib.suppress(RuntimeError):
        found: Tensor = x + torch.func.grad(cubes)(x)
        return found
    return x


def own_keeping(x: Tensor) -> Tensor:
    y: Any = x.exp()
    with contextlib.suppress(RuntimeError):
        y.grad_fn._raw_saved_result.register_hooks(lambda z: z, lambda z: z)
        return x
    return x * 2


WAYS = [many, only_parts, gone_sizes, written_behind, tuples, comes_back, own_gradient, asks_in_vain, differentiates]
WAYS.append(own_keeping)


class Wayward(nn.Module):
    """Goes ``way``; ``opaque``: and in the end in one that depends on its data, so that it is one step."""

    def __init__(self, way: Callable[[Tensor], Any], opaque: bool = False) -> None:
        super().__init__()
        self.way, self.opaque, self.layer = way, opaque, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        found = self.way(self.layer(x))
        if self.opaque and float(x.sum()) == 1e9:
            return x
        return found


class Within(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Any:
        x = x * 2
        head = x[:, :2]
        found = self.part(x)
        return found, head + 1


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("frugal", ["as it is judged", "too often"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_recorded_is_true(
    way: Callable[[Tensor], Any], frugal: str, opaque: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if frugal == "too often":  # at worst something is one step more
        monkeypatch.setattr(values, "_has_passed", lambda value: value.held is None and not value.given)
    model: nn.Module = Within(Wayward(way, opaque))
    x, other = torch.randn(2, 3, 4, 4).requires_grad_(), torch.randn(2, 3, 4, 4).requires_grad_()
    graph = capture(model, x)
    for each in (x, other):
        torch.testing.assert_close(graph(each), model(each), rtol=0, atol=0)
    if opaque:
        assert "part" in leaves(graph) or "model" in leaves(graph)


@pytest.mark.parametrize("way", WAYS[:6])
def test_a_frugal_recording_finds_what_any_other_does(way: Callable[[Tensor], Any]) -> None:
    model, x = Wayward(way), torch.randn(2, 3, 4, 4)
    frugal, other = capture(model, x), record(model, (x,), results={})
    assert str(frugal.graph) == str(other.graph)
    assert facts(frugal).opaque == facts(other).opaque
