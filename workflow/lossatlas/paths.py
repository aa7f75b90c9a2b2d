"""The only module that knows where files live. All paths are relative to the working folder.

Every function also accepts Snakemake wildcards ("{cell}") in place of values. Cells, data,
downloads and studies are shared by all configs of a project; figures, tables, the page and their
logs belong to one config, which `use` chooses. All that a rehearsal makes, or a pilot, lies in a
folder of its own, laid out like the folder of results; pilots share data and downloads.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = "results"
DEFAULT = "config"  # the config whose results lie in ROOT itself: config.yaml
REFERENCE = "taxonomy_reference"  # the authors' published results, in place of an experiment
STUDIES = "studies"  # small experiments that have no cells
ENTRIES = (  # of ROOT that are no config's
    *(
        "accepted.json",
        "calibration.json",
        "cells",
        "config.txt",
        "data",
        "downloads",
        "figures",
        "logs",
        "README.md",
        "reference",
        "pilot",
        "rehearsal",
    ),
    *("export.zip", "export_with_weights.zip", "report.html", "state", "studies", "tables"),
)
# Log folders of jobs whose results belong to one config, and of jobs that all configs share.
OWN_LOGS = (
    *("calibrate", "claims", "collect", "doctor", "export", "figure", "pilot", "plan", "refine"),
    *("report", "status", "table"),
)
SHARED_LOGS = ("adopt", "dataset", "download", "misspelt", "pbs", "reference", "study", "train")
LIBRARY = Path(__file__).resolve().parent
PROJECT = LIBRARY.parent.parent  # of a checkout: an installed library has no project around it
_PACKED = LIBRARY / "packed"  # what a wheel has besides modules (setup.py); no checkout has it
INSTALLED = _PACKED.is_dir()
_RESOURCES = _PACKED / "resources" if INSTALLED else PROJECT / "resources"
_CAPTIONS = _PACKED / "report" if INSTALLED else LIBRARY.parent / "report"
SCRIPTS = _PACKED / "scripts" if INSTALLED else LIBRARY.parent
CODES = Path(".snakemake/lossatlas-codes.json")  # digests of code, while no source changes
DATA = Path(".snakemake/lossatlas-data.json")  # what data of the user's own were found to hold
FILES = Path(".snakemake/lossatlas-files.json")  # SHA-256 of files of the user's own
DATASETS_TABLE = _RESOURCES / "datasets.tsv"


_trial = ""  # "rehearsal" or "pilot": the folder of what is no result
_own = ROOT


def use(config: str, *, rehearsal: bool = False, pilot: bool = False) -> None:
    """Choose the config, by its name, to which figures, tables, the page and their logs belong.

    Args:
        config: Its name.
        rehearsal: Whether it is rehearsed.
        pilot: Whether this is its pilot.
    """
    global _trial, _own
    _trial = "rehearsal" if rehearsal else "pilot" if pilot else ""
    _own = _root(config)


def rehearsing() -> bool:
    """Say whether results of this process are those of a rehearsal, or of a pilot: are none."""
    return bool(_trial)


def base() -> str:
    """The folder of all results, or of all those of rehearsals, or pilots."""
    return f"{ROOT}/{_trial}" if _trial else ROOT


def _base_of_data() -> str:
    """The folder of data: pilots have the real ones, which nothing but their source decides."""
    return ROOT if _trial == "pilot" else base()


def _root(config: str) -> str:
    return base() if config == DEFAULT else f"{base()}/{config}"


def origin(config: str) -> str:
    """The file that says which config files the results of a config come from."""
    return f"{_root(config)}/config.txt"


def caption(figure: str) -> Path:
    """The caption of a built-in figure."""
    return _CAPTIONS / f"{figure}.rst"


def published() -> str:
    """The authors' numbers that come with the project; relative if it is in the working folder."""
    table = _RESOURCES / "taxonomy_published.csv"
    here = Path.cwd()
    return str(table.relative_to(here) if table.is_relative_to(here) else table)


def imported() -> str:
    """The table of the authors' numbers, made again from their archive."""
    return f"{base()}/reference/taxonomy_published.csv"


def download(file: str) -> str:
    """An archive as it came from its mirror."""
    return f"{_base_of_data()}/downloads/{file}"


def dataset(name: str) -> str:
    """A data set, converted once: images, labels, normalisation."""
    return f"{_base_of_data()}/data/{name}.h5"


def cell(cell_id: str) -> str:
    """The folder of a cell."""
    return f"{base()}/cells/{cell_id}"


def cells() -> list[str]:
    """Names of the cells of which there is anything."""
    try:
        return sorted(os.listdir(f"{base()}/cells"))
    except OSError:
        return []


def cell_spec(cell_id: str) -> str:
    """The cell's specification, written once."""
    return f"{cell(cell_id)}/spec.yaml"


def weights(cell_id: str, block: str) -> str:
    """Checkpoints of a block of replicas (safetensors)."""
    return f"{cell(cell_id)}/train/{block}.safetensors"


def history(cell_id: str, block: str) -> str:
    """Training histories and statuses of a block of replicas."""
    return f"{cell(cell_id)}/train/{block}.h5"


def end(cell_id: str, block: str) -> str:
    """Where a longer run of a block of replicas could go on, beside what was recorded of it."""
    return f"{cell(cell_id)}/ends/{block}.safetensors"


def blocks_on_disk(cell_id: str) -> list[str]:
    """Names of the blocks of replicas that have been trained, in no particular order.

    The weights of some may have been removed since (`prune`).
    """
    try:
        names = os.listdir(f"{cell(cell_id)}/train")
    except OSError:
        return []
    named = {Path(name).stem for name in names if name.endswith((".safetensors", ".h5"))}
    return [name for name in named if not name.startswith(".")]


def state(name: str) -> str:
    """Resume state of a running job; removed when the job succeeds."""
    return f"{base()}/state/{name}"


def code(digest: str) -> str:
    """What a digest of code is made of, definition by definition."""
    return f"{base()}/state/codes/{digest}.json"


def lease(output: str) -> str:
    """The lease on a result, held by the job that writes it."""
    return f"{base()}/state/leases/{_short(output)}"


def missing(file: str) -> str:
    """The note that an archive could not be had; gone as soon as it is asked for again."""
    return f"{base()}/state/missing/{_short(file)}"


def kept_by_all() -> str:
    """The folder of second names of results (see `kept.py`)."""
    return f"{base()}/state/kept"


def kept(output: str) -> str:
    """The folder of second names of one job's results, of which `output` is the first."""
    return f"{kept_by_all()}/{_short(output)}"


def _short(output: str) -> str:
    return hashlib.sha256(output.encode()).hexdigest()[:16]


def metric(cell_id: str, name: str) -> str:
    """One metric of one cell."""
    return f"{cell(cell_id)}/metrics/{name}.h5"


def parts(cell_id: str, name: str) -> str:
    """The folder of the measured replicas or pairs of one metric of one cell."""
    return f"{cell(cell_id)}/parts/{name}"


def vertices(cell_id: str) -> str:
    """The folder of trained vertices of simplexes; metrics with equal vertices share them."""
    return f"{cell(cell_id)}/vertices"


def study(name: str) -> str:
    """A small experiment that has no cells."""
    return f"{base()}/studies/{name}.h5"


def _tables(experiment: str) -> str:
    """The folder of an experiment's tables; published results and studies are of no config."""
    root = base() if experiment in (REFERENCE, STUDIES) else _own
    return f"{root}/tables/{experiment}"


def metric_table(experiment: str, name: str) -> str:
    """One row per scalar of one metric over an experiment."""
    return f"{_tables(experiment)}/{name}.csv"


def series_table(experiment: str, name: str) -> str:
    """One row per point of the curves of one metric over an experiment."""
    return f"{_tables(experiment)}/{name}.series.csv"


def table(experiment: str) -> str:
    """One row per scalar of an experiment, all metrics."""
    return f"{_tables(experiment)}.csv"


def refined(experiment: str, number: str | int) -> str:
    """Which cells of an experiment were chosen up to a round of its refinement."""
    return f"{_tables(experiment)}/refine/{number}.json"


def inferred(experiment: str) -> str:
    """The phases of the cells that a refinement left out, with their probabilities."""
    return f"{_tables(experiment)}.inferred.csv"


def claims() -> str:
    """The papers' claims with their verdicts."""
    return f"{_own}/tables/claims.csv"


def claims_of(paper: str) -> str:
    """The claims of one paper."""
    return f"{_own}/tables/claims/{paper}.csv"


def figure(name: str, extension: str) -> str:
    """A figure, or with the extension csv the numbers drawn in it."""
    return f"{_own}/figures/{name}.{extension}"


def sidecar(output: str) -> str:
    """What made a result that cannot say it itself (see `made`)."""
    folder, slash, name = output.rpartition("/")
    return f"{folder}{slash}.{name}.made"


def accepted() -> str:
    """Results that count as valid under code that did not make them."""
    return f"{base()}/accepted.json"


def log(rule: str, *parts: str) -> str:
    """The log of a job."""
    root = _own if rule in OWN_LOGS else base()
    return "/".join([f"{root}/logs/{rule}", *parts]) + ".log"


def own_log(rule: str) -> str:
    """The log of a rule that only tells: results may be read-only."""
    return f".snakemake/log/lossatlas-{rule}.log"


def own_results() -> list[str]:
    """Folders and files of tables and figures: of the config, and those that configs share."""
    shared = f"{base()}/tables"
    return [
        *(f"{_own}/figures", f"{_own}/tables"),
        *(f"{shared}/{REFERENCE}", f"{shared}/{STUDIES}", f"{base()}/{STUDIES}"),
    ]


def archive(*, weights: bool = False) -> str:
    """All results of the config as one file, to hand on."""
    return f"{_own}/{'export_with_weights' if weights else 'export'}.zip"


def calibration() -> str:
    """What passes through the config's networks take on the device of its jobs."""
    return f"{_own}/calibration.json"


def page() -> str:
    """All figures and claims on one page."""
    return f"{_own}/report.html"
