"""What `snakemake calibrate` measures of a config's networks, and the times that follow from it.

The time of a pass of G networks of P parameters and W multiply-adds per image on B images is

    launches + depth * layer + G * P * parameter + G * B * (W * multiply-add + A * activation)

with A = W / sqrt(P), which activations are proportional to, and with constants that are not
negative, fitted by least relative squares to what was measured. Each kind of pass has its own, of
each network that the config names: a builder on a data set. Constants hold between the networks
that they were fitted to; beyond these the nearest time is scaled as the estimate of `cost` is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lossatlas.errors import UserError
from lossatlas.spec import needs
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.cells import Cell
from lossatlas.spec.cost import GPU, LAPTOP
from lossatlas.spec.plan import Plan, PlannedCell
from lossatlas.spec.sizes import know, multiplications, network_key, parameter_count

SCHEMA = 1
PRODUCT_IMAGES = 256  # of a product with the Hessian
EVALUATED = (128, 1024)  # images of an evaluation pass
REACH = 4.0  # times more or less multiply-adds than a measured network: constants still hold
NO_FILE = "estimated: no calibration (snakemake calibrate)"

Kind = Literal["train", "gradient", "product", "evaluate"]
_KINDS: Mapping[float, Kind] = {
    2: "evaluate",
    6: "gradient",
    12: "product",
}  # by Passes' operations


@dataclass(frozen=True)
class Case:
    """One thing to measure: a pass of a cell's network.

    Attributes:
        kind: A training step of replicas, one of a single network that nothing is recorded of, a
            product with the Hessian, or a pass without gradients.
        spec: Of the cell whose network, data and recipe are taken.
        replicas: That are trained together.
        images: Of each replica's pass.
        threads: CPU threads.
    """

    kind: Kind
    spec: Mapping[str, Any]
    replicas: int
    images: int
    threads: int = 1


@dataclass(frozen=True)
class Row:
    """What was measured: the seconds of a pass; the peak memory of the process, and on a GPU."""

    kind: Kind
    group: str
    replicas: int
    images: float
    parameters: int
    multiplications: int
    depth: float
    seconds: float
    peak_bytes: int = 0
    gpu_bytes: int = 0

    @property
    def work(self) -> float:
        """Multiply-adds of all images."""
        return max(1.0, float(self.replicas * self.images) * self.multiplications)

    def features(self) -> list[float]:
        """Return what the constants are multiplied with."""
        size = max(1, self.parameters)
        each = [float(self.replicas * size), self.work, self.work / math.sqrt(size)]
        return [1.0, self.depth, *each]


def group_of(cell: Cell) -> str:
    """Name what shares constants: a builder with its words, a data set, and how it is trained."""
    words = [str(value) for value in cell.model.arguments.values() if isinstance(value, str)]
    recipe = cell.recipe
    if recipe.precision != "float32":
        words.append(recipe.precision)
    if recipe.augment is not None:
        words.append("augmented")
    if recipe.record is not None:
        words.append("recorded")
    source = data_source(cell.data.source)
    return " ".join([cell.model.builder, "on", source.stands_for or source.name, *words])


def depth_of(cell: Cell) -> float:
    """Return the layers of a network as far as its arguments tell."""
    depth = cell.axis("depth")
    return float(depth) if isinstance(depth, int | float) else 0.0


def cases(plan: Plan) -> list[Case]:
    """Return what to measure: of each group its smallest, middle and largest network."""
    groups: dict[str, list[PlannedCell]] = {}
    for planned in plan.cells.values():
        if data_source(planned.cell.data.source).text:  # sentences of many lengths: not modelled
            continue
        groups.setdefault(group_of(planned.cell), []).append(planned)
    found: list[Case] = []
    for members in groups.values():
        found += _of_group(members)
    return list({json.dumps(asdict(case), sort_keys=True): case for case in found}.values())


def _of_group(members: Sequence[PlannedCell]) -> list[Case]:
    networks: dict[str, list[PlannedCell]] = {}
    for planned in members:
        networks.setdefault(network_key(planned.cell), []).append(planned)
    ordered = sorted(networks.values(), key=lambda some: work_of(some[0]))  # else as in the grid
    chosen = _spread(ordered)
    found: list[Case] = []
    for some in chosen:
        first = some[0]
        trained = [one for one in some if not one.cell.adopted]
        sizes = sorted({one.cell.recipe.batch_size for one in trained})
        together = max((len(b) for one in trained for b in one.blocks.values()), default=1)
        given: dict[str, Any] = {"spec": first.cell.spec, "threads": needs.threads(first)}
        ends = {*sizes[:1], *sizes[-1:]}
        found += [Case("train", replicas=together, images=one, **given) for one in sorted(ends)]
        if some is not chosen[0] and some is not chosen[-1]:
            continue
        alone = sorted({*ends, EVALUATED[0]})  # as metrics take gradients
        found += [Case("gradient", replicas=1, images=count, **given) for count in alone]
        found.append(Case("product", replicas=1, images=PRODUCT_IMAGES, **given))
        found += [Case("evaluate", replicas=1, images=count, **given) for count in EVALUATED]
    return found


def _spread(ordered: list[list[PlannedCell]]) -> list[list[PlannedCell]]:
    """Return the first, the middle and the last; fewer if there are fewer."""
    places = {0, len(ordered) // 2, len(ordered) - 1}
    return [ordered[place] for place in sorted(places)]


def unknown(plan: Plan) -> bool:
    """Say whether a network's parameters are not known: those of users' own, until counted."""
    return any(parameter_count(planned.cell) is None for planned in plan.cells.values())


def work_of(planned: PlannedCell) -> tuple[int, int]:
    """Return multiply-adds and parameters of a cell's network; 0 where they are not known."""
    return multiplications(planned.cell) or 0, parameter_count(planned.cell) or 0


def fit(rows: Iterable[Row]) -> list[float]:
    """Return the constants of passes, none negative, by least relative squares.

    Raises:
        ValueError: If there are no rows.
    """
    import numpy as np
    from scipy.optimize import nnls

    every = list(rows)
    if not every:
        raise ValueError("nothing was measured")
    seconds = np.array([row.seconds for row in every])
    table = np.array([row.features() for row in every]) / seconds[:, None]
    scale = np.maximum(table.max(axis=0), np.finfo(float).tiny)
    found, _ = nnls(table / scale, np.ones(len(every)))
    return [float(value) for value in found / scale]


@dataclass(frozen=True)
class Calibration:
    """What was measured on one device.

    Attributes:
        device: Its name.
        kind: "cpu" or "cuda".
        threads: CPU threads of the job.
        torch: Version.
        date: Of the measurement, UTC.
        start: Seconds that a job takes to start.
        rows: What was measured.
        counts: Network -> parameters and multiply-adds, of users' own networks.
    """

    device: str
    kind: str
    threads: int
    torch: str
    date: str
    start: float
    rows: list[Row] = field(default_factory=list)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The device, as `cost.Machine` names its own."""
        return self.device

    @cached_property
    def measured(self) -> dict[tuple[str, Kind], list[Row]]:
        """(group, kind) -> its rows."""
        found: dict[tuple[str, Kind], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.group, row.kind), []).append(row)
        return found

    @cached_property
    def constants(self) -> dict[tuple[str, Kind], list[float]]:
        """(group, kind) -> constants."""
        return {key: fit(rows) for key, rows in self.measured.items()}

    def lacks(self, plan: Plan) -> list[str]:
        """Return the groups of a plan's cells that were not measured."""
        groups = {group_of(planned.cell) for planned in plan.cells.values()}
        return sorted(groups - {row.group for row in self.rows})

    def seconds(
        self, planned: PlannedCell, factor: float, images: float, replicas: int = 0
    ) -> float | None:
        """Return the seconds of a pass: estimated, for a group that was not measured.

        Args:
            planned: Its cell.
            factor: Operations per multiply-add.
            images: Of each network.
            replicas: That are trained together, by the cell's recipe; 0: a metric's pass of one
                network.
        """
        cell, near = planned.cell, min(_KINDS, key=lambda operations: abs(operations - factor))
        kind: Kind = "train" if replicas else _KINDS[near]
        size, work = parameter_count(cell), multiplications(cell)
        key = group_of(cell), kind
        if size is None or work is None:
            return None
        estimate = GPU if self.kind == "cuda" else LAPTOP
        if key not in self.measured:
            return estimate.seconds(planned, factor, images, replicas)
        row = Row(kind, "", max(1, replicas), images, size, work, depth_of(cell), 0.0)
        if self._holds(key, work):
            pairs = zip(self.constants[key], row.features(), strict=True)
            return factor / near * sum(constant * feature for constant, feature in pairs)
        nearest = min(self.measured[key], key=lambda one: abs(math.log(one.work / row.work)))
        told = [
            estimate.estimate(factor * one.work, one.parameters, one.depth)
            for one in (row, nearest)
        ]
        return nearest.seconds * told[0] / told[1]

    def _holds(self, key: tuple[str, Kind], work: int) -> bool:
        """Say whether a network of these multiply-adds lies between those that were measured."""
        sizes = {row.multiplications for row in self.measured[key]}
        inside = min(sizes) / REACH <= work <= REACH * max(sizes)
        return inside and (len(sizes) > 1 or sizes == {work})

    def beyond(self, plan: Plan) -> list[str]:
        """Return the groups with networks beyond those that were measured."""
        found = {
            group
            for planned in plan.cells.values()
            for group, kind in self.measured
            if group == group_of(planned.cell)
            and kind != "product"
            and (work := multiplications(planned.cell))
            and not self._holds((group, kind), work)
        }
        return sorted(found)

    def use(self) -> Calibration:
        """Let the sizes of users' networks be known, as they were counted; return itself."""
        for key, counts in self.counts.items():
            know(key, counts)
        return self

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"


def read(path: str | Path) -> Calibration:
    """Read a calibration.

    Raises:
        FileNotFoundError: If there is none.
        UserError: If it is damaged, or of another schema.
    """
    where, fix = str(path), "snakemake calibrate --forcerun calibrate"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = found.pop("schema", None)
        if schema != SCHEMA:
            raise UserError(f"is of schema {schema}, and not {SCHEMA}", where=where, fix=fix)
        rows = [Row(**row) for row in found.pop("rows")]
        counts = {key: (int(p), int(w)) for key, (p, w) in found.pop("counts").items()}
        made = Calibration(**found, rows=rows, counts=counts)
        numbers = [made.start, *(row.seconds for row in rows)]
        if not rows or not all(0 < float(number) < float("inf") for number in numbers):
            raise ValueError("times are not positive")
        _ = made.constants
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        what = f"is damaged: {type(error).__name__}: {error}"
        raise UserError(what, where=where, fix=fix) from None
    return made


def usable(found: Calibration, *, asked: str, torch: str, threads: int, cpu: str) -> str:
    """Return why a calibration does not hold here; "" if it does.

    Args:
        found: What was read.
        asked: LOSSATLAS_DEVICE; "" leaves the choice to jobs.
        torch: Version of torch here; "" if that is not known.
        threads: That the config's jobs have.
        cpu: Name of this machine's processor, if jobs run on it; "" if they run elsewhere.
    """
    kind = asked.partition(":")[0]
    if kind and kind != found.kind:
        return f"it was measured on {found.device}, and LOSSATLAS_DEVICE is {asked}"
    if torch and torch.partition("+")[0] != found.torch.partition("+")[0]:
        return f"it was measured with torch {found.torch}, and this is {torch}"
    if found.kind == "cpu" and threads != found.threads:
        return f"it was measured with {found.threads} threads, and jobs have {threads}"
    if cpu and found.kind == "cpu" and cpu != found.device:
        return f"it was measured on {found.device}, and this is {cpu}"
    return ""


def find(
    path: str | Path, *, asked: str, torch: str, threads: int, cpu: str
) -> tuple[Calibration | None, str]:
    """Return the calibration that holds here, or None; and a line that says which it is.

    Args:
        path: Of the file.
        asked: As the others, see `usable`.
        torch: Version.
        threads: Of jobs.
        cpu: Name.
    """
    try:
        found = read(path)
    except FileNotFoundError:
        return None, NO_FILE
    except UserError as error:
        return None, f"estimated: {error}"
    if why := usable(found, asked=asked, torch=torch, threads=threads, cpu=cpu):
        return None, f"estimated: {path} does not hold here: {why} (snakemake calibrate)"
    return found.use(), f"measured on {found.device}, {found.date}"
