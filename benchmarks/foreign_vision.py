"""torchvision's model files: a small network by the classes of each, or the builder's own where that is small."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from convscope import ops

Shape = tuple[Any, ...]
Built = Callable[[], tuple[nn.Module, Shape]]
PICTURE, CLIP = (3, 64, 64), (3, 4, 32, 32)
#: Builders whose network is small enough as it is, and the side of the picture.
WHOLE = {
    "efficientnet_b0": 64, "googlenet": 96, "inception_v3": 128, "mnasnet0_5": 64, "mnasnet1_0": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "mobilenet_v3_large": 64, "regnet_y_400mf": 64, "regnet_x_400mf": 64, "resnet18": 64,
    "shufflenet_v2_x0_5": 64, "squeezenet1_0": 64, "squeezenet1_1": 64, "quantization.mobilenet_v2": 64,
    "quantization.mobilenet_v3_large": 64, "quantization.resnet18": 64, "quantization.shufflenet_v2_x0_5": 64,
    "quantization.googlenet": 96, "quantization.inception_v3": 128,
    "segmentation.deeplabv3_mobilenet_v3_large": 64, "segmentation.lraspp_mobilenet_v3_large": 64,
    "detection.ssdlite320_mobilenet_v3_large": 64,
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
        boxes: Any = importlib.import_module("torchvision.ops.boxes")
        boxes._assert_has_ops = bool
    stand_in_operators.library = library  # type: ignore[attr-defined]


def vision_models() -> Iterator[tuple[str, Built]]:
    for name, side in WHOLE.items():
        yield name, functools.partial(_whole, name, side)
    for build in SMALL:
        yield build.__name__.lstrip("_"), build


def _file(name: str) -> Any:
    return importlib.import_module(f"torchvision.models.{name}")


def _whole(name: str, side: int) -> tuple[nn.Module, Shape]:
    folder, _, last = name.rpartition(".")
    options: dict[str, Any] = {"weights": None, "num_classes": 10}
    if folder in ("segmentation", "detection"):
        options |= {"weights_backbone": None}
    if last in ("googlenet", "inception_v3"):
        options |= {"init_weights": False}
    module = _file(folder) if folder else importlib.import_module("torchvision.models")
    return getattr(module, last)(**options), (3, side, side)


def _resnet(**options: Any) -> Any:
    resnet = _file("resnet")
    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], 10, **options)


def _narrow(model: Any) -> Any:
    """Its fully connected layers 64 wide: of 4,096 they are nearly all the network's parameters."""
    places = [i for i, each in enumerate(model.classifier) if isinstance(each, nn.Linear)]
    for place, wide in zip(places, (model.classifier[places[0]].in_features, 64, 64), strict=True):
        model.classifier[place] = nn.Linear(wide, 10 if place == places[-1] else 64)
    return model


def _alexnet() -> tuple[nn.Module, Shape]:
    return _narrow(_file("alexnet").AlexNet()), PICTURE


def _vgg11() -> tuple[nn.Module, Shape]:
    return _narrow(importlib.import_module("torchvision.models").vgg11(init_weights=False)), PICTURE


def _vgg11_bn() -> tuple[nn.Module, Shape]:
    return _narrow(importlib.import_module("torchvision.models").vgg11_bn(init_weights=False)), PICTURE


def _resnet50() -> tuple[nn.Module, Shape]:
    return _resnet(), PICTURE


def _resnext50() -> tuple[nn.Module, Shape]:
    return _resnet(groups=32, width_per_group=4), PICTURE


def _wide_resnet50() -> tuple[nn.Module, Shape]:
    return _resnet(width_per_group=128), PICTURE


def _densenet() -> tuple[nn.Module, Shape]:
    return _file("densenet").DenseNet(12, (2, 3, 3, 2), 24, num_classes=10), PICTURE


def _convnext() -> tuple[nn.Module, Shape]:
    convnext = _file("convnext")
    blocks = [convnext.CNBlockConfig(24, 48, 2), convnext.CNBlockConfig(48, None, 2)]
    return convnext.ConvNeXt(blocks, num_classes=10, layer_scale=0.1), PICTURE


def _efficientnet_v2_s() -> tuple[nn.Module, Shape]:
    efficientnet = _file("efficientnet")
    blocks, last = efficientnet._efficientnet_conf("efficientnet_v2_s")
    for each in blocks:
        each.num_layers = 1
    return efficientnet.EfficientNet(blocks, 0.2, num_classes=10, last_channel=last), PICTURE


def _maxvit() -> tuple[nn.Module, Shape]:
    maxvit = _file("maxvit").MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 16, 0.0, num_classes=10)
    return maxvit, PICTURE


def _swin(second: bool) -> Any:
    swin = _file("swin_transformer")
    more = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2} if second else {}
    return swin.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10, **more)


def _swin_v1() -> tuple[nn.Module, Shape]:
    return _swin(False), PICTURE


def _swin_v2() -> tuple[nn.Module, Shape]:
    return _swin(True), PICTURE


def _vision_transformer() -> tuple[nn.Module, Shape]:
    return _file("vision_transformer").VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=10), PICTURE


def _fcn() -> tuple[nn.Module, Shape]:
    dilated = _resnet(replace_stride_with_dilation=[False, True, True])
    return _file("segmentation.fcn")._fcn_resnet(dilated, 10, True), PICTURE


def _deeplabv3() -> tuple[nn.Module, Shape]:
    dilated = _resnet(replace_stride_with_dilation=[False, True, True])
    return _file("segmentation.deeplabv3")._deeplabv3_resnet(dilated, 10, None), PICTURE


def _of_clips(maker: str, stem: str) -> tuple[nn.Module, Shape]:
    video = _file("video.resnet")
    makers = [getattr(video, maker)] * 4
    return video.VideoResNet(video.BasicBlock, makers, [1, 1, 1, 1], getattr(video, stem), 10), CLIP


def _r3d() -> tuple[nn.Module, Shape]:
    return _of_clips("Conv3DSimple", "BasicStem")


def _mc3() -> tuple[nn.Module, Shape]:
    return _of_clips("Conv3DNoTemporal", "BasicStem")


def _r2plus1d() -> tuple[nn.Module, Shape]:
    return _of_clips("Conv2Plus1D", "R2Plus1dStem")


def _s3d() -> tuple[nn.Module, Shape]:
    s3d = _file("video.s3d").S3D(10)
    s3d.avgpool = nn.AvgPool3d((2, 2, 2), stride=1)  # its own is for 224×224
    return s3d, (3, 14, 64, 64)


def _swin3d() -> tuple[nn.Module, Shape]:
    swin = _file("video.swin_transformer").SwinTransformer3d([2, 4, 4], 24, [2, 2], [2, 4], [2, 4, 4], num_classes=10)
    return swin, CLIP


def _mvit() -> tuple[nn.Module, Shape]:
    mvit = _file("video.mvit")
    blocks = [
        mvit.MSBlockConfig(1, 16, 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 4, 4]),
        mvit.MSBlockConfig(2, 32, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
    ]
    return mvit.MViT((32, 32), 4, blocks, False, False, False, False, num_classes=10), CLIP


def _raft() -> tuple[nn.Module, Shape]:
    return _file("optical_flow").raft_small(weights=None), ((3, 128, 128), (3, 128, 128))


def _pyramid() -> Any:
    resnet, utils = _file("resnet"), _file("detection.backbone_utils")
    return utils._resnet_fpn_extractor(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1]), 5)


def _detector(file: str, kind: str, **options: Any) -> tuple[nn.Module, Shape]:
    return getattr(_file(f"detection.{file}"), kind)(_pyramid(), 10, min_size=64, max_size=64, **options), PICTURE


def _faster_rcnn() -> tuple[nn.Module, Shape]:
    return _detector("faster_rcnn", "FasterRCNN")


def _mask_rcnn() -> tuple[nn.Module, Shape]:
    return _detector("mask_rcnn", "MaskRCNN")


def _keypoint_rcnn() -> tuple[nn.Module, Shape]:
    return _detector("keypoint_rcnn", "KeypointRCNN")


def _retinanet() -> tuple[nn.Module, Shape]:
    sizes = tuple((side, int(side * 1.26), int(side * 1.59)) for side in (8, 16, 32, 64, 128))
    anchors = _file("detection.anchor_utils")
    generator = anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    # untrained, it finds nothing above its usual threshold
    return _detector("retinanet", "RetinaNet", anchor_generator=generator, score_thresh=0.0)


def _fcos() -> tuple[nn.Module, Shape]:
    return _detector("fcos", "FCOS", score_thresh=0.0)


SMALL: tuple[Built, ...] = (
    _alexnet, _vgg11, _vgg11_bn, _resnet50, _resnext50, _wide_resnet50, _densenet, _convnext, _efficientnet_v2_s,
    _maxvit, _swin_v1, _swin_v2, _vision_transformer, _fcn, _deeplabv3, _r3d, _mc3, _r2plus1d, _s3d, _swin3d, _mvit,
    _raft, _faster_rcnn, _mask_rcnn, _keypoint_rcnn, _retinanet, _fcos,
)  # fmt: skip
