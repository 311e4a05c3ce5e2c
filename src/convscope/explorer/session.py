"""What one explorer holds: the model, the picture under study, its trace; and every question that the page may ask."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data import Dataset, Labelled
from convscope.data.kinds.sentences import Sentences
from convscope.errors import ArgumentError, ConvscopeError
from convscope.explorer.beside import placed_beside
from convscope.explorer.detector import DetectorDesk, detector_of
from convscope.explorer.inputs import Desk, Picture
from convscope.explorer.learning import IDLE, Learner
from convscope.explorer.network import Network
from convscope.explorer.protocol import Arguments, Reply
from convscope.explorer.reach import Reach
from convscope.explorer.sentences import ANSWERS, Sentence, SentenceDesk, reader_of
from convscope.explorer.snapshot import Question, Snapshot
from convscope.explorer.stepping import Stepper
from convscope.explorer.surgery import Surgeon
from convscope.inspect.attribution.subject import first_tensor
from convscope.inspect.inputs import input_of
from convscope.layers.losses import loss_for
from convscope.models.catalog import default_loss
from convscope.models.modelfile import save
from convscope.registry import Registry
from convscope.spec import ModelSpec, spec_of
from convscope.tasks.registry import task_of

Run = Callable[..., Reply]
LARGE = 3_000_000  # parameters; above, the backward pass waits until it is asked for
LOSS_NAMES = ("cross_entropy", "squared_error", "mean_squared_error", "hinge", "rbf", "binary_cross_entropy")
_LOOKED_AT = 64  # items of which the first to be shown is chosen
NUDGE_DOUBLE_LIMIT = 30_000_000


@dataclasses.dataclass(frozen=True)
class Operation:
    """``job``: it runs the network, one at a time; ``latest``: of those waiting only a window's newest is done;
    ``gives_way``: it takes long, and is cancelled when another job comes that neither gives way nor ``waits``;
    ``anew``: it is not about the picture and weights that the asking page shows."""

    run: Callable[[Session, Arguments, bytes], Reply]
    job: bool
    latest: bool
    gives_way: bool
    waits: bool
    anew: bool


class MovedError(ConvscopeError):
    """A question about a snapshot that is no longer the newest. ``window`` is the one that made that."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__("the picture or the model has been changed meanwhile")
        self.version, self.window = snapshot.version, snapshot.window


@dataclasses.dataclass(frozen=True)
class Climb:
    """A picture on its way to what a map or unit likes: whose, and the unit's value at every step so far."""

    layer: str
    index: tuple[int, ...]
    pixels: Tensor
    history: tuple[float, ...]


OPERATIONS: Registry[Operation] = Registry("op", "convscope.explorer.questions")


def operation(
    job: bool = False, latest: bool = False, gives_way: bool = False, waits: bool = False, anew: bool = False
) -> Callable[[Run], Run]:
    """Enrol a function under its own name as something that the page may ask."""

    def enrol(run: Run) -> Run:
        OPERATIONS.add(run.__name__, Operation(run, job, latest, gives_way, waits, anew))
        return run

    return enrol


def check_data(model: nn.Module, data: Dataset[Any] | None) -> None:
    """ArgumentError for data of another task than the model's, and of a kind whose examples are no single pictures or
    sentences with a class each."""
    if data is None:
        return
    task = task_of(model, data)
    if data.kind not in (Labelled.kind, Sentences.kind):
        got = f"{data.name!r}, a data set of kind {data.kind!r}, which {task.name} learns from"
        raise ArgumentError("data", got, "pictures with a class each, or none: any picture can be opened on the page")


class Session:
    """One model and one picture, shared by all windows of the page.

    ``x`` changes only in ``job`` operations, which run one after another; everything else reads the current snapshot.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset[Labelled] | None = None,
        name: str = "",
        start: int | None = None,
        input_shape: Sequence[int] | None = None,
        loss: str | None = None,
        beside: Mapping[str, nn.Module] | None = None,
    ) -> None:
        check_data(model, data)
        described = spec_of(model)
        self.name = name or (described.architecture if described is not None else type(model).__name__)
        self.reader, self.detector = reader_of(model), detector_of(model)
        self.desk = self._desk(model, data, input_shape)
        view = self.reader or self.detector
        model = self.model = (model if view is None else view.view).eval()
        sentence: Sentence | None = None
        if isinstance(self.desk, SentenceDesk):
            sentence = self.desk.first(start)
            self.network = self.desk.network(sentence)
            self.desk.turn_to(sentence)
        else:
            self.network = Network(model, self.desk.input_shape)
        self.large = sum(item.numel() for item in model.parameters()) > LARGE
        self.loss = loss if loss in LOSS_NAMES else default_loss(model)
        self.classes = self._classes(described, data) if self.detector is None else self.detector.names
        self.stepper = Stepper(model)
        own = weakref.proxy(self)  # or the two would hold each other, and a closed session stay in memory
        self.learner = Learner(model, self.desk, self.stepper, lambda: own.snapshot.objective.of_batches())
        self.surgeon = Surgeon(model)
        self.besides = [placed_beside(self.network, each, key) for key, each in (beside or {}).items()]
        self.pinned: Picture | None = None
        self.target: int | None = None
        self.target_chosen = False
        self.lock = threading.RLock()
        self._version = 0
        self._window = 0  # whose job runs, or ran last
        self._reach: Reach | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.cancelled = threading.Event()
        self.growing: Climb | None = None
        self.unfolded: set[str] = set()
        self.lesson: Mapping[str, Any] | None = None  # as lessons.lesson_of makes it; the page opens with it
        first = sentence or self._first_picture(start)
        self.picture: Picture = first
        if self.detector is not None:
            self.detector.look_first(self.desk.x(first), first)
        self.snapshot = self.make_snapshot(first)

    # ---- what the server calls -------------------------------------------------------------------------------------

    def close(self) -> None:
        self.learner.close()
        if self._folder is not None:
            self._folder.cleanup()

    def answer(self, op: str, args: Arguments, payload: bytes, version: int | None = None, window: int = 0) -> Reply:
        """Carry one request of a window out. Raises ConvscopeError for whatever is wrong with it; MovedError where it
        is about what the window shows, ``version``, and that is not what stands any longer."""
        if self.reader is not None and op not in ANSWERS:
            raise ArgumentError("model", f"{self.name}, which reads sentences", f"one of pictures, for {op!r}")
        wanted = OPERATIONS[op]
        if wanted.job:  # nothing but a job, and one at a time, makes another snapshot
            self._window = window
            self.check_version(None if wanted.anew else version)
            return wanted.run(self, args, payload)
        with self.lock:  # jobs change weights under it: an answer's snapshot and weights belong together
            self.check_version(None if wanted.anew else version)
            return wanted.run(self, args, payload)

    def check_version(self, version: int | None) -> None:
        """MovedError where what stands is of another version; None is of any."""
        if version not in (None, self.snapshot.version):
            raise MovedError(self.snapshot)

    def check_pictures(self, argument: str) -> None:
        """ArgumentError for a model of sentences, where ``argument`` is of pictures only."""
        if self.reader is not None:
            got = f"{self.name}, which reads sentences"
            raise ArgumentError(argument, got, "a model of pictures", "The page of a running explorer shows it")

    def cancel(self) -> None:
        """Long jobs stop at the next chance."""
        self.cancelled.set()

    def resume(self) -> None:
        self.cancelled.clear()

    def load_upload(self, content: bytes, kind: str, window: int = 0) -> None:
        self._window = window
        self.show(self.desk.from_file(content, kind))

    # ---- the picture ------------------------------------------------------------------------------------------------

    def _desk(
        self, model: nn.Module, data: Dataset[Any] | None, input_shape: Sequence[int] | None
    ) -> Desk | SentenceDesk:
        if self.reader is not None:
            return SentenceDesk(self.reader, data)
        takes = input_of(model, data, input_shape)
        return Desk(takes, data) if self.detector is None else DetectorDesk(takes, self.detector.scale)

    def _first_picture(self, start: int | None) -> Picture:
        if self.desk.data is None:
            return self.desk.example()
        return self.desk.from_data("test", self._first_item(start))

    def _first_item(self, start: int | None) -> int:
        """The item asked for, else a "3" where there is one: the tour speaks of it. Of the first of them that one which
        the network gets right with the largest loss, so that there is a loss to look at."""
        assert self.desk.data is not None
        if start is not None:
            return start
        split = self.desk.data.test
        if "3" not in split.classes:
            return 0
        label = split.classes.index("3")
        threes = torch.nonzero(split.labels == label).flatten()[:_LOOKED_AT]
        if not len(threes):
            return 0
        if self.large or self.output_count() != len(split.classes):
            return int(threes[0])
        pictures = [self.desk.from_data("test", int(index)) for index in threes]
        with torch.no_grad():
            output = self.model(torch.cat([self.desk.x(picture) for picture in pictures]))
        scores = loss_for(self.loss, self.model).predictions(first_tensor(output)).double()
        margin = scores[:, label] - scores.scatter(1, torch.full((len(scores), 1), label), -torch.inf).amax(1)
        right = torch.where(margin > 0, margin, torch.inf)
        return int(threes[int(right.argmin())])

    def show(self, picture: Picture) -> None:
        if not self.target_chosen or picture.label is not None:
            self.target_chosen = False
        if self.detector is not None:
            self.target_chosen = False
            self.detector.look_first(self.desk.x(picture), picture)
        network = self.network
        if isinstance(self.desk, SentenceDesk):
            network = self.desk.network(picture, network)
        snapshot = self.make_snapshot(picture, network=network)
        with self.lock:
            if isinstance(self.desk, SentenceDesk) and isinstance(picture, Sentence):
                self.desk.turn_to(picture)
            if network is not self.network:
                self.network, self._reach = network, None
            self.picture, self.snapshot = picture, snapshot

    def make_snapshot(
        self, picture: Picture, forward: Snapshot | None = None, lazy: bool = False, network: Network | None = None
    ) -> Snapshot:
        """Trace the picture for the target and loss as they are set; ``lazy``: the way back when it is asked for."""
        self._version += 1
        x = self.desk.x(picture)
        label = picture.label if self.detector is None else self.detector.chosen[1] + 1  # behind the background
        target = self.target if self.target_chosen else label
        if target is not None and target >= max(1, self.output_count()):
            target = None
        question = Question(x, target, self.loss, guess=target is None)
        made = Snapshot(network or self.network, question, self._version, self.large or lazy, forward, self._window)
        self.target = made.question.target
        return made

    def output_count(self) -> int:
        shape = self.network.nodes[self.network.output].shape
        return shape[0] if len(shape) == 1 else 0

    def _classes(self, described: ModelSpec | None, data: Dataset[Labelled] | None) -> list[str]:
        count = self.output_count()
        for names in (
            self.reader.classes if self.reader is not None else (),
            described.classes if described is not None else (),
            data.train.classes if data is not None else (),
        ):
            if len(names) == count:
                return list(names)
        return [str(number) for number in range(count)]

    def retrace(self) -> None:
        """The same picture and weights for another target or loss."""
        snapshot = self.make_snapshot(self.picture, self.snapshot)
        with self.lock:
            self.snapshot = snapshot

    def settle(self) -> None:
        """End the learning from the data, the model as it has left it: before anything else changes the weights."""
        if self.learner.state == IDLE:
            return
        with self.lock:
            self.learner.rest()
            self.surgeon.forget()
            self.snapshot = self.make_snapshot(self.picture)

    def reach(self) -> Reach:
        """Receptive fields, prepared at the first use."""
        with self.lock:
            if self._reach is None:
                self._reach = Reach(self.network)
            return self._reach

    def saved_model(self) -> Path:
        """The model with its present weights as a file, in a folder of this session's own that goes at its end."""
        if self.detector is not None:
            raise ArgumentError(
                "save", "a detector", "a model of one input", "Its file is as it was; edits are not kept"
            )
        with self.lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="convscope-explorer-")
            path = Path(self._folder.name, f"{self.stepper.weight_hash()}.safetensors")
            if not path.exists():
                save(self.model, path, self.network.input_shape)
            return path
