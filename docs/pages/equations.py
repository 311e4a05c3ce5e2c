"""``python -m docs.pages.equations [file]`` writes the equations of all rules, from their docstrings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from convscope import layers as layers  # enrols its modules
from convscope.rules.base import Rule
from convscope.rules.elementwise import ELEMENTWISE, Elementwise, Row

#: The order of chapters: as a picture meets them on its way through a network. Other files of rules follow by name.
CHAPTERS = (
    "conv", "combined", "locally_shared", "conv_transpose", "pool", "unpool", "subsample", "dense", "elementwise",
    "rectifier", "prelu", "activation", "powers", "functions", "softmax", "over_time", "norm", "dropout", "rbf",
    "combine", "reshape", "padding", "embedding", "positions", "recurrent", "rnn", "lstm", "gru", "attention",
    "local_autograd", "loss", "pair_loss", "sparse_loss", "token_loss", "ctc",
)  # fmt: skip

_OPENING = """# The equations

One rule for each operator: the forward pass, the sensitivity δ = ∂J/∂y taken back, and the gradient of every parameter.
This page is written from the docstrings of `convscope.rules` by `python -m docs.pages.equations`; change it there.

Sources: *Xue 2016* are the lecture slides on convolutional networks with equations (1)–(53); *Bouvrie 2006* is
"Notes on Convolutional Neural Networks"; *LeCun et al. 1998* is "Gradient-Based Learning Applied to Document
Recognition". x is an operator's input, u its value before a non-linearity, y its output, J the loss; n counts the
examples of a batch, ⊗ is the Kronecker product, rot180 rotates a kernel by 180°. "Saved" names what the forward pass
keeps for the backward pass.
"""


def equations() -> str:
    """The whole page."""
    return "\n".join([_OPENING, *map(_chapter, chapters())])


def chapters() -> list[ModuleType]:
    """Every file of rules."""
    package = importlib.import_module("convscope.rules")
    others = sorted({found.name for found in pkgutil.iter_modules(package.__path__)} - set(CHAPTERS))
    first = [importlib.import_module(f"convscope.rules.{name}") for name in CHAPTERS]
    return first + [each for name in others if _rules(each := importlib.import_module(f"convscope.rules.{name}"))]


def main(arguments: list[str]) -> None:
    """Write the page to the file named first, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(equations(), encoding="utf-8")
    else:
        sys.stdout.write(equations())


def _chapter(module: ModuleType) -> str:
    title, _, rest = (inspect.getdoc(module) or "").partition("\n")
    parts = [f"## {title.rstrip('.')}\n"]
    if rest.strip() and not module.__name__.endswith(".elementwise"):  # that one tells how to write a row
        parts.append(_markdown(rest.strip()))
    for rule in _rules(module):
        parts.append(f"### {rule.__name__}\n\n{_markdown(inspect.getdoc(rule) or '')}{_facts(rule)}")
    if module.__name__.endswith("loss"):
        losses = [item for item in vars(module).values() if isinstance(item, FunctionType)]
        for loss in losses:
            if loss.__module__ == module.__name__ and not loss.__name__.startswith("_"):
                parts.append(f"### {loss.__name__}\n\n{_markdown(inspect.getdoc(loss) or '')}")
    return "\n".join(parts)


def _rules(module: ModuleType) -> list[type[Rule]]:
    found = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Rule)]
    return [rule for rule in found if rule.__module__ == module.__name__ and rule is not Rule]


def _markdown(docstring: str) -> str:
    """The opening formulas as a code block, everything after the first empty line followed by text as text."""
    blocks = [block for block in docstring.split("\n\n") if block.strip()]
    formulas = [blocks[0]]
    while len(formulas) < len(blocks) and blocks[len(formulas)].startswith("    "):
        formulas.append(inspect.cleandoc(blocks[len(formulas)]))
    lines = "\n".join(formulas).splitlines()
    text = "\n\n".join(block.replace("``", "`") for block in blocks[len(formulas) :])
    if "=" not in lines[0]:  # a sentence, not an equation
        return "\n\n".join(block.replace("``", "`") for block in blocks) + "\n"
    code = "```text\n" + "\n".join(line.strip() for line in lines).replace("``", "") + "\n```\n"
    return code + (f"\n{text}\n" if text else "")


def _facts(rule: type[Rule]) -> str:
    if inspect.isabstract(rule):
        return ""
    facts = [_forms(row) for row in map(ELEMENTWISE.__getitem__, ELEMENTWISE) if row.rule is rule]
    if rule.parameters:
        facts.append("Parameters: " + ", ".join(f"`{name}`" for name in rule.parameters) + ".")
    if dataclasses.is_dataclass(rule):
        options = [field.name for field in dataclasses.fields(rule) if field.init]
        if options:
            facts.append("Options: " + ", ".join(f"`{name}`" for name in options) + ".")
    facts.append("Saved: " + (", ".join(f"`{name}`" for name in rule.needs) or "nothing") + ".")
    return "\n" + " ".join(facts) + "\n"


def _forms(row: Row) -> str:
    """What a model may call the function by, and whether the native engine has it."""
    named = [f"`nn.{each.__name__}`" for each in row.modules if hasattr(nn, each.__name__)]
    named += [f"`convscope.layers.{each.__name__}`" for each in row.modules if not hasattr(nn, each.__name__)]
    named += [f"`{name}`" for name in row.functions if not name.endswith("_")]
    named += [f"`.{name}()`" for name in row.methods if not name.endswith("_")]
    engine = "The native engine runs it." if row.rule.engine is not Elementwise.engine else "Not in the native engine."
    return f"Called by: {', '.join(named) or '–'}. {engine}"


if __name__ == "__main__":
    main(sys.argv[1:])
