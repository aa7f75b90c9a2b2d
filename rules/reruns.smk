# Which jobs run again is decided by what results say of themselves (`lossatlas.made`), and by
# neither Snakemake's memory, which may be lost, nor times, which change when files are copied.
import atexit

from snakemake.io import _IOFile
from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange, PersistenceBase

from lossatlas import reruns

RERUNS = plainly(lambda: reruns.Reruns(reruns.Accept.asked()))


def fingerprinted(rule):
    """Say whether results of a rule say what made them: not those of a workflow around this one."""
    return rule is not None and "code" in rule.params.keys()


def step_of(job):
    """Return what a person calls a kind of result, and the experiments that it belongs to."""
    wildcards = dict(job.wildcards.items())
    cell = PLAN.cells.get(wildcards.get("cell"))
    experiments = cell.experiments if cell else [wildcards.get("experiment", "")]
    step = (
        "training" if job.rule.name == "train_replicas" else wildcards.get("metric", job.rule.name)
    )
    return step, experiments


@functools.cache
def why(job):
    """Return why the results of a job are not what the config asks for; [] if they are."""
    outputs, inputs = [str(path) for path in job.output], [str(path) for path in job.input]
    return RERUNS.texts(*step_of(job), outputs, dict(job.params.items()), inputs)


def in_place_of(cls, name):
    """Ask a function of ours in place of a method of Snakemake's, for rules of ours."""
    otherwise = getattr(cls, name)

    def replace(function):
        setattr(cls, name, functools.partialmethod(function, otherwise=otherwise))

    return replace


@in_place_of(PersistenceBase, "params_changed")
def params_changed(persistence, job, file=None, *, otherwise):
    if not fingerprinted(job.rule):
        return otherwise(persistence, job, file)
    found = why(job)
    return ParamsChange(only_new=set(found), files=set(job.output)) if found else NO_PARAMS_CHANGE


@in_place_of(PersistenceBase, "has_metadata")
def has_metadata(persistence, job, *, otherwise):
    return fingerprinted(job.rule) or otherwise(persistence, job)


@in_place_of(PersistenceBase, "has_outdated_metadata")
def has_outdated_metadata(persistence, job, *, otherwise):
    return not fingerprinted(job.rule) and otherwise(persistence, job)


@in_place_of(_IOFile, "is_newer")
async def is_newer(file, time, *, otherwise):
    return not fingerprinted(file.rule) and await otherwise(file, time)


def tell_why():
    """Say which results are not valid, and why."""
    for line in RERUNS.summary():
        print(f"lossatlas: {line}", file=sys.stderr)


@atexit.register
def tell_or_accept():
    """After a dry run: say what was accepted, or why results would be made again."""
    if not workflow.is_main_process:
        return
    if RERUNS.accept is None:
        if workflow.dryrun:
            tell_why()
        return
    RERUNS.close()
    for step, count in sorted(RERUNS.accepted.items()):
        print(f"lossatlas: accepted: {count} of {step}", file=sys.stderr)
    for step, count in sorted(RERUNS.refused.items()):
        print(
            f"lossatlas: not accepted: {count} of {step} (not only the code differs)",
            file=sys.stderr,
        )
