"""The only module that knows where files live. All paths are relative to the working folder.

Every function also accepts Snakemake wildcards ("{cell}") in place of values.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = "results"
LIBRARY = Path(__file__).resolve().parent
PROJECT = LIBRARY.parent.parent
CODES = Path(".snakemake/lossatlas-codes.json")  # digests of code, while no source changes
DATA = Path(".snakemake/lossatlas-data.json")  # what data of the user's own were found to hold
DATASETS_TABLE = PROJECT / "resources" / "datasets.tsv"


def caption(figure: str) -> Path:
    """The caption of a built-in figure."""
    return LIBRARY.parent / "report" / f"{figure}.rst"


def published() -> str:
    """The authors' numbers that come with the project; relative if it is in the working folder."""
    table = PROJECT / "resources" / "taxonomy_published.csv"
    here = Path.cwd()
    return str(table.relative_to(here) if table.is_relative_to(here) else table)


def imported() -> str:
    """The table of the authors' numbers, made again from their archive."""
    return f"{ROOT}/reference/taxonomy_published.csv"


def download(file: str) -> str:
    """An archive as it came from its mirror."""
    return f"{ROOT}/downloads/{file}"


def dataset(name: str) -> str:
    """A data set, converted once: images, labels, normalisation."""
    return f"{ROOT}/data/{name}.h5"


def cell(cell_id: str) -> str:
    """The folder of a cell."""
    return f"{ROOT}/cells/{cell_id}"


def cell_spec(cell_id: str) -> str:
    """The cell's specification, written once."""
    return f"{cell(cell_id)}/spec.yaml"


def weights(cell_id: str, block: str) -> str:
    """Checkpoints of a block of replicas (safetensors)."""
    return f"{cell(cell_id)}/train/{block}.safetensors"


def history(cell_id: str, block: str) -> str:
    """Training histories and statuses of a block of replicas."""
    return f"{cell(cell_id)}/train/{block}.h5"


def blocks_on_disk(cell_id: str) -> list[str]:
    """Names of the blocks of replicas that have been trained, in no particular order."""
    try:
        names = os.listdir(f"{cell(cell_id)}/train")
    except OSError:
        return []
    return [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")]


def state(name: str) -> str:
    """Resume state of a running job; removed when the job succeeds."""
    return f"{ROOT}/state/{name}"


def lease(output: str) -> str:
    """The lease on a result, held by the job that writes it."""
    return f"{ROOT}/state/leases/{_short(output)}"


def missing(file: str) -> str:
    """The note that an archive could not be had; gone as soon as it is asked for again."""
    return f"{ROOT}/state/missing/{file}"


def kept_by_all() -> str:
    """The folder of second names of results (see `kept.py`)."""
    return f"{ROOT}/state/kept"


def kept(output: str) -> str:
    """The folder of second names of one job's results, of which `output` is the first."""
    return f"{kept_by_all()}/{_short(output)}"


def _short(output: str) -> str:
    return hashlib.sha256(output.encode()).hexdigest()[:16]


def metric(cell_id: str, name: str) -> str:
    """One metric of one cell."""
    return f"{cell(cell_id)}/metrics/{name}.h5"


def vertices(cell_id: str) -> str:
    """The folder of trained vertices of simplexes; metrics with equal vertices share them."""
    return f"{cell(cell_id)}/vertices"


def study(name: str) -> str:
    """A small experiment that has no cells."""
    return f"{ROOT}/studies/{name}.h5"


def metric_table(experiment: str, name: str) -> str:
    """One row per scalar of one metric over an experiment."""
    return f"{ROOT}/tables/{experiment}/{name}.csv"


def series_table(experiment: str, name: str) -> str:
    """One row per point of the curves of one metric over an experiment."""
    return f"{ROOT}/tables/{experiment}/{name}.series.csv"


def table(experiment: str) -> str:
    """One row per scalar of an experiment, all metrics."""
    return f"{ROOT}/tables/{experiment}.csv"


def claims() -> str:
    """The papers' claims with their verdicts."""
    return f"{ROOT}/tables/claims.csv"


def claims_of(paper: str) -> str:
    """The claims of one paper."""
    return f"{ROOT}/tables/claims/{paper}.csv"


def figure(name: str, extension: str) -> str:
    """A figure, or with the extension csv the numbers drawn in it."""
    return f"{ROOT}/figures/{name}.{extension}"


def log(rule: str, *parts: str) -> str:
    """The log of a job."""
    return "/".join([f"{ROOT}/logs/{rule}", *parts]) + ".log"


def page() -> str:
    """All figures and claims on one page."""
    return f"{ROOT}/report.html"
