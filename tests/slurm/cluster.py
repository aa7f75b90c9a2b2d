"""A real Slurm on this machine: several nodes with pretended GPUs, in one temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
CLIENTS = (
    "sbatch",
    "srun",
    "squeue",
    "scancel",
    "scontrol",
    "sinfo",
    "sacct",
    "sacctmgr",
    "sshare",
)
DEVICES = ("/dev/null", "/dev/zero")  # Slurm wants device files for GPUs, and only looks at them
ADMIN = os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


class Impossible(Exception):
    """Slurm is not here and cannot be installed."""


def install() -> None:
    """Install Debian's packages where they are absent.

    Raises:
        Impossible: If that cannot be done on this machine.
    """
    path = os.environ["PATH"] + ADMIN
    if all(shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "munged")):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        names = " ".join(PACKAGES)
        raise Impossible(f"no Slurm here (on Debian, once, as root: apt-get install {names})")
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *words], env=variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Impossible(f"Slurm cannot be installed: apt-get {words[0]}: {' '.join(last)}")


def wait_for(what: str, test: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a test holds."""
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """A controller and some nodes, all on this machine; processes are known by their own ids."""

    def __init__(self, nodes: int = 3, cpus: int = 2, memory_mb: int = 12000) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm.", dir="/tmp"))
        self.folder.chmod(0o755)  # munge refuses a socket below a folder that is closed
        self.names = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus, self.memory_mb = cpus, memory_mb
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self.env["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}{ADMIN}"

    def start(self) -> Cluster:
        """Write the configuration and start everything."""
        self._configure()
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "munged", "--foreground", f"--socket={munge / 'socket'}", *files)
        wait_for("munge", (munge / "socket").exists)
        self._run("slurmctld", "slurmctld", "-D")
        wait_for("the controller", lambda: "UP" in self.ask("scontrol", "ping"))
        for name in self.names:
            self.start_node(name)
        wait_for("the nodes", lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").split() == up(self))
        return self

    def _configure(self) -> None:
        host, ports = socket.gethostname().partition(".")[0], free_ports(1 + len(self.names))
        user, root = os.environ.get("USER") or os.popen("id -un").read().strip(), self.folder
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus}"
            f" RealMemory={self.memory_mb} Gres=gpu:{len(DEVICES)} State=UNKNOWN"
            for name, port in zip(self.names, ports[1:], strict=True)
        ]
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": ports[0],
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={root / 'munge' / 'socket'}",
            "CredType": "cred/munge",
            "StateSaveLocation": root / "state",
            "SlurmdSpoolDir": root / "spool.%n",
            "SlurmctldPidFile": root / "slurmctld.pid",
            "SlurmdPidFile": root / "slurmd.%n.pid",
            "ProctrackType": "proctrack/linuxproc",  # no cgroups here
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=1",
            "JobAcctGatherParams": "OverMemoryKill",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory,CR_LLN",  # spread jobs over the nodes
            "DefMemPerCPU": 500,  # without it a job that names no memory takes the whole node
            "GresTypes": "gpu",
            "SlurmdParameters": "config_overrides",  # nodes claim more than this machine has
            "ReturnToService": 2,
            "SlurmdTimeout": 5,
            "KillWait": 30,
            "MinJobAge": 3600,
            "EnforcePartLimits": "ALL",  # refuse what can never run
            "SchedulerParameters": "batch_sched_delay=0,sched_min_interval=100000,bf_interval=3",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
        }
        partition = "PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=10 State=UP"
        lines = [*(f"{key}={value}" for key, value in settings.items()), *nodes, partition]
        (root / "slurm.conf").write_text("\n".join(lines) + "\n")
        gpus = [f"Name=gpu File={device}" for device in DEVICES]
        (root / "gres.conf").write_text("\n".join(["AutoDetect=off", *gpus]) + "\n")
        (root / "cgroup.conf").write_text("CgroupAutomount=no\nIgnoreSystemd=yes\n")
        (root / "state").mkdir()
        (root / "bin").mkdir()
        for name in CLIENTS:  # jobs lose SLURM_CONF on their way: commands that bring it along
            real = shutil.which(name, path=os.environ["PATH"] + ADMIN)
            script = root / "bin" / name
            script.write_text(f'#!/bin/sh\nSLURM_CONF={root}/slurm.conf exec {real} "$@"\n')
            script.chmod(0o755)

    def _run(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],  # none survives a killed test
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.env,
            )

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        (self.folder / f"spool.{name}").mkdir(exist_ok=True)
        self._run(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon; what runs there lives on, as when a node loses its network."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running.pop(name).wait()

    def ask(self, *command: str) -> str:
        """Return what a client prints; nothing if it fails."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def tell(self, *command: str) -> None:
        """Run a client that must succeed."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)

    def jobs(self) -> dict[str, dict[str, str]]:
        """Return id -> what the controller knows of the job, for every job in its order."""
        rows = self.ask("scontrol", "-o", "show", "job").splitlines()
        found = [dict(w.split("=", 1) for w in row.split() if "=" in w) for row in rows]
        jobs = {job["JobId"]: job for job in found if "JobId" in job}
        return dict(sorted(jobs.items(), key=lambda item: int(item[0])))

    def stop(self) -> None:
        """Cancel what runs, end every daemon, whatever is left of jobs, and remove the folder."""
        jobs = self.jobs().items()
        ids = [job_id for job_id, job in jobs if job["JobState"] in ("RUNNING", "PENDING")]
        if ids:
            self.ask("scancel", *ids)
            with contextlib.suppress(TimeoutError):
                wait_for("the end of jobs", lambda: not self.ask("squeue", "-h", "-t", "R,CG"), 20)
        for name in [*self.names, "slurmctld", "munged"]:
            process = self.running.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        wait_for("the end of all processes", lambda: not self._kill_left(), 30)
        shutil.rmtree(self.folder)

    def _kill_left(self) -> list[int]:
        """Kill every process whose environment names this cluster; returns their ids."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and bytes(self.folder) in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
                    os.kill(found[-1], signal.SIGKILL)
        return found


def up(cluster: Cluster) -> list[str]:
    """Return what `sinfo` says of nodes that are all idle."""
    return ["idle"] * len(cluster.names)
