"""The lessons that come with the package: every number that they ask for is what autograd has in float64."""

from __future__ import annotations

import copy
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.explorer.fixtures import reference
from torch import Tensor, nn

from convscope.cli.commands import lessons as command
from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.lessons import READY, build_lessons, lesson_of, read_lesson, ready_lesson, session_of
from convscope.explorer.lessons.file import COUNTS, Question, State
from convscope.explorer.lessons.plan import exact_model
from convscope.explorer.session import Session


def picture(session: Session, state: State, item: int | None = None) -> tuple[Tensor, int | None]:
    """The input in float64, and the label, by plain indexing."""
    wanted = session.desk.preprocessing
    label = None
    if item is None and state.picture is not None:
        pixels = torch.tensor(state.picture, dtype=torch.float64)[None]
    else:
        shown = session.desk.from_data("test", item if item is not None else state.item or 0)
        pixels, label = shown.pixels[0].double(), shown.label
    if state.shift is not None and item is None:
        moved = torch.zeros_like(pixels)
        down, right = state.shift
        assert down >= 0
        assert right >= 0
        height, width = pixels.shape[1:]
        moved[:, down:, right:] = pixels[:, : height - down, : width - right]
        pixels = moved
    return (pixels / 255 - wanted.mean[0]) / wanted.std[0], label


def trained(session: Session, state: State, target: int) -> nn.Module:
    model = exact_model(session)
    train = state.train
    if train is None or not train.steps:
        return model
    x, label = picture(session, state, train.item)
    if train.target is not None:
        label = session.classes.index(train.target)
    optimiser = torch.optim.SGD(model.parameters(), train.rate)
    for _ in range(train.steps):
        optimiser.zero_grad()
        wanted = torch.tensor([target if label is None else label])
        torch.autograd.backward(nn.functional.cross_entropy(model(x[None]), wanted))
        optimiser.step()
    return model


def number(session: Session, of: str, state: State) -> float:
    """What autograd says of one number."""
    x, label = picture(session, state)
    target = label if state.target is None else session.classes.index(state.target)
    assert target is not None
    model = trained(session, state, target)
    truth = reference(model, x[None], target)
    if of in ("gradient", "weight"):
        assert state.weight is not None
        name, *rest = state.weight.split("/")
        source = truth.gradients[name] if of == "gradient" else model.get_parameter(name).detach()
        return float(source[tuple(map(int, rest))])
    if of == "loss":
        return float(truth.loss)
    if of == "probability":
        return float(torch.softmax(truth.logits[0], 0)[target])
    assert state.at is not None
    layer, *places = state.at.split("/")
    layer = {"c1_activation": "c1", "c3_activation": "c3"}.get(layer, layer)
    values = truth.y if of == "value" else truth.grad_y
    if layer not in values:  # a function's output by its module's
        values = truth.grad_x
    return float(values[layer][(0, *map(int, places))])


def asked(name: str) -> list[tuple[Session, Question, State, dict[str, Any]]]:
    lesson = read_lesson(ready_lesson(name))
    session = session_of(lesson)
    made = lesson_of(session, lesson)
    found = []
    for stop, built in zip(lesson.stops, made["steps"], strict=True):
        if stop.question is not None:
            state = stop.question.state.over(stop.state.over(lesson.start))
            found.append((session, stop.question, state, built["question"]))
    return found


@pytest.mark.parametrize("name", READY)
def test_every_answer_is_autograd_s(name: str) -> None:
    checked = 0
    for session, question, state, built in asked(name):
        if question.kind == "number" and question.of is not None and question.of not in COUNTS:
            assert built["exact"] == pytest.approx(number(session, question.of, state), rel=1e-9, abs=1e-13)
            checked += 1
        if question.kind == "choice" and question.of is not None:
            wanted = [number(session, question.of, choice.state.over(state)) for choice in question.choices]
            assert built["numbers"] == pytest.approx(wanted, rel=1e-9)
            checked += 1
    assert checked >= {"convolution": 1, "pooling": 4, "backpropagation": 8, "training": 7}[name]


def test_moved_pictures_say_what_the_lesson_says() -> None:
    lesson = read_lesson(ready_lesson("pooling"))
    session = session_of(lesson)
    still, by_one, by_two = (State(item=3, shift=(0, right)) for right in (0, 1, 2))

    def at(place: str, state: State) -> float:
        return number(session, "value", State(at=place).over(state))

    assert at("s2/3/6/7", still) == at("s2/3/6/8", by_two) == at("s2/3/6/8", by_one)
    assert at("c1/3/12/14", still) == pytest.approx(at("c1/3/12/16", by_two), rel=1e-13)
    assert at("s2/3/6/7", by_one) == pytest.approx(3.2106, abs=5e-5)


def test_both_languages_in_every_step_and_pages_that_fit_in_5_mb(tmp_path: Path) -> None:
    paths = build_lessons(READY, tmp_path)
    for path in paths:
        assert path.stat().st_size < 5_000_000
        assert "手" in path.read_text("utf-8") or "卷积" in path.read_text("utf-8")
    for name in READY:
        for stop in read_lesson(ready_lesson(name)).stops:
            assert re.search("[\u4e00-\u9fff]", stop.text["zh"])
            assert not re.search("[\u4e00-\u9fff]", stop.text["en"])


def test_the_command(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert "backpropagation: Backpropagation by hand · 手算反向传播, 10 steps" in run(command.command, []).output
    result = run(command.command, ["backpropagation", "--out", str(tmp_path / "pages")], catch_exceptions=False)
    assert "backpropagation.html: 0." in result.output
    assert "--out DIR says where" in run(command.command, ["pooling"]).output
    own = tmp_path / "own.toml"
    words = 'title.en = "a"\nlanguages = ["en"]\n[[step]]\ntitle.en = "a"\ntext.en = "b"\n'
    own.write_text(words, "utf-8")
    with pytest.raises(ArgumentError, match=r"lesson: got 'own.toml', wanted a lesson that names its model"):
        build_lessons([own], tmp_path)
    own.write_text(f'model = "none.safetensors"\n{words}', "utf-8")
    with pytest.raises(ArgumentError, match="wanted its model beside it"):
        build_lessons([own], tmp_path)
    with pytest.raises(UnknownNameError, match="lesson: got 'poolng'.*'pooling'"):
        ready_lesson("poolng")


def test_a_changed_model_is_noticed(tmp_path: Path) -> None:
    lesson = read_lesson(ready_lesson("backpropagation"))
    session = session_of(lesson)
    changed = Session(copy.deepcopy(session.model))
    with torch.no_grad():
        changed.model.get_parameter("conv.bias")[0] += 0.1
    with pytest.raises(ArgumentError, match=r"backpropagation.toml, line \d+, step 2, question.answer: got 1.8"):
        lesson_of(changed, lesson)


def test_the_model_for_pencil_and_paper_is_what_its_program_makes() -> None:
    path = Path(__file__).parents[2] / "docs/pages/lesson_models.py"
    made = runpy.run_path(str(path))["by_hand"]()
    kept = session_of(read_lesson(ready_lesson("backpropagation"))).model
    assert {name: value.tolist() for name, value in kept.state_dict().items()} == {
        name: value.tolist() for name, value in made.state_dict().items()
    }
