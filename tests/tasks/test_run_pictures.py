"""The pictures that a run leaves, while it goes on and afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope import fit, load_dataset
from convscope.errors import DataError
from convscope.models import MODELS, create_model
from convscope.spec import Input, attach, spec_of
from convscope.tasks import RunPictures, draw_run
from convscope.tasks.run_pictures import _kernels, _spread
from convscope.training import events

PICTURES = ["confusion.png", "curves.png", "dead.png", "histograms.png", "kernels-film.png", "kernels.png"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunPictures, events.Event]:
    folder = tmp_path_factory.mktemp("run")
    drawing = RunPictures()
    last: list[events.Event] = []
    fit(
        "lenet5", load_dataset("digits"), epochs=2, engine="torch", run_dir=str(folder / "a"),
        listeners=[drawing, last.append], model_options={"activation": "relu", "pool": "max"},
    )  # fmt: skip
    return folder / "a", drawing, last[-1]


def run_started(folder: Path) -> events.RunStarted:
    return events.RunStarted(
        run_dir=folder, task="classification", model="lenet5", data="digits", parameters=1, train_examples=1,
        test_examples=1, noun="pictures", unit="images", shares=("accuracy",), epochs=2, steps=2, engine="torch",
        device="cpu", reason="", processes=1, resumed_at=0,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def test_all_pictures_are_there_at_the_end(finished: tuple[Path, RunPictures, events.Event]) -> None:
    folder, drawing, _ = finished
    assert names(folder) == PICTURES
    assert drawing.problems == []


def test_the_same_pictures_from_the_folder(finished: tuple[Path, RunPictures, events.Event]) -> None:
    folder, _, last = finished
    assert isinstance(last, events.RunFinished)
    before = {name: (folder / name).read_bytes() for name in PICTURES}
    for name in PICTURES:
        (folder / name).unlink()
    assert [path.name for path in draw_run(folder, last.result.model)] == PICTURES
    assert {name: (folder / name).read_bytes() for name in PICTURES} == before


def test_curves_are_redrawn_while_training(
    finished: tuple[Path, RunPictures, events.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, last = finished
    assert isinstance(last, events.RunFinished)
    monkeypatch.setattr("convscope.tasks.run_pictures._REDRAW_SECONDS", 0.0)
    drawing = RunPictures()
    started = run_started(tmp_path)
    for event in (started, *last.result.history):
        drawing(event)
    assert names(tmp_path) == ["curves.png"]


def test_a_picture_that_cannot_be_drawn_does_not_stop_the_run(
    finished: tuple[Path, RunPictures, events.Event], tmp_path: Path
) -> None:
    _, _, last = finished
    (tmp_path / "file").write_text("in the way")
    drawing = RunPictures()
    drawing(run_started(tmp_path / "file"))
    drawing(last)
    assert any("cannot be written" in problem for problem in drawing.problems)


def test_a_folder_without_a_finished_run(finished: tuple[Path, RunPictures, events.Event], tmp_path: Path) -> None:
    _, _, last = finished
    assert isinstance(last, events.RunFinished)
    with pytest.raises(DataError, match="not the folder of a finished run"):
        draw_run(tmp_path, last.result.model)


def test_moments_of_a_film_are_spread_from_first_to_last() -> None:
    assert _spread(3, 16) == [0, 1, 2]
    assert _spread(100, 5) == [0, 25, 50, 74, 99]


@pytest.mark.parametrize("name", ["fast_rcnn", "rcnn"])
def test_kernels_of_a_model_that_cannot_do_with_pictures_alone(name: str, tmp_path: Path) -> None:
    _kernels(tmp_path, create_model(name, small=True))
    assert names(tmp_path) == ["kernels.png"]


def test_kernels_of_a_model_whose_input_has_no_one_shape(tmp_path: Path) -> None:
    model = create_model("transformer", **dict(MODELS["transformer"].card.economical))
    described = spec_of(model)
    assert described is not None
    attach(model, described.replace(inputs=(Input("tokens"), Input("tokens"))))
    _kernels(tmp_path, model)
    assert names(tmp_path) == ["kernels.png"]
