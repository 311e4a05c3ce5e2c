"""``convscope explore committee.safetensors``: the members' mean, taken inside one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import convscope
from convscope import spec
from convscope.cli.commands import explore
from convscope.explorer.protocol import Arguments
from convscope.explorer.serve import Handle
from convscope.explorer.session import Session
from convscope.models import create_model, spec_of
from convscope.spec import Preprocessing

DIGITS = tuple(map(str, range(10)))


def member(seed: int, mean: float, width: int | None = None) -> nn.Module:
    """A LeNet-5 that nobody trained, with preprocessing of its own."""
    torch.manual_seed(seed)
    model = create_model("lenet5", activation="relu").eval()
    described = spec_of(model)
    assert described is not None
    preprocessing = Preprocessing(1, (28, 28), (mean,), (0.3,), width=width)
    return spec.attach(model, described.replace(classes=DIGITS, preprocessing=preprocessing))


def test_a_committees_file_opens_and_says_the_mean_of_its_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Handle] = []
    monkeypatch.setattr(Handle, "wait", lambda handle: opened.append(handle))
    members = [member(1, 0.1), member(2, 0.5), member(3, 0.3, width=16)]
    with torch.no_grad():
        for each in members:  # so that the members' opinions differ plainly
            each.get_parameter("output.weight").mul_(4)
    file = convscope.save(convscope.committee(members), tmp_path / "committee.safetensors")
    ran = CliRunner().invoke(explore.command, [str(file), "--no-browser", "--port", "0"], catch_exceptions=False)
    assert "http://127.0.0.1:" in ran.output
    session = opened[0].session
    assert isinstance(session, Session)
    pixels = torch.randint(256, (1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    session.answer("show_pixels", Arguments({}), pixels.numpy().tobytes())
    each_says = torch.tensor(
        [convscope.predict(each, pixels[None], engine="torch")[0].probabilities for each in members]
    )
    assert (each_says[0] - each_says[1]).abs().max() > 0.01
    found = session.snapshot.logits.softmax(1)[0]
    assert torch.allclose(found.float(), each_says.mean(0), atol=1e-5)
    names = [node["name"] for node in session.answer("hello", Arguments({}), b"").values["nodes"]]
    assert all(any(f"members.{place}." in name for name in names) for place in range(3))
