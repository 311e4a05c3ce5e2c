"""How fast the models of sequences learn, beside the same networks in torch's own modules and a plain loop.

    python benchmarks/sequence_speed.py [NAME …] [--steps 24] [--turn 4] [--threads 1] [--processor-time] [--json FILE]
    python benchmarks/sequence_speed.py --translate FILE [--sentences 200] [--beam 4]

``text_cnn`` on rt_polarity, ``crnn`` on digit_lines, ``caption_attention`` on digit_scenes and ``transformer`` on
multi30k, each by its recipe (the data are looked for where ``convscope datasets`` looks). The plain networks are made
of nn.Conv1d and 2d, nn.LSTM, nn.MultiheadAttention, nn.TransformerEncoderLayer and the like; the plain loop has the
same batches: forward, loss, backward, step, add up the loss, and nothing is counted, told or saved. First it is
verified that both give the same scores from the same weights, with what fills up the batches. Then each does
``--turn`` steps by turns, so that what else the machine does falls on both; the figure is the median of the ratios of
both times over the same batches.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from convscope import predict
from convscope.data import Dataset, Feed, Order, load_dataset
from convscope.data.examples import Batch
from convscope.models import MODELS, create_model
from convscope.models.modelfile import load
from convscope.tasks import run
from convscope.tasks.recipes import recipe_named
from convscope.tasks.registry import TASKS
from convscope.training import Config, events
from convscope.training.task import model_inputs

Weights = dict[str, Tensor]


class PlainText(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        words, size = ours.embedding.weight.shape
        self.widths = ours.widths
        self.embedding = nn.Embedding(words, size, padding_idx=0)
        self.convs = nn.ModuleList(nn.Conv1d(size, 100, width, padding=width - 1) for width in self.widths)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(300, ours.output.out_features)
        names = {f"conv{width}.": f"convs.{place}." for place, width in enumerate(self.widths)}
        self.load_state_dict(renamed(ours, names))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)
        best = []
        for width, conv in zip(self.widths, self.convs, strict=True):
            y = F.relu(conv(x))
            beyond = torch.arange(y.shape[2]) >= (lengths + width - 1)[:, None]
            best.append(y.masked_fill(beyond[:, None], -torch.inf).max(2).values)
        scores: Tensor = self.output(self.dropout(torch.cat(best, 1)))
        return scores

    def after_step(self) -> None:
        with torch.no_grad():
            self.output.weight.copy_(torch.renorm(self.output.weight, 2, 0, 3.0))


class PlainLines(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.convs, self.norms, self.pools = nn.ModuleList(), nn.ModuleList(), []
        for number in range(1, ours.stages + 1):
            conv, pool = getattr(ours, f"conv{number}"), getattr(ours, f"pool{number}")
            self.convs.append(
                nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, bias=False)
            )
            self.norms.append(nn.BatchNorm2d(conv.out_channels))
            self.pools.append((getattr(pool, "kernel_size", None), getattr(ours, f"keep{number}").stride))
        cells = ours.reader.cells
        self.lstm = nn.LSTM(cells.input_size, cells.hidden_size, cells.num_layers, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * cells.hidden_size, ours.output.out_features)
        names = {f"{kind}{n}.": f"{kind}s.{n - 1}." for kind in ("conv", "norm") for n in range(1, ours.stages + 1)}
        self.load_state_dict(renamed(ours, {**names, "reader.cells.": "lstm."}))

    def forward(self, x: Tensor, widths: Tensor) -> Tensor:
        for conv, norm, (pool, stride) in zip(self.convs, self.norms, self.pools, strict=True):
            x = F.relu(norm(conv(x)))
            x = x if pool is None else F.max_pool2d(x, pool)
            x = x * (torch.arange(x.shape[3]) < (widths // stride)[:, None])[:, None, None]
        steps = pack_padded_sequence(x[:, :, 0].transpose(1, 2), widths // 4, batch_first=True, enforce_sorted=False)
        scores: Tensor = self.output(pad_packed_sequence(self.lstm(steps)[0], batch_first=True)[0])
        return scores


class PlainCaptions(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        names = {"reader.cells.": "reader.", "writer.cells.": "writer.", ".out_weight": ".out_proj.weight"}
        names |= {".out_bias": ".out_proj.bias"}
        for number in range(1, ours.sight.stages + 1):
            conv = getattr(ours.sight, f"conv{number}")
            names |= {
                f"sight.conv{number}.": f"sight.{len(layers)}.",
                f"sight.norm{number}.": f"sight.{len(layers) + 1}.",
            }
            layers += [nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(conv.out_channels), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if number < ours.sight.stages else []
        self.sight = nn.Sequential(*layers)
        tokens, size = ours.words.weight.shape
        self.project = nn.Conv2d(ours.project.in_channels, size, 1)
        self.places = ours.positions.weight
        self.words = nn.Embedding(tokens, size, padding_idx=0)
        self.reader, self.writer = nn.LSTM(size, size, batch_first=True), nn.LSTM(2 * size, size, batch_first=True)
        self.glance = nn.MultiheadAttention(size, ours.glance.heads, batch_first=True)
        self.attention = nn.MultiheadAttention(size, ours.attention.heads, batch_first=True)
        self.output = nn.Linear(2 * size, tokens)
        self.load_state_dict(renamed(ours, names))

    def forward(self, pictures: Tensor, begun: Tensor) -> Tensor:
        keys = self.project(self.sight(pictures)).flatten(2).transpose(1, 2)
        keys = keys + self.places[: keys.shape[1]]
        x = self.reader(self.words(begun))[0]
        y = self.writer(torch.cat([x, self.glance(x, keys, keys, need_weights=False)[0]], 2))[0]
        looked = self.attention(y, keys, keys, need_weights=False)[0]
        scores: Tensor = self.output(torch.cat([y, looked], 2))
        return scores


class PlainTransformer(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        tokens, self.size = ours.words.weight.shape
        first = ours.encoder1
        options: dict[str, Any] = {"dropout": first.dropout1.p, "batch_first": True}
        shape = (self.size, first.attention.heads, first.expand.out_features)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(*shape, **options) for _ in range(ours.depth[0]))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(*shape, **options) for _ in range(ours.depth[1]))
        for layer in (*self.encoder, *self.decoder):  # the paper's has none on its attention, nor between its layers
            layer.dropout = nn.Identity()
            for each in layer.modules():
                if isinstance(each, nn.MultiheadAttention):
                    each.dropout = 0.0
        self.words = nn.Embedding(tokens, self.size, padding_idx=0)
        self.places, self.dropout = ours.positions.weight, nn.Dropout(ours.dropout.p)
        names = {".attention.": ".self_attn.", ".out_weight": ".out_proj.weight", ".out_bias": ".out_proj.bias"}
        names |= {"expand.": "linear1.", "contract.": "linear2."}
        for number in range(1, max(ours.depth) + 1):
            names |= {f"decoder{number}.attention.": f"decoder.{number - 1}.multihead_attn."}
            names |= {f"decoder{number}.own.": f"decoder.{number - 1}.self_attn."}
            names |= {f"{side}{number}.": f"{side}.{number - 1}." for side in ("encoder", "decoder")}
        ordered = dict(sorted(names.items(), key=lambda each: -len(each[0])))
        found = renamed(ours, ordered)
        del found["output.weight"]
        self.load_state_dict(found)

    def forward(self, source: Tensor, begun: Tensor) -> Tensor:
        beyond = source == 0
        x = self._placed(source)
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=beyond)
        y = self._placed(begun)
        future = torch.ones(begun.shape[1], begun.shape[1], dtype=torch.bool).triu(1)
        for layer in self.decoder:
            y = layer(y, x, tgt_mask=future, memory_key_padding_mask=beyond, tgt_is_causal=True)
        return F.linear(y, self.words.weight)

    def _placed(self, tokens: Tensor) -> Tensor:
        placed: Tensor = self.dropout(self.words(tokens) * self.size**0.5 + self.places[: tokens.shape[1]])
        return placed


def renamed(ours: nn.Module, names: dict[str, str]) -> Weights:
    """The weights under the plain network's names: the first of ``names`` that is found gives way, then the next."""
    found = {}
    for name, weight in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = weight.clone()
    return found


def tokens_loss(scores: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=0, label_smoothing=0.1)


def lines_loss(scores: Tensor, targets: Any) -> Tensor:
    logs = F.log_softmax(scores, 2).transpose(0, 1)
    steps = targets["widths"] // 4
    return F.ctc_loss(logs, targets["texts"], steps, targets["lengths"], reduction="sum", zero_infinity=True) / len(
        scores
    )


@dataclasses.dataclass(frozen=True)
class Case:
    recipe: str
    plain: Callable[[Any], nn.Module]
    loss: Callable[[Tensor, Any], Tensor]
    unit: str
    counts: Callable[[Batch], float] = lambda batch: float(batch.examples)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)


CASES = {
    "text_cnn": Case("text_cnn-paper", PlainText, F.cross_entropy, "sentences"),
    "crnn": Case("crnn-digits", PlainLines, lines_loss, "lines", data={"train": 4000}),
    "caption_attention": Case("caption_attention-scenes", PlainCaptions, tokens_loss, "pictures"),
    "transformer": Case("transformer-multi30k", PlainTransformer, tokens_loss, "tokens", lambda batch: batch.weight),
}


def verify(ours: nn.Module, plain: nn.Module, inputs: Sequence[Tensor], real: Tensor | None) -> None:
    with torch.no_grad():
        mine, its = ours.eval()(*inputs), plain.eval()(*inputs)
    ours.train(), plain.train()
    kept = torch.ones_like(mine, dtype=torch.bool) if real is None else real[:, :, None].expand_as(mine)
    if not torch.allclose(mine[kept], its[kept], rtol=1e-4, atol=1e-4):
        raise SystemExit(f"{type(plain).__name__} is not {type(ours).__name__}: nothing to compare")


@dataclasses.dataclass
class Both:
    """What is common to both sides: the data as the task prepares them, and the order of their batches."""

    case: Case
    config: Config
    prepared: Any

    def batches(self, epoch: int) -> Iterator[Batch]:
        train = self.prepared.train
        order = Order(
            len(train), self.prepared.batch_size(self.config), self.config.seed, epoch, lengths=train.lengths,
            tokens=self.prepared.tokens,
        )  # fmt: skip
        return iter(Feed(train, order, self.prepared.stages))

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        return model_inputs(self.prepared.inputs, batch.inputs, torch.float32)


def plain_loop(model: nn.Module, both: Both) -> Iterator[None]:
    """Train for ever; comes back after every step."""
    config = both.config
    if config.optimiser == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    else:
        optimiser = getattr(torch.optim, config.optimiser)(model.parameters(), lr=1.0, **config.optimiser_options)
    after = getattr(model, "after_step", lambda: None)
    for epoch in itertools.count(1):
        total = 0.0
        for batch in both.batches(epoch):
            optimiser.zero_grad()
            loss = both.case.loss(model(*both.inputs(batch)), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            if config.gradient_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimiser.step()
            after()
            total += loss.item()
            yield


def our_loop(model: nn.Module, dataset: Dataset[Any], folder: Path, config: Config) -> Iterator[None]:
    """The same by convscope's loop, as ``fit`` runs it."""
    options = {name: value for name, value in config.to_json().items() if value != getattr(Config(), name)}
    options |= {"run_dir": str(folder), "engine": "torch", "device": "cpu", "checkpoint_seconds": 0.0, "watch": False}
    for event in run(model, dataset, **{**options, "average_epochs": 1}):
        if isinstance(event, events.BatchDone):
            yield


def measure(name: str, steps: int, turn: int, clock: Callable[[], float]) -> dict[str, Any]:
    case, recipe = CASES[name], recipe_named(CASES[name].recipe)
    dataset = load_dataset(recipe.data, **case.data)
    config = Config.of(**recipe.settings)
    task = TASKS[MODELS[name].card.task](config.settings)
    torch.manual_seed(0)
    ours = create_model(name, **recipe.options, **task.options(dataset))
    both = Both(case, config, task.prepare(ours, dataset, config))
    plain = case.plain(ours)
    first = next(both.batches(1))
    verify(ours, plain, both.inputs(first), real_steps(first))
    seconds: dict[str, list[float]] = {"convscope": [], "plain": []}
    amounts = [case.counts(batch) for batch in itertools.islice(both.batches(1), turn, turn + steps)]
    with tempfile.TemporaryDirectory() as folder:
        loops = {"convscope": our_loop(ours, dataset, Path(folder) / "run", config), "plain": plain_loop(plain, both)}
        for loop in loops.values():
            for _ in range(turn):  # warms up
                next(loop)
        for number in range(steps // turn):
            for side in list(loops) if number % 2 else list(loops)[::-1]:
                begun = clock()
                for _ in range(turn):
                    next(loops[side])
                seconds[side].append(clock() - begun)
        loops["convscope"].close()  # type: ignore[attr-defined]
    ratios = sorted(its / mine for mine, its in zip(seconds["convscope"], seconds["plain"], strict=True))
    done = sum(amounts[: steps // turn * turn])
    return {
        "model": name,
        "unit": case.unit,
        **{f"{side}_per_second": done / sum(each) for side, each in seconds.items()},
        "times_as_fast": statistics.median(ratios),
        "from_to": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
    }


def real_steps(batch: Batch) -> Tensor | None:
    """Which places of the scores (n, t) are no filling; None: there are no places."""
    if isinstance(batch.targets, dict):
        widths: Tensor = batch.targets["widths"]
        return torch.arange(int(batch.targets["width"]) // 4) < (widths // 4)[:, None]
    targets: Tensor = batch.targets
    return targets != 0 if targets.ndim == 2 else None


def translating(file: Path, sentences: int, beam: int) -> dict[str, Any]:
    """Sentences a second of a trained translator, the first of multi30k's test sentences."""
    texts = list(load_dataset("multi30k").test.source_texts[:sentences])
    model = load(file)
    predict(model, texts[:8])
    begun = time.perf_counter()
    predict(model, texts, task=TASKS["translation"]({"beam": beam}))
    return {"sentences": len(texts), "beam": beam, "sentences_per_second": len(texts) / (time.perf_counter() - begun)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)} (all)")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--turn", type=int, default=4, help="steps that each does before the other's turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="of this process: where others work beside it")
    parser.add_argument("--translate", type=Path, metavar="FILE")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.processor_time else time.perf_counter
    if given.translate is not None:
        found: Any = translating(given.translate, given.sentences, given.beam)
        print(f"{found['sentences_per_second']:.1f} sentences a second, beam {found['beam']}")
    else:
        found = []
        for name in given.names or CASES:
            found.append(row := measure(name, given.steps, given.turn, clock))
            speeds = f"{row['convscope_per_second']:,.0f} {row['unit']} a second, plain {row['plain_per_second']:,.0f}"
            low, high = row["from_to"]
            print(f"{name}: {speeds}: {row['times_as_fast']:.2f} times as fast ({low:.2f} to {high:.2f})", flush=True)
    if given.json is not None:
        more = {"threads": given.threads, "torch": torch.__version__}
        more["instruction_set"] = torch.backends.cpu.get_cpu_capability()
        given.json.write_text(json.dumps({**more, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
