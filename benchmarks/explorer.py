"""The explorer's latencies in a real Chromium, beside its budgets.

    python benchmarks/explorer.py [--models lenet5 vgg16] [--runs 5] [--out FILE.json] [--assert]

Every figure is the median and the largest of several runs on a page that is checked first: the numbers shown must be
the model's own. LeNet-5 has random weights and the digits data set, VGG-16 random weights. ``--assert`` fails when a
median is above 1.5 times its budget.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from convscope.data import load_dataset
from convscope.explorer import Handle, explore
from convscope.explorer.session import Session
from convscope.models import create_model

BUDGETS: dict[str, dict[str, float]] = {
    "lenet5": {
        "open_to_overview_ms": 1000,
        "stroke_to_all_maps_ms": 50,
        "click_unit_to_numbers_ms": 80,
        "hover_cell_to_number_ms": 16,
        "target_to_delta_ms": 60,
        "frame_p50_ms": 16.7,
        "frame_p95_ms": 20,
        "longest_task_ms": 50,
        "dom_elements": 1500,
        "overview_kB": 300,
    },
    "vgg16": {
        "open_to_overview_ms": 2500,
        "stroke_to_all_maps_ms": 700,
        "click_unit_to_numbers_ms": 150,
        "hover_cell_to_number_ms": 33,
        "target_to_delta_ms": 1000,
        "open_layer_of_512_maps_ms": 100,
        "frame_p50_ms": 16.7,
        "frame_p95_ms": 20,
        "longest_task_ms": 50,
        "dom_elements": 2500,
        "overview_kB": 3000,
    },
}
UNITS = {"lenet5": ("c3", [5, 3, 7], [7, 2, 2], "c1"), "vgg16": ("features.24", [100, 5, 5], [7, 9, 3], "features.5")}

WATCH = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => list.getEntries().forEach((each) => longTasks.push(each.duration)))
    .observe({ type: 'longtask' });
}"""
FRAMES = """async ([layer, map]) => {
  const times = [];
  convscope.select(layer, map);
  while (!convscope.stage.running) await new Promise(requestAnimationFrame);
  let last = performance.now();
  while (convscope.stage.running) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""
CLICK = """async ([layer, unit]) => {
  const start = performance.now();
  convscope.select(layer, unit[0], unit);
  const wanted = `/forward/${layer}/${unit[0]}/${unit.join(',')}`;
  while (!document.body.dataset.shown?.endsWith(wanted)) await new Promise((done) => setTimeout(done));
  return performance.now() - start;
}"""
STROKE = """async (value) => {
  const pixels = convscope.pixels.map((each, at) => (at % 7 ? each : value));
  const start = performance.now();
  await convscope.change('show_pixels', { kind: 'drawn' }, pixels, 'pixels');
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""
HOVER = """async ([layer, map]) => {
  await convscope.values(layer, map);
  const box = convscope.boxOf(layer);
  const at = { x: box.x - convscope.camera.x + 6, y: box.y + 6 };
  convscope.pointer.tip.hidden = true;
  const start = performance.now();
  convscope.pointer.look(at);
  while (convscope.pointer.tip.hidden) await null;
  return performance.now() - start;
}"""
DELTA = """async (target) => {
  const start = performance.now();
  await convscope.change('ask', { target });
  const { rule } = convscope.store.state;
  const layers = convscope.wantedLayers();
  await convscope.takeFrame(convscope.connection.ask('frame', { quantity: 'delta', rule, layers }));
  return performance.now() - start;
}"""
GRID = """async (layer) => {
  const start = performance.now();
  convscope.select(layer);
  while (!document.querySelector('#layer-grid') || !document.body.dataset.shown.endsWith(`/${layer}//`)) {
    await new Promise((done) => setTimeout(done));
  }
  const taken = performance.now() - start;
  convscope.select(null);
  return taken;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=sorted(BUDGETS), default=["lenet5", "vgg16"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--assert", dest="strict", action="store_true")
    options = parser.parse_args()
    chromium = os.environ.get("CONVSCOPE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("this benchmark needs Chromium: install it, or set CONVSCOPE_CHROMIUM")
    results: dict[str, Any] = {"machine": machine(), "runs": options.runs, "models": {}}
    for name in options.models:
        results["models"][name] = measure(name, chromium, options.runs)
        for key, found in results["models"][name].items():
            budget = BUDGETS[name].get(key)
            print(f"{name:8} {key:28} median {found['median']:9.1f}  largest {found['largest']:9.1f}  budget {budget}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.strict:
        missed = [
            f"{name} {key}: {found['median']:.1f} > 1.5 · {BUDGETS[name][key]}"
            for name, all_found in results["models"].items()
            for key, found in all_found.items()
            if key in BUDGETS[name] and found["median"] > 1.5 * BUDGETS[name][key]
        ]
        sys.exit("\n".join(missed) if missed else 0)


def measure(name: str, chromium: str, runs: int) -> dict[str, dict[str, float]]:
    from playwright.sync_api import sync_playwright

    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "relu", "pool": "max"} if name == "lenet5" else {}
    data = load_dataset("digits") if name == "lenet5" else None
    figures: dict[str, list[float]] = {}
    with explore(create_model(name, **options), data, port=0) as handle, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        for _ in range(runs):
            page = context.new_page()
            figures.setdefault("open_to_overview_ms", []).append(open_page(page, handle))
            page.close()
        page = context.new_page()
        open_page(page, handle)
        check(page, handle)
        page.evaluate(WATCH)
        page.wait_for_timeout(400)
        run(figures, page, name, runs)
        figures["longest_task_ms"] = [max(page.evaluate("() => longTasks") or [0.0])]
        figures["overview_kB"] = [page.evaluate(BYTES) / 1000]
        browser.close()
        figures |= bare(handle, runs)
    return {key: {"median": statistics.median(found), "largest": max(found)} for key, found in figures.items()}


def bare(handle: Handle, runs: int) -> dict[str, list[float]]:
    """What torch itself takes for the same model at the same time: the ground under the figures above."""
    assert isinstance(handle.session, Session)
    model, x = handle.session.model, handle.session.snapshot.question.x
    forward, both = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with torch.no_grad():
            model(x)
        forward.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        torch.autograd.grad(model(x).sum(), list(model.parameters()))
        both.append((time.perf_counter() - start) * 1e3)
    return {"torch_forward_ms": forward, "torch_forward_backward_ms": both}


BYTES = """async () => {
  const answer = await convscope.connection.ask('frame', { layers: convscope.wantedLayers() });
  return answer.bytes.buffer.byteLength;
}"""


def run(figures: dict[str, list[float]], page: Any, name: str, runs: int) -> None:
    layer, first, second, hovered = UNITS[name]

    def take(key: str, measure_once: Callable[[int], float]) -> None:
        figures[key] = [measure_once(number) for number in range(runs)]

    take("stroke_to_all_maps_ms", lambda number: page.evaluate(STROKE, 40 + number))
    take("hover_cell_to_number_ms", lambda number: page.evaluate(HOVER, [hovered, number]))
    take("click_unit_to_numbers_ms", lambda number: page.evaluate(CLICK, [layer, second if number % 2 else first]))
    figures["dom_elements"] = [page.evaluate("() => document.querySelectorAll('*').length")]
    page.evaluate("() => convscope.select(null)")
    page.wait_for_timeout(1500)
    frames: list[float] = []
    for number in range(runs):
        frames += page.evaluate(FRAMES, [layer, number])
        page.evaluate("() => convscope.select(null)")
        page.wait_for_timeout(1300)
    figures["frame_p50_ms"] = [statistics.median(frames)]
    figures["frame_p95_ms"] = [statistics.quantiles(frames, n=20)[-1]]
    take("target_to_delta_ms", lambda number: page.evaluate(DELTA, number))
    if name == "vgg16":
        take("open_layer_of_512_maps_ms", lambda number: page.evaluate(GRID, layer))


def open_page(page: Any, handle: Handle) -> float:
    """From the first request to the overview with its maps drawn."""
    page.goto(f"{handle.url}&tour=0", wait_until="commit")
    page.wait_for_selector("body[data-ready]")
    return float(page.evaluate("() => performance.now()"))


def check(page: Any, handle: Handle) -> None:
    """Only a page whose numbers are right is timed."""
    assert isinstance(handle.session, Session)
    shown = torch.tensor(page.evaluate("() => convscope.store.get('frame').logits"))
    with torch.no_grad():
        true = handle.session.model(handle.session.snapshot.question.x)[0]
    torch.testing.assert_close(shown.float(), true, rtol=1e-4, atol=1e-4)


def machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
