"""What TensorBoard's own reader finds in a run's folder."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope import fit
from convscope.tasks import tensorboard_log
from convscope.training import events

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / tensorboard_log.FOLDER), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def run(folder: Path, **more: Any) -> events.Result:
    settings = {"epochs": 2, "batch_size": 256, "engine": "torch", "log": "tensorboard", "watch": False}
    return fit("lenet5", "digits", run_dir=str(folder), **{**settings, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> events.Result:
    return run(tmp_path_factory.mktemp("runs") / "run")


def test_scalars_are_the_historys(finished: events.Result) -> None:
    found = read(finished.run_dir)
    for tag, column in (("loss/training", "train_loss"), ("accuracy/test", "test_accuracy")):
        told = [(each.step, each.value) for each in found.Scalars(tag)]
        assert [step for step, _ in told] == [row.step for row in finished.history]
        np.testing.assert_allclose([value for _, value in told], [row[column] for row in finished.history], rtol=1e-6)
    assert found.Scalars("final/accuracy")[0].value == pytest.approx(finished.metrics.accuracy)
    assert len(found.Scalars("loss/running")) == finished.history[-1].step
    assert (finished.run_dir / "history.csv").is_file()


def test_histograms_are_of_the_finished_weights(finished: events.Result) -> None:
    found = read(finished.run_dir)
    for name, parameter in finished.model.named_parameters():
        last = found.Histograms(f"weights/{name}")[-1].histogram_value
        values = parameter.detach().double()
        assert last.num == parameter.numel()
        assert (last.min, last.max) == pytest.approx((float(values.min()), float(values.max())))
        assert last.sum == pytest.approx(float(values.sum()), rel=1e-4, abs=1e-4)
        assert found.Histograms(f"gradients/{name}")[-1].histogram_value.num == parameter.numel()


def test_kernels_graph_and_settings(finished: events.Result) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = read(finished.run_dir)
    (tag,) = found.Tags()["images"]
    pictures = found.Images(tag)
    assert [each.step for each in pictures] == [row.step for row in finished.history]
    pixels = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
    assert pixels.std() > 5
    nodes = {each.name: each for each in found.Graph().node}
    convolutions = [name for name, each in nodes.items() if each.op == "Conv2d"]
    assert len(convolutions) == 2
    assert all(source in nodes for each in nodes.values() for source in each.input)
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    asked = HParamsPluginData.FromString(content).session_start_info.hparams
    assert asked["batch_size"].number_value == 256
    assert asked["model"].string_value == "lenet5"


def test_a_resumed_run_has_no_step_twice(tmp_path: Path, finished: events.Result) -> None:
    folder = tmp_path / "run"

    def cut(event: events.Event) -> None:
        if isinstance(event, events.BatchDone) and event.step == 9:  # past the checkpoint of epoch 1
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(
            "lenet5", "digits", run_dir=str(folder), epochs=2, batch_size=256, engine="torch", log="tensorboard",
            watch=False, listeners=[cut],
        )  # fmt: skip
    fit(run_dir=str(folder), resume=True)
    again, straight = read(folder), read(finished.run_dir)
    for tag in ("loss/running", "loss/training", "accuracy/test"):
        assert [(e.step, e.value) for e in again.Scalars(tag)] == [(e.step, e.value) for e in straight.Scalars(tag)]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run(tmp_path / "run", epochs=1, max_steps=1)
    assert not (tmp_path / "run" / tensorboard_log.FOLDER).exists()


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"log: got 'tensorboard'.*pip install 'convscope\[tensorboard\]'"):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_plain_runs_do_not_import_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log: got 'wandb', wanted one of csv, tensorboard"):
        run(tmp_path / "run", log="wandb")
    run(tmp_path / "run", log="csv", epochs=1, max_steps=1)
    assert not (tmp_path / "run" / tensorboard_log.FOLDER).exists()
