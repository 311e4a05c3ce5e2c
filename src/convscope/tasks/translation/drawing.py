"""Attention heads as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convscope.tasks.translation.looking import Looks


def draw_heads(path: Path, title: str, looks: Looks) -> None:
    """A row a layer that looks at the source, a panel a head: rows are tokens of the translation as they were foretold,
    columns those of the source."""
    from matplotlib.figure import Figure

    from convscope.inspect.pictures import save_picture

    queries, keys = len(looks.target), len(looks.source)
    layers = {
        name: each for name, each in looks.heads.items() if each.shape[1:] == (queries, keys) and "own" not in name
    }
    layers = {name: each for name, each in layers.items() if name.startswith("decoder")} or layers
    most = max((len(each) for each in layers.values()), default=1)
    width, height = 0.9 + 0.2 * keys, 0.9 + 0.2 * queries
    figure = Figure(figsize=(most * width + 1, len(layers) * height + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=9)
    panels = figure.subplots(max(len(layers), 1), most, squeeze=False)
    for row, (name, heads) in zip(panels, layers.items(), strict=True):
        for number, (panel, head) in enumerate(zip(row, heads, strict=True), 1):
            panel.imshow(head.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="equal")
            panel.set_title(f"{name}, head {number}", fontsize=7)
            panel.set_xticks(range(keys), looks.source, rotation=90, fontsize=6)
            panel.set_yticks(range(queries), looks.target, fontsize=6)
    save_picture(figure, path)
