"""Where the networks for faces begin when there are few people to learn from: at edges, not at chance.

The first layer's filters are derivatives of a Gaussian in evenly spaced directions, those above hand on the maps below
them, smoothed; with ReLU and pooling between them a network then begins as histograms of gradients do. The last layer
begins where how pictures of one person differ is the same in all directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convscope.models.deepid import DeepID, DeepIDPatches
from convscope.models.pyramid_cnn import PyramidCNN

_SMOOTHED = 0.8  # the deviation in pixels of the filters that hand maps on
_RIDGE = 0.3  # of Pyramid CNN's maps
_SPREAD = 5.0  # the root mean square distance of DeepID's features from their mean
_COMPARED = 2000  # pictures at most, all with all, for where D is 0
_STEEPNESS = 10.0  # of D over the squared distance of two features of length 1


def edges(count: int, channels: int, size: int) -> Tensor:
    """(count, channels, size, size): the gradient of a Gaussian, its deviation a third of ``size``, in ``count``
    directions around the circle; each filter's absolute weights sum to 1."""
    along = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    bell = torch.exp(-(x * x + y * y) / (2 * (size / 3) ** 2))
    angles = [2 * math.pi * place / count for place in range(count)]
    found = torch.stack([bell * (x * math.cos(angle) + y * math.sin(angle)) for angle in angles])
    found = found / found.abs().sum((1, 2), keepdim=True) / channels
    return found[:, None].expand(-1, channels, -1, -1).clone()


def handing_on(outputs: int, inputs: int, size: int) -> Tensor:
    """(outputs, inputs, size, size): map j of the output is map j mod ``inputs``, smoothed."""
    along = torch.arange(size) - (size - 1) / 2
    bell = torch.exp(-along.square() / (2 * _SMOOTHED**2))
    bell = bell[:, None] * bell[None] / bell.sum() ** 2
    found = torch.zeros(outputs, inputs, size, size)
    found[torch.arange(outputs), torch.arange(outputs) % inputs] = bell
    return found


@torch.no_grad()
def begin_filters(layers: Sequence[nn.Module]) -> None:
    """Edges in the first of ``layers``, convolutions one on the other, and in all others what hands them on."""
    for place, layer in enumerate(layers):
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        outputs, inputs, size = weight.shape[-4:-1]  # those of locally shared layers are (rows, columns, …)
        weight.copy_(handing_on(outputs, inputs, size) if place else edges(outputs, inputs, size))
        bias.zero_()


def whitening(features: Tensor, people: Tensor, dimensions: int, ridge: float) -> tuple[Tensor, Tensor]:
    """(m, P): the mean of ``features`` (n, d) and (dimensions, d), float64, so that z = P·(f − m) are the first
    principal components, turned and scaled so that pictures of one of the ``people``, int64 (n,), differ from that
    person's mean by about the same in every direction. ``ridge`` of their mean variance is added to each direction's,
    for what few people show of it is less than there is."""
    x = features.detach().to("cpu", torch.float64)
    mean = x.mean(0)
    x = x - mean
    kept = min(dimensions, x.shape[1], len(x) - 1)
    axes = torch.linalg.eigh(x.t() @ x)[1].flip(1)[:, :kept].t()  # 17,280 patches: the SVD of x takes far longer
    z = x @ axes.t()
    _, numbers, sizes = torch.unique(people.cpu(), return_inverse=True, return_counts=True)
    centres = torch.zeros(len(sizes), z.shape[1], dtype=z.dtype).index_add_(0, numbers, z) / sizes[:, None]
    inside = z - centres[numbers]
    within = inside.t() @ inside / len(z)
    within += ridge * within.diagonal().mean() * torch.eye(len(within), dtype=z.dtype)
    return mean, torch.linalg.cholesky(torch.linalg.inv(within)).t() @ axes


@torch.no_grad()
def begin_deepid(model: DeepIDPatches, x: Tensor) -> None:
    """Set the networks' filters, and their 160 features to principal components of pictures ``x``; a bias of two
    standard deviations keeps nearly all of them on the straight side of their ReLUs."""
    model.eval()
    for network, part in zip(model.networks, model.seen(x), strict=True):
        assert isinstance(network, DeepID)
        begin_filters([network.conv1, network.conv2, network.conv3, network.conv4])
        maps = network.joined(part)
        mean = maps.mean(0)
        axes = torch.linalg.svd(maps - mean, full_matrices=False)[2][: network.deepid.out_features]
        scale = _SPREAD / (maps - mean).square().sum(1).mean().sqrt()
        network.deepid.weight.zero_()
        network.deepid.bias.zero_()
        network.deepid.weight[: len(axes)] = scale * axes
        deviation = scale * ((maps - mean) @ axes.t()).std(0)
        network.deepid.bias[: len(axes)] = 2 * deviation - scale * (axes @ mean)
    model.train()


@torch.no_grad()
def begin_pyramid(model: PyramidCNN, x: Tensor, people: Tensor) -> None:
    """Set ``model``'s last layer, α and β from pictures ``x`` (n, channels, height, width) of ``people``."""
    model.eval()
    maps = torch.cat([model.maps(part) for part in torch.split(x, 256)])
    mean, projection = whitening(maps, people, model.output.out_features, _RIDGE)
    model.output.weight.zero_()
    model.output.weight[: len(projection)] = projection.to(model.output.weight)
    model.output.bias.zero_()
    model.output.bias[: len(projection)] = -(projection @ mean).to(model.output.bias)
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:_COMPARED]
    features, people = model.features(x[some]), people[some]
    distances = torch.cdist(features, features).square()
    same = people[:, None] == people
    other = ~torch.eye(len(people), dtype=torch.bool)
    middle = (distances[same & other].mean() + distances[~same].mean()) / 2
    model.alpha.fill_(_STEEPNESS)
    model.beta.copy_(_STEEPNESS * middle)
    model.train()
