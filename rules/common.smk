# The only file with functions: everything that rules ask of the library.
import atexit
import contextlib
import dataclasses
import functools
import gc
import inspect
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Thousands of jobs are millions of objects that stay, and for each job Snakemake takes the address
# of its script apart three times: without these lines a plan takes 1.6 times as long.
gc.set_threshold(100_000, 20, 20)
with contextlib.suppress(ImportError):  # a library of Snakemake's, which may do without it one day
    import smart_open

    smart_open.parse_uri = functools.cache(smart_open.parse_uri)

# Jobs import the library beside their scripts, and not one that is installed.
HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
LIBRARY = str(HERE.parent / "workflow")
# Snakemake puts the folders of its files first: one's own yaml.py there would take that one's place.
sys.path[:] = [LIBRARY, *(part for part in sys.path if part not in (str(HERE), str(HERE.parent)))]

from lossatlas import measuring, missing, paths, warm
from lossatlas.entry import find_user_modules, leave_warnings_to_scripts, share_imports
from lossatlas.errors import UserError, nearest
from lossatlas.files import check_folder
from lossatlas.fingerprint import code_of
from lossatlas.models import target_of
from lossatlas.spec import needs
from lossatlas.spec.catalogue import data_source, data_sources, files_of
from lossatlas.spec.config import load
from lossatlas.spec.figures import FIGURES
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


code_of = functools.cache(code_of)
share_imports(LIBRARY)
find_user_modules()
leave_warnings_to_scripts()
warm.invite(here=workflow.is_main_process and workflow.local_exec)
plainly(check_folder, paths.ROOT)
CONFIG = plainly(load, config)
PLAN = plainly(make_plan, CONFIG)
FIGURE_NAMES = list(CONFIG.figures)
CLAIMS = [paths.claims()] if CONFIG.figures else []


wildcard_constraints:
    block=r"[0-9]+([-_][0-9]+)*",
    cell=r"[A-Za-z0-9.-]+",
    experiment="|".join(CONFIG.experiments),
    figure="|".join([*FIGURE_NAMES, *FIGURES]),
    file=r"[^/]+",
    name=r"[A-Za-z0-9_]+",
    paper="|".join(PAPERS),


def compact(value):
    """Return JSON that compares equal when the values do: what a rule's params hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- training ---------------------------------------------------------------------------------
def planned(wildcards):
    cell = wildcards.cell
    if cell not in PLAN.cells:
        refuse(f"no cell '{cell}' in the experiments of this config", cell, PLAN.cells)
    return PLAN.cells[cell]


def seeds_in(block):
    if not (seeds := block_seeds(block)):
        blocks = {own for cell in PLAN.cells.values() for own in cell.blocks}
        refuse(f"'{block}' names no block of replicas", block, blocks)
    return seeds


def spec_of(wildcards):
    return compact(planned(wildcards).cell.spec)


def dataset_of(wildcards):
    return paths.dataset(planned(wildcards).cell.data.source)


def dataset_of_block(wildcards):
    seeds_in(wildcards.block)  # refused before anything runs
    return dataset_of(wildcards)


TRAINING_CODE = [
    "lossatlas.data.augment:augmented",
    "lossatlas.data.loading:load",
    "lossatlas.device:choose",
    "lossatlas.models:build",
    "lossatlas.training.checkpoints:save",
    "lossatlas.training.engine:Engine",
    "lossatlas.training.job:builder_of",
    "lossatlas.training.job:training_record",
]


def training_code(wildcards):
    cell = planned(wildcards).cell
    recorder = () if cell.recipe.record else ("lossatlas.training.recorder",)
    augment = () if cell.recipe.augment else ("lossatlas.data.augment",)
    return code_of(*TRAINING_CODE, target_of(cell.model.builder), without=(*recorder, *augment))


# --- metrics ----------------------------------------------------------------------------------
def metrics_of(kind):
    """Return a pattern of the named metrics of a kind."""
    named = {name: part.get("kind", name) for name, part in CONFIG.metrics.items()}
    return "|".join([name for name, of in {kind: kind, **named}.items() if of == kind])


def weights_of(wildcards):
    return [paths.weights(wildcards.cell, block) for block in planned(wildcards).blocks]


def histories_of(wildcards):
    return [paths.history(wildcards.cell, block) for block in planned(wildcards).blocks]


def settings_of(wildcards):
    return settings_named(wildcards.metric)


@functools.cache
def settings_named(metric):
    return compact(CONFIG.metric(metric).model_dump())


def corruptions_of(wildcards):
    """Return the archive of corrupted test images that a metric reads, if any."""
    name = getattr(CONFIG.metric(wildcards.metric), "corruptions", "")
    return [paths.download(data_sources()[name].file)] if name else []


def kind_of(wildcards):
    return CONFIG.metric(wildcards.metric).kind


def metric_code(wildcards):
    return code_of(*METRIC_CODE[kind_of(wildcards)])


def seeds_of(wildcards):
    return planned(wildcards).seeds


def predictions_of(wildcards):
    """Return the `performance` record of a cell: `distance` compares its predictions."""
    for name in planned(wildcards).metrics:
        if CONFIG.metric(name).kind == "performance":
            return paths.metric(wildcards.cell, name)
    return paths.metric(wildcards.cell, "performance")


NETWORKS_CODE = [
    "lossatlas.data.augment:augmented",
    "lossatlas.data.loading:load",
    "lossatlas.training.checkpoints:assemble",
]
READING_CODE = {
    "distance": ["lossatlas.training.checkpoints:read_weights"],
    "diffusion": ["lossatlas.diffusion.recorded:read"],
}
METRIC_CODE = {
    kind: [target, "lossatlas.measuring:add_diverged", *READING_CODE.get(kind, NETWORKS_CODE)]
    for kind, target in measuring.ADAPTERS.items()
}


# --- what jobs ask a scheduler for ------------------------------------------------------------
def training_mb(wildcards, attempt):
    return needs.training_mb(planned(wildcards), len(seeds_in(wildcards.block)), attempt)


def training_minutes(wildcards, attempt):
    return needs.training_minutes(planned(wildcards), attempt)


def metric_mb(wildcards, attempt):
    return needs.metric_mb(planned(wildcards), CONFIG.metric(wildcards.metric), attempt)


def metric_minutes(wildcards, attempt):
    return needs.metric_minutes(planned(wildcards), CONFIG.metric(wildcards.metric), attempt)


def threads_of(wildcards):
    return needs.threads(planned(wildcards))


def whole_gpu(wildcards):
    """Return 1 for a network that is wide enough to have a GPU for itself (profiles/gpu)."""
    return int(needs.wide(planned(wildcards)))


# --- tables and figures -----------------------------------------------------------------------
def axes_of(wildcards):
    """Return, as JSON, cell -> axis -> value, in the order of the grid."""
    axes = CONFIG.experiments[wildcards.experiment].axes
    cells = PLAN.experiments[wildcards.experiment]
    return json.dumps({c: {a: PLAN.cells[c].cell.axis(a) for a in axes} for c in cells})


def records_of(wildcards):
    return [paths.metric(c, wildcards.metric) for c in PLAN.experiments[wildcards.experiment]]


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
    return code_of("lossatlas.figures.draw:draw", shown(wildcards.figure).drawing.target)


# --- data -------------------------------------------------------------------------------------
def archive_name(file):
    """Return the row of the datasets table that has this archive."""
    for name, source in data_sources().items():
        if source.file == file:
            return name
    known = [source.file for source in data_sources().values() if source.file]
    refuse(f"resources/datasets.tsv has no archive '{file}'", file, known)


def archive_of(wildcards):
    source = plainly(data_source, wildcards.name, refusal=SystemExit)
    if source.own:  # whose name tells the content: a new time changes nothing
        return [ancient(source.file)] if source.file else []
    return [paths.download(file.file) for file in files_of(source)]


def own_of(wildcards):
    """Return, as JSON, what is known of data of the user's own; "" for those of the table."""
    source = plainly(data_source, wildcards.name, refusal=SystemExit)
    kept = {key: value for key, value in dataclasses.asdict(source).items() if key != "file"}
    return compact({**kept, "file": ""}) if source.own else ""


def archive_of_results():
    return paths.download(data_sources()["taxonomy_results"].file)


def published_numbers(wildcards):
    """Return the table of the authors' numbers; end with one line if it is missing."""
    table = paths.published()
    if not os.path.isfile(table):
        fix = "restore the file from the repository"
        raise SystemExit(str(UserError("no such file", where=table, fix=fix)))
    return table


def executor_name():
    """Return what the chosen profile runs jobs with."""
    return getattr(workflow.executor_plugin, "name", "local")


def find_scripts_of_profile():
    """Let the scripts that profiles/pbs names be found from every working folder."""
    for name in ("submit_cmd", "status_cmd", "cancel_cmd"):
        command = getattr(workflow.executor_settings, name, None) or ""
        if command.startswith("profiles/pbs/"):
            script, blank, arguments = command.partition(" ")
            path = str(HERE.parent / script)
            if name != "cancel_cmd":  # which goes past the shell
                path = shlex.quote(path)
            setattr(workflow.executor_settings, name, path + blank + arguments)


def gpu_places():
    """Return how many runs may use GPUs at once, or 0 where no profile limits them."""
    limits = workflow.global_resources
    if "gpu" not in limits or workflow.resource_scopes.is_local("gpu"):  # of each cluster job
        return 0
    return int(limits["gpu"].value)


def ended():
    """Return the first result of each job of this run that has ended or had nothing to do."""
    done = filter(workflow.dag.noneedrun_finished, workflow.dag.jobs)
    return [str(job.output[0]) for job in done if job.output]


def tell_of_missing_data():
    """End a run that failed for want of archives with one line, as the last that is printed.

    If that is all that went wrong, with an exit status of its own, too: every job that is left
    undone waits for one of the archives.
    """
    if not workflow.is_main_process:
        return
    failed = [job for job in workflow.scheduler.failed if not job.is_group()]
    failed = [job for job in failed if job.rule.name == "download"]
    failed = [job for job in failed if missing.noted(job.wildcards.file)]
    if failed:
        waiting = set(workflow.dag.bfs(workflow.dag.depending, *failed))
        alone = waiting.issuperset(workflow.dag.needrun_jobs())
        text = missing.line([job.wildcards.file for job in failed], alone=alone)
        atexit.register(
            print, text, file=sys.stderr, flush=True
        )  # after Snakemake's own last words
        if alone:
            raise SystemExit(missing.STATUS)  # of any Exception Snakemake makes 1


# --- targets ----------------------------------------------------------------------------------
def all_datasets():
    sources = {planned.cell.data.source for planned in PLAN.cells.values()}
    archives = [data_sources()[name].file for name in sorted(PLAN.corruptions)]
    return [*map(paths.dataset, sorted(sources)), *map(paths.download, archives)]


def all_weights():
    return [
        paths.weights(c, block) for c, planned in PLAN.cells.items() for block in planned.blocks
    ]


def told_of(wildcards):
    """Return experiment -> the tables that tell of a paper's claims."""
    return tables_told(CONFIG, wildcards.paper)


def claims_read(wildcards):
    return claim_tables(CONFIG, wildcards.paper)


# Snakemake looks at the parameters of such functions some 14 times per job: keep them at hand.
for function in filter(inspect.isfunction, list(globals().values())):
    function.__signature__ = inspect.signature(function)
