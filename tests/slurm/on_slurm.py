"""An atlas on a real Slurm, under faults, against the same atlas on this machine.

Run by `make test-slurm`; the name keeps it out of `make test`. The tests build on each other.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from faults.killing import assert_same, scripts
from slurm.cluster import Cluster, Impossible, install, wait_for
from workflow.conftest import Project, fresh

PROFILE = (
    "--profile",
    "profiles/slurm",
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--slurm-keep-successful-logs",  # what jobs printed is looked at below
)
LONG = 600  # seconds for what takes less than one minute on an idle machine


def small(content: dict) -> None:
    """Four cells that train long enough to be caught at it, a metric that saves its state too."""
    content["recipes"]["short"]["epochs"] = 20
    content["experiments"]["smoke"]["metrics"] = ["connectivity"]
    content["metrics"] = {"connectivity": {"epochs": 2, "points": 5}}
    content["figures"] = {"taxonomy_curves": {"experiment": "smoke"}}


class Run:
    """Snakemake in the background."""

    def __init__(self, project: Project, env: dict[str, str], *arguments: str) -> None:
        self.log = project.root / f"run{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", project.config]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=project.root,
                env={k: v for k, v in env.items() if k != "PYTHONPATH"},
                stdout=log,
                stderr=log,
            )

    def ends(self, code: int, seconds: float = LONG) -> str:
        """Wait for the end with this code, and return all that was printed."""
        try:
            found: object = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            found = "no end"
        printed = self.log.read_text()
        assert found == code, printed[-6000:]
        return printed

    def is_over(self) -> bool:
        return self.process.poll() is not None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        install()
    except Impossible as reason:
        pytest.exit(f"skipped: {reason}", returncode=0)
    one = Cluster(nodes=4, cpus=2)
    try:
        yield one.start()
    finally:
        one.stop()


@pytest.fixture(scope="module")
def laptop(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The same atlas without Slurm, at work beside the cluster."""
    one = fresh(tmp_path_factory.mktemp("laptop") / "project")
    one.configure(small)
    run = Run(one, dict(os.environ), "--cores", "1")
    yield run
    if not run.is_over():
        run.process.send_signal(signal.SIGINT)
        run.process.wait(60)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    one = fresh(tmp_path_factory.mktemp("slurm") / "project")
    one.configure(small)
    return one


def start(cluster: Cluster, project: Project, *arguments: str) -> Run:
    return Run(project, cluster.env, *arguments, *PROFILE)


def log_of(pid: int) -> str | None:
    """Return the content of the log that a job's script has open: it then holds its lease."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link)
        if "/results/" in target and target.endswith(".log"):
            return Path(target).read_text()
    return None


def hold(project: Project, run: Run, count: int, script: str, words: str = "") -> dict[str, int]:
    """Stop `count` scripts, each as soon as its log has the words; returns job id -> process.

    What is done to them next then meets them at work, however fast or slow the machine is.
    """
    held: dict[str, int] = {}

    def enough() -> bool:
        assert not run.is_over(), run.log.read_text()[-6000:]
        for pid, name in scripts(project.root).items():
            with contextlib.suppress(OSError):  # it has just ended
                log = log_of(pid) if name == script and pid not in held.values() else None
                if log is not None and words in log:
                    os.kill(pid, signal.SIGSTOP)
                    held[job_of(pid)] = pid
        return len(held) == count

    wait_for(f"{count} scripts at work", enough, LONG)
    return held


def job_of(pid: int) -> str:
    """Return the id of the job that a process runs in."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(v.partition("=")[2] for v in variables if v.startswith("SLURM_JOB_ID="))


def printed_by(project: Project, job_id: str) -> str:
    """Return what a job on the cluster printed."""
    logs = (project.root / ".snakemake/slurm_logs").rglob(f"{job_id}.log")
    return "".join(log.read_text(errors="replace") for log in logs)


def of_rule(cluster: Cluster, rule: str) -> dict[str, dict[str, str]]:
    """Return id -> job for the jobs of a rule, in their order."""
    return {i: job for i, job in cluster.jobs().items() if f"/rule_{rule}/" in job["StdOut"]}


def test_doctor(cluster: Cluster, project: Project, laptop: Run) -> None:
    """Accounting is off here: squeue is fine, sacct would hang the run, and the doctor says so."""
    fit = start(cluster, project, "doctor", "--nolock")
    sick = start(cluster, project, "doctor", "--nolock", "--slurm-status-command", "sacct")
    assert "ok       squeue answers" in fit.ends(0)
    assert "sacct does not work, the run would hang silently" in sick.ends(1)


def test_training_survives(cluster: Cluster, project: Project) -> None:
    """One job is cancelled, one warned, one runs into its time limit, one loses its node."""
    run = start(cluster, project, "train")
    held = hold(project, run, 4, "train", '"epoch": 1,')
    cancelled, warned, late, lost = sorted(held, key=int)
    node = cluster.jobs()[lost]["NodeList"]
    assert [job["NodeList"] for job in cluster.jobs().values()].count(node) <= 2

    cluster.tell("scontrol", "update", f"JobId={late}", "EndTime=now+1seconds")
    cluster.tell("scancel", cancelled)
    cluster.tell("scancel", "--signal=USR1", warned)
    os.kill(held[warned], signal.SIGCONT)
    cluster.kill_node(node)

    # The lost node's processes live on, as behind a broken network: the job's second run waits for
    # the first, and takes over when that one dies.
    wait_for("the second run", lambda: again(cluster, lost, node), LONG)
    wait_for("it to wait", lambda: "waiting for another job" in printed_by(project, lost), LONG)
    os.kill(held[lost], signal.SIGKILL)
    wait_for("the time limit", lambda: cluster.jobs()[late]["JobState"] == "TIMEOUT", LONG)
    cluster.start_node(node)
    run.ends(0)

    jobs = cluster.jobs()
    states = [jobs[job_id]["JobState"] for job_id in (cancelled, warned, late, lost)]
    assert states == ["CANCELLED", "FAILED", "TIMEOUT", "COMPLETED"]
    assert (jobs[lost]["Restarts"], jobs[warned]["Restarts"]) == ("1", "0")
    assert "non-zero exit status 75" in printed_by(project, warned)
    for job_id in (cancelled, warned, late):  # none began anew
        assert "told to leave; state saved" in printed_by(project, job_id)
    resumed = ['{"resumed": ' in log.read_text() for log in logs(project)]
    assert sorted(resumed) == [False, True, True, True]


def again(cluster: Cluster, job_id: str, lost_node: str) -> bool:
    """Say whether a job runs on another node; spare it the pause that Slurm makes before."""
    job = cluster.jobs()[job_id]
    if job["JobState"] == "PENDING":
        cluster.ask("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    return job["JobState"] == "RUNNING" and job["NodeList"] != lost_node


def logs(project: Project) -> list[Path]:
    found = sorted((project.root / "results/logs/train").glob("*.log"))
    assert len(found) == 4
    return found


def test_requests_reach_the_scheduler(cluster: Cluster) -> None:
    """GPU, memory and time of four first attempts; three second ones ask for twice the time."""
    jobs = list(of_rule(cluster, "train_replicas").values())
    asked = [(j["TresPerJob"], memory_of(j), j["TimeLimit"]) for j in jobs]
    once, twice = ("gres:gpu:1", "2000M", "00:30:00"), ("gres:gpu:1", "2000M", "01:00:00")
    late = [j["JobState"] for j in jobs].index("TIMEOUT")
    asked[late] = (*asked[late][:2], once[2])  # the test has shortened this one's
    assert asked == [once] * 4 + [twice] * 3
    (dataset,) = of_rule(cluster, "dataset").values()
    assert "TresPerJob" not in dataset  # no GPU for what needs none


def memory_of(job: dict[str, str]) -> str:
    return re.search(r"mem=(\w+)", job["TRES"])[1]


def test_kill_9_of_snakemake(cluster: Cluster, project: Project) -> None:
    """Its jobs live on, a new run submits them again: nothing is written twice or done twice."""
    run = start(cluster, project)
    first = hold(project, run, 4, "metric")
    run.process.kill()
    run.process.wait()
    assert "--unlock" in start(cluster, project).ends(1)
    start(cluster, project, "--unlock").ends(0)
    assert set(of_rule(cluster, "connectivity")) == set(first)

    cluster.tell("scontrol", "update", "PartitionName=main", "State=DOWN")  # new jobs queue
    new = start(cluster, project)

    def second(state: str, words: str = "") -> list[str]:
        assert not new.is_over(), new.log.read_text()[-6000:]
        jobs = {i: j for i, j in of_rule(cluster, "connectivity").items() if i not in first}
        found = [i for i, job in jobs.items() if job["JobState"] == state]
        return [i for i in found if words in printed_by(project, i)]

    wait_for("four second jobs", lambda: len(second("PENDING")) == 4, LONG)
    twice = second("PENDING")
    early, late = sorted(first)[:2], sorted(first)[2:]
    for job_id in early:  # while their second jobs are in the queue
        os.kill(first[job_id], signal.SIGCONT)
    wait_for("two to end", lambda: all(ended(cluster, job_id) for job_id in early), LONG)
    cluster.tell("scontrol", "update", "PartitionName=main", "State=UP")
    words = "waiting for another job"
    wait_for("two that wait", lambda: len(second("RUNNING", words)) == 2, LONG)
    for job_id in late:
        os.kill(first[job_id], signal.SIGCONT)
    new.ends(0)
    assert all("another job has made it" in printed_by(project, i) for i in twice)
    states = [job["JobState"] for job in of_rule(cluster, "connectivity").values()]
    assert states == ["COMPLETED"] * 8


def ended(cluster: Cluster, job_id: str) -> bool:
    return cluster.jobs()[job_id]["JobState"] == "COMPLETED"


def test_equal_to_a_run_on_this_machine(project: Project, laptop: Run) -> None:
    laptop.ends(0)
    alone = Project(laptop.log.parent, project.config)
    assert assert_same(alone.root / "results", project.root / "results") > 17
    assert alone.jobs() == project.jobs() == {}


def test_short_metrics_of_a_cell_travel_together(
    cluster: Cluster, project: Project, laptop: Run
) -> None:
    """One job per cell takes three metrics: one GPU, the memory of the largest, all their time."""
    alone = Project(laptop.log.parent, project.config)
    for one in (project, alone):
        one.configure(lambda content: small(content) or three_short_metrics(content))
    start(cluster, project, "metrics").ends(0)
    Run(alone, dict(os.environ), "metrics", "--cores", "1").ends(0)
    assert assert_same(alone.root / "results", project.root / "results") > 17 + 3 * 4

    jobs = {i: j for i, j in cluster.jobs().items() if "/group_short_" in j["StdOut"]}
    cells = [Path(job["StdOut"]).parts for job in jobs.values()]
    assert len({next(p for p in parts if p.startswith("group_")) for parts in cells}) == 4
    asked = [(j["TresPerJob"], memory_of(j), j["TimeLimit"]) for j in jobs.values()]
    assert asked == [("gres:gpu:1", "2000M", "01:30:00")] * 4
    assert not any(of_rule(cluster, rule) for rule in ("performance", "cka", "distance"))


def three_short_metrics(content: dict) -> None:
    content["experiments"]["smoke"]["metrics"] = ["performance", "cka", "distance"]
    content["metrics"] = {}
    content["figures"] = {}


HUNGRY = """
import torch


class Net(torch.nn.Sequential):
    def __init__(self, in_channels, image_size, num_classes):
        pixels = in_channels * image_size**2
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(pixels, num_classes))
        self.waste = torch.ones(3_800_000_000, dtype=torch.uint8)
"""


def test_more_memory_after_too_little(cluster: Cluster, project: Project) -> None:
    """A network of the user's own needs more than was asked for it, and gets it the second time."""
    (project.root / "hungry.py").write_text(HUNGRY)
    content = yaml.safe_load((project.root / project.config).read_text())
    content["models"] = {"hungry": {"builder": "hungry:Net"}}
    one = {"dataset": "digits", "model": "hungry", "recipe": "short", "seeds": 1, "metrics": []}
    content |= {"experiments": {"one": one}, "metrics": {}, "figures": {}}
    content["recipes"]["short"]["epochs"] = 500
    (project.root / "config/hungry.yaml").write_text(yaml.safe_dump(content))
    before = of_rule(cluster, "train_replicas")
    start(cluster, Project(project.root, "config/hungry.yaml"), "train").ends(0)
    jobs = [j for i, j in of_rule(cluster, "train_replicas").items() if i not in before]
    assert [memory_of(job) for job in jobs] == ["4000M", "8000M"]
    assert "Exceeded job memory limit" in printed_by(project, jobs[0]["JobId"])
    assert jobs[1]["JobState"] == "COMPLETED"
