"""Lessons to hand out: the explorer as one file that computes by itself, lessons as plain files, sheets to fill in."""

from convscope.explorer.lessons.page import Page, page_of, save_page

__all__ = ["Page", "page_of", "save_page"]
