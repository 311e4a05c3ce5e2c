"""What a job's folder holds of each stage, and what is to become of it: taken over, gone on with, or made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from convscope.errors import UnknownNameError
from convscope.tasks.stages.events import JobEvent, StageLoaded, StageRedone
from convscope.tasks.stages.folder import StageError, StageFolder, differences, discard
from convscope.tasks.stages.stage import Outcome, Stage
from convscope.tasks.stages.work import outcome_of

CHANGED = "changed"


class Plan:
    """Looks at every stage's folder before any work is done.

    ``redo`` names stages to make anew, or ``CHANGED``: those whose settings are other than the folder's. What follows
    from them is marked, so that it may be made anew too when their results turn out to be others. Raises StageError
    for settings that differ otherwise, naming all of them, and UnknownNameError for an unknown stage in ``redo``.
    """

    def __init__(
        self, stages: Sequence[Stage], job: Path, redo: Sequence[str], tell: Callable[[JobEvent], None]
    ) -> None:
        self.stages, self.job, self.tell = {stage.name: stage for stage in stages}, job, tell
        for name in redo:
            if name != CHANGED and name not in self.stages:
                raise UnknownNameError("redo", name, [*self.stages, CHANGED])
        changed = {name: found for name in self.stages if name not in redo and (found := self._changes(name))}
        if changed and CHANGED not in redo:
            first = next(iter(changed))
            told = [
                ", ".join(changed.pop(first)),
                *(f"{name!r}: {', '.join(found)}" for name, found in changed.items()),
            ]
            remedy = (
                f"redo={CHANGED!r} makes anew what differs and what follows from it; another folder leaves all as it is"
            )
            raise StageError(first, "; stage ".join(told), remedy)
        reasons = {name: "asked for" for name in redo if name != CHANGED} | {
            name: ", ".join(found) for name, found in changed.items()
        }
        self._allow(set(reasons))
        for name in self.stages:
            if name in reasons and (job / name).exists():
                discard(job, job / name)
                tell(StageRedone(name, reasons[name]))

    def settle(self, stage: Stage, earlier: Mapping[str, Outcome]) -> Outcome | None:
        """The stage's result, when the folder has it whole; else None, and the folder is ready for the work.

        Raises StageError when it was made, or begun, from other results than ``earlier`` and nobody allowed to redo it.
        """
        folder = StageFolder(self.job, stage.name)
        if folder.record is None:
            return None
        now = {name: outcome.fingerprint for name, outcome in earlier.items()}
        other = sorted(
            name
            for name in now.keys() | folder.record["after"].keys()
            if folder.record["after"].get(name) != now.get(name)
        )
        if other:
            reason = "made from another result of " + " and ".join(map(repr, other))
            if not folder.record["redo"]:
                raise StageError(stage.name, f"it was {reason}", f"redo={stage.name!r} makes it anew")
            self._allow({stage.name})
            folder.discard()
            self.tell(StageRedone(stage.name, reason))
            return None
        folder.allow_redo(False)
        if not folder.finished:
            return None
        damage = folder.damage()
        if damage:
            folder.unfinish()
            self.tell(StageRedone(stage.name, damage))
            return None
        self.tell(StageLoaded(stage.name))
        return outcome_of(folder)

    def finished(self, name: str) -> Outcome:
        """The result of a stage that a worker has just finished."""
        return outcome_of(StageFolder(self.job, name))

    def threads(self, stage: Stage) -> int:
        """How many threads the stage takes if it begins now."""
        return stage.threads or torch.get_num_threads()

    def _changes(self, name: str) -> list[str]:
        """In what the folder's settings of a stage differ from those asked for."""
        record, stage = StageFolder(self.job, name).record, self.stages[name]
        if record is None:
            return []
        found = differences(record["settings"], stage.settings)
        if stage.threads is not None:
            found += differences(record["threads"], stage.threads, "threads")
        return found

    def _allow(self, redone: set[str]) -> None:
        """Mark all that follows from the stages ``redone``, before anything of them is removed."""
        following = set(redone)
        for stage in self.stages.values():
            if stage.name not in following and following & set(stage.after):
                following.add(stage.name)
                folder = StageFolder(self.job, stage.name)
                if folder.record is not None:
                    folder.allow_redo()
