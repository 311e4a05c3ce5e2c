"""A model that the engine runs for images of one shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from convscope import spec
from convscope.errors import ArgumentError
from convscope.layers import Loss
from convscope.lowering.lower import checked_shape, lower, restore
from convscope.lowering.objective import Objective, objective
from convscope.lowering.plan import Plan
from convscope.native import availability, processors
from convscope.native.chance import without_chance
from convscope.native.fused import FusedDescent
from convscope.native.memory import SharedMemory
from convscope.shapes import check_dense

LAYOUTS = ("auto", "modelled", "images", "channels")


@dataclasses.dataclass(frozen=True)
class LowPrecision:
    """What a network that answers in low precision is told: "bf16" or "int8", scale and zero of layers' inputs in 8
    bits by layer, and whether every layer that can takes part, or those where that was measured to be quicker. ``way``:
    one of ``_engine.low_ways``, None for the quickest."""

    precision: str
    quantised: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    everywhere: bool = False
    way: str | None = None


@dataclasses.dataclass
class Compiled:
    """A plan and the engine's network for it, in one constellation of the modules' modes."""

    plan: Plan
    network: Any
    version: int  # of the memory it is bound to
    trained: list[str]  # parameters that get a gradient
    changed: list[str]  # buffers of the model that a pass changes
    constant: list[str]  # and those that it reads alone, with the parameters that get no gradient


class NativeNetwork:
    """``model`` on the native engine, for images of ``input_shape`` (channels, height, width).

    ``loss`` as in ``lower``; without one there is no ``loss_and_grad``. The model's parameters become views of one flat
    buffer that the engine reads; with ``memory`` given they stay as they are there. Images are float32 (n, c, h, w), or
    uint8, which ``preprocessing`` turns into the model's input. The modes of the model's modules (train, eval, frozen
    parameters) are those at each call. ``threads`` None: as ``processors.threads`` says. ``fold``: as in ``lower``, for
    ``forward`` alone. ``layout``: how values lie in memory where the network only evaluates, "images" (16 pictures
    innermost), "channels" (blocks of channels innermost), "modelled", the one that is quicker for so many pictures by a
    model, or "auto": that too where there is a ``loss``, so that a training's evaluations are the same in every run,
    and the one that is quicker by a measurement at the first call where there is none (the two differ by rounding).
    None: the environment variable CONVSCOPE_LAYOUT, else "auto". ``describe`` tells what was chosen and why.
    ``plan``: makes the plan of a part of the model, which then is what the network runs. ``low``: ``forward`` of plans
    that do not train is in low precision, as it says.

    Raises LoweringError naming a layer that the engine cannot run, ArgumentError for parameters that are not float32
    on the CPU, and EngineUnavailableError where the engine is not built.
    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: Sequence[int],
        loss: str | Loss | nn.Module | Objective | None = None,
        *,
        preprocessing: spec.Preprocessing | None = None,
        threads: int | None = None,
        memory: SharedMemory | None = None,
        fold: bool = False,
        layout: str | None = None,
        plan: Callable[[], Plan] | None = None,
        low: LowPrecision | None = None,
    ) -> None:
        if layout is not None and layout not in LAYOUTS:
            raise ArgumentError("layout", layout, f"one of {', '.join(LAYOUTS)}, or None")
        self.engine = availability.engine()
        self.model = model
        self.whole = model if plan is None else None  # what torch computes where the engine is asked to
        self.input_shape = checked_shape(input_shape)
        self.objective: Objective | None = None if loss is None else objective(loss, model)
        self.threads = threads
        self.layout = layout
        self.low = low
        self.preprocessing = preprocessing
        self._scale, self._offset = _scale_and_offset(preprocessing)
        self._make_plan = plan or (lambda: lower(model, self.input_shape, self.objective, fold=fold))
        first = self._make_plan()
        self.memory = SharedMemory(model, take=True) if memory is None else memory
        self._compiled: dict[tuple[bool, ...], Compiled] = {}
        self._structure = self.memory.structure
        self._fused: FusedDescent | None = None
        self._compiled[self.memory.modes()] = self._compile(first)

    @property
    def plan(self) -> Plan:
        """The plan for the modes that the model's modules are in now."""
        return self.ready().plan

    def describe(self, pictures: int = 1) -> str:
        """The layout in which the engine answers so many pictures, and why; then a line per fused operation."""
        compiled = self.ready()
        text: str = compiled.network.describe(pictures, self.used_threads(), compiled.plan.training)
        return text

    def without_chance(self) -> NativeNetwork:
        """The network in the present modes with nothing dropped."""
        plan = without_chance(self.ready().plan)
        return NativeNetwork(
            self.model,
            self.input_shape,
            self.objective,
            preprocessing=self.preprocessing,
            threads=self.threads,
            memory=self.memory,
            layout=self.layout,
            plan=lambda: plan,
        )

    def memory_bytes(self) -> int:
        """What the engine holds beside parameters and gradients."""
        return int(self.ready().network.memory())

    def forward(self, images: torch.Tensor, seed: int = 0, step: int = 0) -> Any:
        """The model's outputs, without anything kept for gradients. ``seed`` and ``step`` decide what dropout drops."""
        compiled = self.ready()
        return restore(compiled.plan.structure, self.run(compiled, images, seed, step))

    def loss_and_grad(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        seed: int = 0,
        step: int = 0,
        *,
        input_delta: torch.Tensor | None = None,
        compiled: Compiled | None = None,
    ) -> tuple[float, list[torch.Tensor]]:
        """(the loss, the outputs), with ``.grad`` of every trained parameter **overwritten** by ∂J/∂w.

        ``targets`` are class indices (n,) or, for losses that compare numbers, (n, outputs). ``input_delta``, float32
        (n, c, h, w), receives ∂J/∂images. ``compiled``: what ``ready()`` has just said.
        """
        compiled = compiled or self.ready()
        result = self._pass(compiled, images, targets, seed, step, input_delta=input_delta)
        self.memory.attach_gradients(compiled.trained)
        return result

    def descend(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        optimiser: torch.optim.Optimizer,
        seed: int = 0,
        step: int = 0,
        *,
        compiled: Compiled | None = None,
    ) -> tuple[float, list[torch.Tensor]]:
        """``loss_and_grad``, then ``optimiser.step()``: (the loss, the outputs) from before the parameters moved.

        Where ``FusedDescent`` allows it the engine moves them in the same pass, each thread its share, while the
        gradients are in its cache; by the same formulas, so that results differ from torch's by rounding only.
        """
        compiled = compiled or self.ready()
        self.memory.attach_gradients(compiled.trained)
        if self._fused is None or self._fused.optimiser is not optimiser:
            self._fused = FusedDescent(self.engine, optimiser, self.memory)
        rules = self._fused.rules()
        result = self._pass(compiled, images, targets, seed, step, rules=rules)
        if rules is None:
            optimiser.step()
        return result

    def _pass(
        self,
        compiled: Compiled,
        images: torch.Tensor,
        targets: torch.Tensor,
        seed: int,
        step: int,
        *,
        input_delta: torch.Tensor | None = None,
        rules: list[Any] | None = None,
    ) -> tuple[float, list[torch.Tensor]]:
        if self.objective is None:
            raise ArgumentError("loss", None, "a loss, given when the network was made")
        plan = compiled.plan
        pixels, options = self._images(images)
        if rules:
            options["rules"] = rules
        self._check_count(plan, len(images))
        if len(targets) != len(images):
            raise ArgumentError("targets", f"{len(targets)} of them", f"one for each of the {len(images)} images")
        wanted = self.objective.targets(targets, plan.outputs[0].shape[0])
        outputs = _outputs(plan, len(images))
        parameters, gradients, state = self.memory.arrays
        loss = compiled.network.step(
            parameters,
            gradients,
            state,
            pixels,
            wanted.numpy(),
            training=plan.training,
            seed=seed,
            step=step,
            threads=self.used_threads(),
            outputs=[each.numpy() for each in outputs],
            input_delta=None if input_delta is None else input_delta.numpy(),
            **options,
        )
        self._write_state(compiled)
        return float(loss), outputs

    def ready(self) -> Compiled:
        """The compiled plan for the present modes, the memory checked and its constants filled in."""
        self.memory.check()
        modes = self.memory.check_model()
        if self._structure != self.memory.structure:
            self._compiled.clear()
            self._structure = self.memory.structure
        compiled = self._compiled.get(modes)
        if compiled is None:
            compiled = self._compile(self._make_plan())
        elif compiled.version != self.memory.version:
            compiled = self._compile(compiled.plan)
        self._compiled[modes] = compiled
        if compiled.plan.constants:
            self.memory.fill_constants(compiled.plan)
        return compiled

    def run(self, compiled: Compiled, images: torch.Tensor, seed: int, step: int) -> list[torch.Tensor]:
        """The plan's outputs, one tensor each."""
        plan = compiled.plan
        outputs = _outputs(plan, len(images))
        if len(images) == 0:
            self._images(images)
            return outputs
        self.run_on(compiled.network, plan, images, outputs, seed, step)
        self._write_state(compiled)
        return outputs

    def run_on(
        self,
        network: Any,
        plan: Plan,
        images: torch.Tensor,
        outputs: Sequence[torch.Tensor],
        seed: int,
        step: int = 0,
    ) -> None:
        """Let one of the engine's networks for ``plan`` write its ``outputs``; the model's buffers stay."""
        pixels, options = self._images(images)
        self._check_count(plan, len(images))
        parameters, _, state = self.memory.arrays
        network.forward(
            parameters,
            state,
            pixels,
            [each.numpy() for each in outputs],
            training=plan.training,
            seed=seed,
            step=step,
            threads=self.used_threads(),
            **options,
        )

    def run_backward(
        self,
        compiled: Compiled,
        images: torch.Tensor,
        output_deltas: Sequence[torch.Tensor],
        seed: int,
        step: int,
        input_delta: torch.Tensor | None,
    ) -> list[torch.Tensor]:
        """∂J/∂w of ``compiled.trained`` in fresh memory; ∂J/∂images into ``input_delta``.

        ``compiled`` is that of the forward pass, whatever modes the modules are in by now.
        """
        self.memory.check()
        if compiled.version != self.memory.version:
            compiled = self._compile(compiled.plan)
        if compiled.plan.constants:
            self.memory.fill_constants(compiled.plan)
        pixels, options = self._images(images)
        parameters, _, state = self.memory.arrays
        gradients = torch.empty(len(parameters), dtype=torch.float32, device="cpu")
        compiled.network.backward(
            parameters,
            gradients.numpy(),
            state,
            pixels,
            [each.contiguous().numpy() for each in output_deltas],
            training=compiled.plan.training,
            seed=seed,
            step=step,
            threads=self.used_threads(),
            input_delta=None if input_delta is None else input_delta.numpy(),
            **options,
        )
        return [self.memory.flat.view(gradients, self.memory.slices[name]) for name in compiled.trained]

    def _compile(self, plan: Plan) -> Compiled:
        self.memory.make_room(plan)
        memory = self.memory
        network = self.engine.Network(
            input_shape=self.input_shape,
            records=self._records(plan),
            outputs=[each.number for each in plan.outputs],
            parameter_count=len(memory.flat.memory),
            state_count=len(memory.state),
            **({} if self.layout is None else {"layout": self.layout}) | self._low_options(plan),
        )
        requires = {name for name, each in memory.slices.items() if each.parameter.requires_grad}
        trained = sorted(plan.trained_names & requires, key=memory.places.__getitem__)
        norms = [record for record in plan.records if record.kind == "batch_norm" and plan.training]
        changed = [name for record in norms for name in record.state.values() if name in memory.state_places]
        read = {name for record in plan.records for name in record.state.values() if name in memory.state_places}
        read |= plan.parameter_names & memory.slices.keys()
        return Compiled(plan, network, memory.version, trained, changed, sorted(read.difference(changed, trained)))

    def _low_options(self, plan: Plan) -> dict[str, Any]:
        if self.low is None or plan.training:
            return {}
        told = {"precision": self.low.precision, "everywhere": self.low.everywhere, "way": self.low.way or ""}
        return told | ({"layout": "channels"} if self.low.everywhere else {})  # the other one has float32 alone

    def _records(self, plan: Plan) -> list[dict[str, Any]]:
        records = self.memory.bind(plan)
        for record in records if self.low is not None else ():
            quantised = self.low.quantised.get(record["name"]) if self.low is not None else None
            if quantised is not None and record["kind"] in ("conv2d", "linear"):
                record["quantised"] = list(quantised)
        return records

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images as the model takes them, float32."""
        if images.dtype == torch.uint8 and self.preprocessing is not None:
            return self.preprocessing.normalise(images)
        return images

    def used_threads(self) -> int:
        return processors.threads() if self.threads is None else self.threads

    def _write_state(self, compiled: Compiled) -> None:
        """What a training pass does to the model's buffers."""
        for name in compiled.plan.counters:
            self.model.get_buffer(name).add_(1)
        if compiled.changed:
            self.memory.write_state(compiled.changed)

    def _check_count(self, plan: Plan, images: int) -> None:
        if images == 0:
            raise ArgumentError("images", "none", "at least one image")
        if images == 1 and plan.needs_several is not None:
            wanted = f"more than one, for the statistics of the batch normalisation {plan.needs_several!r}"
            raise ArgumentError("images", "one", wanted)

    def accept(self, images: torch.Tensor) -> None:
        """ArgumentError for images that the network does not take."""
        self._images(images)

    def _images(self, images: torch.Tensor) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Images as the engine takes them, and how uint8 ones are normalised."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            wanted = "(n, " + ", ".join(map(str, self.input_shape)) + ")"
            raise ArgumentError("images", tuple(images.shape), wanted)
        if images.device.type != "cpu":
            raise ArgumentError("images", f"on {images.device}", "images on the CPU")
        check_dense("images", images)
        if images.dtype not in (torch.float32, torch.uint8):
            raise ArgumentError("images", images.dtype, "torch.float32 or torch.uint8")
        pixels = images.detach().contiguous().resolve_neg().numpy()
        if images.dtype == torch.float32:
            return pixels, {}
        if self._scale is None:
            raise ArgumentError("images", images.dtype, "torch.float32, as no preprocessing says what uint8 becomes")
        return pixels, {"scale": self._scale, "offset": self._offset}


def _outputs(plan: Plan, images: int) -> list[torch.Tensor]:
    return [torch.empty(images, *each.shape, dtype=torch.float32, device="cpu") for each in plan.outputs]


def _scale_and_offset(preprocessing: spec.Preprocessing | None) -> tuple[list[float] | None, list[float] | None]:
    """(pixel/255 − mean)/std as scale·pixel + offset."""
    if preprocessing is None:
        return None, None
    scale = [1 / (255 * std) for std in preprocessing.std]
    return scale, [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
