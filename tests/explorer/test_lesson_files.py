"""Lesson files: read, worked out in float64 as autograd has it, and refused by line, step and key."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.explorer.fixtures import reference
from tests.explorer.lessons_at_hand import LESSON
from torch import nn

import convscope
from convscope.cli.commands import explore
from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError
from convscope.explorer.lessons import Page, lesson_of, read_lesson
from convscope.explorer.lessons.plan import exact_input, exact_model, items_of, plan_of
from convscope.explorer.session import Session
from convscope.models import create_model


@pytest.fixture(scope="module")
def session() -> Session:
    torch.manual_seed(5)
    return Session(create_model("lenet5", activation="relu", pool="max"), load_dataset("digits"))


def lesson(session: Session, folder: Path, text: str) -> dict[str, Any]:
    path = folder / "lesson.toml"
    path.write_text(text, "utf-8")
    return lesson_of(session, path)


def with_step(more: str) -> str:
    """A lesson of one step."""
    words = 'title = { en = "a", zh = "甲" }\ntext = { en = "b", zh = "乙" }\n'
    return f'title = {{ en = "a", zh = "甲" }}\n[[step]]\n{words}{more}\n'


def asking(question: str, step: str = "") -> str:
    return with_step(f'{step}\n[step.question]\nask = {{ en = "?", zh = "？" }}\n{question}')


def test_answers_are_autograd_s_in_float64(session: Session, tmp_path: Path) -> None:
    found = lesson(session, tmp_path, LESSON)
    data = session.desk.data
    assert data is not None
    picture = session.desk.from_data("test", 3)
    label = picture.label
    assert label is not None
    x = exact_input(session, picture.pixels)
    truth = reference(session.model, x, label)
    plain, number, choice, click, trained = found["steps"]
    assert plain["question"] is None
    assert plain["state"]["hover"] == {"layer": "c1", "map": 2, "unit": None}
    assert (plain["state"]["item"], plain["state"]["target"]) == (3, label)
    assert number["question"]["exact"] == pytest.approx(float(truth.y["c1"][0, 0, 12, 12]), rel=1e-12)
    assert number["question"]["tolerance"] == pytest.approx(max(1e-3, abs(number["question"]["exact"]) / 100))
    assert number["question"]["cover"]
    assert (number["state"]["tab"], number["then"]["tab"], number["then"]["unit"]) == ("forward", "field", [0, 12, 12])
    shares = torch.softmax(truth.logits[0], 0)
    assert choice["question"]["numbers"] == pytest.approx([float(shares[at]) for at in (1, 3, 8)], rel=1e-12)
    assert choice["question"]["right"] == max(range(3), key=lambda at: float(shares[(1, 3, 8)[at]]))
    window = truth.y["s2"][0, 0, 6:8, 7:9]
    best = (window == window.max()).nonzero()
    assert click["question"]["accept"] == [[0, 6 + int(row), 7 + int(column)] for row, column in best]
    model = exact_model(session)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x), torch.tensor([label])))
        optimiser.step()
    wanted = float(model.get_parameter("c1.weight").detach()[0, 0, 2, 2])
    assert trained["question"]["exact"] == pytest.approx(wanted, rel=1e-12)
    assert trained["state"]["train"] == {
        "item": 3, "target": label, "loss": "cross_entropy", "steps": 2, "rate": 0.1, "momentum": 0.9, "decay": 0.01,
    }  # fmt: skip


NUMBERS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "delta": ('at = "c3/5/4/6"', lambda s, t: t.grad_y["c3"][0, 5, 4, 6]),
    "gradient": ('weight = "c1.weight/2/0/1/3"', lambda s, t: t.gradients["c1.weight"][2, 0, 1, 3]),
    "weight": ('weight = "c1.bias/2"', lambda s, t: s.model.c1.bias.detach()[2]),
    "input": ("pixel = [9, 14]", lambda s, t: exact_input(s)[0, 0, 9, 14]),
    "logit": ("target = 4", lambda s, t: t.logits[0, 4]),
    "loss": ('at = "c1"', lambda s, t: t.loss),
    "maps": ('at = "c3"', lambda s, t: 16),
    "rows": ('at = "c3"', lambda s, t: 10),
    "columns": ('at = "s4"', lambda s, t: 5),
    "parameters": ('at = "c3"', lambda s, t: 16 * 6 * 25 + 16),
    "terms": ('at = "c3/5/4/6"', lambda s, t: 150),
    "field": ('at = "c3/5/4/6"', lambda s, t: 14),
}


@pytest.mark.parametrize("of", NUMBERS)
def test_every_number_that_may_be_asked_for(session: Session, tmp_path: Path, of: str) -> None:
    state, wanted = NUMBERS[of]
    found = lesson(session, tmp_path, asking(f'kind = "number"\nof = "{of}"', state))
    target = session.snapshot.question.target
    assert target is not None
    truth = reference(session.model, exact_input(session), target)
    exact = found["steps"][0]["question"]["exact"]
    assert exact == pytest.approx(float(wanted(session, truth)), rel=1e-11)
    tolerance = found["steps"][0]["question"]["tolerance"]
    off = exact + 1.5 * tolerance + 0.5  # beyond what is allowed
    with pytest.raises(ArgumentError, match=r"lesson.toml, line \d+, step 1, question.answer: .* the exact value"):
        lesson(session, tmp_path, asking(f'kind = "number"\nof = "{of}"\nanswer = {off}', state))
    lesson(session, tmp_path, asking(f'kind = "number"\nof = "{of}"\nanswer = {exact}', state))


def test_a_picture_by_hand_and_a_moved_one(session: Session, tmp_path: Path) -> None:
    rows = "[" + ",".join(["[" + ",".join(["0"] * 13 + ["255"] * 2 + ["0"] * 13) + "]"] * 28) + "]"
    state = f'picture = {rows}\nshift = [0, 3]\npixel = [5, 17]\ntarget = "1"'
    found = lesson(session, tmp_path, asking('kind = "number"\nof = "input"', state))
    mean, std = session.desk.preprocessing.mean[0], session.desk.preprocessing.std[0]
    assert found["steps"][0]["question"]["exact"] == pytest.approx((1 - mean) / std, rel=1e-12)
    assert "pixels" in found["steps"][0]["state"]
    assert items_of(found) == []
    moved = lesson(session, tmp_path, asking('kind = "number"\nof = "input"', state.replace("17", "15")))
    assert moved["steps"][0]["question"]["exact"] == pytest.approx(-mean / std, rel=1e-12)


def test_a_lesson_in_one_language(session: Session, tmp_path: Path) -> None:
    text = 'title.en = "a"\nlanguages = ["en"]\n[[step]]\ntitle.en = "a"\ntext.en = "b"\n'
    assert lesson(session, tmp_path, text)["languages"] == ["en"]


TITLE = 'title = { en = "a", zh = "甲" }'
TWO = '{ en = "a", zh = "甲" }, { en = "b", zh = "乙" }'
LARGEST = 'kind = "click"\nof = "value"\npick = "largest"'
WRONG = {
    "unknown layer": (with_step('at = "c7/0"'), r"line 5, step 1, at: got 'c7', wanted one of .*c1"),
    "place outside": (with_step('at = "c1/0/3/28"'), r"at: got 'c1/0/3/28', wanted a place in c1: .*0…5 / 0…27"),
    "map outside": (with_step('at = "c1/6"'), r"step 1, at: got 'c1/6'"),
    "no number": (with_step('at = "c1/zero"'), r"step 1, at: got 'c1/zero'"),
    "too short": (with_step('at = "c1/0/3"'), r"step 1, at: got 'c1/0/3'"),
    "pixel outside": (with_step("pixel = [28, 0]"), r"pixel: got \[28, 0\], wanted row and column within 28×28"),
    "no such weight": (with_step('weight = "c1.gain/0"'), r"step 1, weight: got 'c1.gain'.*c1.bias"),
    "weight outside": (with_step('weight = "c1.weight/0/1/0/0"'), r"weight: .*0…5 / 0…0 / 0…4 / 0…4"),
    "item outside": (with_step("item = 100000"), r"step 1, item: got 100000, wanted 0…\d+, a test picture of digits"),
    "no such class": (with_step('target = "ten"'), r"step 1, target: got 'ten'"),
    "wrong size": (with_step("picture = [[0, 255]]"), r"picture: got '1 rows of 2', wanted 28 rows of 28"),
    "ragged": (with_step("picture = [[0, 255], [0]]"), r"picture: got '2 rows'"),
    "two pictures": (with_step("item = 1\npicture = [[0]]"), r"picture: got 'item and picture'"),
    "unknown key": (with_step('layr = "c1"'), r"line 5, step 1, layr: got 'layr'"),
    "unknown tab": (with_step('tab = "values"'), r"tab: got 'values', wanted one of backward"),
    "no text": (f"{TITLE}\n[[step]]\n{TITLE}", r"line 2, step 1, text: "),
    "no Chinese": (with_step("").replace(', zh = "乙"', ""), r"line 4, step 1, text: got None, wanted a text for zh"),
    "empty text": (with_step("").replace('"b"', '" "'), r"text: got ' ', wanted a text for en"),
    "no steps": (TITLE, r"lesson.toml, line 1, step: got None, wanted at least one"),
    "no question": (with_step('[step.then]\ntab = "field"'), r"then: got 'no question'"),
    "no kind": (asking("answer = 3"), r"question.kind: got None"),
    "no answer": (asking('kind = "number"'), r"question.answer: got None"),
    "no unit": (asking('kind = "number"\nof = "value"'), r"question.at: got None, wanted the unit whose value it is"),
    "a map's value": (asking('kind = "number"\nof = "value"', 'at = "c1/0"'), r"at: got 'c1/0', wanted a unit"),
    "rows of a vector": (asking('kind = "number"\nof = "rows"', 'at = "output"'), "wanted maps or par"),
    "wrong choice": (asking('kind = "choice"\nanswer = 3\nchoices = [' + TWO + "]"),
                     r"question.answer: got 3, wanted the number of the right choice, 1 to 2"),
    "not the largest": (
        asking('kind = "choice"\nanswer = 1\nof = "maps"\npick = "largest"\n'
               'choices = [{ en = "a", zh = "甲", at = "c1" }, { en = "b", zh = "乙", at = "c3" }]'),
        r"question.answer: got 1, wanted 2, the largest of 6, 16"),
    "a tie": (
        asking('kind = "choice"\nof = "maps"\npick = "largest"\n'
               'choices = [{ en = "a", zh = "甲", at = "c1" }, { en = "b", zh = "乙", at = "s2" }]'),
        r"choices: got '2 choices that are equally largest', wanted one"),
    "one choice": (asking('kind = "choice"\nanswer = 1\nchoices = [{ en = "a", zh = "甲" }]'), "at least two choices"),
    "a choice of numbers": (asking('kind = "number"\nanswer = 1\npick = "largest"'), "a number question has no pick"),
    "click elsewhere": (asking('kind = "click"\nanswer = "c9/1"'), r"question.answer: got 'c9'"),
    "not the largest unit": (asking(f'{LARGEST}\nanswer = "c1/0/0/0"', 'at = "c1/0"'),
                             r"question.answer: got 'c1/0/0/0', wanted c1/0/\d+/\d+, the largest"),
    "window outside": (asking(f"{LARGEST}\nwithin = [0, 0, 28, 2]", 'at = "c1/0"'),
                       r"within: got \[0, 0, 28, 2\]"),
    "untaught": (with_step(f"picture = {[[0] * 28] * 28}\ntrain = {{ steps = 1 }}"), r"train: got None, wanted the"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_bad_files_are_refused_by_line_step_and_key(session: Session, tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(ArgumentError, match=message) as caught:
        lesson(session, tmp_path, text)
    assert caught.value.argument.startswith("lesson.toml")


def test_what_is_no_lesson_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no lesson can be read"):
        read_lesson(tmp_path / "none.toml")
    path = tmp_path / "lesson.toml"
    path.write_text('title = "a\n', "utf-8")
    with pytest.raises(DataError, match=r"not TOML: .*line 1"):
        read_lesson(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_lesson(path)
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(DataError, match="at most 1,000,000"):
        read_lesson(path)


@pytest.mark.long
def test_the_command_and_the_page_hold_the_lesson(session: Session, tmp_path: Path) -> None:
    path, page = tmp_path / "lesson.toml", tmp_path / "lesson.html"
    path.write_text(LESSON.replace("within = [6, 7, 7, 8]", ""), "utf-8")
    args = ["lenet5", "-o", "activation=relu", "--data", "digits", "--lesson", str(path), "--save", str(page)]
    result = CliRunner().invoke(explore.command, args, catch_exceptions=False)
    assert "lesson.html: " in result.output
    assert "A first lesson" in page.read_text("utf-8")
    found = lesson_of(session, path)
    plan = plan_of(session, None, found)
    assert plan["hello"]["lesson"] == found
    assert 3 in [item["index"] for item in plan["items"]]
    assert re.search("A first lesson", Page(session, None, found).html)
    inline = convscope.explore(copy.deepcopy(session.model), "digits", lesson=path, inline=True)
    assert '"lesson":{"title":{"en":"A first lesson"' in inline.html
    assert "A first lesson" in inline._repr_html_()  # what a notebook keeps of the cell
    bare = tmp_path / "bare.safetensors"
    from safetensors.torch import save_file

    save_file(copy.deepcopy(session.model).state_dict(), bare)
    result = CliRunner().invoke(explore.command, [str(bare), "--lesson", str(path)])
    assert "--lesson needs a model" in result.output


def test_data_is_needed_for_items(tmp_path: Path, session: Session) -> None:
    bare = Session(copy.deepcopy(session.model))
    with pytest.raises(ArgumentError, match=r"line 5, step 1, item: .*opened without a data set"):
        lesson(bare, tmp_path, with_step("item = 1"))
