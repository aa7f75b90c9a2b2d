#!/usr/bin/env python3
"""Stands in for qsub, qstat and qdel: the name it is called by says which.

It keeps OpenPBS's conventions: ids like 12.server, states Q, R, E, F, an exit status of
256 + the signal for a job that was killed, -29 for one over its walltime, no environment but that
of -v, and exit code 153 for an unknown id. Jobs run in the background on this machine.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(os.environ["STANDIN_PBS"])


def path_of(job_id: str) -> Path:
    return HERE / f"{job_id.partition('.')[0]}.json"


def load(job_id: str) -> dict:
    path = path_of(job_id)
    if not path.exists():
        print(f"qstat: Unknown Job Id {job_id}", file=sys.stderr)
        sys.exit(153)
    return json.loads(path.read_text())


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Be the only one who changes a job."""
    with (HERE / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def save(job: dict) -> None:
    path = path_of(job["id"])
    trial = path.with_suffix(".new")
    trial.write_text(json.dumps(job))
    trial.replace(path)


def change(job_id: str, **changes: object) -> dict:
    with server():
        job = load(job_id) | changes
        save(job)
    return job


def qsub(words: list[str]) -> None:
    options, script = words[:-1], Path(words[-1])
    pairs = list(zip(options[::2], options[1::2], strict=True))
    variables = dict(v.split("=", 1) for k, vs in pairs if k == "-v" for v in vs.split(","))
    lists = dict(v.split("=", 1) for k, v in pairs if k == "-l")
    job = {"state": "Q", "lists": lists, "options": pairs, "variables": variables}
    job |= {"cwd": os.getcwd(), "cancelled": False, "script": script.read_text()}
    with server():
        number = len(list(HERE.glob("*.json"))) + 1
        job |= {"number": number, "id": f"{number}.standin"}
        save(job)
    subprocess.Popen(
        [sys.executable, __file__, "run", str(number)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(job["id"])


def run(number: str) -> None:
    job = load(number)
    hours, minutes, seconds = map(int, job["lists"]["walltime"].split(":"))
    variables = {**job["variables"], "HOME": "/tmp", "PBS_JOBID": job["id"]}
    variables |= {"PBS_O_WORKDIR": job["cwd"]}
    script = HERE / f"{number}.sh"
    script.write_text(job["script"])
    with (HERE / f"{number}.out").open("w") as out:
        process = subprocess.Popen(
            ["/bin/sh", str(script)],
            cwd="/tmp",
            env=variables,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    if change(number, state="R", pid=process.pid)["cancelled"]:
        end(process.pid)
    try:
        code = process.wait(hours * 3600 + minutes * 60 + seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = -29
    code = 256 - code if code < 0 and code != -29 else code
    change(number, state="F", code=271 if load(number)["cancelled"] else code)


def end(group: int) -> None:
    """Warn a job, and kill it a second later."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        time.sleep(1)
        os.killpg(group, signal.SIGKILL)


def qstat(words: list[str]) -> None:
    job = load(words[-1])
    shown = {"Job_Name": "lossatlas", "job_state": job["state"], "Resource_List": job["lists"]}
    if job["state"] == "F":
        shown["Exit_status"] = job["code"]
    print(json.dumps({"pbs_version": "23.06.06", "Jobs": {job["id"]: shown}}))


def qdel(words: list[str]) -> None:
    for word in words:
        job = change(word, cancelled=True)
        if job["state"] == "R":
            end(job["pid"])


if __name__ == "__main__":
    name, rest = Path(sys.argv[0]).name, sys.argv[1:]
    if rest[:1] == ["run"]:
        run(rest[1])
    else:
        {"qsub": qsub, "qstat": qstat, "qdel": qdel}[name](rest)
