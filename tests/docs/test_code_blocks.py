"""Every block of code on the site and in the README: Python is run, command lines are read by their commands."""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy
import pytest
import torch
from PIL import Image
from tests.data.sources.test_mnist import idx
from torch import nn

import convscope
from convscope import spec
from convscope.cli.main import group
from convscope.experiments.base import EXPERIMENTS
from convscope.models.portable import describe_spec
from convscope.tasks.jobs import JOBS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md"])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Their trainings take 4 to 8 seconds.
SLOW = {
    "README.md", "README.zh-CN.md", "home.md",
    "pixels-to-gradients.md", "reproduce-a-paper.md", "teach-with-the-explorer.md",
}  # fmt: skip
TRANSLATED = sorted((ROOT / "docs" / "tutorials").glob("*-zh.md"))


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if not languages or language in languages]


def picture(path: Path, shape: tuple[int, ...] = (28, 28)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.random.default_rng(len(path.name)).integers(0, 256, shape, dtype=numpy.uint8)).save(path)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that has what a reader has: small stand-ins for data sets, pictures of his own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path / "data"))
    for name in ("rose/1.png", "rose/2.png", "tulip/1.png", "tulip/2.png"):
        for copy in range(40):
            picture((tmp_path / "pictures" / "flowers" / name).with_stem(f"{name[-5]}-{copy}"), (12, 12, 3))
    picture(tmp_path / "my-digit.png")
    picture(tmp_path / "photo.jpg", (20, 30, 3))
    mnist = tmp_path / "data" / "mnist"
    mnist.mkdir(parents=True)
    for part in ("train", "t10k"):
        labels = (torch.arange(60) % 10).to(torch.uint8)
        (mnist / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        (mnist / f"{part}-images-idx3-ubyte").write_bytes(idx(torch.randint(0, 256, (60, 28, 28), dtype=torch.uint8)))
    polarity = tmp_path / "data" / "rt_polarity"
    polarity.mkdir()
    for ending, word in (("pos", "fine"), ("neg", "dull")):
        lines = [f"a {word} film number {place % 7} of its kind , and {word} again" for place in range(40)]
        (polarity / f"rt-polarity.{ending}").write_text("\n".join(lines) + "\n")
    return tmp_path


def network() -> nn.Module:
    """Three convolutions, whose classes have names."""
    layers = [
        ("conv1", nn.Conv2d(1, 8, 3)), ("relu1", nn.ReLU()), ("conv2", nn.Conv2d(8, 8, 3)), ("relu2", nn.ReLU()),
        ("pool", nn.MaxPool2d(2)), ("conv3", nn.Conv2d(8, 8, 3)), ("relu3", nn.ReLU()),
        ("flatten", nn.Flatten()), ("answers", nn.Linear(8 * 10 * 10, 10)),
    ]  # fmt: skip
    net = nn.Sequential(OrderedDict(layers))
    classes = ("cat", *map(str, range(1, 10)))
    return spec.attach(net, describe_spec(net, (1, 28, 28), classes)).eval()


def with_network() -> dict[str, Any]:
    from convscope.inspect.attribution import Place

    return {"model": network(), "x": torch.rand(1, 1, 28, 28), "Place": Place}


def with_sequences() -> dict[str, Any]:
    trained = convscope.fit("text_cnn", "rt_polarity", epochs=1, run_dir="runs/polarity").model
    return {"model": trained, "nn": nn, "x": torch.rand(5, 3, 8), "delta_y": torch.rand(5, 3, 32)}


def with_trained_digits() -> dict[str, Any]:
    """What the page's own command trains, for fewer epochs."""
    options = {"activation": "relu", "pool": "max"}
    convscope.fit("lenet5", "digits", model_options=options, epochs=2, run_dir="runs/lenet5-digits-001", watch=False)
    return {}


def with_the_lesson() -> dict[str, Any]:
    """The tutorial's own lesson, as its reader saves it, and the network that it is about."""
    (lesson,) = blocks(ROOT / "docs" / "tutorials" / "teach-with-the-explorer.md", "toml")
    Path("doubtful-eight.toml").write_text(lesson, encoding="utf-8")
    return with_trained_digits()


# What a page's blocks take for granted.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "attribution.md": with_network,
    "equivariance.md": with_network,
    "explorer.md": with_network,
    "lessons.md": with_network,
    "filters.md": lambda: {"array": numpy.random.default_rng(0).integers(0, 256, (9, 9), dtype=numpy.uint8)},
    "pixels-to-gradients.md": with_trained_digits,
    "sequences.md": with_sequences,
    "teach-with-the-explorer.md": with_the_lesson,
}
PYTHON = [page for page in PAGES if blocks(page, "python") and page not in TRANSLATED]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.name in SLOW else []) for page in PYTHON],
)
@pytest.mark.usefixtures("at_home")
def test_a_page_s_python_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, Any] = {"convscope": convscope, "torch": torch, **GIVEN.get(page.name, dict)()}
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}, block {number + 1}", "exec"), names)


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_translated_tutorial_has_the_same_blocks(page: Path) -> None:
    assert blocks(page) == blocks(page.with_name(page.name.replace("-zh.md", ".md")))


def command_lines(page: Path) -> list[list[str]]:
    """The words of every call of convscope in a block: what follows the program, up to a pipe or another command."""
    found = []
    for code in blocks(page, "", "console", "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            call = re.match(r"^\s*(?:\$ )?(?:(?:torchrun|srun|python3?|PATH=\S+)\b.*-m )?convscope ([a-z].*)$", line)
            if call:
                plain = re.split(r" (?:\||&&|>|;) ", call[1])[0]
                found.append(shlex.split(plain, comments=True))
    return found


LINES = [(page, words) for page in PAGES for words in command_lines(page)]


def test_there_are_command_lines() -> None:
    assert len(LINES) > 90


@pytest.mark.parametrize("page", sorted({page for page, _ in LINES}), ids=lambda page: page.name)
def test_a_page_s_command_lines_are_what_the_commands_take(page: Path) -> None:
    wrong = []
    for words in (words for of, words in LINES if of == page):
        try:
            check(words)
        except (click.ClickException, AssertionError) as error:
            wrong.append(f"convscope {shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


def check(words: list[str]) -> None:
    """An error where a command, option, choice, model, data set or experiment of this name is not there."""
    name, *arguments = words
    context = click.Context(group)
    _, command, _ = group.resolve_command(context, words)
    assert command is not None
    inner = click.Context(command, info_name=name, parent=context)
    values, rest, _ = command.make_parser(inner).parse_args([word for word in arguments if "$" not in word])
    assert not rest, f"too many words: {rest}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            assert value in parameter.type.choices, f"{parameter.name}: {value}"
    if name == "train" and isinstance(values.get("model"), str):
        assert known(values["model"], {*convscope.list_models(), *JOBS}), values["model"]
    if name == "experiment" and isinstance(values.get("name"), str):
        assert values["name"] in {*EXPERIMENTS, "NAME"}, values["name"]
    if isinstance(values.get("data"), str):
        assert known(values["data"], set(convscope.list_datasets())), values["data"]


def known(word: str, names: set[str]) -> bool:
    """Whether ``word`` is one of ``names``, or a path or a place to fill in, which no test can know."""
    return word in names or "/" in word or "." in word or word.isupper() or word.startswith("my_")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train lenet5 --dta mnist", "No such option"),
        ("trian lenet5", "No such command"),
        ("train lenett5", "lenett5"),
        ("train lenet5 --data mnits", "mnits"),
        ("committee a.safetensors --engine nativ", "nativ"),
        ("experiment nothing", "nothing"),
    ],
)
def test_a_wrong_line_is_found(line: str, message: str) -> None:
    with pytest.raises((click.ClickException, AssertionError), match=message):
        check(line.split())
