"""Linear centred kernel alignment (CKA) of two sets of features on the same inputs.

With centred features X (N, D) and Gram matrix K = X X^T, and L likewise for the other network,

    biased     <K, L> / (|K| |L|), Frobenius (Kornblith et al., 2019, equations 3 and 4)
    unbiased   the same ratio of unbiased estimates of HSIC (Song et al., 2012, equation 5;
               used for CKA by Nguyen et al., 2021)

The biased one is large on unrelated features when N is not much larger than D. The unbiased one
lies in [-1, 1] and near 0 there, slightly negative values included; the ratio itself is not
exactly unbiased. Both need no more than <K, L> and the diagonals of K and L, which come from
features (N, D) or from Gram matrices (N, N), whichever are smaller, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

_COLUMNS = 4096  # features turned to float64 at once
_ZERO = 1e-12  # of the biased self-similarity: below it, the unbiased one is rounding error


@dataclass(frozen=True)
class Centred:
    """Centred features, or their Gram matrix where that is smaller, scaled to unit total variance.

    Attributes:
        matrix: Features (N, D) or Gram matrix (N, N), float64. NaN if the features do not vary.
        is_gram: Which of the two.
        diagonal: Diagonal of the Gram matrix (N,).
    """

    matrix: Tensor
    is_gram: bool
    diagonal: Tensor


def centre(features: Any) -> Centred:
    """Prepare the features of one network.

    Args:
        features: Tensor or array (N, ...); all but the first axis are flattened.

    Returns:
        The centred features. They are NaN when the features are constant to within the rounding
        of their type, or not finite: no similarity is defined then.

    Raises:
        ValueError: If N < 4: the unbiased estimator divides by N (N - 3).
    """
    x = torch.as_tensor(features)
    if x.ndim == 0 or len(x) < 4:
        count = len(x) if x.ndim else 0
        raise ValueError(f"CKA needs at least 4 inputs, not {count}")
    x = x.detach().flatten(1) if x.ndim > 1 else x.detach().unsqueeze(1)
    is_gram = x.shape[1] > len(x)
    shape = (len(x), len(x)) if is_gram else x.shape
    matrix = torch.zeros(shape, dtype=torch.float64, device=x.device)
    diagonal = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    energy = torch.zeros((), dtype=torch.float64, device=x.device)
    for start in range(0, x.shape[1], _COLUMNS):
        block = x[:, start : start + _COLUMNS].double()
        energy += block.square().sum()
        block = block - block.mean(dim=0)
        diagonal += block.square().sum(dim=1)
        if is_gram:
            matrix.addmm_(block, block.T)
        else:
            matrix[:, start : start + _COLUMNS] = block
    variance = diagonal.sum()
    rounding = 8 * torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
    if not variance > rounding**2 * energy:
        variance = torch.full_like(variance, math.nan)
    matrix /= variance if is_gram else variance.sqrt()
    return Centred(matrix, is_gram, diagonal / variance)


def _inner(a: Centred, b: Centred) -> Tensor:
    """Return the Frobenius inner product of two Gram matrices, formed or not."""
    if a.is_gram and b.is_gram:
        return (a.matrix * b.matrix).sum()
    if not a.is_gram and not b.is_gram:
        return (a.matrix.T @ b.matrix).square().sum()
    gram, rows = (a.matrix, b.matrix) if a.is_gram else (b.matrix, a.matrix)
    return ((gram @ rows) * rows).sum()


def estimates(
    networks: Sequence[Centred], pairs: Sequence[tuple[int, int]] | None = None
) -> tuple[Tensor, Tensor]:
    """Return biased and unbiased CKA of every two of G networks.

    Args:
        networks: Centred features of the same N inputs.
        pairs: Indices of the pairs to compare; default: all.

    Returns:
        Two symmetric (G, G) float64 tensors; NaN where a similarity is not defined or not
        asked for.

    Raises:
        ValueError: If there is no network, or the numbers of inputs differ.
    """
    counts = {len(one.diagonal) for one in networks}
    if len(counts) != 1:
        raise ValueError(f"all features must be of the same inputs, not of {sorted(counts)}")
    n = counts.pop()
    diagonals = torch.stack([one.diagonal for one in networks])
    inner, shared = diagonals.new_full((2, len(networks), len(networks)), math.nan)
    every = combinations_with_replacement(range(len(networks)), 2)
    asked = every if pairs is None else [*pairs, *((i, i) for i in range(len(networks)))]
    for i, j in asked:
        inner[i, j] = inner[j, i] = _inner(networks[i], networks[j])
        # One by one: a product of matrices need not be symmetric to the last bit.
        shared[i, j] = shared[j, i] = diagonals[i] @ diagonals[j]
    # Song et al.'s estimator times n (n - 3); the sums of rows of a centred Gram matrix vanish.
    sums = diagonals.sum(dim=1)
    unbiased = inner - n / (n - 2) * shared
    unbiased += torch.outer(sums, sums) / ((n - 1) * (n - 2))
    own = unbiased.diagonal()
    own = torch.where(own > _ZERO * inner.diagonal(), own, math.nan).sqrt()
    norms = inner.diagonal().sqrt()
    return inner / torch.outer(norms, norms), unbiased / torch.outer(own, own)


def cka_matrix(features: Sequence[Any], *, unbiased: bool = False) -> Tensor:
    """Return linear CKA of every two of G networks.

    Args:
        features: One tensor or array (N, ...) per network, of the same inputs.
        unbiased: Which estimator.

    Returns:
        Symmetric (G, G), float64; NaN where features are constant.

    Raises:
        ValueError: If N < 4, there is no network, or the numbers of inputs differ.
    """
    return estimates([centre(x) for x in features])[1 if unbiased else 0]


def cka(x: Any, y: Any, *, unbiased: bool = False) -> float:
    """Return linear CKA of two networks; arguments and errors as `cka_matrix`."""
    return float(cka_matrix([x, y], unbiased=unbiased)[0, 1])
