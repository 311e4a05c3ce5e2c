"""How an explorer ends: no port, no folder and no memory is left."""

from __future__ import annotations

import gc
import socket
import weakref

import pytest
from tests.explorer.fixtures import described, plain
from tests.explorer.test_server import client

from convscope.explorer import explore
from convscope.explorer.session import Session


def test_it_ends_and_its_folder_with_it() -> None:
    opened = explore(described(plain(), (3, 12, 12), 4), port=0)
    assert isinstance(opened.session, Session)
    folder = opened.session.saved_model().parent
    opened.close()
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", opened.port), 1)


def test_an_ended_one_keeps_no_memory() -> None:
    """Its activations and gradients are let go of at once: a detector's are gigabytes, which nobody tells the
    interpreter's collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        opened = explore(described(plain(), (3, 12, 12), 4), port=0)
        with client(opened) as outside:
            assert outside.get("/input.npy").status_code == 200
        session = weakref.ref(opened.session)
        opened.close()
        assert session() is opened.session  # whoever holds the handle still has it
        del opened
        assert session() is None
    finally:
        gc.enable()
