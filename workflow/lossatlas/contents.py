"""SHA-256 of the user's files, read again only when a file has changed.

What was read is kept in Snakemake's own folder, under the file's size, times and inode: the time of
the last change of an inode (ctime) cannot be set, so a file put back with its old time is seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable

from lossatlas import paths
from lossatlas.errors import UserError

_CHUNK = 1 << 20
_SETTLED = 2.0  # seconds; a file that changed later than that may change again within one tick


def digests(files: Iterable[str], where: str) -> dict[str, str]:
    """Return path -> SHA-256 of the content, hexadecimal.

    Args:
        files: Paths of regular files, or links to such.
        where: The key of the config that leads to them, for messages.

    Raises:
        UserError: If one is no regular file (a pipe would be waited for without end), or cannot be
            read.
    """
    kept = _read()
    found: dict[str, list[str]] = {}
    for path in files:
        try:
            about = _stamp(path, where)
            known = kept.get(path)
            if known is not None and known[0] == about:
                found[path] = known
            else:
                found[path] = [about, _sha256(path)]
                if _stamp(path, where) != about or _is_fresh(path):
                    found[path][0] = ""  # is read again next time
        except OSError as error:
            what = f"'{path}' cannot be read: {error.strerror}"
            raise UserError(what, where=where, fix="put it back, or mend its permissions") from None
    if any(kept.get(path) != entry for path, entry in found.items() if entry[0]):
        _write({**kept, **found})
    return {path: digest for path, (_, digest) in found.items()}


def _stamp(path: str, where: str) -> str:
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        what = f"'{path}' is no regular file"
        raise UserError(what, where=where, fix="give files, or links to files")
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"


def _is_fresh(path: str) -> bool:
    about = os.stat(path)
    return time.time() - max(about.st_mtime, about.st_ctime) < _SETTLED


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _read() -> dict[str, list[str]]:
    try:
        kept = json.loads(paths.FILES.read_text(encoding="utf-8"))
        return {str(path): [str(about), str(digest)] for path, (about, digest) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(found: dict[str, list[str]]) -> None:
    """Keep what was read; where it cannot be written, each process reads the files again."""
    temporary = paths.FILES.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.parent.mkdir(exist_ok=True)
        there = {path: entry for path, entry in found.items() if entry[0] and os.path.exists(path)}
        temporary.write_text(json.dumps(there), encoding="utf-8")
        temporary.replace(paths.FILES)
