"""What a person would rather look at than read."""

from __future__ import annotations

from convscope.inspect.pictures.attribution import attribution_figure
from convscope.inspect.pictures.canvas import as_png, save_picture
from convscope.inspect.pictures.confusion import confusion_figure
from convscope.inspect.pictures.curves import curves_figure, learning_curves
from convscope.inspect.pictures.equivariance import equivariance_figure, moved_figure
from convscope.inspect.pictures.graph import graph_figure
from convscope.inspect.pictures.histograms import histograms_figure
from convscope.inspect.pictures.kernels import KernelSheet, film_figure, kernels_figure, kernels_of, kernels_of_model
from convscope.inspect.pictures.maps import bars_figure, kernel_gradient_figure, maps_figure, picture_figure

__all__ = [
    "KernelSheet",
    "as_png",
    "attribution_figure",
    "bars_figure",
    "confusion_figure",
    "curves_figure",
    "equivariance_figure",
    "film_figure",
    "graph_figure",
    "histograms_figure",
    "kernel_gradient_figure",
    "kernels_figure",
    "kernels_of",
    "kernels_of_model",
    "learning_curves",
    "maps_figure",
    "moved_figure",
    "picture_figure",
    "save_picture",
]
