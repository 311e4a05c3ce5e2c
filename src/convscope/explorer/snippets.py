"""A number on the page as a few lines of PyTorch that print it again: autograd and the graph, none of our own rules."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

from torch import Tensor

from convscope.explorer.network import INPUT

EMBEDDED_BYTES = 4096

_HEAD = """\
import base64, zlib
import torch
from torch.nn import functional as F
import convscope
from convscope.graph.calls import Names
from convscope.graph.capture import capture
from convscope.layers.losses import loss_for

model = convscope.load({path!r}).eval()
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


def snippet(
    *,
    model_path: Path,
    pixels: Tensor,
    pixels_path: Path,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    input_shape: tuple[int, ...],
    loss: str,
    target: int | None,
    asked: dict[str, Any],
    before: str | None,
) -> str:
    """Code that prints the number that ``asked`` names.

    ``asked``: {"kind": "activation" | "delta" | "weight" | "gradient" | "logit" | "probability" | "loss", "layer",
    "index", "parameter"}; ``before`` is the call whose output is the u at which an activation's δ stands.
    """
    shape = tuple(pixels.shape)
    raw = pixels.cpu().contiguous().numpy().tobytes()
    packed = zlib.compress(raw, 9)
    if len(packed) <= EMBEDDED_BYTES:
        text = base64.b85encode(packed).decode()
        load = f"raw = zlib.decompress(base64.b85decode({text!r}))\n"
        load += f"pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape({shape})"
    else:
        load = f"import numpy\npixels = torch.from_numpy(numpy.load({str(pixels_path)!r}))"
    head = _HEAD.format(path=str(model_path), pixels=load, mean=list(mean), std=list(std), shape=tuple(input_shape))
    kind, layer, index = asked["kind"], asked.get("layer", ""), tuple(asked.get("index", ()))
    at = ", ".join(str(each) for each in (0, *index))
    backward = f"J = loss_for({loss!r}, model).value(logits, torch.tensor([{target}]))\n"
    match kind:
        case "activation":
            return head + _KEEP + f"print(keep.kept[{layer!r}][{at}].item())\n"
        case "input":
            return head + f"print(x[{at}].item())\n"
        case "delta":
            key = "x" if before == INPUT else f"keep.kept[{(before or layer)!r}]"
            return head + _KEEP + backward + f"(delta,) = torch.autograd.grad(J, {key})\nprint(delta[{at}].item())\n"
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
            lines = f"logits = model(x)\nscores = loss_for({loss!r}, model).predictions(logits)\n"
            return head + lines + f"print(F.softmax(scores.double(), 1)[{at}].item())\n"
        case _:
            return head + "logits = model(x)\n" + backward + "print(J.item())\n"
