"""Random streams: every use of chance draws from its own generator, derived from the seed and the use's name.

So that, for example, switching augmentation on does not change the initial weights, and a resumed epoch shuffles as
the undisturbed one would have.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream that ``names`` spell, e.g. ``derive(seed, "shuffle", epoch)``."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded with ``derive(seed, *names)``."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))
