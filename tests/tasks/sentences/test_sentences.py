"""Sentence classification: a network that learns whether a sentence praises, and says by which words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from convscope import count, evaluate, fit, load, predict, save
from convscope.data import Dataset
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError, DataError
from convscope.models import MODELS, create_model
from convscope.rules import tape
from convscope.tasks.sentences import favourites
from convscope.tasks.sentences.ngrams import ngram, word_shares
from convscope.training import Result

GOOD, BAD = ("fine", "lovely", "great"), ("dull", "awful", "poor")
FILLING = ("the", "film", "is", "a", "plot", "and", "very", "of")
CLASSES = ("bad", "good")


def reviews(count: int, seed: int) -> tuple[list[str], torch.Tensor]:
    """Sentences of 3 to 9 words of which one, somewhere, praises or blames."""
    chance = torch.Generator().manual_seed(seed)

    def one_of(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=chance))]

    texts, labels = [], torch.arange(count) % 2
    for label in labels.tolist():
        length = 2 + int(torch.randint(7, (1,), generator=chance))
        words = [one_of(FILLING) for _ in range(length)]
        words.insert(int(torch.randint(length + 1, (1,), generator=chance)), one_of(GOOD if label else BAD))
        texts.append(" ".join(words))
    return texts, labels


def dataset() -> Dataset[Sentences]:
    texts, labels = reviews(240, 1)
    vocabulary = Vocabulary.build(texts)
    others, other_labels = reviews(60, 2)
    train = Sentences(tuple(texts), labels, CLASSES, vocabulary)
    return Dataset("reviews", train, Sentences(tuple(others), other_labels, CLASSES, vocabulary))


SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 20,
    "learning_rate": 0.02,
    "seed": 1,
    "engine": "torch",
    "watch": False,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fit("text_cnn", dataset(), model_options={"size": 8, "maps": 6}, run_dir=str(folder), **SETTINGS)


@pytest.fixture
def model(trained: Result) -> nn.Module:
    return load(Path(trained.run_dir) / "model.safetensors")


def test_it_learns(trained: Result, model: nn.Module) -> None:
    assert trained.metrics.accuracy > 0.95
    assert trained.history[0].train["accuracy"] < 0.9
    assert evaluate(model, dataset()).accuracy == trained.metrics.accuracy
    assert (Path(trained.run_dir) / "metrics.json").is_file()


def test_the_answer_does_not_depend_on_the_batch(model: nn.Module) -> None:
    texts = ["fine", "the film is a very very poor film of the plot and a film", "great plot"]
    together = predict(model, texts)
    for answer, text in zip(together, texts, strict=True):
        (alone,) = predict(model, text)
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_sentences_files_and_standard_input(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.txt").write_text("a lovely film\n\nThe film is awful .\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("great and fine\npoor and dull\n"))
    answers = predict(model, [str(tmp_path / "reviews.txt"), "-", "a very great plot"])
    assert [each.source for each in answers] == [
        "reviews.txt:1",
        "reviews.txt:3",
        "standard input:1",
        "standard input:2",
        "3",
    ]
    assert [each.label for each in answers] == ["good", "bad", "good", "bad", "good"]
    assert answers[1].unknown == ("The", ".")
    assert answers[1].line(1).startswith("The film is awful .: bad ")
    assert answers[1].line(1).endswith("(unknown: The, .)")
    assert predict(model, tmp_path / "reviews.txt")[0].text == "a lovely film"


def test_what_cannot_be_read_is_refused(model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(b"fine\nsch\xf6n\n")
    with pytest.raises(DataError, match=r"odd\.txt: line 2 is not utf-8"):
        predict(model, str(tmp_path / "odd.txt"))
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ArgumentError, match="wanted at least one sentence"):
        predict(model, str(tmp_path / "empty.txt"))
    with pytest.raises(ArgumentError, match="inputs: got 'int', wanted sentences, names of text files"):
        predict(model, [3])
    with pytest.raises(ArgumentError, match="wanted a model that was trained on sentences"):
        predict(create_model("text_cnn", vocabulary=9, size=4, maps=2), "fine")


def test_words_that_count(model: nn.Module, tmp_path: Path) -> None:
    (answer,) = predict(model, "the film is lovely and the plot")
    shares = answer.shares()
    assert max(zip(shares, answer.tokens, strict=True))[1] == "lovely"
    assert json.loads(json.dumps(answer.to_json()))["words"][3][0] == "lovely"
    (path,) = answer.save(tmp_path)
    with Image.open(path) as picture:
        assert picture.width > 500


def test_word_shares_are_gradient_times_input() -> None:
    """Of a model that is linear in its word vectors: exactly each word's part of the score, by hand."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(3, 2)
            self.words.weight.data = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]])
            self.output = nn.Linear(2, 2, bias=False)
            self.output.weight.data = torch.tensor([[1.0, 1.0], [0.0, 2.0]])

        def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.output(self.words(tokens).sum(1))
            return scores

    assert word_shares(Sums(), [1, 2, 1], 0) == [3, 2, 3]
    assert word_shares(Sums(), [1, 2, 1], 1) == [4, -2, 4]
    with pytest.raises(ArgumentError, match="wanted a model with an embedding"):
        word_shares(nn.Linear(2, 2), [1], 0)


def test_the_ngrams_that_filters_like(model: Any) -> None:
    data = dataset()
    found = favourites(model, data.train, each=2)
    assert len(found) == 18
    telling = [liked for each in found for liked in each if liked.answer > 0 and abs(liked.by) > 0.3]
    assert telling
    for liked in telling:
        assert set(liked.words) & set(GOOD if liked.speaks_for == "good" else BAD), str(liked)
    best = found[0][0]
    width = int(best.layer.removeprefix("conv"))
    values = []
    for tokens in data.train.tokens:  # one sentence after another, without batches
        words = torch.zeros(len(tokens) + 2 * (width - 1), 8)
        words[width - 1 : width - 1 + len(tokens)] = model.embedding.weight[tokens].detach()
        weight, bias = model.conv3.weight[0].detach(), float(model.conv3.bias[0].detach())
        answers = [float((words[at : at + width].T * weight).sum()) + bias for at in range(len(words) - width + 1)]
        place = max(range(len(answers)), key=answers.__getitem__)
        values.append((max(answers[place], 0), ngram(data.train.vocabulary, tokens, place, width)))
    assert best.answer == pytest.approx(max(values)[0], rel=1e-5)
    assert best.words in [words for value, words in values if value == pytest.approx(best.answer, rel=1e-5)]
    assert str(best).startswith("conv3[0] '")
    with pytest.raises(ArgumentError, match="wanted a text_cnn, whose filters read n-grams"):
        favourites(nn.Linear(2, 2), data.train)  # type: ignore[arg-type]


def test_a_loaded_model_keeps_its_own_numbers(model: nn.Module, tmp_path: Path) -> None:
    """Other sentences with another vocabulary and the classes in another order are read in the model's own."""
    texts = ("a fine film", "a dull film", "great", "poor plot")
    other = Sentences(texts, torch.tensor([0, 1, 0, 1]), ("good", "bad"), Vocabulary.build(texts))
    data = Dataset("others", other, other)
    assert evaluate(model, data).accuracy == 1
    result = fit(model, data, run_dir=str(tmp_path / "run"), **{**SETTINGS, "epochs": 1, "learning_rate": 1e-4})
    assert result.metrics.classes == CLASSES
    assert result.metrics.accuracy == 1
    strange = Sentences(texts, torch.tensor([0, 1, 0, 1]), ("good", "odd"), Vocabulary.build(texts))
    with pytest.raises(ArgumentError, match="sentences of the model's own classes"):
        evaluate(model, Dataset("strange", strange, strange))


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ArgumentError, match="5 word vectors.*Build it with vocabulary=18"):
        fit(create_model("text_cnn", vocabulary=5, size=4, maps=2), dataset(), run_dir=str(folder))
    with pytest.raises(ArgumentError, match=r"outputs \(2, 3\)', wanted '?\(sentences, 2\): reviews has 2 classes"):
        fit(create_model("text_cnn", classes=3, vocabulary=18, size=4, maps=2), dataset(), run_dir=str(folder))
    with pytest.raises(ArgumentError, match="widths: got .*wanted different numbers of words"):
        create_model("text_cnn", widths=(3, 3))
    assert not folder.exists()


def test_its_card() -> None:
    card = MODELS["text_cnn"].card
    with torch.device("meta"):
        model = create_model("text_cnn")
    assert sum(each.numel() for each in model.parameters()) == card.parameters
    assert {row.name: row.output_shape for row in count(create_model("text_cnn", vocabulary=9))}["pool5"] == (100,)


def test_its_rules_are_exact() -> None:
    torch.manual_seed(3)
    model = create_model("text_cnn", vocabulary=30, size=5, maps=4, dropout=0.0).double()
    tokens, lengths = torch.randint(1, 30, (4, 9)), torch.tensor([9, 1, 4, 6])
    tokens[torch.arange(9) >= lengths[:, None]] = 0
    y = model(tokens, lengths)
    delta = torch.randn_like(y)
    wanted = torch.autograd.grad(y, list(model.parameters()), delta)
    ran = tape.forward(model, tokens, lengths)
    assert all(step.rule.kind != "other" for step in ran)
    back = ran.backward(delta)
    for (name, _), each in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(back.gradients[name], each, rtol=1e-9, atol=1e-12, msg=name)


def test_rows_of_the_last_layer_are_kept_short() -> None:
    model: Any = create_model("text_cnn", vocabulary=30, size=5, maps=4, limit=4.0)  # dropout ½
    with torch.no_grad():
        model.output.weight.mul_(100)
    model(torch.tensor([[4, 5]]), torch.tensor([2]))
    assert model.output.weight.norm(dim=1).tolist() == pytest.approx([2, 2])
    short = model.output.weight[0].detach() * 0.5
    with torch.no_grad():
        model.output.weight[0] = short
    tape.forward(model, torch.tensor([[4, 5]]), torch.tensor([2]))
    assert torch.equal(model.output.weight[0], short)


def test_its_file_is_the_same_network(model: nn.Module, tmp_path: Path) -> None:
    again = load(save(model, tmp_path / "again.safetensors"))
    assert predict(again, "a fine film")[0].probabilities == predict(model, "a fine film")[0].probabilities


def test_resumed_it_is_the_undisturbed_run(trained: Result, tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    options: dict[str, Any] = {"model_options": {"size": 8, "maps": 6}, "run_dir": folder}
    fit("text_cnn", dataset(), **options, **{**SETTINGS, "schedule": "constant", "epochs": 1})
    resumed = fit(data=dataset(), run_dir=folder, resume=True, epochs=2)
    straight = fit(
        "text_cnn",
        dataset(),
        **{**options, "run_dir": str(tmp_path / "other")},
        **{**SETTINGS, "schedule": "constant", "epochs": 2},
    )
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
