"""What a portable graph may contain: the layers, functions and tensor methods that a model file can name.

A file is data from elsewhere, so this is a list of what is allowed, not of what is not: nothing here reads or writes
files, runs code it is given, or reaches outside the tensors it gets.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope import layers


def _words(text: str) -> list[str]:
    return text.split()


_TORCH_LAYERS = _words("""
    Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Linear Bilinear Identity Embedding
    MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d MaxUnpool1d MaxUnpool2d
    MaxUnpool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d GroupNorm
    LayerNorm RMSNorm LocalResponseNorm Dropout Dropout1d Dropout2d Dropout3d AlphaDropout ReLU ReLU6 LeakyReLU
    PReLU ELU SELU CELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Hardtanh Hardsigmoid Hardswish Hardshrink Softplus
    Softshrink Softsign Tanhshrink Threshold Softmax Softmax2d Softmin LogSoftmax Flatten Unflatten ZeroPad1d
    ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d CircularPad2d Upsample UpsamplingNearest2d
    UpsamplingBilinear2d PixelShuffle PixelUnshuffle ChannelShuffle RNN LSTM GRU
""")

_OWN_LAYERS = _words("""
    Conv2d TableConv2d CombinedConv2d LocallyConnected2d LocallySharedConv2d Subsample2d SumPool2d L2Pool2d
    MinPool2d MedianPool2d RBF ScaledTanh ScaledSigmoid
""")

_FUNCTIONAL = _words("""
    relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid logsigmoid tanh hardtanh hardsigmoid hardswish
    softplus softsign softmax log_softmax softmin normalize linear bilinear conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d
    lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    batch_norm instance_norm group_norm layer_norm local_response_norm dropout dropout1d dropout2d dropout3d
    alpha_dropout pad interpolate pixel_shuffle pixel_unshuffle channel_shuffle unfold fold grid_sample affine_grid
    scaled_dot_product_attention embedding one_hot cosine_similarity
""")

_TORCH = _words("""
    abs add addmm amax amin arange argmax baddbmm bmm broadcast_tensors cat chunk clamp clamp_min clamp_max concat
    concatenate cos cumsum diff div einsum exp expm1 eye flatten flip full full_like gather index_select linspace
    log log1p logsumexp masked_fill matmul max maximum mean median min minimum mm movedim mul narrow neg norm numel
    ones ones_like outer permute pow prod reciprocal relu reshape roll rot90 round rsqrt select sigmoid sign sin
    softmax log_softmax split split_with_sizes sqrt square squeeze stack std sub sum swapaxes t tanh tensor_split
    tile transpose tril triu true_divide unbind unflatten unsqueeze var where zeros zeros_like adaptive_avg_pool1d
    avg_pool1d conv1d conv2d conv3d max_pool1d max_pool2d channel_shuffle pixel_shuffle
""")

_OPERATORS = _words("""
    add sub mul truediv floordiv mod pow neg pos matmul getitem iadd isub imul itruediv and_ or_ eq ne lt le gt ge
    not_ abs index
""")

METHODS = frozenset(
    _words("""
    abs add add_ addmm amax amin argmax bmm chunk clamp clamp_ clamp_min clamp_max clone contiguous cos cumsum
    detach dim div div_ double exp expand expand_as flatten flip float gather half index_select int long log
    log_softmax logsumexp masked_fill matmul max maximum mean median min minimum mm movedim mul mul_ narrow neg
    new_full new_ones new_zeros norm numel permute pow prod reciprocal relu relu_ repeat repeat_interleave reshape
    reshape_as roll round rsqrt select sigmoid sigmoid_ sign sin size softmax split sqrt square squeeze std sub sub_
    sum swapaxes t tanh tanh_ tile to transpose tril triu type_as unbind unflatten unfold unsqueeze var view view_as
    where
""")
)

#: Attributes of a tensor that ``getattr`` may read.
ATTRIBUTES = frozenset(("shape", "ndim", "dtype", "device", "T", "mT", "is_cuda"))

LAYERS: dict[str, type[nn.Module]] = {
    **{f"torch.nn.{name}": getattr(nn, name) for name in _TORCH_LAYERS},
    **{f"convscope.layers.{name}": getattr(layers, name) for name in _OWN_LAYERS},
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"torch.nn.functional.{name}": getattr(F, name) for name in _FUNCTIONAL},
    **{f"torch.{name}": getattr(torch, name) for name in _TORCH},
    **{f"operator.{name}": getattr(operator, name) for name in _OPERATORS},
    **{f"math.{name}": getattr(math, name) for name in ("sqrt", "ceil", "floor", "log", "exp", "prod")},
    "convscope.layers.AuxiliaryOutputs": layers.AuxiliaryOutputs,
    "getattr": builtins.getattr,
    "int": int,
    "float": float,
    "len": len,
}

CLASS_NAMES: dict[type[nn.Module], str] = {cls: name for name, cls in LAYERS.items()}
FUNCTION_NAMES: dict[Any, str] = {function: name for name, function in reversed(FUNCTIONS.items())}
