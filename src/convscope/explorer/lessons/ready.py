"""Lessons that name their own model and data, built into pages; and those that come with the package."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from convscope.data import load_dataset
from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.lessons.file import LessonFile, read_lesson
from convscope.explorer.lessons.lesson import lesson_of
from convscope.explorer.lessons.page import save_page
from convscope.explorer.session import Session
from convscope.training import load

READY = ("convolution", "pooling", "backpropagation", "training")
"""The lessons that come with the package, in the order in which they are meant to be taught."""


def ready_lesson(name: str) -> Path:
    """The file of a lesson that comes with the package. UnknownNameError for any other name."""
    if name not in READY:
        raise UnknownNameError("lesson", name, READY)
    return Path(str(resources.files("convscope.explorer.lessons") / "ready" / f"{name}.toml"))


def session_of(lesson: LessonFile, root: Path | None = None) -> Session:
    """The explorer on the model and data that a lesson names: ``model`` is a file beside it, ``data`` a data set.

    ArgumentError where it names no model, or a file that is not there.
    """
    if lesson.model is None:
        wanted = 'a lesson that names its model: model = "model.safetensors", a file beside it'
        raise ArgumentError("lesson", lesson.path.name, wanted, "explore --lesson takes a lesson with any model.")
    path = lesson.path.parent / lesson.model
    if not path.is_file():
        raise ArgumentError("lesson", lesson.path.name, f"its model beside it, {path}")
    data = load_dataset(lesson.data, root) if lesson.data is not None else None
    return Session(load(path), data, path.stem)


def build_lessons(
    lessons: Iterable[str | Path], folder: str | Path, lang: str | None = None, root: Path | None = None
) -> list[Path]:
    """Each lesson, a ready one's name or a file, as one page in ``folder``; the paths, in order.

    Raises DataError and ArgumentError as ``read_lesson``, ``session_of`` and ``lesson_of`` do; the pages before are
    there then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for each in lessons:
        path = ready_lesson(str(each)) if str(each) in READY else Path(each)
        lesson = read_lesson(path)
        session = session_of(lesson, root)
        built.append(save_page(session, folder / f"{path.stem}.html", lang, lesson_of(session, lesson)))
    return built
