"""What every model of the catalogue must keep, whichever it is."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.model_tasks import TASKS, asked, class_scores
from tests.oracles import worst
from tests.tiers import by_family
from torch import Tensor, nn

from convscope import load, save
from convscope.layers import LOSSES, AuxiliaryOutputs, Loss, initialise
from convscope.models import MODELS, Entry, create_model, list_models, portable, spec_of
from convscope.rules import tape

COVERED = [name for name in list_models() if MODELS[name].card.task in TASKS]

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


@functools.lru_cache(maxsize=1)
def economical(name: str) -> nn.Module:
    """The cheapest build of the entry, on its smallest pictures; the tests of one entry share it and leave it so."""
    torch.manual_seed(0)
    card = MODELS[name].card
    options: dict[str, Any] = dict(card.economical)
    if card.minimum_size is not None:
        options["input_size"] = card.minimum_size
    return create_model(name, **options)


@functools.lru_cache(maxsize=1)
def hollow(name: str) -> nn.Module:
    """The paper's build without memory for its weights: the largest would fill half a gigabyte."""
    entry = MODELS[name]
    with torch.device("meta"):
        return entry.create(entry.card.classes, entry.card.input_shape[0], {}).eval()


def picture_shape(model: nn.Module) -> tuple[int, ...]:
    described = spec_of(model)
    assert described is not None
    return described.input_shape


def pictures(model: nn.Module, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Any]:
    described = spec_of(model)
    assert described is not None
    generator = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, *picture_shape(model), generator=generator, dtype=dtype)
    return x, asked(described.architecture).targets(torch.arange(batch), picture_shape(model))


def without_chance(model: nn.Module) -> nn.Module:
    """In training mode, but for dropout: the two sides of a comparison must see the same network."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return model


def card_loss(entry: Entry, model: nn.Module) -> Loss:
    found: Loss = asked(entry.name).loss(entry, model)
    return found


@pytest.fixture(scope="module", params=by_family(COVERED))
def name(request: pytest.FixtureRequest) -> str:
    """Each entry in turn; of module scope, so that all tests of one entry run before the next is built."""
    found: str = request.param
    return found


@pytest.mark.parametrize("name", COVERED, scope="class")
class TestEveryCard:
    """Without weights: shapes and counts alone."""

    def test_card(self, name: str) -> None:
        card = MODELS[name].card
        assert card.loss in LOSSES
        assert len(card.input_shape) == 3
        assert 1980 < card.year < 2100
        assert all((card.title, card.paper, card.published, card.family))

    def test_parameters_are_exactly_the_cards(self, name: str) -> None:
        entry = MODELS[name]
        assert sum(each.numel() for each in hollow(name).parameters()) == entry.card.parameters

    def test_other_classes_and_channels(self, name: str) -> None:
        card = MODELS[name].card
        with torch.device("meta"):
            model = create_model(name, classes=7, in_channels=5)
            y = model.eval()(torch.zeros(2, 5, *card.input_shape[1:]))
        assert y.shape == asked(name).answer(2, 7, card.input_shape)
        assert picture_shape(model) == (5, *card.input_shape[1:])

    def test_printed_shapes(self, name: str) -> None:
        entry = MODELS[name]
        found: dict[str, tuple[int, ...]] = {}

        def note(path: str) -> Any:
            return lambda module, inputs, output: found.__setitem__(path, tuple(output.shape[1:]))

        model = hollow(name)
        with torch.device("meta"):
            for path, _ in entry.card.shapes:
                model.get_submodule(path).register_forward_hook(note(path))
            y = model(torch.zeros(3, *entry.card.input_shape))
        assert y.shape == asked(name).answer(3, entry.card.classes, entry.card.input_shape)
        assert found == dict(entry.card.shapes)

    def test_small_pictures(self, name: str) -> None:
        entry = MODELS[name]
        if "small" not in entry.options():
            assert "small" not in dict(entry.card.economical)
            return
        with torch.device("meta"):
            model = create_model(name, classes=10, small=True)
            y = model.eval()(torch.zeros(2, *picture_shape(model)))
        assert picture_shape(model)[1:] == (entry.card.small_size,) * 2
        assert y.shape == asked(name).answer(2, 10, picture_shape(model))


class TestEveryModel:
    """With weights, in the cheapest build."""

    def test_every_parameter_gets_a_finite_gradient(self, name: str) -> None:
        model = without_chance(economical(name))
        x, targets = pictures(model, 2)
        parameters = dict(model.named_parameters())
        outputs = model(x)
        assert isinstance(outputs, Tensor | AuxiliaryOutputs)
        gradients = torch.autograd.grad(
            card_loss(MODELS[name], model).value(outputs, targets), list(parameters.values())
        )
        for path, gradient in zip(parameters, gradients, strict=True):
            assert torch.isfinite(gradient).all(), path
        assert any(gradient.any() for gradient in gradients)

    def test_rules_equal_autograd(self, name: str) -> None:
        model = economical(name)
        state = {path: value.clone() for path, value in model.state_dict().items()}
        without_chance(model.double())
        with torch.no_grad():  # away from its start, which may be at a kink: a sampler's places are whole pixels there
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=1e-3)
        # 3 pictures: with 2, batch normalisation of 1×1 maps gives ±1 whatever comes in, and all gradients are noise
        x, targets = pictures(model, 3, torch.float64)
        loss = card_loss(MODELS[name], model)
        outputs = model(x)
        expected = torch.autograd.grad(loss.value(outputs, targets), list(model.parameters()))
        ran = tape.forward(model, x)
        _, delta = loss.value_and_delta(ran.output, targets)
        gradients = ran.backward(delta).gradients
        errors = {
            path: worst(gradients[path], wanted)
            for (path, _), wanted in zip(model.named_parameters(), expected, strict=True)
        }
        model.float().load_state_dict(state)
        path, error = max(errors.items(), key=lambda item: item[1])
        assert error < 1e-6, path

    def test_it_learns_eight_pictures_by_heart(self, name: str) -> None:
        """From He's weights by Adam: in at most 600 steps the loss falls to a quarter, and all eight are right.

        The classes are those eight of 32 whose scores start highest: where the scores come from a ReLU, some start at 0
        for all pictures and have no gradient to come back by. A model that answers for every pixel has eight classes,
        and is right where it is so in the mean over the picture.
        """
        card = MODELS[name].card
        options: dict[str, Any] = dict(card.economical)
        if card.minimum_size is not None:
            options["input_size"] = card.minimum_size
        torch.manual_seed(0)
        classes = 8 if card.loss == "rbf" else asked(name).classes  # the RBF's bitmaps are of ten digits
        model = without_chance(initialise(create_model(name, classes=classes, **options), "he_normal", seed=0))
        loss = card_loss(MODELS[name], model)
        x, _ = pictures(model, 8)
        with torch.no_grad():
            chosen = class_scores(loss.predictions(model(x))).amin(0).argsort(descending=True)[:8]
        targets = asked(name).targets(chosen, x.shape[1:])
        optimiser = torch.optim.Adam(model.parameters(), lr=asked(name).rate, fused=True)
        first = 0.0
        for _ in range(600):
            outputs = model(x)
            value = loss.value(outputs, targets)
            first = first or value.item()
            right = int((class_scores(loss.predictions(outputs)).argmax(1) == chosen).sum())
            if right == 8 and value.item() < first / 4:
                break
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        assert (right, value.item() < first / 4) == (8, True), f"loss {first} → {value.item()}"

    def test_its_file_is_the_same_network(self, name: str, tmp_path: Path) -> None:
        model = economical(name).eval()
        again = load(save(model, tmp_path / "model.safetensors")).eval()
        assert spec_of(again) == spec_of(model)
        assert list(again.state_dict()) == list(model.state_dict())
        x, _ = pictures(model, 1)
        with torch.no_grad():
            assert torch.equal(again(x), model(x))

    def test_portable_description_is_the_same_network(self, name: str) -> None:
        model = economical(name).eval()
        description = json.loads(json.dumps(portable.describe(model)))
        rebuilt = portable.build(description).eval()
        assert set(rebuilt.state_dict()) == set(model.state_dict())
        rebuilt.load_state_dict(model.state_dict())
        x, _ = pictures(model, 1)
        with torch.no_grad():
            assert torch.equal(rebuilt(x), model(x))
