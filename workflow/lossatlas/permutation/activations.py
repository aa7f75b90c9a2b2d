"""Features of units on examples: correlations between two networks, means and spreads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional
from lossatlas.models.layout import fast
from lossatlas.permutation.layers import Changed
from lossatlas.permutation.matching import Matching, assignment
from lossatlas.permutation.trace import Network, Site, Symmetries
from lossatlas.progress import tracked
from lossatlas.training.networks import chunk_of

FEWEST = 16  # examples: correlations of fewer are mostly chance


def check_enough(inputs: Inputs, why: str) -> None:
    """Refuse too few examples.

    Raises:
        UserError: If there are fewer than `FEWEST`.
    """
    if len(inputs) < FEWEST:
        what = f"{why} on {len(inputs)} examples is mostly chance"
        fix = f"give {FEWEST} or more, or match by weights"
        raise UserError(what, where="alignment", fix=fix)


def match_activations(
    functional: Functional,
    first: Network,
    second: Network,
    symmetries: Symmetries,
    inputs: Inputs,
) -> Matching:
    """Match the units of two networks by the correlations of their features, in float64.

    Features are the outputs of linear layers, convolutions and embeddings, before a norm or an
    activation; of units that several layers write, such as those of a residual stream, the
    correlations of all these layers are summed up. A feature that does not vary has correlation 0.

    Args:
        functional: The network.
        first: Parameters and buffers.
        second: Those of the network whose units are permuted.
        symmetries: What can be permuted.
        inputs: Examples.

    Raises:
        UserError: If there are too few examples, or a forward pass has other layers on them.
    """
    check_enough(inputs, "matching units by their activations")
    moments = [_Moments() for _ in symmetries.sites]
    for chunk in tracked(inputs.split(chunk_of(inputs)), "features", "batches"):
        one, other = (features(functional, net, symmetries, chunk) for net in (first, second))
        for known, x, y in zip(moments, one, other, strict=True):
            known.add(x, y)
    found, total, count = [], 0.0, 0
    for k, group in enumerate(symmetries.groups):
        own = [m for m, site in zip(moments, symmetries.sites, strict=True) if site.group == k]
        gains = sum((m.correlations() for m in own), np.zeros((group.size, group.size)))
        found.append(assignment(gains))
        total += float(gains[np.arange(group.size), found[-1]].sum())
        count += group.size * sum(m.repeats for m in own)
    return Matching(found, total / count if count else math.nan)


def features(
    functional: Functional, network: Network, symmetries: Symmetries, inputs: Inputs
) -> list[Tensor]:
    """Return the features (examples x places, units, repeats) at each site."""
    found: dict[int, Tensor] = {}

    def keep(layer: int, out: Tensor) -> Tensor:
        for place, site in enumerate(symmetries.sites):
            if site.layer == layer:
                found[place] = at_site(out, site)
        return out

    looked = Changed(functional, symmetries.layers, keep)
    looked(*network, fast(inputs, functional), train=False)
    return [found[place] for place in range(len(symmetries.sites))]


def at_site(out: Tensor, site: Site) -> Tensor:
    """Return the features (places, units, repeats) of a site in the output of its layer."""
    rows = out.movedim(site.axis, -1).flatten(0, -2)
    index = torch.from_numpy(site.index.reshape(-1)).to(out.device)
    return rows.index_select(1, index).reshape(len(rows), *site.index.shape)


@dataclass
class _Moments:
    """Sums over examples of features of two networks, in float64."""

    count: int = 0
    repeats: int = 1
    sums: list[Tensor] = field(default_factory=list)

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add features (places, units, repeats) of both."""
        x, y = (t.double().permute(2, 0, 1) for t in (one, other))  # (repeats, places, units)
        new = [x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), x.transpose(1, 2) @ y]
        self.sums = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else new
        self.count, self.repeats = self.count + x.shape[1], len(x)

    def correlations(self) -> np.ndarray:
        """Return the correlations (units, units) of both networks, summed over repeats."""
        x, y, xx, yy, xy = (total / self.count for total in self.sums)
        spreads = [_spread(square, mean) for square, mean in ((xx, x), (yy, y))]
        within = xy - x[:, :, None] * y[:, None, :]
        scale = spreads[0][:, :, None] * spreads[1][:, None, :]
        return torch.where(scale > 0, within / scale, 0.0).sum(0).cpu().numpy()


def _spread(square: Tensor, mean: Tensor) -> Tensor:
    """Return standard deviations of means of squares and means; 0 where it is rounding."""
    variance = square - mean.square()
    return torch.where(variance > 1e-12 * square, variance, 0.0).sqrt()


def mean_and_spread(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (units, repeats) of features (places, units, repeats)."""
    wide = rows.double()
    return wide.mean(0), wide.std(0, correction=0)


def sites_of(symmetries: Symmetries, layer: int) -> Sequence[Site]:
    """Return the sites of a layer."""
    return [site for site in symmetries.sites if site.layer == layer]
