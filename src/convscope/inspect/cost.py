"""How many operations one call takes, kind by kind.

``multiply_adds`` counts products with a weight (or of two activations) that are summed: what papers and model cards
call multiply-adds. ``operations`` counts every floating point operation, a multiplication and an addition as one each:
an output unit that sums K products takes K multiplications and K − 1 additions, and one more for its bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convscope import layers
from convscope.graph.calls import Shape, Step, call
from convscope.rules.elementwise import row_of
from convscope.shapes import full, pool_output_size

Cost = tuple[int, int]  # (multiply_adds, operations)

_FREE = frozenset(
    {
        "view",
        "reshape",
        "flatten",
        "transpose",
        "permute",
        "contiguous",
        "cat",
        "stack",
        "chunk",
        "split",
        "getitem",
        "squeeze",
        "unsqueeze",
        "expand",
        "clone",
        "detach",
        "size",
        "getattr",
        "float",
        "to",
        "repeat",
        "roll",
        "flip",
        "pad",
    }
)
_FREE_MODULES = (
    nn.Flatten,
    nn.Unflatten,
    nn.modules.dropout._DropoutNd,
    nn.Embedding,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.modules.pooling._MaxUnpoolNd,
)


def cost(step: Step) -> Cost:
    """Multiply-adds and operations of one call on one picture."""
    if isinstance(step.module, nn.Identity):
        return 0, 0
    if row_of(step.module, step.function) is not None or isinstance(step.module, nn.PReLU):
        return 0, outputs(step)  # one evaluation a unit
    if step.module is None:
        return _function_cost(step)
    for kinds, formula in _FORMULAS:
        if isinstance(step.module, kinds):
            return formula(step.module, step)
    if next(step.module.parameters(), None) is None and not list(step.module.children()):
        return 0, outputs(step)  # one evaluation a unit
    return _counted(step)


def outputs(step: Step) -> int:
    """How many units the call has for one picture."""
    return math.prod(step.output_shape) if step.output_shape is not None else 0


def summed(units: int, products: int, bias: bool) -> Cost:
    """``units`` outputs that each sum as many products, ``products`` in all."""
    return products, 2 * products - units + (units if bias else 0)


def connected_maps(module: nn.Module) -> int | None:
    """Pairs of (input map, output map) that a convolution connects; None for any other layer."""
    if isinstance(module, layers.TableConv2d):
        return int(module.table.sum())
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.in_channels * module.out_channels // module.groups
    if isinstance(module, layers.CombinedConv2d | layers.LocallySharedConv2d):
        return module.in_channels * module.out_channels
    return None


def places_of(shape: Shape, dimensions: int) -> int:
    """Places of all maps of a tensor (batch, maps, places…) or (maps, places…). The batch of one picture is 1 but where
    the model lays frames, crops or two pictures into it."""
    return math.prod(shape[-dimensions:]) * math.prod(shape[: -dimensions - 1])


def _convolution(module: Any, step: Step) -> Cost:
    assert step.output_shape is not None
    pairs = connected_maps(module)
    assert pairs is not None
    places = places_of(step.output_shape, len(module.kernel_size))
    return summed(outputs(step), places * pairs * math.prod(module.kernel_size), module.bias is not None)


def _transposed(module: Any, step: Step) -> Cost:
    """Every input unit is multiplied by every tap; what falls on the same output is added."""
    pairs = connected_maps(module)
    assert pairs is not None
    products = places_of(step.inputs[0].shape, len(module.kernel_size)) * pairs * math.prod(module.kernel_size)
    return products, 2 * products + (outputs(step) if module.bias is not None else 0)


def _combined(module: layers.CombinedConv2d, step: Step) -> Cost:
    """One kernel an input map, then the mixture by α."""
    assert step.output_shape is not None
    places = places_of(step.output_shape, len(module.kernel_size))
    filtered = module.in_channels * places
    first = summed(filtered, filtered * math.prod(module.kernel_size), False)
    second = summed(outputs(step), outputs(step) * module.in_channels, module.bias is not None)
    return first[0] + second[0], first[1] + second[1]


def _linear(module: nn.Linear, step: Step) -> Cost:
    return summed(outputs(step), outputs(step) * module.in_features, module.bias is not None)


def _rbf(module: layers.RBF, step: Step) -> Cost:
    """Σ (x − w)²: subtract, square, add."""
    products = outputs(step) * module.in_features
    return products, 3 * products - outputs(step)


def _subsample(module: layers.Subsample2d, step: Step) -> Cost:
    """Sum of the window, times β, plus b, through f."""
    return outputs(step), outputs(step) * (math.prod(module.kernel_size) - 1 + 3)


def _pool(module: Any, step: Step) -> Cost:
    """k − 1 comparisons or additions, and one division or root where there is one."""
    names = (kind.__name__ for kind in type(module).__mro__)
    dims = next((int(name[-2]) for name in names if name.endswith(("1d", "2d", "3d"))), len(step.inputs[0].shape) - 2)
    sizes = full(module.kernel_size, dims, "kernel_size")
    units = outputs(step)
    if step.output_shape is None:  # the maxima with their places
        before = step.inputs[0].shape
        moves = (full(value, dims, "stride", minimum=0) for value in (module.stride, module.padding, module.dilation))
        after = map(pool_output_size, before[-dims:], sizes, *moves, [module.ceil_mode] * dims)
        units = math.prod((*before[:-dims], *after))
    window = math.prod(sizes)
    return 0, units * (window - 1 if "Max" in step.kind or "Min" in step.kind else window)


def _adaptive_pool(module: nn.Module, step: Step) -> Cost:
    return 0, max(math.prod(step.inputs[0].shape), outputs(step))


def _norm(module: nn.Module, step: Step) -> Cost:
    """Evaluation: one factor and one term a unit."""
    return 0, 2 * outputs(step)


def _response_norm(module: nn.LocalResponseNorm, step: Step) -> Cost:
    """n squares, n additions (k is one of them), a power and a division."""
    return 0, outputs(step) * (2 * module.size + 3)


def _statistics_norm(module: nn.Module, step: Step) -> Cost:
    """Mean, deviation, normalisation, factor and term: seven passes over the units."""
    return 0, 7 * outputs(step)


def _free(module: nn.Module, step: Step) -> Cost:
    return 0, 0


def _recurrent(module: nn.RNNBase, step: Step) -> Cost:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    shape = step.inputs[0].shape
    positions = shape[0] * shape[1] if len(shape) == 3 else shape[0]
    directions = 2 if module.bidirectional else 1
    units = module.hidden_size
    fed_back = module.proj_size or units
    total = 0
    for layer in range(module.num_layers):
        fed = module.input_size if layer == 0 else directions * fed_back
        total += directions * (gates * units * (fed + fed_back) + units * module.proj_size)
    return positions * total, 2 * positions * total


def _attention(module: nn.MultiheadAttention, step: Step) -> Cost:
    """Four projections, q·kᵀ and the weighted sum of v."""
    query, key = step.inputs[0].shape, step.inputs[1].shape
    batch = 1 if len(query) == 2 else query[0 if module.batch_first else 1]
    targets, sources = math.prod(query[:-1]) // batch, math.prod(key[:-1]) // batch
    width = module.embed_dim
    key_width, value_width = module.kdim or width, module.vdim or width
    total = batch * (
        2 * targets * width * width + sources * width * (key_width + value_width) + 2 * targets * sources * width
    )
    return total, 2 * total


_FORMULAS: list[tuple[Any, Callable[[Any, Step], Cost]]] = [
    (nn.modules.conv._ConvTransposeNd, _transposed),
    ((nn.modules.conv._ConvNd, layers.TableConv2d, layers.LocallySharedConv2d), _convolution),
    (layers.CombinedConv2d, _combined),
    (nn.Linear, _linear),
    (layers.RBF, _rbf),
    (layers.Subsample2d, _subsample),
    ((nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd), _adaptive_pool),
    (nn.modules.batchnorm._BatchNorm, _norm),
    (nn.LocalResponseNorm, _response_norm),
    ((nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm), _statistics_norm),
    (nn.RNNBase, _recurrent),
    (nn.MultiheadAttention, _attention),
    (_FREE_MODULES, _free),
    (
        (
            nn.modules.pooling._MaxPoolNd,
            nn.modules.pooling._AvgPoolNd,
            nn.modules.pooling._LPPoolNd,
            layers.SumPool2d,
            layers.L2Pool2d,
            layers.MinPool2d,
            layers.MedianPool2d,
        ),
        _pool,
    ),
]


def _dot_product_attention(query: Shape, key: Shape, value: Shape) -> int:
    """Products of q·kᵀ and of the weighted sum of v, (…, targets, width), (…, sources, width), (…, sources, width)."""
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _function_cost(step: Step) -> Cost:
    if step.kind in _FREE or step.output_shape is None:
        return 0, 0
    multiply_adds, counted = _counted(step)
    return multiply_adds, counted or outputs(step)


def _counted(step: Step) -> Cost:
    """For whatever has no formula: the matrix products and convolutions that torch sees when it runs."""
    counter = FlopCounterMode(display=False, custom_mapping=_FUSED)
    with counter:
        call(step)
    total = counter.get_total_flops()
    return total // 2, total


def _fused_attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return 2 * _dot_product_attention(query, key, value)


def _fused_heads(query: Shape, key: Shape, value: Shape, width: int, *_: Any, **__: Any) -> int:
    """Four projections and the attention of all heads together, batch in front."""
    places, sources = math.prod(query[:-1]), math.prod(key[:-1])
    return 4 * (places + sources) * width * width + 2 * _dot_product_attention(query, key, value)


def _fused_encoder(source: Shape, width: int, *given: Any, **_: Any) -> int:
    """One layer of a transformer's encoder: its attention, and the two products behind, whose weights come last."""
    shapes = [each for each in given if isinstance(each, torch.Size | tuple) and len(each) == 2]
    inner = shapes[-2][0]
    return _fused_heads(source, source, source, width) + 4 * math.prod(source[:-1]) * width * inner


def _fused_recurrent(source: Shape, weight: Shape, hidden: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(source[:-1]) * (math.prod(weight) + math.prod(hidden))


_ATEN = torch.ops.aten
#: What torch's counter does not know: the fused forms that a processor has. FLOPs by the arguments' shapes.
_FUSED: dict[Any, Any] = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
    _ATEN._native_multi_head_attention: _fused_heads,
    _ATEN._transformer_encoder_layer_fwd: _fused_encoder,
    _ATEN.mkldnn_rnn_layer: _fused_recurrent,
}


__all__ = ["Cost", "connected_maps", "cost", "outputs", "places_of", "summed"]
