"""Whole runs: they learn, repeat, tell what they do, stop when they should and refuse what cannot work."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convscope
from convscope import spec
from convscope.data import Dataset, load_dataset
from convscope.errors import ArgumentError, TrainingError, UnknownNameError
from convscope.tasks import fit, run
from convscope.training import Result, checkpoints, events
from convscope.training.steppers.torch import TorchStepper

Fit = Callable[..., Result]


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def test_lenet5_learns_real_digits_in_seconds(tmp_path: Path) -> None:
    options = {"activation": "relu", "pool": "max"}
    result = fit(
        "lenet5", "digits", model_options=options, epochs=8, learning_rate=3e-3, run_dir=str(tmp_path), engine="torch"
    )
    assert result.metrics.error < 0.06
    assert result.history[-1].train_accuracy > 0.97
    assert result.history[0].train_loss > 4 * result.history[-1].train_loss
    loaded = convscope.load(result.run_dir / "model.safetensors")
    # the file's weights are channels-first, so sums are taken in another order
    again = convscope.evaluate(loaded, "digits")
    assert again.confusion == result.metrics.confusion
    assert again.loss == pytest.approx(result.metrics.loss, rel=1e-5)
    described = spec.spec_of(loaded)
    assert described is not None
    assert described.classes == load_dataset("digits").classes
    assert described.preprocessing is not None
    assert described.preprocessing.size == (28, 28)


def test_the_book_and_torch_go_the_same_way(fitted: Fit, tmp_path: Path) -> None:
    results = [
        fitted(run_dir=str(tmp_path / engine), engine=engine, precision="float64") for engine in ("rules", "torch")
    ]
    for first, second in zip(*(result.history for result in results), strict=True):
        assert first.train_loss == pytest.approx(second.train_loss, rel=1e-9)
        assert first.train_accuracy == second.train_accuracy
    torch.testing.assert_close(flat(results[0].model), flat(results[1].model), rtol=1e-8, atol=1e-10)


def test_a_run_repeats_bit_for_bit(fitted: Fit, tmp_path: Path) -> None:
    runs = [
        fitted(run_dir=str(tmp_path / str(number)), seed=seed, watch=watch, checkpoint_batches=every)
        for number, (seed, watch, every) in enumerate([(0, False, None), (0, True, 1), (1, False, None)])
    ]
    assert torch.equal(flat(runs[0].model), flat(runs[1].model)), "watching and checkpoints change nothing"
    assert not torch.equal(flat(runs[0].model), flat(runs[2].model))


def test_a_name_and_initialisers_draw_from_the_seed(tmp_path: Path, stripes: Dataset) -> None:
    def first_weights(number: int, **options: Any) -> torch.Tensor:
        torch.manual_seed(number)
        stream = run("lenet5", stripes, run_dir=str(tmp_path / str(number)), engine="torch", **options)
        assert isinstance(next(stream), events.RunStarted)
        saved = next(stream)
        stream.close()
        assert isinstance(saved, events.CheckpointSaved)
        return flat(convscope.load(saved.path))

    plain, same, other = first_weights(1), first_weights(2), first_weights(3, seed=5)
    he, he_again = first_weights(4, init="he_normal"), first_weights(5, init="he_normal")
    assert torch.equal(plain, same)
    assert torch.equal(he, he_again)
    assert not torch.equal(plain, other)
    assert not torch.equal(plain, he)


def test_the_events_in_their_order(fitted: Fit) -> None:
    seen: list[events.Event] = []
    result = fitted(epochs=2, evaluate_every=2, listeners=[seen.append], watch=True)
    names = [type(each).__name__ for each in seen]
    epoch = ["EpochStarted", *["BatchDone"] * 5, "EpochDone", "LayersWatched", "CheckpointSaved"]
    assert names == ["RunStarted", "CheckpointSaved", *epoch, *epoch, "RunFinished"]
    started = seen[0]
    assert isinstance(started, events.RunStarted)
    assert (started.train_examples, started.test_examples, started.steps, started.engine) == (81, 19, 10, "torch")
    assert started.parameters == len(flat(result.model))
    batches = [each for each in seen if isinstance(each, events.BatchDone)]
    assert [each.images for each in batches] == [17, 34, 51, 68, 81] * 2
    assert [each.step for each in batches] == list(range(1, 11))
    done = [each for each in seen if isinstance(each, events.EpochDone)]
    assert batches[4].loss == done[0].train_loss
    assert done[0].test_loss is None
    assert done[1].test_accuracy == result.metrics.accuracy
    assert done == result.history
    assert done[1]["train_loss"] == done[1].train_loss
    assert all(each.images_per_second > 0 for each in batches)
    for each in seen:
        if not isinstance(each, events.RunFinished):
            assert events.to_json(each)["event"] == type(each).__name__


def test_nothing_is_printed(fitted: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    fitted(epochs=1)
    assert capfd.readouterr() == ("", "")


def test_the_learning_rate_follows_its_schedule(fitted: Fit) -> None:
    seen: list[events.Event] = []
    fitted(epochs=2, schedule="step", schedule_options={"epochs": 1, "factor": 0.5}, learning_rate=0.02, warmup=0.4,
           listeners=[seen.append])  # fmt: skip
    rates = [each.learning_rate for each in seen if isinstance(each, events.BatchDone)]
    assert rates == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01])


def test_it_stops_at_max_steps_and_when_the_loss_rests(fitted: Fit, tmp_path: Path) -> None:
    limited = fitted(run_dir=str(tmp_path / "limited"), epochs=9, max_steps=7)
    assert (limited.stopped, limited.history[-1].step, len(limited.history)) == ("max_steps", 7, 2)
    seen: list[events.Event] = []
    rested = fitted(epochs=50, stop_tolerance=1e3, stop_patience=2, listeners=[seen.append])
    assert (rested.stopped, len(rested.history)) == ("converged", 3)
    assert any(isinstance(each, events.Converged) and each.tolerance == 1e3 for each in seen)
    assert rested.metrics.accuracy == rested.history[-1].test_accuracy


def test_layers_can_be_frozen(fitted: Fit, net: nn.Sequential) -> None:
    first, last = net.get_parameter("0.weight"), net.get_parameter("5.weight")
    before, head = first.clone(), last.clone()
    fitted(net, learning_rates={"0": 0.0}, optimiser="adamw", weight_decay=0.1)
    assert torch.equal(first, before)
    assert not torch.equal(last, head)


def test_a_model_trained_before_keeps_its_preprocessing(fitted: Fit, tmp_path: Path, stripes: Dataset) -> None:
    first = fitted(run_dir=str(tmp_path / "first"))
    loaded = convscope.load(first.run_dir / "model.safetensors")
    brighter = Dataset.from_arrays(stripes.train.images // 2 + 100, stripes.train.labels, classes=stripes.classes)
    second = fitted(loaded, brighter)
    described, before = spec.spec_of(second.model), spec.spec_of(first.model)
    assert described is not None
    assert before is not None
    assert described.preprocessing == before.preprocessing


def test_a_module_that_cannot_be_described_trains_all_the_same(fitted: Fit, tmp_path: Path, stripes: Dataset) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(63, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.output(x.flatten(1) * (1.0 if x.sum() > 0 else 2.0))
            return scaled

    result = fitted(Odd())
    with pytest.raises(convscope.errors.CheckpointError, match="the user's own module, which the file does not"):
        convscope.load(result.run_dir / "model.safetensors")
    again = convscope.training.load_weights(Odd(), result.run_dir / "model.safetensors")
    assert torch.equal(flat(again), flat(result.model))
    with pytest.raises(ArgumentError, match="model: got None, wanted the module that the run was begun with"):
        fit(data=stripes, run_dir=str(result.run_dir), resume=True)


def test_an_exploding_loss_is_an_error_that_says_where(fitted: Fit, tmp_path: Path) -> None:
    seen: list[events.Event] = []
    with pytest.raises(TrainingError, match=r"the loss (is not a number|has exploded).*Lower learning_rate"):
        fitted(optimiser="sgd", learning_rate=1e8, epochs=5, listeners=[seen.append])
    diverged = seen[-1]
    assert isinstance(diverged, events.Diverged)
    assert diverged.checkpoint is not None
    assert str(diverged.checkpoint) in diverged.message
    weights = convscope.load(diverged.checkpoint)
    assert torch.isfinite(flat(weights)).all()


def test_the_advice_names_the_rate_that_was_set(fitted: Fit, tmp_path: Path) -> None:
    """At the end of a cosine the next step's rate is 0, which nobody can lower."""
    with pytest.raises(TrainingError, match=r"Lower learning_rate \(it was 1e\+08, [1-9][0-9.e+]+ in this step\)"):
        fitted(optimiser="sgd", learning_rate=1e8, epochs=1, batch_size=40)
    with pytest.raises(TrainingError, match=r"Lower learning_rate \(it was 1e\+08\), or"):
        fitted(optimiser="sgd", learning_rate=1e8, schedule="constant", run_dir=str(tmp_path / "other"))


class Explodes(nn.Module):
    """Trains like any other, but in evaluation its outputs are what they are multiplied by."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer = nn.Linear(63, 3)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x.flatten(1))
        return y if self.training else y * self.factor


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
def test_a_test_loss_that_is_no_number_stops_nothing(fitted: Fit, stripes: Dataset, factor: float) -> None:
    seen: list[events.Event] = []
    result = fitted(Explodes(factor), epochs=2, watch=True, checkpoint_batches=1, listeners=[seen.append])
    assert [math.isfinite(row.test_loss) for row in result.history] == [False, False]
    assert all(math.isfinite(row.train_loss) for row in result.history)
    assert json.loads((result.run_dir / "metrics.json").read_text())["loss"] is None
    for line in (result.run_dir / "events.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    again = fit(Explodes(factor), stripes, run_dir=str(result.run_dir), resume=True, epochs=3, engine="torch")
    assert [repr(row.test_loss) for row in again.history[:2]] == [repr(row.test_loss) for row in result.history]
    assert len(again.history) == 3


def test_a_nan_in_the_model_is_found_in_its_layer(fitted: Fit, net: nn.Sequential) -> None:
    with torch.no_grad():
        net.get_parameter("5.bias")[1] = float("nan")
    with pytest.raises(TrainingError, match="the loss is not a number in epoch 1, batch 1 .* are no longer finite"):
        fitted(net)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": "cross_entropie"}, UnknownNameError, "loss: got 'cross_entropie'.*Did you mean 'cross_entropy'"),
        ({"optimiser": "adma"}, UnknownNameError, "optimiser: got 'adma'.*Did you mean 'adam'"),
        ({"schedule": "cosinus"}, UnknownNameError, "schedule: got 'cosinus'.*Did you mean 'cosine'"),
        ({"schedule_options": {"last": 0.0}}, UnknownNameError, "option of schedule 'cosine': got 'last'"),
        ({"init": "he_norml"}, UnknownNameError, "initialiser: got 'he_norml'.*Did you mean 'he_normal'"),
        ({"learning_rates": {"conv1": 0.1}}, UnknownNameError, "learning_rates: got 'conv1'"),
        ({"batchsize": 3}, UnknownNameError, "training option: got 'batchsize'.*Did you mean 'batch_size'"),
        ({"augment": "hue:10"}, ArgumentError, "augment: got 'hue'.*It needs colour"),
        ({"model_options": {"classes": 3}}, ArgumentError, "model_options: .* none beside a module"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], message: str, fitted: Fit, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        fitted(**options)
    assert not (tmp_path / "run").exists()


def test_models_and_data_that_do_not_fit_are_refused(fitted: Fit, tmp_path: Path, stripes: Dataset) -> None:
    few = nn.Sequential(nn.Flatten(), nn.Linear(63, 2))
    with pytest.raises(
        ArgumentError, match="model: got '2 outputs', wanted one for each of the 3 classes of 'stripes'"
    ):
        fitted(few)
    flat = nn.Sequential(nn.Conv2d(1, 3, 1))
    with pytest.raises(ArgumentError, match=r"model: got 'outputs of shape \(2, 3, 9, 7\)', wanted \(pictures, 3\)"):
        fitted(flat)
    with pytest.raises(ArgumentError, match=r"data: got .*\(1, 9, 7\).* pictures that the model can take"):
        fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    with pytest.raises(ArgumentError, match="data: .* pictures that the model can take"):
        fitted(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Linear(4, 3)))
    with pytest.raises(ArgumentError, match="at least one parameter"):
        fitted(nn.Sequential(nn.Flatten()))
    with pytest.raises(ArgumentError, match="model: got None, wanted a catalogue name or a module"):
        fit(data=stripes)
    with pytest.raises(ArgumentError, match="data: got None, wanted a data set or its name"):
        fit("lenet5")
    with pytest.raises(UnknownNameError, match="model: got 'lenet55'.*Did you mean 'lenet5'"):
        fit("lenet55", stripes)
    with pytest.raises(UnknownNameError, match="data: got 'digit'.*Did you mean 'digits'"):
        fit("lenet5", "digit")
    assert not (tmp_path / "run").exists()


def test_a_model_of_more_classes_is_refused_with_both_numbers_and_the_way_out(
    fitted: Fit, tmp_path: Path, stripes: Dataset
) -> None:
    advice = "model: got '10 outputs', wanted one for each of the 3 classes of 'stripes'. Build it with classes=3"
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), convscope.create_model("lenet5")):
        with pytest.raises(ArgumentError, match=advice):
            fitted(model)
    with pytest.raises(ArgumentError, match=advice):
        fit("lenet5", stripes, model_options={"classes": 10}, run_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    # a trained model whose classes have other names
    before = fitted(run_dir=str(tmp_path / "before"), epochs=1).model
    labels = stripes.train.labels % 2
    renamed = Dataset.from_arrays(stripes.train.images, labels, classes=("row", "diagonal"), name="renamed")
    with pytest.raises(
        ArgumentError, match="model: got '3 outputs', wanted one for each of the 2 classes of 'renamed'"
    ):
        fitted(before, renamed)
    assert not (tmp_path / "run").exists()


def test_a_trained_model_numbers_the_labels_by_its_own_class_names(
    fitted: Fit, tmp_path: Path, stripes: Dataset
) -> None:
    """Some of its classes, in another order: it keeps all its outputs and names, and is measured by them."""
    first = fitted(run_dir=str(tmp_path / "first"), epochs=1)
    some = stripes.restrict(("both", "row"))
    trained = convscope.load(first.run_dir / "model.safetensors")
    result = fitted(trained, some, epochs=40, learning_rate=0.01)
    described = spec.spec_of(result.model)
    assert described is not None
    assert described.classes == result.metrics.classes == ("row", "column", "both")
    assert [sum(row) for row in result.metrics.confusion] == [some.test.counts()[1], 0, some.test.counts()[0]]
    assert result.metrics.accuracy > 0.8
    saved = convscope.load(result.run_dir / "model.safetensors")
    assert convscope.evaluate(saved, some).confusion == result.metrics.confusion
    labels = {prediction.label for prediction in convscope.predict(saved, some.test.images)}
    assert labels == {"row", "both"}
    # resumed it is the same run, and other names for as many classes replace its own
    assert fitted(data=some, epochs=40, learning_rate=0.01, resume=True).metrics.confusion == result.metrics.confusion
    images, numbers = stripes.train.images, stripes.train.labels
    renamed = Dataset.from_arrays(images, numbers, classes=("a", "b", "c"), name="renamed")
    assert fitted(trained, renamed, run_dir=str(tmp_path / "renamed"), epochs=1).metrics.classes == ("a", "b", "c")


def test_a_disk_that_fills_up_in_mid_run(fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third checkpoint cannot be written: an error that says so, and the run resumes once there is room."""
    original, count = checkpoints.save_state, 0

    def fills_up(path: Path, state: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise convscope.errors.CheckpointError(path, "the disk is full")
        original(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_state", fills_up)
        with pytest.raises(convscope.errors.CheckpointError, match="the disk is full"):
            fitted(epochs=3)
    assert len(fitted(epochs=3, resume=True).history) == 3


def test_the_model_stays_where_it_was_and_listeners_may_fail(fitted: Fit, net: nn.Sequential, tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def listen(event: events.Event) -> None:
        if isinstance(event, events.EpochDone):
            raise BrokenError

    with pytest.raises(BrokenError):
        fitted(net, listeners=[listen])
    result = fitted(net, run_dir=str(tmp_path / "again"))
    assert result.model is net
    assert dataclasses.replace(result.config, run_dir=None).epochs == 2


def test_a_run_that_came_to_rest_stays_at_rest(fitted: Fit) -> None:
    first = fitted(epochs=50, stop_tolerance=1e3, stop_patience=2)
    again = fitted(epochs=50, resume=True)
    assert (again.stopped, len(again.history)) == ("converged", len(first.history))
    assert torch.equal(flat(first.model), flat(again.model))


def test_trouble_inside_a_step_says_where_and_what_to_do(
    fitted: Fit, make_net: Callable[..., nn.Sequential], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(self: object, *arguments: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(TorchStepper, "loss_and_gradients", no_room)
    with pytest.raises(TrainingError, match="batch 1 .*There is not enough memory: a smaller batch_size needs less"):
        fitted(run_dir=str(tmp_path / "other"))


def test_a_data_set_without_test_pictures_is_refused(fitted: Fit, stripes: Dataset, tmp_path: Path) -> None:
    nothing = stripes.test.select(torch.tensor([], dtype=torch.int64))
    with pytest.raises(ArgumentError, match="data: got .*without test pictures"):
        fitted(data=Dataset("stripes", stripes.train, nothing))
    assert not (tmp_path / "run").exists()


def test_threads_are_put_back(fitted: Fit) -> None:
    torch.set_num_threads(2)
    counts: list[int] = []
    fitted(epochs=1, threads=1, listeners=[lambda event: counts.append(torch.get_num_threads())])
    assert set(counts) == {1}
    assert torch.get_num_threads() == 2
