# What a run does at its start and at its end, and what it asks of Snakemake about itself.
import atexit
import shlex
from collections import Counter

from lossatlas import missing, prune

TELL = ("plan", "pilot", "status", "doctor")  # rules that write no results


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


def given_files():
    """Return the config files that the command line names; [] where it is config.yaml by itself."""
    files = [os.path.relpath(file) for file in workflow.configfiles]
    return [] if files == ["config.yaml"] else files


def command_of_files():
    """Return the command that makes a file of this config, before the file's name."""
    return " ".join(
        ["snakemake", *(["--configfile", *given_files(), "--"] if given_files() else [])]
    )


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


def check_results():
    """Refuse a results folder that cannot be written to, if anything is to be written."""
    if any(job.rule.name not in TELL for job in workflow.dag.needrun_jobs()):
        plainly(check_folder, paths.ROOT, refusal=SystemExit)


def tell_why():
    """Say which checkpoints of networks trained elsewhere are missing, and which results run again."""
    for line in [*CONFIG.missing, *RERUNS.summary()]:
        print(f"lossatlas: {line}", file=sys.stderr)


@atexit.register
def tell_or_accept():
    """After a dry run: say what was accepted or pruned, or why results would be made again."""
    if not workflow.is_main_process:
        return
    if RERUNS.accept is None:
        if os.getenv(prune.VARIABLE) and workflow.dryrun:
            for line in plainly(prune.run, PLAN, set(stale()), refusal=SystemExit):
                print(f"lossatlas: {line}", file=sys.stderr)
        elif workflow.dryrun:
            tell_why()
            for experiment in PLAN.refined:
                print(f"lossatlas: {PLAN.told_of(experiment)}", file=sys.stderr)
        return
    RERUNS.close()
    for step, count in sorted(RERUNS.accepted.items()):
        print(f"lossatlas: accepted: {count} of {step}", file=sys.stderr)
    for step, count in sorted(Counter(RERUNS.refused.values()).items()):
        print(
            f"lossatlas: not accepted: {count} of {step} (not only the code differs)",
            file=sys.stderr,
        )


# Snakemake looks at the parameters of such functions some 14 times per job: keep them at hand.
for function in filter(inspect.isfunction, list(globals().values())):
    function.__signature__ = inspect.signature(function)
