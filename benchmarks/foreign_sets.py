"""Small models in the ways that people write them in tutorials and papers' code, for ``foreign_models.py``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PreActivated(nn.Module):
    """A residual network whose normalisations come first, its shortcut there or not (``hasattr``)."""

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            if stride != 1 or before != after:
                self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False))

        def forward(self, x: Tensor) -> Tensor:
            first = F.relu(self.bn1(x))
            shortcut = self.shortcut(first) if hasattr(self, "shortcut") else x
            out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(first))))
            out += shortcut
            return out

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layers = nn.Sequential(self.Block(16, 16, 1), self.Block(16, 32, 2), self.Block(32, 48, 2))
        self.linear = nn.Linear(48 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.avg_pool2d(self.layers(self.conv(x)), 4)
        answer: Tensor = self.linear(out.view(out.size(0), -1))
        return answer


class DualPath(nn.Module):
    """Slices that are added and slices that are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grow = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1, groups=4)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out, kept = self.grow(F.relu(x)), 16
        joined = torch.cat([x[:, :kept] + out[:, :kept], x[:, kept:], out[:, kept:]], 1)
        answer: Tensor = self.head(F.relu(joined).mean((2, 3)))
        return answer


class Shuffled(nn.Module):
    """Channels shuffled by view and permute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 1, groups=3)
        self.head = nn.Linear(24 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        n, c, h, w = x.size()
        x = x.view(n, 3, c // 3, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)
        answer: Tensor = self.head(F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1))
        return answer


class VisionTransformer(nn.Module):
    """Patches by reshaping, a class token, one matrix for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.LayerNorm(192), nn.Linear(192, 32), nn.LayerNorm(32))
        self.position, self.token = nn.Parameter(torch.randn(1, 17, 32)), nn.Parameter(torch.randn(1, 1, 32))
        self.blocks = nn.ModuleList([])
        for _ in range(2):
            parts = [nn.LayerNorm(32), nn.Linear(32, 96, bias=False), nn.Linear(32, 32)]
            self.blocks.append(nn.ModuleList([*parts, nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU())]))
        self.narrow, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 64 * c)
        x = torch.cat((self.token.expand(n, -1, -1), self.patches(x)), dim=1)
        x = x + self.position[:, : x.shape[1]]
        blocks: Any = self.blocks
        for norm, wide, out, feed in blocks:
            q, k, v = (t.reshape(n, -1, 4, 8).transpose(1, 2) for t in wide(norm(x)).chunk(3, dim=-1))
            weights = (torch.matmul(q, k.transpose(-1, -2)) * 8**-0.5).softmax(dim=-1)
            x = out(torch.matmul(weights, v).transpose(1, 2).reshape(n, -1, 32)) + x
            x = self.narrow(feed(x)) + x
        answer: Tensor = self.head(x[:, 0])
        return answer


class Variational(nn.Module):
    """An autoencoder with the reparametrisation: chance in evaluation mode too, a tuple of answers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mu, self.log_var = nn.Linear(784, 40), nn.Linear(40, 8), nn.Linear(40, 8)
        self.fc3, self.fc4 = nn.Linear(8, 40), nn.Linear(40, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.fc1(x.view(-1, 784)))
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        std = torch.exp(0.5 * log_var)
        z = mu + torch.randn(std.shape).to(std) * std  # the same numbers in each precision
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, log_var


class UNet(nn.Module):
    """Down, up by transposed convolutions, padded by what is missing, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self.twice(3, 8), self.twice(8, 16)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, stride=2), self.twice(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    @staticmethod
    def twice(before: int, after: int) -> nn.Sequential:
        first = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        return nn.Sequential(
            *first, nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.down1(x)
        x2 = self.up(self.down2(F.max_pool2d(x1, 2)))
        dy, dx = x1.size(2) - x2.size(2), x1.size(3) - x2.size(3)
        x2 = F.pad(x2, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        answer: Tensor = self.out(self.last(torch.cat([x1, x2], dim=1)))
        return answer


class Generator(nn.Module):
    """DCGAN's generator, which asks for graphics cards by a number."""

    def __init__(self, cards: int = 0) -> None:
        super().__init__()
        self.cards = cards
        self.main = nn.Sequential(
            nn.ConvTranspose2d(12, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and self.cards > 1:
            return nn.parallel.data_parallel(self.main, x, range(self.cards))
        answer: Tensor = self.main(x)
        return answer


class Discriminator(nn.Module):
    """DCGAN's other half."""

    def __init__(self, cards: int = 0) -> None:
        super().__init__()
        self.cards = cards
        self.main = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(32, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and self.cards > 1:
            out = nn.parallel.data_parallel(self.main, x, range(self.cards))
        else:
            out = self.main(x)
        return out.view(-1, 1).squeeze(1)


class RowsByCell(nn.Module):
    """A picture (n, h, w) read row by row by an LSTM cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(14, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), 12, dtype=x.dtype, device=x.device)
        for row in x.unbind(1):
            h, c = self.cell(row, (h, c))
        answer: Tensor = self.head(h)
        return answer


class RowsByLayer(nn.Module):
    """The same by the layer, its first state made in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(14, 12, 2, batch_first=True), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(2, x.size(0), 12, dtype=x.dtype).to(x.device)
        c0 = torch.zeros(2, x.size(0), 12, dtype=x.dtype).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        answer: Tensor = self.fc(out[:, -1, :])
        return answer


class TwoPictures(nn.Module):
    """Two inputs through one body."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 6))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.stack([F.pairwise_distance(self.body(one), self.body(other)), self.body(one).sum(1)], 1)


@dataclasses.dataclass
class Answer:
    logits: Tensor
    hidden: list[Tensor]


class Structured(nn.Module):
    """Answers as a dict, a tuple or a dataclass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.head = kind, nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Any:
        hidden = F.relu(self.conv(x))
        logits = self.head(F.adaptive_avg_pool2d(hidden, 1).flatten(1))
        if self.kind == "dict":
            return {"out": logits, "aux": hidden}
        return (logits, hidden) if self.kind == "tuple" else Answer(logits, [hidden])


#: By name what builds it, and the shape of its input (of several inputs a tuple of shapes).
OWN: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "pre-activated residual": (PreActivated, (3, 32, 32)),
    "dual path": (DualPath, (3, 32, 32)),
    "shuffled channels": (Shuffled, (3, 32, 32)),
    "vision transformer by hand": (VisionTransformer, (3, 32, 32)),
    "variational autoencoder": (Variational, (1, 28, 28)),
    "U-Net, odd sides": (UNet, (3, 33, 35)),
    "DCGAN generator": (Generator, (12, 1, 1)),
    "DCGAN discriminator": (Discriminator, (3, 16, 16)),
    "LSTM cell in a loop": (RowsByCell, (10, 14)),
    "LSTM layer": (RowsByLayer, (10, 14)),
    "two inputs": (TwoPictures, ((3, 16, 16), (3, 16, 16))),
    "answers in a dict": (lambda: Structured("dict"), (3, 16, 16)),
    "answers in a tuple": (lambda: Structured("tuple"), (3, 16, 16)),
    "answers in a dataclass": (lambda: Structured("dataclass"), (3, 16, 16)),
}
