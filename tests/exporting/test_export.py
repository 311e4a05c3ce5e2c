"""Models as ONNX files: what ONNX Runtime answers beside the model itself, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convscope
from convscope.errors import ArgumentError, ExportError
from convscope.exporting import export_onnx
from convscope.exporting.graphs import examples_of
from convscope.models.catalog import MODELS
from convscope.spec import spec_of

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

QUICK = ("crnn", "deepid", "lenet5", "lenet5_1998", "mcdnn", "pyramid_cnn", "slides_stl10", "sparse_autoencoder",
         "squeezenet1_1", "stn_lenet", "text_cnn")  # fmt: skip
SLOW = ("densenet121", "deconvnet", "fcn8s", "googlenet_gray", "mobilenet_v2", "resnet18", "shufflenet_v1", "vgg11_bn")


def economical(name: str) -> nn.Module:
    card = MODELS[name].card
    options: dict[str, Any] = dict(card.economical)
    if card.minimum_size:
        options["input_size"] = card.minimum_size
    torch.manual_seed(0)
    return convscope.create_model(name, **options)


def answers(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {each.name: x.numpy() for each, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(each) for each in session.run(None, feeds)]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in SLOW)])
def test_models_of_the_catalogue(name: str, tmp_path: Path) -> None:
    """Compared here by other examples and another batch than ``export_onnx`` itself compares by."""
    model = economical(name).train()
    made = convscope.export_onnx(model, tmp_path / "m.onnx")
    assert model.training
    assert made.difference is not None
    assert made.difference <= 1e-4
    given = examples_of(model, 3)
    given = tuple(x * 0.7 if x.is_floating_point() else x for x in given)
    with torch.no_grad():
        wanted = model.eval()(*given)
    first = wanted if isinstance(wanted, Tensor) else wanted[0]
    found = answers(made.path, *given)[0]
    assert float((found - first).abs().max()) <= 1e-4 * float(first.abs().max())


class Counting(nn.Module):
    """Word vectors, and something that counts by the length of a sentence: pairs of neighbours, or a share of it."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        self.words, self.last = nn.Embedding(20, 4), nn.Linear(4 * 6, 3)
        self.register_buffer("kept", torch.arange(4.0) + 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)  # (n, t, 4)
        if self.by == "flat":
            return self._last(x.flatten(1))
        if self.by == "tall":
            x = (x.reshape(-1, 4) * self.kept).reshape(len(tokens), -1, 4)  # n · t rows
        if self.by == "twice":
            x = torch.cat((x, x.new_zeros(x.shape[0], x.shape[1] + 1, 4)), 1)
        return self._last(x.transpose(1, 2).amax(2, keepdim=True).expand(-1, 4, 6).flatten(1))

    def _last(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(x)
        return y


def test_sentences_of_any_length(tmp_path: Path) -> None:
    model = economical("text_cnn").eval()
    made = convscope.export_onnx(model, tmp_path / "m.onnx")
    shape = onnx.load(made.path).graph.input[0].type.tensor_type.shape
    assert [each.dim_param for each in shape.dim] == ["batch", "length"]
    for words in (1, 5, 56, 200):
        tokens = torch.randint(1, 50, (3, words))
        with torch.no_grad():
            torch.testing.assert_close(answers(made.path, tokens)[0], model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("by", "any_length"), [("twice", True), ("tall", False), ("flat", False)])
def test_what_counts_by_the_length(by: str, any_length: bool, tmp_path: Path) -> None:
    """A file takes any length, or is of one, which the runtime says; it never answers another sentence wrongly."""
    torch.manual_seed(0)
    model = Counting(by).eval()
    made = convscope.export_onnx(model, tmp_path / "m.onnx", (6,))
    dim = onnx.load(made.path).graph.input[0].type.tensor_type.shape.dim[1]
    assert (dim.dim_param == "length") is any_length
    tokens = torch.randint(0, 20, (2, 9))
    if any_length:
        torch.testing.assert_close(answers(made.path, tokens)[0], model(tokens).detach(), rtol=1e-4, atol=1e-5)
    else:
        assert dim.dim_value == 6
        with pytest.raises(Exception, match="Got: 9 Expected: 6"):
            answers(made.path, tokens)


class Named(NamedTuple):
    twice: Tensor
    shape: Tensor


class Everyday(nn.Module):
    """Views, writing in place, a loop, a size that is asked for, two answers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding="same", padding_mode="reflect")
        self.bn = nn.BatchNorm2d(4)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Named:
        y = self.bn(self.conv(x))
        y[:, 0] += 1
        for step in range(2):
            y = F.gelu(y).roll(step, 3)
        n, c, h, w = y.shape
        flat = y.view(n, c * h, w).transpose(1, 2)
        one, two = flat.chunk(2, dim=2)
        return Named(torch.softmax(one @ two.transpose(1, 2), -1) * self.scale, flat.mean((1, 2)).clamp(min=0))


def test_everyday_code_and_batches_of_any_size(tmp_path: Path) -> None:
    model = Everyday().eval()
    made = export_onnx(model, tmp_path / "m.onnx", (2, 6, 5))
    assert made.outputs == ("twice", "shape")
    for batch in (1, 4, 7):
        x = torch.randn(batch, 2, 6, 5)
        with torch.no_grad():
            wanted = model(x)
        for found, right in zip(answers(made.path, x), wanted, strict=True):
            assert torch.allclose(found, right, atol=1e-6)


def test_a_batch_of_fixed_size(tmp_path: Path) -> None:
    model = Everyday().eval()
    made = export_onnx(model, tmp_path / "m.onnx", inputs=[torch.randn(3, 2, 6, 5)], dynamic_batch=False)
    graph = onnx.load(made.path).graph
    assert [side.dim_value for side in graph.input[0].type.tensor_type.shape.dim] == [3, 2, 6, 5]


def test_preprocessing_in_the_graph_and_metadata(tmp_path: Path) -> None:
    model = convscope.fit("lenet5", "digits", epochs=1, max_steps=2, run_dir=str(tmp_path / "run")).model
    made = export_onnx(model, tmp_path / "m.onnx", preprocessing=True)
    assert made.inputs == ("pixels",)
    pixels = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    described = spec_of(model)
    assert described is not None
    assert described.preprocessing is not None
    with torch.no_grad():
        wanted = model.eval()(described.preprocessing.normalise(pixels))
    assert torch.allclose(answers(made.path, pixels)[0], wanted, atol=1e-5)
    metadata = {each.key: each.value for each in onnx.load(made.path).metadata_props}
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]
    assert metadata["task"] == "classification"
    assert json.loads(metadata["scaling_in_graph"]) is True


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class ByBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) > 2 else x * 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(Branching()), r"layer '0': what it does depends on the numbers that it is given"),
        (nn.Sequential(nn.ReLU(), Drawing()), r"layer '1': .*has no form in ONNX here"),
        (ByBatch(), r"the model: what the model does depends on how many examples are in a batch"),
    ],
)
def test_what_onnx_would_compute_otherwise_is_refused(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(model, tmp_path / "m.onnx", (3, 4, 4))
    assert not (tmp_path / "m.onnx").exists()


def test_a_wrong_node_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.exporting.writer import CONVERTERS

    right: Callable[..., Any] = CONVERTERS["aten.relu.default"]

    def of_negative(write: Any, result: Any, x: Any) -> Any:
        return right(write, result, write.node("Neg", x))

    monkeypatch.setitem(CONVERTERS, "aten.relu.default", of_negative)
    with pytest.raises(ExportError, match=r"ONNX Runtime's answers differ from the model's by"):
        export_onnx(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), tmp_path / "m.onnx", (1, 6, 6))


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="path: got .*wanted a file in a folder that is there"):
        export_onnx(nn.ReLU(), tmp_path / "no" / "m.onnx", (3,))
    with pytest.raises(ArgumentError, match="path: got .*wanted a file in a folder that is there"):
        export_onnx(nn.ReLU(), tmp_path, (3,))
    with pytest.raises(ArgumentError, match="preprocessing: got True, wanted a model with a description"):
        export_onnx(nn.ReLU(), tmp_path / "m.onnx", (3,), preprocessing=True)
    with pytest.raises(ArgumentError, match="inputs: got .*wanted a tensor an argument of forward"):
        export_onnx(nn.ReLU(), tmp_path / "m.onnx", inputs=[torch.tensor(1.0)])


def test_weights_carry_their_names(tmp_path: Path) -> None:
    model = economical("lenet5")
    made = export_onnx(model, tmp_path / "m.onnx", check=False)
    assert made.difference is None
    assert made.unchecked == "it was not asked for"
    held = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(made.path).graph.initializer}
    for name, parameter in model.named_parameters():
        assert numpy.array_equal(held[name], parameter.detach().numpy())
