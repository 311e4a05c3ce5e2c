"""Texts that a model makes token by token: the likeliest, by a beam."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Begun(Protocol):
    """Texts under way, one a row; a model of texts gives it by ``begin``."""

    def step(self, tokens: Tensor) -> Tensor:
        """The scores (n, tokens there are) of what follows on ``tokens`` (n,), the newest of each row."""
        ...

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row ``rows[i]``, which is a text for the same input."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Only these rows stay, in this order; rows may come several times."""
        ...


@dataclasses.dataclass(frozen=True)
class Found:
    """A text without its ends; ``log_probability`` of it and its end, ``score`` the same by length. ``whole``: its end
    was found before there were too many tokens."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    whole: bool


@dataclasses.dataclass(frozen=True)
class Search:
    """How texts are looked for: ``beam`` are kept at a time, 1 is greedy. ``penalty`` α: texts are ranked by ln p/lp,
    lp = ((5 + length)/6)^α, the end counted (Wu et al. 2016, eq. 14). ``start`` and ``end`` are tokens; ``banned`` are
    those that no text may have."""

    beam: int = 4
    penalty: float = 0.6
    start: int = 2
    end: int = 3
    banned: tuple[int, ...] = (0, 1, 2)

    def by_length(self, log_probability: float, length: int) -> float:
        return log_probability / float(((5 + length) / 6) ** self.penalty)

    @torch.no_grad()
    def __call__(self, begun: Begun, longest: Sequence[int], device: torch.device | str = "cpu") -> list[Found]:
        """The best text for each of the inputs that ``begun`` has a row of, with its end at most ``longest`` tokens.

        An input is done when ``beam`` of its texts are and the best of them is better than any under way, or when no
        other can become better than the best. As wide as there
        are beginnings it finds the best text of all.
        """
        examples, beam = len(longest), self.beam
        left = list(range(examples))  # which inputs the rows are of
        done: list[list[Found]] = [[] for _ in range(examples)]
        begun.keep(torch.arange(examples, device=device).repeat_interleave(beam))
        tokens = torch.full((examples * beam,), self.start, device=device)
        history = torch.empty(examples, beam, 0, dtype=torch.int64, device=device)
        sums = torch.full((examples, beam), -torch.inf, device=device)
        sums[:, 0] = 0.0  # all rows of an input begin alike
        for length in range(1, max(longest, default=0) + 1):
            logs = torch.log_softmax(begun.step(tokens).float(), 1)
            logs[:, list(self.banned)] = -torch.inf
            sums, origins, chosen = self._ranked(sums, logs)
            self._finish(done, left, length, sums, origins, chosen, history)
            alive = (chosen == self.end).to(torch.uint8).argsort(dim=1, stable=True)[:, :beam]
            ended = chosen.gather(1, alive) == self.end
            sums = sums.gather(1, alive).masked_fill(ended, -torch.inf)
            origins, chosen = origins.gather(1, alive), chosen.gather(1, alive)
            before = history.gather(1, origins[:, :, None].expand(-1, -1, length - 1))
            history = torch.cat([before, chosen[:, :, None]], 2)  # (inputs left, beam, length)
            going = self._going(done, left, length, sums.amax(1).tolist(), longest)
            for row in set(range(len(left))) - set(going):
                if not done[left[row]]:
                    done[left[row]].append(self._cut(history[row], sums[row]))
            if not going:
                break
            rows = torch.tensor(going, device=device)
            begun.reorder((torch.arange(len(left), device=device)[:, None] * beam + origins).flatten())
            if len(going) < len(left):
                begun.keep((rows[:, None] * beam + torch.arange(beam, device=device)).flatten())
                left = [left[row] for row in going]
                sums, history, chosen = sums[rows], history[rows], chosen[rows]
            tokens = chosen.flatten()
        return [max(each, key=lambda text: text.score) for each in done]

    def _ranked(self, sums: Tensor, logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest 2·beam ways on of each input: the sums of their logarithms, which of the beam they go on from,
        and by which token. Twice as many, so that a beam is left when all the best have ended."""
        inputs, beam = sums.shape
        each = logs.shape[1]
        together = (sums[:, :, None] + logs.view(inputs, beam, each)).flatten(1)
        best, places = together.topk(min(2 * beam, together.shape[1]), 1)
        return best, places // each, places % each

    def _finish(
        self,
        done: list[list[Found]],
        left: Sequence[int],
        length: int,
        sums: Tensor,
        origins: Tensor,
        chosen: Tensor,
        history: Tensor,
    ) -> None:
        """Note the texts that have ended among the best ``beam``."""
        best = slice(0, self.beam)
        ended = (chosen[:, best] == self.end) & sums[:, best].isfinite()
        for row, place in ended.nonzero().tolist():
            value = float(sums[row, place])
            text = tuple(history[row, int(origins[row, place])].tolist())
            done[left[row]].append(Found(text, value, self.by_length(value, length), True))

    def _going(
        self, done: list[list[Found]], left: Sequence[int], length: int, best: Sequence[float], longest: Sequence[int]
    ) -> list[int]:
        """The rows of inputs that are to go on."""
        found = []
        for row, example in enumerate(left):
            texts, limit = done[example], longest[example]
            # a sum of logarithms only falls, and is worth most divided by the largest of penalties
            now = self.by_length(best[row], length + 1)
            hope = max(self.by_length(best[row], limit), now)
            found_so_far = max((text.score for text in texts), default=-torch.inf)
            # a beam of poor endings must not end a text that is far likelier than they are
            settled = found_so_far >= (now if len(texts) >= self.beam else hope)
            if length < limit and best[row] > -torch.inf and not settled:
                found.append(row)
        return found

    def _cut(self, history: Tensor, sums: Tensor) -> Found:
        """The likeliest beginning, where no text has ended in time."""
        place = int(sums.argmax())
        value = float(sums[place])
        text = tuple(history[place].tolist())
        return Found(text, value, self.by_length(value, len(text)), False)
