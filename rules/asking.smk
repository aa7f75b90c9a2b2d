# What jobs ask a scheduler for, what is measured of that before a run, and what a pilot compares.
import importlib.metadata

from lossatlas import attempts, timing
from lossatlas.spec import calibration


def times_of_training(wildcards, attempt, what):
    """Return how many times as much of memory or time this attempt asks for."""
    return attempts.times(paths.log("train", f"{wildcards.cell}.{wildcards.block}"), attempt, what)


def training_mb(wildcards, attempt):
    times = times_of_training(wildcards, attempt, "memory")
    return needs.training_mb(planned(wildcards), len(seeds_in(wildcards.block)), times)


def training_minutes(wildcards, attempt):
    times = times_of_training(wildcards, attempt, "time")
    return needs.training_minutes(planned(wildcards), times, CONFIG.walltime)


def times_of_metric(wildcards, attempt, what):
    """Return how many times as much of memory or time this attempt asks for."""
    return attempts.times(paths.log(wildcards.metric, wildcards.cell), attempt, what)


def metric_mb(wildcards, attempt):
    times = times_of_metric(wildcards, attempt, "memory")
    return needs.metric_mb(planned_replicas(wildcards), metric_of(wildcards), times)


def metric_minutes(wildcards, attempt):
    cell, times = planned_replicas(wildcards), times_of_metric(wildcards, attempt, "time")
    return needs.metric_minutes(cell, metric_of(wildcards), times, CONFIG.walltime)


def metric_threads(wildcards):
    return threads_of(wildcards) if metric_of(wildcards).needs_torch() else 1


def metric_gpu(wildcards):
    return needs.gpu() if metric_of(wildcards).needs_torch() else 0


def threads_of(wildcards):
    return needs.threads(planned(wildcards))


def whole_gpu(wildcards):
    """Return 1 for a network that is wide enough to have a GPU for itself (profiles/gpu)."""
    return int(needs.wide(planned(wildcards)))


def calibrated():
    """Return, as JSON, the passes whose cost `calibrate` measures."""
    return compact([dataclasses.asdict(case) for case in calibration.cases(PLAN)])


def most_threads():
    """Return the threads of the config's largest job."""
    return max((needs.threads(planned) for planned in PLAN.cells.values()), default=1)


def most_mb(attempt):
    """Return the memory in MB of the config's largest training."""
    cells = [(one, max(map(len, one.blocks.values()), default=1)) for one in PLAN.cells.values()]
    return max(needs.training_mb(planned, count, attempt) for planned, count in cells)


def torch_here():
    """Return the version of torch that this process would import; "" if there is none."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("torch")
    return ""


def device_here():
    """Return what `plan` must know to say whether a calibration holds for the jobs of this run."""
    return {
        "asked": os.environ.get("LOSSATLAS_DEVICE", ""),
        "torch": torch_here(),
        "threads": most_threads(),
        "cpu": timing.processor() if workflow.local_exec else "",
    }


def all_of_pilot(wildcards):
    """Return what all cells of a pilot are measured with; refuse a run that is none."""
    if not CONFIG.pilot:
        fix = "snakemake --config pilot=true"
        raise SystemExit(str(UserError("a pilot has settings of its own", where="pilot", fix=fix)))
    cells = PLAN.cells.items()
    trained = [paths.history(c, block) for c, one in cells for block in one.blocks]
    return trained + [paths.metric(c, name) for c, one in cells for name in one.metrics]


def rule_of_metric(name):
    """Return the rule that measures a named metric, as --set-resources calls it."""
    return rule_called(RULE_OF.get(KIND_OF[name], "metric")).name


def given_resources():
    """Return rule -> what --set-resources gives its jobs, as far as these are numbers."""
    found = {}
    for rule, some in workflow.resource_settings.overwrite_resources.items():
        plain = {name: one.value for name, one in some.items() if not one.is_evaluable()}
        found[rule] = {name: value for name, value in plain.items() if isinstance(value, int)}
    return found
