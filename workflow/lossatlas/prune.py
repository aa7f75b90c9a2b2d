"""Weights that no wanted metric needs any more: what they take, and what it took to train them.

`lossatlas prune` asks by a dry run, as `lossatlas accept` does: only the workflow knows which
results are valid. Metrics, tables and figures of a cell stay valid without its weights; a metric
that is asked for later trains them again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from lossatlas import paths, store
from lossatlas.errors import UserError
from lossatlas.reruns import dry_run
from lossatlas.spec.plan import Plan, PlannedCell

VARIABLE = "LOSSATLAS_PRUNE"  # tells a dry run to look for weights: "list" or "remove"
_LOCKS = Path(".snakemake/locks")  # of a run of Snakemake in this folder


@dataclass(frozen=True)
class Unneeded:
    """The weights of one cell, all of whose wanted metrics are there and valid.

    Attributes:
        cell: Its id.
        files: Weights, and where longer runs would go on from.
        replicas: How many were trained.
        size: Bytes.
        seconds: What their training took.
    """

    cell: str
    files: list[str]
    replicas: int
    size: int
    seconds: float


def is_measured(cell_id: str, metrics: Iterable[str], stale: Set[str]) -> bool:
    """Say whether a cell has a metric, and all of its metrics are there and valid."""
    files = [paths.metric(cell_id, metric) for metric in metrics]
    return bool(files) and all(os.path.exists(file) and file not in stale for file in files)


def size_in_words(count: float) -> str:
    """Return a number of bytes with three digits and its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def unneeded(plan: Plan, stale: Set[str]) -> list[Unneeded]:
    """Return the weights that no metric of the config needs.

    Args:
        plan: What the config asks for.
        stale: First outputs of results that are there and not valid.
    """
    refined = {*plan.refined}  # a round to come may ask more replicas of a cell that is done
    found = (
        _of_cell(planned, stale)
        for planned in plan.cells.values()
        if refined.isdisjoint(planned.experiments)
    )
    return [one for one in found if one is not None and one.files]


def _of_cell(planned: PlannedCell, stale: Set[str]) -> Unneeded | None:
    name = planned.cell.id
    trained = [paths.weights(name, block) for block in planned.blocks]
    histories = [paths.history(name, block) for block in planned.blocks]
    whole = stale.isdisjoint(trained) and all(map(os.path.exists, histories))
    if not whole or not is_measured(name, planned.metrics, stale):
        return None
    ends = [paths.end(name, block) for block in planned.blocks]
    there = [file for file in (*trained, *ends) if os.path.isfile(file)]
    seconds = 0.0
    for weights, history in zip(trained, histories, strict=True):
        if weights in there:
            seconds += float(store.read(history).times.get("seconds", 0))
    size = sum(os.path.getsize(file) for file in there)
    return Unneeded(name, there, len(planned.seeds), size, seconds)


def run(plan: Plan, stale: Set[str]) -> list[str]:
    """Do what the environment asks for; return lines that say what was found and done.

    Raises:
        UserError: If weights are to be removed while Snakemake runs in this folder.
    """
    found = unneeded(plan, stale)
    others = len(plan.cells) - len(found)
    if not found:
        return [f"no weights that every wanted metric of {plan.config.name} is done with"]
    count, replicas = sum(len(one.files) for one in found), sum(one.replicas for one in found)
    size, hours = sum(one.size for one in found), sum(one.seconds for one in found) / 3600
    lines = [
        f"weights of {replicas} replicas in {len(found)} cells: {count} files,"
        f" {size_in_words(size)}; to train them again takes {hours:.3g} hours, as it did"
    ]
    if others:
        lines.append(f"{others} cells have none, or results that are still to come: left")
    if os.environ[VARIABLE] != "remove":
        return [*lines, "nothing was removed: add --yes"]
    if _LOCKS.is_dir() and any(_LOCKS.iterdir()):
        fix = "wait until that run has ended; after kill -9: snakemake --unlock"
        raise UserError("Snakemake is at work in this folder", where="prune", fix=fix)
    for file in (file for one in found for file in one.files):
        os.unlink(file)
    return [*lines, "removed; a metric that is asked for later trains them again"]


def prune(configs: Sequence[str], *, remove: bool) -> int:
    """List or remove weights of the project in the working folder, by a dry run of all its jobs.

    Returns:
        The exit code of Snakemake.

    Raises:
        UserError: As `reruns.dry_run`.
    """
    return dry_run(configs, VARIABLE, "remove" if remove else "list")
