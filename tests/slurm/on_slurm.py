"""The smoke atlas on a real Slurm, with faults, against the same atlas on this machine.

Run by `make test-slurm`; the name keeps it out of `make test`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.killing import assert_same, scripts
from slurm.cluster import Cluster, install, wait_for
from workflow.conftest import Project, fresh

PROFILE = ("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3")
QUICK = ("--latency-wait", "20")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    install()
    one = Cluster()
    try:
        yield one.start()
    finally:
        one.stop()
    assert not one.folder.exists()


def longer(content: dict) -> None:
    """Train long enough to be hit while training."""
    content["recipes"]["short"]["epochs"] = 150


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    one = fresh(tmp_path_factory.mktemp("slurm") / "project")
    one.configure(longer)
    return one


class Run:
    """Snakemake on the cluster, in the background."""

    def __init__(self, cluster: Cluster, project: Project, *arguments: str) -> None:
        self.log = project.root / f"run{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "snakemake", *PROFILE, *QUICK, *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--configfile", project.config],
                cwd=project.root,
                env={k: v for k, v in cluster.env.items() if k != "PYTHONPATH"},
                stdout=log,
                stderr=log,
            )

    def ends_well(self, seconds: float) -> str:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            code = "timeout"
        assert code == 0, self.log.read_text()[-6000:]
        return self.log.read_text()


def of_rule(cluster: Cluster, rule: str, state: str = "RUNNING") -> list[dict[str, str]]:
    jobs = [job for job in cluster.jobs() if job["JobState"] == state]
    return [job for job in jobs if f"rule_{rule}" in job.get("Comment", "") + job["StdOut"]]


def under_way(project: Project) -> int:
    """Count training jobs that have ended an epoch."""
    logs = (project.root / "results/logs/train").glob("*.log")
    return sum('{"epoch": 1,' in log.read_text() for log in logs)


def test_doctor(cluster: Cluster, project: Project) -> None:
    """Accounting is off here: squeue is fine, sacct would hang the run, and the doctor says so."""
    printed = Run(cluster, project, "doctor").ends_well(120)
    assert "ok       squeue answers" in printed
    sick = Run(cluster, project, "doctor", "--slurm-status-command", "sacct")
    assert sick.process.wait(120) == 1
    assert "sacct does not work, the run would hang silently" in sick.log.read_text()


def test_training_survives(cluster: Cluster, project: Project) -> None:
    """One job is cancelled, one loses its node's daemon, one runs into its time limit."""
    run = Run(cluster, project, "train")
    wait_for("four trainings", lambda: under_way(project) == 4, 240)
    first, *others = of_rule(cluster, "train_replicas")
    assert len(others) == 3, cluster.jobs()
    elsewhere = [job for job in others if job["NodeList"] != first["NodeList"]]
    lost = elsewhere[0]["NodeList"]
    late = next(job for job in others if job["NodeList"] != lost)
    update = ["scontrol", "update", f"JobId={late['JobId']}", "EndTime=now+1seconds"]
    cluster.ask(*update)
    cluster.ask("scancel", first["JobId"])
    cluster.kill_node(lost)
    wait_for("the lost node", lambda: "down" in cluster.ask("sinfo", "-h", "-n", lost), 60)
    cluster.start_node(lost)
    for job in cluster.jobs():
        if job["JobState"] == "PENDING":  # Slurm lets a requeued job wait for two minutes
            cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
    printed = run.ends_well(400)
    states = {job["JobState"] for job in cluster.jobs()}
    assert {"CANCELLED", "TIMEOUT"} <= states
    gone = [job for job in cluster.jobs() if job["JobId"] == elsewhere[0]["JobId"]]
    assert gone[0]["Restarts"] != "0" or gone[0]["JobState"] == "NODE_FAIL", gone
    assert "Trying to restart" in printed


def test_requests_reach_the_scheduler(cluster: Cluster) -> None:
    (job, *_) = of_rule(cluster, "train_replicas", "COMPLETED")
    assert job["TresPerJob"] == "gres:gpu:1"
    assert re.search(r"cpu=1,mem=(\d+)M", job["TRES"])[1] == "2000"
    assert job["TimeLimit"] == "00:30:00"
    again = [j for j in of_rule(cluster, "train_replicas", "COMPLETED") if int(j["JobId"]) > 4]
    assert "mem=4000M" in "".join(j["TRES"] for j in again)  # a second attempt asks for more
    assert "01:00:00" in [j["TimeLimit"] for j in again]


def test_kill_9_of_snakemake(cluster: Cluster, project: Project) -> None:
    """Its jobs live on, a new run submits them again: none is written twice, none is lost."""
    run = Run(cluster, project)
    leases = project.root / "results/state/leases"
    wait_for("metrics", lambda: len(list(leases.glob("*"))) >= 2, 120)
    orphans = scripts(project.root)
    for pid in orphans:  # hold them, so that the new run meets them at work
        os.kill(pid, signal.SIGSTOP)
    run.process.kill()
    run.process.wait()
    refused = Run(cluster, project)
    assert refused.process.wait(120) == 1
    assert "--unlock" in refused.log.read_text()
    Run(cluster, project, "--unlock").ends_well(60)
    again = Run(cluster, project)
    try:
        wait_for("a second job", lambda: said(project, "waiting for another job"), 180)
    finally:
        for pid in orphans:
            os.kill(pid, signal.SIGCONT)
    again.ends_well(600)
    assert said(project, "another job has made it")


def said(project: Project, words: str) -> bool:
    """Say whether a job on the cluster printed these words."""
    logs = (project.root / ".snakemake/slurm_logs").rglob("*.log")
    return any(words in log.read_text(errors="replace") for log in logs)


def test_equal_to_a_run_on_this_machine(project: Project, tmp_path: Path) -> None:
    laptop = fresh(tmp_path / "laptop")
    laptop.configure(longer)
    laptop.snakemake("--cores", "2")
    assert assert_same(laptop.root / "results", project.root / "results") > 40
    assert laptop.jobs() == project.jobs() == {}
