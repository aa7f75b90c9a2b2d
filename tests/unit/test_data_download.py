"""Downloads against a server on this machine that misbehaves on purpose."""

import hashlib
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lossatlas import paths
from lossatlas.data import download
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import DataSource, data_sources, files_of

BODY = bytes(range(256)) * 1024
WRONG = BODY[::-1]


class Handler(BaseHTTPRequestHandler):
    """Answers according to the path; counts what was asked."""

    def do_GET(self):
        asked = self.server.asked
        asked.append(self.path)
        kind = self.path.strip("/")
        if kind == "missing":
            return self.send_error(404)
        if kind == "gone-after-wait" or (kind == "busy" and asked.count(self.path) <= 3):
            return self.send_error(503)
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            return self.end_headers()
        if kind == "slow" or (kind == "slow-once" and asked.count(self.path) == 1):
            self.server.released.wait(10)
            return None
        body = {"wrong": WRONG, "long": BODY + b"x", "short": BODY[:-1]}.get(kind, BODY)
        self.send_response(200)
        if kind != "unsaid-cut":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = kind in ("cut", "unsaid-cut")
        cut = cut or (kind == "cut-once" and asked.count(self.path) == 1)
        self.wfile.write(body[: len(body) // 2] if cut else body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.released = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running, monkeypatch):
    running.asked.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    return running


def source(server, *kinds, **changes):
    mirrors = tuple(f"http://127.0.0.1:{server.server_port}/{kind}" for kind in kinds)
    row = DataSource(
        name="toy",
        version="1",
        file="toy.bin",
        size=len(BODY),
        sha256=hashlib.sha256(BODY).hexdigest(),
        mirrors=mirrors,
        licence="none",
        train=1,
        test=1,
        classes=2,
        channels=1,
        image_size=1,
    )
    return replace(row, **changes)


def only(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (["good"], ["/good"]),
        (["moved"], ["/moved", "/good"]),
        (["missing", "good"], ["/missing", "/good"]),
        (["busy"], ["/busy"] * 4),
        (["cut-once"], ["/cut-once"] * 2),
        (["cut", "good"], ["/cut"] * 4 + ["/good"]),
        (["wrong", "good"], ["/wrong", "/good"]),
        (["long", "good"], ["/long", "/good"]),
    ],
)
def test_gets_the_right_file(server, tmp_path, kinds, asked):
    target = tmp_path / "sub" / "toy.bin"
    download.fetch(source(server, *kinds), target)
    assert target.read_bytes() == BODY
    assert only(target.parent) == ["toy.bin"]
    assert server.asked == asked


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "HTTP 404"),
        ("gone-after-wait", "HTTP 503, 4 times"),
        ("cut", "no connection, or it broke, 4 times"),
        ("unsaid-cut", f"cut off after {len(BODY) // 2} of {len(BODY)} bytes, 4 times"),
        ("short", f"cut off after {len(BODY) - 1} of {len(BODY)} bytes"),
        ("long", f"has {len(BODY) + 1} bytes, expected {len(BODY)}"),
        ("wrong", f"has sha256 {hashlib.sha256(WRONG).hexdigest()}, expected "),
    ],
)
def test_leaves_nothing_and_says_why(server, tmp_path, kind, reason):
    row = source(server, kind)
    with pytest.raises(UserError) as caught:
        download.fetch(row, tmp_path / "toy.bin")
    message = str(caught.value)
    assert f"{row.mirrors[0]}: {reason}" in message
    assert "'toy.bin'" in message
    assert "mirror_dir" in message
    assert "\n" not in message
    assert only(tmp_path) == []


def test_names_the_reason_of_every_mirror(server, tmp_path):
    row = source(server, "missing", "wrong")
    with pytest.raises(UserError) as caught:
        download.fetch(row, tmp_path / "toy.bin", mirror_dir=str(tmp_path / "nowhere"))
    message = str(caught.value)
    assert message.index("No such file") < message.index("HTTP 404") < message.index("has sha256")


def test_nobody_listens(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    row = source(server, mirrors=("http://127.0.0.1:9/toy.bin",))
    with pytest.raises(UserError, match="no connection, or it broke, 4 times"):
        download.fetch(row, tmp_path / "toy.bin")
    assert pauses == pytest.approx([0.01, 0.02, 0.04])


def test_a_silent_server_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    download.fetch(source(server, "slow-once"), tmp_path / "toy.bin")
    assert server.asked == ["/slow-once"] * 2
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        download.fetch(source(server, "slow"), tmp_path / "other.bin")


@pytest.mark.parametrize("form", ["path", "address", "variable"])
def test_the_folder_comes_first(server, tmp_path, monkeypatch, form):
    folder = tmp_path / "a mirror"
    folder.mkdir()
    (folder / "toy.bin").write_bytes(BODY)
    if form == "variable":
        monkeypatch.setenv("LOSSATLAS_MIRROR", str(folder))
    given = {"path": str(folder), "address": folder.as_uri(), "variable": ""}[form]
    download.fetch(source(server, "good"), tmp_path / "out" / "toy.bin", given)
    assert (tmp_path / "out" / "toy.bin").read_bytes() == BODY
    assert server.asked == []


def test_config_wins_over_the_variable(server, tmp_path, monkeypatch):
    (tmp_path / "toy.bin").write_bytes(BODY)
    monkeypatch.setenv("LOSSATLAS_MIRROR", str(tmp_path / "nowhere"))
    download.fetch(source(server), tmp_path / "out.bin", str(tmp_path))
    assert (tmp_path / "out.bin").read_bytes() == BODY


def test_a_wrong_file_in_the_folder_is_passed_over(server, tmp_path, caplog):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "toy.bin").write_bytes(WRONG)
    with pytest.raises(UserError, match=r"mirror/toy\.bin: has sha256"):
        download.fetch(source(server), tmp_path / "toy.bin", str(folder))
    download.fetch(source(server, "good"), tmp_path / "toy.bin", str(folder))
    assert (tmp_path / "toy.bin").read_bytes() == BODY
    assert f"{folder / 'toy.bin'}: has sha256" in caplog.text


def test_a_right_file_is_kept_and_a_wrong_one_replaced(server, tmp_path):
    target = tmp_path / "toy.bin"
    target.write_bytes(BODY)
    download.fetch(source(server, "missing"), target)
    assert server.asked == []
    target.write_bytes(WRONG)
    download.fetch(source(server, "good"), target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/toy.bin", "file:///etc/hostname"])
def test_other_schemes_are_refused(server, tmp_path, address):
    with pytest.raises(UserError, match="is not http or https"):
        download.fetch(source(server, mirrors=(address,)), tmp_path / "toy.bin")


def test_a_mirror_dir_elsewhere_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        download.fetch(source(server), tmp_path / "toy.bin", "https://example.org/files")


def test_embedded_data_have_nothing_to_fetch(tmp_path):
    with pytest.raises(ValueError, match="nothing to fetch"):
        download.fetch(data_sources()["digits"], tmp_path / "digits")


def test_the_table_is_whole():
    rows = data_sources()
    assert {"digits", "mnist", "cifar10", "cifar100", "taxonomy_results"} <= set(rows)
    assert {"fashion_mnist", "svhn"} <= set(rows)
    header, *lines = paths.DATASETS_TABLE.read_text().splitlines()
    assert all(line.count("\t") == header.count("\t") for line in lines)
    for row in rows.values():
        assert row.version
        assert row.licence
        if row.classes:
            assert row.corrupted or row.train > 0
            assert min(row.test, row.channels, row.image_size) > 0
        for file in files_of(row):
            md5 = file.sha256.startswith("md5:")  # where the publisher states nothing else
            assert md5 or file.size > 0
            assert len(bytes.fromhex(file.sha256.removeprefix("md5:"))) == (16 if md5 else 32)
            assert file.mirrors
            assert file.mirrors[0].startswith("https://")
            assert all(len(bytes.fromhex(sum_)) == 32 for sum_ in file.repacked)
    assert len(files_of(rows["mnist"])) == len(files_of(rows["fashion_mnist"])) == 4
    assert len(files_of(rows["svhn"])) == 2
    assert files_of(rows["gauss"]) == []
