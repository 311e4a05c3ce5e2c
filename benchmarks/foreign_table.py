"""What ``foreign_models.py`` found, as a section of a page."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any


def table(rows: list[dict[str, Any]]) -> str:
    """The figures, and a line a model."""
    keys = ("trace", "accelerate", "count", "save")
    kinds = {key: collections.Counter(_kind(row[key]) for row in rows) for key in keys}
    wrong = sum(any(row[key].startswith(("WRONG", "CRASHED")) for key in keys) for row in rows)
    by_rules = sum(row.get("by_autograd") == 0 for row in rows)
    lines = [
        f"`python -m benchmarks.foreign_models`: {len(rows)} models, **{wrong} of them wrong or crashed in any step, "
        f"{sum(row['damaged'] for row in rows)} damaged**. Pictures are small, members of families shallow where their "
        "builder allows; *too long* is a step that the benchmark itself ended.", "",
        *(f"- {key}: " + ", ".join(f"{n} {kind}" for kind, n in found.most_common()) for key, found in kinds.items()),
        f"- every step of the trace taken by rules, none by autograd: {by_rules}", "",
        "| model | input | trace | steps, by autograd | accelerate | count | save |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(rows, key=lambda row: row["name"]):
        steps = f"{row.get('steps', '–')}, {row.get('by_autograd', '–')}"
        shapes = row["shape"] if isinstance(row["shape"][0], list) else [row["shape"]]
        shape = " and ".join("×".join(map(str, each)) for each in shapes)
        cells = (row["name"], shape, row["trace"], steps, row["accelerate"], row["count"], row["save"])
        texts = (str(each).replace("|", "/").replace("<", "‹").replace("[", "(").replace("]", ")") for each in cells)
        lines.append("| " + " | ".join(each[:120] for each in texts) + " |")
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


def _kind(text: str) -> str:
    return text.split(":")[0].split(" by ")[0].split(" leaves")[0].split(" (")[0]
