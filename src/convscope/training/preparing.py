"""Bringing pictures and a model together: size, channels, normalisation, fresh weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscope import seeding, spec
from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.layers import initialise
from convscope.models import create_model, modelfile
from convscope.training.config import Config

# A picture at most this much smaller than the input is padded (MNIST's 28 in 32, as LeCun did), else it is stretched.
_PADDED = 1.3


def build_model(name: str, options: dict[str, Any], config: Config) -> nn.Module:
    """A catalogue model, its weights drawn from the configuration's seed and then as ``config.init`` says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.derive(config.seed, "model"))
        return initialise_model(create_model(name, **options), config)


def initialise_model(model: nn.Module, config: Config) -> nn.Module:
    """Draw the weights anew by ``config.init``; "default" leaves them as they are. UnknownNameError for other names."""
    if config.init != "default":
        initialise(model, config.init, seed=config.seed, scale=config.init_scale)
    return model


def description_of(model: nn.Module, shape: tuple[Any, ...]) -> spec.ModelSpec | None:
    """The model's description, made now for a user's own module with an input of ``shape`` (of several a tuple of
    shapes); None for one that cannot be described, which trains all the same but whose file holds weights only, and for
    one that fails on such an input, which the task finds out when it tries the model on the data."""
    try:
        return modelfile.current_spec(model, shape)
    except Exception:  # the model's own code may raise anything
        return None


def preprocessing_of(model: nn.Module, dataset: Dataset[Any], config: Config) -> spec.Preprocessing:
    """How the data set's pictures become the model's input: as the model says itself (one that was loaded, to train
    on), else by the data set's mean and deviation in the model's size."""
    described = description_of(model, dataset.shape)
    if described is not None and described.preprocessing is not None:
        return described.preprocessing
    shape = described.input_shape if described is not None and len(described.input_shape) == 3 else dataset.shape
    return dataset.preprocessing((shape[1], shape[2]), shape[0], how_to_fit(dataset.shape, shape, config))


def how_to_fit(picture: tuple[int, ...], wanted: tuple[int, ...], config: Config) -> spec.Fit:
    """The configuration's way, or for "auto": pad pictures a little smaller than the input, resize all others."""
    if config.fit != "auto":
        return config.fit
    slightly_smaller = all(own <= full <= own * _PADDED for own, full in zip(picture[1:], wanted[1:], strict=True))
    return "pad" if slightly_smaller else "resize"


def preprocessing_for(model: nn.Module, data: object = None) -> spec.Preprocessing:
    """How pictures become the model's input: as it says itself, else as the data set suggests; ArgumentError without
    either."""
    described = spec.spec_of(model)
    if described is not None and described.preprocessing is not None:
        return described.preprocessing
    if isinstance(data, Dataset):
        return data.preprocessing()
    raise ArgumentError("preprocessing", None, "how pictures become this model's input, as it does not carry it")
