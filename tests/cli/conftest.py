"""A model trained once by the command line, and a way to call it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from convscope.cli.main import group


class Call(Protocol):
    def __call__(self, *arguments: str | Path, code: int = 0) -> Result: ...


def call_convscope(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(group, [str(item) for item in arguments], prog_name="convscope")
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture
def call() -> Call:
    """Run ``convscope`` with these arguments and check its exit code."""
    return call_convscope


@pytest.fixture
def error() -> Call:
    """As ``call``, for what must fail with exit code 2, one line on stderr and no traceback."""

    def fail(*arguments: str | Path, code: int = 2) -> Result:
        result = call_convscope(*arguments, code=code)
        assert "Traceback" not in result.stderr
        return result

    return fail


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of LeNet-5 on digits, six epochs."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    call_convscope("train", "-r", folder, "--epochs", "6", "--seed", "3", "--engine", "torch", "-q")
    return folder


@pytest.fixture(scope="session")
def model(trained: Path) -> Path:
    return trained / "model.safetensors"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test digits of the data set as picture files of many kinds: three.png, large RGB, grey with alpha, in folders."""
    from convscope import load_dataset

    split = load_dataset("digits").test
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep" / "er").mkdir(parents=True)
    for place, (name, mode, size) in enumerate(
        [("a.png", "L", 8), ("deep/b.jpg", "RGB", 64), ("deep/er/c.png", "LA", 40), ("deep/er/d.bmp", "RGB", 8)]
    ):
        image = Image.fromarray(split.images[place, 0].numpy()).resize((size, size + place), Image.Resampling.BILINEAR)
        image.convert(mode).save(folder / name)
    (folder / "deep" / "notes.txt").write_text("not a picture")
    (folder / "labels.txt").write_text(" ".join(split.classes[int(label)] for label in split.labels[:4]))
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
