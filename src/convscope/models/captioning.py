"""Networks that tell what is to be seen: convolutions, then an LSTM that writes word after word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers import MultiHeadAttention, PositionalEncoding, RecurrentLayers
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register

PADDING, START = 0, 2  # numbers of tokens, as convscope.data.vocabulary has them
_MAPS = (16, 32, 64, 96)
_CELLS = 5  # rows and columns that a picture's map is brought to before one vector is made of it
_PLACES = 1024  # of a map that is looked at: pictures up to 256×256
State = tuple[Tensor, Tensor]


class Sight(nn.Module):
    """(n, channels, h, w) → (n, maps, h/8, w/8): four convolutions with batch normalisation, pooling behind three."""

    def __init__(self, channels: int, maps: Sequence[int]) -> None:
        super().__init__()
        self.stages = len(maps)
        for number, each in enumerate(maps, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, each, 3, padding=1, bias=False))
            self.add_module(f"norm{number}", nn.BatchNorm2d(each))
            self.add_module(f"relu{number}", nn.ReLU())
            self.add_module(f"pool{number}", nn.MaxPool2d(2) if number < self.stages else nn.Identity())
            channels = each

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, self.stages + 1):
            for part in ("conv", "norm", "relu", "pool"):
                x = getattr(self, f"{part}{number}")(x)
        return x


def _begun(pictures: Tensor, begun: Tensor | None) -> Tensor:
    """The captions as far as they are known; left out: the mark of the start alone."""
    if begun is None:
        return torch.full((len(pictures), 1), START, dtype=torch.int64, device=pictures.device)
    return begun


def _table(classes: int, size: int) -> nn.Embedding:
    table = nn.Embedding(classes, size, padding_idx=PADDING)
    with torch.no_grad():
        table.weight.normal_(0, 0.1)
        table.weight[PADDING].zero_()
    return table


class Remembered:
    """Captions under way, token after token: what ``convscope.models.searching`` asks of every model of texts.

    ``states`` are those of the recurrent layers, each (layers, n, size); ``kept`` what stays of the picture, (n, …).
    """

    def __init__(self, model: CaptionLSTM | CaptionAttention, states: list[State | None], kept: list[Tensor]) -> None:
        self.model, self.states, self.kept = model, states, kept

    def step(self, tokens: Tensor) -> Tensor:
        """The scores (n, classes) of what comes after ``tokens`` (n,), the newest of each row."""
        return self.model.step(tokens, self)

    def read(self, number: int, layer: RecurrentLayers, x: Tensor) -> Tensor:
        """One step x (n, 1, …) through recurrent layer ``number``, whose state goes on."""
        y, self.states[number] = layer.cells(x, self.states[number])
        answer: Tensor = y
        return answer

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row ``rows[i]``, which is of the same picture."""
        self.states = [None if each is None else (each[0][:, rows], each[1][:, rows]) for each in self.states]

    def keep(self, rows: Tensor) -> None:
        """Only these rows stay, in this order."""
        self.reorder(rows)
        self.kept = [each[rows] for each in self.kept]


class CaptionLSTM(nn.Module):
    """Scores of every next token of a caption.

    ``forward(pictures, begun)``: (n, c, h, w) and int64 (n, t), padded behind with 0; → (n, t, classes), where place i
    knows the picture and ``begun`` up to i. The picture is what the LSTM reads first, as one vector. Without ``begun``
    it is the mark of the start alone.
    """

    def __init__(self, classes: int, channels: int, maps: Sequence[int], size: int, dropout: float) -> None:
        super().__init__()
        self.sight = Sight(channels, maps)
        self.cells = nn.AdaptiveAvgPool2d(_CELLS)
        self.flatten = nn.Flatten()
        self.picture = nn.Linear(maps[-1] * _CELLS**2, size)
        self.words = _table(classes, size)
        self.dropout = nn.Dropout(dropout)
        self.reader = RecurrentLayers(size, size, "lstm")
        self.output = nn.Linear(size, classes)

    def forward(self, pictures: Tensor, begun: Tensor | None = None) -> Tensor:
        seen = self.seen(pictures)[:, None]  # (n, 1, size)
        words = self.dropout(self.words(_begun(pictures, begun)))  # (n, t, size)
        y = self.reader(torch.cat([seen, words], 1))[:, 1:]
        scores: Tensor = self.output(self.dropout(y))
        return scores  # (n, t, classes)

    def seen(self, pictures: Tensor) -> Tensor:
        """The picture as one vector, (n, size)."""
        vector: Tensor = self.picture(self.flatten(self.cells(self.sight(pictures))))
        return vector

    def begin(self, pictures: Tensor) -> Remembered:
        """Captions of ``pictures``, not a token of them chosen."""
        begun = Remembered(self, [None], [])
        begun.read(0, self.reader, self.seen(pictures)[:, None])
        return begun

    def step(self, tokens: Tensor, begun: Remembered) -> Tensor:
        y = begun.read(0, self.reader, self.dropout(self.words(tokens[:, None])))
        scores: Tensor = self.output(self.dropout(y))
        return scores[:, 0]


class CaptionAttention(nn.Module):
    """Scores of every next token of a caption, the picture's map looked at before each.

    In and out as ``CaptionLSTM``. The first LSTM reads the words, looks at the map, and a second reads both and looks
    again; what it sees then, and its own state, give the scores. All places of the map carry where they are.
    """

    def __init__(self, classes: int, channels: int, maps: Sequence[int], size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.sight = Sight(channels, maps)
        self.project = nn.Conv2d(maps[-1], size, 1)
        self.positions = PositionalEncoding(size, _PLACES)
        self.words = _table(classes, size)
        self.dropout = nn.Dropout(dropout)
        self.reader = RecurrentLayers(size, size, "lstm")
        self.glance = MultiHeadAttention(size, heads)
        self.writer = RecurrentLayers(2 * size, size, "lstm")
        self.attention = MultiHeadAttention(size, heads)
        self.output = nn.Linear(2 * size, classes)

    def forward(self, pictures: Tensor, begun: Tensor | None = None) -> Tensor:
        keys = self.seen(pictures)  # (n, places, size)
        x = self.reader(self.dropout(self.words(_begun(pictures, begun))))  # (n, t, size)
        y = self.writer(torch.cat([x, self.glance(x, keys)], 2))
        return self.answer(y, self.attention(y, keys))  # (n, t, classes)

    def seen(self, pictures: Tensor) -> Tensor:
        """The map, a row a place, (n, h/8 · w/8, size), top row first."""
        places: Tensor = self.positions(self.project(self.sight(pictures)).flatten(2).transpose(1, 2))
        return places

    def answer(self, y: Tensor, looked: Tensor) -> Tensor:
        scores: Tensor = self.output(self.dropout(torch.cat([y, looked], 2)))
        return scores

    def begin(self, pictures: Tensor) -> Remembered:
        """Captions of ``pictures``, not a token of them chosen."""
        keys = self.seen(pictures)
        return Remembered(self, [None, None], [*self.glance.remember(keys), *self.attention.remember(keys)])

    def step(self, tokens: Tensor, begun: Remembered) -> Tensor:
        glanced, looked = (begun.kept[0], begun.kept[1]), (begun.kept[2], begun.kept[3])
        x = begun.read(0, self.reader, self.dropout(self.words(tokens[:, None])))
        y = begun.read(1, self.writer, torch.cat([x, self.glance.look(x, glanced)], 2))
        return self.answer(y, self.attention.look(y, looked))[:, 0]


def _checked(size: int, dropout: float, maps: Sequence[int]) -> tuple[int, ...]:
    whole_number(size, "size")
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", dropout, "a share from 0 to below 1")
    if len(maps) < 1:
        raise ArgumentError("maps", maps, "a number of maps for each convolution")
    return tuple(whole_number(each, "maps") for each in maps)


@register(
    "caption_lstm",
    Card(
        title="Captions by convolution and LSTM",
        year=2015,
        paper="Vinyals, Toshev, Bengio, Erhan: Show and tell: a neural image caption generator",
        input_shape=(1, 80, 80),
        classes=22,
        parameters=1_231_174,
        published="Flickr8k BLEU-1 63, Flickr30k 66, COCO BLEU-4 27.7, with GoogLeNet's convolutions",
        note="four convolutions instead of GoogLeNet; the picture, as one vector, is what the LSTM reads first",
        family="captions",
        task="captions",
        economical=(("maps", (4, 6)), ("size", 8)),
    ),
)
def caption_lstm(
    classes: int = 22, in_channels: int = 1, maps: Sequence[int] = _MAPS, size: int = 256, dropout: float = 0.0
) -> nn.Module:
    """``classes`` tokens; ``maps`` of each convolution, ``size`` of word vectors and LSTM; ``dropout`` on word vectors
    and behind the LSTM."""
    return CaptionLSTM(classes, in_channels, _checked(size, dropout, maps), size, dropout)


@register(
    "caption_attention",
    Card(
        title="Captions with attention",
        year=2015,
        paper="Xu, Ba, Kiros, Cho, Courville, Salakhutdinov, Zemel, Bengio: Show, attend and tell",
        input_shape=(1, 80, 80),
        classes=22,
        parameters=561_606,
        published="Flickr8k BLEU-4 19.5 soft, 21.3 hard attention, COCO 24.3 and 25.0, with VGG's convolutions",
        note="soft attention over the map at each word, by dot products of several heads, twice: before and behind the "
        "LSTM that writes (as Anderson et al. 2018 have two); four convolutions instead of VGG's",
        family="captions",
        task="captions",
        economical=(("maps", (4, 6)), ("size", 8), ("heads", 2)),
    ),
)
def caption_attention(
    classes: int = 22,
    in_channels: int = 1,
    maps: Sequence[int] = _MAPS,
    size: int = 128,
    heads: int = 4,
    dropout: float = 0.0,
) -> nn.Module:
    """As ``caption_lstm``; ``heads`` of attention, a divisor of ``size``."""
    chosen = _checked(size, dropout, maps)
    return CaptionAttention(classes, in_channels, chosen, size, whole_number(heads, "heads"), dropout)
