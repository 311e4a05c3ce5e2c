"""What a portable graph may contain: the layers, functions and tensor methods that a model file can name.

A file is data from elsewhere, so this is a list of what is allowed, not of what is not: nothing here reads or writes
files, runs code it is given, or reaches outside the tensors it gets. Element-wise functions come from their own table.
"""

from __future__ import annotations

import builtins
import collections
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from convscope import layers
from convscope.graph import memory, sizes
from convscope.layers.boxes import batched_nms, nms
from convscope.layers.regions import roi_align, roi_pool
from convscope.rules import elementwise

K = TypeVar("K")
V = TypeVar("V")


def _words(text: str) -> list[str]:
    return text.split()


_TORCH_LAYERS = _words("""
    Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Linear Bilinear Embedding MaxPool1d
    MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d MaxUnpool1d MaxUnpool2d MaxUnpool3d
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d GroupNorm LayerNorm RMSNorm
    LocalResponseNorm Dropout Dropout1d Dropout2d Dropout3d AlphaDropout PReLU Softmax Softmax2d Softmin LogSoftmax
    Flatten Unflatten ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d
    ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d CircularPad2d
    Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle ChannelShuffle RNN LSTM GRU
    RNNCell LSTMCell GRUCell MultiheadAttention
""")

#: Every public layer of ours but those that are looked into; the element-wise ones are in the table as well.
_OWN_LAYERS = [
    name
    for name in layers.__all__
    if isinstance(each := getattr(layers, name), type) and issubclass(each, nn.Module)
    if not getattr(each, "looked_into", False)
]

_FUNCTIONAL = _words("""
    softmax log_softmax softmin normalize linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d batch_norm
    instance_norm group_norm layer_norm local_response_norm dropout dropout1d dropout2d dropout3d alpha_dropout pad
    interpolate pixel_shuffle pixel_unshuffle channel_shuffle unfold fold grid_sample affine_grid
    scaled_dot_product_attention embedding one_hot cosine_similarity prelu
    pairwise_distance
""")

_TORCH = _words("""
    add addmm amax amin arange argmax baddbmm bmm broadcast_tensors cat chunk concat concatenate cumsum diff div
    einsum eye flatten flip full full_like gather index_select linspace logsumexp masked_fill matmul max maximum
    mean median min minimum mm movedim mul narrow norm numel ones ones_like outer permute prod reshape roll rot90
    select softmax log_softmax split split_with_sizes squeeze stack std sub sum swapaxes t tensor_split tile
    transpose tril triu true_divide unbind unflatten unsqueeze var where zeros zeros_like adaptive_avg_pool1d
    avg_pool1d conv1d conv2d conv3d max_pool1d max_pool2d channel_shuffle pixel_shuffle argsort baddbmm bernoulli
    bincount bucketize cdist cross cumprod diag_embed diagonal dot dstack empty_like full_like hstack isfinite isinf
    isnan layer_norm linalg_norm logical_and logical_not logical_or masked_select meshgrid multinomial mv nan_to_num
    empty nonzero normal rand rand_like randint randint_like randn randn_like randperm repeat_interleave scatter
    scatter_add searchsorted sort take_along_dim tensor tensordot topk trace unique vstack fft_fft2 fft_ifft2
    fft_rfft2 fft_irfft2 any all count_nonzero clone detach addcmul addcdiv lerp fmod remainder heaviside addbmm
    sparse_coo_tensor _transformer_encoder_layer_fwd
""")

_OPERATORS = _words("""
    add sub mul truediv floordiv mod pos matmul getitem iadd isub imul itruediv and_ or_ xor eq ne lt le gt ge not_
    index invert lshift rshift ifloordiv imod ipow iand ior ixor neg pow
""")

_METHODS = _words("""
    add add_ addmm amax amin argmax bmm chunk clone contiguous cumsum detach dim div div_ double expand expand_as
    flatten flip float gather half index_select int long log_softmax logsumexp masked_fill matmul max maximum mean
    median min minimum mm movedim mul mul_ narrow new_full new_ones new_zeros norm numel permute prod repeat
    repeat_interleave reshape reshape_as roll select size softmax split squeeze std sub sub_ sum swapaxes t tile to
    transpose tril triu type_as unbind unflatten unfold unsqueeze var view view_as where prelu all any argsort baddbmm
    bernoulli bernoulli_ bool copy_ cpu cumprod diag_embed diagonal dot eq fill_ ge gt index_add index_copy index_fill
    isfinite isnan le lt logical_and logical_not logical_or masked_fill_ masked_scatter masked_select mv ne new_empty
    new_tensor nonzero normal_ one_hot scatter scatter_ scatter_add sort swapdims topk transpose_ type uniform_ zero_
    std_mean var_mean addcmul addcdiv addcmul_ addcdiv_ lerp lerp_ pow_ remainder fmod bfloat16 split_with_sizes
    narrow_copy take_along_dim index_put outer
""")

#: Attributes of a tensor that ``getattr`` may read.
ATTRIBUTES = frozenset(("shape", "ndim", "dtype", "device", "T", "mT", "is_cuda"))


class _Known(dict[K, V]):
    """What is allowed: a fixed part, and the forms of the element-wise functions, whose table may grow later."""

    def __init__(self, fixed: Mapping[K, V], rows: Callable[[], Mapping[K, V]]) -> None:
        super().__init__({**rows(), **fixed})
        self._rows = rows

    def __missing__(self, key: K) -> V:
        return self._rows()[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._rows()


def _turned(named: Mapping[str, V]) -> dict[V, str]:
    """Each thing's name; of several names the first."""
    return {value: name for name, value in reversed(list(named.items()))}


LAYERS: _Known[str, type[nn.Module]] = _Known(
    {
        **{f"torch.nn.{name}": getattr(nn, name) for name in _TORCH_LAYERS},
        **{f"convscope.layers.{name}": getattr(layers, name) for name in _OWN_LAYERS},
    },
    lambda: elementwise.public_names()[0],
)

FUNCTIONS: _Known[str, Callable[..., Any]] = _Known(
    {
        **{f"torch.nn.functional.{name}": getattr(F, name) for name in _FUNCTIONAL},
        **{f"torch.{name}": getattr(torch, name) for name in _TORCH if hasattr(torch, name)},
        **{f"operator.{name}": getattr(operator, name) for name in _OPERATORS},
        **{f"math.{name}": getattr(math, name) for name in ("sqrt", "ceil", "floor", "log", "exp", "prod")},
        **{f"convscope.graph.memory.{name}": getattr(memory, name) for name in ("with_part", "with_item", "update")},
        "convscope.graph.sizes.expect": sizes.expect,
        "convscope.layers.AuxiliaryOutputs": layers.AuxiliaryOutputs,
        **{f"convscope.ops.{each.__name__}": each for each in (roi_pool, roi_align, nms, batched_nms)},
        "collections.OrderedDict": collections.OrderedDict,
        "getattr": builtins.getattr,
        "int": int,
        "float": float,
        "len": len,
    },
    lambda: elementwise.public_names()[1],
)

METHODS: _Known[str, str] = _Known(
    {name: name for name in _METHODS}, lambda: {name: name for name in elementwise.public_names()[2]}
)

CLASS_NAMES: _Known[type[nn.Module], str] = _Known(_turned(LAYERS), lambda: _turned(elementwise.public_names()[0]))
FUNCTION_NAMES: _Known[Any, str] = _Known(_turned(FUNCTIONS), lambda: _turned(elementwise.public_names()[1]))
