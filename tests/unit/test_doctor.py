"""The doctor: each problem is found, with its fix; schedulers are stand-ins in PATH."""

from pathlib import Path

import pytest

from lossatlas import doctor


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put stand-ins into an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**scripts: str) -> None:
        for name, body in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)

    return make


SLURM = {"sbatch": "", "squeue": "", "scancel": ""}


def levels(checks) -> list[str]:
    return [check.level for check in checks]


def test_missing_scheduler(commands) -> None:
    (check,) = doctor.scheduler("slurm", "squeue")
    assert check.level == "problem"
    assert "no sbatch, squeue, scancel in PATH" in str(check)
    assert levels(doctor.scheduler("local", None)) == []


def test_working_slurm(commands) -> None:
    commands(**SLURM)
    assert levels(doctor.scheduler("slurm", "squeue")) == ["ok", "ok"]


def test_sacct_without_accounting_is_the_trap(commands) -> None:
    commands(**SLURM, sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    checks = list(doctor.scheduler("slurm", None))  # the executor's own choice would be sacct
    assert levels(checks) == ["ok", "problem"]
    assert "slurm-status-command: squeue" in str(checks[1])
    assert levels(doctor.scheduler("slurm", "squeue")) == ["ok", "ok"]
    commands(sacct="exit 0")
    assert levels(doctor.scheduler("slurm", None)) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("config", "partition", "warned"),
    [
        ("PreemptMode             = CANCEL", "PreemptMode=REQUEUE", True),
        ("PreemptMode             = REQUEUE", "PreemptMode=GANG,CANCEL QoS=N/A", True),
        ("PreemptMode             = OFF", "PreemptMode=OFF", False),
        ("PreemptMode             = REQUEUE", "PreemptMode=REQUEUE", False),
    ],
)
def test_preempted_jobs_that_are_cancelled(commands, config, partition, warned) -> None:
    scontrol = f"if [ $2 = config ]; then echo '{config}'; else echo '{partition}'; fi"
    commands(**SLURM, scontrol=scontrol)
    checks = list(doctor.scheduler("slurm", "squeue"))
    assert levels(checks) == ["ok", "ok", *(["warning"] * warned)]
    assert ("waits for such a job for ever" in str(checks[-1])) is warned


def test_sacct_that_never_answers(commands, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.3)
    commands(**SLURM, sacct="while :; do :; done")
    assert levels(doctor.scheduler("slurm", "sacct")) == ["ok", "problem"]


@pytest.mark.parametrize(
    ("age", "level"),
    [("300 sec", "ok"), ("181 sec", "ok"), ("180 sec", "warning"), ("2", "warning")],
)
def test_squeue_that_forgets_too_early(commands, age: str, level: str) -> None:
    commands(**SLURM, scontrol=f"echo 'MinJobAge               = {age}'")
    checks = list(doctor.scheduler("slurm", "squeue"))
    assert levels(checks) == ["ok", level]
    assert (level == "ok") is ("wait for ever" not in str(checks[1]))


def test_pbs_server_down(commands) -> None:
    commands(qsub="", qdel="", qstat="echo 'cannot connect to server' >&2; exit 255")
    (check,) = doctor.scheduler("cluster-generic", None)
    assert check.level == "problem"
    assert "cannot connect to server" in check.what


def test_disk(tmp_path: Path) -> None:
    assert doctor.disk(tmp_path / "later", 1.0).level == "ok"
    found = doctor.disk(tmp_path, 1e18)
    assert (found.level, bool(found.fix)) == ("problem", True)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert doctor.writable(tmp_path / "results").level == "ok"
    assert not list((tmp_path / "results").iterdir())
    (tmp_path / "file").write_text("")
    assert doctor.writable(tmp_path / "file").level == "problem"


def test_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.data("digits", "").level == "ok"
    silent = doctor.data("cifar10", "", lambda _: "no route")
    assert (silent.level, "LOSSATLAS_MIRROR" in silent.fix) == ("problem", True)
    assert doctor.data("cifar10", "", lambda _: "").level == "ok"
    source = doctor.data_sources()["cifar10"]
    (tmp_path / source.file).write_bytes(b"")
    assert doctor.data("cifar10", str(tmp_path), lambda _: "no route").level == "ok"


def test_a_mirror_is_asked_for_real() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert doctor._reach(f"http://127.0.0.1:{port}/x") == ""
    assert doctor._reach(f"http://127.0.0.1:{port}/x") != ""


def test_old_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    monkeypatch.setattr(h5py, "__version__", "2.10.0")
    found = {c.what.split()[0]: c.level for c in doctor.versions()}
    assert found["h5py"] == "problem"
    assert found["torch"] == "ok"


@pytest.mark.parametrize(("executor", "level"), [("local", "problem"), ("slurm", "warning")])
def test_a_device_that_is_not_here(monkeypatch, executor: str, level: str) -> None:
    """A login node needs none of the GPUs that the nodes have."""
    import lossatlas.device

    lossatlas.device.choose.cache_clear()
    monkeypatch.setenv("LOSSATLAS_DEVICE", "nonesuch")
    check = doctor.device(executor)
    assert check.level == level
    assert "nonesuch" in str(check)


@pytest.mark.parametrize(
    ("gpus", "places", "level", "says"),
    [
        (["0", "1"], 8, "ok", "8 runs at once on 2 GPU(s), 4 on each"),
        (["0"], 8, "warning", "set gpu: 4 in profiles/gpu"),
        (["0", "1"], 0, "warning", "set gpu: 8 in profiles/gpu"),
        ([], 8, "warning", "start without --profile profiles/gpu"),
    ],
)
def test_gpus_of_the_profile(gpus: list[str], places: int, level: str, says: str) -> None:
    (check,) = doctor.shared(gpus, places, 4)
    assert check.level == level
    assert says in str(check)


def test_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report([doctor.Check("ok", "a"), doctor.Check("warning", "b", "c")]) == 0
    assert doctor.report([doctor.Check("problem", "d", "e")]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["warning  b (c)", "problem  d (e)"]
