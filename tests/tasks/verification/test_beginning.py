"""Where the networks for faces begin: edges, maps handed on, whitened features; patches; shrunk covariances."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from convscope.experiments.faces_orl import paired
from convscope.models import create_model
from convscope.models.deepid import DeepID, DeepIDPatches, DeepIDVerifier
from convscope.models.pyramid_cnn import PyramidCNN
from convscope.tasks.verification.beginning import (
    begin_deepid,
    begin_filters,
    begin_pyramid,
    edges,
    handing_on,
    whitening,
)
from convscope.tasks.verification.joint_bayesian import JointBayesian, fit_joint_bayesian


def people(count: int = 6, each: int = 5, size: tuple[int, int] = (24, 20)) -> tuple[torch.Tensor, torch.Tensor]:
    """Blotches of each person's own, with noise: (n, 1, height, width) from 0 to 1."""
    chance = torch.Generator().manual_seed(3)
    own = F.interpolate(torch.rand(count, 1, 4, 3, generator=chance), size=size).repeat_interleave(each, 0)
    x = own + 0.1 * torch.randn(own.shape, generator=chance)
    return x.clamp(0, 1), torch.arange(count).repeat_interleave(each)


def test_edges_answer_to_their_direction_alone() -> None:
    found = edges(8, 2, 3)
    assert torch.allclose(found.abs().sum((1, 2, 3)), torch.ones(8))
    assert torch.allclose(found.sum((1, 2, 3)), torch.zeros(8), atol=1e-6)
    assert torch.allclose(found[:4], -found[4:], atol=1e-6)
    rising = torch.arange(5.0).expand(1, 2, 5, 5)  # from left to right
    answers = F.conv2d(rising, found).mean((0, 2, 3))
    assert int(answers.argmax()) == 0
    assert answers[2].abs() < 1e-6


def test_maps_are_handed_on_smoothed() -> None:
    weight = handing_on(5, 3, 3)
    constant = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert torch.allclose(F.conv2d(constant, weight)[0, :, 0, 0], torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0]))
    assert weight[0, 0, 1, 1] > weight[0, 0, 0, 1] > weight[0, 0, 0, 0] > 0
    network = create_model("deepid")
    assert isinstance(network, DeepID)
    begin_filters([network.conv1, network.conv2, network.conv3, network.conv4])
    assert torch.equal(network.conv4.weight[0, 0], handing_on(80, 60, 2))
    assert not network.conv3.bias.any()  # type: ignore[union-attr]


def test_whitened_features_differ_evenly_within_people() -> None:
    chance = torch.Generator().manual_seed(0)
    numbers = torch.arange(40).repeat_interleave(20)
    stretched = torch.tensor([5.0, 1.0, 0.2, 3.0]).double()
    x = torch.randn(40, 4, generator=chance).double()[numbers] + torch.randn(800, 4, generator=chance) * stretched
    mean, projection = whitening(x, numbers, 4, 0.0)
    z = (x - mean) @ projection.t()
    centres = torch.stack([z[numbers == person].mean(0) for person in range(40)])
    inside = z - centres[numbers]
    assert torch.allclose(inside.t() @ inside / 800, torch.eye(4).double(), atol=1e-8)
    assert torch.allclose(z.mean(0), torch.zeros(4).double(), atol=1e-9)
    _, bounded = whitening(x, numbers, 2, 1.0)
    assert bounded.shape == (2, 4)
    assert bounded.norm() < projection.norm()


def test_a_pyramid_begins_with_people_apart() -> None:
    x, numbers = people()
    model = create_model("pyramid_cnn", maps=[8, 8], features=12, input_size=(24, 20), normalised=True)
    assert isinstance(model, PyramidCNN)
    begin_filters([model.get_submodule("filters.level1"), model.get_submodule("filters.level2")])
    begin_pyramid(model, x, numbers)
    features = model.features(x)
    assert torch.allclose(features.norm(dim=1), torch.ones(len(x)), atol=1e-5)
    assert torch.allclose(model.features(x.flip(3)), features, atol=1e-5)
    assert torch.allclose(model.features(0.5 * x + 0.2), features, atol=1e-3)  # brightness and contrast do not matter
    first, second = torch.triu_indices(len(x), len(x), 1)
    with torch.no_grad():
        said = model(x[first], x[second]) <= 0
    assert float((said == (numbers[first] == numbers[second])).double().mean()) > 0.95


def test_deepid_begins_with_principal_components_of_its_patches() -> None:
    x, numbers = people(size=(78, 62))
    model = create_model("deepid", classes=6, input_size=(78, 62), patches=True)
    assert isinstance(model, DeepIDPatches)
    seen = model.seen(x)
    assert [tuple(each.shape[2:]) for each in seen] == [(39, 31)] * 6
    whole = model.standardise(x)
    assert torch.equal(torch.cat((torch.cat(seen[1:3], 3), torch.cat(seen[3:5], 3)), 2), whole)
    assert torch.equal(seen[5], whole[:, :, 19:58, 15:46])
    begin_deepid(model, x)
    network = model.networks[0]
    assert isinstance(network, DeepID)
    with torch.no_grad():
        maps, features = network.joined(seen[0]), network.features(seen[0])
    far, near = torch.cdist(maps, maps), torch.cdist(features, features)
    assert float(torch.corrcoef(torch.stack((far.flatten(), near.flatten())))[0, 1]) > 0.99  # nothing is lost
    assert model.features(x).shape == (30, 960)
    assert model(x).shape == (30, 6)
    assert torch.allclose(model(x), torch.stack([model.networks[k](seen[k]) for k in range(6)]).mean(0), atol=1e-5)
    assert numbers.max() == 5


def test_a_verifier_of_patches_compares_at_length_1() -> None:
    model = create_model("deepid_verifier", classes=6, dimensions=4, input_size=(78, 62), patches=True)
    assert isinstance(model, DeepIDVerifier)
    with torch.no_grad():
        model.get_buffer("projection").normal_()
    x, _ = people(2, 1, (78, 62))
    assert torch.allclose(model.coded(x).norm(dim=1), torch.ones(2), atol=1e-5)
    model.get_buffer("centre").fill_(0.5)
    assert torch.allclose((model.coded(x) + 0.5).norm(dim=1), torch.ones(2), atol=1e-5)
    assert "centre" not in create_model("deepid_verifier").state_dict()


def test_wholly_shrunk_joint_bayesian_ranks_as_the_cosine() -> None:
    chance = torch.Generator().manual_seed(1)
    numbers = torch.arange(12).repeat_interleave(6)
    x = torch.randn(12, 5, generator=chance).double()[numbers] + 0.5 * torch.randn(72, 5, generator=chance)
    x = F.normalize(x)
    fitted = fit_joint_bayesian(x, numbers)
    assert torch.equal(fitted.shrunk(0).between, fitted.between)
    even = JointBayesian(torch.zeros(5).double(), fitted.between, fitted.within, ()).shrunk(1)
    assert torch.allclose(even.within, fitted.within.diagonal().mean() * torch.eye(5).double())
    half = fitted.shrunk(0.5)
    assert torch.allclose(half.between, (fitted.between + fitted.shrunk(1).between) / 2)
    first, second = torch.triu_indices(72, 72, 1)
    cosine = (x[first] * x[second]).sum(1)
    assert float(torch.corrcoef(torch.stack((even.scores(x[first], x[second]), cosine)))[0, 1]) > 1 - 1e-9


def test_differences_are_paired_over_folds() -> None:
    mean, error = paired([0.9, 0.8, 1.0], [0.8, 0.7, 0.6])
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(0.1)
    assert paired([0.9], [0.8])[1] == 0
