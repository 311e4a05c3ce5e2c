"""``python -m convscope.native``: one line on whether the engine is built."""

from __future__ import annotations

from convscope.native import availability, processors


def main() -> None:
    """Print the instruction set and the threads, or why there is no engine; this is no error."""
    problem = availability.problem()
    if problem is not None:
        print(f"native engine: not available ({problem}); training falls back to torch")
        return
    engine = availability.engine()
    others = [name for name in engine.isas() if name != engine.isa()]
    beside = f" (also {', '.join(others)})" if others else ""
    print(f"native engine: {engine.isa()}{beside}, {processors.threads()} threads ({engine.threads()})")


if __name__ == "__main__":
    main()
