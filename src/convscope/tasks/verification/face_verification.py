"""Faces verified by the protocol of Labeled Faces in the Wild, with nobody of a fold among those learned from.

For each fold DeepID learns to tell the other people apart and joint Bayesian compares its features; Pyramid CNN learns
from their pairs level by level. Both begin at edges (``beginning.py``). Eigenfaces and raw pixels are compared beside
them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import spec
from convscope.data import Dataset, Labelled, prepare, stratified_split
from convscope.data.augment import parse_augmentation
from convscope.data.kinds.pairs import Pairs
from convscope.data.pictures import find_pictures_below, load_picture
from convscope.errors import ArgumentError, DataError
from convscope.files import write_text
from convscope.models.deepid import DeepIDPatches, DeepIDVerifier
from convscope.models.modelfile import save
from convscope.models.pyramid_cnn import PyramidCNN
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.jobs import Asked, Finished, Outcomes, TrainingJob, register
from convscope.tasks.stages import Here, Stage, training
from convscope.tasks.verification.beginning import begin_deepid, begin_filters, begin_pyramid, whitening
from convscope.tasks.verification.joint_bayesian import JointBayesian, fit_joint_bayesian
from convscope.tasks.verification.pairs import LIST, folds_of_people, numbered, pairs_of, read_pairs
from convscope.tasks.verification.predict import predict
from convscope.tasks.verification.protocol import Verified, draw_roc, page, verify
from convscope.training.config import Config
from convscope.training.preparing import build_model

METHODS = {
    "bayesian": "DeepID, joint Bayesian",
    "cosine": "DeepID, cosine",
    "pyramid": "Pyramid CNN",
    "eigenfaces": "eigenfaces, cosine",
    "pixels": "raw pixels, cosine",
}
_LARGE = (78, 62)  # of DeepID's pictures, of which each patch is half as high and wide
_SMALL = (48, 40)  # of eigenfaces and raw pixels, and of Pyramid CNN's last level
_EIGENFACES = 100
_MAPS = (16, 24, 32)  # of Pyramid CNN's levels; level l sees patches of _SMALL / 2^(levels − l)
_FEATURES = 100  # of Pyramid CNN's levels
_COPIES, _MOVED = 2, "translate:2,rotate:6,scale:0.07"  # of every picture, that whitening and comparing learn from too
_RIDGE, _SHRUNK = 0.1, 0.7  # of whitening DeepID's features, and of joint Bayesian's covariances
_PAIRS, _LOOKED_ON = 2560, 400  # that Pyramid CNN learns from, and is looked on with meanwhile
_FOLD = {"watch": False, "evaluate_every": 4}  # the networks of a fold are not kept to be looked at
# In small steps from where both begin: few people soon teach them more about themselves than about strangers.
_DEEPID: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 3e-4, "schedule": "cosine", "batch_size": 36,
    "augment": "flip,translate:2,rotate:6,scale:0.07",
}  # fmt: skip
_PYRAMID: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 1e-4, "schedule": "cosine", "batch_size": 64,
    "augment": "flip,translate:1.5,rotate:6,scale:0.07",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FacesSettings:
    folds: int = 10  # of people; a pairs.txt in the data's folder says it itself
    pairs: int = 360  # at most, of each fold, half of one person
    dimensions: int = 150  # principal components of DeepID's features that joint Bayesian compares
    deepid_epochs: int = 4
    pyramid_epochs: int = 1  # of each level


@register
class Faces(TrainingJob):
    """DeepID with joint Bayesian, and Pyramid CNN, on folds whose people are not among those learned from."""

    name = "face_verification"
    Settings = FacesSettings

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        for name in ("folds", "pairs", "dimensions", "deepid_epochs", "pyramid_epochs"):
            if getattr(self.settings, name) < 1:
                raise ArgumentError(name, getattr(self.settings, name), "at least 1")

    def stages(self) -> list[Stage]:
        found: list[Stage] = []
        numbers = range(self.number_of_folds())
        for fold in numbers:
            found.append(self._deepid(f"fold{fold + 1:02}/deepid", fold))
            for level in range(len(_MAPS)):
                found.append(self._pyramid(fold, level))
            after = [f"fold{fold + 1:02}/deepid", self._level(fold, len(_MAPS) - 1)]
            said = {"pairs": self.settings.pairs, "dimensions": self.settings.dimensions, "data": self._data()}
            work = functools.partial(_scores, self, fold)
            found.append(Stage(f"fold{fold + 1:02}/scores", work, said, after, threads=self._threads))
        scores = [f"fold{fold + 1:02}/scores" for fold in numbers]
        found.append(Stage("protocol", _protocol, {}, scores, threads=self._threads))
        found.append(self._deepid("everybody", None))
        return found

    @property
    def _threads(self) -> int:
        return self.asked.threads or 1

    def number_of_folds(self) -> int:
        """Those of the pairs.txt, where there is one."""
        path = Path(self.asked.data) / LIST
        if not path.is_file():
            return int(self.settings.folds)
        first = path.read_text(encoding="utf-8").split("\n", 1)[0].split()
        return int(first[0]) if len(first) == 2 and first[0].isdecimal() else 1

    def _deepid(self, name: str, fold: int | None) -> Stage:
        return training(
            name, lambda _: self._deepid_model(fold), lambda _: self.people(fold),
            described={"model": {"patches": list(_LARGE)}, "data": {**self._data(), "without": fold}},
            threads=self._threads, seed=self.asked.seed,
            **self._asked_for({} if fold is None else _FOLD, _DEEPID, self.settings.deepid_epochs),
        )  # fmt: skip

    def _deepid_model(self, fold: int | None) -> nn.Module:
        learned = self.faces().select(self.learned_from(fold))
        options = {
            "classes": len(torch.unique(learned.labels)), "in_channels": learned.shape[0], "input_size": list(_LARGE),
            "patches": True,
        }  # fmt: skip
        model = build_model("deepid", options, Config(seed=self.asked.seed))
        assert isinstance(model, DeepIDPatches)
        begin_deepid(model, _pixels(learned.images, _LARGE))
        return model

    def _asked_for(self, watching: Mapping[str, Any], own: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        return {**watching, **own, "epochs": epochs, **self.asked.changes, "engine": self.asked.engine}

    def _level(self, fold: int, level: int) -> str:
        return f"fold{fold + 1:02}/pyramid{level + 1}"

    def _pyramid(self, fold: int, level: int) -> Stage:
        """Level ``level``: the filters below held as they were learned, its own and the layer above them trained."""
        whole = f"{_SMALL[0]}x{_SMALL[1]}"
        return training(
            self._level(fold, level), functools.partial(self._pyramid_model, fold, level),
            lambda _: self.pairs_learned_from(fold),
            after=[self._level(fold, level - 1)] if level else [],
            described={"model": {"maps": list(_MAPS[: level + 1])}, "data": {**self._data(), "without": fold}},
            settings={"whole": whole}, threads=self._threads, seed=self.asked.seed,
            **self._asked_for(_FOLD, _PYRAMID, self.settings.pyramid_epochs),
        )  # fmt: skip

    def _pyramid_model(self, fold: int, level: int, earlier: Outcomes) -> nn.Module:
        share = 2 ** (len(_MAPS) - 1 - level)
        size = [side // share for side in _SMALL]
        learned = self.faces().select(self.learned_from(fold))
        options = {
            "maps": list(_MAPS[: level + 1]), "features": _FEATURES, "input_size": size, "normalised": True,
            "in_channels": learned.shape[0],
        }  # fmt: skip
        model = build_model("pyramid_cnn", options, Config(seed=self.asked.seed))
        assert isinstance(model, PyramidCNN)
        begin_filters([model.get_submodule(f"filters.level{place}") for place in range(1, level + 2)])
        for outcome in earlier.values():
            below = outcome.model()
            for place in range(1, level + 1):
                filters = model.get_submodule(f"filters.level{place}")
                filters.load_state_dict(below.get_submodule(f"filters.level{place}").state_dict())
                filters.requires_grad_(False)
        patches = _pixels(moved(learned.images, _SMALL, _COPIES), _SMALL).unfold(2, size[0], size[0])
        patches = patches.unfold(3, size[1], size[1]).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        places = learned.labels.repeat(1 + _COPIES)[:, None] * share**2 + torch.arange(share**2)
        begin_pyramid(model, patches, places.flatten())
        return model

    def _data(self) -> dict[str, Any]:
        return {"name": self.asked.data, "options": dict(self.asked.data_options), "folds": self.number_of_folds()}

    # ── the pictures ──

    def faces(self) -> Labelled:
        """Everybody's pictures."""
        return _faces(self.asked.data, self.asked.root, json.dumps(dict(self.asked.data_options)))[0]

    def pairs(self) -> Pairs:
        """Those that are verified, with their folds."""
        faces, names = _faces(self.asked.data, self.asked.root, json.dumps(dict(self.asked.data_options)))
        path = Path(self.asked.data) / LIST
        if names is not None and path.is_file():
            return read_pairs(path, faces, names)
        return folds_of_people(faces, self.settings.folds, self.settings.pairs, self.asked.seed)

    def learned_from(self, fold: int | None) -> Tensor:
        """The places of pictures of people with two pictures or more that are in no pair of ``fold``; None: all."""
        faces = self.faces()
        kept = torch.bincount(faces.labels, minlength=len(faces.classes)) >= 2
        if fold is not None:
            pairs = self.pairs()
            own = torch.ones(len(pairs), dtype=torch.bool) if pairs.folds is None else pairs.folds == fold
            kept[faces.labels[torch.cat((pairs.first[own], pairs.second[own]))]] = False
        if int(kept.sum()) < 2:
            got = f"{int(kept.sum())} people with two pictures who are in no pair of fold {fold}"
            raise ArgumentError("data", got, "at least two people to learn from")
        return torch.nonzero(kept[faces.labels]).flatten()

    def people(self, fold: int | None) -> Dataset[Labelled]:
        """The people learned from as classes of their own, all their pictures; a fifth of them again to look on."""
        faces = self.faces().select(self.learned_from(fold))
        names = [faces.classes[number] for number in torch.unique(faces.labels).tolist()]
        everything = faces.restrict(names)
        _, again = stratified_split(everything, 0.2, self.asked.seed)
        return Dataset(Path(self.asked.data).name, everything, again)

    def pairs_learned_from(self, fold: int) -> Dataset[Pairs]:
        """Pairs of the people learned from, and some of them again to look on."""
        faces = self.faces().select(self.learned_from(fold))
        train, test = (pairs_of(faces, count, self.asked.seed) for count in (_PAIRS, _LOOKED_ON))
        return Dataset(Path(self.asked.data).name, train, test)

    # ── what comes of it ──

    def finish(self, folder: Path, outcomes: Outcomes) -> Finished:
        figures = outcomes["protocol"]["figures"]
        curves = {METHODS[name]: found["roc"] for name, found in figures.items()}
        draw_roc(folder / "roc.png", curves, f"{Path(self.asked.data).name}, people not learned from")
        lines = []
        for name, found in figures.items():
            told = Verified(**{key: _tuples(value) for key, value in found.items()})
            lines += [METHODS[name], page(told), ""]
        write_text(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
        write_text(folder / "figures.txt", "\n".join(lines))
        model = self._verifier(outcomes["everybody"].model(), figures["bayesian"]["threshold"])
        data = {"source": self.asked.data, "name": self.asked.data}
        path = save(model, folder / "model.safetensors", data=data)
        return Finished(path, figures, [*lines, f"model {path}"])

    def _verifier(self, network: nn.Module, threshold: float) -> nn.Module:
        """DeepID of everybody with joint Bayesian on its features; the threshold is that of the folds."""
        assert isinstance(network, DeepIDPatches)
        own = spec.spec_of(network)
        assert own is not None
        assert own.preprocessing is not None
        learned = self.faces().select(self.learned_from(None))
        mean, projection, fitted = compare(network, learned, self.settings.dimensions)
        options = {
            "classes": len(own.classes), "in_channels": own.input_shape[0], "dimensions": len(projection),
            "input_size": list(own.preprocessing.size), "patches": True,
        }  # fmt: skip
        model = build_model("deepid_verifier", options, Config(seed=self.asked.seed))
        assert isinstance(model, DeepIDVerifier)
        model.network.load_state_dict(network.state_dict())
        A, G = fitted.matrices()
        values = {
            "mean": mean, "projection": projection, "centre": fitted.mean, "A": A, "G": G,
            "threshold": torch.tensor(threshold),
        }  # fmt: skip
        for name, value in values.items():
            model.get_buffer(name).copy_(value)
        described = spec.spec_of(model)
        assert described is not None
        pictures = Input("pictures", own.input_shape, own.preprocessing)
        return spec.attach(model.eval(), described.replace(inputs=(pictures, pictures), answers=Answers("verdict")))


@functools.lru_cache(maxsize=1)
def _faces(data: str, root: str | None, options: str) -> tuple[Labelled, dict[tuple[str, int], int] | None]:
    """Everybody's pictures, of a folder of one folder a person also the places of (person, number)."""
    folder = Path(data)
    if not folder.is_dir():
        whole = Asked(data, root, json.loads(options)).dataset()
        parts = [part if isinstance(part, Labelled) else part.in_memory() for part in (whole.train, whole.test)]
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return Labelled(images, labels, parts[0].classes), None
    files = sorted(path for path in find_pictures_below(folder) if path.parent != folder)
    names = tuple(sorted({path.parent.name for path in files}))
    if len(names) < 2:
        raise DataError(folder, f"pictures of {len(names)} people", "It needs a folder for each of at least two people")
    pictures = [load_picture(path) for path in files]
    channels, height, width = pictures[0].shape
    wanted = Preprocessing(channels, (height, width), (0.0,) * channels, (1.0,) * channels)
    images = torch.cat([prepare(picture[None], wanted) for picture in pictures])
    labels = torch.tensor([names.index(path.parent.name) for path in files])
    return Labelled(images, labels, names), numbered(files) if (folder / LIST).is_file() else {}


def moved(pictures: Tensor, size: tuple[int, int], copies: int) -> Tensor:
    """uint8 (n·(1 + copies), c, height, width) of ``size``: all as they are, then all again for each copy, moved by
    chance."""
    channels = pictures.shape[1]
    fitted = prepare(pictures, Preprocessing(channels, size, (0.0,) * channels, (1.0,) * channels))
    move, chance = parse_augmentation(_MOVED), torch.Generator().manual_seed(0)
    return torch.cat([fitted, *(move(fitted, chance) for _ in range(copies))])


def _pixels(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """float32 from 0 to 1, of ``size``."""
    return moved(pictures, size, 0).to(torch.float32) / 255


def features_of(network: DeepIDPatches, faces: Labelled, copies: int = 0) -> Tensor:
    """(n·(1 + copies), features), float64, each the mean of the picture's and its mirror image's, in the order of
    ``moved``."""
    own = spec.spec_of(network)
    assert own is not None
    assert own.preprocessing is not None
    x = own.preprocessing.normalise(moved(faces.images, own.preprocessing.size, copies))
    network.eval()
    with torch.inference_mode():
        found = [network.mirrored_features(part) for part in torch.split(x, 256)]
    return torch.cat(found).to(torch.float64).clone()


def compare(network: DeepIDPatches, learned: Labelled, dimensions: int) -> tuple[Tensor, Tensor, JointBayesian]:
    """(m, P, joint Bayesian) of the features of people learned from: what whitens them, and S_μ, S_ε of the result,
    each brought to length 1. Copies that are moved a little stand for what a network that has seen these very
    pictures no longer shows of how pictures of one person differ."""
    features, people = features_of(network, learned, _COPIES), learned.labels.repeat(1 + _COPIES)
    mean, projection = whitening(features, people, dimensions, _RIDGE)
    fitted = fit_joint_bayesian(coded(features, mean, projection), people)
    return mean, projection, fitted.shrunk(_SHRUNK)


def coded(features: Tensor, mean: Tensor, projection: Tensor) -> Tensor:
    """P·(f − m), of length 1."""
    return F.normalize((features - mean) @ projection.t())


def _scores(job: Faces, fold: int, here: Here) -> Mapping[str, Any]:
    """The scores of every method on the fold's pairs, larger where two are more likely one person."""
    faces, pairs = job.faces(), job.pairs()
    own = torch.arange(len(pairs)) if pairs.folds is None else torch.nonzero(pairs.folds == fold).flatten()
    pairs, learned = pairs.select(own), faces.select(job.learned_from(fold))
    first, second = faces.select(pairs.first), faces.select(pairs.second)
    network, level = here.earlier.values()
    deepid = network.model()
    assert isinstance(deepid, DeepIDPatches)
    mean, projection, fitted = compare(deepid, learned, job.settings.dimensions)
    a, b = (coded(features_of(deepid, each), mean, projection) for each in (first, second))
    pyramid = level.model()
    found = {
        "bayesian": fitted.scores(a, b),
        "cosine": F.cosine_similarity(a, b),
        "pyramid": _pyramid_scores(pyramid, first, second),
        **{name: _linear(learned, first, second, name == "eigenfaces") for name in ("eigenfaces", "pixels")},
    }
    return {**found, "same": pairs.same, "fold": torch.full((len(pairs),), fold)}


def _pyramid_scores(pyramid: nn.Module, first: Labelled, second: Labelled) -> Tensor:
    """−D of pairs."""
    kept = spec.spec_of(pyramid)
    assert kept is not None
    assert kept.preprocessing is not None
    found = predict(pyramid, [first.images, second.images], kept.preprocessing, _SMALL)
    return torch.tensor([each.score for each in found], dtype=torch.float64)


def _linear(learned: Labelled, first: Labelled, second: Labelled, eigenfaces: bool) -> Tensor:
    """The cosine of two pictures' pixels after the mean face is taken off, or of their first eigenfaces' shares."""
    channels = learned.shape[0]
    wanted = Preprocessing(channels, _SMALL, (0.0,) * channels, (1.0,) * channels)
    rows = [wanted.normalise(prepare(each.images, wanted)).flatten(1).double() for each in (learned, first, second)]
    mean = rows[0].mean(0)
    rows = [each - mean for each in rows]
    if eigenfaces:
        _, _, axes = torch.linalg.svd(rows[0], full_matrices=False)
        rows = [each @ axes[:_EIGENFACES].t() for each in rows]
    return F.cosine_similarity(rows[1], rows[2])


def _protocol(here: Here) -> Mapping[str, Any]:
    """Each method's figures, the threshold of every fold chosen on all others."""
    parts = list(here.earlier.values())
    same = torch.cat([part["same"] for part in parts])
    folds = torch.cat([part["fold"] for part in parts]) if len(parts) > 1 else None
    figures = {}
    for name in METHODS:
        scores = torch.cat([part[name] for part in parts])
        figures[name] = verify(scores, same, folds).to_json()
    return {"figures": figures}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
