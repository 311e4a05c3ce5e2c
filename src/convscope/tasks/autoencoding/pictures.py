"""Pictures of autoencoders: what each unit answers most to, and pictures beside their reconstructions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.errors import ConvscopeError
from convscope.models.modelfile import load


def best_inputs(model: nn.Module) -> Tensor | None:
    """The input of norm 1 that drives each unit most, W_j/‖W_j‖, (units, c, h, w); for encoders above others the same
    mixed by those below, W_k·…·W_1. None for a model without encoders of pictures."""
    described = spec.spec_of(model)
    if described is None or len(described.input_shape) != 3:
        return None
    weights = [
        module.weight.detach().cpu()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2].startswith("encoder")
    ]
    mixed: Tensor | None = None
    for weight in weights:
        mixed = weight if mixed is None else weight @ mixed
    if mixed is None or mixed.shape[1] != torch.Size(described.input_shape).numel():
        return None
    return torch.nn.functional.normalize(mixed, dim=1).reshape(-1, *described.input_shape)


def draw_filters(folder: Path, title: str) -> None:
    """filters.png of the model in ``folder``; nothing where it has none, or cannot be read."""
    from convscope.inspect.pictures import maps_figure, save_picture

    path = folder / "model.safetensors"
    if not path.is_file():
        return
    try:
        found = best_inputs(load(path))
    except ConvscopeError:
        return  # a user's own module, whose file does not rebuild it
    if found is not None:
        save_picture(
            maps_figure(f"{title}: what drives each unit most", found.mean(1), "weights"), folder / "filters.png"
        )


def draw_reconstructions(path: Path, originals: Tensor, again: Tensor, title: str) -> Path:
    """uint8 pictures (n, c, h, w) in the upper row, what came out of them below."""
    from convscope.inspect.pictures.canvas import INK, new_figure, save_picture

    count = len(originals)
    drawn = new_figure(max(6.0, 0.8 * count), 2.4)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = drawn.subplots(2, count, squeeze=False)
    for row, pictures in enumerate((originals, again)):
        for place, picture in enumerate(pictures):
            pixels = picture.permute(1, 2, 0).numpy() if len(picture) == 3 else picture[0].numpy()
            axes[row][place].imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes[row][place].axis("off")
    return save_picture(drawn, path)
