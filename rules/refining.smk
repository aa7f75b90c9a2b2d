# Rounds of a refinement: which cells are measured is known when the round before is.
from snakemake.exceptions import IncompleteCheckpointException


def bought(experiment, number):
    """Return the cells that are bought up to a round; 0 is the coarse grid."""
    if not number:
        return PLAN.refined[experiment].start
    path = paths.refined(experiment, number)
    try:
        checkpoints.refine.get(experiment=experiment, number=number)
    except IncompleteCheckpointException as waits:
        # Without Snakemake's mark on the file: with it a table that is there would not ask for a round
        # that is not, such as that of a larger budget (`params_changed` in reruns.smk does).
        waits.targetfile = path
        raise
    return json.loads(Path(path).read_text())["bought"]


def cells_of(experiment):
    """Return cell -> how often it is bought, in the order of the grid, of an experiment."""
    if experiment not in PLAN.refined:
        return dict.fromkeys(PLAN.experiments[experiment], 1)
    times = refining.times_bought(bought(experiment, len(PLAN.refined[experiment].counts)))
    return {cell: times[cell] for cell in PLAN.experiments[experiment] if cell in times}


def record_of(experiment, cell, metric, times):
    """Return the record of a cell that was bought so often: with all replicas, if it decides phases."""
    count = times * len(CONFIG.experiments[experiment].seed_list)
    more = times > 1 and count > len(PLAN.cells[cell].seeds)
    further = more and metric in decisive(experiment)
    return paths.metric(cell, f"{metric}.{count}" if further else metric)


def decisive(experiment):
    """Return the metrics that decide the phases of an experiment, as far as it has them."""
    firsts = CONFIG.firsts(experiment)
    return [firsts[kind] for kind in refining.KINDS if kind in firsts]


def records_known(wildcards):
    """Return cell -> its records, of the cells that a round, or the last one, knows."""
    experiment, rounds = wildcards.experiment, PLAN.refined[wildcards.experiment].counts
    last = int(wildcards.get("number", len(rounds) + 1)) - 1
    times = refining.times_bought(bought(experiment, last))
    return {
        cell: [record_of(experiment, cell, metric, count) for metric in decisive(experiment)]
        for cell, count in times.items()
    }


def all_records_known(wildcards):
    return [path for some in records_known(wildcards).values() for path in some]


def asked_of_refinement(wildcards):
    """Return, as JSON, what a round is to know."""
    experiment = wildcards.experiment
    one = CONFIG.experiments[experiment]
    limits = told.thresholds_of(CONFIG, experiment) or Thresholds()
    found = {
        "experiment": experiment,
        "axes": json.loads(axes_of_grid(experiment)),
        "records": records_known(wildcards),
        "thresholds": limits.model_copy(update={"rule": limits.rule or "nulls"}).model_dump(),
    }
    if "number" in wildcards.keys():
        number = int(wildcards.number)
        again = one.refine.again and not one.checkpoints
        found["bought"] = bought(experiment, number - 1)
        found["count"] = PLAN.refined[experiment].counts[number - 1]
        found["most"] = refining.MOST if again else 1
    return json.dumps(found, separators=(",", ":"))  # in the order of the grid


def name_of_metric(wildcards):
    """Return a metric's name: 'hessian' also of 'hessian.6', which is it of six replicas."""
    return wildcards.metric.partition(".")[0]


def planned_replicas(wildcards):
    """Return a cell with the replicas that a metric is to be measured on."""
    cell, count = planned(wildcards), wildcards.metric.partition(".")[2]
    if not count:
        return cell
    every = [*cell.seeds, *cell.further]
    if int(count) > len(every):
        what = f"cell {wildcards.cell} has no {count} replicas"
        raise SystemExit(str(UserError(what, fix=f"at most {len(every)}")))
    return dataclasses.replace(cell, seeds=every[: int(count)])
