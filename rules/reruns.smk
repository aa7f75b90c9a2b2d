# Which jobs run again is decided by what results say of themselves (`lossatlas.made`), and by
# neither Snakemake's memory, which may be lost, nor times, which change when files are copied.
from snakemake.common.tbdstring import TBDString
from snakemake.io import _IOFile
from snakemake.jobs import Job
from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange, PersistenceBase

from lossatlas import reruns
from lossatlas.files import check_folder

# What is asked of each trained block, of each adopted replica, and of each measured metric.
TRAINING = {"spec": spec_of, "data": data_of, "code": training_code}
ADOPTION = {"spec": spec_of, "data": data_of, "sha256": sha256_of, "code": adoption_code}
METRIC = {
    "kind": kind_of,
    "settings": settings_of,
    "spec": spec_of,
    "data": data_of,
    "seeds": metric_seeds,
    "code": metric_code,
}
plainly(functools.partial(check_folder, paths.ROOT, write=False))
RERUNS = plainly(lambda: reruns.Reruns(reruns.Accept.asked()))


def forced():
    """Say whether the command line asks to run jobs whatever they left behind."""
    asked = workflow.dag_settings
    return bool(asked.forcerun or asked.forceall or asked.forcetargets)


def fingerprinted(rule):
    """Say whether a result tells what made it: those of a workflow around this one do not."""
    return rule is not None and "code" in rule.params.keys()


def step_of(job):
    """Return what a person calls a kind of result, and the experiments that it belongs to."""
    wildcards = dict(job.wildcards.items())
    cell = PLAN.cells.get(wildcards.get("cell"))
    experiments = cell.experiments if cell else [wildcards.get("experiment", "")]
    step = {"train_replicas": "training", "adopt": "adopt"}.get(job.rule.name)
    return step or wildcards.get("metric", job.rule.name).partition(".")[0], experiments


@functools.cache
def changed(before, now):
    """Return which definitions differ between two digests of code, where that was kept."""
    old, asked = fingerprint.parts_of(before), fingerprint.entries_asked(now)
    return fingerprint.difference(old, fingerprint.parts(asked)) if old and asked else []


@functools.cache
def why(job):
    """Return why the results of a job are not what the config asks for; [] if they are."""
    outputs, inputs = [str(path) for path in job.output], [str(path) for path in job.input]
    return RERUNS.texts(*step_of(job), outputs, dict(job.params.items()), inputs, changed)


def reasons(step, wildcards, outputs, params, inputs):
    """Return why results of a cell are not valid; [] if they are, None if they are not there."""
    if not all(map(os.path.exists, outputs)):
        return None
    given = {name: value(wildcards) if callable(value) else value for name, value in params.items()}
    return RERUNS.texts(step, planned(wildcards).experiments, outputs, given, inputs, changed)


def dataset_of_block(wildcards):
    """Return the data set that a block is to be trained on; nothing if it has been.

    A data set that is converted anew for a new block then trains no other block anew: their
    records tell the checksum of what they were trained on.
    """
    seeds_in(wildcards.block)  # refused before anything runs
    return [] if is_trained(wildcards) and not forced() else dataset_of(wildcards)


def start_of_block(wildcards):
    """Return the file of weights from which a block is to start; nothing if it has been trained.

    It is known by its content, in the cell's specification: another name or time changes nothing.
    """
    digest = planned(wildcards).cell.model.start_from
    return [ancient(starts.file_of(digest))] if digest and dataset_of_block(wildcards) else []


def sources_of_block(wildcards):
    """Return the file of a replica that is to be adopted, and the data set; nothing if it has been.

    The file is known by its content (a parameter): another name or time adopts nothing anew.
    """
    file = file_of(wildcards).path
    if is_trained(wildcards) and not forced():
        return {}
    return {"file": ancient(file), "dataset": dataset_of(wildcards)}


@functools.cache
def why_block(cell, block):
    """Return why a block of replicas is not valid; None if it is not there."""
    wildcards = Wildcards(fromdict={"cell": cell, "block": block})
    outputs = [paths.weights(cell, block), paths.history(cell, block)]
    adopted = planned(wildcards).cell.adopted
    step, params = ("adopt", ADOPTION) if adopted else ("training", TRAINING)
    return reasons(step, wildcards, outputs, params, [dataset_of(wildcards)])


def is_trained(wildcards):
    return why_block(wildcards.cell, wildcards.block) == []


def files_of_metric(wildcards):
    """Return the training records and weights that a metric reads, and the data set."""
    cell = planned_replicas(wildcards)
    blocks = blocks_of(cell, metric_of(wildcards).uses(cell.seeds))
    trained = [paths.history(wildcards.cell, block) for block in blocks]
    if metric_of(wildcards).reads == "path":
        return trained
    return [
        *trained,
        *(paths.weights(wildcards.cell, block) for block in blocks),
        dataset_of(wildcards),
    ]


def dataset_of_metric(wildcards):
    """Return the data set that a metric is to be measured on; nothing if it has been."""
    cell, output = planned_replicas(wildcards), paths.metric(wildcards.cell, wildcards.metric)
    blocks = blocks_of(cell, metric_of(wildcards).uses(cell.seeds))
    if forced() or any(why_block(wildcards.cell, block) != [] for block in blocks):
        return dataset_of(wildcards)
    read = files_of_metric(wildcards)
    done = reasons(name_of_metric(wildcards), wildcards, [output], METRIC, read) == []
    return [] if done else dataset_of(wildcards)


def stale():
    """Return the first output of each trained block and measured metric that is not valid."""
    found = []
    for cell, one in PLAN.cells.items():
        for block in one.blocks:
            if why_block(cell, block):
                found.append(paths.weights(cell, block))
        for metric in one.metrics:
            wildcards = Wildcards(fromdict={"cell": cell, "metric": metric})
            output = paths.metric(cell, metric)
            if reasons(metric, wildcards, [output], METRIC, files_of_metric(wildcards)):
                found.append(output)
    return found


def in_place_of(cls, name):
    """Ask a function of ours in place of a method of Snakemake's, for rules of ours."""
    otherwise = getattr(cls, name)

    def replace(function):
        setattr(cls, name, functools.partialmethod(function, otherwise=otherwise))

    return replace


OF_MORE_REPLICAS = re.compile(r"metrics/\w+\.[0-9]+\.h5$")


@in_place_of(PersistenceBase, "params_changed")
def params_changed(persistence, job, file=None, *, otherwise):
    if not fingerprinted(job.rule):
        return otherwise(persistence, job, file)
    if any(isinstance(value, TBDString) for value in job.params):
        # Cells of a refinement, before its rounds are looked at: Snakemake asks again after that.
        there = all(os.path.exists(path) for path in job.input)
        return NO_PARAMS_CHANGE if there else ParamsChange({"rounds"}, files=set(job.output))
    # An input that is not there makes nothing anew, but replicas that a refinement adds to a cell do.
    added = [path for path in job.input if OF_MORE_REPLICAS.search(path)]
    if any(not os.path.exists(path) for path in added):
        return ParamsChange({"replicas"}, files=set(job.output))
    found = why(job)
    return ParamsChange(only_new=set(found), files=set(job.output)) if found else NO_PARAMS_CHANGE


# The profiles switch these triggers off; who has this workflow as a module has profiles of their own.
def never(persistence, job, file=None, *, otherwise):
    if not fingerprinted(job.rule):
        return otherwise(persistence, job, file)
    return iter(()) if file is None else False


for trigger in ("input_changed", "code_changed", "software_stack_changed"):
    in_place_of(PersistenceBase, trigger)(never)


@in_place_of(Job, "outputs_older_than_script_or_notebook")
async def outputs_older(job, *, otherwise):
    if not fingerprinted(job.rule):
        async for output in otherwise(job):
            yield output


@in_place_of(PersistenceBase, "has_metadata")
def has_metadata(persistence, job, *, otherwise):
    return fingerprinted(job.rule) or otherwise(persistence, job)


@in_place_of(PersistenceBase, "has_outdated_metadata")
def has_outdated_metadata(persistence, job, *, otherwise):
    return not fingerprinted(job.rule) and otherwise(persistence, job)


@in_place_of(PersistenceBase, "incomplete")
async def incomplete(persistence, job, *, otherwise):
    # A result is renamed into place when it is whole. Snakemake's mark of a job that was cut off just
    # after that would run it again, without the inputs that only a new result needs.
    return [] if fingerprinted(job.rule) else await otherwise(persistence, job)


@in_place_of(_IOFile, "is_newer")
async def is_newer(file, time, *, otherwise):
    return not fingerprinted(file.rule) and await otherwise(file, time)
