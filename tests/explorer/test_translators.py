"""A translator on the page: the next token's scores and every weight of attention, beside loops and autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.explorer.test_arithmetic import closes, some
from tests.explorer.test_sentences import ask
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.data.kinds.parallel import Parallel
from convscope.data.vocabulary import END, START, Vocabulary
from convscope.errors import ArgumentError
from convscope.explorer.session import Session
from convscope.models import create_model
from convscope.tasks.translation.preparing import prepare_data

ENGLISH, GERMAN = ("two dogs play", "a dog sleeps"), ("zwei Hunde spielen", "ein Hund")


def translator(**options: Any) -> nn.Module:
    words = (Vocabulary.build(ENGLISH), Vocabulary.build(GERMAN))
    pairs = Parallel(ENGLISH, GERMAN, *words)
    torch.manual_seed(4)
    model = create_model(
        "transformer", size=6, heads=2, layers=1, hidden=7, places=12, classes=len(words[1]), vocabulary=len(words[0]),
        **options,
    )  # fmt: skip
    prepare_data(model, Dataset("pairs", pairs, pairs), 0, 0, "cut", {})
    return model.eval()


def opened(text: str = "two xyzzy dogs play", begun: str = "zwei Hunde", **options: Any) -> tuple[Session, Any]:
    session = Session(model := translator(**options).double())
    ask(session, "show_sentence", text=text, begun=begun)
    return session, model


@pytest.mark.parametrize("options", [{}, {"norm": "pre", "positions": "learned", "tied": False}])
def test_scores_sums_and_deltas_are_those_of_the_whole_model(options: dict[str, Any]) -> None:
    session, model = opened(**options)
    picture: Any = session.picture
    source, begun = (torch.tensor([each]) for each in (picture.numbers[:5], picture.numbers[5:]))
    assert (int(source[0, -1]), int(begun[0, 0])) == (END, START)
    names = ["encoder1.attention", "encoder1.norm1", "decoder1.own", "decoder1.attention", "decoder1.contract"]
    outputs: dict[str, Tensor] = {}

    def hook(module: nn.Module, given: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs[next(name for name in names if model.get_submodule(name) is module)] = output

    hooks = [model.get_submodule(name).register_forward_hook(hook) for name in names]
    scores = model(source, begun)[:, -1]
    for each in hooks:
        each.remove()
    assert session.snapshot.logits[0].tolist() == pytest.approx(scores[0].tolist(), rel=1e-9)
    nn.functional.cross_entropy(scores, torch.tensor([session.snapshot.question.target])).backward()  # type: ignore[no-untyped-call]
    for name in names:
        y = outputs[name]
        assert y.grad is not None
        for unit in some(tuple(y.shape[1:]), 8):
            closes(session.snapshot.forward(name, unit), float(y[(0, *unit)].detach()))
            closes(session.snapshot.backward(name, unit), float(y.grad[(0, *unit)]))
    wanted = model.get_parameter("decoder1.own.in_proj_weight").grad
    assert wanted is not None
    closes(session.snapshot.gradient("decoder1.own", "in_proj_weight", (7, 2)), float(wanted[7, 2]))


@pytest.mark.parametrize(
    ("name", "queries", "keys"),
    [("encoder1.attention", 5, 5), ("decoder1.own", 3, 3), ("decoder1.attention", 3, 5)],
)
def test_every_weight_of_attention_is_the_softmax_of_queries_and_keys(name: str, queries: int, keys: int) -> None:
    session, model = opened()
    layer, module = session.snapshot.layers[name], model.get_submodule(name)
    x, memory = layer.inputs[0][0], layer.inputs[-1][0]
    w, b = module.in_proj_weight.detach(), module.in_proj_bias.detach()
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        for query in range(queries):
            q = w[:6][part] @ x[query] + b[:6][part]
            ks = [w[6:12][part] @ memory[key] + b[6:12][part] for key in range(keys)]
            scores = [float(q @ k) / math.sqrt(3) for k in ks]
            seen = [key for key in range(keys) if name != "decoder1.own" or key <= query]
            total = sum(math.exp(scores[key]) for key in seen)
            for key in range(keys):
                found = ask(
                    session, "weigh", layer=name, head=head, query=query, key=key, channel=1, which="key"
                ).values
                assert found["weight"]["padding_count"] == keys - len(seen)
                right = math.exp(scores[key]) / total if key in seen else 0.0
                for page, true in (("weight", right), ("score", scores[key]), ("number", float(ks[key][1]))):
                    assert found[page]["value"] == pytest.approx(true, rel=1e-9, abs=1e-12), page
                    assert found[page]["computed"] == pytest.approx(true, rel=1e-9, abs=1e-12), page
    query = ask(session, "weigh", layer=name, head=1, query=0, key=0, channel=2).values["number"]
    assert query["value"] == pytest.approx(float(w[5] @ x[0] + b[5]), rel=1e-9)


def test_the_words_of_both_sides_stand_in_columns() -> None:
    session, _ = opened()
    source = session.picture.source
    assert source["words"] == ["two", "xyzzy", "dogs", "play", "</s>", "<s>", "zwei", "Hunde"]
    assert (source["unknown"], source["parts"], source["begun"]) == ([1], [5, 3], "zwei Hunde")
    assert ask(session, "hello").values["translates"] is True
    for layer, box in (("encoder1.attention", [0, 5]), ("decoder1.own", [5, 7]), ("decoder1.attention", [0, 7])):
        assert ask(session, "field", layer=layer, index=[1, 0]).values["boxes"]["input"] == [box], layer
    masked = ask(session, "explain", layer="decoder1.own", index=[1, 0]).values
    assert masked["padding_count"] == 2  # of two heads the last key
    assert masked["computed"] == pytest.approx(masked["value"], rel=1e-9)


def test_the_likeliest_token_is_appended_until_the_end() -> None:
    session, _ = opened()
    predicted = session.snapshot.predicted
    assert predicted is not None
    if predicted in (0, END):
        with pytest.raises(ArgumentError, match="the translation ends here"):
            ask(session, "next_token")
    reader: Any = session.reader
    longer = reader.next(session.picture, 4)
    assert longer.numbers == (*session.picture.numbers, 4)  # type: ignore[attr-defined]
    assert longer.source["words"][-1] == session.classes[4]
    session.show(longer)
    assert session.network.input_shape == (6, 9)
    with pytest.raises(ArgumentError, match="token: got '</s>', wanted a token of the text"):
        reader.next(longer, END)


def test_what_cannot_be_shown_exactly_is_refused() -> None:
    session, _ = opened()
    with pytest.raises(ArgumentError, match="parameter: got 'output.weight', wanted a parameter of one use"):
        ask(session, "explain", layer="output", index=[0, 0], direction="gradient")
    with pytest.raises(ArgumentError, match=r"parameter: got 'output.weight', wanted a parameter of one use"):
        ask(session, "edit", layer="output", index=[0, 0], value=1.0)
    with pytest.raises(ArgumentError, match="text: got '13 tokens', wanted at most 12"):
        ask(session, "show_sentence", text="dogs " * 12)
    for args, said in (
        ({"head": 2, "query": 0, "key": 0}, "head: got 2, wanted 0…1"),
        ({"head": 0, "query": 9, "key": 0}, "query: got 9"),
        ({"head": 0, "query": 0, "key": 5}, "key: got 5"),
        ({"head": 0, "query": 0, "key": 0, "channel": 3}, "channel: got 3, wanted 0…2"),
    ):
        with pytest.raises(ArgumentError, match=said):
            ask(session, "weigh", layer="encoder1.attention", **args)
    with pytest.raises(ArgumentError, match="layer: got 'output', wanted a layer of attention"):
        ask(session, "weigh", layer="output", head=0, query=0, key=0)
    plain = Session(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=(1, 2, 2))
    with pytest.raises(ArgumentError, match="wanted a model that translates"):
        ask(plain, "next_token")
