"""``python -m convscope``: the command line."""

from __future__ import annotations

from convscope.cli.main import run

if __name__ == "__main__":
    run()
