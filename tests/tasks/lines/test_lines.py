"""Reading lines: a network that learns from texts alone where their characters stand."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from tests.tasks.lines.strokes import ALPHABET, strokes
from torch import nn

from convscope import count, evaluate, fit, load, predict
from convscope.data import Dataset, load_dataset
from convscope.data.kinds.lines import Lines, side_by_side
from convscope.errors import ArgumentError, DataError
from convscope.models import MODELS, create_model
from convscope.rules import tape
from convscope.spec import attach, spec_of
from convscope.tasks.lines.preparing import needed
from convscope.training import Result

SETTINGS: dict[str, Any] = {
    "epochs": 8, "batch_size": 16, "learning_rate": 0.01, "seed": 1, "engine": "torch", "watch": False,
}  # fmt: skip
SMALL: dict[str, Any] = {"small": True, "hidden": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fit("crnn", strokes(192, 40), model_options=SMALL, run_dir=str(folder), **SETTINGS)


@pytest.fixture
def model(trained: Result) -> nn.Module:
    return load(Path(trained.run_dir) / "model.safetensors")


def test_it_learns_to_read(trained: Result, model: nn.Module) -> None:
    assert trained.metrics.line_error < 0.1
    assert trained.metrics.character_error <= trained.metrics.line_error
    assert trained.history[0].train["line_error"] > 0.5
    assert evaluate(model, strokes(192, 40)).line_error == trained.metrics.line_error


def test_lines_longer_than_ever_trained_on(model: nn.Module) -> None:
    longer = strokes(1, 30, longest=9)
    assert evaluate(model, longer).character_error < 0.2


def test_the_answer_does_not_depend_on_the_lines_beside(model: nn.Module) -> None:
    data = strokes(1, 12).test
    pictures, widths = side_by_side([data.picture(place) for place in range(12)])
    x = pictures.float() / 255 / 0.3
    with torch.no_grad():
        together = model.eval()(x, widths)
        for place, width in enumerate(widths.tolist()):
            alone = model(x[place : place + 1, :, :, :width], torch.tensor([width]))
            torch.testing.assert_close(together[place : place + 1, : width // 4], alone, rtol=1e-5, atol=1e-5)


def test_pictures_are_read(model: nn.Module, tmp_path: Path) -> None:
    """As files, black on white and twice as large, and by a beam."""
    data = strokes(1, 6).test
    for place in range(6):
        pixels = 255 - data.picture(place)[0].numpy()
        Image.fromarray(numpy.kron(pixels, numpy.ones((2, 2), numpy.uint8))).save(tmp_path / f"{place}.png")
    from convscope.tasks.lines.task import LineReading

    described = spec_of(model)
    assert described is not None
    first, second = described.inputs
    attach(model, described.replace(inputs=(dataclasses.replace(first, more={"dark": True}), second)))
    for settings in ({}, {"beam": 5}):
        answers = predict(model, str(tmp_path), task=LineReading(settings))
        right = sum(each.text == text for each, text in zip(answers, data.texts, strict=True))
        assert right >= 5
    answer = next(each for each, text in zip(answers, data.texts, strict=True) if each.text == text)
    assert answer.source.endswith(".png")
    for number, (first, last) in enumerate(answer.spans):
        assert first <= 12 * number + 9, "each character is read where it stands, or a step beside"
        assert last >= 12 * number - 4
    (path,) = answer.save(tmp_path / "out")
    with Image.open(path) as picture:
        assert picture.width > 300
    assert answer.to_json()["columns"][0][0] == answer.text[0]
    assert answer.line(1).endswith(f": {answer.text}")


def test_its_rules_are_exact() -> None:
    """Loss and every gradient, of lines of very unequal width, one of them too narrow for its text."""
    from convscope.tasks.lines.objective import LineObjective

    torch.manual_seed(3)
    model = create_model("crnn", classes=4, small=True, hidden=5).double()
    data = Lines(
        ("i-o", "oooooo", "-"),
        ALPHABET,
        32,
        lambda place: torch.full((1, 32, (36, 20, 8)[place]), 90 * place + 50, dtype=torch.uint8),
    )
    batch = data.batch(torch.arange(3))
    assert not torch.isfinite(LineObjective().losses(torch.zeros(3, 9, 4), batch.targets)[1])
    x, widths = batch.inputs
    given = x.double() / 255
    objective = LineObjective()
    value = objective.value(model(given, widths), batch.targets)
    wanted = torch.autograd.grad(value, list(model.parameters()))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    ran = tape.forward(model, given, widths)
    assert all(step.rule.kind != "other" for step in ran)
    found, delta = objective.value_and_delta(ran.output, batch.targets)
    assert float(found) == pytest.approx(float(value.detach()), rel=1e-9)
    assert torch.isfinite(delta).all()
    back = ran.backward(delta)
    for (name, _), each in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(back.gradients[name], each, rtol=1e-7, atol=1e-10, msg=name)


def test_its_card() -> None:
    with torch.device("meta"):
        model = create_model("crnn")
    assert sum(each.numel() for each in model.parameters()) == MODELS["crnn"].card.parameters
    rows = {row.name: row.output_shape for row in count(create_model("crnn", small=True, classes=11), (1, 32, 64))}
    assert rows["output"] == (16, 11)


def test_what_does_not_fit_is_refused(model: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ArgumentError, match="3 characters, and there is the blank"):
        fit(create_model("crnn", classes=9, **SMALL), strokes(4, 4), run_dir=str(folder))
    other = Lines(("ix", "i"), ("i", "x"), 32, strokes(4, 4).train.draw)
    with pytest.raises(ArgumentError, match="the characters .*x.*, wanted those of the model's alphabet, '-io'"):
        evaluate(model, Dataset("other", other, other))
    with pytest.raises(ArgumentError, match=r"texts: got .line 1: 'iz'., wanted characters of the alphabet, not .*z"):
        Lines(("i", "iz"), ALPHABET, 32, other.draw)
    with pytest.raises(ArgumentError, match="beam: got 0, wanted a number of beginnings"):
        fit(create_model("crnn", classes=4, **SMALL), strokes(4, 4), run_dir=str(folder), settings={"beam": 0})
    with pytest.raises(ArgumentError, match="wanted a model that was trained on lines"):
        predict(create_model("crnn", classes=4, **SMALL), torch.zeros(1, 32, 40, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match="wanted at least one picture of a line"):
        predict(model, [])
    with pytest.raises(DataError, match="no pictures in this folder"):
        predict(model, str(tmp_path))
    assert not folder.exists()


def folder_of_lines(folder: Path, texts: list[str], width: int = 40) -> Path:
    rows = []
    for place, text in enumerate(texts):
        Image.fromarray(numpy.full((16, width), 255 - 10 * place, numpy.uint8)).save(folder / f"{place}.png")
        rows.append(f"{place}.png\t{text}\n")
    (folder / "lines.txt").write_text("".join(rows), encoding="utf-8")
    return folder


def test_a_folder_of_lines_in_any_alphabet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = load_dataset(folder_of_lines(tmp_path, ["中文行", "行 文", "", "中", "ab"]), test_fraction=0.25)
    assert (data.kind, len(data.train), len(data.test)) == ("lines", 3, 1)
    assert data.train.alphabet == (" ", "a", "b", "中", "文", "行")
    assert "1 pictures without a text (line 3)" in caplog.text
    batch = data.train.batch(torch.arange(3))
    assert batch.inputs[0].shape == (3, 1, 32, 80)
    assert int(batch.inputs[0].max()) <= 40, "dark writing is turned round: white ground is 0"
    for place, text in enumerate(data.train.texts):
        numbers = batch.targets["texts"][place, : int(batch.targets["lengths"][place])].tolist()
        assert "".join(data.train.alphabet[number - 1] for number in numbers) == text


def test_pictures_too_narrow_for_their_text_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a character a step of four columns, and a blank between equal neighbours: 16 rows become 32, 20 columns 40."""
    assert needed("aab") == 4
    data = load_dataset(
        folder_of_lines(tmp_path, ["abcde", "aabbccddee", "abcdabcdabc", "e", "c"], 20), test_fraction=0.2
    )
    model = create_model("crnn", classes=6, **SMALL)
    with caplog.at_level(logging.WARNING):
        result = fit(model, data, run_dir=str(tmp_path / "run"), settings={"beam": 3}, **{**SETTINGS, "epochs": 1})
    narrow = sum(needed(text) > 10 for text in data.train.texts)
    assert narrow >= 1
    described = spec_of(result.model)
    assert described is not None
    assert described.inputs[0].more == {"dark": True}
    assert described.answers.more == {"beam": 3}
    assert f"{narrow} lines are left out, whose pictures are too narrow" in caplog.text
    assert result.metrics.lines == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("0.png ab\n", "line 1 has no tab between picture and text"),
        ("0.png\tab\n9.png\tc\n", "line 2 names 9.png, which is not in"),
        ("0.png\tab\n", "1 lines, wanted at least two"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named(tmp_path: Path, rows: str, said: str) -> None:
    folder_of_lines(tmp_path, ["a"])
    (tmp_path / "lines.txt").write_text(rows)
    with pytest.raises(DataError, match=said):
        load_dataset(tmp_path)


def test_lines_of_digits(mnist_folder: Path) -> None:
    """From pictures whose every pixel tells their class: who stands where, and that no writer is in both parts."""
    data = load_dataset("digit_lines", root=mnist_folder, train=20, test=10, shortest=2, longest=4, seed=3)
    again = load_dataset("digit_lines", root=mnist_folder, train=20, test=10, shortest=2, longest=4, seed=3)
    assert data.train.texts == again.train.texts
    assert {len(text) for text in data.train.texts} == {2, 3, 4}
    for place, text in enumerate(data.train.texts):
        line = data.train.picture(place)
        assert torch.equal(line, again.train.picture(place))
        assert line.shape[1] == 32
        assert 28 * len(text) - 6 * (len(text) - 1) <= line.shape[2] <= 28 * len(text) + 5 * (len(text) - 1) + 8
        values = [int(column.max()) for column in line[0].T if column.any()]
        met = [value for number, value in enumerate(values) if number == 0 or value != values[number - 1]]
        assert {(value - 1) % 100 // 10 for value in met} == set(map(int, text))
        assert all(value <= 100 for value in met), "test writers' pictures are 101 and more"
    assert all(int(data.test.picture(place).max()) > 100 for place in range(10))
    with pytest.raises(ArgumentError, match="longest: got 1, wanted an integer ≥ shortest, 2"):
        load_dataset("digit_lines", root=mnist_folder, shortest=2, longest=1)


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    """MNIST's files with pictures of one grey value each: 1 + 10·class, 100 more for the test part."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, start in (("train", 1), ("t10k", 101)):
        labels = numpy.arange(20, dtype=numpy.uint8) % 10
        images = numpy.zeros((20, 28, 28), numpy.uint8)
        images[:, 4:24, 4:24] = (start + 10 * labels)[:, None, None]
        head = numpy.array([2051, 20, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(numpy.array([2049, 20], ">i4").tobytes() + labels.tobytes())
    return tmp_path
