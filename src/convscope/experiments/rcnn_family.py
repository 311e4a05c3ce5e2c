"""R-CNN, with and without its box regression, Fast R-CNN, with and without truncated SVD, and Faster R-CNN, trained
jointly and in four steps, on the same pictures of blood cells.

Girshick et al.: Rich feature hierarchies (2014); Girshick: Fast R-CNN (2015); Ren et al.: Faster R-CNN (2015).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from convscope.data import Dataset
from convscope.data.kinds.boxes import Boxes
from convscope.experiments.base import Outcomes, Report, Row, Setting, data_set, register, settings, trained
from convscope.models.compressing import compress
from convscope.models.modelfile import save
from convscope.models.rcnn import RCNN
from convscope.spec import attach, spec_of
from convscope.tasks.detection import rcnn
from convscope.tasks.detection.faster_rcnn_4step import STEPS, four_steps
from convscope.tasks.detection.metrics import DetectionFigures
from convscope.tasks.detection.recipes import RECIPES
from convscope.tasks.detection.task import DetectionTask
from convscope.tasks.detection.timing import head_seconds, seconds_a_picture
from convscope.tasks.dispatch import evaluate
from convscope.tasks.run_pictures import RunPictures
from convscope.tasks.stages import Stage
from convscope.tasks.stages.folder import MODEL
from convscope.tasks.stages.stage import Here
from convscope.training.config import Config
from convscope.training.preparing import build_model

DATA = "bccd"
WINDOWS = 300  # regions a training picture whose features are kept
#: Singular values that are kept, of 256, by measurement on the trained network: 36 to 39 % of the hidden layers' time
#: went, and no mAP. The first layer alone (92 % of the weights) by 128 saves 32 % for 0.04 points, by 96 48 % for 0.16,
#: by 64 57 to 60 % for 1.16.
RANKS = {"roi_heads.box_head.fc6": 128, "roi_heads.box_head.fc7": 64}
_TRAINED = {"rcnn/network": "rcnn-bccd", "fast": "fast_rcnn-bccd", "faster": "faster_rcnn-bccd"}
_TITLES = {
    "rcnn/machines": ("R-CNN", 50.2, "VOC 2010"),
    "rcnn/boxes": ("R-CNN + box regression", 53.7, "VOC 2010"),
    "fast": ("Fast R-CNN", 68.4, "VOC 2012"),
    "fast_svd": ("Fast R-CNN + truncated SVD", None, ""),
    "faster": ("Faster R-CNN", 70.4, "VOC 2012"),
    "faster_4step/whole": ("Faster R-CNN in four steps", 70.4, "VOC 2012"),
}


def stages(setting: Setting) -> list[Stage]:
    """Three trainings and one of four steps; the stages of R-CNN after its network; the compressed head; figures and
    times of each."""
    found = [_training(name, recipe, setting) for name, recipe in _TRAINED.items()]
    found += _in_steps(setting)
    data = {"data": DATA, "seed": setting.seed}

    def stage(name: str, work: Any, after: list[str], **more: Any) -> Stage:
        return Stage(name, functools.partial(work, setting), {**data, **more}, after, setting.threads)

    found += [
        stage("rcnn/features", _features, ["rcnn/network"], windows=WINDOWS),
        stage("rcnn/machines", _machines, ["rcnn/network", "rcnn/features"], C=rcnn.C),
        stage("rcnn/boxes", _boxes, ["rcnn/features", "rcnn/machines"], strength=rcnn.LAMBDA),
        stage("fast_svd", _compressed, ["fast"], ranks=RANKS),
    ]
    found += [stage(f"figures/{name}", functools.partial(_figures, name), [name]) for name in _TITLES]
    return found


def _training(name: str, recipe: str, setting: Setting) -> Stage:
    chosen = next(each for each in RECIPES if each.name == recipe)
    options = {**chosen.options, "classes": 3, "in_channels": 3}
    return trained(name, chosen.model, DATA, chosen.settings, setting, model_options=options, threads=1)


def _in_steps(setting: Setting) -> list[Stage]:
    chosen = next(each for each in RECIPES if each.name == _TRAINED["faster"])
    given = settings(chosen.settings, setting)
    return four_steps(
        functools.partial(data_set, DATA, setting), {"name": DATA}, chosen.options, given, "faster_4step",
        threads=setting.threads or 1, listeners=[RunPictures()],
    )  # fmt: skip


def _features(setting: Setting, here: Here) -> Mapping[str, Any]:
    model, data = cast(RCNN, here.earlier["rcnn/network"].model()), data_set(DATA, setting)
    return rcnn.features_of(
        model, DetectionTask(), data, WINDOWS, setting.seed, lambda share: here.tell(share)
    ).values()


def _kept(here: Here) -> rcnn.Features:
    found = here.earlier["rcnn/features"]
    return rcnn.Features(**{field.name: found[field.name] for field in dataclasses.fields(rcnn.Features)})


def _machines(setting: Setting, here: Here) -> Mapping[str, Any]:
    """The network with support vector machines for its scores, saved."""
    network = cast(RCNN, here.earlier["rcnn/network"].model())
    weights, biases, told = rcnn.fit_machines(_kept(here), setting.seed)
    described = spec_of(network)
    assert described is not None
    options = {**described.options, "svm": True}
    other = cast(RCNN, build_model("rcnn", options, Config(seed=setting.seed)))
    attach(rcnn.with_machines(network, other, weights, biases), described.replace(options=options))
    save(other, here.folder / MODEL)
    return {"machines": told}


def _boxes(setting: Setting, here: Here) -> Mapping[str, Any]:
    model, features = cast(RCNN, here.earlier["rcnn/machines"].model()), _kept(here)
    save(rcnn.with_boxes(model, *rcnn.fit_boxes(features)), here.folder / MODEL)
    return {"regions": len(features.near)}


def _compressed(setting: Setting, here: Here) -> Mapping[str, Any]:
    whole = here.earlier["fast"].model()
    other = compress(whole, rank=RANKS)
    save(other, here.folder / MODEL)
    size = whole.get_parameter("roi_heads.box_head.fc6.weight").shape[1]
    before, after = head_seconds([whole, other], size)
    return {"before": before, "after": after}


def _figures(name: str, setting: Setting, here: Here) -> Mapping[str, Any]:
    """Of the test pictures, and the time for one."""
    model, data = here.earlier[name].model(), data_set(DATA, setting)
    figures = _evaluated(model, data)
    task = DetectionTask()
    proposing, network = seconds_a_picture(model, cast(Boxes, data.test), task.settings_for(model))
    task.draw(here.folder, _TITLES[name][0], figures.to_json())
    return {"figures": figures.to_json(), "proposing": proposing, "network": network}


def _evaluated(model: nn.Module, data: Dataset) -> DetectionFigures:
    found = evaluate(model, data, batch_size=4, engine="torch")
    assert isinstance(found, DetectionFigures)
    return found


@register(
    "rcnn_family",
    title="R-CNN, Fast R-CNN and Faster R-CNN on the BCCD blood cells",
    published="R-CNN 50.2 %, with box regression 53.7 % (VOC 2010); Fast R-CNN 68.4 %, Faster R-CNN 70.4 % (VOC 2012); "
    "truncated SVD: more than 30 % of the fully connected layers' time for 0.3 points",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    rows: list[Row] = []
    fits = sum(outcomes[f"rcnn/{each}"].seconds for each in ("features", "machines"))
    seconds = {
        "rcnn/machines": outcomes["rcnn/network"].seconds + fits,
        "rcnn/boxes": outcomes["rcnn/network"].seconds + fits + outcomes["rcnn/boxes"].seconds,
        "fast": outcomes["fast"].seconds,
        "fast_svd": outcomes["fast"].seconds + outcomes["fast_svd"].seconds,
        "faster": outcomes["faster"].seconds,
        "faster_4step/whole": sum(outcomes[f"faster_4step/{step.name}"].seconds for step in STEPS),
    }
    for name, (title, published, where) in _TITLES.items():
        found = outcomes[f"figures/{name}"]
        figures = found["figures"]
        each = zip(figures["classes"], figures["per_class"], strict=True)
        told = ", ".join(f"{label} {100 * (value or 0.0):.1f}" for label, value in each)
        note = f"{told}; 11-point {100 * figures['mean_ap_11point']:.1f}"
        note += f"; published on {where}" if where else ""
        rows.append(Row(f"mAP@0.5, {title}", 100 * figures["mean_ap"], published, "%", note))
    for name, (title, _, _) in _TITLES.items():
        rows.append(Row(f"training, {title}", seconds[name], None, "s", "without proposing regions"))
    for name, (title, _, _) in _TITLES.items():
        found = outcomes[f"figures/{name}"]
        searching = f"regions {found['proposing']:.2f} s, network {found['network']:.3f} s"
        note = searching if found["proposing"] else "regions are the network's own"
        rows.append(Row(f"a test picture, {title}", found["proposing"] + found["network"], None, "s", note))
    svd = outcomes["fast_svd"]
    share = 100 * (1 - svd["after"] / svd["before"])
    times = f"1000 regions: {1000 * svd['before']:.1f} → {1000 * svd['after']:.1f} ms"
    rows.append(Row("fully connected layers' time saved by truncated SVD", share, 30.0, "%", times))
    pictures = [path for name in _TITLES for path in outcomes[f"figures/{name}"].pictures(setting.out)]
    return Report(rows, pictures, {recipe.name: dict(recipe.settings) for recipe in RECIPES if recipe.data == DATA})
