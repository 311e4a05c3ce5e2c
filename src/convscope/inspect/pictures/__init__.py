"""What a person would rather look at than read."""

from __future__ import annotations
