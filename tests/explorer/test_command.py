"""``convscope explore``: what it opens, and what it says to wrong arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from convscope.cli.commands import explore
from convscope.errors import ArgumentError
from convscope.explorer.serve import Handle
from convscope.explorer.session import Session
from convscope.explorer.unopened import UnopenedFile
from convscope.models import create_model
from convscope.models.modelfile import save

opened: list[Handle] = []


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    opened.clear()
    monkeypatch.setattr(Handle, "wait", lambda handle: opened.append(handle))


def run(*args: str) -> str:
    result = CliRunner().invoke(explore.command, [*args, "--no-browser", "--port", "0"], catch_exceptions=False)
    return result.output


def test_a_saved_model_a_name_and_bare_weights_open(tmp_path: Path) -> None:
    model = create_model("lenet5", activation="relu")
    saved, bare = tmp_path / "model.safetensors", tmp_path / "bare.safetensors"
    save(model, saved)
    save_file(model.state_dict(), bare)
    for args in (
        (str(saved), "--data", "digits", "--item", "4"),
        ("lenet5", "-o", "activation=relu", "--lang", "zh"),
        (str(bare), "--model", "lenet5", "-o", "activation=relu"),
    ):
        assert "http://127.0.0.1:" in run(*args)
        session = opened[-1].session
        assert isinstance(session, Session)
        if args[0] != "lenet5":
            assert torch.equal(session.model.state_dict()["c3.weight"], model.state_dict()["c3.weight"])
        if "--item" in args:
            assert session.picture.source["index"] == 4
    run(str(bare))
    assert isinstance(opened[-1].session, UnopenedFile)


def test_the_loss_is_the_one_it_was_trained_with(tmp_path: Path) -> None:
    saved = tmp_path / "model.safetensors"
    save(create_model("lenet5"), saved, config={"loss": "mean_squared_error"})
    run(str(saved))
    session = opened[-1].session
    assert isinstance(session, Session)
    assert session.loss == "mean_squared_error"
    save(create_model("lenet5"), saved)
    run(str(saved))
    session = opened[-1].session
    assert isinstance(session, Session)
    assert session.loss == "cross_entropy"


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    assert "--model says whose weights a FILE holds" in run("lenet5", "--model", "lenet5")
    saved = tmp_path / "model.safetensors"
    save(create_model("lenet5"), saved)
    assert "-o/--option builds a model" in run(str(saved), "-o", "activation=relu")
    with pytest.raises(ArgumentError, match="lenet6"):
        run("lenet6")
