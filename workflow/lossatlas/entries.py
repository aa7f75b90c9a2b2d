"""Which code each kind of job runs, as entries of `fingerprint`.

A job's script leads to most of it. What a config chooses is not to be seen there and is named here:
the network, the kind of metric, the figure, the study. What a job of a kind never runs is named
too, where it would otherwise run again for nothing; `tests/unit/test_traced.py` runs every kind and
holds that it calls no function besides.
"""

from __future__ import annotations

from lossatlas.metrics.base import Metric
from lossatlas.models import target_of
from lossatlas.spec.cells import Cell
from lossatlas.spec.shown import STUDY_OF
from lossatlas.tasks import Task, built_in, target_of_task

Entries = tuple[str, ...]

DATASET: Entries = ("script:dataset",)
COLLECT: Entries = ("script:collect",)
TABLE: Entries = ("script:table",)
REFERENCE: Entries = ("script:reference",)
ALL_CLAIMS: Entries = ("script:all_claims",)
REFINE: Entries = ("script:refine",)
INFER: Entries = ("script:infer",)
REPORT: Entries = ("script:report",)
EXPORT: Entries = ("script:export",)

_OF_PAPERS = {
    "taxonomy": ("claims.taxonomy", "claims.variants"),
    "simplex": ("claims.simplex",),
    "diffusion": ("claims.diffusion",),
}
_WITHOUT_NETWORKS = (
    "without:lossatlas.data.augment",
    "without:lossatlas.data.loading",
    "without:lossatlas.device",
    "without:lossatlas.models.functional",
    "without:lossatlas.training.checkpoints:assemble",
    "without:lossatlas.training.job",
    "without:lossatlas.training.networks",
)
_SCORES = "without:lossatlas.tasks.translation"  # which `performance` measures alone


def training(cell: Cell) -> Entries:
    """Return what trains a cell."""
    found = ["script:train", target_of(cell.model.builder), *_unused(cell), *_task(cell)]
    if ":" in cell.recipe.optimiser:
        found.append(cell.recipe.optimiser)
    found.append(_SCORES)
    if cell.recipe.record is None:
        found.append("without:lossatlas.training.recorder:Recorder")
        found.append("without:lossatlas.training.ends")
    return tuple(found)


def adoption(cell: Cell) -> Entries:
    """Return what reads a replica of a cell that was trained elsewhere."""
    return ("script:adopt", target_of(cell.model.builder))


def metric(kind: type[Metric], cell: Cell) -> Entries:
    """Return what measures a kind of metric on a cell."""
    own = kind.kind if ":" in kind.kind else f"{kind.__module__}:{kind.__qualname__}"
    found = ["script:metric", own]
    if kind.needs_torch():
        found += [target_of(cell.model.builder), *_unused(cell), *_task(cell)]
    else:
        found += _WITHOUT_NETWORKS
    if kind.kind != "performance":
        found.append(_SCORES)
    if kind.reads != "path":
        found.append("without:lossatlas.diffusion.recorded:read")
    return tuple(found)


def _unused(cell: Cell) -> Entries:
    """Return what data of other kinds, and other starts, would need."""
    task = built_in().get(cell.data.task)
    unused = {
        "without:lossatlas.data.augment:Augmentation": cell.recipe.augment is None,
        "without:lossatlas.training.pretrained": not cell.model.start_from,
        "without:lossatlas.data.texts": task is not None and not task.needs_text,
    }
    return tuple(name for name, without in unused.items() if without)


def _task(cell: Cell) -> Entries:
    """Return the task: one of the user's own, and none of the built-in ones that are not used."""
    own = target_of_task(cell.data.task)
    unused = [task for name, task in built_in().items() if name != cell.data.task]
    used = built_in().get(cell.data.task, Task).__mro__
    kept = [task for task in unused if task not in used]
    return (*([own] if own else []), *(f"without:{t.__module__}:{t.__qualname__}" for t in kept))


def figure(target: str) -> Entries:
    """Return what draws a figure, of which `target` is the function."""
    return ("script:figure", target)


def study(name: str) -> Entries:
    """Return what a study without cells runs."""
    return ("script:study", STUDY_OF[name])


def claims(paper: str) -> Entries:
    """Return what checks the claims of a paper."""
    others = [name for one, names in _OF_PAPERS.items() if one != paper for name in names]
    return ("script:claims", *(f"without:lossatlas.{name}" for name in others))
