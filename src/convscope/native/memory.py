"""The buffers that the engine computes on: parameters, gradients and state (running statistics, fixed codes)."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError
from convscope.graph.guards import Guard
from convscope.layers.flat import FlatParameters, Slice
from convscope.lowering.plan import Plan
from convscope.native.availability import engine

_KEPT_GUARDS = 16  # constellations of modes


@dataclasses.dataclass(frozen=True)
class _Held:
    """A tensor of the model: the dictionary that holds it under ``attribute``, and what it was when last looked at."""

    name: str
    owner: dict[str, Any]
    attribute: str
    tensor: torch.Tensor
    shape: torch.Size


class SharedMemory:
    """One flat buffer each for the parameters, gradients and state of ``model``.

    A parameter whose memory is its own alone is moved into the buffer once and is from then on a view of its part
    (``FlatParameters.slot``): whatever torch does to it in place the engine sees, at no cost. Where another tensor
    shares its memory (``p.data`` kept by weight averaging, a state dict, other processes), or where it was exchanged
    for the moment, moving it would part the two; then the parameters' numbers are copied before every pass into a
    buffer of the engine's own, and nothing of the model's is written. ``take`` moves all parameters at the start
    whoever shares their memory, for whom the model belongs to, a training run. State is copied in before a pass and,
    where the pass changes it, back.

    ``check``, to be called before every pass, proves that each tensor is what and where it was and else puts things
    right. ``version`` goes up when places have changed, ``structure`` when the model has other layers, parameters or
    shapes than before, so that plans made of it are out of date, ``exchanges`` when a parameter has been given other
    numbers in another way than in place, which torch would notice. ``lent`` says that some parameter is another
    program's tensor (``torch.func.functional_call``), there for one call and gone at the backward pass.

    Raises ArgumentError for parameters that are not float32 on the CPU or whose storage was freed.
    """

    def __init__(self, model: nn.Module, *, take: bool = False) -> None:
        self.model = model
        self.version = 0
        self.structure = 0
        self.exchanges = 0
        self.lent = False
        self._guards: dict[tuple[bool, ...], Guard] = {}
        self._swept = False
        self._constants = 0
        self._scratch = 0
        self._filled: object = None
        self._build(take)

    def _build(self, take: bool = False) -> None:
        _check_parameters(self.model)
        self.flat = FlatParameters(self.model, whole=True, contiguous=True, reserve=self._constants, move=False)
        self.places = {each.name: each.start for each in (*self.flat.slices, *self.flat.frozen)}
        self.slices: dict[str, Slice] = {each.name: each for each in (*self.flat.slices, *self.flat.frozen)}
        self._slots: dict[str, torch.Tensor] = {}  # the views that parameters were given
        self._first = self.flat.memory.data_ptr()
        self._state = _state(self.model)
        self.state_places, length = {}, 0
        for each in self._state:
            self.state_places[each.name] = length
            length += each.tensor.numel()
        self._own_state = length
        with torch.inference_mode(False):
            self.state = torch.zeros(length + self._scratch, dtype=torch.float32, device="cpu")
            self._borrowed: torch.Tensor | None = None  # the parameters' copies, where they cannot be moved
        self._state_views = [
            self.state[self.state_places[each.name] :][: each.tensor.numel()].view(each.shape) for each in self._state
        ]
        # The engine takes arrays; numpy's cross the border in 0.2 µs, torch's in 4 µs.
        self._home = (self.flat.memory.numpy(), self.flat.gradient_memory.numpy(), self.state.numpy())
        self.arrays = self._home
        self._filled = None
        self.version += 1
        self._note_owners()
        self._settle(take)
        self._make_gradients()

    def _note_owners(self) -> None:
        """Who holds which tensor, and where a parameter must lie."""
        self.modules = list(self.model.modules())
        by_id = {id(each.parameter): each for each in self.slices.values()}
        self._parameters: list[tuple[torch.Tensor, int, torch.Size, tuple[int, ...]]] = []
        self._others: list[tuple[dict[str, Any], str, object]] = []  # children, and parameters that are None
        for module in self.modules:
            for attribute, held in module._parameters.items():
                place = by_id.get(id(held))
                if place is None or held is None:
                    self._others.append((module._parameters, attribute, held))
                else:
                    address = self._first + 4 * place.start if place.stop > place.start else 0
                    self._parameters.append((held, address, place.shape, place.strides))
            self._others += [(module._modules, attribute, held) for attribute, held in module._modules.items()]
        self._owners = [each for module in self.modules for each in (module._parameters, module._modules)]
        self._contents = [[*itertools.chain.from_iterable(each.items())] for each in self._owners]
        self._noted = self._dictionaries()
        self._unchanged = engine().unchanged

    def _dictionaries(self) -> list[dict[str, Any]]:
        """Where the modules hold what they hold."""
        return [each for m in self.modules for each in (m._parameters, m._modules, m._buffers)]

    @property
    def borrowed(self) -> bool:
        """Whether the engine computes on copies of the parameters: they are not views of ``flat``."""
        return self.arrays is not self._home

    def modes(self) -> tuple[bool, ...]:
        """What plans depend on beside the model's layers: who trains, and which parameters want gradients."""
        training = [module.training for module in self.modules]
        return (*training, *[each.parameter.requires_grad for each in self.slices.values()])

    def check_model(self) -> tuple[bool, ...]:
        """See whether the model is what plans were made from: another attribute, hook, class or mode of torch than at
        the first look in these modes counts as another ``structure``. Returns the ``modes``."""
        modes = self.modes()
        guard = self._guards.get(modes)
        if guard is not None and guard.holds():
            return modes
        if not all(map(operator.is_, self._dictionaries(), self._noted)):  # a module has others altogether
            self._rebuild()
            self._read_state()
            modes = self.modes()
        if guard is not None:
            self._guards.clear()
            self.structure += 1
        elif len(self._guards) >= _KEPT_GUARDS:
            self._guards.pop(next(iter(self._guards)))
        self._guards[modes] = Guard(self.model, engine().unchanged)
        return modes

    def make_room(self, plan: Plan) -> None:
        """See to it that the plan's constants and own state fit behind the model's."""
        constants = sum(each.size for each in plan.constants)
        scratch = sum(plan.scratch.values())
        if constants > self._constants or scratch > self._scratch:
            self._constants, self._scratch = max(constants, self._constants), max(scratch, self._scratch)
            self._slots.clear()
            exchanges = self.exchanges  # new places, the same numbers
            self._build()
            self.exchanges = exchanges

    def bind(self, plan: Plan) -> list[dict[str, Any]]:
        """The plan's records with places in these buffers."""
        parameters, state = dict(self.places), dict(self.state_places)
        at = self.flat.reserved.start
        for constant in plan.constants:
            parameters[constant.name] = at
            at += constant.size
        at = self._own_state
        for name, size in plan.scratch.items():
            state[name] = at
            at += size
        return plan.bind(parameters, state)

    def check(self) -> None:
        """Prove that the buffers hold the model as it is, or see to it."""
        exchanged = not self._unchanged(self._owners, self._contents)
        away = False
        for tensor, address, shape, strides in self._parameters:
            if (
                tensor.data_ptr() != address
                or tensor.shape != shape
                or tensor.stride() != strides
                or tensor.dtype is not torch.float32
            ):
                away = True
        if exchanged or away:
            self._repair(exchanged)
        elif self.borrowed:
            self._compute_on(None)
        if not self._read_state():
            self._rebuild()
            self._read_state()

    def _rebuild(self) -> None:
        self._slots.clear()
        self._build()
        self.structure += 1
        self.exchanges += 1

    def _repair(self, exchanged: bool) -> None:
        """Something is not what or where it was. Other memory, or another parameter of the same shape, is taken up;
        everything else makes new buffers."""
        now = dict(self.model.named_parameters())
        same = now.keys() == self.places.keys()
        same = same and all(now[name].shape == each.shape for name, each in self.slices.items())
        if exchanged:
            same = same and len(self.modules) == len(list(self.model.modules()))
            same = same and all(owner.get(attribute) is held for owner, attribute, held in self._others)
        if not same:
            self._rebuild()
            return
        _check_parameters(self.model)
        if exchanged:  # the buffers stay, for an optimiser may work on them
            for held in (self.flat.slices, self.flat.frozen):
                held[:] = [dataclasses.replace(each, parameter=now[each.name]) for each in held]
            self.slices = {each.name: each for each in (*self.flat.slices, *self.flat.frozen)}
            self._note_owners()
        self._settle()
        if exchanged:
            self._make_gradients()

    def _compute_on(self, borrowed: torch.Tensor | None) -> None:
        """Let the engine read the parameters in ``borrowed``, or (None) where they are at home."""
        if self.borrowed != (borrowed is not None):
            self._filled = None
        self.arrays = self._home if borrowed is None else (borrowed.numpy(), *self._home[1:])

    def _settle(self, take: bool = False) -> None:
        """Move into the buffer every parameter that may be; where one may not, copy all of them."""
        away = self._move(take)
        if away and not self._swept:
            # Who shares the memory may be a view in a dead cycle, as autograd leaves them: a model was copied at every
            # call until the collector came by, 13 MB in 2.4 ms for MobileNetV2.
            self._swept = True
            gc.collect()
            away = self._move(take)
        if not away:
            self._compute_on(None)
            return
        if self._borrowed is None:
            with torch.inference_mode(False):
                self._borrowed = self.flat.memory.clone()
        for place in self.slices.values():
            self._put(place, self.flat.view(self._borrowed, place))
        self._compute_on(self._borrowed)

    def _move(self, take: bool) -> bool:
        """Move every parameter that may be; whether some had to stay where it is."""
        away = self.lent = False
        for name, place in self.slices.items():
            if self.flat.at_home(place):
                continue
            # Proof that nobody else can see the parameter's memory, nor the part of the buffer it is to have.
            own = isinstance(place.parameter, nn.Parameter)
            self.lent = self.lent or not own
            unshared = own and _users(place.parameter) == 1
            unseen = name not in self._slots or _users(self._slots[name]) == 1
            if take or (unshared and unseen):
                self._put(place, self.flat.view(self.flat.memory, place))
                self._slots[name] = self.flat.take(place)
            else:
                away = True
        return away

    def _put(self, place: Slice, where: torch.Tensor) -> None:
        """Copy a parameter's numbers to where the engine will read them, and note whether what it has read were
        others."""
        with torch.no_grad():
            memory = self._borrowed if self.borrowed and self._borrowed is not None else self.flat.memory
            before = self.flat.view(memory, place)
            if not torch.equal(before, place.parameter):
                self.exchanges += 1
            where.copy_(place.parameter)

    def tensors(self, names: Iterable[str]) -> list[torch.Tensor]:
        """The model's parameters and buffers of these names."""
        wanted = frozenset(names)
        if not wanted:
            return []
        found = [each.owner[each.attribute] for each in self._state if each.name in wanted]
        return [*(self.slices[name].parameter for name in wanted & self.slices.keys()), *found]

    def _read_state(self) -> bool:
        """Copy the model's buffers in; False where it has others than before."""
        current = []
        for each in self._state:
            found = each.owner.get(each.attribute)
            if not isinstance(found, torch.Tensor) or found.shape != each.shape:
                return False
            if found.dtype is not torch.float32 or found.device.type != "cpu" or not found.data_ptr():
                _check_tensor(each.name, found)
            current.append(found)
        if current:
            with torch.no_grad():
                torch._foreach_copy_(self._state_views, current)
        return True

    def write_state(self, names: Iterable[str]) -> None:
        """Copy these buffers of the model back, which a pass has changed."""
        wanted = frozenset(names)
        with torch.no_grad():
            for each, view in zip(self._state, self._state_views, strict=True):
                if each.name in wanted:
                    each.owner[each.attribute].copy_(view)

    def _make_gradients(self) -> None:
        """Views of the gradient buffer, each with its address."""
        first = self.flat.gradient_memory.data_ptr()
        self._gradients = {
            name: (self.flat.slot(self.flat.gradient_memory, place), first + 4 * place.start)
            for name, place in self.slices.items()
        }

    def fill_constants(self, plan: Plan) -> None:
        """Write the plan's constants, where another plan's stand or they may have changed."""
        fresh = self._filled is not plan
        memory = self._borrowed if self.borrowed and self._borrowed is not None else self.flat.memory
        at = self.flat.reserved.start
        for constant in plan.constants:
            if fresh or not constant.fixed:
                memory[at : at + constant.size] = constant.value()
            at += constant.size
        self._filled = plan

    def attach_gradients(self, names: Iterable[str]) -> None:
        """Point ``.grad`` of these parameters into the gradient buffer."""
        for name in names:
            place, (gradient, address) = self.slices[name], self._gradients[name]
            if gradient.data_ptr() != address and place.start != place.stop:  # ``.grad.data`` was exchanged
                gradient = self.flat.slot(self.flat.gradient_memory, place)
                self._gradients[name] = gradient, address
            if place.parameter.grad is not gradient:
                place.parameter.grad = gradient


def _state(model: nn.Module) -> list[_Held]:
    """The model's buffers of numbers; counters and tables are none. Each once, whoever shares it."""
    found, seen = [], set()
    for prefix, module in model.named_modules():
        for attribute, held in module._buffers.items():
            if held is not None and id(held) not in seen and _is_number(held):
                seen.add(id(held))
                name = f"{prefix}.{attribute}" if prefix else attribute
                _check_tensor(name, held)
                found.append(_Held(name, module._buffers, attribute, held, held.shape))
    return found


def _is_number(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point()


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        _check_tensor(name, parameter)


def _check_tensor(name: str, tensor: torch.Tensor) -> None:
    """ArgumentError unless the engine may read the tensor's memory."""
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ArgumentError("model", f"{name}: {tensor.dtype} on {tensor.device}", "float32 on the CPU")
    if tensor.layout != torch.strided:
        raise ArgumentError("model", f"{name}: {tensor.layout}", "dense tensors, torch.strided")
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    needed = 4 * (tensor.storage_offset() + last + 1) if tensor.numel() else 0
    held = tensor.untyped_storage().nbytes()
    if held < needed or (needed and not tensor.data_ptr()):
        raise ArgumentError("model", f"{name}: a storage of {held} bytes", f"one of {needed} bytes, not freed")


def _users(tensor: torch.Tensor) -> int:
    """How many tensors share the storage of ``tensor``, itself counted; more than one where that cannot be told."""
    storage = tensor.untyped_storage()
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None or tensor.is_shared():  # type: ignore[no-untyped-call]
        return 2
    return int(count(storage._cdata)) - 1  # ``storage`` is one more
