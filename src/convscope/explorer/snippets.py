"""A number on the page as a few lines of PyTorch that print it again: autograd and the graph, none of our own rules."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from convscope.explorer.network import INPUT
from convscope.inspect.outputs import bends, says_shares
from convscope.rules.base import Rule
from convscope.rules.elementwise import Elementwise
from convscope.rules.softmax import LogSoftmax, Softmax

EMBEDDED_BYTES = 2**21  # of a model's file: LeNet-5's has 250 kB; a larger one is saved from the page beside the code
SAVED_MODEL = "model.safetensors"

_HEAD = """\
import base64, pathlib, tempfile, zlib
import torch
from torch.nn import functional as F
import convscope
from convscope.graph.calls import Names
from convscope.graph.capture import capture
from convscope.layers.losses import loss_for

{model}
{pixels}
mean, std = torch.tensor({mean}).reshape(1, -1, 1, 1), torch.tensor({std}).reshape(1, -1, 1, 1)
x = ((pixels.float() - mean * 255) / (std * 255)).reshape(1, *{shape}).requires_grad_()
"""

_KEEP = '''
class Keep(torch.fx.Interpreter):
    """Runs the model call by call and keeps every value."""
    kept, name_of = {}, Names()

    def run_node(self, node):
        y = super().run_node(node)
        if node.op.startswith("call") and isinstance(y, torch.Tensor):
            self.kept[self.name_of(node)] = y
            return y.clone()  # so that an in-place call does not change what is kept
        return y

keep = Keep(capture(model, x.detach()))
logits = keep.run(x.clone())
'''

_RULE = '''
class Keep(torch.fx.Interpreter):
    """Runs the model call by call and keeps every value; its rectifiers pass back only what is positive of δ{rule}."""
    kept, name_of, values = {{}}, Names(), {{}}

    def run_node(self, node):
        y = super().run_node(node)
        if not isinstance(y, torch.Tensor):
            return y
        if node.op.startswith("call"):
            name = self.name_of(node)
            if name in {rectifiers}:
                u = self.values[node.all_input_nodes[0]]
                y = {passed}
                y.register_hook(lambda delta: delta.clamp(min=0))
            self.kept[name] = y
        self.values[node] = y
        return y.clone()  # so that an in-place call does not change what is kept

keep = Keep(capture(model, x.detach()))
logits = keep.run(x.clone())
'''
_PASSED = {  # what is said of the rule; the value whose derivative it takes, 1 everywhere or the rectifier's own
    "deconv": (", whether they fired or not", "u + (y - u).detach()"),
    "guided": (", where they fired", "y.clone()"),
}


def snippet(
    *,
    model_file: Path,
    pixels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    input_shape: tuple[int, ...],
    loss: str,
    target: int | None,
    asked: dict[str, Any],
    before: str | None,
    end: Rule | None,
    rectifiers: Sequence[str] = (),
) -> str:
    """Code that prints the number that ``asked`` names, from nothing but itself: model and picture are in it.

    A model's file of more than ``EMBEDDED_BYTES`` is read from the folder that the code runs in, where the page's
    "Save the model" puts it. ``end`` is the rule that the network ends with, None for plain scores.

    ``asked``: {"kind": "activation" | "delta" | "weight" | "gradient" | "logit" | "probability" | "loss", "layer",
    "index", "parameter", of a δ "rule"}; ``before`` is the call whose output is the u at which an activation's δ
    stands, ``rectifiers`` the calls at which a rule other than "plain" goes its own way.
    """
    head = _HEAD.format(
        model=_opening(model_file), pixels=_loading(pixels), mean=list(mean), std=list(std), shape=tuple(input_shape)
    )
    kind, layer, index = asked["kind"], asked.get("layer", ""), tuple(asked.get("index", ()))
    at = ", ".join(str(each) for each in (0, *index))
    if bends(end):
        head += "model, x = model.double(), x.detach().double().requires_grad_()  # float32 rounds 0.99999998 to 1\n"
    backward = f"J = {_loss(loss, end, target)}\n"
    match kind:
        case "activation":
            return head + _KEEP + f"print(keep.kept[{layer!r}][{at}].item())\n"
        case "input":
            return head + f"print(x[{at}].item())\n"
        case "delta":
            key = "x" if before == INPUT else f"keep.kept[{(before or layer)!r}]"
            lines = f"(delta,) = torch.autograd.grad(J, {key})\nprint(delta[{at}].item())\n"
            return head + _keeping(asked["rule"], rectifiers) + backward + lines
        case "weight":
            place = ", ".join(str(each) for each in index)
            return head + f"print(model.get_submodule({layer!r}).{asked['parameter']}[{place}].item())\n"
        case "gradient":
            place = ", ".join(str(each) for each in index)
            lines = f"w = model.get_submodule({layer.split(':')[0]!r}).{asked['parameter']}\n"
            return head + _KEEP + backward + lines + f"(g,) = torch.autograd.grad(J, w)\nprint(g[{place}].item())\n"
        case "logit":
            return head + f"logits = model(x)\nprint(logits[{at}].item())\n"
        case "probability":
            lines = f"logits = model(x)\nscores = loss_for({loss!r}, model).predictions(logits).double()\n"
            return head + lines + f"p = {_shares(None if loss == 'rbf' else end)}\nprint(p[{at}].item())\n"
        case _:
            return head + "logits = model(x)\n" + backward + "print(J.item())\n"


def _loading(pixels: Tensor) -> str:
    packed = _text(pixels.cpu().contiguous().numpy().tobytes())
    load = f"raw = zlib.decompress(base64.b85decode({packed!r}))\n"
    return load + f"pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape({tuple(pixels.shape)})"


def _keeping(rule: str, rectifiers: Sequence[str]) -> str:
    if rule == "plain":
        return _KEEP
    said, passed = _PASSED[rule]
    return _RULE.format(rule=said, passed=passed, rectifiers=list(rectifiers))


def _text(raw: bytes) -> str:
    return base64.b85encode(zlib.compress(raw, 9)).decode()


def _opening(file: Path) -> str:
    if file.stat().st_size > EMBEDDED_BYTES:
        return f'# {SAVED_MODEL}: "Save the model" on the page\nmodel = convscope.load({SAVED_MODEL!r}).eval()'
    return (
        f"weights = {_text(file.read_bytes())!r}\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        f"    path = pathlib.Path(folder, {SAVED_MODEL!r})\n"
        "    path.write_bytes(zlib.decompress(base64.b85decode(weights)))\n"
        "    model = convscope.load(path).eval()"
    )


def _loss(loss: str, end: Rule | None, target: int | None) -> str:
    """J as the explorer works it out: in float64, with no second softmax behind a network that ends in one."""
    t = f"torch.tensor([{target}])"
    if loss == "cross_entropy" and says_shares(end):
        return f"F.nll_loss({'logits.log()' if isinstance(end, Softmax) else 'logits'}, {t})"
    return f"loss_for({loss!r}, model).value(logits.double(), {t})"


def _shares(end: Rule | None) -> str:
    """The scores as shares that sum to 1: ``convscope.inspect.outputs.probabilities``."""
    limits = end.limits() if isinstance(end, Elementwise) else None
    if isinstance(end, Softmax):
        return "scores"
    if isinstance(end, LogSoftmax):
        return "scores.exp()"
    if limits is not None:
        low, high = limits
        return f"F.normalize(((scores - {low}) / {high - low}).clamp(min=0), p=1, dim=1)"
    return "F.softmax(scores, 1)"
