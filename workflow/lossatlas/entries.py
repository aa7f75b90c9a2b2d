"""Which code each kind of job runs, as entries of `fingerprint`.

A job's script leads to most of it. What a config chooses is not to be seen there and is named here:
the network, the kind of metric, the figure, the study. What a job of a kind never runs is named
too, where it would otherwise run again for nothing; `tests/unit/test_traced.py` runs every kind and
holds that it calls no function besides.
"""

from __future__ import annotations

from lossatlas import measuring
from lossatlas.models import target_of
from lossatlas.spec.cells import Cell
from lossatlas.spec.metrics import KINDS
from lossatlas.spec.shown import STUDY_OF

Entries = tuple[str, ...]

DATASET: Entries = ("script:dataset",)
COLLECT: Entries = ("script:collect",)
TABLE: Entries = ("script:table",)
REFERENCE: Entries = ("script:reference",)
ALL_CLAIMS: Entries = ("script:all_claims",)
REPORT: Entries = ("script:report",)

_OF_PAPERS = {
    "taxonomy": ("claims.taxonomy", "claims.verdicts:taxonomy_claims"),
    "simplex": ("claims.simplex",),
    "diffusion": ("claims.diffusion",),
}
_STAGES = "without:lossatlas.measuring:_stages"
_WITHOUT_NETWORKS = (
    "without:lossatlas.device",
    "without:lossatlas.measuring:_networks",
    "without:lossatlas.measuring:measure_networks",
    "without:lossatlas.training.checkpoints:assemble",
)


def training(cell: Cell) -> Entries:
    """Return what trains a cell."""
    found = ["script:train", target_of(cell.model.builder), *_unaugmented(cell)]
    if cell.recipe.record is None:
        found.append("without:lossatlas.training.recorder:Recorder")
    return tuple(found)


def metric(kind: str, cell: Cell) -> Entries:
    """Return what measures a kind of metric on a cell."""
    settings = KINDS[kind]
    found = ["script:metric", measuring.ADAPTERS[kind]]
    found.append(f"{settings.__module__}:{settings.__qualname__}")
    if kind not in measuring.WITHOUT_TORCH:
        found += [target_of(cell.model.builder), *_unaugmented(cell)]
    else:
        found += _WITHOUT_NETWORKS
    if kind not in ("hessian_path", "landscape"):
        found.append(_STAGES)
    if kind != "diffusion":
        found.append("without:lossatlas.diffusion.recorded:read")
    if kind not in measuring.RESUMES:
        found.append("without:lossatlas.measuring:_state")
    return tuple(found)


def _unaugmented(cell: Cell) -> Entries:
    unused = cell.recipe.augment is None
    return ("without:lossatlas.data.augment:Augmentation",) if unused else ()


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
