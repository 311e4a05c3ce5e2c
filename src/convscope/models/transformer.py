"""Vaswani and others' network of attention alone, from a sequence to a sequence."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers import LearnedPositions, MultiHeadAttention, PositionalEncoding
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register

PADDING, START = 0, 2  # numbers of tokens, as convscope.data.vocabulary has them
_TOKENS = 37_000  # byte pairs of both languages together, in the paper


class Part(nn.Module):
    """What both kinds of layers are made of: sublayers, each with a way around it and layer normalisation.

    Behind the sum (the paper: y = LN(x + f(x))), or with ``before`` inside it (y = x + f(LN(x)), Xiong et al. 2020).
    """

    def __init__(self, size: int, hidden: int, dropout: float, before: bool, sublayers: int) -> None:
        super().__init__()
        self.before = before
        for number in range(1, sublayers + 1):
            self.add_module(f"norm{number}", nn.LayerNorm(size))
            self.add_module(f"dropout{number}", nn.Dropout(dropout))
        self.expand = nn.Linear(size, hidden)
        self.relu = nn.ReLU()
        self.contract = nn.Linear(hidden, size)
        for layer in (self.expand, self.contract):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def entered(self, number: int, x: Tensor) -> Tensor:
        """What sublayer ``number`` is given of x."""
        return getattr(self, f"norm{number}")(x) if self.before else x

    def left(self, number: int, x: Tensor, answer: Tensor) -> Tensor:
        """x with the sublayer's answer."""
        y: Tensor = x + getattr(self, f"dropout{number}")(answer)
        return y if self.before else getattr(self, f"norm{number}")(y)

    def think(self, number: int, x: Tensor) -> Tensor:
        """The last sublayer: two fully connected layers at each place."""
        return self.left(number, x, self.contract(self.relu(self.expand(self.entered(number, x)))))


class EncoderLayer(Part):
    def __init__(self, size: int, heads: int, hidden: int, dropout: float, attention: float, before: bool) -> None:
        super().__init__(size, hidden, dropout, before, 2)
        self.attention = MultiHeadAttention(size, heads, attention)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        given = self.entered(1, x)
        return self.think(2, self.left(1, x, self.attention(given, None, seen)))


class DecoderLayer(Part):
    def __init__(self, size: int, heads: int, hidden: int, dropout: float, attention: float, before: bool) -> None:
        super().__init__(size, hidden, dropout, before, 3)
        self.own = MultiHeadAttention(size, heads, attention, causal=True)
        self.attention = MultiHeadAttention(size, heads, attention)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        x = self.left(1, x, self.own(self.entered(1, x)))
        x = self.left(2, x, self.attention(self.entered(2, x), memory, seen))
        return self.think(3, x)

    def step(self, x: Tensor, past: Past) -> Tensor:
        """x (n, 1, size), the newest place, which then belongs to the past."""
        given = self.entered(1, x)
        x = self.left(1, x, self.own.look(given, past.with_newest(self.own.remember(given))))
        x = self.left(2, x, self.attention.look(self.entered(2, x), past.source, past.seen))
        return self.think(3, x)


@dataclasses.dataclass
class Past:
    """What a decoder layer remembers of a translation under way: its own keys and values (n, heads, t, size/heads), of
    the source once and for all."""

    source: tuple[Tensor, Tensor]
    seen: Tensor
    own: tuple[Tensor, Tensor] | None = None

    def with_newest(self, newest: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.own is not None:
            newest = (torch.cat([self.own[0], newest[0]], 2), torch.cat([self.own[1], newest[1]], 2))
        self.own = newest
        return newest

    def reorder(self, rows: Tensor) -> None:
        if self.own is not None:
            self.own = (self.own[0][rows], self.own[1][rows])

    def keep(self, rows: Tensor) -> None:
        self.reorder(rows)
        self.source, self.seen = (self.source[0][rows], self.source[1][rows]), self.seen[rows]


class Begun:
    """Translations under way, token after token: what ``convscope.models.searching`` asks of every model of texts."""

    def __init__(self, model: Transformer, source: Tensor) -> None:
        self.model, self.place = model, 0
        memory, seen = model.encode(source)
        self.layers = [Past(layer.attention.remember(memory), seen) for layer in model.decoder_layers()]

    def step(self, tokens: Tensor) -> Tensor:
        """The scores (n, classes) of what comes after ``tokens`` (n,), the newest of each row."""
        model = self.model
        x = model.target_words()(tokens[:, None]) * model.size**0.5
        x = x + model.target_positions.weight[self.place]
        for layer, past in zip(model.decoder_layers(), self.layers, strict=True):
            x = layer.step(x, past)
        self.place += 1
        return model.answer(x)[:, 0]

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row ``rows[i]``, which is of the same source."""
        for past in self.layers:
            past.reorder(rows)

    def keep(self, rows: Tensor) -> None:
        """Only these rows stay, in this order."""
        for past in self.layers:
            past.keep(rows)


class Transformer(nn.Module):
    """Scores of every next token of a translation.

    ``forward(source, begun)``: int64 (n, s) and (n, t), padded behind with 0; → (n, t, classes), where place i knows
    the source and ``begun`` up to i. Without ``begun`` it is the mark of the start alone. Padding is never seen.
    """

    def __init__(
        self,
        classes: int,
        vocabulary: int | None,
        size: int,
        heads: int,
        layers: tuple[int, int],
        hidden: int,
        dropout: float,
        attention: float,
        before: bool,
        tied: bool,
        learned: bool,
        places: int,
    ) -> None:
        super().__init__()
        self.size, self.places, self.depth, self.joint, self.before = size, places, layers, vocabulary is None, before
        positions = LearnedPositions if learned else PositionalEncoding
        self.words = _table(classes if vocabulary is None else vocabulary, size)
        self.positions = positions(size, places)
        self.dropout = nn.Dropout(dropout)
        each = (size, heads, hidden, dropout, attention, before)
        for number in range(1, layers[0] + 1):
            self.add_module(f"encoder{number}", EncoderLayer(*each))
        self.encoder_norm = nn.LayerNorm(size) if before else nn.Identity()
        if not self.joint:
            self.begun_words = _table(classes, size)
        self.target_positions = positions(size, places)
        self.target_dropout = nn.Dropout(dropout)
        for number in range(1, layers[1] + 1):
            self.add_module(f"decoder{number}", DecoderLayer(*each))
        self.decoder_norm = nn.LayerNorm(size) if before else nn.Identity()
        self.output = nn.Linear(size, classes, bias=False)
        if tied:
            self.output.weight = self.target_words().weight
        else:
            nn.init.normal_(self.output.weight, std=size**-0.5)

    def forward(self, source: Tensor, begun: Tensor | None = None) -> Tensor:
        if begun is None:
            begun = torch.full_like(source[:, :1], START)
        memory, seen = self.encode(source)
        x = self.target_dropout(self.target_positions(self.target_words()(begun) * self.size**0.5))  # (n, t, size)
        for layer in self.decoder_layers():
            x = layer(x, memory, seen)
        return self.answer(x)  # (n, t, classes)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder looks at, (n, s, size), and which of it is no padding, (n, s)."""
        seen = source != PADDING
        x = self.dropout(self.positions(self.words(source) * self.size**0.5))  # (n, s, size)
        for number in range(1, self.depth[0] + 1):
            x = getattr(self, f"encoder{number}")(x, seen)
        return self.encoder_norm(x), seen

    def answer(self, x: Tensor) -> Tensor:
        scores: Tensor = self.output(self.decoder_norm(x))
        return scores

    def begin(self, source: Tensor) -> Begun:
        """Translations of ``source`` (n, s), not a token of them chosen."""
        return Begun(self, source)

    def target_words(self) -> nn.Embedding:
        return self.words if self.joint else self.begun_words

    def decoder_layers(self) -> list[DecoderLayer]:
        return [getattr(self, f"decoder{number}") for number in range(1, self.depth[1] + 1)]


def _table(tokens: int, size: int) -> nn.Embedding:
    table = nn.Embedding(tokens, size, padding_idx=PADDING)
    with torch.no_grad():
        table.weight.normal_(0, size**-0.5)
        table.weight[PADDING].zero_()
    return table


@register(
    "transformer",
    Card(
        title="Transformer",
        year=2017,
        paper="Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin: Attention is all you need",
        input_shape=(25,),
        classes=_TOKENS,
        parameters=63_082_496,
        published="WMT 2014 English to German 27.3 BLEU, English to French 38.1",
        note="the base sizes; one table of word vectors for both languages and the scores, unless vocabulary gives the "
        "source a table of its own. Input: numbers of tokens, and those of the translation as far as it is known",
        family="text",
        task="translation",
        economical=(("size", 16), ("heads", 2), ("layers", 1), ("hidden", 24)),
    ),
)
def transformer(
    classes: int = _TOKENS,
    in_channels: int = 1,
    vocabulary: int | None = None,
    size: int = 512,
    heads: int = 8,
    layers: int = 6,
    decoder_layers: int | None = None,
    hidden: int = 2048,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    norm: str = "post",
    tied: bool = True,
    positions: str = "sinusoidal",
    places: int = 512,
) -> nn.Module:
    """``classes`` tokens of the target and ``vocabulary`` of the source (None: the same, in one table); ``layers`` of
    encoder and decoder (of which ``decoder_layers``, None: as many); ``norm`` "post" as the paper or "pre"; ``tied``:
    the scores' weights are the target's word vectors; ``positions`` "sinusoidal" or "learned", for at most ``places``
    tokens. ``dropout`` behind every sublayer and on the sums of word vectors and positions."""
    for name, value in (("size", size), ("layers", layers), ("hidden", hidden), ("places", places)):
        whole_number(value, name)
    for name, optional in (("vocabulary", vocabulary), ("decoder_layers", decoder_layers)):
        if optional is not None:
            whole_number(optional, name)
    for name, share in (("dropout", dropout), ("attention_dropout", attention_dropout)):
        if not 0 <= share < 1:
            raise ArgumentError(name, share, "a share from 0 to below 1")
    for name, chosen, known in (
        ("norm", norm, ("post", "pre")),
        ("positions", positions, ("sinusoidal", "learned")),
        ("tied", tied, (True, False)),
    ):
        if chosen not in known:
            raise ArgumentError(name, chosen, f"one of {', '.join(map(str, known))}")
    if in_channels != 1:
        raise ArgumentError("in_channels", in_channels, "1: tokens have no channels")
    depth = (layers, layers if decoder_layers is None else decoder_layers)
    return Transformer(
        classes, vocabulary, size, heads, depth, hidden, dropout, attention_dropout, norm == "pre", tied,
        positions == "learned", places,
    )  # fmt: skip
