"""Files that hold no model that can be opened: what is said of them instead."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.explorer.test_server import ask, client, run, socket_to

from convscope.errors import CheckpointError
from convscope.explorer import serve
from convscope.explorer.unopened import unopened_file
from convscope.models import create_model


def test_cards_for_files_that_are_no_models(tmp_path: Path) -> None:
    model = create_model("lenet5", classes=7)
    bare = tmp_path / "bare.safetensors"
    save_file(model.state_dict(), bare)
    card = unopened_file(bare, CheckpointError(bare, "not a model"))
    assert card.reason == "no_description"
    assert "lenet5" in card.candidates
    assert ("c1.weight", (6, 1, 5, 5)) in card.tensors
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 40)
    assert unopened_file(broken, ValueError("x")).reason == "unreadable"
    published = tmp_path / "published.pth"
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, published)
    assert dict(unopened_file(published, ValueError("x")).tensors) == dict(card.tensors)
    torch.save(model, tmp_path / "whole.pth")
    assert unopened_file(tmp_path / "whole.pth", ValueError("x")).reason == "unreadable"
    with serve(card, port=0) as opened:

        async def talk() -> None:
            async with socket_to(opened) as connection:
                hello = await ask(connection, 1, "hello")
                assert hello["result"]["card"]["reason"] == "no_description"
                assert "no model is open" in (await ask(connection, 2, "frame"))["error"]["message"]

        run(talk())
        with client(opened) as http_client:
            assert http_client.post("/upload", content=b"x").status_code == 409
            assert http_client.get("/input.npy").status_code == 409
