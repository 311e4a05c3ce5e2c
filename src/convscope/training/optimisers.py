"""The descent step: torch's optimisers over the flat buffer, with a learning rate for every part of the model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.flat import FlatParameters, Slice
from convscope.training.config import Config

#: Our short names: the class, what we set beside the learning rate, and the usual learning rate.
OPTIMISERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], float]] = {
    "sgd": (torch.optim.SGD, {}, 0.01),
    "nesterov": (torch.optim.SGD, {"nesterov": True}, 0.01),
    "adam": (torch.optim.Adam, {}, 1e-3),
    "adamw": (torch.optim.AdamW, {}, 1e-3),
    "rmsprop": (torch.optim.RMSprop, {}, 1e-3),
    "adagrad": (torch.optim.Adagrad, {}, 1e-2),
}

# These treat every number by itself, so that a flat buffer gives the same steps as one tensor a parameter.
_ELEMENTWISE = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop")
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # on CPUs and GPUs
# Optimisers made of single operations go through memory once an operation: what they do at a time stays in the cache.
# Adadelta over 5,991,000 numbers, ms on one core with 2 MiB of it: whole 43.0; 4,096 at a time 50.5, 16,384 24.4,
# 65,536 20.5, 131,072 19.7, 262,144 22.1.
_AT_A_TIME = 131_072
# They need the loss computed again inside a step, or sparse gradients.
_REFUSED = {"LBFGS": "it evaluates the loss several times a step", "SparseAdam": "it takes sparse gradients only"}


def optimiser_names() -> list[str]:
    """Names that ``optimiser`` takes: ours and torch.optim's classes."""
    classes = [
        name
        for name, each in vars(torch.optim).items()
        if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer) and each is not torch.optim.Optimizer
    ]
    return [*OPTIMISERS, *(name for name in classes if name not in _REFUSED)]


def capturable(optimiser: str) -> bool:
    """Whether its step can be part of a CUDA graph: it never waits for a number from the GPU."""
    kind, _ = _find(optimiser)
    return kind in _FUSED or "capturable" in inspect.signature(kind).parameters


def usual_learning_rate(optimiser: str) -> float:
    """The learning rate that stands in where the configuration gives none."""
    if optimiser in OPTIMISERS:
        return OPTIMISERS[optimiser][2]
    default = inspect.signature(_find(optimiser)[0]).parameters["lr"].default
    return float(default) if isinstance(default, int | float) else 1e-3


def lean(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """``kind`` without what torch wraps around a step for its compiler and its profiler.

    That is 35 of the 100 µs that Adam takes for 61,706 numbers, and the first optimiser of a program would import the
    compiler: one second of the three in which ``convscope train`` starts.
    """
    descend = inspect.unwrap(kind.step)

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        with torch.no_grad():
            descend(self, closure)

    step.hooked = True  # type: ignore[attr-defined]  # or the profiler's hook would be put around it again
    own = {
        "step": step,
        "lean_of": kind,
        "add_param_group": inspect.unwrap(kind.add_param_group),
        "__module__": kind.__module__,
    }
    return type(kind.__name__, (kind,), own)


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Numbers of a tensor of the optimiser's memory that are numbers of a parameter's own: places in both."""

    here: slice
    there: slice


class Descent:
    """``step(rate)`` moves the parameters against their gradients.

    ``learning_rates`` of the configuration maps a prefix of parameter names to a factor on the rate; the longest prefix
    that fits decides, 0 leaves the parameters as they are. ``fused`` uses torch's one-kernel optimisers where it has
    them; ``capturable`` makes the step fit for a CUDA graph. Raises UnknownNameError for an unknown optimiser, option
    or prefix, and ArgumentError for a value that the optimiser refuses.
    """

    def __init__(self, config: Config, parameters: FlatParameters, capturable: bool = False) -> None:
        self.parameters = parameters
        self.gradient_clip = config.gradient_clip
        self.rate_factor: list[float] = []
        self._rate: float | None = None
        kind, options = _find(config.optimiser)
        options |= _known_options(kind, config, capturable, parameters.values.device)
        factors = [rate_factor(place.name, config.learning_rates) for place in parameters]
        self._check_prefixes(config.learning_rates)
        groups: list[dict[str, Any]] = []
        self._members: list[list[tuple[int, int]]] = []  # for every group and proxy: start and stop in the flat buffer
        if kind.__name__ in _ELEMENTWISE:
            one_pass = options.get("fused") or parameters.values.device.type != "cpu"
            for factor, start, stop in parameters.segments(factors):
                if factor:
                    length = max(stop - start, 1) if one_pass else _AT_A_TIME
                    parts = [(begin, min(begin + length, stop)) for begin in range(start, stop, length)]
                    self._add_group(groups, factor, parts or [(start, stop)])
        else:
            for factor in dict.fromkeys(each for each in factors if each):
                places = [each for each, its in zip(parameters, factors, strict=True) if its == factor]
                self._add_group(groups, factor, [(each.start, each.stop) for each in places])
        if not groups:
            raise ArgumentError("learning_rates", config.learning_rates, "a factor above 0 for at least one parameter")
        rate = config.learning_rate or usual_learning_rate(config.optimiser)
        first_rate: float | torch.Tensor = rate
        if capturable:
            first_rate = torch.tensor(rate, device=parameters.values.device)
        try:
            self.optimiser = lean(kind)(groups, lr=first_rate, **options)
        except (ValueError, TypeError, RuntimeError) as problem:
            given = {"optimiser": config.optimiser, **config.optimiser_options}
            raise ArgumentError(
                "optimiser_options", given, f"options that {kind.__name__} takes", str(problem)
            ) from None

    def _add_group(self, groups: list[dict[str, Any]], factor: float, members: list[tuple[int, int]]) -> None:
        flat, proxies = self.parameters, []
        whole_shapes = {(place.start, place.stop): place for place in flat}
        for start, stop in members:
            place = whole_shapes.get((start, stop))
            value = flat.values[start:stop] if place is None else flat.view(flat.values, place)
            proxy = nn.Parameter(value)
            proxy.grad = flat.gradients[start:stop] if place is None else flat.view(flat.gradients, place)
            proxies.append(proxy)
        groups.append({"params": proxies})
        self.rate_factor.append(factor)
        self._members.append(members)

    def _check_prefixes(self, learning_rates: dict[str, float]) -> None:
        names = [place.name for place in self.parameters]
        for prefix in learning_rates:
            if not any(_covers(prefix, name) for name in names):
                layers = {name.rsplit(".", 1)[0] for name in names}
                raise UnknownNameError("learning_rates", prefix, [*layers, *names])

    def step(self, rate: float) -> None:
        """One descent step at learning rate ``rate``."""
        if rate != self._rate:
            self.set_rate(rate)
        self.apply()

    def set_rate(self, rate: float) -> None:
        for group, factor in zip(self.optimiser.param_groups, self.rate_factor, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        self._rate = rate

    def apply(self) -> None:
        """Clip the gradient and step, at the rate last set; nothing here waits for a GPU."""
        if self.gradient_clip is not None:
            gradients = self.parameters.gradients
            gradients.mul_((self.gradient_clip / (gradients.norm() + 1e-12)).clamp(max=1.0))
        self.optimiser.step()

    def state(self) -> dict[str, torch.Tensor]:
        """The optimiser's memory, "<parameter>/<quantity>" → tensor, the same however many parts it was kept in."""
        saved: dict[str, torch.Tensor] = {}
        for place, memory, quantity, piece in self._memories():
            key, value = f"{place.name}/{quantity}", memory[quantity]
            if not isinstance(value, torch.Tensor):
                value = torch.tensor(value, dtype=torch.float64)  # a counter
            if piece is None:
                saved[key] = value.detach().clone()
                continue
            if key not in saved:
                saved[key] = _laid_out(place, value)
            _numbers(saved[key])[piece.there].copy_(_numbers(value)[piece.here])
        return saved

    def load_state(self, saved: dict[str, torch.Tensor]) -> None:
        """Put back what ``state`` gave; that of an optimiser which had not stepped yet is empty.

        Raises ArgumentError for the memory of another optimiser or model.
        """
        if not saved:
            return
        self._fill_memory()
        for place, memory, quantity, piece in self._memories():
            key, value = f"{place.name}/{quantity}", memory[quantity]
            if key not in saved:
                raise ArgumentError("optimiser", key, "the saved memory of the same optimiser for the same model")
            if not isinstance(value, torch.Tensor):
                memory[quantity] = type(value)(saved[key].item())
            elif piece is None:
                value.copy_(saved[key])
            else:
                ordered = _laid_out(place, value).copy_(saved[key])
                _numbers(value)[piece.here].copy_(_numbers(ordered)[piece.there])

    def _fill_memory(self) -> None:
        """Let the optimiser make its memory, by a step of length 0 with gradients of 0; it is filled after that."""
        kept_values, kept_gradients = self.parameters.values.clone(), self.parameters.gradients.clone()
        self.parameters.gradients.zero_()
        self.set_rate(0.0)
        self._rate = None
        self.optimiser.step()
        self.parameters.values.copy_(kept_values)
        self.parameters.gradients.copy_(kept_gradients)

    def _memories(self) -> Iterator[tuple[Slice, dict[str, Any], str, _Piece | None]]:
        """Every quantity of the optimiser's memory for every parameter: the parameter, the memory it is in and its name
        there; and which numbers of both belong to each other, None where the quantity is one for all of them."""
        for group, members in zip(self.optimiser.param_groups, self._members, strict=True):
            for proxy, (start, stop) in zip(group["params"], members, strict=True):
                memory = self.optimiser.state[proxy]
                for place in self.parameters:
                    first, last = max(start, place.start), min(stop, place.stop)
                    if first >= last:
                        continue
                    piece = _Piece(slice(first - start, last - start), slice(first - place.start, last - place.start))
                    for quantity, value in list(memory.items()):
                        each = isinstance(value, torch.Tensor) and value.ndim > 0 and value.numel() == stop - start
                        own = (start, stop) == (place.start, place.stop)
                        yield place, memory, quantity, piece if each and not own else None


def rate_factor(name: str, learning_rates: dict[str, float]) -> float:
    """The factor of the longest prefix that covers parameter ``name``; 1 when none does."""
    fitting = [prefix for prefix in learning_rates if _covers(prefix, name)]
    return float(learning_rates[max(fitting, key=len)]) if fitting else 1.0


def _covers(prefix: str, name: str) -> bool:
    return prefix == "" or name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _laid_out(place: Slice, like: torch.Tensor) -> torch.Tensor:
    """An empty tensor of a parameter's shape, its numbers in the order that they have in the buffer."""
    return torch.empty_strided(place.shape, place.strides, dtype=like.dtype, device=like.device)


def _numbers(value: torch.Tensor) -> torch.Tensor:
    """A dense tensor's numbers, in the order in which they lie in memory."""
    return torch.as_strided(value, (value.numel(),), (1,), value.storage_offset())


def _find(name: str) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    if name in OPTIMISERS:
        kind, options, _ = OPTIMISERS[name]
        return kind, dict(options)
    if name in _REFUSED:
        raise ArgumentError("optimiser", name, "an optimiser that works with one gradient a step", _REFUSED[name])
    if name not in optimiser_names():
        raise UnknownNameError("optimiser", name, optimiser_names())
    return getattr(torch.optim, name), {}


def _known_options(
    kind: type[torch.optim.Optimizer], config: Config, capturable: bool, device: torch.device
) -> dict[str, Any]:
    """The configuration's settings that this optimiser has, and its own options by name."""
    known = inspect.signature(kind).parameters
    for option in config.optimiser_options:
        if option not in known or option in ("params", "lr"):
            allowed = [name for name in known if name not in ("params", "lr")]
            raise UnknownNameError(f"option of optimiser {config.optimiser!r}", option, allowed)
    options: dict[str, Any] = {}
    if kind is torch.optim.SGD:
        options["momentum"] = config.momentum
    if config.weight_decay or "weight_decay" in known:
        if "weight_decay" not in known:
            raise ArgumentError("weight_decay", config.weight_decay, f"0: {kind.__name__} has no weight decay")
        options["weight_decay"] = config.weight_decay
    # 61,706 numbers on one core: Adam 62 µs fused and flat, 137 fused in ten tensors, 254 foreach, 317 in single
    # operations; SGD with momentum 35, 46, 81, 94.
    if kind in (*_FUSED, torch.optim.Adagrad) and device.type == "cpu":
        options["fused"] = True
    if capturable:  # the rate is a tensor, which SGD's other forms would fetch from the GPU in every step
        options |= {"fused": True} if kind in _FUSED else {}
        options |= {"capturable": True} if "capturable" in known else {}
    return {**options, **config.optimiser_options}
