"""How much a process grows to answer pictures: the native engine beside torch and ONNX Runtime.

    python benchmarks/native_memory.py [--pictures 1] [--threads 1] [--contestants native eager onnxruntime] [models …]

Every figure is of a fresh process that has imported everything and made the model in torch. From there on is counted
what it takes to prepare the model for the contestant, and some answers: what the process holds then, and its peak on
the way. A model's weights are there before; ONNX Runtime, which reads them from a file, has its own beside torch's.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from native_inference import MODELS, prepared  # type: ignore[import-not-found]  # beside this file

from convscope.native import availability
from convscope.native.benchmarking.answering import CONTESTANTS

ANSWERS = 6


def status(field: str) -> float:
    """A figure of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"this system does not tell {field}")


def example(name: str, pictures: int) -> tuple[torch.nn.Module, torch.Tensor]:
    model, shape = prepared(name)
    return model.eval(), torch.randn(pictures, *shape, generator=torch.Generator().manual_seed(0))


def export(path: str, name: str, pictures: int) -> None:
    """In a process of its own: an export takes more memory than everything that is measured."""
    model, x = example(name, pictures)
    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"])


def measure(results: Connection, contestant: str, name: str, pictures: int, threads: int, path: str) -> None:
    torch.set_num_threads(threads)
    availability.engine()
    runtime: Any = importlib.import_module("onnxruntime") if contestant == "onnxruntime" else None
    model, x = example(name, pictures)
    weights = sum(each.numel() for each in model.parameters()) * 4 / 2**20
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    with torch.no_grad():
        if runtime is None:
            answer = CONTESTANTS[contestant].prepare(model, x)
        else:
            options = runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

            def answer(given: torch.Tensor) -> Any:
                return session.run(None, {"x": given.numpy()})

        for _ in range(ANSWERS):
            answer(x)
    results.send((weights, status("VmRSS") - before, status("VmHWM") - before))


def in_fresh_process(target: Any, *arguments: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a process ended with code {process.exitcode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS[2:], help="those of 224×224")
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    names = ["native", "eager", "channels_last", "onnxruntime"]
    parser.add_argument("--contestants", nargs="+", default=names, choices=list(CONTESTANTS))
    options = parser.parse_args()
    print("| network | weights, MiB | " + " | ".join(f"{name}: holds, peak" for name in options.contestants) + " |")
    print("|---|---:|" + "---:|" * len(options.contestants))
    for name in options.models:
        cells = []
        weights = 0.0
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "model.onnx")
            for contestant in options.contestants:
                if contestant == "onnxruntime":
                    in_fresh_process(export, path, name, options.pictures)
                here, there = multiprocessing.Pipe()
                in_fresh_process(measure, there, contestant, name, options.pictures, options.threads, path)
                weights, held, peak = here.recv()
                cells.append(f"{held:.0f}, {peak:.0f}")
        print(f"| `{name}` | {weights:.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
