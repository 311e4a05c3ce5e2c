"""The explorer's latencies in a real Chromium, beside its budgets.

    python benchmarks/explorer.py [--models lenet5 vgg16 resnet50] [--runs 20] [--out FILE.json] [--assert]

Every figure is the median and the 95th percentile of several runs on a page that is checked first: the numbers shown
must be the model's own. LeNet-5 has random weights and the digits data set, the others random weights. ``--assert``
fails when a median is above 1.5 times its budget (below it by as much, where more is better).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from convscope.data import load_dataset
from convscope.explorer import Handle, explore
from convscope.explorer.session import Session
from convscope.models import create_model

FRAME = 16.7  # ms; Chromium's clock ticks in steps of 0.1 ms


@dataclasses.dataclass(frozen=True)
class Figure:
    """What is measured: in words, and its budget per model, None where there is none."""

    text: str
    lenet5: float | None = None
    vgg16: float | None = None
    resnet50: float | None = None
    more_is_better: bool = False

    def budget(self, model: str) -> float | None:
        found = getattr(self, model)
        return None if found is None else float(found)

    def missed(self, model: str, value: float, slack: float = 1.0) -> bool:
        budget = self.budget(model)
        if budget is None:
            return False
        return value < budget / slack if self.more_is_better else value > budget * slack


FIGURES = {
    "open_ms": Figure("open the page → overview with maps, ms", 1000, 2500, 2500),
    "stroke_ms": Figure("new input → all visible maps, ms", 50, 700, 700),
    "click_ms": Figure("click a unit → final arithmetic, ms", 80, 150, 150),
    "hover_ms": Figure("hover a cell → number, map seen before, ms", 16, 33, 33),
    "hover_first_ms": Figure("hover a cell → number, first of its map, ms", 16),
    "delta_ms": Figure("loss target → δ in every layer, ms", 60, 1000, 1000),
    "delta_again_ms": Figure("δ of the same target again, ms", 60, 150, 150),
    "grid_ms": Figure("open a layer of 512 maps, ms", None, 100, 100),
    "frame_ms": Figure("frame while animating, ms", FRAME, FRAME, FRAME),
    "task_ms": Figure("longest main-thread task after load, ms", 50, 50, 50),
    "elements": Figure("DOM elements, heaviest view", 1500, 2500, 2500),
    "overview_kB": Figure("bytes for the overview, kB", 300, 3000, 3000),
    "saved_kB": Figure("page saved to a file, kB", 5000),
    "updates": Figure("updates a second while learning", 20, more_is_better=True),
    "looks": Figure("… of a browser that nobody drives, counted by the server", 20, more_is_better=True),
    "slowed": Figure("learning slowed by that page, %", 10),
    "slowed_driven": Figure("… by a page whose frames a driver copies, %"),
    "torch_forward_ms": Figure("torch itself: forward, ms"),
    "torch_both_ms": Figure("torch itself: forward and backward, ms"),
}
# A unit to click, another, the layer whose cells are hovered, the layer of 512 maps.
UNITS: dict[str, tuple[str, list[int], list[int], str, str | None]] = {
    "lenet5": ("c3", [5, 3, 7], [7, 2, 2], "c1", None),
    "vgg16": ("features.24", [100, 5, 5], [7, 9, 3], "features.5", "features.24"),
    "resnet50": ("layer4.1.conv2", [100, 5, 5], [7, 3, 3], "conv1", "layer4.1.conv2"),
}

WATCH = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => list.getEntries().forEach((each) => longTasks.push(each.duration)))
    .observe({ type: 'longtask' });
}"""
FRAMES = """async ([layer, map]) => {
  const { selection, stage } = convscope;
  const times = [];
  selection.select(layer, map);
  while (!stage.running) await new Promise(requestAnimationFrame);
  let last = performance.now();
  while (stage.running) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""
CLICK = """async ([layer, unit]) => {
  const start = performance.now();
  convscope.selection.select(layer, unit[0], unit);
  const wanted = `/forward/${layer}/${unit[0]}/${unit.join(',')}`;
  while (!document.body.dataset.shown?.endsWith(wanted)) await new Promise((done) => setTimeout(done));
  return performance.now() - start;
}"""
STROKE = """async (value) => {
  const pixels = convscope.frames.pixels.map((each, at) => (at % 7 ? each : value));
  const start = performance.now();
  await convscope.frames.change('show_pixels', { kind: 'drawn' }, pixels, 'pixels');
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""
HOVER = """async ([layer, map, first]) => {
  const { camera, frames, pointer } = convscope;
  if (!first) await frames.values(layer, map);
  const box = camera.boxOf(layer);
  const { tilePlace } = await import('/js/draw/columns.js');
  const place = tilePlace(box, map);
  pointer.tip.hidden = true;
  convscope.store.set({ hover: null });
  const start = performance.now();
  pointer.look({ x: place.x - camera.x + place.w / 2, y: place.y + place.h / 2 });
  const { port1, port2 } = new MessageChannel(); // a turn of the page's loop, which unlike a timeout takes no 4 ms
  while (pointer.tip.hidden) {
    await new Promise((done) => {
      port1.onmessage = done;
      port2.postMessage(0);
    });
  }
  return performance.now() - start;
}"""
DELTA = """async (target) => {
  const { frames, connection } = convscope;
  const start = performance.now();
  if (target !== null) await frames.change('ask', { target });
  await frames.take(connection.ask('frame', { ...frames.wanted(), quantity: 'delta' }));
  const taken = performance.now() - start;
  await frames.refresh();
  return taken;
}"""
GRID = """async (layer) => {
  const start = performance.now();
  convscope.selection.select(layer);
  while (!document.querySelector('#layer-grid') || !document.body.dataset.shown.endsWith(`/${layer}//`)) {
    await new Promise((done) => setTimeout(done));
  }
  const taken = performance.now() - start;
  convscope.selection.select(null);
  while (!document.body.dataset.shown.endsWith('///')) await new Promise((done) => setTimeout(done));
  return taken;
}"""
BYTES = """async () => {
  const answer = await convscope.connection.ask('frame', convscope.frames.wanted());
  return answer.bytes.buffer.byteLength;
}"""
UPDATES = """async (seconds) => {
  const seen = new Set();
  convscope.store.on(['drawn'], (state) => seen.add(state.drawn));
  const start = performance.now();
  await new Promise((done) => setTimeout(done, seconds * 1000));
  return seen.size / ((performance.now() - start) / 1000);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=sorted(UNITS), default=list(UNITS))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--assert", dest="strict", action="store_true")
    options = parser.parse_args()
    chromium = os.environ.get("CONVSCOPE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("this benchmark needs Chromium: install it, or set CONVSCOPE_CHROMIUM")
    results: dict[str, Any] = {"machine": machine(), "runs": options.runs, "models": {}}
    missed = []
    for name in options.models:
        found = results["models"][name] = measure(name, chromium, options.runs)
        print(f"\n{name}\n| measured | budget | p50 | p95 |\n|---|---|---|---|")
        for key, figure in FIGURES.items():
            if key not in found:
                continue
            budget = figure.budget(name)
            p50, p95 = found[key]["p50"], found[key]["p95"]
            print(f"| {figure.text} | {'–' if budget is None else f'{budget:g}'} | {p50:.1f} | {p95:.1f} |", flush=True)
            if figure.missed(name, p50, 1.5):
                missed.append(f"{name}: {figure.text}: {p50:.1f}, budget {budget:g}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.strict and missed:
        sys.exit("\n".join(missed))


def measure(name: str, chromium: str, runs: int) -> dict[str, dict[str, float]]:
    from playwright.sync_api import sync_playwright

    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "relu", "pool": "max"} if name == "lenet5" else {}
    data = load_dataset("digits") if name == "lenet5" else None
    model = create_model(name, **options)
    figures: dict[str, list[float]] = {}
    with explore(model, data, port=0) as handle, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        for _ in range(max(2, runs // 4)):
            page = context.new_page()
            figures.setdefault("open_ms", []).append(open_page(page, handle))
            page.close()
        page = context.new_page()
        open_page(page, handle)
        check(page, handle)
        page.evaluate(WATCH)
        page.wait_for_timeout(400)
        run(figures, page, name, runs)
        figures["task_ms"] = [max(page.evaluate("() => longTasks") or [0.0])]
        figures["overview_kB"] = [page.evaluate(BYTES) / 1000]
        if data is not None:
            figures |= learning(page, handle)
        browser.close()
        if data is not None:
            figures |= undriven(handle, chromium)
        figures |= bare(handle, runs)
    if name == "lenet5":
        figures["saved_kB"] = [saved(model, data)]
    return {
        key: {"p50": statistics.median(found), "p95": percentile(found, 0.05 if FIGURES[key].more_is_better else 0.95)}
        for key, found in figures.items()
    }


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def run(figures: dict[str, list[float]], page: Any, name: str, runs: int) -> None:
    layer, first, second, hovered, wide = UNITS[name]

    def take(key: str, measure_once: Callable[[int], float]) -> None:
        figures[key] = [measure_once(number) for number in range(runs)]

    take("stroke_ms", lambda number: page.evaluate(STROKE, 40 + number))
    maps = page.evaluate("layer => Math.min(convscope.model.countOf(layer), 16)", hovered)
    take("hover_ms", lambda number: page.evaluate(HOVER, [hovered, number % maps, False]))
    page.evaluate("() => convscope.frames.cache.clear()")
    figures["hover_first_ms"] = [page.evaluate(HOVER, [hovered, number, True]) for number in range(min(maps, runs))]
    take("click_ms", lambda number: page.evaluate(CLICK, [layer, second if number % 2 else first]))
    figures["elements"] = [page.evaluate("() => document.querySelectorAll('*').length")]
    page.evaluate("() => convscope.selection.select(null)")
    page.wait_for_timeout(1200)
    frames: list[float] = []
    for number in range(max(2, runs // 4)):
        frames += page.evaluate(FRAMES, [layer, number])
        page.evaluate("() => convscope.selection.select(null)")
        page.wait_for_timeout(1100)
    figures["frame_ms"] = frames
    take("delta_ms", lambda number: page.evaluate(DELTA, number % 10))
    take("delta_again_ms", lambda number: page.evaluate(DELTA, None))
    if wide is not None:
        take("grid_ms", lambda number: page.evaluate(GRID, wide))


def learning(page: Any, handle: Handle, seconds: float = 3.0) -> dict[str, list[float]]:
    """Updates a second on the page, and how much slower the steps are than with nobody looking, turn by turn; the
    driver of the browser copies every frame meanwhile."""
    session = handle.session
    assert isinstance(session, Session)
    session.learner.patience = 600.0
    page.evaluate("() => convscope.store.set({ tab: 'training' })")
    page.wait_for_selector("#live-run")
    page.locator("#live-run").click()
    page.wait_for_selector("#live-run:has-text('Pause')")
    updates, slowed = [], []
    for _ in range(3):
        watched = rate(session, lambda: updates.append(page.evaluate(UPDATES, seconds)))
        address = page.url
        page.goto("about:blank")
        page.wait_for_timeout(300)
        alone = rate(session, lambda: time.sleep(seconds))
        slowed.append(100 * (1 - watched / alone))
        page.goto(address)
        page.wait_for_selector("#live-run:has-text('Pause')")
        page.wait_for_timeout(500)
    page.locator("#live-run").click()
    page.wait_for_selector("#sgd-step")
    return {"updates": updates, "slowed_driven": slowed}


def undriven(handle: Handle, chromium: str, turns: int = 4) -> dict[str, list[float]]:
    """How much slower the steps are while a browser that nobody drives shows them, than with nobody looking before and
    after it (a machine that grows faster or slower does so for both), and how often the server was looked at."""
    session = handle.session
    assert isinstance(session, Session)
    session.learner.patience = 600.0
    session.learner.start(32)
    slowed, looks = [], []
    time.sleep(1.0)
    before = rate(session, lambda: time.sleep(2.0))
    for _ in range(turns):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            options = ["--headless=new", "--no-sandbox", f"--user-data-dir={profile}", "--window-size=1440,987"]
            command = [chromium, *options, f"{handle.url}&tour=0#/?tab=training"]
            browser = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
            try:
                wait_for_looks(session, 40)
                seen, began = session.snapshot.version, time.monotonic()
                watched = rate(session, lambda: time.sleep(3.0))
                looks.append((session.snapshot.version - seen) / (time.monotonic() - began))
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
        time.sleep(0.3)
        after = rate(session, lambda: time.sleep(2.0))
        slowed.append(100 * (1 - 2 * watched / (before + after)))
        print(f"  steps a second {before:.0f}, {watched:.0f} watched, {after:.0f}; {looks[-1]:.1f} looks", flush=True)
        before = after
    session.learner.rest()
    return {"slowed": slowed, "looks": looks}


def wait_for_looks(session: Session, count: int) -> None:
    """Until the page has looked so many times more."""
    wanted, end = session.snapshot.version + count, time.monotonic() + 60
    while session.snapshot.version < wanted:
        assert time.monotonic() < end, "the page does not look"
        time.sleep(0.01)


def rate(session: Session, meanwhile: Callable[[], object]) -> float:
    """Steps a second while something else goes on."""
    start, steps = time.perf_counter(), session.learner.made
    meanwhile()
    return (session.learner.made - steps) / (time.perf_counter() - start)


def saved(model: Any, data: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lesson.html")
        explore(model, data, save=path)
        return path.stat().st_size / 1000


def bare(handle: Handle, runs: int) -> dict[str, list[float]]:
    """What torch itself takes for the same model at the same time: the ground under the figures above."""
    assert isinstance(handle.session, Session)
    model, x = handle.session.model, handle.session.snapshot.question.x
    forward, both = [], []
    for _ in range(max(2, runs // 4)):
        start = time.perf_counter()
        with torch.no_grad():
            model(x)
        forward.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        torch.autograd.grad(model(x).sum(), list(model.parameters()))
        both.append((time.perf_counter() - start) * 1e3)
    return {"torch_forward_ms": forward, "torch_both_ms": both}


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
