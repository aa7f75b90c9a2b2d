# What rules ask of the library, of the config and of the plan.
import contextlib
import dataclasses
import functools
import gc
import inspect
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import Wildcards

# Thousands of jobs are millions of objects that stay, and for each job Snakemake takes the address
# of its script apart three times: without these lines a plan takes 1.6 times as long.
gc.set_threshold(100_000, 20, 20)
with contextlib.suppress(ImportError):  # a library of Snakemake's, which may do without it one day
    import smart_open

    smart_open.parse_uri = functools.cache(smart_open.parse_uri)

# Jobs import the library beside their scripts, and not one that is installed.
HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
LIBRARY = str(HERE.parent / "workflow")
if not os.path.isdir(f"{LIBRARY}/lossatlas"):
    raise WorkflowError(
        f"no library in {LIBRARY}: the workflow runs from a local copy of all its files"
        " (git clone, then name the Snakefile there; github(...) brings the rules alone)"
    )
# Snakemake puts the folders of its files first: one's own yaml.py there would take that one's place.
sys.path[:] = [LIBRARY, *(part for part in sys.path if part not in (str(HERE), str(HERE.parent)))]

from lossatlas import entries, fingerprint, paths, warm
from lossatlas.entry import find_user_modules, leave_warnings_to_scripts, share_imports
from lossatlas.errors import UserError, nearest
from lossatlas.metrics import registry
from lossatlas.page import assets
from lossatlas.spec import atlas, names, needs, refining, spelling, starts, told
from lossatlas.spec.catalogue import corrupted_source, data_source, data_sources, files_of, identity
from lossatlas.spec.cells import ADOPTED_ID, TRAINED_ID, canonical
from lossatlas.spec.config import load
from lossatlas.spec.figures import FIGURES, Thresholds
from lossatlas.spec.plan import block_seeds, make_plan
from lossatlas.spec.shown import (
    PAPERS,
    REFERENCE,
    REFERENCE_KINDS,
    SIMPLEX_KINDS,
    STUDIES,
    STUDY_OF,
    Shown,
    claim_tables,
    everything_of,
    figure_files,
    tables_told,
)


def plainly(function, *arguments, refusal=WorkflowError):
    """Call; a user's mistake becomes one line instead of a traceback.

    In an input function that takes SystemExit: to any Exception Snakemake adds where it was raised.
    """
    try:
        return function(*arguments)
    except UserError as error:
        raise refusal(str(error)) from None


def refuse(what, word, choices):
    """End with one line that names what is most like a word of the user's."""
    raise SystemExit(str(UserError(what, fix=nearest(word, choices))))


@functools.cache
def code_of(asked):
    """Return the digest of the code that entries reach."""
    return plainly(fingerprint.code_of, *asked, refusal=SystemExit)


share_imports(LIBRARY)
find_user_modules()
leave_warnings_to_scripts()
warm.invite(here=workflow.is_main_process and workflow.local_exec)
if workflow.is_main_process:
    plainly(spelling.check_files, workflow.configfiles)
config["name"] = plainly(names.name_of, config, workflow.configfiles)
CONFIG = plainly(load, config)
config["rehearse"], config["pilot"] = CONFIG.rehearse, CONFIG.pilot
paths.use(CONFIG.name, rehearsal=CONFIG.rehearse, pilot=CONFIG.pilot)
plainly(names.check_origin, CONFIG.name, workflow.configfiles)
PLAN = plainly(make_plan, CONFIG)
FIGURE_NAMES = list(CONFIG.figures)
CLAIMS = [paths.claims()] if CONFIG.figures else []


wildcard_constraints:
    block=r"[0-9]+([-_][0-9]+)*",
    cell=r"[A-Za-z0-9.-]+",
    experiment="|".join(CONFIG.experiments),
    figure="|".join([*FIGURE_NAMES, *FIGURES]),
    file=r"([^/]+/)?[^/]+",
    name=r"[A-Za-z0-9_]+",
    paper="|".join(PAPERS),


def compact(value):
    """Return JSON that compares equal when the values do: what a rule's params hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- training ---------------------------------------------------------------------------------
def planned(wildcards):
    cell = wildcards.cell
    if cell not in PLAN.cells:
        if re.fullmatch(ADOPTED_ID, cell):
            what, fix = f"no files of cell '{cell}'", "they are gone, or in none of the experiments"
            raise SystemExit(str(UserError(what, fix=fix)))
        refuse(f"no cell '{cell}' in the experiments of this config", cell, PLAN.cells)
    return PLAN.cells[cell]


def file_of(wildcards):
    """Return the file of a replica that was trained elsewhere."""
    cell, seeds = planned(wildcards), seeds_in(wildcards.block)
    if len(seeds) != 1 or seeds[0] not in cell.files:
        what = f"no file for block {wildcards.block} of cell {wildcards.cell}"
        fix = "none is called so in the config, or it was there when Snakemake started and is gone"
        raise SystemExit(str(UserError(what, fix=fix)))
    return cell.files[seeds[0]]


def sha256_of(wildcards):
    return file_of(wildcards).sha256


def adoption_code(wildcards):
    return code_of(entries.adoption(planned(wildcards).cell))


def adoption_mb(wildcards, attempt):
    return needs.adoption_mb(planned(wildcards), attempt)


def seeds_in(block):
    if not (seeds := block_seeds(block)):
        blocks = {own for cell in PLAN.cells.values() for own in cell.blocks}
        refuse(f"'{block}' names no block of replicas", block, blocks)
    return seeds


def spec_of(wildcards):
    planned(wildcards)  # refuses an unknown cell
    return spec_named(wildcards.cell)


@functools.cache
def spec_named(cell):
    return compact(PLAN.cells[cell].cell.spec)


def dataset_of(wildcards):
    return paths.dataset(planned(wildcards).cell.data.source)


def training_code(wildcards):
    return code_of(entries.training(planned(wildcards).cell))


# --- metrics ----------------------------------------------------------------------------------
# Kind -> its rule, where it has one of its own name or shares one; all others have rule `metric`.
RULE_OF = {
    **{kind: kind for kind in ("performance", "hessian", "hessian_path", "connectivity")},
    **{kind: kind for kind in ("cka", "distance", "alignment", "landscape")},
    **dict.fromkeys(SIMPLEX_KINDS, "simplexes"),
    "diffusion": "diffusion_metric",
}
KIND_OF = {
    **{kind: kind for kind in registry.built_in()},
    **{name: CONFIG.metric(name).kind for name in CONFIG.metrics},
}


def metrics_of(rule_name):
    """Return a pattern of the named metrics that a rule measures."""
    names = [name for name, kind in KIND_OF.items() if RULE_OF.get(kind, "metric") == rule_name]
    return f"({'|'.join(names)})([.][0-9]+)?" if names else "(?!)"


def rule_called(name):
    """Return a rule of ours; as a module of another workflow they may have other names."""
    return workflow.get_rule(workflow.modifier.modify_rulename(name))


def describe_rules():
    """Let `--list-rules` say of each metric what its declaration says."""
    for kind, name in RULE_OF.items():
        first = inspect.getdoc(registry.built_in()[kind]).partition("\n")[0]
        shared = list(RULE_OF.values()).count(name) > 1
        rule_called(name).docstring = SHARED_RULES[name] if shared else first


SHARED_RULES = {"simplexes": "Simplexes between replicas, or grown from each; loss, ensembles."}


def metric_of(wildcards):
    """Return a metric with its settings; those that vary with an axis as they are for the cell."""
    return metric_named(name_of_metric(wildcards), varied_cell(wildcards))


def varied_cell(wildcards):
    """Return the cell where a metric's settings vary with an axis, and "" where they do not."""
    return planned(wildcards) and wildcards.cell if CONFIG.varies(name_of_metric(wildcards)) else ""


@functools.cache
def metric_named(name, cell):
    return CONFIG.metric(name, PLAN.cells[cell].cell if cell else None)


def metric_inputs(wildcards):
    """Return what a metric reads: training records always, the rest as it declares."""
    metric, cell = metric_of(wildcards), planned_replicas(wildcards)
    blocks = blocks_of(cell, metric.uses(cell.seeds))
    found = {"histories": [paths.history(wildcards.cell, block) for block in blocks]}
    if metric.reads != "path":
        found["weights"] = [paths.weights(wildcards.cell, block) for block in blocks]
        found["dataset"] = dataset_of_metric(wildcards)
    if metric.reads == "arrays":
        found["performance"] = predictions_of(wildcards)
    if corruptions := getattr(metric, "corruptions", ""):
        found["corruptions"] = [paths.download(corrupted_source(corruptions).file)]
    return found


def blocks_of(cell, seeds):
    """Return the blocks of a cell that hold some seeds."""
    every = {**cell.blocks, **cell.further_blocks}
    return [block for block, held in every.items() if not set(seeds).isdisjoint(held)]


def settings_of(wildcards):
    return settings_named(name_of_metric(wildcards), varied_cell(wildcards))


@functools.cache
def settings_named(name, cell):
    return compact(metric_named(name, cell).identity)


def kind_of(wildcards):
    return metric_of(wildcards).kind


def metric_code(wildcards):
    return code_of(entries.metric(type(metric_of(wildcards)), planned(wildcards).cell))


def metric_seeds(wildcards):
    return metric_of(wildcards).uses(planned_replicas(wildcards).seeds)


def predictions_of(wildcards):
    """Return the `performance` record of a cell, whose predictions some metrics compare."""
    for name in planned(wildcards).metrics:
        if CONFIG.metric(name).kind == "performance":
            return paths.metric(wildcards.cell, name)
    return paths.metric(wildcards.cell, "performance")


# --- tables and figures -----------------------------------------------------------------------
@functools.cache
def axes_of_grid(experiment):
    """Return, as JSON, cell -> axis -> value, in the order of the grid."""
    points = canonical(CONFIG.grid(experiment))
    return json.dumps(dict(zip(PLAN.experiments[experiment], points, strict=True)))


def axes_of(wildcards):
    """Return, as JSON, cell -> axis -> value of the cells that are measured."""
    if wildcards.experiment not in PLAN.refined:
        return axes_of_grid(wildcards.experiment)
    every = json.loads(axes_of_grid(wildcards.experiment))
    return json.dumps({cell: every[cell] for cell in cells_of(wildcards.experiment)})


def records_of(wildcards):
    cells = cells_of(wildcards.experiment).items()
    return [record_of(wildcards.experiment, c, wildcards.metric, times) for c, times in cells]


def metrics_measured(wildcards):
    return CONFIG.experiments[wildcards.experiment].metrics


def metric_tables(wildcards):
    return [paths.metric_table(wildcards.experiment, m) for m in metrics_measured(wildcards)]


def shown(figure):
    return Shown(CONFIG, figure)


def figure_tables(which):
    """Return an input function: the tables that a figure reads."""

    def tables(wildcards):
        return plainly(shown(wildcards.figure).tables, which, refusal=SystemExit)

    return tables


def figure_code(wildcards):
    return code_of(entries.figure(shown(wildcards.figure).drawing.target))


# --- targets ----------------------------------------------------------------------------------
def no_such_target(wildcards):
    """End with one line: no rule of this name, nor of a figure, is in the workflow."""
    known = [rule.name for rule in workflow.rules if not rule.has_wildcards()]
    refuse(f"there is no target '{wildcards.target}'", wildcards.target, known)


def all_datasets():
    sources = {planned.cell.data.source for planned in PLAN.cells.values()}
    archives = [corrupted_source(name).file for name in sorted(PLAN.corruptions)]
    return [*map(paths.dataset, sorted(sources)), *map(paths.download, archives)]


def all_weights():
    """Return the weights of all cells; of a refinement, of its coarse grid."""
    return [
        paths.weights(c, block)
        for c, planned in PLAN.cells.items()
        for block in planned.blocks
        if planned.sure
    ]


def told_of(wildcards):
    """Return experiment -> the tables that tell of a paper's claims."""
    return tables_told(CONFIG, wildcards.paper)


def about_claims(wildcards):
    """Return what else the claims must know of these experiments: recipe, data, settings."""
    return compact(plainly(told.about, CONFIG, wildcards.paper, refusal=SystemExit))


@functools.cache
def on_page():
    """Return what the page shows of each experiment."""
    return plainly(atlas.experiments, CONFIG)


def tables_of_page():
    return [path for one in on_page() for path in (*one["scalars"], *one["series"])]


def claims_read(wildcards):
    return claim_tables(CONFIG, wildcards.paper)
