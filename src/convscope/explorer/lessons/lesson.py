"""A lesson on a model: every place looked up, every answer worked out in float64, and what differs refused."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from convscope.errors import UnknownNameError
from convscope.explorer.lessons.exact import Exact, Lessoned
from convscope.explorer.lessons.file import COUNTS, LessonFile, Question, State, Stop, read_lesson
from convscope.explorer.lessons.reading import Table
from convscope.explorer.session import Session
from convscope.explorer.snapshot import Snapshot

Place = tuple[str, int | None, tuple[int, ...] | None]  # layer, map, the unit's index in the layer's output
HIDDEN_TABS = ("value", "delta", "gradient")
_SHARE, _LEAST = 0.01, 1e-3  # the tolerance where the file gives none: of the value, and at least
_TIE = 1e-9  # of the largest: units that near to it are right as well
_CENTRE = 4  # digits in messages


def lesson_of(session: Session, lesson: LessonFile | str | Path) -> dict[str, Any]:
    """The lesson as the page takes it, JSON values.

    Raises DataError where the file cannot be read, ArgumentError by file, line, step and key where the model has no
    such layer, unit, weight, class or picture, where a text is missing, and where an ``answer`` is not the exact one.
    """
    session.check_pictures("lesson")
    found = lesson if isinstance(lesson, LessonFile) else read_lesson(lesson)
    made = _Maker(session, found)
    return {
        "title": dict(found.title),
        "languages": list(found.languages),
        "steps": [made.stop(stop) for stop in found.stops],
    }


class _Maker:
    def __init__(self, session: Session, lesson: LessonFile) -> None:
        self.session, self.lesson = session, lesson
        self.exact = Exact(session)

    # ---- steps ----------------------------------------------------------------------------------------------------

    def stop(self, stop: Stop) -> dict[str, Any]:
        state = stop.state.over(self.lesson.start)
        shown = self._state(state, stop.table)
        question = None if stop.question is None else self._question(stop.question, state)
        then = None if stop.then is None else self._state(stop.then.over(state), stop.table)
        return {
            "title": dict(stop.title),
            "text": dict(stop.text),
            "state": shown,
            "question": question,
            "then": then,
        }

    def _state(self, state: State, table: Table) -> dict[str, Any]:
        """The state with every name looked up."""
        layer, number, unit = (None, None, None) if state.at is None else self._place(state.at, table, "at")
        _, shown, label = self._picture(state, table)
        found: dict[str, Any] = {
            "layer": layer,
            "map": number,
            "unit": None if unit is None else list(unit),
            "tab": state.tab or "forward",
            "show": state.show or "activation",
            "rule": state.rule or "plain",
            "pixel": None if state.pixel is None else self._pixel(state, table),
            "loss": self._loss(state),
            "target": self._target(state, label, table),
            **shown,
        }
        if state.weight is not None:
            _, parameter, index = self._weight(state, table)
            found["weight"] = {"parameter": parameter, "index": list(index)}
        if state.hover is not None:
            over, at, cell = self._place(state.hover, table, "hover")
            found["hover"] = {"layer": over, "map": at, "unit": None if cell is None else list(cell)}
        if state.train is not None and state.train.steps:
            wanted = state.train
            trained = self._trained(state, table)
            source = {"item": wanted.item} if wanted.item is not None else shown
            assert trained is not None
            settings = {"steps": wanted.steps, "rate": wanted.rate, "momentum": wanted.momentum, "decay": wanted.decay}
            found["train"] = {**source, "target": trained.target, "loss": trained.loss, **settings}
        return found

    # ---- questions ------------------------------------------------------------------------------------------------

    def _question(self, question: Question, state: State) -> dict[str, Any]:
        asked = question.state.over(state)
        found: dict[str, Any] = {
            "kind": question.kind,
            "ask": dict(question.ask),
            "hint": None if question.hint is None else dict(question.hint),
            "why": None if question.why is None else dict(question.why),
        }
        hides = question.kind == "number" and question.of in HIDDEN_TABS
        found["cover"] = hides if question.cover is None else question.cover
        if question.kind == "number":
            return {**found, **self._number(question, asked)}
        if question.kind == "choice":
            return {**found, **self._choice(question, asked)}
        return {**found, **self._click(question, asked)}

    def _number(self, question: Question, asked: State) -> dict[str, Any]:
        exact = float(question.answer) if question.of is None else self._value(question.of, asked, question.table)
        whole = question.of in COUNTS
        tolerance = question.tolerance
        if tolerance is None:
            tolerance = 0.0 if whole else max(_LEAST, _SHARE * abs(exact))
        answer = question.answer
        if answer is not None and not abs(answer - exact) <= tolerance:
            wanted = f"the exact value, {exact:.10g}, within {tolerance:.4g}"
            raise question.table.wrong("answer", answer, wanted)
        return {"exact": exact, "tolerance": tolerance, "whole": whole}

    def _choice(self, question: Question, asked: State) -> dict[str, Any]:
        right = question.answer
        numbers: list[float] | None = None
        if question.of is not None:
            assert question.pick is not None
            numbers = [self._value(question.of, each.state.over(asked), question.table) for each in question.choices]
            best = _picked(question.pick, numbers)
            if len(best) != 1:
                raise question.table.wrong("choices", f"{len(best)} choices that are equally {question.pick}", "one")
            if right is not None and right != best[0] + 1:
                said = ", ".join(f"{each:.{_CENTRE}g}" for each in numbers)
                raise question.table.wrong("answer", right, f"{best[0] + 1}, the {question.pick} of {said}")
            right = best[0] + 1
        assert right is not None
        texts = [dict(each.texts) for each in question.choices]
        return {"choices": texts, "right": right - 1, "numbers": numbers}

    def _click(self, question: Question, asked: State) -> dict[str, Any]:
        table = question.table
        given = None
        if question.answer is not None:
            given = self._place(question.answer, table, "answer")
        if question.of is None:
            assert given is not None
            layer, number, unit = given
            return {"accept": [list(unit)] if unit else [], "layer": layer, "map": number}
        layer, number, unit = self._place(_needed(asked.at, table, "at", 'the layer or map, at = "c1/0"'), table, "at")
        if unit is not None and len(self.session.network.nodes[layer].shape) > 1:
            raise table.wrong("at", asked.at, "a layer or a map, among whose units is chosen")
        snapshot = self._snapshot(asked, table)
        tensor = snapshot.layer(layer).y if question.of == "value" else snapshot.deltas(asked.rule or "plain")[layer]
        values = tensor[0].detach()
        places = list(_places(tuple(values.shape), number, self._within(question, tuple(values.shape))))
        assert question.pick is not None
        best = [places[at] for at in _picked(question.pick, [float(values[place]) for place in places])]
        if given is not None and given[2] not in best:
            said = " or ".join("/".join(map(str, (layer, *place))) for place in best[:4])
            raise table.wrong("answer", question.answer, f"{said}, the {question.pick}")
        return {"accept": [list(place) for place in best], "layer": layer, "map": number}

    def _within(self, question: Question, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        box = question.within
        if box is None:
            return None
        top, left, bottom, right = box
        if len(shape) != 3 or not (top <= bottom < shape[1] and left <= right < shape[2]):
            sides = "×".join(map(str, shape[1:]))
            raise question.table.wrong(
                "within", list(box), f"first row, first column, last row, last column of {sides}"
            )
        return box

    # ---- numbers --------------------------------------------------------------------------------------------------

    def _value(self, of: str, asked: State, table: Table) -> float:
        snapshot = self._snapshot(asked, table)
        if of in ("value", "delta", "terms", "field"):
            layer, _, unit = self._place(_needed(asked.at, table, "at", f"the unit whose {of} it is"), table, "at")
            if unit is None:
                raise table.wrong("at", asked.at, 'a unit, such as "c1/0/3/4"')
            return self._of_unit(of, snapshot, layer, unit, asked.rule or "plain")
        if of in ("gradient", "weight"):
            layer, parameter, index = self._weight(asked, table)
            if of == "gradient":
                return snapshot.gradient(layer, parameter, index).value
            module = snapshot.network.model.get_submodule(layer.split(":")[0])
            return float(module.get_parameter(parameter).detach()[index])
        if of in ("maps", "rows", "columns", "parameters"):
            return float(self._count(of, asked, table))
        if of == "input":
            if asked.pixel is None:
                raise table.wrong("pixel", None, "the pixel whose number it is, pixel = [row, column]")
            row, column = self._pixel(asked, table)
            return float(snapshot.question.x[0].reshape(self.session.desk.picture_shape)[0, row, column])
        return self._of_output(of, snapshot, table)

    def _of_unit(self, of: str, snapshot: Snapshot, layer: str, unit: tuple[int, ...], rule: str) -> float:
        match of:
            case "value":
                return snapshot.forward(layer, unit).value
            case "delta":
                return snapshot.backward(layer, unit, rule).value
            case "terms":
                return float(len(snapshot.forward(layer, unit).terms))
            case _:
                return float(self.session.reach().of_unit(layer, unit)["size"][0])

    def _count(self, of: str, asked: State, table: Table) -> int:
        layer, _, _ = self._place(_needed(asked.at, table, "at", f"the layer whose {of} it is"), table, "at")
        shape = self.session.network.nodes[layer].shape
        if of == "parameters":
            module = self.session.network.nodes[layer].module
            return 0 if module is None else sum(each.numel() for each in module.parameters())
        if of == "maps":
            return shape[0]
        if len(shape) != 3:
            raise table.wrong("of", of, f"maps or parameters: {layer} has no {of}")
        return shape[1] if of == "rows" else shape[2]

    def _of_output(self, of: str, snapshot: Snapshot, table: Table) -> float:
        if snapshot.question.target is None or snapshot.loss is None or snapshot.probabilities is None:
            raise table.wrong("of", of, "a question that a network without classes has an answer to")
        if of == "loss":
            return snapshot.loss
        row = snapshot.probabilities if of == "probability" else snapshot.logits[0]
        return float(row[snapshot.question.target])

    # ---- places ---------------------------------------------------------------------------------------------------

    def _snapshot(self, state: State, table: Table) -> Snapshot:
        pixels, _, label = self._picture(state, table)
        target = self._target(state, label, table)
        return self.exact.snapshot(pixels, target, self._loss(state), self._trained(state, table))

    def _place(self, text: str, table: Table, key: str) -> Place:
        """ "c1", "c1/0" or "c1/0/3/4": a layer, a map, a unit."""
        layer, *rest = text.split("/")
        nodes = self.session.network.nodes
        if layer not in nodes:
            raise UnknownNameError(table.place(key), layer, nodes)
        if not rest:
            return layer, None, None
        shape = nodes[layer].shape
        index = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in rest)
        fits = len(index) in (1, len(shape)) and all(0 <= at < side for at, side in zip(index, shape, strict=False))
        if not fits:
            places = " / ".join(f"0…{side - 1}" for side in shape)
            raise table.wrong(key, text, f"a place in {layer}: its map, or map, row and column, {places}")
        return layer, index[0], index if len(index) == len(shape) else None

    def _weight(self, state: State, table: Table) -> tuple[str, str, tuple[int, ...]]:
        text = _needed(state.weight, table, "weight", 'which weight, weight = "c1.weight/0/0/2/2"')
        name, *rest = text.split("/")
        layer, _, parameter = name.rpartition(".")
        node = self.session.network.nodes.get(layer)
        known = {} if node is None or node.module is None else dict(node.module.named_parameters())
        if parameter not in known:
            every = [
                f"{each.name}.{own}"
                for each in self.session.network.nodes.values()
                for own, _ in (each.module.named_parameters() if each.module is not None else ())
            ]
            raise UnknownNameError(table.place("weight"), name, every)
        shape = tuple(known[parameter].shape)
        index = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in rest)
        if len(index) != len(shape) or any(not 0 <= at < side for at, side in zip(index, shape, strict=True)):
            places = " / ".join(f"0…{side - 1}" for side in shape)
            raise table.wrong("weight", text, f"a place in {name}: {places}")
        return layer, parameter, index

    def _pixel(self, state: State, table: Table) -> list[int]:
        assert state.pixel is not None
        sides = self.session.desk.picture_shape[1:]
        if any(at >= side for at, side in zip(state.pixel, sides, strict=True)):
            raise table.wrong("pixel", list(state.pixel), f"row and column within {sides[0]}×{sides[1]}")
        return list(state.pixel)

    def _picture(self, state: State, table: Table) -> tuple[bytes, dict[str, Any], int | None]:
        """The pixels, how the page gets at them, and the label."""
        channels, height, width = self.session.desk.picture_shape
        label: int | None = None
        shown: dict[str, Any] = {}
        if state.picture is not None:
            rows = torch.tensor(state.picture, dtype=torch.uint8)
            if tuple(rows.shape) != (height, width):
                got = f"{rows.shape[0]} rows of {rows.shape[1]}"
                raise table.wrong("picture", got, f"{height} rows of {width} pixels, as the model takes")
            pixels = rows.expand(channels, -1, -1)[None].contiguous()
        elif state.item is not None:
            pixels, label = self._item(state.item, table)
            shown = {"item": state.item}
        else:
            source = self.session.picture.source
            pixels, label = self.session.picture.pixels, self.session.picture.label
            if source.get("kind") == "data" and source.get("split") == "test" and not source.get("edited"):
                shown = {"item": int(source["index"])}
        if state.shift is not None:
            down, right = state.shift
            pixels, shown = _moved(pixels, down, right), {}
        content = pixels.contiguous().numpy().tobytes()
        return content, shown or {"pixels": base64.b64encode(content).decode()}, label

    def _item(self, item: int, table: Table) -> tuple[torch.Tensor, int | None]:
        data = self.session.desk.data
        if data is None:
            raise table.wrong("item", item, "no item: the model is opened without a data set", "Give one with --data.")
        if item >= len(data.test):
            raise table.wrong("item", item, f"0…{len(data.test) - 1}, a test picture of {data.name}")
        picture = self.session.desk.from_data("test", item)
        return picture.pixels, picture.label

    def _loss(self, state: State) -> str:
        return state.loss or self.session.loss

    def _target(self, state: State, label: int | None, table: Table) -> int | None:
        return self._class(state.target, table) if state.target is not None else label

    def _class(self, name: str, table: Table) -> int:
        if name in self.session.classes:
            return self.session.classes.index(name)
        if name.isascii() and name.isdigit() and int(name) < self.session.output_count():
            return int(name)
        raise UnknownNameError(table.place("target"), name, self.session.classes)

    def _trained(self, state: State, table: Table) -> Lessoned | None:
        wanted = state.train
        if wanted is None or not wanted.steps:
            return None
        pixels, _, label = self._picture(state, table)
        if wanted.item is not None:
            found, label = self._item(wanted.item, table)
            pixels = found.contiguous().numpy().tobytes()
        target = self._class(wanted.target, table) if wanted.target is not None else label
        if wanted.item is None and wanted.target is None:
            target = self._target(state, label, table)
        if target is None:
            raise table.wrong("train", None, "the class to learn: train.target, for a picture without a label")
        loss = self._loss(state)
        return Lessoned(pixels, target, loss, wanted.steps, wanted.rate, wanted.momentum, wanted.decay)


def _needed(value: str | None, table: Table, key: str, wanted: str) -> str:
    if value is None:
        raise table.wrong(key, None, wanted)
    return value


def _moved(pixels: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The picture moved by whole pixels, black where nothing was; (1, c, h, w)."""
    height, width = pixels.shape[-2:]
    grown = F.pad(pixels, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return grown[..., top : top + height, left : left + width].contiguous()


def _picked(pick: str, numbers: list[float]) -> list[int]:
    """Which are the largest, smallest, or largest by size; several where they are equal."""
    scores = [abs(each) if pick == "strongest" else -each if pick == "smallest" else each for each in numbers]
    best = max(scores)
    near = _TIE * max(1e-30, max(abs(each) for each in numbers))
    return [at for at, score in enumerate(scores) if score >= best - near and not math.isnan(score)]


def _places(shape: tuple[int, ...], number: int | None, box: tuple[int, ...] | None) -> Iterator[tuple[int, ...]]:
    for place in torch.cartesian_prod(*(torch.arange(side) for side in shape)).reshape(-1, len(shape)).tolist():
        inside = box is None or (box[0] <= place[1] <= box[2] and box[1] <= place[2] <= box[3])
        if (number is None or len(shape) == 1 or place[0] == number) and inside:
            yield tuple(place)
