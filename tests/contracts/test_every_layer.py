"""What every layer of ours must keep; a layer is enrolled by being a public module of ``convscope.layers``."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import json
import pkgutil

import pytest
import torch
from tests.contracts.calls import Beside, layer_call, model_of
from tests.oracles import check_model
from torch import nn

from convscope import count, layers, load, save
from convscope.models import portable
from convscope.rules import base


def composed(layer: type[nn.Module]) -> bool:
    """Whether it is made of layers that are looked into one by one; such ones have no rule of their own."""
    return bool(getattr(layer, "looked_into", False))


def every_layer() -> dict[str, type[nn.Module]]:
    found = {}
    for info in pkgutil.walk_packages(layers.__path__, layers.__name__ + "."):
        module = importlib.import_module(info.name)
        for name, item in vars(module).items():
            ours = isinstance(item, type) and issubclass(item, nn.Module) and item.__module__ == info.name
            if ours and not name.startswith("_") and not inspect.isabstract(item) and not composed(item):
                found[name] = item
    return found


LAYERS = every_layer()


@pytest.mark.parametrize("name", sorted(LAYERS))
class TestEveryLayer:
    def test_it_is_public_and_says_what_it_is(self, name: str) -> None:
        assert getattr(layers, name) is LAYERS[name]
        assert name in layers.__all__
        text = inspect.getdoc(LAYERS[name]) or ""
        assert len(text.split()) > 3
        assert text != inspect.getdoc(LAYERS[name].__mro__[1]), "its own, not its parent's"

    def test_it_has_a_rule_and_goes_back_by_it(self, name: str) -> None:
        layer, inputs = layer_call(LAYERS[name])
        assert base.has_rule(layer)
        check_model(model_of(layer, inputs), *inputs, expected_rules=1)

    def test_it_is_rebuilt_from_its_description(self, name: str) -> None:
        layer, inputs = layer_call(LAYERS[name])
        model = model_of(layer, inputs).eval()
        again = portable.build(json.loads(json.dumps(portable.describe(model, inputs)))).double().eval()
        assert repr(again.get_submodule("0")) == repr(layer)
        assert {key: value.shape for key, value in again.state_dict().items()} == {
            key: value.shape for key, value in model.state_dict().items()
        }
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(*inputs), model(*inputs))

    def test_its_state_goes_through_a_file(self, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        layer, inputs = layer_call(LAYERS[name])
        model = model_of(layer, inputs).float().eval()
        shapes = tuple(tuple(x.shape[1:]) for x in inputs)
        shape = shapes[0] if len(shapes) == 1 else shapes
        path = save(model, tmp_path_factory.mktemp("layer") / "model.safetensors", input_shape=shape)
        again = load(path).eval()
        assert list(again.state_dict()) == list(model.state_dict())
        given = [x.float() for x in inputs]
        assert torch.equal(again(*given), model(*given))

    def test_it_is_copied_whole(self, name: str) -> None:
        """As the trainer, data-parallel copies and threads do it."""
        layer, inputs = layer_call(LAYERS[name])
        other = copy.deepcopy(layer)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(1.0)
            assert all(not torch.equal(p, q) for p, q in zip(layer.parameters(), other.parameters(), strict=True))
        buffer = io.BytesIO()
        torch.save(other.state_dict(), buffer)
        buffer.seek(0)
        layer.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(layer(*inputs), other(*inputs))

    def test_it_is_counted(self, name: str) -> None:
        layer, inputs = layer_call(LAYERS[name])
        model = Beside(layer, tuple(each[:1].float() for each in inputs[1:]))
        (row,) = count(model.float(), tuple(inputs[0].shape[1:]))
        assert row.parameters == sum(each.numel() for each in layer.parameters())
        assert row.operations >= 0
