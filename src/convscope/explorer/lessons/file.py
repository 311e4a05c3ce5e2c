"""A lesson as a plain file: an ordered list of states of the explorer, each with a text and a question. TOML.

Every key is described in docs/lessons.md. What is read here is checked as far as the file alone allows;
``lesson.lesson_of`` checks it against a model.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from convscope.errors import DataError
from convscope.explorer.arithmetic import BACKWARD_RULES
from convscope.explorer.lessons.reading import LANGUAGES, Source, Table, Texts
from convscope.explorer.pictures import QUANTITIES
from convscope.explorer.session import LOSS_NAMES

TABS = ("forward", "backward", "gradient", "field", "training", "lab")
NUMBERS = (
    "value", "delta", "gradient", "weight", "input", "probability", "logit", "loss", "maps", "rows", "columns",
    "parameters", "terms", "field",
)  # fmt: skip
"""What a question may ask for, worked out from the model in float64."""
COUNTS = ("maps", "rows", "columns", "parameters", "terms", "field")  # whole numbers
PICKS = ("largest", "smallest", "strongest")
MOST_STEPS, MOST_TRAINING = 200, 200
MOST_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Training:
    """``steps`` of SGD on one picture, from the model's own weights."""

    steps: int
    rate: float = 0.05
    momentum: float = 0.0
    decay: float = 0.0
    item: int | None = None
    target: str | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """Where the explorer stands. None: as before, or the page's own beginning."""

    at: str | None = None
    tab: str | None = None
    show: str | None = None
    rule: str | None = None
    weight: str | None = None
    pixel: tuple[int, ...] | None = None
    hover: str | None = None
    item: int | None = None
    picture: tuple[tuple[int, ...], ...] | None = None
    shift: tuple[int, ...] | None = None
    target: str | None = None
    loss: str | None = None
    train: Training | None = None

    def over(self, under: State) -> State:
        """This state where it says something, the one under it elsewhere; another picture brings its own shift."""
        mine = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: value for name, value in mine.items() if value is not None}
        if "item" in given or "picture" in given:
            given = {"item": None, "picture": None, "shift": None, **given}
        return dataclasses.replace(under, **given)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One answer to pick; ``state`` and the question's ``of`` may give it a number."""

    texts: Texts
    state: State


@dataclasses.dataclass(frozen=True)
class Question:
    kind: str
    ask: Texts
    of: str | None
    pick: str | None
    answer: Any
    tolerance: float | None
    choices: tuple[Choice, ...]
    within: tuple[int, ...] | None
    hint: Texts | None
    why: Texts | None
    cover: bool | None
    state: State
    table: Table


@dataclasses.dataclass(frozen=True)
class Stop:
    """One step of a lesson; ``then``: where the explorer goes when the question has been answered."""

    title: Texts
    text: Texts
    state: State
    question: Question | None
    then: State | None
    table: Table


@dataclasses.dataclass(frozen=True)
class LessonFile:
    """``model`` and ``data`` are what the lesson is about, for ``convscope lessons``; the ``explore`` command is given
    its own."""

    path: Path
    title: Texts
    languages: tuple[str, ...]
    model: str | None
    data: str | None
    start: State
    stops: tuple[Stop, ...]


def read_lesson(path: str | Path) -> LessonFile:
    """Read a lesson. DataError where there is no such file or it is no TOML (by line), ArgumentError by the step, line
    and key for whatever a lesson cannot have."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(path, f"no lesson can be read ({error.strerror})") from error
    if len(content) > MOST_BYTES:
        raise DataError(path, f"{len(content):,} bytes are no lesson: at most {MOST_BYTES:,}")
    try:
        text = content.decode("utf-8-sig")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(path, "the lesson is not UTF-8", "Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(path, f"the lesson is not TOML: {error}") from error
    source = Source(path.name, tuple(text.splitlines()))
    top = Table(values, source)
    languages = _languages(top)
    steps = top.take("step")
    if not isinstance(steps, list) or not steps or not all(isinstance(each, dict) for each in steps):
        raise top.wrong("step", None if steps is None else type(steps).__name__, "at least one [[step]]")
    if len(steps) > MOST_STEPS:
        raise top.wrong("step", len(steps), f"at most {MOST_STEPS} steps")
    found = LessonFile(
        path, top.needed("title", languages), languages, top.text("model"), top.text("data"), _state(top),
        tuple(_stop(Table(each, source, number), languages) for number, each in enumerate(steps, 1)),
    )  # fmt: skip
    top.end()
    return found


def _languages(top: Table) -> tuple[str, ...]:
    value = top.take("languages")
    if value is None:
        return LANGUAGES
    if not isinstance(value, list) or not value or any(each not in LANGUAGES for each in value):
        raise top.wrong("languages", value, 'a list of "en" and "zh"')
    return tuple(language for language in LANGUAGES if language in value)


def _stop(table: Table, languages: tuple[str, ...]) -> Stop:
    question, then = table.table("question"), table.table("then")
    after = None if then is None else _state(then)
    if then is not None:
        then.end()
        if question is None:
            raise table.wrong("then", "no question", "a question whose answer it follows: [step.question]")
    found = Stop(
        table.needed("title", languages), table.needed("text", languages), _state(table),
        None if question is None else _question(question, languages), after, table,
    )  # fmt: skip
    table.end()
    return found


def _state(table: Table) -> State:
    train, picture = table.table("train"), _picture(table)
    return State(
        at=table.text("at"),
        tab=table.text("tab", TABS),
        show=table.text("show", QUANTITIES),
        rule=table.text("rule", BACKWARD_RULES),
        weight=table.text("weight"),
        pixel=table.integers("pixel", 2),
        hover=table.text("hover"),
        item=table.integer("item"),
        picture=picture,
        shift=table.integers("shift", 2, low=-(2**31)),
        target=_name(table, "target"),
        loss=table.text("loss", LOSS_NAMES),
        train=None if train is None else _training(train),
    )


def _name(table: Table, key: str) -> str | None:
    """A class by its name or number: target = 3 and target = "3" are the same."""
    value = table.values.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        table.values[key] = str(value)
    return table.text(key)


def _picture(table: Table) -> tuple[tuple[int, ...], ...] | None:
    rows = table.take("picture")
    if rows is None:
        return None
    if "item" in table.values:
        raise table.wrong("picture", "item and picture", "one of them")
    wanted = "rows of pixels from 0 to 255, one row as long as the other: [[0, 255], [255, 0]]"
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise table.wrong("picture", rows, wanted)
    pixels = [value for row in rows for value in row]
    plain = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255 for value in pixels)
    if not plain or len({len(row) for row in rows}) != 1:
        raise table.wrong("picture", f"{len(rows)} rows", wanted)
    return tuple(tuple(row) for row in rows)


def _training(table: Table) -> Training:
    steps = table.integer("steps", 0, MOST_TRAINING)
    if steps is None:
        raise table.wrong("steps", None, f"how many steps, 0 to {MOST_TRAINING}")
    given = {"rate": table.number("rate", 0, 1e4), "momentum": table.number("momentum", 0, 1)}
    given["decay"] = table.number("decay", 0, 1e4)
    settings = {name: value for name, value in given.items() if value is not None}
    found = Training(steps, item=table.integer("item"), target=_name(table, "target"), **settings)
    table.end()
    return found


def _question(table: Table, languages: tuple[str, ...]) -> Question:
    kind = table.text("kind", ("number", "choice", "click"))
    if kind is None:
        raise table.wrong("kind", None, '"number", "choice" or "click"')
    found = Question(
        kind=kind,
        ask=table.needed("ask", languages),
        of=table.text("of", NUMBERS),
        pick=table.text("pick", PICKS),
        answer=table.take("answer"),
        tolerance=table.number("tolerance", 0),
        choices=_choices(table, languages),
        within=table.integers("within", 4),
        hint=table.texts("hint", languages),
        why=table.texts("why", languages),
        cover=table.flag("cover"),
        state=_state(table),
        table=table,
    )
    table.end()
    _check_kind(found)
    return found


def _choices(table: Table, languages: tuple[str, ...]) -> tuple[Choice, ...]:
    values = table.take("choices")
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        raise table.wrong("choices", values, 'a list of { en = "…", zh = "…" }')
    found = []
    for value in values:
        texts = {key: text for key, text in value.items() if key in LANGUAGES}
        one = Table({key: rest for key, rest in value.items() if key not in LANGUAGES}, table.source, table.step)
        one.under = f"{table.under}choices."
        found.append(Choice(table.each_language("choices", texts, languages), _state(one)))
        one.end()
    return tuple(found)


def _check_kind(question: Question) -> None:
    """That the question has what its kind needs, and nothing of another kind."""
    table, kind, answer = question.table, question.kind, question.answer
    kinds: dict[str, dict[str, Any]] = {
        "number": {"choices": question.choices, "pick": question.pick, "within": question.within},
        "choice": {"tolerance": question.tolerance is not None, "within": question.within},
        "click": {"tolerance": question.tolerance is not None, "choices": question.choices},
    }
    for key, value in kinds[kind].items():
        if value:
            raise table.wrong(key, f"{key} of a {kind} question", f"none: a {kind} question has no {key}")
    if question.pick is not None and question.of is None:
        raise table.wrong("pick", question.pick, 'what is compared: of = "value", for example')
    if answer is None and question.of is None:
        raise table.wrong("answer", None, "the answer, or what it is: of = …")
    {"number": _check_number, "choice": _check_choice, "click": _check_click}[kind](question)


def _check_number(question: Question) -> None:
    answer = question.answer
    if answer is not None and (not isinstance(answer, int | float) or isinstance(answer, bool)):
        raise question.table.wrong("answer", answer, "a number")


def _check_choice(question: Question) -> None:
    table, answer, count = question.table, question.answer, len(question.choices)
    if count < 2:
        raise table.wrong("choices", count, "at least two choices")
    plain = isinstance(answer, int) and not isinstance(answer, bool)
    if answer is not None and not (plain and 1 <= answer <= count):
        raise table.wrong("answer", answer, f"the number of the right choice, 1 to {count}")
    if question.of is not None and question.pick is None:
        raise table.wrong("pick", None, f"which choice is right: one of {', '.join(PICKS)}")


def _check_click(question: Question) -> None:
    table, answer = question.table, question.answer
    if answer is not None and not isinstance(answer, str):
        raise table.wrong("answer", answer, 'a place, such as "c1/0/3/4"')
    if question.of not in (None, "value", "delta"):
        raise table.wrong("of", question.of, '"value" or "delta" of the units that may be chosen')
    if question.of is not None and question.pick is None:
        raise table.wrong("pick", None, f"which unit is right: one of {', '.join(PICKS)}")
