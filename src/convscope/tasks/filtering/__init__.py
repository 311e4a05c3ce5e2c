"""Filtering pictures with classic kernels and kernels of one's own."""

from __future__ import annotations

from convscope.tasks.filtering.pictures import filter_picture

__all__ = ["filter_picture"]
