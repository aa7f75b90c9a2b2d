"""What stands in a shared temporary folder counts only if it is this user's alone."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import cli_cases
from lossatlas import private, slots, store, warm
from lossatlas.cli import main
from lossatlas.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a peer's user")


def test_a_folder_of_ones_own_is_made_once(tmp_path: Path) -> None:
    place = tmp_path / "a"
    private.make(place)
    private.make(place)
    assert place.stat().st_mode & 0o777 == 0o700
    assert private.ours(place)
    assert not private.ours(tmp_path / "none")


def link(place: Path) -> None:
    (place.parent / "other").mkdir(mode=0o700)
    place.symlink_to(place.parent / "other")


HOSTILE = {
    "a link": (link, "is a link"),
    "a dangling link": (lambda p: p.symlink_to(p.parent / "none"), "is a link"),
    "a file": (lambda p: p.touch(), "is no folder"),
    "open to others": (lambda p: p.mkdir(mode=0o755), "can be entered by other users"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_another_user_may_have_put_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, says = HOSTILE[kind]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    for place in (slots.folder(), tmp_path / f"lossatlas-warm-{os.getuid()}"):
        make(place)
        before = sorted(tmp_path.rglob("*"))
        assert not private.ours(place)
        with pytest.raises(UserError, match=says):
            private.make(place)
        if place == slots.folder():
            with pytest.raises(UserError, match=says), slots.gpu(1, pool=["0"]):
                pass
        else:
            warm.invite(here=True)
            assert warm.VARIABLE not in os.environ
        assert sorted(tmp_path.rglob("*")) == before
        subprocess.run(["rm", "-rf", str(place), str(tmp_path / "other")], check=True)


def test_the_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match="belongs to another user"):
        private.make(tmp_path / "a")


def test_a_job_trusts_no_socket_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert private.same_user(one)
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert not private.same_user(one)


def test_a_job_runs_by_itself_where_the_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "1-1"))
        door.listen(1)
        door.settimeout(0.2)
        monkeypatch.setenv(warm.VARIABLE, str(folder / "1-1"))
        warm.hand_over(1)
        with pytest.raises(TimeoutError):
            door.accept()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return cli_cases.enter(tmp_path, monkeypatch)


PERFORMANCE = ["metric", "performance", "--checkpoint", "0.pt", "--model", "cli_net:Net"]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("0.pt", "'0.pt' is no .h5"),
        ("1.h5", "'1.h5' is there and is no result"),
        ("folder.h5", "is a folder"),
        ("link.h5", "is a link"),
        ("/dev/stdout", "is no .h5"),
        ("pipe.h5", "is no ordinary file"),
    ],
)
def test_outputs_replace_nothing_of_the_users(
    out: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "1.h5").write_bytes((here / "1.pt").read_bytes())
    (here / "folder.h5").mkdir()
    (here / "link.h5").symlink_to("none")
    os.mkfifo(here / "pipe.h5")
    before = {file: file.read_bytes() for file in here.glob("[01].*")}
    assert main([*PERFORMANCE, "--data", "data.npz", "--out", out]) == 1
    assert says in capsys.readouterr().err
    assert {file: file.read_bytes() for file in here.glob("[01].*")} == before


def test_results_of_ours_are_replaced(here: Path) -> None:
    command = [*PERFORMANCE, "--data", "data.npz", "--out", "o.h5"]
    assert main(command) == 0
    assert main(command) == 0


def record(path: Path) -> None:
    store.write(path, store.Record("hessian", arrays={"a": store.Array(np.ones(3), ("x",))}))


def put_link(file: h5py.File) -> None:
    file["arrays/b"] = h5py.ExternalLink("/etc/passwd", "/x")


def put_soft_link(file: h5py.File) -> None:
    file["arrays/b"] = h5py.SoftLink("/arrays/a")


def put_storage(file: h5py.File) -> None:
    file["arrays"].create_dataset("b", (9,), "u1", external=[("/etc/passwd", 0, 9)])


def put_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "a", (3,))
    file["arrays"].create_virtual_dataset("b", layout)


def put_much(file: h5py.File) -> None:
    file["arrays"].create_dataset("b", (10**12,), "f8", chunks=(1000,))


def put_loop(file: h5py.File) -> None:
    file["arrays/b"] = file["/"]


def change(name: str, value: object):
    def put(file: h5py.File) -> None:
        del file.attrs[name]
        file.attrs[name] = value

    return put


FOREIGN = {
    "a link to another file": (put_link, "'/arrays/b' is a link"),
    "a link": (put_soft_link, "'/arrays/b' is a link"),
    "storage elsewhere": (put_storage, "lies in another file"),
    "parts of other files": (put_virtual, "lies in another file"),
    "more than there is": (put_much, "would have 8.0e+12 bytes"),
    "a loop": (put_loop, "lies deeper"),
    "schema of a text": (change("schema", "three"), "damaged"),
    "schema of an array": (change("schema", np.arange(3)), "damaged"),
    "spec that is no JSON": (change("spec", np.arange(3)), "damaged"),
    "kind of a number": (change("kind", 3), "damaged"),
    "scalars of another type": (
        lambda file: (file.__delitem__("scalars"), file.create_dataset("scalars", data=1.0)),
        "damaged",
    ),
    "an array without axes": (lambda file: file.create_dataset("arrays/b", data=1.0), "damaged"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_records_end_in_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put, says = FOREIGN[kind]
    record(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as own, h5py.File(tmp_path / "b.h5", "w") as file:
        for name, value in own.attrs.items():
            file.attrs[name] = value
        for name in own:
            own.copy(name, file)
        put(file)
    began = time.monotonic()
    code = main(["show", str(tmp_path / "b.h5")])
    told = capsys.readouterr().err
    assert code == 1, told
    assert says in told
    assert told.count("\n") == 1
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("command", [["show", "p.h5"], [*PERFORMANCE, "--data", "p.npz"]])
def test_pipes_are_not_waited_for(
    command: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(here / command[-1])
    assert main(command) == 1
    assert "is no regular file" in capsys.readouterr().err


def test_out_of_memory_is_one_line(here: Path, capsys, monkeypatch) -> None:
    real = torch.empty

    def none(*shape: object, **kinds: object) -> torch.Tensor:
        if shape and isinstance(shape[0], tuple) and len(shape[0]) == 2 and shape[0][0] > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(*shape, **kinds)

    monkeypatch.setattr(torch, "empty", none)
    command = ["metric", "hessian", *PERFORMANCE[2:], "--data", "data.npz"]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "out of memory: a basis of 80 vectors" in told
    assert "fewer 'iterations'" in told
