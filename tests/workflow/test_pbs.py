"""profiles/pbs through stand-ins for qsub, qstat and qdel; its three scripts by themselves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Project, fresh, mirrored
from lossatlas.differences import differences
from lossatlas.paths import PROJECT

SCRIPTS = PROJECT / "profiles" / "pbs"


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-ins into PATH; returns the folder of their jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    source = Path(__file__).parent / "pbs" / "pbs.py"
    for name in ("qsub", "qstat", "qdel"):
        (commands / name).write_text(f"#!{sys.executable}\n" + source.read_text())
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN_PBS", str(jobs))
    return jobs


def jobs_in(folder: Path) -> list[dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda job: job["number"])


def test_archives_are_fetched_where_snakemake_runs(
    project: Project, pbs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes often have no way out, and `doctor` looks from here."""
    target = mirrored(project, tmp_path / "mirror", b"an archive")
    monkeypatch.setenv("LOSSATLAS_MIRROR", str(tmp_path / "mirror"))
    project.snakemake("--profile", "profiles/pbs", target)
    assert (project.root / target).is_file()
    assert jobs_in(pbs) == []


@pytest.mark.slow
@pytest.mark.xdist_group("atlas")
def test_training_through_the_profile(finished: Project, tmp_path: Path, pbs: Path) -> None:
    """A job cancelled with qdel is run again, asks for more, and ends in the same bytes.

    Then the cell's short metrics travel together, in one job. All this is started in another
    folder than the project's, and both have names with a space.
    """
    project, here = fresh(tmp_path / "the project").root, tmp_path / "work here"
    here.mkdir()
    cell = min((finished.root / "results/cells").iterdir()).name
    target = f"results/cells/{cell}/train/0-1.safetensors"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "Snakefile")]
    options = ["--profile", str(project / "profiles/pbs"), "--latency-wait", "20"]
    options += ["--seconds-between-status-checks", "1"]
    options += ["--configfile", str(project / finished.config)]
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def start(*targets: str) -> subprocess.Popen:
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, *targets, *options], cwd=here, env=kept, **out)

    run = start(target)
    log = here / f"results/logs/train/{cell}.0-1.log"
    end = time.monotonic() + 600
    while not log.exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)
    training = next(job for job in jobs_in(pbs) if "train_replicas" in job["script"])
    subprocess.run(["qdel", training["id"]], check=True)
    printed = run.communicate(timeout=600)[0]
    assert run.returncode == 0, printed
    assert (here / target).read_bytes() == (finished.root / target).read_bytes()
    first, second = [job for job in jobs_in(pbs) if "train_replicas" in job["script"]]
    assert (first["code"], second["code"]) == (271, 0)
    assert first["lists"] == {"select": "1:ncpus=1:mem=2000mb:ngpus=1", "walltime": "00:30:00"}
    assert second["lists"] == {"select": "1:ncpus=1:mem=2000mb:ngpus=1", "walltime": "01:00:00"}
    assert [job["state"] for job in jobs_in(pbs)] == ["F", "F", "F"]

    metrics = [f"results/cells/{cell}/metrics/{kind}.h5" for kind in ("performance", "cka")]
    metrics.append(f"results/cells/{cell}/metrics/distance.h5")
    run = start(*metrics)
    printed = run.communicate(timeout=600)[0]
    assert run.returncode == 0, printed
    assert all(differences(here / file, finished.root / file) == [] for file in metrics)
    (together,) = jobs_in(pbs)[3:]
    assert together["code"] == 0
    assert together["lists"] == {"select": "1:ncpus=1:mem=2000mb:ngpus=1", "walltime": "01:30:00"}


def answer(folder: Path, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "qstat").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "qstat").chmod(0o755)


def status(tmp_path: Path, body: str) -> str:
    answer(tmp_path / "bin", body)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, str(SCRIPTS / "status"), "7.server"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("state", "code", "word"),
    [(s, None, "running") for s in "QHWTRESB"]
    + [("F", 0, "success"), ("F", 1, "failed"), ("F", 75, "failed"), ("F", 271, "failed")]
    + [("F", -29, "failed"), ("F", None, "failed"), ("X", 0, "success")],
)
def test_states(tmp_path: Path, state: str, code: int | None, word: str) -> None:
    job = {"job_state": state} | ({} if code is None else {"Exit_status": code})
    printed = json.dumps({"Jobs": {"7.server": job}})
    assert status(tmp_path, f"echo '{printed}'") == f"{word}\n"


@pytest.mark.parametrize("body", ["exit 153", "exit 255", "echo '{'", "echo '{}'"])
def test_a_silent_server_is_given_time(tmp_path: Path, body: str) -> None:
    assert status(tmp_path, body) == "running\n"
    (mark,) = (tmp_path / ".snakemake/pbs").iterdir()
    long_ago = time.time() - 3600
    os.utime(mark, (long_ago, long_ago))
    assert status(tmp_path, body) == "failed\n"
    assert status(tmp_path, """echo '{"Jobs": {"7": {"job_state": "R"}}}'""") == "running\n"
    assert not mark.exists()


@pytest.mark.parametrize(("code", "word"), [(0, "success"), (3, "failed")])
def test_a_server_that_keeps_no_history(tmp_path: Path, code: int, word: str) -> None:
    """The job itself notes how it ended; killed jobs note nothing, and time decides."""
    script = submit(tmp_path, body=f'echo "working for $1"\nexit {code}').stdout.splitlines()[-1]
    variables = {"PBS_O_WORKDIR": str(tmp_path), "PBS_JOBID": "7.server"}
    done = subprocess.run(
        ["/bin/sh", script, "you"], cwd="/", env=variables, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, "working for you\n"), done.stderr
    assert status(tmp_path, "exit 153") == f"{word}\n"
    assert status(tmp_path, "exit 153") == "running\n"


def test_notes_of_jobs_that_the_server_knows_do_not_stay(tmp_path: Path) -> None:
    note = tmp_path / ".snakemake/pbs/7.server.exit"
    note.parent.mkdir(parents=True)
    note.write_text("1")
    for state, word in (("R", "running"), ("F", "failed")):  # put back into the queue, then ended
        job = json.dumps({"Jobs": {"7.server": {"job_state": state, "Exit_status": 1}}})
        assert status(tmp_path, f"echo '{job}'") == f"{word}\n"
        assert note.exists() is (word == "running")


def submit(tmp_path: Path, body: str = "true", **variables: str) -> subprocess.CompletedProcess:
    (tmp_path / "bin").mkdir()
    (tmp_path / "a job.sh").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "bin/qsub").write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    (tmp_path / "bin/qsub").chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    command = [str(SCRIPTS / "submit"), "2", "2500", "135", "0", str(tmp_path / "a job.sh")]
    return subprocess.run(
        command, cwd=tmp_path, env={"PATH": path, **variables}, capture_output=True, text=True
    )


def test_submit_without_gpu_with_options_of_the_site(tmp_path: Path) -> None:
    done = submit(tmp_path, LOSSATLAS_QSUB="-q long -P atlas", LOSSATLAS_DEVICE="cpu")
    words = done.stdout.splitlines()
    assert words[:4] == ["-q", "long", "-P", "atlas"]
    assert "select=1:ncpus=2:mem=2500mb" in words
    assert "walltime=02:15:00" in words
    assert words[words.index("-r") + 1] == "y"  # preempted, PBS itself runs it again
    assert words[-1] == str(tmp_path / "a job.sh.pbs")
    assert words[words.index("-v") + 1].endswith(",LOSSATLAS_DEVICE=cpu")


def test_submit_refuses_what_qsub_cannot_pass(tmp_path: Path) -> None:
    done = submit(tmp_path, LOSSATLAS_MIRROR="/a,b")
    assert done.returncode == 1
    assert "LOSSATLAS_MIRROR holds a comma" in done.stderr
