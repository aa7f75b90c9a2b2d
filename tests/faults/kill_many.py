"""Fifty and more `kill -9` at random moments over all kinds of jobs, then one comparison.

Run by `make test-faults`; the name keeps it out of `make test`.
"""

import contextlib
import hashlib
import io
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from faults.killing import EVERYTHING, WARM, Killer, Runner, assert_same, kinds_of
from lossatlas.data import readers
from workflow.conftest import Project, fresh

TARGETS = ("all", "results/atlas/report.html", "results/atlas/tables/walk.csv")
# Training, curves, complexes and recording keep state: these are killed more often.
WANTED = {
    "download": 2,
    "conversion": 2,
    "training": 6,
    "recording": 5,
    "connectivity": 5,
    "simplex": 4,
    "simplex_volume": 3,
    "espro": 4,
    "hessian": 3,
    "performance": 2,
    "cka": 2,
    "distance": 2,
    "diffusion": 3,
    "landscape": 2,
    "study": 2,
    "collection": 2,
    "table": 1,
    "figure": 3,
    "claims": 1,
    EVERYTHING: 3,
    WARM: 1,
}
STATE_EVERY = "0.1"  # seconds: these jobs are too short for a state each minute
SECONDS = 3000  # to give up after


class Handler(BaseHTTPRequestHandler):
    """Serves one file slowly."""

    def do_GET(self) -> None:
        body: bytes = self.server.body  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # whoever asked has been killed
            for start in range(0, len(body), 8192):
                self.wfile.write(body[start : start + 8192])
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A row of the datasets table, of images that a server on this machine has."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    images = {name: array[:240] for name, array in readers.digits().items()}
    file = io.BytesIO()
    np.savez(file, **images)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body = file.getvalue()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        size, digest = len(file.getvalue()), hashlib.sha256(file.getvalue()).hexdigest()
        address = f"http://127.0.0.1:{server.server_port}/images.npz"
        cells = ["images", "1", "images.npz", size, digest, address, "none", 240, 240, 10, 1, 8]
        yield "\t".join(map(str, cells)) + "\n"
        server.shutdown()


def prepared(root: Path, row: str) -> Project:
    project = fresh(root)
    project.config = "atlas.yaml"
    shutil.copy2(Path(__file__).with_name("atlas.yaml"), root / project.config)
    with (root / "resources/datasets.tsv").open("a") as table:
        table.write(row)
    project.edit(
        "workflow/lossatlas/training/state.py",
        "every: float = 60.0",
        f"every: float = {STATE_EVERY}",
    )
    return project


def test_kills(tmp_path: Path, row: str) -> None:
    started = time.monotonic()
    whole, hit = prepared(tmp_path / "whole", row), prepared(tmp_path / "hit", row)
    Runner(whole.root, whole.config, *TARGETS).finish(SECONDS)
    alone = time.monotonic() - started
    killer = Killer(Runner(hit.root, hit.config, *TARGETS), kinds_of(whole.root), WANTED, seed=5)
    killer.work(SECONDS)
    killer.runner.finish(SECONDS)
    compared = assert_same(whole.root / "results", hit.root / "results")
    lines = [f"  {kind:32} {count:3}" for kind, count in sorted(killer.killed.items())]
    print("\nkill -9 of", *lines, sep="\n")
    print(f"  {'in all':32} {killer.killed.total():3}, {killer.with_state} with work to resume")
    print(f"{compared} results are equal; {alone:.0f} s without kills, ", end="")
    print(f"{time.monotonic() - started - alone:.0f} s with them")
    assert killer.killed.total() >= 50
    assert killer.with_state >= 5
