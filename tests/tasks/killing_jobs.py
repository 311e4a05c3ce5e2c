"""``python killing_jobs.py FOLDER JOB SETTINGS COUNT``: a training job killed at COUNT random points, each time called
again, compared with one left alone. SETTINGS are the fields of ``Asked`` as JSON.

Points are counted as in ``tests/tasks/stages/killing.py``. Prints, as JSON, for every try how the first call ended and
which files differ after the second.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from tests.tasks.stages.killing import CHANGING, counting, forked

from convscope.tasks.jobs import Asked, run_training_job
from convscope.tasks.stages.folder import digest
from convscope.tensorfile import read_tensors

#: What tells of time, or of where it was done.
IGNORED = {"history.csv", "events.jsonl", "stage.json", "lock", "config.json", "output.txt", "calls", "result.json"}


def contents(path: Path) -> object:
    """What a file says; of tensors a checksum, since safetensors writes what describes them in any order."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    tensors, description = read_tensors(path)
    return digest(tensors), {name: value for name, value in description.items() if name not in ("config", "folder")}


def results(folder: Path) -> dict[str, object]:
    """Every file that must come out the same: models, figures, answers."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in IGNORED]
    kept = [path for path in found if not {"checkpoints", "watch"} & set(path.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): contents(path) for path in kept if path.suffix != ".png"}


def main() -> None:
    folder, name, asked, count = Path(sys.argv[1]), sys.argv[2], Asked(**json.loads(sys.argv[3])), int(sys.argv[4])
    torch.set_num_threads(1)
    before = [getattr(place, each) for place, each in CHANGING]

    def undisturbed() -> None:
        calls = counting(-1)
        run_training_job(name, asked, folder / "whole", workers=1)
        (folder / "calls").write_text(str(calls()))

    assert forked(undisturbed) == 0
    for (place, each), plain in zip(CHANGING, before, strict=True):
        setattr(place, each, plain)
    expected, most = results(folder / "whole"), int((folder / "calls").read_text())
    chance = random.Random(5)
    tries = []
    for point in sorted(chance.sample(range(2, 2 * most), count)):
        here = folder / str(point)

        def killed(at: float = point / 2, here: Path = here) -> None:
            counting(at)
            run_training_job(name, asked, here, workers=1)

        def again(here: Path = here) -> None:
            run_training_job(name, asked, here, workers=1)

        first, second = forked(killed), forked(again)
        found = results(here)
        differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        tries.append({"point": point / 2, "first": first, "second": second, "differing": differing})
    print(json.dumps({"points": most, "files": len(expected), "tries": tries}))


if __name__ == "__main__":
    main()
