"""Lessons to hand out: the explorer as one file that computes by itself, lessons as plain files, sheets to fill in."""

from convscope.explorer.lessons.file import LessonFile, read_lesson
from convscope.explorer.lessons.lesson import lesson_of
from convscope.explorer.lessons.page import Page, page_of, save_page
from convscope.explorer.lessons.ready import READY, build_lessons, ready_lesson, session_of
from convscope.explorer.lessons.sheet import save_sheet, sheet_of

__all__ = [
    "READY", "LessonFile", "Page", "build_lessons", "lesson_of", "page_of", "read_lesson", "ready_lesson", "save_page",
    "save_sheet", "session_of", "sheet_of",
]  # fmt: skip
