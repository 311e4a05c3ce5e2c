"""Captions: networks that learn to tell which blocks a picture has, and where."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.tasks.captions.blocks import blocks
from torch import nn

from convscope import evaluate, fit, load, predict
from convscope.data import Dataset
from convscope.data.kinds.captions import Captions
from convscope.data.picture_stores import PicturesInMemory
from convscope.data.vocabulary import END, SPECIAL, START, Vocabulary
from convscope.errors import ArgumentError, DataError
from convscope.models import MODELS, create_model
from convscope.models.searching import Search
from convscope.rules import tape
from convscope.spec import spec_of
from convscope.tasks.captions.metrics import exact
from convscope.tasks.captions.task import Captioning
from convscope.tasks.captions.writing import looks, write
from convscope.tasks.token_objective import TokenObjective
from convscope.training import Result

NAMES = ("caption_lstm", "caption_attention")
SMALL: dict[str, dict[str, Any]] = {
    "caption_lstm": {"maps": (6, 8), "size": 24},
    "caption_attention": {"maps": (6, 8), "size": 24, "heads": 2},
}
SETTINGS: dict[str, Any] = {
    "epochs": 12, "batch_size": 16, "learning_rate": 0.01, "gradient_clip": 1.0, "evaluate_every": 100, "seed": 1,
    "engine": "torch", "watch": False,
}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=pytest.mark.long) if each == "caption_lstm" else each for each in NAMES],
)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def trained(name: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = {**SETTINGS, "epochs": 28 if name == "caption_lstm" else 12}
    return fit(name, blocks(256, 40), model_options=SMALL[name], run_dir=str(folder), **settings)


@pytest.fixture
def model(trained: Result) -> nn.Module:
    return load(Path(trained.run_dir) / "model.safetensors")


def test_it_learns_to_tell(trained: Result, model: nn.Module) -> None:
    figures = trained.metrics
    assert figures.exact_match > 0.9
    assert figures.bleu > 90
    assert figures.unended == 0
    assert "tok:13a" in figures.signature
    assert trained.history[0].train["token_accuracy"] < 0.9
    again = evaluate(model, blocks(256, 40))
    assert (again.exact_match, again.bleu) == (figures.exact_match, figures.bleu)
    assert "caption    " in Captioning().report(again)


def test_the_words_travel_in_the_models_file(model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    described = spec_of(model)
    assert described is not None
    assert described.task == "captions"
    assert described.answers.more == {"beam": 4, "length_penalty": 0.0}
    assert described.inputs[1].vocabulary == blocks(256, 1).train.vocabulary.tokens
    data = blocks(1, 6)
    texts = tuple(f"{text} zebra" for text in data.test.texts)
    strange = dataclasses.replace(data.test, texts=texts, vocabulary=Vocabulary.build(texts), tokens=None)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        figures = evaluate(model, Dataset("strange", strange, strange))
    assert "1 words that the model does not know, 'zebra' for one" in caplog.text
    assert figures.exact_match == 0


def test_pictures_are_told(name: str, model: nn.Module, tmp_path: Path) -> None:
    """As files, twice as large and in colour, greedy and by a beam, and where each word looked is drawn."""
    data = blocks(1, 8).test
    for place in range(8):
        picture = data.pictures.picture(place)[0].numpy()
        Image.fromarray(picture).resize((32, 32), Image.Resampling.NEAREST).convert("RGB").save(
            tmp_path / f"{place}.png"
        )
    for settings in ({}, {"beam": 1}):
        answers = predict(model, str(tmp_path), task=Captioning(settings))
        right = sum(each.caption == text for each, text in zip(answers, _joined(data), strict=True))
        assert right >= 7
    answer = answers[0]
    assert answer.line(1).endswith(f"0.png: {answer.caption}")
    assert answer.to_json()["whole"]
    drawn = answer.save(tmp_path / "drawn")
    assert len(drawn) == (name == "caption_attention")
    for path in drawn:
        with Image.open(path) as image:
            assert image.width > 300


def _joined(data: Captions) -> list[str]:
    return [data.vocabulary.join(data.vocabulary.split(text)) for text in data.texts]


def test_the_caption_does_not_depend_on_the_pictures_beside(model: nn.Module) -> None:
    pictures = [blocks(1, 5).test.pictures.picture(place) for place in range(5)]
    for together, picture in zip(predict(model, pictures), pictures, strict=True):
        (alone,) = predict(model, picture)
        assert alone.caption == together.caption
        assert alone.log_probability == pytest.approx(together.log_probability, abs=1e-5)


@pytest.mark.parametrize("which", NAMES)
def test_word_by_word_as_all_at_once(which: str) -> None:
    """What decoding remembers gives the scores that teacher forcing has."""
    torch.manual_seed(4)
    model = create_model(which, classes=9, **SMALL[which]).double().eval()
    pictures, begun = (
        torch.randn(3, 1, 16, 16, dtype=torch.float64),
        torch.tensor([[2, 5, 6, 7], [2, 8, 8, 4], [2, 4, 5, 4]]),
    )
    with torch.no_grad():
        wanted = model(pictures, begun)
        states = model.begin(pictures)  # type: ignore[operator]
        for place in range(4):
            torch.testing.assert_close(states.step(begun[:, place]), wanted[:, place])
        states = model.begin(pictures)  # type: ignore[operator]
        states.keep(torch.tensor([2, 0]))
        torch.testing.assert_close(states.step(begun[[2, 0], 0]), wanted[[2, 0], 0])
        torch.testing.assert_close(model(pictures), wanted[:, :1])


@pytest.mark.parametrize("which", NAMES)
def test_a_wide_beam_is_an_exhaustive_search(which: str) -> None:
    torch.manual_seed(5)
    model = create_model(which, classes=7, **SMALL[which]).double().eval()
    for parameter in model.parameters():
        parameter.data *= 2
    pictures = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    search, words, longest = Search(beam=400, penalty=0.0), (1, 4, 5, 6), 3
    search = dataclasses.replace(search, banned=(0, 2))
    with torch.no_grad():
        found = search(model.begin(pictures), [longest] * 2)  # type: ignore[operator]
    for place, text in enumerate(found):
        chances = {}
        for length in range(longest):
            for each in itertools.product(words, repeat=length):
                with torch.no_grad():
                    y = torch.log_softmax(model(pictures[place : place + 1], torch.tensor([[START, *each]]))[0], 1)
                chances[each] = float(sum(y[step, token] for step, token in enumerate((*each, END))))
        best = max(chances, key=chances.__getitem__)
        assert text.tokens == best
        assert text.log_probability == pytest.approx(chances[best], rel=1e-6), "which adds up in float32"


@pytest.mark.parametrize("which", NAMES)
def test_its_rules_are_exact(which: str) -> None:
    """Loss and every gradient in float64, of captions of very unequal length."""
    torch.manual_seed(2)
    model = create_model(which, classes=12, **SMALL[which]).double()
    pictures = torch.randn(2, 1, 16, 20, dtype=torch.float64)
    begun, foretold = torch.tensor([[2, 5, 6, 7], [2, 0, 0, 0]]), torch.tensor([[5, 6, 7, 3], [3, 0, 0, 0]])
    objective = TokenObjective(0.1)
    value = objective.value(model(pictures, begun), foretold)
    wanted = torch.autograd.grad(value, list(model.parameters()))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    ran = tape.forward(model, pictures, begun)
    assert all(step.rule.kind != "other" for step in ran)
    found, delta = objective.value_and_delta(ran.output, foretold)
    assert float(found) == pytest.approx(float(value.detach()), rel=1e-12)
    back = ran.backward(delta)
    for (path, _), each in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(back.gradients[path], each, rtol=1e-8, atol=1e-11, msg=path)


def test_where_words_look_adds_up() -> None:
    torch.manual_seed(1)
    model = create_model("caption_attention", classes=9, **SMALL["caption_attention"])
    seen = looks(model, torch.randn(1, 16, 24), [5, 6, 7])
    assert seen is not None
    assert seen.shape == (4, 8, 12), "three words and the end; one pooling"
    torch.testing.assert_close(seen.sum((1, 2)), torch.ones(4))
    assert looks(create_model("caption_lstm", classes=9, **SMALL["caption_lstm"]), torch.randn(1, 16, 16), [5]) is None
    assert write(model, torch.zeros(0, 1, 16, 16), Search()) == []


@pytest.mark.parametrize("which", NAMES)
def test_its_card(which: str) -> None:
    with torch.device("meta"):
        model = create_model(which)
    assert sum(each.numel() for each in model.parameters()) == MODELS[which].card.parameters


def test_exact_match_is_of_any_caption_word_for_word() -> None:
    known = Vocabulary((*SPECIAL, "a", "dog", "."))
    references = [["a dog ."], ["a cat", "a dog"], ["a  dog."]]
    assert exact(["a dog", "a dog", "a dog."], references, known) == 2


def test_several_captions_a_picture(tmp_path: Path) -> None:
    """Learned from one by one, and told apart by picture when it is evaluated."""
    data = blocks(6, 5, captions=3)
    task = Captioning({"beam": 1})
    model = create_model("caption_lstm", **SMALL["caption_lstm"], **task.options(data))
    settings = {**SETTINGS, "epochs": 1}
    result = fit(model, data, task=task, run_dir=str(tmp_path / "run"), **settings)
    assert result.metrics.images == 5
    described = spec_of(result.model)
    assert described is not None
    prepared = task.prepare(model, data, None)  # type: ignore[arg-type]  # its words and size are known by now
    assert (len(prepared.train), len(prepared.test)) == (18, 5)
    batch = prepared.test.batch(torch.tensor([1, 4]))
    pictures, begun = batch.inputs
    assert len(pictures) == len(begun) == len(batch.targets) == 6
    assert torch.equal(pictures[3], data.test.pictures.picture(4))
    assert batch.weight == int((batch.targets != 0).sum()) == int((begun != 0).sum())
    tokens = data.test.vocabulary.encode(data.test.texts[3])
    assert begun[0, : len(tokens) + 1].tolist() == [START, *tokens]
    assert batch.targets[0, : len(tokens) + 1].tolist() == [*tokens, END]


def test_pictures_of_many_sizes(tmp_path: Path) -> None:
    data = blocks(6, 2)
    parts = []
    for part in (data.train, data.test):
        own = [part.pictures.picture(place)[:, : 16 - place] for place in range(len(part))]
        parts.append(dataclasses.replace(part, pictures=PicturesInMemory(own)))
    many = Dataset("many", parts[0], parts[1])
    settings = {**SETTINGS, "epochs": 1, "run_dir": str(tmp_path / "run")}
    result = fit("caption_lstm", many, model_options=SMALL["caption_lstm"], settings={"size": 12}, **settings)
    described = spec_of(result.model)
    assert described is not None
    assert described.input_shape == (1, 12, 12)
    assert math.isfinite(evaluate(result.model, many).loss)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 3}, "size: got 3, wanted 0, or pixels, at least 8"),
        ({"smoothing": 1.0}, "smoothing: got 1.0, wanted a share"),
        ({"beam": 0}, "beam: got 0, wanted a number of captions"),
        ({"length_penalty": -1}, "length_penalty: got -1, wanted a number ≥ 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Captioning(settings)


def test_what_does_not_fit_is_refused(model: nn.Module, name: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "run_dir": str(tmp_path / "run")}
    with pytest.raises(ArgumentError, match="5 word vectors.*Build it with classes="):
        fit(create_model(name, classes=5, **SMALL[name]), blocks(8, 4), **settings)
    with pytest.raises(ArgumentError, match="loss: got 'ctc', wanted none: captions are learned by cross-entropy"):
        Captioning().objective(model, "ctc")
    with pytest.raises(ArgumentError, match="at least one picture"):
        predict(model, [])
    with pytest.raises(ArgumentError, match="inputs: got 'torch.float32 .1, 4, 4.', wanted pictures, uint8"):
        predict(model, torch.zeros(1, 4, 4), task=Captioning())
    with pytest.raises(ArgumentError, match="trained to write captions, with its vocabulary"):
        predict(create_model(name, classes=5, **SMALL[name]), "a.png", task=Captioning())
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted auto or torch"):
        predict(model, "a.png", engine="native")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        predict(model, str(tmp_path / "bad.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in this folder"):
        predict(model, str(tmp_path / "empty"))
    for option, value in (("dropout", 1.5), ("maps", ()), ("size", 0)):
        with pytest.raises(ArgumentError, match=f"{option}: got"):
            create_model(name, **{**SMALL[name], option: value})
