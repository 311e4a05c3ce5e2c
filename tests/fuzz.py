"""Damaged files of every format that is read, and runs that are killed: counted as clean, wrong, hung or crashed.

    python -m tests.fuzz 100 20 [--seed 0]      100 damaged files of each format, 20 kills at the seed's moments

Clean is a result, or an error of convscope's own. Wrong: a file that carries a checksum was taken although a byte of it
was changed; a killed run did not go on to the end of an undisturbed one. Each format is read in a process of its own,
so that a crash is seen and counted too.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from PIL import Image

from convscope import create_model
from convscope.cli.requests import read_request, request, write_request
from convscope.data import Dataset, load_dataset
from convscope.data.idx import read_idx
from convscope.data.pictures import load_picture
from convscope.errors import ConvscopeError
from convscope.models.modelfile import load, save
from convscope.models.statefile import read_state
from convscope.tasks import fit
from convscope.tasks.run_pictures import _read_history

SECONDS = 30  # for one file
PIXELS = numpy.random.default_rng(1).integers(0, 256, (24, 9, 7), dtype=numpy.uint8)
LABELS = numpy.arange(24) % 2
Outcome = collections.Counter[str]


def _stripes() -> Dataset:
    return Dataset.from_arrays(PIXELS, LABELS, name="stripes")


def _model(path: Path) -> None:
    save(create_model("lenet5"), path)


def _run(path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 2))
    fit(net, _stripes(), run_dir=str(path.parent / "run"), epochs=1, engine="torch", watch=False)


def _from_run(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _run(path)
        shutil.copy(next((path.parent / "run").glob(name)), path)

    return make


def _resume(name: str) -> Callable[[Path], None]:
    """Go on with a run of which one file was damaged."""

    def use(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            shutil.copytree(path.parent / "run", run)
            shutil.copy(path, next(run.glob(name)))
            fit(data=_stripes(), run_dir=str(run), resume=True)

    return use


def _idx(path: Path, pack: Callable[[bytes], bytes] = bytes) -> None:
    path.write_bytes(pack(struct.pack(">I3I", 0x803, *PIXELS.shape) + PIXELS.tobytes()))


def _picture(kind: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(numpy.dstack([PIXELS[0]] * 3)).save(path, kind)


def _parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    contents = []
    for picture in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        contents.append({"bytes": buffer.getvalue(), "path": None})
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    parquet.write_table(pyarrow.table({"img": pyarrow.array(contents, kind), "label": LABELS}), path)


def _load_parquet(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "train.parquet")
        load_dataset(folder)


#: name → how a whole file is made, how it is read, whether a change of any byte must be noticed
FORMATS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object], bool]] = {
    "model.safetensors": (_model, load, True),
    "checkpoint.safetensors": (_from_run("checkpoints/step-*"), load, True),
    "config.json": (_from_run("config.json"), _resume("config.json"), False),
    "newest.safetensors": (_from_run("checkpoints/step-*"), _resume("checkpoints/step-*"), False),
    "history.csv": (_from_run("history.csv"), lambda path: _read_history(path.parent), False),
    "data.json": (lambda path: write_request(path.parent, request("digits", None, ["size=3"])),
                  lambda path: read_request(path.parent), False),
    "images.idx": (_idx, lambda path: read_idx(path, 3), False),
    "images.idx.gz": (lambda path: _idx(path, gzip.compress), lambda path: read_idx(path, 3), False),
    "set.npz": (lambda path: numpy.savez_compressed(path, images=PIXELS, labels=LABELS), load_dataset, False),
    "picture.png": (_picture("PNG"), load_picture, False),
    "picture.jpg": (_picture("JPEG"), load_picture, False),
    "train.parquet": (_parquet, _load_parquet, False),
    "weights.pth": (lambda path: torch.save({"net": create_model("lenet5").state_dict()}, path), read_state, False),
}  # fmt: skip


def mutated(content: bytes, chance: random.Random) -> bytes:
    """``content`` with one to three pieces of damage; never as it was."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        # most formats say what they are in their first bytes, and some in their last
        size = max(len(changed), 1)
        reach = min(size, chance.choice([64, 600, size]))
        place = chance.randrange(reach) if chance.random() < 0.8 else size - 1 - chance.randrange(reach)
        match chance.randrange(6):
            case 0 if changed:
                changed[place] ^= 1 << chance.randrange(8)
            case 1 if changed:
                changed[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, ord("9"), ord("-"), ord("[")])
            case 2:
                del changed[place:]
            case 3:
                del changed[place : place + chance.randint(1, 40)]
            case 4:
                changed[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 12)))
            case 5:
                changed[place : place + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"9999"])
    return bytes(changed) if changed != content else mutated(content, chance)


def outcome(use: Callable[[Path], object], path: Path, sure: bool) -> str:
    def late(number: int, frame: object) -> None:
        raise TimeoutError("hung")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        use(path)
    except ConvscopeError:
        return "clean"
    except TimeoutError:
        return "hung"
    except BaseException as problem:  # whatever else it is, it has no business here
        print(f"{path.name}: {type(problem).__name__}: {str(problem)[:200]}", file=sys.stderr)
        return "crashed"
    finally:
        signal.alarm(0)
    return "wrong" if sure else "clean"


def read_damaged(name: str, first: int, last: int) -> None:
    """Print the outcome of each of the cases, one a line."""
    make, use, sure = FORMATS[name]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        make(path)
        content = path.read_bytes()
        for number in range(first, last):
            path.write_bytes(mutated(content, random.Random(f"{name} {number}")))
            print(outcome(use, path, sure), flush=True)


def damaged(name: str, cases: int) -> Outcome:
    """The outcomes of ``cases`` damaged files of one format; a process that dies has crashed, and the next goes on."""
    found: Outcome = collections.Counter()
    while (first := found.total()) < cases:
        command = [sys.executable, "-m", "tests.fuzz", "--format", name, str(first), str(cases)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        found.update(done.stdout.split())
        if done.stderr:
            print(done.stderr[-2000:], file=sys.stderr)
        if done.returncode:
            found["crashed"] += 1
    return found


def killed(kills: int, seed: int = 0) -> Outcome:
    """Runs that are killed at a random moment, gone on with, and compared with an undisturbed one."""
    found: Outcome = collections.Counter()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        begun = time.monotonic()
        assert _train(whole).wait() == 0
        length = time.monotonic() - begun
        expected = load(whole / "model.safetensors").state_dict()
        for number in range(kills):
            run = Path(folder) / str(number)
            process = _train(run)
            time.sleep(chance.random() * length)
            process.kill()
            process.wait()
            found[_gone_on_with(run, expected)] += 1
            shutil.rmtree(run, ignore_errors=True)
            print(f"kill {number}: {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


def _gone_on_with(run: Path, expected: dict[str, torch.Tensor]) -> str:
    again = _train(run, (run / "config.json").exists())
    try:
        if again.wait(10 * SECONDS):
            return "crashed"
    except subprocess.TimeoutExpired:
        again.kill()
        return "hung"
    weights = load(run / "model.safetensors").state_dict()
    return "clean" if all(torch.equal(weights[each], expected[each]) for each in expected) else "wrong"


def _train(run: Path, resume: bool = False) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "convscope", "train", "-q", "--no-pictures"]
    command += ["--resume", str(run)] if resume else [
        "-r", str(run), "-e", "6", "--seed", "3", "--engine", "torch", "--threads", "1", "--no-watch",
    ]  # fmt: skip
    return subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    source = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": f"{source / 'src'}:{source}", "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    given = parser.parse_args()
    if given.format:
        read_damaged(given.format, given.first, given.last)
        return
    for name in FORMATS if given.first else ():
        print(f"{name:24}", json.dumps(damaged(name, given.first)), flush=True)
    print(f"{'kills':24}", json.dumps(killed(given.last, given.seed)), flush=True)


if __name__ == "__main__":
    main()
