"""Sentence classification: a sentence in, one of several classes out."""

from __future__ import annotations

from convscope.tasks.sentences.ngrams import Liked, favourites

__all__ = ["Liked", "favourites"]
