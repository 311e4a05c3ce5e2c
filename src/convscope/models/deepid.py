"""DeepID: features of faces from telling many people apart, and the verifier that compares two of them.

Sun, Wang, Tang: Deep Learning Face Representation from Predicting 10,000 Classes, CVPR 2014; Chen, Cao, Wang, Wen, Sun:
Bayesian Face Revisited: A Joint Formulation, ECCV 2012.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope.layers import LocallyConnected2d, LocallySharedConv2d
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register
from convscope.models.options import map_size

PAPER = "Sun, Wang, Tang: Deep Learning Face Representation from Predicting 10,000 Classes, CVPR 2014"
_FEATURES = 160


class _Features(nn.Module, ABC):
    """A network with ``features`` of pictures (n, channels, height, width)."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(n, features)."""

    def mirrored_features(self, x: Tensor) -> Tensor:
        """(n, features), the mean of a picture's and of its mirror image's."""
        return (self.features(x) + self.features(x.flip(3))) / 2


class DeepID(_Features):
    """20C4-MP2-40C3-MP2-60C3-MP2-80C2, the third convolution shared over 2×2 places, the fourth over none, then 160
    features that see both the third pooling and the fourth convolution; a linear layer tells the people apart."""

    def __init__(self, classes: int, in_channels: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        after2 = map_size(input_size, [(4, 1, 0), (2, 2, 0), (3, 1, 0), (2, 2, 0)])
        pooled3 = map_size(after2, [(3, 1, 0), (2, 2, 0)])
        conv4 = map_size(pooled3, [(2, 1, 0)])
        self.conv1 = nn.Conv2d(in_channels, 20, kernel_size=4)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 40, kernel_size=3)
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = LocallySharedConv2d(40, 60, kernel_size=3, input_size=after2, region_size=2)
        self.pool3 = nn.MaxPool2d(2)
        self.conv4 = LocallyConnected2d(60, 80, kernel_size=2, input_size=pooled3)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.deepid = nn.Linear(60 * pooled3[0] * pooled3[1] + 80 * conv4[0] * conv4[1], _FEATURES)
        self.output = nn.Linear(_FEATURES, classes)

    def joined(self, x: Tensor) -> Tensor:
        """What the features see: the third pooling and the fourth convolution."""
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        pooled = self.pool3(self.relu(self.conv3(x)))
        above = self.relu(self.conv4(pooled))
        return torch.cat((self.flatten(pooled), self.flatten(above)), 1)

    def features(self, x: Tensor) -> Tensor:
        """(n, 160)."""
        found: Tensor = self.relu(self.deepid(self.joined(x)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.features(x))
        return logits


class DeepIDPatches(_Features):
    """Six DeepIDs, one on the whole picture at half its size and one on each of five windows of half its height and
    width: its quarters and its middle. The picture is first brought to mean 0 and deviation 1, the logits are the
    mean of the six networks', the features theirs one after the other. (The paper has 60 such patches.)
    """

    def __init__(self, classes: int, in_channels: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = input_size[0] // 2, input_size[1] // 2
        self.standardise = nn.LayerNorm((in_channels, *input_size), elementwise_affine=False)
        self.halving = nn.AvgPool2d(2)
        self.size = (height, width)
        self.corners = [(top, left) for top in (0, height) for left in (0, width)] + [(height // 2, width // 2)]
        self.networks = nn.ModuleList(DeepID(classes, in_channels, self.size) for _ in range(6))

    def seen(self, x: Tensor) -> list[Tensor]:
        """What each network sees, (n, channels, height, width)."""
        x = self.standardise(x)
        height, width = self.size
        return [self.halving(x), *(x[:, :, top : top + height, left : left + width] for top, left in self.corners)]

    def features(self, x: Tensor) -> Tensor:
        """(n, 6·160)."""
        found = []
        for network, part in zip(self.networks, self.seen(x), strict=True):
            assert isinstance(network, DeepID)
            found.append(network.features(part))
        return torch.cat(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [network(part) for network, part in zip(self.networks, self.seen(x), strict=True)]
        return torch.stack(found).mean(0)


def _network(classes: int, in_channels: int, input_size: int | Sequence[int], patches: bool) -> DeepID | DeepIDPatches:
    height, width = map_size(input_size, [])
    return (DeepIDPatches if patches else DeepID)(classes, in_channels, (height, width))


@register(
    "deepid",
    Card(
        title="DeepID",
        year=2014,
        paper=PAPER,
        input_shape=(1, 39, 31),
        classes=10,
        parameters=261_070,
        published="LFW verification 97.45 % with joint Bayesian on 60 such networks' features",
        note="39×31 grey patches; locally shared third and local fourth convolution; people are its classes",
        family="faces",
        shapes=(
            ("conv1", (20, 36, 28)),
            ("conv2", (40, 16, 12)),
            ("conv3", (60, 6, 4)),
            ("pool3", (60, 3, 2)),
            ("conv4", (80, 2, 1)),
            ("deepid", (160,)),
        ),
    ),
)
def deepid(
    classes: int = 10, in_channels: int = 1, input_size: int | Sequence[int] = (39, 31), patches: bool = False
) -> nn.Module:
    """39×31 → 20@36×28 → 20@18×14 → 40@16×12 → 40@8×6 → 60@6×4 → 60@3×2 → 80@2×1 → 160 → classes. ``patches``: six of
    these on six patches of a picture twice as high and wide, e.g. 78×62."""
    return _network(classes, in_channels, input_size, patches)


class DeepIDVerifier(nn.Module):
    """D = t − r(a, b),   r = z_aᵀ·A·z_a + z_bᵀ·A·z_b − 2·z_aᵀ·G·z_b,   z = P·(f − m)

    f is the mean of the features of a picture and of its mirror image. r is joint Bayesian's logarithm of how much
    likelier the two are one person than two (Chen et al. 2012, eq. (4)), up to a constant that the threshold t takes
    in. Two inputs (n, channels, height, width); output D (n,), below 0: the same person. z of a network of patches is
    scaled to length 1, and the mean of such z, ``centre``, taken off.
    """

    def __init__(self, network: DeepID | DeepIDPatches, dimensions: int) -> None:
        super().__init__()
        self.network = network
        features = _FEATURES * (len(network.networks) if isinstance(network, DeepIDPatches) else 1)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("projection", torch.zeros(dimensions, features))
        if isinstance(network, DeepIDPatches):
            self.register_buffer("centre", torch.zeros(dimensions))
        self.register_buffer("A", torch.zeros(dimensions, dimensions))
        self.register_buffer("G", torch.zeros(dimensions, dimensions))
        self.register_buffer("threshold", torch.zeros(()))

    def coded(self, x: Tensor) -> Tensor:
        """z (n, dimensions)."""
        z = (self.network.mirrored_features(x) - self.get_buffer("mean")) @ self.get_buffer("projection").t()
        return functional.normalize(z) - self.get_buffer("centre") if isinstance(self.network, DeepIDPatches) else z

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.coded(first), self.coded(second)
        A, G = self.get_buffer("A"), self.get_buffer("G")
        ratio = ((a @ A) * a).sum(1) + ((b @ A) * b).sum(1) - 2 * ((a @ G) * b).sum(1)
        return self.get_buffer("threshold") - ratio


@register(
    "deepid_verifier",
    Card(
        title="DeepID with joint Bayesian",
        year=2014,
        paper=PAPER,
        input_shape=(1, 39, 31),
        classes=10,
        parameters=261_070,
        published="LFW verification 97.45 %",
        note="two pictures in, one number out: below 0 they show one person; `convscope train face_verification` makes "
        "it of a trained deepid",
        family="faces",
        task="verification",
    ),
)
def deepid_verifier(
    classes: int = 10,
    in_channels: int = 1,
    dimensions: int = 60,
    input_size: int | Sequence[int] = (39, 31),
    patches: bool = False,
) -> nn.Module:
    """``classes`` people that the network was trained to tell apart, ``dimensions`` of its features kept; ``patches``
    as of ``deepid``."""
    network = _network(classes, in_channels, input_size, patches)
    return DeepIDVerifier(network, whole_number(dimensions, "dimensions"))
