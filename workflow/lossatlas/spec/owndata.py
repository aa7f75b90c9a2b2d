"""Data sets of a config's own: an .npz, or an object of a plug-in, described without a table.

Both get a name that tells their content, such as "mydata_1a2b3c4d": so cells are others when the
data are, and not when the file has moved or has a new time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lossatlas import paths, plugins
from lossatlas.errors import UserError
from lossatlas.fingerprint import code_of
from lossatlas.spec import own
from lossatlas.spec.catalogue import DataSource, data_sources, register

GROUP = "lossatlas.datasets"
DIGITS = 8  # of the content's SHA-256 in a name


def resolve(source: str, where: str) -> str:
    """Return the name under which a data set of a config is known, and make it known.

    Args:
        source: A row of the datasets table, a path that ends in .npz, an entry point, or
            "package.module:object".
        where: The key of the config, for messages.

    Raises:
        UserError: If there is none, or it does not hold what it should.
    """
    if source.endswith(".npz"):
        row, stem = _npz(source, where), Path(source).stem
    else:
        rows = [name for name, row in data_sources().items() if row.trainable]
        target = plugins.target_of(source, GROUP, rows, where)
        if not target:
            return source
        row, stem = _object(target, where), target.partition(":")[2]
    stem = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_") or "data"
    stem = stem if stem[0].isalpha() else f"data_{stem}"
    name = f"{stem}_{row.sha256[:DIGITS] or 'unknown'}"
    register(dataclasses.replace(row, name=name))
    return name


def _npz(path: str, where: str) -> DataSource:
    key = f"{path} {_stamp(path)}"
    if (kept := _kept().get(key)) is not None:
        return _row(kept["row"])
    return _described(path, key, where)


def _object(target: str, where: str) -> DataSource:
    """Return what is known of an object's data; with plug-ins off, what was known before."""
    own.check_object(target, where)
    key = f"{target} {code_of(target)}"
    kept = _kept().get(key)
    if kept is not None and all(_stamp(path) == stamp for path, stamp in kept["read"].items()):
        return _row(kept["row"])
    if plugins.off():
        return dataclasses.replace(_UNKNOWN, target=target)
    return _described(target, key, where)


_UNKNOWN = DataSource("", "own", "", 0, "", (), "", 0, 0, 0, 0, 0)


def _described(source: str, key: str, where: str) -> DataSource:
    """Look at the data in a process of its own, and keep what it finds."""
    answer = _asked(source, where)
    if "error" in answer:
        what, place, fix = answer["error"]
        raise UserError(what, where=place if where in place else f"{where}: {place}", fix=fix)
    row = _row(answer["row"])
    _keep(key, row, {path: _stamp(path) for path in answer["read"]})
    return row


def _asked(source: str, where: str) -> dict[str, Any]:
    library = str(paths.LIBRARY.parent)
    variables = {**os.environ, "PYTHONPATH": f"{library}{os.pathsep}{os.getenv('PYTHONPATH', '')}"}
    command = [sys.executable, "-P", "-m", "lossatlas.data.describe", source, where]
    done = subprocess.run(  # noqa: S603 -- our own module, by a list of arguments
        command, env=variables, capture_output=True, text=True, check=False
    )
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        ended = f"a signal ({-done.returncode})" if done.returncode < 0 else str(done.returncode)
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        what = f"'{source}' ended Python with {ended}; it said: {said}"
        raise UserError(what, where=where, fix="mend it, or give an .npz") from None


def _row(kept: dict[str, Any]) -> DataSource:
    lists: dict[str, Any] = {
        key: tuple(kept.get(key, ())) for key in ("mirrors", "parts", "repacked")
    }
    return DataSource(**{**kept, **lists})


def _stamp(path: str) -> str:
    """Return what changes when a file does, without reading it; "" if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


_known: dict[str, Any] = {}  # of this process, where nothing can be kept


def _kept() -> dict[str, Any]:
    try:
        return {**json.loads(paths.DATA.read_text(encoding="utf-8")), **_known}
    except (OSError, ValueError, TypeError):
        return _known


def _keep(key: str, row: DataSource, read: dict[str, str] | None = None) -> None:
    """Keep a description where Snakemake keeps its own things, in place of that of an older state.

    Where it cannot be written each process describes the data again.
    """
    first = key.partition(" ")[0]
    _known[key] = {"row": dataclasses.asdict(row), "read": read or {}}
    found = {old: value for old, value in _kept().items() if old.partition(" ")[0] != first}
    temporary = paths.DATA.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.parent.mkdir(exist_ok=True)
        temporary.write_text(json.dumps({**found, key: _known[key]}), encoding="utf-8")
        temporary.replace(paths.DATA)
