"""Random numbers without a state: each use has its own generator, named by words."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*words: object) -> int:
    """Return a 63-bit seed that depends on nothing but the words, such as ("order", 3, 17)."""
    text = "\0".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*words: object) -> torch.Generator:
    """Return a CPU generator seeded with `seed_of(*words)`.

    Draws are made on the CPU and moved, so that a seed means the same on every device.
    """
    return torch.Generator().manual_seed(seed_of(*words))
