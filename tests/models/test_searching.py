"""Texts made token by token: steps against whole passes, beams against an exhaustive search."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from convscope.models import create_model
from convscope.models.searching import Search
from convscope.models.transformer import Transformer

END, START = 3, 2


def small(seed: int = 0, **options: Any) -> Transformer:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"classes": 7, "size": 16, "heads": 2, "layers": 2, "hidden": 20}
    model = create_model("transformer", **{**sizes, **options})
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(2.0)  # surer of itself than at its start
    assert isinstance(model, Transformer)
    return model.double().eval()


def logs_of(model: Transformer, source: Tensor, text: tuple[int, ...]) -> float:
    """ln p of ``text`` and its end, by one whole pass."""
    with torch.no_grad():
        logs = torch.log_softmax(model(source, torch.tensor([[START, *text]])), 2)[0]
    return float(sum(logs[place, token] for place, token in enumerate((*text, END))))


@pytest.mark.parametrize("options", [{}, {"norm": "pre", "positions": "learned"}, {"vocabulary": 9, "tied": False}])
def test_steps_are_a_whole_pass(options: dict[str, Any]) -> None:
    """Sources of unequal length, rows put in another order on the way, and one of them dropped."""
    model = small(**options)
    source = torch.tensor([[4, 5, 6, 3], [5, 3, 0, 0], [6, 6, 3, 0]])
    texts = torch.tensor([[START, 4, 5, 6, 6], [START, 5, 5, 4, 6], [START, 6, 4, 4, 5]])
    with torch.no_grad():
        wanted = model(source, texts)
        begun = model.begin(source)
        rows = torch.arange(3)
        for place in range(5):
            found = begun.step(texts[rows, place])
            torch.testing.assert_close(found, wanted[rows, place], rtol=1e-10, atol=1e-12)
            if place == 2:
                begun.keep(torch.tensor([2, 0]))
                rows = rows[[2, 0]]
    torch.testing.assert_close(model(source), wanted[:, :1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_a_wide_beam_is_an_exhaustive_search(seed: int, penalty: float) -> None:
    model = small(seed, classes=6)  # two words, and the special tokens
    source = torch.tensor([[4, 5, 3]])
    search = Search(beam=200, penalty=penalty)
    scores = {
        text: search.by_length(logs_of(model, source, text), len(text) + 1)
        for length in range(5)
        for text in itertools.product((4, 5), repeat=length)
    }
    best = max(scores, key=scores.__getitem__)
    (found,) = search(model.begin(source), [5])
    assert found.whole
    assert found.tokens == best
    assert found.score == pytest.approx(scores[best], rel=1e-5)
    assert found.log_probability == pytest.approx(logs_of(model, source, best), rel=1e-5)


def test_of_several_sources_each_finds_its_own() -> None:
    model = small(3, classes=9)
    source = torch.tensor([[4, 5, 6, 3], [5, 3, 0, 0], [8, 6, 3, 0], [7, 7, 7, 3]])
    search = Search(beam=3)
    together = search(model.begin(source), [6, 3, 5, 6])
    for row, longest in enumerate((6, 3, 5, 6)):
        length = int((source[row] != 0).sum())
        (alone,) = search(model.begin(source[row : row + 1, :length]), [longest])
        assert alone.tokens == together[row].tokens
        assert alone.score == pytest.approx(together[row].score, abs=1e-5)
        assert alone.log_probability <= 0


def test_a_beam_of_one_takes_the_likeliest_token_each_time() -> None:
    model = small(1, classes=9)
    source = torch.tensor([[4, 8, 3]])
    text: list[int] = []
    while len(text) < 8:
        scores = model(source, torch.tensor([[START, *text]]))[0, -1]
        scores[[0, 1, 2]] = -torch.inf
        token = int(scores.argmax())
        if token == END:
            break
        text.append(token)
    (found,) = Search(beam=1)(model.begin(source), [8])
    assert list(found.tokens) == text[:8]


def test_a_text_without_an_end_is_cut() -> None:
    model = small(2)
    with torch.no_grad():
        model.output.weight[END] = 0.0
        model.output.weight[4:] *= 20
    search = Search(beam=2, banned=(0, 1, 2, END))
    (found,) = search(model.begin(torch.tensor([[4, 3]])), [4])
    assert not found.whole
    assert len(found.tokens) == 4


def test_poor_endings_do_not_end_a_likelier_text() -> None:
    """The end has 2 % at each place and a token 98 %: two short texts are found long before the likeliest, of four."""

    class Sure:
        def __init__(self) -> None:
            self.place = 0

        def step(self, tokens: Tensor) -> Tensor:
            self.place += 1
            chances = torch.full((len(tokens), 6), 1e-9)
            chances[:, 3], chances[:, 4] = (0.02, 0.98) if self.place < 5 else (0.98, 0.02)
            return chances.log()

        def reorder(self, rows: Tensor) -> None:
            pass

        def keep(self, rows: Tensor) -> None:
            pass

    for penalty in (0.0, 0.6):
        (found,) = Search(beam=2, penalty=penalty)(Sure(), [10])
        assert found.tokens == (4, 4, 4, 4)
