"""Modules that torch lacks or that need more than torch's, with torch's argument names."""

from __future__ import annotations

from convscope.layers.activations import ScaledSigmoid, ScaledTanh, activation, activation_names
from convscope.layers.attention import AdditiveAttention, MultiHeadAttention
from convscope.layers.combined import CombinedConv2d, penalised, penalty
from convscope.layers.connections import LENET5_C3, connection_table
from convscope.layers.conv import Conv2d, TableConv2d
from convscope.layers.figure_width import FigureWidth
from convscope.layers.fixed import fixed_filters
from convscope.layers.initialisers import INITIALISERS, initialise
from convscope.layers.locally_connected import LocallyConnected2d, LocallySharedConv2d
from convscope.layers.losses import LOSSES, Loss, loss_for
from convscope.layers.outputs import AuxiliaryOutputs
from convscope.layers.over_time import KeepColumns, MaxNormLinear, MaxOverTime
from convscope.layers.pixel_losses import PixelCrossEntropy
from convscope.layers.pool import L2Pool2d, MedianPool2d, MinPool2d, SumPool2d
from convscope.layers.positions import LearnedPositions, PositionalEncoding
from convscope.layers.rbf import RBF
from convscope.layers.recurrent import RecurrentLayers
from convscope.layers.regions import RoIAlign, RoIPool
from convscope.layers.separable import convolution_costs, depthwise_separable_conv2d, spatially_separable_conv2d
from convscope.layers.spatial import SpatialTransformer
from convscope.layers.subsample import Subsample2d

__all__ = [
    "INITIALISERS",
    "LENET5_C3",
    "LOSSES",
    "RBF",
    "AdditiveAttention",
    "AuxiliaryOutputs",
    "CombinedConv2d",
    "Conv2d",
    "FigureWidth",
    "KeepColumns",
    "L2Pool2d",
    "LearnedPositions",
    "LocallyConnected2d",
    "LocallySharedConv2d",
    "Loss",
    "MaxNormLinear",
    "MaxOverTime",
    "MedianPool2d",
    "MinPool2d",
    "MultiHeadAttention",
    "PixelCrossEntropy",
    "PositionalEncoding",
    "RecurrentLayers",
    "RoIAlign",
    "RoIPool",
    "ScaledSigmoid",
    "ScaledTanh",
    "SpatialTransformer",
    "Subsample2d",
    "SumPool2d",
    "TableConv2d",
    "activation",
    "activation_names",
    "connection_table",
    "convolution_costs",
    "depthwise_separable_conv2d",
    "fixed_filters",
    "initialise",
    "loss_for",
    "penalised",
    "penalty",
    "spatially_separable_conv2d",
]
