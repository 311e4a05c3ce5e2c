"""Where each word of a caption looked, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from convscope.tasks.captions.predict import Caption

_PANELS = 6  # a row


def draw_looks(path: Path, answer: Caption, looks: Tensor) -> None:
    """The picture once, then once for each word, brightened where the word looked; ``looks`` (words, h, w)."""
    from matplotlib.figure import Figure

    from convscope.inspect.pictures import save_picture

    shape = answer.picture.shape[1:]
    grown = functional.interpolate(looks[:, None], shape, mode="bilinear", align_corners=False)[:, 0]
    words = [*answer.words, "(end)"][: len(grown)]
    rows = -(-(len(words) + 1) // _PANELS)
    figure = Figure(figsize=(1.5 * _PANELS, 1.75 * rows + 0.4), layout="constrained")
    figure.suptitle(answer.caption, fontsize=9)
    panels = figure.subplots(rows, _PANELS, squeeze=False).flatten()
    pixels = answer.picture.permute(1, 2, 0).numpy()
    grey = answer.picture.float().mean(0).numpy() / 255
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=255)
    panels[0].set_title("picture", fontsize=8)
    for panel, word, look in zip(panels[1:], words, grown.numpy(), strict=False):
        panel.imshow(grey, cmap="gray", vmin=0, vmax=1)
        panel.imshow(look, cmap="inferno", alpha=0.6, vmin=0, vmax=max(float(look.max()), 1e-9))
        panel.set_title(word, fontsize=8)
    save_picture(figure, path)
