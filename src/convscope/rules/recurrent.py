"""Recurrent layers: steps through time, layers, directions, sequences of unequal length."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved

State = tuple[Tensor, ...]
_SUFFIXES = ("", "_reverse")


@dataclasses.dataclass(frozen=True)
class Packing:
    """How sequences lie one step after another in rows: step t has the first ``sizes[t]`` of them, longest first.

    ``order`` are the sequences' own places by length, None where they lie so already; ``back`` undoes it.
    """

    sizes: tuple[int, ...]
    order: Tensor | None = None

    @property
    def back(self) -> Tensor | None:
        return None if self.order is None else self.order.argsort()

    @property
    def starts(self) -> list[int]:
        """Where each step's rows begin."""
        starts = [0]
        for size in self.sizes:
            starts.append(starts[-1] + size)
        return starts[:-1]

    @classmethod
    def of(cls, lengths: Tensor, steps: int) -> Packing:
        """For sequences of these lengths, int64 (n,), in a tensor of ``steps`` steps."""
        if lengths.ndim != 1 or lengths.is_floating_point() or len(lengths) == 0:
            raise ArgumentError("lengths", f"{lengths.dtype} {tuple(lengths.shape)}", "an integer for each sequence")
        if int(lengths.min()) < 1 or int(lengths.max()) > steps:
            raise ArgumentError("lengths", lengths.tolist()[:8], f"numbers of steps from 1 to {steps}")
        order = lengths.argsort(descending=True, stable=True)
        sizes = (lengths[:, None] > torch.arange(int(lengths.max()), device=lengths.device)).sum(0)
        return cls(tuple(sizes.tolist()), order)

    def rows(self, x: Tensor) -> Tensor:
        """(steps, n, features) → (rows, features)."""
        sorted_x = x if self.order is None else x.index_select(1, self.order)
        return torch.cat([sorted_x[step, :size] for step, size in enumerate(self.sizes)])

    def steps(self, rows: Tensor, steps: int, count: int) -> Tensor:
        """The opposite of ``rows``, zeros behind each sequence's end."""
        x = rows.new_zeros(steps, count, rows.shape[1])
        for step, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            x[step, :size] = rows[start : start + size]
        back = self.back
        return x if back is None else x.index_select(1, back)


@dataclasses.dataclass(frozen=True)
class Recurrent(Rule):
    """s_t = cell(x_t, s_(t−1)),   y_t = h_t;   δ_(s_t) = δ_(y_t) + what comes back from step t + 1

    Back-propagation through time (Werbos 1990): from the last step to the first, each cell's δ goes to its x_t and to
    the state before it, and each weight's gradient is the sum over all steps. Layer l + 1 reads the y of layer l, with
    dropout between where there is some; a second direction steps from the end to the beginning, and the y of both are
    put side by side. Of sequences of unequal length each takes part in its own steps only.

    x (t, n, in), with ``batch_first`` (n, t, in), one sequence (t, in), or the rows of packed sequences; y likewise
    with the hidden size, doubled where there are two directions. ``form``: "padded"; "packed" (x are a PackedSequence's
    rows, ``sizes`` its batch sizes, ``order`` its sorted indices); "lengths" (padded, ``sizes`` the lengths, int64
    (n,); y is 0 behind a sequence's end, and y alone comes out). ``state`` is one tensor (layers·directions, n, hidden)
    for each part of s_0, left out: zeros.
    """

    kind = "recurrent"
    needs = ("passes", "packing", "shape", "given", "masks")
    gates: ClassVar[int] = 1
    parts: ClassVar[int] = 1
    """How many tensors the state s is made of; the first is h."""
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    batch_first: bool = False
    form: str = "padded"

    @abstractmethod
    def step(self, a: Tensor, before: State, weights: Mapping[str, Tensor]) -> tuple[State, Any]:
        """a = W_ih·x_t + b_ih (rows, gates·hidden), s_(t−1) → s_t, what ``back`` needs."""

    @abstractmethod
    def back(
        self, kept: Any, delta: State, weights: Mapping[str, Tensor], found: dict[str, list[Tensor]]
    ) -> tuple[Tensor, Tensor, State]:
        """δ of s_t → δ of a, δ of r = W_hh·h_(t−1) + b_hh, and what goes straight to s_(t−1) beside r's share.

        Gradients of weights beyond W_ih, W_hh and their biases are appended to ``found``.
        """

    def recurrent(self, before: State, weights: Mapping[str, Tensor]) -> Tensor:
        """r = W_hh·h_(t−1) + b_hh."""
        r = before[0] @ weights["weight_hh"].T
        return r + weights["bias_hh"] if "bias_hh" in weights else r

    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        order: Tensor | None = None,
        *state: Tensor,
        **parameters: Tensor | None,
    ) -> tuple[Any, Saved]:
        weights = {name: value for name, value in parameters.items() if value is not None}
        packing, rows, shape = self._packed(x, sizes, order)
        count = packing.sizes[0]
        states = self._states(state, rows, count, packing, weights, lone=x.ndim == 2 and self.form != "packed")
        passes: list[_Pass] = []
        masks: list[Tensor | None] = []
        ends: list[State] = []
        for layer in range(self.layers):
            mask = self._mask(rows) if layer else None
            rows = rows if mask is None else rows * mask
            masks.append(mask)
            sides = []
            for side in range(1 + self.bidirectional):
                number = layer * (1 + self.bidirectional) + side
                own = _named(weights, f"_l{layer}{_SUFFIXES[side]}")
                made, end, side_rows = self._through_time(
                    rows, packing, tuple(part[number] for part in states), own, bool(side)
                )
                passes.append(made)
                ends.append(end)
                sides.append(side_rows)
            rows = torch.cat(sides, 1) if len(sides) > 1 else sides[0]
        y = self._result(rows, ends, packing, shape, x)
        saved = {"passes": passes, "packing": packing, "shape": shape, "given": len(state), "masks": masks}
        return y, saved

    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        passes, packing, masks = saved["passes"], saved["packing"], saved["masks"]
        directions = 1 + self.bidirectional
        rows, ends = self._result_back(delta, passes, packing, saved["shape"])
        gradients: Gradients = {}
        starts: list[State | None] = [None] * len(passes)
        for layer in reversed(range(self.layers)):
            width = rows.shape[1] // directions
            below: Tensor | None = None
            for side in range(directions):
                number = layer * directions + side
                own = rows[:, side * width : (side + 1) * width]
                to_rows, starts[number], found = self._back_through_time(passes[number], packing, own, ends[number])
                suffix = f"_l{layer}{_SUFFIXES[side]}"
                gradients.update({name + suffix: value for name, value in found.items()})
                below = to_rows if below is None else below + to_rows
            assert below is not None
            rows = below if masks[layer] is None else below * masks[layer]
        to_x, lone = self._unpacked_like_x(rows, packing, saved["shape"])
        to_state = [torch.stack([start[part] for start in starts if start is not None]) for part in range(self.parts)]
        back = packing.back
        to_state = [each if back is None else each.index_select(1, back) for each in to_state]
        to_state = [each.squeeze(1) for each in to_state] if lone else to_state
        return (to_x, None, None, *to_state[: saved["given"]]), gradients

    def _through_time(
        self, rows: Tensor, packing: Packing, state: State, weights: dict[str, Tensor], reverse: bool
    ) -> tuple[_Pass, State, Tensor]:
        """All steps of one direction of one layer; the state's first rows move on, the others wait or rest."""
        a = rows @ weights["weight_ih"].T
        a = a + weights["bias_ih"] if "bias_ih" in weights else a  # (rows, gates·hidden)
        times = list(zip(packing.starts, packing.sizes, strict=True))
        times = times[::-1] if reverse else times
        kept, before = [], []
        y: dict[int, Tensor] = {}
        for start, size in times:
            own = tuple(part[:size] for part in state)
            new, what = self.step(a[start : start + size], own, weights)
            kept.append(what)
            before.append(own[0])
            y[start] = new[0]
            state = tuple(
                made if size == len(part) else torch.cat((made, part[size:]))
                for made, part in zip(new, state, strict=True)
            )
        return _Pass(rows, weights, times, kept, before), state, torch.cat([y[start] for start in sorted(y)])

    def _back_through_time(
        self, done: _Pass, packing: Packing, delta: Tensor, end: State
    ) -> tuple[Tensor, State, Gradients]:
        weights, state = done.weights, end
        to_a: dict[int, Tensor] = {}
        to_r: list[Tensor] = []
        found: dict[str, list[Tensor]] = {}
        for (start, size), kept in zip(reversed(done.times), reversed(done.kept), strict=True):
            own = tuple(part[:size] for part in state)
            own = (own[0] + delta[start : start + size], *own[1:])
            to_a[start], r, before = self.back(kept, own, weights, found)
            to_r.append(r)
            before = (before[0] + r @ weights["weight_hh"], *before[1:])
            state = tuple(
                made if size == len(part) else torch.cat((made, part[size:]))
                for made, part in zip(before, state, strict=True)
            )
        a = torch.cat([to_a[start] for start in sorted(to_a)])
        r = torch.cat(to_r[::-1])
        gradients = {"weight_ih": a.T @ done.rows, "weight_hh": r.T @ torch.cat(done.before)}
        if "bias_ih" in weights:
            gradients |= {"bias_ih": a.sum(0), "bias_hh": r.sum(0)}
        gradients |= {name: torch.stack(parts).sum(0) for name, parts in found.items()}
        return a @ weights["weight_ih"], state, gradients

    def _mask(self, rows: Tensor) -> Tensor | None:
        """Dropout's mask between two layers, drawn as torch does."""
        if not self.dropout:
            return None
        mask = torch.empty_like(rows)
        return mask.bernoulli_(1 - self.dropout).div_(1 - self.dropout) if self.dropout < 1 else mask.zero_()

    def _packed(self, x: Tensor, sizes: Tensor | None, order: Tensor | None) -> tuple[Packing, Tensor, _Shape]:
        if self.form == "packed":
            assert sizes is not None
            return Packing(tuple(sizes.tolist()), order), x, _Shape(0, int(sizes[0]), False)
        lone = x.ndim == 2
        steps = x.unsqueeze(1) if lone else x.transpose(0, 1) if self.batch_first else x  # (t, n, in)
        time, count = steps.shape[:2]
        if time == 0 or count == 0:
            raise ArgumentError("x", tuple(x.shape), "at least one sequence and one step")
        shape = _Shape(time, count, lone)
        if self.form == "lengths":
            assert sizes is not None
            if len(sizes) != count:
                raise ArgumentError("lengths", len(sizes), f"one for each of the {count} sequences")
            packing = Packing.of(sizes, time)
            return packing, packing.rows(steps), shape
        return Packing((count,) * time), steps.reshape(time * count, -1), shape

    def _states(
        self, given: State, rows: Tensor, count: int, packing: Packing, weights: Mapping[str, Tensor], lone: bool
    ) -> list[Tensor]:
        """Each part of s_0 as (layers·directions, n, size), in the order of the rows."""
        if not given:
            hidden = weights["weight_ih_l0"].shape[0] // self.gates
            first = weights["weight_hh_l0"].shape[1]  # h is narrower than the rest where it is projected
            number = self.layers * (1 + self.bidirectional)
            return [rows.new_zeros(number, count, size) for size in (first, hidden)[: self.parts]]
        whole = [part.unsqueeze(1) for part in given] if lone else list(given)
        return whole if packing.order is None else [part.index_select(1, packing.order) for part in whole]

    def _result(self, rows: Tensor, ends: list[State], packing: Packing, shape: _Shape, x: Tensor) -> Any:
        back = packing.back
        states = [torch.stack(parts) for parts in zip(*ends, strict=True)]
        states = [each if back is None else each.index_select(1, back) for each in states]
        if self.form == "packed":
            y: Any = PackedSequence(rows, torch.tensor(packing.sizes), packing.order, back)
        else:
            y = packing.steps(rows, shape.time, shape.count)
            y = y.squeeze(1) if shape.lone else y.transpose(0, 1) if self.batch_first else y
        if self.form == "lengths":
            return y
        states = [each.squeeze(1) for each in states] if shape.lone else states
        return y, tuple(states) if self.parts > 1 else states[0]

    def _result_back(
        self, delta: Any, passes: list[_Pass], packing: Packing, shape: _Shape
    ) -> tuple[Tensor, list[State]]:
        """δ of the rows of the last layer's y, and of the last state of each layer and direction."""
        to_y, to_states = (delta, None) if self.form == "lengths" else delta
        to_y = to_y[0] if self.form == "packed" and to_y is not None else to_y
        like = passes[-1]
        width = like.before[0].shape[1] * (1 + self.bidirectional)
        if to_y is None:
            rows = like.rows.new_zeros(sum(packing.sizes), width)
        elif self.form == "packed":
            rows = to_y
        else:
            steps = to_y.unsqueeze(1) if shape.lone else to_y.transpose(0, 1) if self.batch_first else to_y
            rows = packing.rows(steps)
        parts = list(to_states) if isinstance(to_states, tuple) else [to_states] * (1 if self.parts == 1 else 0)
        parts = parts or [None] * self.parts
        sizes = [like.before[0].shape[1], like.weights["weight_ih"].shape[0] // self.gates][: self.parts]
        number = len(passes)
        whole = []
        for part, size in zip(parts, sizes, strict=True):
            each = rows.new_zeros(number, shape.count, size) if part is None else part
            each = each.unsqueeze(1) if each.ndim == 2 else each
            whole.append(each if packing.order is None or part is None else each.index_select(1, packing.order))
        return rows, [tuple(each[place] for each in whole) for place in range(number)]

    def _unpacked_like_x(self, rows: Tensor, packing: Packing, shape: _Shape) -> tuple[Tensor, bool]:
        if self.form == "packed":
            return rows, False
        steps = packing.steps(rows, shape.time, shape.count)
        return (steps.squeeze(1) if shape.lone else steps.transpose(0, 1) if self.batch_first else steps), shape.lone


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Steps and sequences of a padded x; ``lone``: one sequence without a batch."""

    time: int
    count: int
    lone: bool


@dataclasses.dataclass(frozen=True)
class _Pass:
    """One direction of one layer as it went: its x, its weights, (first row, rows) of the steps in the order they were
    taken, what each cell kept, and h before each step."""

    rows: Tensor
    weights: dict[str, Tensor]
    times: list[tuple[int, int]]
    kept: list[Any]
    before: list[Tensor]


def _named(weights: Mapping[str, Tensor], suffix: str) -> dict[str, Tensor]:
    """The weights of one direction of one layer, their names without ``suffix``."""
    return {name.removesuffix(suffix): value for name, value in weights.items() if name.endswith(suffix)}


def apply_recurrent(
    rule: type[Recurrent], module: nn.RNNBase, x: Any, hx: Any = None, lengths: Tensor | None = None, **options: Any
) -> Applied:
    """The call ``module(x, hx)`` of torch's recurrent layers, x a tensor or a PackedSequence."""
    form = "packed" if isinstance(x, PackedSequence) else "padded" if lengths is None else "lengths"
    made = rule(
        layers=module.num_layers,
        bidirectional=module.bidirectional,
        dropout=module.dropout if module.training else 0.0,
        batch_first=module.batch_first,
        form=form,
        **options,
    )
    state = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
    rows, sizes, order = (x[0], x[1], x[2]) if isinstance(x, PackedSequence) else (x, lengths, None)
    weights = {
        name: value
        for names in module._all_weights
        for name in names
        if (value := getattr(module, name, None)) is not None
    }
    return Applied(made, (rows, sizes, order, *state), weights)
