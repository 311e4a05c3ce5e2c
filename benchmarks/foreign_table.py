"""What ``foreign_models.py`` found, as a section of a page."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

KEYS = ("trace", "accelerate", "count", "fields", "save")
WIDEST = 70  # characters of a cell


def table(rows: list[dict[str, Any]]) -> str:
    """The figures, and a line a model; ``rows`` with a "problem" are models that could not be tried."""
    untried = [row for row in rows if "problem" in row]
    rows = sorted((row for row in rows if "problem" not in row), key=lambda row: str(row["name"]))
    kinds = {key: collections.Counter(_kind(row[key]) for row in rows) for key in KEYS}
    wrong = sum(any(row[key].startswith(("WRONG", "CRASHED")) for key in KEYS) for row in rows)
    by_rules = sum(row.get("by_autograd") == 0 for row in rows)
    steps = sum(row.get("steps", 0) for row in rows)
    autograd = sum(row.get("by_autograd", 0) for row in rows)
    gap = max((row["trace_gap"] for row in rows if row.get("trace") == "right"), default=0.0)
    lines = [
        f"`python -m benchmarks.foreign_models`: {len(rows)} models, **{wrong} of them wrong or crashed in any step, "
        f"{sum(row['damaged'] for row in rows)} damaged**. Pictures are small, networks shallow where their classes "
        "allow it, each in a process of its own.", "",
        *(f"- {key}: " + ", ".join(f"{n} {kind}" for kind, n in found.most_common()) for key, found in kinds.items()),
        f"- of {steps:,} steps of the traces {steps - autograd:,} were taken by rules; in {by_rules} models all were. "
        f"The largest distance from autograd in float64 is {gap:.1e} of a tensor's largest number.", "",
        "| model | input | trace | steps, by autograd | accelerate | count | fields | save |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        steps_of = f"{row.get('steps', '–')}, {row.get('by_autograd', '–')}"
        shapes = row["shape"] if isinstance(row["shape"][0], list) else [row["shape"]]
        shape = " and ".join("×".join(map(str, each)) for each in shapes)
        cells = (row["name"], shape, row["trace"], steps_of, *(row[key] for key in KEYS[1:]))
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if untried:
        names = "; ".join(f"{row['name']} ({_cell(row['problem'])})" for row in untried)
        lines += ["", f"Not tried: {names}."]
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- foreign models: begin -->", "<!-- foreign models: end -->"


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Between the two marks in the page; a page without them gets them at its end."""
    page = path.read_text() if path.exists() else "# What can be trusted\n"
    if BEGIN not in page:
        page += f"\n{BEGIN}\n{END}\n"
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n## Models of others\n\n{table(rows)}{END}{after}")


def _cell(text: object) -> str:
    plain = str(text).replace("|", "/").replace("<", "‹").replace("[", "(").replace("]", ")").replace("\n", " ")
    return plain if len(plain) <= WIDEST else plain[: WIDEST - 1].rstrip() + "…"


def _kind(text: str) -> str:
    return text.split(":")[0].split(" by ")[0].split(" leaves")[0].split(" (")[0].split(" at ")[0]
