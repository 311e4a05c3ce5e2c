"""What a loader had to leave out of a data set: counted, and said once."""

from __future__ import annotations

import logging
from pathlib import Path

_log = logging.getLogger("convscope.data")
_NAMED = 3


class LeftOut:
    """Counts by what was wrong: ``left_out.note("boxes without area", "picture_7.xml")``."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def note(self, what: str, place: str) -> None:
        """One more of ``what`` (in words, in the plural), found at ``place``."""
        self._places.setdefault(what, []).append(place)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {what: len(places) for what, places in self._places.items()}

    def say(self, source: Path) -> None:
        """Warn of everything that was noted, with the first few places; nothing where there is nothing to say."""
        if not self._places:
            return
        parts = [
            f"{len(places)} {what} ({', '.join(places[:_NAMED])}{', …' if len(places) > _NAMED else ''})"
            for what, places in self._places.items()
        ]
        _log.warning("%s: not taken as they are: %s", source, "; ".join(parts))
