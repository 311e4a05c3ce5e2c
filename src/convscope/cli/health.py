"""What this computer has, looked at part by part: each says what is there, and what to do about what is not."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import locale
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from convscope import __version__

State = Literal["there", "lacking", "broken"]
_SIGNS: dict[State, str] = {"there": "✓", "lacking": "–", "broken": "✗"}

# module → (its package, the extra that brings it, what it is for)
_OPTIONAL = {
    "cv2": ("opencv-contrib-python-headless", "detection", "selective search"),
    "onnx": ("onnx", "onnx", "export to ONNX"),
    "onnxruntime": ("onnxruntime", "onnx", "checks of what was exported"),
    "pyarrow": ("pyarrow", "parquet", "data sets in parquet files"),
    "sacrebleu": ("sacrebleu", "text", "BLEU"),
    "tensorboard": ("tensorboard", "tensorboard", "logs for TensorBoard"),
    "tokenizers": ("tokenizers", "text", "byte pairs"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``told`` says what is there, ``remedy`` what to do where something lacks; ``more``
    holds the figures for ``--json``."""

    name: str
    state: State
    told: str
    remedy: str = ""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def sign(self) -> str:
        return _SIGNS[self.state]

    def to_json(self) -> dict[str, Any]:
        return {"state": self.state, "told": self.told, **({"remedy": self.remedy} if self.remedy else {}), **self.more}


def examine(root: Path | None = None) -> list[Finding]:
    """Everything, in the order in which it is printed. What cannot be looked at is itself a finding, "broken"."""
    parts: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("convscope", _convscope),
        ("processor", _processor),
        ("torch", _torch),
        ("engine", _engine),
        ("compiler", _compiler),
        ("GPU", _gpu),
        ("data", lambda: _data(root)),
        ("packages", _packages),
        ("terminal", _terminal),
        ("temporary folder", _temporary),
    ]
    found: list[Finding] = []
    for name, look in parts:
        try:
            found += look()
        except Exception as problem:  # whatever is wrong with a part, the others are told
            told = f"{type(problem).__name__}: {problem}"
            found.append(
                Finding(name, "broken", told, "Install convscope anew: pip install --force-reinstall convscope")
            )
    return found


def _convscope() -> list[Finding]:
    python = platform.python_version()
    return [
        Finding("convscope", "there", f"{__version__}, Python {python}, {platform.platform()}", more={"python": python})
    ]


def _processor() -> list[Finding]:
    from convscope.native import processors

    model = platform.machine()
    known: list[str] = []
    if (information := Path("/proc/cpuinfo")).is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            if key.strip() in ("flags", "Features"):
                known = value.split()
    sets = [each for each in ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd") if each in known]
    usable, threads = len(os.sched_getaffinity(0)), processors.threads()
    told = (
        f"{model}; {usable} of {os.cpu_count()} processors may be used, {threads} threads by default; {' '.join(sets)}"
    )
    remedy = ""
    if threads < usable and "OMP_NUM_THREADS" in os.environ:
        idle = usable - threads
        remedy = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} keeps {idle} of them idle; --threads N sets more"
    more = {"model": model, "processors": usable, "threads": threads, "instruction_sets": sets}
    return [Finding("processor", "there", told.rstrip("; "), remedy, more)]


def _torch() -> list[Finding]:
    import torch

    if float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) != 8:
        return [Finding("torch", "broken", f"{torch.__version__} multiplies matrices wrongly", "Install torch anew")]
    return [Finding("torch", "there", torch.__version__, more={"version": torch.__version__})]


def _engine() -> list[Finding]:
    from convscope.native import availability

    problem = availability.problem()
    if problem is not None:
        remedy = (
            "Install a C++20 compiler and convscope anew, with pip's --verbose to see what it says; until then torch "
            "trains, more slowly on a CPU"
        )
        return [Finding("engine", "lacking", f"not built ({problem})", remedy)]
    engine = availability.engine()
    told = f"{engine.isa()}, built for {', '.join(engine.isas())}; threads by {engine.threads()}"
    return [Finding("engine", "there", told, more={"isa": engine.isa(), "isas": list(engine.isas())})]


def _compiler() -> list[Finding]:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        path = shutil.which(name) if name else None
        if path is not None:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
            return [Finding("compiler", "there", f"{path}: {done.stdout.partition(chr(10))[0]}", more={"path": path})]
    return [
        Finding(
            "compiler",
            "lacking",
            "no C++ compiler",
            "One is needed only to build the engine from source: apt install g++",
        )
    ]


def _gpu() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        told = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        return [Finding("GPU", "there", ", ".join(told), more={"devices": told})]
    if torch.version.cuda is None:
        remedy = "Where there is one, install a torch that is built for it: https://pytorch.org/get-started"
        return [Finding("GPU", "lacking", "this torch is built for CPUs alone", remedy)]
    remedy = "Where there is one, nvidia-smi tells whether its driver works" if shutil.which("nvidia-smi") else ""
    return [Finding("GPU", "lacking", "torch finds none", remedy)]


def _data(root: Path | None) -> list[Finding]:
    from convscope.data import data_root
    from convscope.data.catalog import SOURCES

    folder = data_root(root)
    there = [
        each for each in SOURCES if each == "digits" or (_holds(folder / each) and SOURCES[each].present(folder / each))
    ]
    missing = [each for each in SOURCES if each not in there]
    part = [each for each in missing if _holds(folder / each)]
    told = f"{folder}: {', '.join(there)}"
    remedy = (
        f"Not there: {', '.join(missing)}; `convscope datasets NAME` says which files, most are fetched at first use"
        if missing
        else ""
    )
    if part:
        remedy += f". Not whole: {', '.join(part)}"
    more = {"folder": str(folder), "there": there, "missing": missing, "incomplete": part}
    return [Finding("data", "there" if len(there) > 1 else "lacking", told, remedy, more)]


def _holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _packages() -> list[Finding]:
    found: list[Finding] = []
    for module, (package, extra, purpose) in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            found.append(Finding(package, "lacking", f"for {purpose}", f"pip install 'convscope[{extra}]'"))
            continue
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "of another package"
        found.append(Finding(package, "there", f"{version}, for {purpose}", more={"version": version}))
    return found


def _terminal() -> list[Finding]:
    encoding = sys.stdout.encoding or "ascii"
    kind = "a terminal" if sys.stdout.isatty() else "no terminal"
    told = f"{kind}, {encoding}, locale {locale.setlocale(locale.LC_CTYPE)}"
    try:
        "δ² ✓ 猫".encode(encoding)
    except UnicodeEncodeError:
        remedy = "It lacks some characters, which are written plainly; PYTHONUTF8=1 writes them as they are"
        return [Finding("terminal", "lacking", told, remedy, {"encoding": encoding})]
    return [Finding("terminal", "there", told, more={"encoding": encoding})]


def _temporary() -> list[Finding]:
    place = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="convscope-"):
        free = shutil.disk_usage(place).free
    remedy = "Less than 1 GB is free: set TMPDIR to a folder with more" if free < 1e9 else ""
    return [Finding("temporary folder", "there", f"{place}, {free / 1e9:.1f} GB free", remedy, {"free_bytes": free})]
