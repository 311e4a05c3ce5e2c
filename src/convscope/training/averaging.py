"""The mean of a run's weights over its last epochs (Vaswani et al. 2017, 6.1; Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from torch import Tensor, nn

from convscope.errors import ArgumentError, CheckpointError
from convscope.models.modelfile import check_weights, load
from convscope.training import checkpoints, events
from convscope.training.run_folder import RunFolder


def refuse_statistics(model: nn.Module, epochs: int) -> None:
    """ArgumentError where a mean would not be whole: running statistics of batch normalisation are of other weights."""
    if epochs == 1:
        return
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            wanted = f"1: the running statistics of {name!r} would not be those of the mean weights"
            raise ArgumentError("average_epochs", epochs, wanted)


class Mean:
    """Parameters added up in float64, each by itself; what is no parameter (a table, a counter) is the last's."""

    def __init__(self, parameters: Sequence[str]) -> None:
        self.parameters = frozenset(parameters)
        self.count = 0
        self._sums: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}

    def add(self, path: Path, weights: dict[str, Tensor]) -> None:
        """CheckpointError, naming ``path``, for weights of another model than those before."""
        if self.count:
            check_weights(path, self._last, weights)
        self.count += 1
        self._last = weights
        for name in self.parameters & weights.keys():
            wide = weights[name].double()
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def weights(self) -> dict[str, Tensor]:
        """Of the types that were added."""
        means = {name: (each / self.count).to(self._last[name].dtype) for name, each in self._sums.items()}
        return {**self._last, **means}


def average_files(paths: Sequence[str | Path]) -> nn.Module:
    """The model whose parameters are the mean of those in ``paths``, files of ``save`` or checkpoints of one run, in
    evaluation mode. ArgumentError without a file, or for running statistics; CheckpointError for another model."""
    if not paths:
        raise ArgumentError("paths", "no files", "at least one")
    model = load(paths[-1])
    refuse_statistics(model, len(paths))
    mean = Mean([name for name, _ in model.named_parameters(remove_duplicate=False)])
    for path in paths:
        mean.add(Path(path), load(path).state_dict())
    model.load_state_dict(mean.weights())
    return model


def averaged(
    folder: RunFolder, model: nn.Module, history: Sequence[events.EpochDone], epochs: int
) -> Generator[events.Event, None, None]:
    """Put the mean of the weights at the ends of the last ``epochs`` of ``history`` into ``model``.

    Tells which epochs those were: those whose checkpoint is there no more, or damaged, are passed over. CheckpointError
    where none is left.
    """
    mean = Mean([name for name, _ in model.named_parameters(remove_duplicate=False)])
    used: list[int] = []
    wanted = [row for row in history[-epochs:] if folder.state_at(row.step).exists()]
    for row in wanted:
        path = folder.state_at(row.step)
        try:
            weights = checkpoints.load_state(path).weights
            check_weights(path, model.state_dict(), weights)
            mean.add(path, weights)
            used.append(row.epoch)
        except CheckpointError as problem:
            yield events.CheckpointRefused(path, problem.problem)
    if not used:
        raise CheckpointError(folder.states_dir, "no whole checkpoint of the last epochs is left to average")
    model.load_state_dict(mean.weights())
    yield events.Averaged(tuple(used), epochs)
