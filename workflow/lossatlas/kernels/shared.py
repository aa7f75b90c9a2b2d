"""How a kernel's images are shared among threads, and cut into groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch

Part = Callable[[int, int], Any]


def shared(images: int, part: Part) -> list[Any]:
    """Share the images among the threads of torch; a part is given its first and how many."""
    threads = max(1, min(torch.get_num_threads(), images))
    bounds = [images * k // threads for k in range(threads + 1)]
    sizes = [after - before for before, after in pairwise(bounds)]
    if threads == 1:
        return [part(0, images)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(part, bounds[:-1], sizes))


def groups(first: int, count: int, sizes: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Cut images into groups of the first size, and what is left over into those of the next.

    Yields:
        A size, the first image, how many groups.
    """
    for size in sizes:
        if many := count // size:
            yield size, first, many
            first, count = first + many * size, count - many * size
