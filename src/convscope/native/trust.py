"""Check before trust: a plan's first call is compared with torch on the caller's own batch.

Compared are the outputs, what the call changes of the model's buffers and, where gradients are wanted, the loss and
the gradients of the input and of every trained parameter. What differs by more than rounding (``rounding.differing``)
is named by the first layer that differs (``blame``), a warning says it once, and torch is used from then on.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.graph import structure
from convscope.graph.heap import give_back, sparing
from convscope.graph.untouched import Untouched
from convscope.lowering.lower import restore
from convscope.lowering.plan import Plan
from convscope.native import blame, chance
from convscope.native.branches import Along, before_rising, every_value
from convscope.native.calling import call
from convscope.native.cost import training_operations
from convscope.native.mixed import Mixed, MixedNetwork
from convscope.native.network import Compiled, NativeNetwork
from convscope.native.rounding import Answers, differing

AnyNetwork = NativeNetwork | MixedNetwork
Ready = Compiled | Mixed
Run = Callable[[Tensor], Any]
Modes = Callable[[], contextlib.AbstractContextManager[Any]]
_MOST = 4e10  # operations of one pass of the comparison: about a second of torch; LeNet-5's whole batch is 2e8
_BLOCK = 16  # pictures that the engine works on together: fewer may go another way
_WANTED = contextvars.ContextVar("_WANTED", default=True)


class DiffersFromTorchWarning(UserWarning):
    """The native engine's plan of a model gives other numbers than torch, which is used in its place."""


@contextlib.contextmanager
def checking(wanted: bool) -> Iterator[None]:
    """Whether networks made in here compare their first calls with torch, unless they are told themselves."""
    token = _WANTED.set(_WANTED.get() and wanted)
    try:
        yield
    finally:
        _WANTED.reset(token)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One comparison: ``what`` was compared of how many ``pictures``, how long it took, and the ``difference`` that
    was found, in words, or None."""

    what: str
    pictures: int
    seconds: float
    difference: str | None

    def __str__(self) -> str:
        took = f"{1e3 * self.seconds:.3g} ms"
        images = f"{self.pictures} picture{'s' if self.pictures != 1 else ''}"
        if self.difference is None:
            return f"compared with torch on {images}, the same but for rounding: {self.what} ({took})"
        return f"differs from torch on {images}: {self.difference} ({took})"


class Trust:
    """What is known of a network beside torch. ``difference`` says in words why it is not to be used, or None.

    ``check``: whether to compare at all; None as ``checking`` says.
    """

    def __init__(self, check: bool | None = None) -> None:
        self.wanted = _WANTED.get() if check is None else check
        self.verdicts: list[Verdict] = []
        self.difference: str | None = None
        self._settled: dict[tuple[Any, ...], object] = {}  # the plan that each was settled for: it must stay alive

    def forward(self, network: AnyNetwork, ready: Ready, x: Tensor) -> Ready | None:
        """What ``network`` may answer ``x`` with, ``ready`` or its like; None: it may not. With gradients where
        autograd is on."""
        gradients = torch.is_grad_enabled()
        return self._asked(network, ready, gradients, x, lambda: self._outputs(network, ready, x, gradients))

    def loss(
        self,
        network: NativeNetwork,
        ready: Compiled,
        images: Tensor,
        targets: Tensor,
        seed: int,
        value: Callable[[Any, Tensor], Tensor],
    ) -> Compiled | None:
        """``forward`` for ``network.loss_and_grad``; ``value(outputs, targets)`` is the loss in torch."""
        if self.difference is None and len(images) != len(targets):
            return ready  # the network says so itself

        def compare() -> tuple[int, str, str | None]:
            return self._loss(network, ready, images, targets, seed, value)

        found = self._asked(network, ready, "loss", images, compare)
        assert found is None or isinstance(found, Compiled)
        return found

    def _asked(
        self,
        network: AnyNetwork,
        ready: Ready,
        kind: object,
        x: Tensor,
        compare: Callable[[], tuple[int, str, str | None]],
    ) -> Ready | None:
        """``ready`` or its like, compared once for each plan, ``kind`` of call, type and size of batch."""
        if self.difference is not None:
            return None
        plan = _plan(ready)
        key = id(plan), kind, x.dtype, _size(len(x))
        if not self.wanted or key in self._settled or not len(x):
            return ready
        network.accept(x)
        return network.ready() if self._judge(key, plan, compare) else None

    def report(self) -> str:
        """One line a comparison."""
        if not self.wanted:
            return "not compared with torch"
        return "\n".join(map(str, self.verdicts)) or "not yet compared with torch"

    def _judge(self, key: tuple[Any, ...], plan: object, compare: Callable[[], tuple[int, str, str | None]]) -> bool:
        begun = time.perf_counter()
        with torch.inference_mode(False):
            pictures, what, difference = compare()
        give_back()
        self._settled[key] = plan
        self.verdicts.append(Verdict(what, pictures, time.perf_counter() - begun, difference))
        self.difference = difference
        if difference is not None:
            warnings.warn(
                f"the native engine differs from torch: {difference}. Torch is used from now on; check=False would "
                "leave the comparison out",
                DiffersFromTorchWarning,
                stacklevel=6,
            )
        return difference is None

    def _outputs(self, network: AnyNetwork, ready: Ready, x: Tensor, gradients: bool) -> tuple[int, str, str | None]:
        x = x[: pictures_compared(ready, len(x))]
        model = network.memory.model
        torchs = in_torch(network, model)

        def own(one: AnyNetwork, modes: Modes) -> Answers:
            run = one if isinstance(one, MixedNetwork) else native(one, 0)
            return answers(run, model, x, gradients, modes)

        def right(modes: Modes) -> Answers:
            return answers(torchs, model, x, gradients, modes)

        what = "outputs, buffers and gradients" if gradients else "outputs and buffers"
        return len(x), *_compared(network, ready, x, 0 if gradients else None, what, own, right)

    def _loss(
        self,
        network: NativeNetwork,
        ready: Compiled,
        images: Tensor,
        targets: Tensor,
        seed: int,
        value: Callable[[Any, Tensor], Tensor],
    ) -> tuple[int, str, str | None]:
        count = pictures_compared(ready, len(images))
        images, targets = images[:count], targets[:count]
        model = network.memory.model
        torchs = in_torch(network, model)

        def own(one: AnyNetwork, modes: Modes) -> Answers:
            assert isinstance(one, NativeNetwork)
            return _own_loss(one, images, targets, seed)

        def right(modes: Modes) -> Answers:
            return answers(torchs, model, images, True, modes, lambda outputs: value(outputs, targets))

        return count, *_compared(network, ready, images, seed, "the loss, its gradients and buffers", own, right)


def _compared(
    network: AnyNetwork,
    ready: Ready,
    x: Tensor,
    seed: int | None,
    what: str,
    own: Callable[[AnyNetwork, Modes], Answers],
    right: Callable[[Modes], Answers],
) -> tuple[str, str | None]:
    """(what was compared, what differs, if anything). Torch drops what the plan drops; where the two cannot be brought
    together, nothing is dropped on either side, and the plan's drops are looked at by themselves. At kinks torch goes
    back the plan's way (``branches``); ``seed`` None: there is no way back."""
    plans = plans_of(ready)
    drops = [record for plan in plans for record in chance.drops(plan)]
    attempts: list[tuple[AnyNetwork, list[Tensor] | None, str]] = [(network, None, what)]
    if drops:
        attempts = [(network.without_chance(), None, f"{what}, with nothing dropped")]
        if isinstance(network, NativeNetwork):
            factors = chance.factors(network.engine, plans[0], len(x), seed or 0, network.used_threads())
            fair = all(map(chance.is_fair, drops, factors))
            attempts = [(network, factors, what), *(attempts if fair else [])]
    found: list[str] = []
    for one, dropped, compared in attempts:
        values = [] if seed is None else _values(one, x, seed)
        first = None
        try:
            if seed is None:  # while the engine's own memory is not there yet
                with sparing():
                    first = right(_modes([], bool(drops), dropped))
                give_back()
            mine = own(one, _modes([], bool(drops), dropped))
            for ordered in _orders(one, values):
                modes = _modes(values, bool(drops), dropped, ordered)
                found = differing(mine, functools.partial(right, modes), first)
                if not found:
                    break
        except chance.OtherDropsError:
            found = ["order in which units are dropped"]
            continue
        if not found:
            return compared, None
    with contextlib.suppress(chance.OtherDropsError):
        return what, blame.first(one, x, found, _modes([], bool(drops), dropped), seed or 0)
    return what, f"the {found[0]}"


def _orders(network: AnyNetwork, values: Sequence[Tensor]) -> list[dict[int, int]]:
    """By what maxima may be told: by the values themselves, and by those before a rising function, which may have made
    them equal. The images are in front of ``values``."""
    before = before_rising(network) if values and isinstance(network, NativeNetwork) else {}
    return [{}, {place + 1: earlier + 1 for place, earlier in before.items()}] if before else [{}]


def _modes(
    values: Sequence[Tensor],
    dropping: bool,
    dropped: Sequence[Tensor] | None,
    ordered: Mapping[int, int] | None = None,
) -> Modes:
    """What is entered while torch computes."""

    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if values:
                stack.enter_context(Along(values, ordered))
            if dropping:
                stack.enter_context(chance.Dropping(dropped))
            yield

    return entered


def _values(network: AnyNetwork, x: Tensor, seed: int) -> list[Tensor]:
    """What the engine puts out on the way, the images in front."""
    images = x.detach()
    if x.dtype == torch.uint8 and network.preprocessing is not None:
        images = network.preprocessing.normalise(x)
    if isinstance(network, NativeNetwork):
        return [images, *every_value(network, x, seed)]
    return [images]


def answers(
    run: Run,
    model: nn.Module,
    x: Tensor,
    gradients: bool,
    modes: Modes = contextlib.nullcontext,
    value: Callable[[Any], Tensor] | None = None,
) -> Answers:
    """Everything that ``run(x)`` gives, by name, with the model left as it was. Its gradients are those of ``value`` of
    the outputs, else of a fixed random combination of them."""
    untouched = Untouched(model)
    try:
        with torch.set_grad_enabled(gradients), modes():
            leaf = x.detach().clone().requires_grad_(gradients and x.is_floating_point() and value is None)
            outputs = run(leaf.clone() if leaf.requires_grad else leaf)
            tensors = structure.tensors(outputs)
            goal = None if value is None else value(outputs)
        if goal is not None:
            found = {"loss": goal.detach().clone()}
        else:
            found = {f"output {place}".removesuffix(" 0"): y.detach().clone() for place, y in enumerate(tensors)}
        found |= {f"buffer {name}": buffer.detach().clone() for name, buffer in model.named_buffers()}
        if gradients:
            wanted: dict[str, Tensor] = {f"gradient of {n}": p for n, p in model.named_parameters() if p.requires_grad}
            if leaf.requires_grad:
                wanted["gradient of the input"] = leaf
            found |= _gradients(tensors if goal is None else [goal], wanted)
    finally:
        untouched.restore()
    return found


def _gradients(outputs: list[Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    asked = [y for y in outputs if y.requires_grad]
    found: Any = [None] * len(wanted)
    if asked and wanted:
        generator = torch.Generator().manual_seed(1)
        # None: 1 for one real number. A tensor there makes torch import sympy, 0.6 s of a training's start.
        deltas = [
            None if not y.ndim and y.is_floating_point() else torch.empty_like(y).normal_(generator=generator)
            for y in asked
        ]
        found = torch.autograd.grad(asked, list(wanted.values()), deltas, allow_unused=True)
    pairs = zip(wanted.items(), found, strict=True)
    return {name: torch.zeros_like(each) if delta is None else delta.detach() for (name, each), delta in pairs}


def native(network: NativeNetwork, seed: int) -> Run:
    """A whole model on the engine, as autograd's node."""

    def run(x: Tensor) -> Any:
        compiled, outputs = call(network, x, seed=seed)
        return restore(compiled.plan.structure, outputs)

    return run


def in_torch(network: AnyNetwork, model: nn.Module) -> Run:
    """The model in torch, for images as ``network`` takes them."""
    normalise = None if network.preprocessing is None else network.preprocessing.normalise
    return lambda x: model(normalise(x) if x.dtype == torch.uint8 and normalise is not None else x)


def _own_loss(network: NativeNetwork, images: Tensor, targets: Tensor, seed: int) -> Answers:
    model = network.memory.model
    untouched = Untouched(model)
    try:
        loss, _ = network.loss_and_grad(images, targets, seed)
        found = {"loss": torch.tensor(loss)}
        found |= {f"buffer {name}": buffer.detach().clone() for name, buffer in model.named_buffers()}
        trained = set(network.ready().trained)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                got = parameter.grad if name in trained else None
                found[f"gradient of {name}"] = torch.zeros_like(parameter) if got is None else got.detach().clone()
    finally:
        untouched.restore()
    return found


def _plan(ready: Ready) -> object:
    """What stays the same as long as nothing of the model changes."""
    return ready.plan if isinstance(ready, Compiled) else ready


def _size(images: int) -> int:
    """Batches that go the same way."""
    return 0 if images == 1 else 1 if images < _BLOCK else 2


def plans_of(ready: Ready) -> list[Plan]:
    return [ready.plan] if isinstance(ready, Compiled) else [each.ready().plan for each in ready.networks.values()]


def pictures_compared(ready: Ready, images: int) -> int:
    """How many of a batch are compared."""
    return min(images, max(2, int(_MOST / max(sum(map(training_operations, plans_of(ready))), 1))))
