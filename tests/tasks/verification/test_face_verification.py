"""The whole job on a small folder in the layout of Labeled Faces in the Wild, with and without its pairs.txt."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import convscope
from convscope.cli.main import group
from convscope.data import Dataset, Labelled
from convscope.data.kinds.pairs import draw_pairs
from convscope.errors import ArgumentError, DataError
from convscope.models import create_model
from convscope.models.deepid import DeepIDPatches, DeepIDVerifier
from convscope.tasks.jobs import JOBS, Asked, run_training_job
from convscope.tasks.verification.face_verification import Faces, coded, compare, features_of
from convscope.tasks.verification.task import Verification

SMALL: dict[str, Any] = {
    "settings": {"folds": 2, "pairs": 12, "dimensions": 8, "deepid_epochs": 1, "pyramid_epochs": 1},
    "changes": {"max_steps": 3, "watch": False},
    "threads": 1,
}
PEOPLE = ("Anna_Berg", "Bo_Lind", "Cai_Wen", "Dora_Ek", "Eve_Ohm", "Finn_Day")


def face(person: int, number: int) -> numpy.ndarray:
    """A pattern of the person's own, with noise of the picture's own: (50, 40) uint8."""
    own = numpy.random.default_rng(person).integers(40, 216, (5, 4)).repeat(10, 0).repeat(10, 1)
    noise = numpy.random.default_rng(100 * person + number).normal(0, 12, own.shape)
    return (own + noise).clip(0, 255).astype(numpy.uint8)


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NAME/NAME_0001.png …, six people with four pictures each, and a pairs.txt of two folds of two pairs each."""
    folder = tmp_path_factory.mktemp("lfw") / "faces"
    for person, name in enumerate(PEOPLE):
        (folder / name).mkdir(parents=True)
        for number in range(1, 5):
            Image.fromarray(face(person, number)).save(folder / name / f"{name}_{number:04}.png")
    lines = ["2\t2"]
    for one, other in (PEOPLE[:2], PEOPLE[2:4]):
        lines += [f"{one}\t1\t2", f"{other}\t3\t4", f"{one}\t1\t{other}\t2", f"{one}\t4\t{other}\t4"]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def done(lfw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("job") / "run"
    run_training_job("face_verification", Asked(str(lfw), **SMALL), out, workers=1)
    return out


def test_nobody_of_a_fold_is_learned_from(lfw: Path) -> None:
    for data in (str(lfw), "orl_faces") if "CONVSCOPE_DATA" in os.environ else (str(lfw),):
        job = Faces(Asked(data, **SMALL))
        faces, pairs = job.faces(), job.pairs()
        assert pairs.folds is not None
        for fold in range(2):
            own = pairs.folds == fold
            tested = set(faces.labels[torch.cat((pairs.first[own], pairs.second[own]))].tolist())
            learned = set(faces.labels[job.learned_from(fold)].tolist())
            assert learned
            assert not tested & learned
            assert len(job.people(fold).classes) == len(learned)


def test_its_folder_holds_the_protocol_and_a_verifier(done: Path, lfw: Path) -> None:
    figures = json.loads((done / "figures.json").read_text())
    assert set(figures) == {"bayesian", "cosine", "pyramid", "eigenfaces", "pixels"}
    assert all(found["pairs"] == 8 for found in figures.values())
    assert all(len(found["folds"]) == 2 for found in figures.values())
    assert figures["pixels"]["auc"] > 0.9  # the patterns are plain
    assert (done / "roc.png").stat().st_size > 2000
    assert "joint Bayesian" in (done / "figures.txt").read_text()
    model = convscope.load(done / "model.safetensors")
    assert isinstance(model, DeepIDVerifier)
    assert model.get_buffer("threshold") == pytest.approx(figures["bayesian"]["threshold"], rel=1e-5)
    filters = [convscope.load(done / "fold01" / f"pyramid{level}" / "model.safetensors") for level in (1, 2, 3)]
    first = [each.get_parameter("filters.level1.weight") for each in filters]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_verify_says_score_threshold_and_decision(done: Path, lfw: Path, tmp_path: Path) -> None:
    one, other = lfw / PEOPLE[4] / f"{PEOPLE[4]}_0001.png", lfw / PEOPLE[5] / f"{PEOPLE[5]}_0001.png"
    runner, model = CliRunner(), str(done / "model.safetensors")
    said = runner.invoke(group, ["verify", str(one), str(other), "--model", model])
    assert said.exit_code == 0, said.output
    assert "score" in said.output
    assert "threshold 0" in said.output
    assert f"fitted: {one} (50×40 → 78×62)" in said.output
    answer = json.loads(runner.invoke(group, ["verify", str(one), str(one), "--model", model, "--json"]).stdout)
    assert answer["same"] == (answer["score"] >= 0)
    lenet = convscope.save(create_model("lenet5"), tmp_path / "lenet.safetensors")
    refused = runner.invoke(group, ["verify", str(one), str(other), "--model", str(lenet)])
    assert "a model for classification" in refused.output
    assert "wanted one for verification" in refused.output


def test_the_verifier_says_what_the_protocol_measures(done: Path, lfw: Path) -> None:
    job = Faces(Asked(str(lfw), **SMALL))
    network = convscope.load(done / "everybody" / "model.safetensors")
    assert isinstance(network, DeepIDPatches)
    learned = job.faces().select(job.learned_from(None))
    mean, projection, fitted = compare(network, learned, 8)
    first, second = job.faces().select(job.pairs().first), job.faces().select(job.pairs().second)
    a, b = (coded(features_of(network, each), mean, projection) for each in (first, second))
    wanted = fitted.scores(a, b)
    verifier = convscope.load(done / "model.safetensors")
    threshold = float(verifier.get_buffer("threshold"))
    found = torch.tensor([each.score for each in convscope.predict(verifier, [first.images, second.images])])
    assert torch.allclose(found.double() + threshold, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("two\t2\n", "line 1 is not the number of folds"),
        ("1\nAnna_Berg\t1\t2\n", "1 pairs, wanted 2"),
        ("1\nAnna_Berg\t1\t2\nAnna_Berg\t1\tx\n", "line 3 is neither NAME I J nor NAME I NAME J"),
        ("1\nAnna_Berg\t1\t9\nAnna_Berg\t1\tBo_Lind\t2\n", "line 2: there is no picture 9 of 'Anna_Berg'"),
    ],
)
def test_a_wrong_list_of_pairs_is_refused_by_its_line(lfw: Path, text: str, said: str) -> None:
    before = (lfw / "pairs.txt").read_text()
    try:
        (lfw / "pairs.txt").write_text(text)
        with pytest.raises(DataError, match=said):
            Faces(Asked(str(lfw), **SMALL)).pairs()
    finally:
        (lfw / "pairs.txt").write_text(before)


def test_too_few_people_or_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Anna").mkdir()
    Image.fromarray(face(1, 1)).save(tmp_path / "Anna" / "Anna_0001.png")
    with pytest.raises(DataError, match="pictures of 1 people"):
        Faces(Asked(str(tmp_path), **SMALL)).faces()
    (tmp_path / "Bo").mkdir()
    Image.fromarray(face(2, 1)).save(tmp_path / "Bo" / "Bo_0001.png")
    with pytest.raises(ArgumentError, match="folds: got 2, wanted from 2 to 1 folds"):
        Faces(Asked(str(tmp_path), **SMALL)).pairs()
    with pytest.raises(ArgumentError, match="data: got '0 people with two pictures"):
        Faces(Asked(str(tmp_path), **SMALL)).learned_from(None)
    with pytest.raises(ArgumentError, match="pairs: got 0, wanted at least 1"):
        JOBS["face_verification"](Asked("orl_faces", settings={"pairs": 0}))


def some_faces() -> Labelled:
    images = torch.stack([torch.from_numpy(face(person, number))[None] for person in range(6) for number in range(5)])
    return Labelled(images, torch.arange(30) // 5, PEOPLE)


def test_a_pyramid_learns_pairs_by_itself(tmp_path: Path) -> None:
    faces = some_faces()
    train, test = faces.select(torch.arange(20)), faces.select(torch.arange(20, 30))
    data = Dataset("faces", train, test)
    torch.manual_seed(0)
    model = create_model("pyramid_cnn", maps=[6, 8], features=12, input_size=(24, 20))
    before = convscope.evaluate(_prepared(model, data), data).loss
    result = convscope.fit(
        model, data, settings={"pairs": 80, "whole": "30x24"}, epochs=12, batch_size=16, learning_rate=3e-3,
        run_dir=str(tmp_path / "run"), watch=False, threads=1, augment="flip",
    )  # fmt: skip
    assert result.metrics.loss < 0.7 * before
    assert result.metrics.auc > 0.8
    again = convscope.load(tmp_path / "run" / "model.safetensors")
    assert convscope.evaluate(again, data).loss == pytest.approx(result.metrics.loss, rel=1e-4)
    pairs = draw_pairs(test, 20, 1)
    found = convscope.predict(again, [test.images[pairs.first], test.images[pairs.second]])
    scores = torch.tensor([each.score for each in found])
    assert float(scores[pairs.same].mean()) > float(scores[~pairs.same].mean())
    assert all(each.same == (each.score >= 0) for each in found)
    with pytest.raises(ArgumentError, match="pictures: got 3, wanted an even number of pictures"):
        convscope.predict(again, test.images[:3])


def _prepared(model: torch.nn.Module, data: Dataset) -> torch.nn.Module:
    Verification({"whole": "30x24"}).prepare(model, data, convscope.training.Config())
    return model


def test_wrong_sizes_and_models_are_refused(tmp_path: Path) -> None:
    faces = some_faces()
    data = Dataset("faces", faces, faces)
    options: dict[str, Any] = {"run_dir": str(tmp_path / "run"), "max_steps": 1}
    with pytest.raises(ArgumentError, match="whole: got '8x8', wanted HEIGHTxWIDTH in pixels, at least .* 48x40"):
        convscope.fit(create_model("pyramid_cnn"), data, settings={"whole": "8x8"}, **options)
    with pytest.raises(ArgumentError, match="model: .*wanted one that takes two pictures"):
        convscope.fit(create_model("lenet5"), data, task="verification", **options)
    with pytest.raises(ArgumentError, match="maps: got 'x'"):
        create_model("pyramid_cnn", maps="x")
    alone = Labelled(faces.images[:4], torch.zeros(4, dtype=torch.int64), ("Anna",))
    with pytest.raises(ArgumentError, match="pictures without pictures of a second person"):
        Verification().prepare(create_model("pyramid_cnn"), Dataset("one", alone, alone), convscope.training.Config())
