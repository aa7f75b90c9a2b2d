"""Barriers and distances of replicas modulo permutations of their units, beside the plain ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.connectivity.curves import straight_line
from lossatlas.connectivity.evaluate import VALUES, Path, Point, evaluate_point, shuffled
from lossatlas.connectivity.summary import linear_barrier
from lossatlas.data.tensors import Inputs
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional
from lossatlas.permutation.activations import match_activations
from lossatlas.permutation.matching import Matching, match_weights
from lossatlas.permutation.repair import Repair
from lossatlas.permutation.trace import Network, Symmetries, find, permuted
from lossatlas.progress import tracked
from lossatlas.similarity.distance import normalised_distance
from lossatlas.similarity.rows import scalar
from lossatlas.store import Array, Record, Series
from lossatlas.training.networks import Networks, tell_of_buffers

if TYPE_CHECKING:
    from lossatlas.metrics.alignment import Alignment

Pair = tuple[int, int]
_SAME = 1e-3  # relative difference of losses that rounding may make, in half precision too


@dataclass(frozen=True)
class Aligned:
    """The second of two networks with its units brought to those of the first.

    Attributes:
        symmetries: What can be permuted.
        matching: The permutations.
        network: Parameters and buffers of the second network, permuted.
    """

    symmetries: Symmetries
    matching: Matching
    network: Network


def measure(networks: Networks, settings: Alignment, pairs: Sequence[Pair]) -> Record:
    """Align the second replica of each pair with the first, and compare both before and after.

    Args:
        networks: The replicas.
        settings: Of the metric.
        pairs: Seeds of replicas that ended well.

    Returns:
        A record with, per pair: `barrier_before` and `barrier_after` (training error, percentage
        points; of tasks that count no errors the loss), `loss_barrier_before` and
        `loss_barrier_after`, `distance_before` and `distance_after` (normalised),
        `permuted_groups`, `permuted_units` and `moved_share`. A barrier is `undefined` where a loss
        on the line is not finite. Series over t, per pair and `path` ("before", "after"):
        `train_loss`, `train_error`, `test_loss`, `test_error`. Arrays: `permutations` (pair, unit),
        one group after another, and `group_sizes`.

    Raises:
        UserError: If nothing can be permuted, or data are too few.
    """
    return aligned(networks, settings, pairs)[0]


def aligned(
    networks: Networks, settings: Alignment, pairs: Sequence[Pair]
) -> tuple[Record, list[Aligned]]:
    """Return the record of `measure`, and of each pair the network that was aligned."""
    record, found = Record("alignment"), []
    if not pairs:
        return record, []
    tell_of_buffers(networks)
    ruler = _Ruler(networks, settings)
    for pair in tracked(pairs, "alignment", "pairs"):
        first, second = (networks.one(networks.seeds.index(seed)) for seed in pair)
        images = ruler.train.images
        own = align(networks.functional, first, second, ruler.symmetries, images, settings)
        _add(record, pair, (first, second), own, ruler)
        found.append(own)
    moves = [np.concatenate(one.matching.permutations) for one in found]
    sizes = np.array([group.size for group in ruler.symmetries.groups])
    told = "the partner's unit that comes to each place, group by group"
    record.arrays = {
        "permutations": Array(np.stack(moves), ("pair", "unit"), description=told),
        "group_sizes": Array(sizes, ("group",), description="units of each group"),
    }
    return record, found


def align(
    functional: Functional,
    first: Network,
    second: Network,
    symmetries: Symmetries,
    inputs: Inputs,
    settings: Alignment,
) -> Aligned:
    """Bring the units of a second network to those of a first.

    Args:
        functional: The network.
        first: Parameters and buffers.
        second: The same of the network that is permuted.
        symmetries: As `trace.find` found them.
        inputs: Training examples, of which the first `samples` are used to match by activations.
        settings: Of the metric.

    Raises:
        UserError: As `match_activations`.
    """
    if settings.matching == "weights":
        seed, restarts = settings.seed, settings.restarts
        found = match_weights(first[0], second[0], symmetries.groups, seed, restarts)
    else:
        some = inputs[: settings.samples]
        found = match_activations(functional, first, second, symmetries, some)
    moves = symmetries.groups, found.permutations
    return Aligned(symmetries, found, (permuted(second[0], *moves), permuted(second[1], *moves)))


class _Ruler:
    """Evaluates straight lines as `connectivity` does, corrected at inner points if asked."""

    def __init__(self, networks: Networks, settings: Alignment) -> None:
        self.functional, self.test = networks.functional, networks.data.test
        self.train = shuffled(networks.data.train, "connectivity", settings.seed)
        self.symmetries = find(self.functional, networks.one(0), self.train.images)
        self.t = np.linspace(0.0, 1.0, settings.points)
        # Where there is BatchNorm, its statistics are estimated anew: that is REPAIR of these.
        self.repairs = settings.repair and not self.functional.has_norms
        self.some = self.train.images[: settings.samples]

    def end(self, network: Network) -> Point:
        """Return the values of a network."""
        return evaluate_point(self.functional, network, self.train, self.test)

    def line(self, ends: tuple[Network, Network], values: tuple[Point, Point]) -> Path:
        """Return the values on the straight line between two networks, given those of its ends."""
        straight, repair = straight_line(*ends), None
        if self.repairs:
            repair = Repair.between(self.functional, ends, self.symmetries, self.some)
        points = [values[0]]
        for t in tracked(self.t[1:-1].tolist(), "line", "points"):
            network = straight.at(t)
            functional = self.functional if repair is None else repair.at(network, t)
            points.append(evaluate_point(functional, network, self.train, self.test))
        return Path(self.t, (*points, values[1]))


def _add(
    record: Record, pair: Pair, ends: tuple[Network, Network], found: Aligned, ruler: _Ruler
) -> None:
    """Add the scalars and series of one pair."""
    first, second = ends
    values = [ruler.end(network) for network in (first, second, found.network)]
    _check_same(values[1], values[2], ruler.functional.name)
    lines = {
        "before": ruler.line((first, second), (values[0], values[1])),
        "after": ruler.line((first, found.network), (values[0], values[2])),
    }
    task = ruler.train.task
    numbers: dict[str, tuple[float, str]] = {}
    for name, line in lines.items():
        for output, measured in (
            ("barrier", f"train_{task.ruler}"),
            ("loss_barrier", "train_loss"),
        ):
            unit = "percent" if measured.endswith("error") else task.unit
            barrier = linear_barrier(ruler.t, line.values(measured))
            numbers[f"{output}_{name}"] = barrier, unit
    weights = [_arrays(network) for network in (first, second, found.network)]
    groups, units = len(found.symmetries.groups), found.symmetries.units
    numbers |= {
        "distance_before": (normalised_distance(weights[0], weights[1]), ""),
        "distance_after": (normalised_distance(weights[0], weights[2]), ""),
        "permuted_groups": (groups, ""),
        "permuted_units": (units, ""),
        "moved_share": (found.matching.moved / units, ""),
    }
    one, other = pair
    record.scalars += [
        scalar(name, value, replica=one, partner=other, unit=unit)
        for name, (value, unit) in numbers.items()
    ]
    record.series += _series(pair, lines, ruler)


def _series(pair: Pair, lines: dict[str, Path], ruler: _Ruler) -> list[Series]:
    found, task = [], ruler.train.task
    for path, line in lines.items():
        for name in VALUES:
            counts = name.endswith("error")
            if counts and not task.scored:
                continue
            y = line.values(name)
            about: dict[str, Any] = {
                "y_unit": "percent" if counts else task.unit,
                "status": "ok" if np.isfinite(y).all() else "undefined",
                "index": {"path": path},
            }
            found.append(Series(name, ruler.t, y, "t", *pair, **about))
    return found


def _arrays(network: Network) -> dict[str, np.ndarray]:
    return {name: p.detach().double().cpu().numpy() for name, p in network[0].items()}


def _check_same(before: Point, after: Point, where: str) -> None:
    """Refuse a permutation that changes the loss: what was tried on some examples holds on all.

    Raises:
        UserError: If the losses differ by more than rounding.
    """
    for name in ("train_loss", "test_loss"):
        old, new = getattr(before, name), getattr(after, name)
        if math.isfinite(old) and not math.isclose(old, new, rel_tol=_SAME, abs_tol=1e-6):
            what = f"permuting its units changes the {name} from {old:.6g} to {new:.6g}"
            fix = "leave out the metric 'alignment', and please report the network"
            raise UserError(what, where=where, fix=fix)
