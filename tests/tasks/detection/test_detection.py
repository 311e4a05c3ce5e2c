"""Detection: pictures of squares and bars, learned in a few steps; files of answers; what is broken or unlike."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.data.kinds.some import CLASSES, some_boxes
from torch import Tensor, nn

from convscope import evaluate, fit, load, predict
from convscope.cli.progress import TrainingDisplay
from convscope.data import Batch, Dataset, load_dataset
from convscope.data.kinds.boxes import Boxes, BoxTargets
from convscope.data.layouts.pascal_voc import read_annotation
from convscope.data.picture_stores import PicturesInMemory
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError, UnknownNameError
from convscope.models import create_model
from convscope.models.fast_rcnn import Regions
from convscope.spec import Preprocessing, spec_of
from convscope.tasks.detection.answers import Found, best_of
from convscope.tasks.detection.drawing import as_pixels, with_boxes
from convscope.tasks.detection.objective import DetectionObjective
from convscope.tasks.detection.predict import Detection
from convscope.tasks.detection.scaling import Scale, scaling
from convscope.tasks.detection.settings import DetectionSettings
from convscope.tasks.detection.task import DetectionTask

GREY = Preprocessing(3, (64, 64), (0.5,) * 3, (0.25,) * 3)
SMALL = {"shorter": 64, "longest": 96}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def squares(count: int, seed: int = 0) -> Boxes:
    """Bright squares and dark bars on grey noise, one to three a picture of 64×72."""
    chance = torch.Generator().manual_seed(seed)
    pictures, rows, labels = [], [], []
    for _ in range(count):
        picture = torch.randint(90, 130, (3, 64, 72), generator=chance, dtype=torch.uint8)
        row = []
        for place in torch.randperm(6, generator=chance)[: int(torch.randint(1, 4, (1,), generator=chance))].tolist():
            kind = int(torch.randint(0, 2, (1,), generator=chance))
            tall, wide = ((18, 18), (9, 20))[kind]
            y, x = 4 + 30 * (place // 3), 2 + 23 * (place % 3)
            picture[:, y : y + tall, x : x + wide] = (230, 20)[kind]
            row.append([x, y, x + wide, y + tall])
            labels.append(kind)
        pictures.append(picture)
        rows.append(torch.tensor(row, dtype=torch.float32))
    return Boxes(PicturesInMemory(pictures), Ragged.of(rows, torch.float32), torch.tensor(labels), ("square", "bar"))


def detector(name: str = "faster_rcnn", **options: Any) -> nn.Module:
    torch.manual_seed(1)
    return create_model(name, classes=2, in_channels=3, small=True, width=0.5, hidden=32, **options)


def test_it_learns_what_is_where(tmp_path: Path) -> None:
    data = Dataset("squares", squares(48), squares(12, seed=1))
    model = detector(anchor_sizes=(16, 24), proposals=40)
    result = fit(
        model, data, epochs=12, batch_size=4, learning_rate=4e-3, settings=SMALL, evaluate_every=12, watch=False,
        run_dir=str(tmp_path / "run"), engine="torch", device="cpu",
    )  # fmt: skip
    first, last = result.history[0].train, result.history[-1].train
    assert set(last) == {"loss", "rpn_class", "rpn_box", "class", "box"}
    assert last["loss"] == pytest.approx(sum(value for name, value in last.items() if name != "loss"), rel=1e-4)
    assert last["loss"] < 0.5 * first["loss"]
    assert result.metrics.mean_ap > 0.8
    again = load(tmp_path / "run" / "model.safetensors")
    picture = data.test.pictures.picture(0)
    (found,) = predict(again, [picture])
    best = found.things(0.5)
    true = data.test.boxes[0].tolist()
    assert len(best) == len(true)
    for name, _, box in best:
        near = min(true, key=lambda each: sum(abs(a - b) for a, b in zip(each, box, strict=True)))
        assert max(abs(a - b) for a, b in zip(near, box, strict=True)) < 5
        assert name in ("square", "bar")
    answers = spec_of(again).answers  # type: ignore[union-attr]
    assert (answers.kind, answers.names, answers.more["shorter"]) == ("boxes", ("square", "bar"), 64)


def test_letters_on_a_picture_are_whole() -> None:
    """Where a box begins at a fraction of a pixel, and where another's line would cross them."""
    grey = torch.full((3, 120, 300), 100, dtype=torch.uint8)
    for fraction in (0.21, 0.49):
        one = as_pixels(with_boxes(grey, torch.tensor([[10.0, fraction, 90, 60]]), [0], ["RBC 0.81"]))
        other = as_pixels(with_boxes(grey, torch.tensor([[10.0, 0, 90, 60]]), [0], ["RBC 0.81"]))
        assert torch.equal(one, other)
    letters = torch.tensor([[60.0, 60, 150, 100]])
    crossing = torch.cat((torch.tensor([[20.0, 10, 200, 52]]), letters))  # its lower line is where the letters are
    two = as_pixels(with_boxes(grey, crossing, [1, 0], ["", "RBC 0.77"]))
    one = as_pixels(with_boxes(grey, letters, [0], ["RBC 0.77"]))
    white = (one > 200).all(0)
    assert int(white.sum()) > 50
    assert (two[:, white] > 200).all()


def test_a_test_part_without_boxes_has_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = dataclasses.replace(
        squares(2, seed=1), boxes=Ragged.of([torch.zeros(0, 4)] * 2, torch.float32), labels=torch.zeros(0).long()
    )
    with TrainingDisplay(Console(width=300)) as display:
        result = fit(
            detector(), Dataset("bare", squares(4), bare), epochs=1, batch_size=4, settings=SMALL, watch=False,
            run_dir=str(tmp_path / "run"), engine="torch", device="cpu", listeners=[display],
        )  # fmt: skip
    assert "test mean_ap –" in capsys.readouterr().out
    assert DetectionTask().summary(result.metrics).startswith("mAP@0.5 – (11-point –), mAP@[.5:.95] –, recall –")


class TestObjective:
    def outputs(self) -> tuple[Regions, BoxTargets]:
        """Two pictures; the first has a thing of class 1, of which the first region is just one half."""
        rois = torch.tensor([[0.0, 0, 0, 10, 10], [0.0, 40, 40, 50, 50], [1.0, 0, 0, 10, 10]])
        scores = torch.tensor([[0.0, 1, 2], [3.0, 0, 0], [0.0, 0, 0]])
        differences = torch.zeros(3, 3, 4)
        differences[0, 2] = torch.tensor([0.5, 0, 0, 2.0])
        targets = BoxTargets(
            torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([1]), torch.tensor([False]), torch.tensor([1, 0])
        )
        return Regions(rois, torch.tensor([[60.0, 60], [60, 60]]), scores, differences), targets

    def test_by_hand(self) -> None:
        """−ln p of class 2, of background twice; the box: ½·½² + (2 − ½); means over regions, then over pictures."""
        objective = DetectionObjective(nn.Identity())
        assert objective.counts == ("class", "box")
        parts = objective.parts(*self.outputs())
        e = torch.tensor([0.0, 1, 2]).exp()
        first = (-(e[2] / e.sum()).log() - torch.log_softmax(torch.tensor([3.0, 0, 0]), 0)[0]) / 2
        expected = (first + torch.log(torch.tensor(3.0))) / 2
        assert float(parts["class"]) == pytest.approx(float(expected))
        assert float(parts["box"]) == pytest.approx((0.125 + 1.5) / 2 / 2)

    def test_a_difficult_thing_counts_nothing(self) -> None:
        outputs, targets = self.outputs()
        hard = dataclasses.replace(targets, difficult=torch.tensor([True]))
        parts = DetectionObjective(nn.Identity()).parts(outputs, hard)
        assert float(parts["box"]) == 0
        alone = float(-torch.log_softmax(torch.tensor([3.0, 0, 0]), 0)[0])
        assert float(parts["class"]) == pytest.approx((alone + float(torch.log(torch.tensor(3.0)))) / 2)

    def test_evaluation_is_the_mean_of_training(self) -> None:
        """Anchors are drawn in training; in evaluation they are weighed as that draw does in the mean."""
        model = detector()
        objective = DetectionObjective(model.eval())
        things = torch.tensor([[10.0, 10, 40, 40], [50, 20, 70, 60]])
        targets = BoxTargets(things, torch.tensor([0, 1]), torch.tensor([False] * 2), torch.tensor([2]))
        x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            outputs: Regions = model(x)
            outputs = outputs._replace(objectness=3 * torch.randn(outputs.objectness.shape))  # type: ignore[union-attr]
            exact = objective.parts(outputs, targets)
            model.train()
            drawn = [objective.parts(outputs, targets) for _ in range(200)]
        for name in ("rpn_class", "rpn_box"):
            values = torch.stack([each[name] for each in drawn])
            spread = float(values.std()) / 200**0.5
            assert abs(float(values.mean() - exact[name])) < 5 * spread + 1e-6
            assert name == "rpn_box" or spread > 0

    def test_counts_are_those_of_the_same_draw(self) -> None:
        model = detector().train()
        objective = DetectionObjective(model)
        _, targets = self.outputs()
        outputs: Regions = model(torch.randn(2, 3, 64, 64))
        value = objective.value(outputs, targets).detach()
        assert sum(float(each) for each in objective.count(outputs, targets)) == pytest.approx(2 * float(value))

    def test_regions_alone_have_no_anchors(self) -> None:
        objective = DetectionObjective(detector())
        with pytest.raises(ArgumentError, match="outputs: got 'regions alone', wanted anchors as well"):
            objective.of_anchors(*self.outputs())


class TestAnswers:
    def test_suppression_is_a_class_at_a_time(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [5, 5, 5, 9], [-4, -4, 6, 6]])
        labels, scores = torch.tensor([0, 0, 1, 0, 1]), torch.tensor([0.6, 0.9, 0.8, 0.99, 0.7])
        given = Found(boxes, labels, scores, torch.tensor([7, 5, 5, 3, 2]))
        found = best_of(given, (8, 8), DetectionSettings(overlap=0.3))
        # [5, 5, 5, 9] has no area; [0, 0, 6, 6] covers 36 of 64 of the better one of its class, [0, 0, 8, 8] 56 of 64
        assert found.labels.tolist() == [0, 1]
        assert found.boxes.tolist() == [[1, 0, 8, 8], [0, 0, 8, 8]]
        assert found.regions.tolist() == [5, 5]
        assert len(best_of(given, (8, 8), DetectionSettings(overlap=0.6)).labels) == 3
        assert len(best_of(given, (8, 8), DetectionSettings(overlap=0.3, most=1)).labels) == 1

    def test_files(self, tmp_path: Path) -> None:
        """The XML is read back as the boxes that were found, to the pixel."""
        path = tmp_path / "cells" / "one.png"
        path.parent.mkdir()
        Image.new("RGB", (60, 40), "pink").save(path)
        model = detector()
        (empty,) = predict(prepared(model), path)
        found = Found(torch.tensor([[3.0, 4, 20, 30]]), torch.tensor([1]), torch.tensor([0.75]), torch.tensor([0]))
        answer = dataclasses.replace(empty, found=found)
        written = answer.save(tmp_path / "out")
        assert [each.suffix for each in written] == [".png", ".json", ".xml"]
        size, (box,) = read_annotation(written[2].read_bytes())
        assert (size, box.name, box.corners) == ((40, 60), "bar", (3, 4, 20, 30))
        told = json.loads(written[1].read_text())
        assert told["things"] == [{"class": "bar", "score": 0.75, "box": [3, 4, 20, 30]}]
        drawn = Image.open(written[0])
        assert drawn.size[0] % 60 == 0
        assert (214, 39, 40) in {colour for _, colour in drawn.getcolors(100_000) or ()}, "the second class's colour"
        assert answer.line(3) == f"{path}: 1 bar"
        assert answer.rows(3) == [(str(path), "bar", "0.750000", "3.00", "4.00", "20.00", "30.00")]
        assert dataclasses.replace(answer, shown=0.9).line(3).endswith("nothing of a score from 0.9")


def prepared(model: nn.Module) -> nn.Module:
    """The model with a description as training leaves it."""
    from convscope.training import Config

    DetectionTask(SMALL).prepare(model, Dataset("squares", squares(2), squares(2)), Config())
    return model


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (1, 1)), ("L", (30, 50)), ("CMYK", (50, 30)), ("RGBA", (9, 300)), ("RGB", (2000, 1500))]
)
def test_pictures_of_any_kind_are_answered(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.effect_noise(size, 50).convert("RGB").convert(mode).save(path)
    (answer,) = predict(prepared(detector()), path)
    assert isinstance(answer, Detection)
    assert answer.size == (size[1], size[0])
    for _, score, (x1, y1, x2, y2) in answer.things():
        assert 0 <= x1 < x2 <= size[0] + 1e-3
        assert 0 <= y1 < y2 <= size[1] + 1e-3
        assert 0 < score <= 1
    assert answer.save(tmp_path / "out")


def test_an_answer_does_not_depend_on_its_batch() -> None:
    """Pictures of two sizes: alone on the same canvas and together."""
    model = prepared(detector()).eval()
    few = Boxes(
        PicturesInMemory([torch.randint(0, 256, size, dtype=torch.uint8) for size in ((3, 64, 72), (3, 40, 90))]),
        Ragged.of([torch.tensor([[1.0, 1, 9, 9]])] * 2, torch.float32), torch.tensor([0, 1]), ("square", "bar"),
    )  # fmt: skip
    alone = evaluate(model, few, batch_size=1).to_json()
    together = evaluate(model, few, batch_size=2).to_json()
    for name, value in alone.items():
        assert together[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)


def test_scaling_moves_boxes_with_their_pictures() -> None:
    targets = BoxTargets(
        torch.tensor([[2.0, 4, 20, 30], [0, 0, 10, 20]]), torch.tensor([0, 1]), torch.tensor([False] * 2),
        torch.tensor([1, 1]),
    )  # fmt: skip
    pictures = torch.zeros(2, 1, 40, 60, dtype=torch.uint8)
    batch = Batch((pictures, torch.tensor([[40, 60], [20, 10]])), targets, 2, 2.0)
    ready = scaling(Scale(80, 120), GREY, (160, 128)).call(batch)
    x, sizes = ready.inputs
    assert x.shape == (2, 3, 160, 128)
    assert sizes.tolist() == [[80, 120], [120, 60]]
    assert ready.targets.boxes.tolist() == [[4, 8, 40, 60], [0, 0, 60, 120]]
    assert not x[0, :, :80, :120].any()
    assert (x[0, :, 80:] == 128).all(), "beyond a picture is the mean colour"


class TestRefusals:
    def test_settings(self) -> None:
        for name, value, said in (
            ("shorter", 0, "an integer ≥ 1"),
            ("longest", 10, "at least the shorter side's pixels, 600"),
            ("score", 1.5, "a number from 0 to 1"),
        ):
            with pytest.raises(ArgumentError, match=f"{name}: got {value}, wanted {said}"):
                DetectionTask({name: value})
        with pytest.raises(UnknownNameError, match="proposals: got 'selectiv_search'.*Did you mean 'selective_search'"):
            DetectionTask({"proposals": "selectiv_search"})
        with pytest.raises(ArgumentError, match="loss: got 'focal', wanted nothing: a detector has"):
            DetectionTask().objective(detector(), "focal")

    def test_models_and_data(self, tmp_path: Path) -> None:
        data = Dataset("squares", squares(4), squares(2))
        options: dict[str, Any] = {"run_dir": str(tmp_path / "run"), "settings": SMALL, "device": "cpu"}
        with pytest.raises(ArgumentError, match="scores of 6 classes, background among them', wanted 3.*classes=2"):
            fit(create_model("faster_rcnn", classes=5, small=True, width=0.25, hidden=8), data, **options)
        nothing = dataclasses.replace(squares(2), boxes=Ragged.of([torch.zeros(0, 4)] * 2, torch.float32),
                                      labels=torch.zeros(0, dtype=torch.int64))  # fmt: skip
        with pytest.raises(ArgumentError, match="'none' without boxes to learn from"):
            fit(detector(), Dataset("none", nothing, squares(2)), **options)
        with pytest.raises(ArgumentError, match=r"boxes of the model's own classes, \('square', 'bar'\)"):
            evaluate(prepared(detector()), some_boxes(tmp_path))
        assert CLASSES
        assert not (tmp_path / "run").exists()

    def test_outputs_that_are_no_detectors(self) -> None:
        class Wrong(nn.Module):
            proposes = True

            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1))

            def forward(self, pictures: Tensor, sizes: Tensor) -> Tensor:
                return pictures.mean() * self.weight

        model = Wrong()
        with pytest.raises(ArgumentError, match="outputs of type Tensor', wanted a detector's, Regions"):
            list(DetectionTask(SMALL).predict(model, torch.zeros(3, 9, 9, dtype=torch.uint8), preprocessing=GREY))
        broken = prepared(detector())
        with torch.no_grad():
            broken.get_parameter("roi_heads.box_predictor.cls_score.bias").fill_(float("nan"))
        with pytest.raises(ArgumentError, match="outputs that are no numbers"):
            predict(broken, torch.zeros(3, 40, 40, dtype=torch.uint8))
        with pytest.raises(ArgumentError, match="images: got .*, wanted at least one picture"):
            predict(broken, [])


def _annotation(name: str, boxes: list[tuple[str, tuple[int, int, int, int]]]) -> str:
    things = "".join(
        f"<object><name>{thing}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for thing, (a, b, c, d) in boxes
    )
    size = "<size><width>48</width><height>40</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{things}</annotation>"


def test_a_folder_with_broken_boxes_trains_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Outside, swapped, thin, over the edge, none at all, not XML, not there: training goes on with the rest."""
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "own" / part).mkdir(parents=True)
    cases: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
        "outside": [("cell", (100, 100, 120, 120)), ("cell", (3, 3, 20, 20))],
        "swapped": [("cell", (30, 30, 10, 10))],
        "thin": [("cell", (5, 5, 5, 30))],
        "edge": [("dish", (-8, -8, 200, 30))],
        "empty": [],
        "whole": [("dish", (2, 2, 30, 30))],
        "missing": [("cell", (3, 3, 20, 20))],
    }
    for place, (name, boxes) in enumerate(cases.items()):
        (tmp_path / "own" / "Annotations" / f"{name}.xml").write_text(_annotation(name, boxes))
        if name != "missing":
            mode = ("RGB", "L", "RGB", "CMYK")[place % 4]
            Image.effect_noise((48, 40), 60).convert("RGB").convert(mode).save(
                tmp_path / "own" / "JPEGImages" / f"{name}.jpg"
            )
    (tmp_path / "own" / "Annotations" / "torn.xml").write_text("<annotation><object>")
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(tmp_path / "own", test_fraction=0.3)
    for said in ("outside their picture", "without area", "over the edge", "broken annotations", "missing pictures"):
        assert said in caplog.text
    result = fit(
        "faster_rcnn", data, model_options={"small": True, "width": 0.25, "hidden": 8, "proposals": 8}, epochs=1,
        batch_size=2, settings={"shorter": 40, "longest": 64}, watch=False, run_dir=str(tmp_path / "run"), device="cpu",
    )  # fmt: skip
    assert result.metrics.images == len(data.test)
    assert torch.isfinite(torch.tensor(result.history[0].train["loss"]))
