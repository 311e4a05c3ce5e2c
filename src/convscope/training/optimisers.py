"""The descent step: torch's optimisers over the flat buffer, with a learning rate for every part of the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.flat import FlatParameters
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
            for factor, start, stop in parameters.segments(factors):
                if factor:
                    self._add_group(groups, factor, [(start, stop)])
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
        whole_shapes = {place.start: place for place in flat}
        for start, stop in members:
            place = whole_shapes[start]
            one_parameter = place.stop == stop
            value = flat.view(flat.values, place) if one_parameter else flat.values[start:stop]
            proxy = nn.Parameter(value)
            proxy.grad = flat.view(flat.gradients, place) if one_parameter else flat.gradients[start:stop]
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
        """The optimiser's memory, "<parameter>/<quantity>" → tensor, the same whether it was kept flat or not."""
        saved: dict[str, torch.Tensor] = {}
        for places, memory in self._memories():
            for quantity, value in memory.items():
                if not isinstance(value, torch.Tensor):
                    value = torch.tensor(value, dtype=torch.float64)  # a counter
                for start, place in places:
                    whole = value.numel() == sum(each.stop - each.start for _, each in places) and value.ndim > 0
                    part = _part(value, start, place) if whole else value
                    saved[f"{place.name}/{quantity}"] = part.detach().clone()
        return saved

    def load_state(self, saved: dict[str, torch.Tensor]) -> None:
        """Put back what ``state`` gave; that of an optimiser which had not stepped yet is empty.

        Raises ArgumentError for the memory of another optimiser or model.
        """
        if not saved:
            return
        self._fill_memory()
        for places, memory in self._memories():
            for quantity, value in memory.items():
                for start, place in places:
                    key = f"{place.name}/{quantity}"
                    if key not in saved:
                        raise ArgumentError(
                            "optimiser", key, "the saved memory of the same optimiser for the same model"
                        )
                    if not isinstance(value, torch.Tensor):
                        memory[quantity] = type(value)(saved[key].item())
                    elif value.ndim == 0 or value.numel() != sum(each.stop - each.start for _, each in places):
                        value.copy_(saved[key])
                    else:
                        _part(value, start, place).copy_(saved[key])

    def _fill_memory(self) -> None:
        """Let the optimiser make its memory, by a step of length 0 with gradients of 0; it is filled after that."""
        kept_values, kept_gradients = self.parameters.values.clone(), self.parameters.gradients.clone()
        self.parameters.gradients.zero_()
        self.set_rate(0.0)
        self._rate = None
        self.optimiser.step()
        self.parameters.values.copy_(kept_values)
        self.parameters.gradients.copy_(kept_gradients)

    def _memories(self) -> list[tuple[list[tuple[int, Any]], dict[str, Any]]]:
        """For every tensor that the optimiser knows: its parameters with their place in it, and its memory."""
        found = []
        for group, members in zip(self.optimiser.param_groups, self._members, strict=True):
            for proxy, (start, stop) in zip(group["params"], members, strict=True):
                places = [(each.start - start, each) for each in self.parameters if start <= each.start < stop]
                found.append((places, self.optimiser.state[proxy]))
        return found


def rate_factor(name: str, learning_rates: dict[str, float]) -> float:
    """The factor of the longest prefix that covers parameter ``name``; 1 when none does."""
    fitting = [prefix for prefix in learning_rates if _covers(prefix, name)]
    return float(learning_rates[max(fitting, key=len)]) if fitting else 1.0


def _covers(prefix: str, name: str) -> bool:
    return prefix == "" or name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _part(value: torch.Tensor, start: int, place: Any) -> torch.Tensor:
    """The part of an optimiser's tensor that belongs to one parameter, in its shape."""
    if value.shape == place.parameter.shape:
        return value
    return torch.as_strided(value, place.parameter.shape, place.parameter.stride(), value.storage_offset() + start)


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
