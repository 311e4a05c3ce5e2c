"""Committees: the mean of what the members say by themselves, in one file, and refusals that name the member."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope import spec
from convscope.data import Dataset, load_dataset
from convscope.errors import ArgumentError, CheckpointError
from convscope.inspect import trace
from convscope.models import create_model, spec_of
from convscope.models.committee import Committee
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.committee.agreement import agreement, study, subsets
from convscope.tensorfile import write_tensors
from convscope.training.inference import prepare_inference

DIGITS = tuple(map(str, range(10)))


def member(seed: int, width: int | None = None, mean: float = 0.3, loss: str = "", **changes: Any) -> nn.Module:
    """A LeNet-5 for 28×28 pictures that nobody trained."""
    torch.manual_seed(seed)
    model = create_model("lenet5", activation="relu")
    options = {"channels": 1, "size": (28, 28), "mean": (mean,), "std": (0.2 + mean,), "fit": "resize", "width": width}
    described = spec_of(model)
    assert described is not None
    classes = changes.pop("classes", DIGITS)
    return spec.attach(
        model.eval(), described.replace(classes=classes, preprocessing=Preprocessing(**{**options, **changes}))
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_dataset("digits")
    return Dataset("digits", data.train.select(torch.arange(20)), data.test.select(torch.arange(40)))


@pytest.fixture(scope="module")
def members() -> list[nn.Module]:
    return [member(1), member(2, width=16, mean=0.1), member(3, width=10), member(4, width=16, mean=0.5)]


def told(model: nn.Module, images: Tensor, engine: str = "torch") -> Tensor:
    return torch.tensor([each.probabilities for each in convscope.predict(model, images, engine=engine)])


def test_it_is_the_mean_of_what_the_members_say(digits: Dataset, members: list[nn.Module]) -> None:
    images = digits.test.images
    alone = torch.stack([told(each, images) for each in members])
    assert (alone[0] - alone[1]).abs().max() > 0.01
    assert torch.allclose(told(convscope.committee(members), images), alone.mean(0), atol=1e-6)
    assert not torch.allclose(told(convscope.committee(members[:3]), images), alone.mean(0), atol=1e-5)


def test_forward_is_the_logarithm_of_that_mean(digits: Dataset, members: list[nn.Module]) -> None:
    """Widths, means and deviations inside the network: what the explorer and a trace see is what predict says."""
    model = convscope.committee(members)
    described = spec_of(model)
    assert described is not None
    assert described.preprocessing == Preprocessing(1, (28, 28), (0.0,), (1.0,))
    x = described.preprocessing.normalise(convscope.data.prepare(digits.test.images, described.preprocessing))
    with torch.no_grad():
        scores = model(x)
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(x)), atol=1e-5)
    assert torch.allclose(scores.exp(), told(model, digits.test.images), atol=1e-5)
    seen = trace(model, x[:2], target=torch.tensor([1, 2]))
    assert torch.allclose(seen.logits, scores[:2], atol=1e-5)


def test_members_of_other_last_layers(digits: Dataset) -> None:
    """Softmax, sigmoid and distances: probabilities as predict makes them of each."""
    models: list[nn.Module] = []
    for last in (nn.Softmax(1), nn.Sigmoid(), nn.Tanh(), nn.LogSoftmax(1)):
        torch.manual_seed(len(models))
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), last)
        size = Preprocessing(1, (8, 8), (0.2,), (0.3,))
        models.append(spec.attach(net, convscope.models.portable.describe_spec(net, (1, 8, 8), DIGITS)))
        described = spec_of(net)
        assert described is not None
        spec.attach(net, described.replace(preprocessing=size))
    images = digits.test.images
    alone = torch.stack([told(each, images) for each in models])
    assert torch.allclose(told(convscope.committee(models), images), alone.mean(0), atol=1e-6)


def test_one_file_holds_them_all(digits: Dataset, members: list[nn.Module], tmp_path: Path) -> None:
    model = convscope.committee(members)
    again = convscope.load(convscope.save(model, tmp_path / "committee.safetensors"))
    assert isinstance(again, Committee)
    assert spec_of(again) == spec_of(model)
    assert torch.equal(told(again, digits.test.images), told(model, digits.test.images))
    for own, other in zip(again.members, members, strict=True):
        assert spec_of(own) == spec_of(other)
    nested = convscope.committee([again, convscope.committee(members[:1])])
    found = told(convscope.load(convscope.save(nested, tmp_path / "nested.safetensors")), digits.test.images)
    expected = (told(model, digits.test.images) + told(members[0], digits.test.images)) / 2
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_file_that_names_other_files_is_refused(members: list[nn.Module], tmp_path: Path) -> None:
    model = convscope.committee(members[:1])
    described = spec_of(model)
    assert described is not None
    saved = copy.deepcopy(described.to_json())
    saved["options"]["members"][0]["options"]["weights"] = "/etc/passwd"
    path = tmp_path / "bad.safetensors"
    write_tensors(path, model.state_dict(), {"format": 2, "kind": "model", "model": saved})
    with pytest.raises(CheckpointError, match="members: .*options of the architecture alone"):
        convscope.load(path)


def test_both_engines_answer_alike(digits: Dataset, members: list[nn.Module]) -> None:
    model = convscope.committee(members)
    described = spec_of(model)
    assert described is not None
    torch_only = prepare_inference(model, described.inputs, "torch")
    assert torch_only.reason.startswith("4 members, each by itself")
    figures = {engine: convscope.evaluate(model, digits, engine=engine) for engine in ("torch", "auto")}
    assert figures["auto"].accuracy == pytest.approx(figures["torch"].accuracy, abs=1 / 40)
    assert figures["auto"].loss == pytest.approx(figures["torch"].loss, rel=1e-3)
    with pytest.raises(ArgumentError, match="engine"):
        prepare_inference(model, described.inputs, "rules")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"classes": DIGITS[::-1]}, r"models\[1\]: got .classes \('9', .*wanted those of models\[0\]"),
        ({"size": (28, 27)}, r"models\[1\]: got 'pictures of 1×28×27', wanted those of models\[0\], 1×28×28"),
        ({"channels": 3, "mean": (0, 0, 0), "std": (1, 1, 1)}, r"got 'pictures of 3×28×28', wanted .*1×28×28"),
        ({"fit": "pad"}, r"models\[1\]: got .pictures fitted by 'pad'., wanted by 'resize', as models\[0\]"),
    ],
)
def test_unlike_members_are_refused_by_name(other: dict[str, Any], said: str) -> None:
    changes = {name: value for name, value in other.items() if name != "mean"}
    odd = member(2, **changes) if "mean" not in other else _with(member(2), other)
    with pytest.raises(ArgumentError, match=said):
        convscope.committee([member(1), odd])


def _with(model: nn.Module, values: dict[str, Any]) -> nn.Module:
    described = spec_of(model)
    assert described is not None
    return spec.attach(model, described.replace(preprocessing=Preprocessing(size=(28, 28), **values)))


def test_what_is_no_trained_classifier_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"models: got 'list', wanted a list of at least one trained model"):
        convscope.committee([])
    with pytest.raises(ArgumentError, match=r"models\[1\]: got 'Sequential', wanted trained classifiers"):
        convscope.committee([member(1), create_model("lenet5")])
    torch.manual_seed(0)
    odd = member(2)
    described = spec_of(odd)
    assert described is not None
    pictures = Input("pictures", (1, 28, 28), described.preprocessing)
    spec.attach(odd, described.replace(task="detection", inputs=(pictures,), answers=Answers("boxes", DIGITS)))
    with pytest.raises(ArgumentError, match=r"models\[1\]: got 'a model for detection'"):
        convscope.committee([member(1), odd])
    with pytest.raises(ArgumentError, match="members: got 'x', wanted a list of descriptions"):
        create_model("committee", members="x")


def test_agreement_by_hand() -> None:
    """Three members, four examples of two classes; rows are probabilities of class 1."""
    sure = torch.tensor([[0.9, 0.1, 0.9, 0.4], [0.8, 0.2, 0.1, 0.4], [0.1, 0.3, 0.7, 0.1]])
    found = torch.stack((1 - sure, sure), 2)
    labels = torch.tensor([1, 0, 1, 1])
    result = agreement(found, labels, ("a", "b", "c"))
    assert result.errors == (0.25, 0.5, 0.5)
    assert result.nobody_right == 0.25
    assert result.all_agree == 0.5
    assert result.agree[0] == (1.0, 0.75, 0.75)
    by_size = {each.members: each for each in result.together}
    # means of two: a,b (.85 .15 .5 .4) → 1 0 0 0; a,c (.5 .2 .8 .25) → 0 0 1 0; b,c (.45 .25 .4 .25) → 0 0 0 0
    assert by_size[2].mean == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert (by_size[1].least, by_size[1].most) == (0.25, 0.5)
    assert by_size[3].mean == result.error == 0.25  # .6 .2 .567 .3
    assert "nobody is right on 25.00%" in result.table()
    assert type(result).from_json(result.to_json()) == result
    with pytest.raises(ArgumentError, match="found: got"):
        agreement(found, labels[:2], ("a", "b", "c"))


def test_subsets_are_all_or_a_hundred_by_seed() -> None:
    assert subsets(4, 2, 0) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    drawn = subsets(35, 5, 0)
    assert len(set(drawn)) == 100
    assert drawn == subsets(35, 5, 0)
    assert drawn != subsets(35, 5, 1)


def test_a_study_measures_the_members(digits: Dataset, members: list[nn.Module]) -> None:
    model = convscope.committee(members)
    found = study(model, digits.test, ("a", "b", "c", "d"), engine="torch")
    for place, each in enumerate(members):
        assert found.errors[place] == pytest.approx(convscope.evaluate(each, digits, engine="torch").error)
    assert found.error == pytest.approx(convscope.evaluate(model, digits, engine="torch").error)
    with pytest.raises(ArgumentError, match="model: got 'Sequential', wanted a committee"):
        study(members[0], digits.test, ("a",))
