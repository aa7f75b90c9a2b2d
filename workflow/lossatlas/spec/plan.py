"""What a config asks for: cells, blocks of replicas, metrics; the jobs follow from it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec.cells import Cell
from lossatlas.spec.config import Config
from lossatlas.spec.elsewhere import Checkpoint
from lossatlas.spec.refining import MOST, Refined, refined
from lossatlas.spec.sizes import parameter_count

NARROW = 500_000  # parameters up to which replicas may share a job; wider ones fill a device alone
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MOST = 10_000  # seeds of a run in a block's name
_LONGEST = 100  # characters of a new block's name: files are named by it


@dataclass
class PlannedCell:
    """A cell with all that the experiments ask of it. Replicas are the union of their seeds.

    Attributes:
        files: Seed -> the file with its weights, of a cell that was trained elsewhere.
        further: Seeds that a refinement may add, after `seeds`; none is trained unless it does.
        further_blocks: Blocks of these.
        sure: Whether it is made whatever a refinement chooses.
    """

    cell: Cell
    seeds: list[int] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    together: int = 1
    blocks: dict[str, list[int]] = field(default_factory=dict)
    files: dict[int, Checkpoint] = field(default_factory=dict)
    further: list[int] = field(default_factory=list)
    further_blocks: dict[str, list[int]] = field(default_factory=dict)
    sure: bool = False


@dataclass(frozen=True)
class Plan:
    """All cells of a config by id, and the ids of each experiment in the order of its axes."""

    config: Config
    cells: dict[str, PlannedCell]
    experiments: dict[str, list[str]]
    refined: dict[str, Refined] = field(default_factory=dict)

    def chosen(self, experiment: str) -> list[str]:
        """Return the cells of an experiment that are known to be made, in the order of the grid.

        Of a refinement those of its first round, and those of the rounds that are on disk.
        """
        every = self.experiments[experiment]
        if experiment not in self.refined:
            return every
        one = self.refined[experiment]
        known = {*one.start}
        for number in range(1, len(one.counts) + 1):
            with contextlib.suppress(OSError, ValueError, KeyError):
                text = Path(paths.refined(experiment, number)).read_text(encoding="utf-8")
                known |= {*json.loads(text)["bought"]}
        return [cell for cell in every if cell in known]

    def told_of(self, experiment: str) -> str:
        """Return in words what a refinement buys."""
        return (
            f"{experiment} is refined, up to {self.refined[experiment].budget} cells of"
            f" {len(self.experiments[experiment])} (or fewer with more replicas), of which"
            f" {len(self.chosen(experiment))} are known"
        )

    @property
    def corruptions(self) -> set[str]:
        """Archives of corrupted images that metrics read, by their rows of the datasets table."""
        used = {name for planned in self.cells.values() for name in planned.metrics}
        return {getattr(self.config.metric(name), "corruptions", "") for name in used} - {""}


def make_plan(
    config: Config, blocks_on_disk: Callable[[str], list[str]] = paths.blocks_on_disk
) -> Plan:
    """Collect the cells of all experiments, each once.

    Args:
        config: The config.
        blocks_on_disk: Cell id -> names of the blocks that exist; they are kept, so that adding
            seeds trains just the new ones. A replica trained elsewhere is a block of its own.

    Raises:
        UserError: If two experiments have other files for one replica.
    """
    cells: dict[str, PlannedCell] = {}
    experiments: dict[str, list[str]] = {}
    refinements: dict[str, Refined] = {}
    for name, experiment in config.experiments.items():
        found = {cell.id: cell for cell in config.cells(name)}
        experiments[name] = list(found)
        files = config.checkpoints(name) if experiment.checkpoints else [{}] * len(found)
        for (cell_id, cell), own in zip(found.items(), files, strict=True):
            planned = cells.setdefault(cell_id, PlannedCell(cell))
            seeds = own if cell.adopted else experiment.seed_list
            planned.seeds = sorted({*planned.seeds, *seeds})
            _add_files(planned, own, name)
            planned.metrics += [m for m in experiment.metrics if m not in planned.metrics]
            planned.experiments.append(name)
            planned.together = max(planned.together, experiment.together)
        if experiment.refine:
            refinements[name] = refined(config, name, experiments[name])
        for cell_id in refinements[name].start if name in refinements else found:
            cells[cell_id].sure = True
    for cell_id, planned in cells.items():
        if planned.cell.adopted:
            planned.blocks = {block_name([seed]): [seed] for seed in planned.seeds}
            continue
        size = parameter_count(planned.cell)
        most = planned.together if size is None or size <= NARROW else 1
        planned.blocks = partition(planned.seeds, most, blocks_on_disk(cell_id))
        bought = [
            len(config.experiments[name].seed_list)
            for name in planned.experiments
            if name in refinements
        ]
        for count in bought:
            _add_further(planned, count, most, blocks_on_disk(cell_id))
    return Plan(config, cells, experiments, refinements)


def _add_further(planned: PlannedCell, count: int, most: int, existing: list[str]) -> None:
    """Note the seeds that `refining.MOST` purchases of so many replicas may add to a cell."""
    first = max(planned.seeds) + 1
    lacking = max(0, MOST * count - len(planned.seeds))
    seeds = list(range(first, first + lacking))
    if len(seeds) > len(planned.further):
        planned.further, planned.further_blocks = seeds, {}
        for start in range(0, len(seeds), count):
            chunk = seeds[start : start + count]
            planned.further_blocks |= partition(chunk, most, existing)


def _add_files(planned: PlannedCell, files: Mapping[int, Checkpoint], experiment: str) -> None:
    """Note where the replicas of a cell come from; refuse a second file for one of them."""
    for seed, file in files.items():
        other = planned.files.setdefault(seed, file)
        if other.sha256 != file.sha256:
            before, cell = planned.experiments[0], planned.cell.id
            what = f"seed {seed} of {cell} is '{file.path}' here, and '{other.path}' in '{before}'"
            fix = f"give one of the two another 'origin' than '{planned.cell.origin}'"
            raise UserError(what, where=f"experiments.{experiment}.checkpoints", fix=fix)


def partition(seeds: list[int], together: int, existing: Iterable[str]) -> dict[str, list[int]]:
    """Divide seeds into blocks: name -> seeds. Existing blocks stay as they are.

    Args:
        seeds: The seeds that are wanted, ascending.
        together: Most seeds of a new block.
        existing: Names of blocks that have been trained; one that holds no wanted seed, or
            overlaps another, is left alone.
    """
    kept: dict[str, list[int]] = {}
    missing = set(seeds)
    for name in sorted(existing):
        held = block_seeds(name)
        if held and not any(set(held) & set(other) for other in kept.values()):
            wanted = missing & set(held)
            if wanted:
                kept[name] = held
                missing -= wanted
    rest = sorted(missing)
    while rest:
        size = together
        while len(block_name(rest[:size])) > _LONGEST:  # many seeds with gaps
            size -= 1
        kept[block_name(rest[:size])] = rest[:size]
        rest = rest[size:]
    return kept


def block_name(seeds: list[int]) -> str:
    """Name a block: [0, 1, 2, 7] is "0-2_7"."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return "_".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def block_seeds(name: str) -> list[int]:
    """Return the seeds of a block's name; an empty list if it is none."""
    seeds: list[int] = []
    for part in name.split("_"):
        match = _RANGE.fullmatch(part)
        if match is None:
            return []
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= _MOST:  # a hostile name, which would fill the memory
            return []
        seeds += range(first, last + 1)
    return seeds if block_name(seeds) == name and len(set(seeds)) == len(seeds) else []
