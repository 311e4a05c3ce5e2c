"""evaluate, predict, models, datasets and inspect, on a model that was really trained."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.conftest import Call

from convscope.models import list_models
from convscope.native import available


def test_evaluate_prints_what_the_run_measured(call: Call, model: Path, trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    text = call("evaluate", model).stdout
    assert f"error                {metrics['error']:.2%}" in text
    assert "accuracy (top 5)" in text
    assert re.search(r"^7 +\d+\.\d+% +36 ", text, re.M)
    assert "confusion matrix (row: true class, column: taken for)" in text
    matrix = [[int(cell.replace("·", "0")) for cell in line.split()[1:]] for line in text.splitlines()[-10:]]
    assert matrix == metrics["confusion"]


def test_evaluate_as_json_and_as_a_picture(call: Call, model: Path, trained: Path, tmp_path: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    found = json.loads(call("evaluate", model, "-d", "digits", "--json", "--confusion", tmp_path / "c.png").stdout)
    assert found["confusion"] == metrics["confusion"]
    assert (found["architecture"], found["data"], found["split"]) == ("lenet5", "digits", "test")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 300
    training = json.loads(call("evaluate", model, "--split", "train", "--json").stdout)
    assert training["images"] == 1438


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_engines_are_chosen_and_named(call: Call, model: Path, trained: Path, pictures: Path, engine: str) -> None:
    if engine == "native" and not available():
        pytest.skip("the engine is not built")
    found = json.loads(call("evaluate", model, "--engine", engine, "--json").stdout)
    assert (found["engine"], found["engine_reason"]) == (engine, "asked for")
    assert found["confusion"] == json.loads((trained / "metrics.json").read_text())["confusion"]
    assert f"\nengine {engine}: asked for\n" in call("evaluate", model, "--engine", engine).stdout
    assert f"engine {engine}: asked for" in call("predict", model, pictures, "--engine", engine).stderr
    few = call("predict", model, pictures).stderr
    assert "engine torch: " in few


def test_predict_names_the_class_of_files_and_folders(call: Call, model: Path, pictures: Path) -> None:
    labels = (pictures / "labels.txt").read_text().split()
    lines = call("predict", model, pictures / "a.png", pictures / "deep").stdout.splitlines()
    names = ["a.png", "deep/b.jpg", "deep/er/c.png", "deep/er/d.bmp"]
    assert [line.split(": ")[0] for line in lines] == [str(pictures / name) for name in names]
    guesses = [line.split(": ")[1].split()[0] for line in lines]
    assert sum(guess == label for guess, label in zip(guesses, labels, strict=True)) >= 3
    assert all(len(re.findall(r"\d+\.\d%", line)) == 3 for line in lines)


def test_predict_as_json_and_csv(call: Call, model: Path, pictures: Path) -> None:
    objects = [json.loads(line) for line in call("predict", model, pictures, "--json").stdout.splitlines()]
    assert len(objects) == 4
    for found in objects:
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert max(found["probabilities"], key=found["probabilities"].get) == found["class"]
    table = list(csv.DictReader(io.StringIO(call("predict", model, pictures, "--csv", "--top", "2").stdout)))
    assert [row["rank"] for row in table] == ["1", "2"] * 4
    assert [row["class"] for row in table[::2]] == [found["class"] for found in objects]
    assert float(table[0]["probability"]) == pytest.approx(objects[0]["probability"], abs=1e-6)


def test_models_lists_all_and_filters(call: Call) -> None:
    text = call("models").stdout
    assert [line.split()[0] for line in text.splitlines()[1:]] == list_models()
    filtered = call("models", "--filter", "LeCun").stdout
    assert [line.split()[0] for line in filtered.splitlines()[1:]] == ["lenet5", "lenet5_1998"]


def test_a_model_is_shown_with_layers_costs_fields_and_graph(call: Call, tmp_path: Path) -> None:
    text = call("models", "lenet5_1998", "--dense", "--picture", tmp_path / "graph.svg").stdout
    assert "Gradient-Based Learning Applied to Document Recognition" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["c3"] in (
        ["TableConv2d", "16×10×10", "1,516", "150,000", "14×14", "2×2"],
        ["300,000", "3,761,600", "13", "1,881,600", "150,000", "1,500", "100", "13"],
    )
    assert rows["total"] == ["1×32×32", "in", "60,000", "328,096"]
    assert (tmp_path / "graph.svg").read_text().startswith("<?xml")


def test_a_model_with_options_and_another_input(call: Call) -> None:
    text = call("models", "lenet5", "-o", "classes=3", "-o", "activation=relu", "--input-shape", "1,28,28").stdout
    assert re.search(r"^c1_activation +ReLU", text, re.M)
    assert re.search(r"^output +Linear +3 ", text, re.M)


def test_datasets_say_whether_they_are_there(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "something").write_text("")
    rows = {
        line.split()[0]: line.split()[-1] for line in call("datasets", "--root", tmp_path).stdout.splitlines() if line
    }
    assert (rows["digits"], rows["mnist"], rows["cifar10"]) == ("in", "yes", "no")
    text = call("datasets", "cifar10", "--root", tmp_path).stdout
    assert str(tmp_path / "cifar10") in text
    assert "50,000 to train on, 10,000 to test with" in text


def test_inspect_writes_everything(call: Call, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    text = call("inspect", model, "-d", "digits", "--index", "3", "--out", out).stdout
    assert "61,706" in text
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    layers = ["01-c1", "02-c1_activation", "03-s2", "04-c3", "05-c3_activation", "06-s4", "07-flatten", "08-f5",
              "09-f5_activation", "10-f6", "11-f6_activation", "12-output"]  # fmt: skip
    kernels = ["01-c1", "04-c3", "08-f5", "10-f6", "12-output"]
    assert written == {
        *("layers.txt", "dense.txt", "graph.png", "graph.svg", "picture.png", "outputs.png", "histograms.png"),
        *(
            "equivariance.txt",
            "equivariance.png",
            "dead.txt",
            "index.html",
            "maps/00-input.png",
            "gradients/00-input.png",
        ),
        *(f"maps/{name}.png" for name in layers),
        *(f"delta/{name}.png" for name in layers),
        *(f"kernels/{name}.png" for name in kernels),
        *(f"gradients/{name}.png" for name in kernels),
    }
    page = (out / "index.html").read_text()
    assert all(f'src="{name}"' in page for name in written if name.endswith(".png"))
    assert "<script" not in page
    assert f"{len(written)} files in" in text
    assert re.search(r"^c1_activation +ReLU +6 +", (out / "dead.txt").read_text(), re.M)
    assert re.search(r"^c1 +shift 1,1 +\+1\.0000 ", (out / "equivariance.txt").read_text(), re.M)


def test_inspect_of_one_picture_and_one_layer(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    call("inspect", model, "--image", pictures / "a.png", "--target", "7", "--layer", "c3", "--out", tmp_path / "seen")
    names = sorted(path.relative_to(tmp_path / "seen").as_posix() for path in (tmp_path / "seen").rglob("*.png"))
    assert [name for name in names if "/" in name] == [
        "delta/04-c3.png", "gradients/00-input.png", "gradients/04-c3.png", "kernels/04-c3.png", "maps/00-input.png",
        "maps/04-c3.png",
    ]  # fmt: skip


def test_inspect_of_an_untrained_architecture(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("inspect", "lenet5_1998")
    assert {path.name for path in (tmp_path / "inspect-lenet5_1998").iterdir()} == {
        "layers.txt", "dense.txt", "graph.png", "graph.svg", "kernels", "index.html",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "nothing.safetensors"], "nothing.safetensors: no such file"),
        (["evaluate", "PICTURE"], "not a safetensors file"),
        (["evaluate", "CUT"], "cut short"),
        (["evaluate", "CHANGED"], "damaged"),
        (["evaluate", "MODEL", "-d", "mnits"], "Did you mean 'mnist'"),
        (
            ["evaluate", "MODEL", "--confusion", "c.gif"],
            r"path: got 'c.gif', wanted a file name ending in .png or .svg",
        ),
        (["evaluate", "MODEL", "--split", "validation"], "'validation' is not one of"),
        (["evaluate", "MODEL", "--batch-size", "0"], "0 is not in the range"),
        (["predict", "MODEL"], "Missing argument 'INPUTS"),
        (["predict", "MODEL", "nowhere.png"], "nowhere.png: no such file or folder"),
        (["predict", "MODEL", "LABELS"], "labels.txt: not a picture that can be read"),
        (["predict", "MODEL", "EMPTY"], "empty: a folder without pictures. Picture files end in bmp, gif"),
        (["predict", "MODEL", "BROKEN"], "broken.png: damaged or cut short picture"),
        (["predict", "a.png", "a.png"], "a.png: no such file"),
        (["predict", "MODEL", "PICTURE", "--top", "0"], "0 is not in the range"),
        (["models", "lenet"], "Did you mean 'lenet5'"),
        (["models", "lenet5", "-o", "clases=3"], "option of lenet5: got 'clases'"),
        (["models", "lenet5", "-o", "classes=0"], "classes: got 0, wanted an integer ≥ 1"),
        (
            ["models", "lenet5", "--input-shape", "3,32,32"],
            r"input_shape: got \(3, 32, 32\), wanted a shape this model takes",
        ),
        (["models", "lenet5", "--input-shape", "big"], "got 'big', wanted C,H,W"),
        (["models", "lenet5", "--picture", "graph.jpg"], "wanted a file name ending in .png or .svg"),
        (["models", "--dense"], "need a NAME"),
        (["models", "--filter", "nothing like it"], "No model has 'nothing like it'"),
        (["datasets", "cifar"], "Did you mean 'cifar10'"),
        (["datasets", "--filter", "nothing"], "No data set has 'nothing'"),
        (["inspect", "lenet6"], "Did you mean 'lenet5'"),
        (["inspect", "MODEL", "-o", "pool=max"], "a saved one is built already"),
        (["inspect", "MODEL", "-d", "digits", "--image", "PICTURE"], "Give --data or --image, not both"),
        (["inspect", "MODEL", "--target", "3"], "--index and --target need --data or --image"),
        (
            ["inspect", "MODEL", "-d", "digits", "--index", "9999"],
            "index: got 9999, wanted a test picture's number, 0…358",
        ),
        (["inspect", "MODEL", "-d", "digits", "--target", "seven"], "target: got 'seven', wanted one of 0, 1, 2"),
        (["inspect", "MODEL", "--layer", "c33"], "layer: got 'c33'.*Did you mean 'c3'"),
        (["inspect", "MODEL", "-d", "digits", "--loss", "hing"], "loss: got 'hing'.*Did you mean 'hinge'"),
        (["inspect", "MODEL", "--out", "LABELS"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused(
    error: Call,
    model: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    whole = model.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "changed.safetensors").write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    shutil.copy(pictures / "labels.txt", tmp_path)
    places = {
        "MODEL": model, "PICTURE": pictures / "a.png", "LABELS": tmp_path / "labels.txt", "EMPTY": tmp_path / "empty",
        "CUT": tmp_path / "cut.safetensors", "CHANGED": tmp_path / "changed.safetensors",
        "BROKEN": tmp_path / "broken.png",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = " ".join(error(*(places.get(item, item) for item in arguments)).stderr.split())
    assert re.search(said, text), text
