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


def seed_default(device: torch.device, *words: object) -> None:
    """Seed what modules draw from by themselves, as dropout does, on the CPU and on `device`.

    `torch.manual_seed` would also queue the seed for every kind of device that is not there, each
    time with the text of the whole stack: a millisecond per step.
    """
    seed = seed_of(*words)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
