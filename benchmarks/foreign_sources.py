"""Which models of others ``foreign_models.py`` tries, and how each is built small."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.foreign_sets import OWN
from torch import nn

from convscope import ops

Shape = tuple[Any, ...]
Built = Callable[[], tuple[nn.Module, Shape]]

#: torchvision's builders and the side of the picture, or the shapes of the inputs.
VISION: dict[str, int | Shape] = {
    "alexnet": 64, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "googlenet": 96, "inception_v3": 128, "maxvit_t": 64, "mnasnet0_5": 64, "mnasnet1_0": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "mobilenet_v3_large": 64, "regnet_y_400mf": 64, "regnet_x_400mf": 64, "resnet18": 64,
    "resnet50": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_0": 64,
    "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64, "vgg11": 64, "vgg11_bn": 64, "vit_b_32": 64,
    "segmentation.fcn_resnet50": 64, "segmentation.deeplabv3_mobilenet_v3_large": 64,
    "segmentation.lraspp_mobilenet_v3_large": 64, "video.r3d_18": (3, 4, 32, 32), "video.mc3_18": (3, 4, 32, 32),
    "video.r2plus1d_18": (3, 4, 32, 32), "video.s3d": (3, 14, 64, 64), "video.mvit_v1_b": (3, 4, 32, 32),
    "video.swin3d_t": (3, 4, 32, 32), "optical_flow.raft_small": ((3, 128, 128), (3, 128, 128)),
    "quantization.googlenet": 96, "quantization.inception_v3": 128, "quantization.mobilenet_v2": 64,
    "quantization.mobilenet_v3_large": 64, "quantization.resnet18": 64, "quantization.shufflenet_v2_x0_5": 64,
    "detection.ssdlite320_mobilenet_v3_large": 64, "detection.retinanet_resnet50_fpn": 64,
    "detection.fcos_resnet50_fpn": 64, "detection.fasterrcnn_mobilenet_v3_large_320_fpn": 64,
    "detection.maskrcnn_resnet50_fpn": 64, "detection.keypointrcnn_resnet50_fpn": 64,
}  # fmt: skip
#: What torchvision's builders are given to make their networks small.
MORE: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}, "vit_b_32": {"image_size": 64},
    "quantization.googlenet": {"init_weights": False}, "quantization.inception_v3": {"init_weights": False},
}  # fmt: skip
_MVIT = {"num_heads": [1, 2], "input_channels": [16, 32], "output_channels": [32, 32], "kernel_q": [[3, 3, 3]] * 2,
         "kernel_kv": [[3, 3, 3]] * 2, "stride_q": [[], [1, 2, 2]], "stride_kv": [[1, 4, 4], [1, 2, 2]]}  # fmt: skip
#: What makes families' members shallow; builders refuse what is not theirs.
SHALLOW: tuple[dict[str, Any], ...] = (
    {"depth": 2, "embed_dim": 96, "num_heads": 3}, {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)},
    {"layers": [1, 1, 1]}, {"depths": (1, 1, 1)}, {"depth": 2}, {},
)  # fmt: skip
MOST = 12_000_000  # parameters; the rules take each in float64
#: Of modules of timm in which the smallest model is no model of pictures, or large: the one to take, and what for.
CHOSEN: dict[str, tuple[str, dict[str, Any]]] = {
    "davit": ("davit_tiny", {"depths": (1, 1), "embed_dims": (48, 96), "num_heads": (3, 6)}),
    "vision_transformer": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64}),
    "eva": ("eva02_tiny_patch14_224", {"depth": 2, "img_size": 56}),
    "coat": ("coat_tiny", {"serial_depths": (1, 1, 1, 1), "parallel_depth": 1, "img_size": 64,
                           "embed_dims": (32, 32, 32, 32), "serial_mlp_ratios": (2, 2, 2, 2), "num_heads": 4}),
    "crossvit": ("crossvit_tiny_240", {"depth": ((1, 1, 0), (1, 1, 0)), "img_size": 64}),
    "byoanet": ("halonet26t", {}),
}  # fmt: skip


def stand_in_operators() -> None:
    """What torchvision's files name of its compiled part when they are imported. Non-maximum suppression is this
    project's own; pooling of regions torchvision does itself, in Python, where its compiled part is not there."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("qnms", "qroi_align", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        for each in (name, f"_{name}_backward"):
            with contextlib.suppress(RuntimeError):
                library.define(f"{each}(Tensor a) -> Tensor")  # type: ignore[no-untyped-call]
    with contextlib.suppress(RuntimeError):
        library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")  # type: ignore[no-untyped-call]
        library.impl("nms", ops.nms, "CPU")  # type: ignore[no-untyped-call]
        importlib.import_module("torchvision.ops.boxes")._assert_has_ops = bool
    stand_in_operators.library = library  # type: ignore[attr-defined]


class ConvMixer(nn.Module):
    """timm's ConvMixer at width 32: its builder fixes the depth, 32."""

    def __new__(cls) -> Any:
        return importlib.import_module("timm.models.convmixer").ConvMixer(32, 2, num_classes=10)


def models(largest: int = 1024) -> Iterator[tuple[str, Built]]:
    """Names, and what builds the model and says the shape of one input."""
    for name, (own, own_shape) in OWN.items():
        yield f"own {name}", functools.partial(_built, own, {}, own_shape)
    stand_in_operators()
    import timm

    for name, size in VISION.items():
        shape = size if isinstance(size, tuple) else (3, size, size)
        yield f"torchvision {name}", functools.partial(_of_torchvision, name, shape)
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if module == "convmixer":
            yield "timm convmixer", functools.partial(_built, ConvMixer, {}, (3, 64, 64))
        elif module in CHOSEN:
            name, options = CHOSEN[module]
            yield f"timm {name}", functools.partial(built_small, name, largest, (options,))
        elif names:
            yield f"timm {smallest(names)}", functools.partial(built_small, smallest(names), largest)


def _built(builder: Any, options: dict[str, Any], shape: Shape) -> tuple[nn.Module, Shape]:
    return builder(**options), shape


def _of_torchvision(name: str, shape: Shape) -> tuple[nn.Module, Shape]:
    models: Any = importlib.import_module("torchvision.models")
    folder, _, last = name.rpartition(".")
    options: dict[str, Any] = {"weights": None, "num_classes": 10, **MORE.get(name, {})}
    if folder in ("segmentation", "detection"):
        options |= {"weights_backbone": None}
    if folder == "detection":
        options |= {"min_size": 64, "max_size": 64} if "ssd" not in name else {}
    if name == "maxvit_t":  # the builder wants 224
        small = {"stem_channels": 16, "partition_size": 2, "block_channels": [16, 32], "block_layers": [1, 1],
                 "head_dim": 16, "stochastic_depth_prob": 0.0, "num_classes": 10}  # fmt: skip
        return models.MaxVit(input_size=shape[1:], **small), shape
    if name == "video.mvit_v1_b":
        mvit = importlib.import_module("torchvision.models.video.mvit")
        blocks = [
            mvit.MSBlockConfig(**dict(zip(_MVIT, each, strict=True))) for each in zip(*_MVIT.values(), strict=True)
        ]
        return mvit.MViT(shape[2:], shape[1], blocks, False, False, False, False, num_classes=10), shape
    if folder == "optical_flow":
        options.pop("num_classes")
    module = importlib.import_module(f"torchvision.models.{folder}") if folder else models
    return getattr(module, last)(**options), shape


def smallest(names: list[str]) -> str:
    """By what the names say: building all of timm to count takes half an hour."""
    said = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "_t0", "tiny", "_050", "_b0", "small", "18", "_s")
    return min(names, key=lambda name: (next((i for i, each in enumerate(said) if each in name), 99), len(name)))


def built_small(
    name: str, largest: int, shallow: tuple[dict[str, Any], ...] = SHALLOW
) -> tuple[nn.Module, tuple[int, ...]]:
    """The model at the smallest of some depths and sizes that its builder and it take, and the shape of one input."""
    import timm

    described = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = 224 if described is None else described.input_size[-1]
    tried: list[tuple[int, dict[str, Any]]] = [(64, {"img_size": 64}), (64, {}), (96, {}), (128, {"img_size": 128})]
    if "img_size" in shallow[0]:
        tried = [(shallow[0]["img_size"], {})]
    sides = [each for each in [*tried, (size, {})] if each[0] <= largest]
    problems = []
    for (side, sized), less in itertools.product(sides, shallow):
        try:
            with torch.device("meta"):  # the number of parameters costs nothing there
                parameters = sum(
                    each.numel() for each in timm.create_model(name, num_classes=10, **sized, **less).parameters()
                )
            if parameters > MOST:
                problems.append(f"{parameters} parameters")
                continue
            model = timm.create_model(name, num_classes=10, **sized, **less).eval()
            with torch.no_grad():
                _ = model(torch.randn(2, 3, side, side))
        except Exception as problem:  # whatever it does not take
            problems.append(f"{type(problem).__name__}: {problem}"[:100])
            continue
        return model, (3, side, side)
    raise ValueError(f"{name} takes none of the sizes, or is larger than {MOST} parameters at each: {problems[-1]}")
