"""Pictures read back pixel by pixel: colours mean what the legend says, nothing is blurred, nothing half-written."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convscope import create_model
from convscope.errors import ArgumentError, DataError
from convscope.graph.calls import walk
from convscope.inspect.pictures import (
    bars_figure,
    confusion_figure,
    film_figure,
    graph_figure,
    kernels_figure,
    kernels_of,
    kernels_of_model,
    learning_curves,
    maps_figure,
    save_picture,
)
from convscope.inspect.pictures.canvas import COLOUR_MAPS, Kind, colourise, enlarge, new_figure, symmetric_limit
from convscope.inspect.pictures.kernels import arranged, colour_tiles
from convscope.inspect.pictures.tiles import assemble, fitting, plan, strongest
from convscope.layers import RBF, LocallyConnected2d, TableConv2d


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("kind", list(COLOUR_MAPS))
def test_zero_is_white_and_signs_are_mirrored_in_strength(kind: Kind) -> None:
    colours = colourise(np.array([0.0, -2.0, 2.0, -9.0, 9.0, np.nan]), kind, limit=2.0).astype(int)
    assert colours[0].tolist() == [255, 255, 255]
    assert colours[1].tolist() == colours[3].tolist()  # beyond the limit the colour is that of the limit
    assert colours[2].tolist() == colours[4].tolist()
    assert np.abs(colours[1] - colours[2]).max() > 40
    assert colours[5].tolist() == [128, 128, 128]


def test_the_four_kinds_cannot_be_mistaken_for_each_other() -> None:
    ends = [tuple(colourise(np.array([value]), kind, 1.0)[0]) for kind in COLOUR_MAPS for value in (-1.0, 1.0)]
    assert len(set(ends)) == 8


def test_the_signs_have_the_hues_of_the_explorer() -> None:
    """Read from the page's own table: positive and negative ends, in the order red, green, blue."""
    script = Path(str(resources.files("convscope.explorer"))) / "static/js/draw/colour.js"
    light = script.read_text().split("light:")[1].split("dark:")[0]
    names: dict[Kind, str] = {
        "activations": "activation", "weights": "weight", "delta": "delta", "gradients": "gradient"
    }  # fmt: skip
    for kind, name in names.items():
        found = re.search(rf'{name}: {{ minus: \["#\w+", "#(\w+)"\], plus: \["#\w+", "#(\w+)"\]', light)
        assert found is not None
        ours = colourise(np.array([-0.8, 0.8]), kind, 1.0).astype(int)
        theirs = np.array([list(bytes.fromhex(each)) for each in found.groups()])
        assert np.abs(ours - theirs).sum(1).max() < np.abs(ours - theirs[::-1]).sum(1).min(), kind


def test_limits_are_symmetric_and_robust() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    calm = symmetric_limit(values)
    values[:20] = 1e6  # 0.2 % of the values
    assert symmetric_limit(values) == pytest.approx(calm, rel=0.1)
    assert calm == pytest.approx(2.807, rel=0.05)  # the 99.5th percentile of |normal|
    assert symmetric_limit(torch.zeros(4)) == 1.0
    assert symmetric_limit(torch.tensor([float("nan"), 3.0])) == 3.0


def test_every_number_is_one_square_of_pixels() -> None:
    tiles = colourise(np.arange(24.0).reshape(2, 3, 4) - 11, "weights", 12.0)
    grid = plan(2, 3, 4)
    picture = assemble(tiles, grid)
    for index in range(2):
        left, top = grid.corner(index)
        part = picture[top : top + 3 * grid.zoom, left : left + 4 * grid.zoom]
        assert np.array_equal(part[:: grid.zoom, :: grid.zoom], tiles[index])
        assert np.array_equal(part, enlarge(tiles[index], grid.zoom))


def test_the_saved_sheet_holds_the_exact_colours(tmp_path: Path) -> None:
    values = torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    picture = pixels_of(save_picture(maps_figure("c1", values, "delta", "Conv2d"), tmp_path / "a.png"))
    wanted = colourise(values.numpy(), "delta", symmetric_limit(values)).reshape(-1, 3)
    found = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert all(tuple(colour) in found for colour in wanted.tolist())


@pytest.mark.parametrize(
    ("count", "size"), [(1, 28), (2, 1), (6, 5), (64, 112), (120, 1), (512, 7), (2048, 1), (2048, 7)]
)
def test_from_one_to_two_thousand_maps_fit_a_screen(count: int, size: int) -> None:
    grid = plan(count, size, size)
    assert grid.columns * grid.rows >= count
    assert grid.columns * (grid.rows - 1) < count
    assert max(grid.pixel_width, grid.pixel_height) <= 1400


def test_of_too_many_large_maps_the_strongest_are_shown() -> None:
    assert fitting(64, 1000, 1000) == 4
    tiles = np.ones((6, 2, 2)) * np.array([1, -9, 2, 8, 0, -3])[:, None, None]
    assert strongest(tiles, 3) == [1, 3, 5]


def test_colour_kernels_are_grey_at_zero() -> None:
    tiles = colour_tiles(np.array([[[[0.0, 1.0]], [[0.0, -1.0]], [[0.0, 5.0]]]]), limit=1.0)
    assert tiles[0, 0].tolist() == [[128, 128, 128], [255, 0, 255]]


def test_kernels_are_laid_out_by_output_and_input_map() -> None:
    conv = nn.Conv2d(3, 4, (2, 5))
    kernels = kernels_of("c", conv, colour=True)
    assert kernels is not None
    assert kernels.colour
    assert np.array_equal(kernels.values, conv.weight.detach().double().numpy())
    table = TableConv2d(3, None, 3, table="pairs")
    partial = kernels_of("t", table)
    assert partial is not None
    assert np.isnan(partial.values).any(axis=(2, 3)).sum() == (~table.table.bool()).sum()
    dense = table.dense_weight().detach().double().numpy()
    assert np.array_equal(np.nan_to_num(partial.values), dense)


def test_linear_layers_behind_maps_are_templates_of_those_maps() -> None:
    model = create_model("lenet5")
    shapes = {kernels.name: kernels.values.shape for kernels in kernels_of_model(walk(model))}
    assert shapes == {
        "c1": (6, 1, 5, 5),
        "c3": (16, 6, 5, 5),
        "f5": (120, 16, 5, 5),
        "f6": (1, 1, 84, 120),
        "output": (1, 1, 10, 84),
    }
    f5 = next(kernels for kernels in kernels_of_model(walk(model)) if kernels.name == "f5")
    weight = model.get_submodule("f5").weight
    assert np.array_equal(f5.values[7, 3], weight[7].reshape(16, 5, 5)[3].detach().double().numpy())  # type: ignore[index]
    assert np.array_equal(arranged(model.get_submodule("f5"), weight, f5), f5.values)  # type: ignore[arg-type]


def test_bitmaps_of_an_rbf_layer_and_own_kernels_of_every_place() -> None:
    bitmaps = kernels_of("output", RBF())
    assert bitmaps is not None
    assert bitmaps.values.shape == (10, 1, 12, 7)
    local = kernels_of("l", LocallyConnected2d(1, 2, 3, input_size=(5, 6)))
    assert local is not None
    assert local.values.shape == (2, 1, 3 * 3, 4 * 3)


@pytest.mark.parametrize("name", ["lenet5_1998", "slides_cifar10"])
def test_sheets_of_all_kernels_can_be_drawn(name: str, tmp_path: Path) -> None:
    for kernels in kernels_of_model(walk(create_model(name))):
        path = save_picture(kernels_figure(kernels), tmp_path / f"{kernels.name}.png")
        assert min(pixels_of(path).shape[:2]) > 60


def test_a_film_has_a_row_a_moment(tmp_path: Path) -> None:
    moments = [(str(epoch), torch.randn(6, 1, 5, 5)) for epoch in range(4)]
    assert pixels_of(save_picture(film_figure("c1", moments, colour=False), tmp_path / "film.png")).shape[0] > 100


@pytest.mark.parametrize("classes", [1, 2, 10, 60])
def test_confusion_of_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    matrix = np.eye(classes, dtype=int) * 7
    matrix[0, -1] += 1
    names = [f"a class with a long name {index}" for index in range(classes)]
    path = save_picture(confusion_figure(matrix, names, "title"), tmp_path / "confusion.png")
    assert pixels_of(path).shape[0] > 300


def test_curves_of_one_value(tmp_path: Path) -> None:
    """After the first epoch of a run that is evaluated only at its end, each panel has a single point."""
    history = [{"epoch": 1, "train_loss": 1.4, "test_loss": None, "train_accuracy": 0.5, "test_accuracy": None}]
    assert save_picture(learning_curves(history, "run"), tmp_path / "curves.svg").stat().st_size > 1000


def test_curves_with_gaps(tmp_path: Path) -> None:
    history = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "test_loss": None,
            "test_accuracy": None,
        }
        for epoch in range(1, 5)
    ]
    history[-1] |= {"test_loss": 0.3, "test_accuracy": 0.9}
    assert save_picture(learning_curves(history, "run"), tmp_path / "curves.svg").stat().st_size > 1000


def test_outputs_as_bars(tmp_path: Path) -> None:
    path = save_picture(bars_figure("output", torch.randn(1000), ("a", "b"), target=3), tmp_path / "bars.png")
    assert path.is_file()


def test_the_graph_is_a_vector_picture_with_every_layer(tmp_path: Path) -> None:
    import matplotlib

    walked = walk(create_model("lenet5_1998"))
    path = save_picture(graph_figure(walked, "LeNet-5"), tmp_path / "graph.svg")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        graph_figure(walked, "LeNet-5").savefig(tmp_path / "text.svg", format="svg")
    text = (tmp_path / "text.svg").read_text()
    assert path.read_text().startswith("<?xml")
    for words in ("LeNet-5", "TableConv2d 5×5", "1,516 parameters", "RBF 84 → 10", "16×10×10"):
        assert words in re.sub(r"<!--.*?-->", "", text), words


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    drawn = new_figure(2, 2)

    def full(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawn, "savefig", full)
    with pytest.raises(DataError, match=r"a\.png: cannot be written .No space left on device"):
        save_picture(drawn, path)
    assert path.read_bytes() == b"before"
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        save_picture(new_figure(2, 2), tmp_path / "here" / "a.png")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"path: got .*a\.jpg.*wanted a file name ending in \.png or \.svg"):
        save_picture(new_figure(2, 2), tmp_path / "a.jpg")
