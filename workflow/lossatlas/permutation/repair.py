"""REPAIR: means and spreads of interpolated features put right (Jordan et al., 2023).

Between two networks the variance of features collapses. With X(t) a feature of the network at t,

    X(t) -> s(t) (X(t) - mean X(t)) / std X(t) + m(t),
    m(t) = (1 - t) mean X(0) + t mean X(1),   s(t) = (1 - t) std X(0) + t std X(1)

(their section 3), layer by layer, each on what the corrected layers before it give.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs
from lossatlas.models.functional import Functional
from lossatlas.models.layout import fast
from lossatlas.permutation.activations import at_site, check_enough, mean_and_spread, sites_of
from lossatlas.permutation.layers import Change, Changed
from lossatlas.permutation.trace import Network, Site, Symmetries

Statistics = dict[Site, tuple[Tensor, Tensor]]  # of the features of each site: mean and spread


@dataclass(frozen=True)
class Repair:
    """Corrects the units of a network that lies on a path between two others.

    Attributes:
        functional: The network.
        symmetries: Its units: those that can be permuted are corrected, where layers write them.
        inputs: Examples from which means and spreads are taken, all at once.
        ends: Those of both ends.
    """

    functional: Functional
    symmetries: Symmetries
    inputs: Inputs
    ends: tuple[Statistics, Statistics]

    @classmethod
    def between(
        cls,
        functional: Functional,
        ends: tuple[Network, Network],
        symmetries: Symmetries,
        inputs: Inputs,
    ) -> Repair:
        """Measure both ends.

        Raises:
            UserError: If there are too few examples.
        """
        check_enough(inputs, "REPAIR")
        first, last = (statistics(functional, end, symmetries, inputs) for end in ends)
        return cls(functional, symmetries, inputs, (first, last))

    def at(self, network: Network, t: float) -> Functional:
        """Return the network as a function whose features at t are corrected."""
        scales: dict[Site, tuple[Tensor, Tensor]] = {}

        def measure(layer: int, out: Tensor) -> Tensor:
            for site in sites_of(self.symmetries, layer):
                mean, spread = mean_and_spread(at_site(out, site))
                aims = zip(self.ends[0][site], self.ends[1][site], strict=True)
                level, width = (torch.lerp(a, b, t) for a, b in aims)
                scale = torch.where(spread > 0, width / spread, 1.0)
                scales[site] = scale, level - scale * mean
            return apply(layer, out)

        def apply(layer: int, out: Tensor) -> Tensor:
            for site in sites_of(self.symmetries, layer):
                out = _corrected(out, site, *scales[site])
            return out

        self._run(network, measure)
        return Changed(self.functional, self.symmetries.layers, apply)

    def _run(self, network: Network, change: Change) -> None:
        changed = Changed(self.functional, self.symmetries.layers, change)
        changed(*network, fast(self.inputs, self.functional), train=False)


def statistics(
    functional: Functional, network: Network, symmetries: Symmetries, inputs: Inputs
) -> Statistics:
    """Return mean and standard deviation (units, repeats) of the features of each site."""
    found: Statistics = {}

    def keep(layer: int, out: Tensor) -> Tensor:
        for site in sites_of(symmetries, layer):
            found[site] = mean_and_spread(at_site(out, site))
        return out

    looked = Changed(functional, symmetries.layers, keep)
    looked(*network, fast(inputs, functional), train=False)
    return found


def _corrected(out: Tensor, site: Site, scale: Tensor, shift: Tensor) -> Tensor:
    """Return a layer's output with the units of a site scaled and shifted."""
    size = out.shape[site.axis]
    index = torch.from_numpy(site.index.reshape(-1)).to(out.device)
    factor, more = (
        torch.full((size,), blank, dtype=out.dtype, device=out.device).index_copy(
            0, index, new.reshape(-1).to(out.dtype)
        )
        for blank, new in ((1.0, scale), (0.0, shift))
    )
    shape = [1] * out.dim()
    shape[site.axis] = size
    return out * factor.reshape(shape) + more.reshape(shape)
