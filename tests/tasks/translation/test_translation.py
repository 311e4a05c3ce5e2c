"""Translation: a transformer that learns to turn sentences round."""

from __future__ import annotations

import dataclasses
import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.tasks.translation.turned import turned
from torch import nn

from convscope import evaluate, fit, load, predict
from convscope.data import load_dataset
from convscope.data.byte_pairs import BytePairs
from convscope.data.order import Order
from convscope.errors import ArgumentError, DataError
from convscope.models import MODELS, create_model
from convscope.rules import tape
from convscope.spec import spec_of
from convscope.tasks.token_objective import TokenObjective
from convscope.tasks.translation.looking import looks
from convscope.tasks.translation.task import Translation
from convscope.training import Result

SMALL: dict[str, Any] = {"size": 32, "heads": 4, "layers": 1, "hidden": 48, "norm": "pre", "dropout": 0.0, "places": 24}
SETTINGS: dict[str, Any] = {
    "epochs": 14, "learning_rate": 0.007, "schedule": "inverse_square_root", "schedule_options": {"steps": 60},
    "evaluate_every": 100, "seed": 1, "engine": "torch", "watch": False,
}  # fmt: skip
PAGE: dict[str, Any] = {"pieces": 60, "tokens": 96}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = turned(500, 40)
    return fit("transformer", data, model_options=SMALL, settings=PAGE, run_dir=str(folder), **SETTINGS)


@pytest.fixture
def model(trained: Result) -> nn.Module:
    return load(Path(trained.run_dir) / "model.safetensors")


def test_it_learns_to_translate(trained: Result, model: nn.Module) -> None:
    assert trained.metrics.bleu > 60
    assert "tok:13a" in trained.metrics.signature
    assert len(trained.metrics.first) == 5
    assert trained.history[0].train["token_accuracy"] < 0.7
    again = evaluate(model, turned(500, 40))
    assert again.bleu == trained.metrics.bleu
    assert "signature" in Translation().report(again)


def test_the_tokens_travel_in_the_models_file(model: nn.Module) -> None:
    described = spec_of(model)
    assert described is not None
    assert described.task == "translation"
    assert described.answers.more == {"beam": 4, "length_penalty": 0.6}
    pairs = BytePairs(described.inputs[0].vocabulary, tuple(described.inputs[0].more["merges"]))
    assert pairs.decode(pairs.encode("one fünf")) == "one fünf"
    assert described.answers.names == pairs.tokens


def test_sentences_files_and_standard_input(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines.txt").write_text("one two\n\nfive 中 four\n", encoding="utf-8")
    first, empty, strange = predict(model, str(tmp_path / "lines.txt"))
    assert (first.source, first.translation) == ("lines.txt:1", "zwei eins")
    assert (empty.translation, empty.save(tmp_path)) == ("", [])
    assert strange.unknown == ("中",)
    assert strange.line(1) == strange.translation
    monkeypatch.setattr("sys.stdin", io.StringIO("three one\n"))
    ((answer),) = predict(model, "-")
    assert answer.translation == "eins drei"
    assert predict(model, ["three one"], task=Translation({"beam": 1}))[0].translation == "eins drei"
    (picture,) = answer.save(tmp_path / "drawn")
    with Image.open(picture) as image:
        assert image.width > 200


def test_the_answer_does_not_depend_on_the_sentences_beside(model: nn.Module) -> None:
    texts = ["one", "two three four five one", "five five", "three one two"]
    for together, text in zip(predict(model, texts), texts, strict=True):
        (alone,) = predict(model, text)
        assert alone.translation == together.translation
        assert alone.log_probability == pytest.approx(together.log_probability, abs=1e-5)


def test_attention_adds_up_and_sees_no_future(model: nn.Module) -> None:
    described = spec_of(model)
    assert described is not None
    tokens = described.inputs[0].vocabulary
    seen = looks(model, [5, 6, 7], [8, 9], tokens, tokens)
    assert set(seen.heads) == {"encoder1.attention", "decoder1.own", "decoder1.attention"}
    assert seen.heads["decoder1.attention"].shape == (4, 3, 4)
    for heads in seen.heads.values():
        torch.testing.assert_close(heads.sum(2), torch.ones(heads.shape[:2]))
    assert not seen.heads["decoder1.own"].triu(1).any()
    attention = model.get_submodule("encoder1.attention")
    x = torch.randn(1, 5, 32)
    with torch.no_grad():
        _, values = attention.remember(x)  # type: ignore[operator]
        y = (attention.weights(x) @ values).transpose(1, 2).flatten(2)  # type: ignore[operator]
        wanted = nn.functional.linear(y, attention.out_weight, attention.out_bias)  # type: ignore[arg-type]
        torch.testing.assert_close(attention(x), wanted)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_its_rules_are_exact(norm: str) -> None:
    """Loss and every gradient in float64, of sentences of very unequal length."""
    torch.manual_seed(2)
    options: dict[str, Any] = {**SMALL, "norm": norm, "size": 8, "heads": 2, "hidden": 10}
    model = create_model("transformer", classes=20, **options).double()
    source, begun = torch.tensor([[5, 6, 7, 8, 3], [9, 3, 0, 0, 0]]), torch.tensor([[2, 5], [2, 0]])
    foretold = torch.tensor([[5, 3], [3, 0]])
    objective = TokenObjective(0.1)
    value = objective.value(model(source, begun), foretold)
    wanted = torch.autograd.grad(value, list(model.parameters()))
    ran = tape.forward(model, source, begun)
    assert [step.name for step in ran if step.rule.kind == "other"] == ["ne"], "which is the mask of padding"
    found, delta = objective.value_and_delta(ran.output, foretold)
    assert float(found) == pytest.approx(float(value.detach()), rel=1e-12)
    back = ran.backward(delta)
    for (name, _), each in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(back.gradients[name], each, rtol=1e-9, atol=1e-12, msg=name)


def test_its_card_is_the_papers() -> None:
    with torch.device("meta"):
        model = create_model("transformer")
    assert sum(each.numel() for each in model.parameters()) == MODELS["transformer"].card.parameters


def test_batches_are_filled_with_tokens() -> None:
    data = turned(100, 1, longest=9).train
    order = Order(100, None, lengths=data.lengths, tokens=60)
    for index in range(order.count):
        part = order.whole(index)
        assert len(part) * int(data.lengths[part].max()) <= 60
    assert sum(order.size(index) for index in range(order.count)) == 100


def test_words_instead_of_pieces(tmp_path: Path) -> None:
    data = turned(16, 4)
    settings = {**SETTINGS, "epochs": 1}
    result = fit(
        "transformer", data, model_options=SMALL, settings={"pieces": 0, "beam": 1}, run_dir=str(tmp_path / "run"),
        **settings,
    )  # fmt: skip
    described = spec_of(result.model)
    assert described is not None
    assert described.options["vocabulary"] == 9
    again = load(tmp_path / "run" / "model.safetensors")
    assert evaluate(again, data).loss == pytest.approx(result.metrics.loss, rel=1e-5)
    (answer,) = predict(again, "one seven")
    assert answer.unknown == ("seven",)


def test_long_sentences_are_cut_or_refused(model: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = " ".join(["one"] * 30)
    with caplog.at_level(logging.WARNING):
        (answer,) = predict(model, text)
        figures = evaluate(model, dataclasses.replace(turned(4, 2), test=turned(4, 2, 60).test))
    assert answer.cut
    assert "1 sentences of more than 23 tokens were cut" in caplog.text
    assert "pairs are cut to 24 tokens" in caplog.text
    assert figures.sentences == 2
    with pytest.raises(ArgumentError, match="inputs: got '1: 30 tokens', wanted at most 23"):
        predict(model, text, task=Translation({"too_long": "refuse"}))
    long = turned(30, 4, 60)
    settings = {**SETTINGS, "epochs": 1, "run_dir": str(tmp_path / "run")}
    with pytest.raises(ArgumentError, match="pairs too long, the first .*, wanted at most 24 tokens a side"):
        fit("transformer", long, model_options=SMALL, settings={"pieces": 60, "too_long": "refuse"}, **settings)
    with caplog.at_level(logging.WARNING):
        fit("transformer", long, model_options=SMALL, settings={"pieces": 60}, **settings)
    assert "pairs of more than 24 tokens are left out of training" in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pieces": 2}, "pieces: got 2, wanted 0, or a number of tokens"),
        ({"smoothing": 1.0}, "smoothing: got 1.0, wanted a share"),
        ({"too_long": "drop"}, "too_long: got 'drop', wanted cut or refuse"),
        ({"beam": 0}, "beam: got 0, wanted a number of translations"),
        ({"length_penalty": -1}, "length_penalty: got -1, wanted a number ≥ 0"),
        ({"tokens": -1}, "tokens: got -1, wanted a number ≥ 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Translation(settings)


def test_what_does_not_fit_is_refused(model: nn.Module, tmp_path: Path) -> None:
    settings = {**SETTINGS, "run_dir": str(tmp_path / "run")}
    with pytest.raises(ArgumentError, match="tokens: got 3, wanted room for the longest sentence"):
        fit("transformer", turned(8, 4), model_options=SMALL, settings={"tokens": 3, "pieces": 60}, **settings)
    with pytest.raises(ArgumentError, match="word vectors.*Build it with vocabulary="):
        fit(create_model("transformer", classes=5, **SMALL), turned(8, 4), settings={"pieces": 60}, **settings)
    with pytest.raises(ArgumentError, match="at least one sentence"):
        predict(model, [])
    with pytest.raises(ArgumentError, match="trained to translate, with its vocabulary"):
        predict(create_model("transformer", classes=5, **SMALL), "one")
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted auto or torch"):
        predict(model, "one", engine="native")
    for option, value in (("norm", "none"), ("positions", "round"), ("dropout", 1.5), ("in_channels", 3)):
        with pytest.raises(ArgumentError, match=f"{option}: got"):
            create_model("transformer", **{**SMALL, option: value})


def test_damaged_files_are_named(model: nn.Module, tmp_path: Path) -> None:
    for name, lines in (("train.en", "a\nb\n"), ("train.de", "c\nd\n"), ("test.en", "a\n"), ("test.de", "c\nd\n")):
        (tmp_path / name).write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match="lines, but test"):
        load_dataset(tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"one\nzw\xff\n")
    with pytest.raises(DataError, match="line 2"):
        predict(model, str(tmp_path / "bad.txt"))
