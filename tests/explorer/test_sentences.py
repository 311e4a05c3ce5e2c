"""A model of sentences on the page: every number of it against autograd on the whole model, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.explorer.test_arithmetic import closes, some
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import UNKNOWN, Vocabulary
from convscope.errors import ArgumentError
from convscope.explorer.lessons import lesson_of, save_page, save_sheet
from convscope.explorer.protocol import Arguments, Reply
from convscope.explorer.session import Session
from convscope.models import create_model
from convscope.tasks.sentences.preparing import prepare_data

TEXTS = ("a gripping , funny film", "a dull film", "funny and gripping", "a film with no end at all")
TYPED = "a gripping xyzzy film , and funny"


def sentences() -> Dataset[Sentences]:
    vocabulary = Vocabulary.build(TEXTS)
    whole = Sentences(TEXTS, torch.tensor([1, 0, 1, 0]), ("bad", "good"), vocabulary)
    return Dataset("reviews", whole, whole)


def classifier(double: bool = True) -> nn.Module:
    data = sentences()
    torch.manual_seed(2)
    model = create_model("text_cnn", size=5, maps=3, classes=2, vocabulary=len(data.train.vocabulary))
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(8)  # or every answer would be next to 0
    prepare_data(model, data)
    return model.double().eval() if double else model.eval()


def ask(session: Session, op: str, **args: Any) -> Reply:
    return session.answer(op, Arguments(args), b"")


def by_autograd(model: Any, numbers: Tensor, layers: list[str]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """What the layers of the whole model put out, its scores, and the word vectors that it looked up."""
    outputs: dict[str, Tensor] = {}

    def kept(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(kept(name)) for name in [*layers, "embedding"]]
    scores = model(numbers[None], torch.tensor([len(numbers)]))
    for each in hooks:
        each.remove()
    return outputs, scores, outputs.pop("embedding")


def test_every_sum_and_delta_of_a_typed_sentence_is_that_of_the_whole_model() -> None:
    model = classifier()
    session = Session(model)
    frame = ask(session, "show_sentence", text=TYPED).values
    vocabulary = sentences().train.vocabulary
    numbers = torch.tensor(vocabulary.encode(TYPED))
    layers = ["conv3", "conv5", "pool3", "pool4", "output"]
    outputs, scores, vectors = by_autograd(model, numbers, layers)
    assert frame["logits"] == pytest.approx(scores[0].tolist(), rel=1e-12)
    assert session.snapshot.question.target is not None
    nn.functional.cross_entropy(scores, torch.tensor([session.snapshot.question.target])).backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    for name in layers:
        y = outputs[name]
        assert y.grad is not None
        assert session.snapshot.layers[name].shape == tuple(y.shape[1:])
        for unit in some(tuple(y.shape[1:]), 20):
            closes(session.snapshot.forward(name, unit), float(y[(0, *unit)].detach()))
            closes(session.snapshot.backward(name, unit), float(y.grad[(0, *unit)]))
    assert session.snapshot.grad_x is not None
    np.testing.assert_allclose(session.snapshot.grad_x[0].T, vectors.grad[0], rtol=1e-9, atol=1e-15)
    for index in [(0, 0, 0), (2, 4, 1)]:
        gradient = model.get_parameter("conv3.weight").grad
        assert gradient is not None
        wanted = gradient[index]
        closes(session.snapshot.gradient("conv3", "weight", index), float(wanted))


def test_a_filters_sum_is_of_the_words_that_it_reads() -> None:
    session = Session(classifier())
    ask(session, "show_sentence", text=TYPED)
    page = ask(session, "explain", layer="conv4", index=[1, 5]).values
    assert page["family"] == "conv"
    assert page["count"] == 5 * 4
    assert {place[1] for place in page["terms"]["source"]} == {2, 3, 4, 5}
    found = ask(session, "explain", layer="pool4", index=[1]).values
    assert found["family"] == "max_over_time"
    best = max(range(len(found["terms"]["value"])), key=lambda row: found["terms"]["value"][row])
    assert found["terms"]["coefficient"][best] == 1
    assert found["value"] == found["terms"]["value"][best]


def test_words_stand_in_columns_and_unknown_ones_are_said() -> None:
    session = Session(classifier())
    assert ask(session, "frame").values["source"]["kind"] == "words"
    source = ask(session, "show_sentence", text=TYPED).values["source"]
    assert source["words"] == ["a", "gripping", "xyzzy", "film", ",", "and", "funny"]
    assert source["unknown"] == [2]
    hello = ask(session, "hello").values
    assert hello["sentences"] is True
    assert hello["input_shape"] == [5, 7]
    assert hello["classes"] == ["bad", "good"]
    table = classifier().get_parameter("embedding.weight")
    assert torch.equal(session.snapshot.question.x[0, :, 2], table[UNKNOWN])
    shorter = ask(session, "show_sentence", text="funny")
    assert shorter.values["input_shape"] == [5, 1]
    assert ask(session, "hello").values["input_shape"] == [5, 1]
    assert ask(session, "field", layer="conv3", index=[0, 0]).values["boxes"]["input"]


def test_sentences_of_a_data_set_are_leafed_through() -> None:
    session = Session(classifier(), sentences(), start=1)  # type: ignore[arg-type]
    first = ask(session, "frame").values
    assert (first["source"]["text"], first["label"]) == ("a dull film", 0)
    shown = ask(session, "show_data", split="train", index=2).values
    assert (shown["source"]["words"], shown["target"]) == (["funny", "and", "gripping"], 1)
    with pytest.raises(ArgumentError, match=r"index: got 4, wanted .*0"):
        session.desk.from_data("test", 4)


@pytest.mark.parametrize(
    ("text", "said"), [(" ", "text: got 'no words', wanted a sentence"), ("film " * 65, "text: got '65 words', wanted")]
)
def test_sentences_that_cannot_be_shown_are_refused(text: str, said: str) -> None:
    session = Session(classifier())
    with pytest.raises(ArgumentError, match=said):
        ask(session, "show_sentence", text=text)


def test_what_is_of_pictures_is_refused_by_name(tmp_path: Path) -> None:
    session = Session(classifier())
    for op in ("step", "show_pixels", "poke", "evidence", "likes", "health", "snippet"):
        with pytest.raises(
            ArgumentError, match=f"text_cnn, which reads sentences', wanted one of pictures, for '{op}'"
        ):
            ask(session, op)
    with pytest.raises(ArgumentError, match="upload: got 'a file', wanted a sentence"):
        session.load_upload(b"", "upload")
    for argument, act in (
        ("save", lambda: save_page(session, tmp_path / "page.html")),
        ("sheet", lambda: save_sheet(session, tmp_path / "sheet.html", "output/0")),
        ("lesson", lambda: lesson_of(session, tmp_path / "lesson.toml")),
    ):
        with pytest.raises(ArgumentError, match=f"{argument}: got 'text_cnn, which reads sentences'"):
            act()
    pictures = Session(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=(1, 2, 2))
    with pytest.raises(ArgumentError, match="wanted a model that reads sentences"):
        ask(pictures, "show_sentence", text="film")


def test_a_model_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(ArgumentError, match="TextCNN', wanted a model that was trained on sentences"):
        Session(create_model("text_cnn", size=4, maps=2, vocabulary=9))
