"""Writes files whole or not at all, whatever their format, and says why where it can't."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lossatlas.errors import UserError

_OLD = 86400.0  # seconds after which nobody still writes, on whatever machine


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path` that replaces it when the block succeeds.

    What killed writers of the same file left is removed.

    Raises:
        UserError: If the folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder, because some writers put temporary files of their own beside what they write.
        start = f".{target.name}.{socket.gethostname()}-{os.getpid()}."
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=start))
        sweep(target, dead=True)
    except OSError as error:
        raise unwritable(target, error) from None
    temporary = folder / target.name
    try:
        yield temporary
        with temporary.open("r+b") as file:  # some file servers flush for writers only
            os.fsync(file.fileno())
        with contextlib.suppress(PermissionError):  # some know no modes
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except Exception as error:
        reason = _of_the_system(error)
        if reason is None:
            raise
        raise unwritable(target, reason) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_own(path: str | os.PathLike[str], where: str, *, kinds: tuple[bytes, ...] = ()) -> None:
    """Refuse to write over what is no ordinary file, or holds what a result never holds.

    Args:
        path: The file to be written.
        where: The option that names it.
        kinds: How files of its kind begin; one that begins otherwise is the user's.

    Raises:
        UserError: With what stands there.
    """
    target = Path(path)
    fix = "give a name that is free, or remove it"
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(target, error) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
        kind = "a link" if stat.S_ISLNK(found.st_mode) else kind
        raise UserError(f"'{path}' is {kind}", where=where, fix=fix)
    with target.open("rb") as file:
        begins = file.read(max(map(len, kinds), default=0))
    if found.st_size and kinds and not begins.startswith(kinds):
        raise UserError(f"'{path}' is there and is no result", where=where, fix=fix)


def sweep(path: str | os.PathLike[str], *, dead: bool = False) -> None:
    """Remove temporary files that killed writers of `path` left.

    Args:
        path: What they were writing.
        dead: Spare those of writers that may live. Otherwise nobody else may be writing it.
    """
    target = Path(path)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*-*.????????"):
        if not dead or not _may_live(left):
            shutil.rmtree(left, ignore_errors=True)


def _may_live(left: Path) -> bool:
    """Say whether the writer of a temporary folder may still be at work."""
    machine, _, number = left.name[: -len(".????????")].rpartition("-")
    try:
        if time.time() - left.stat().st_mtime > _OLD:
            return False
        if not machine.endswith(f".{socket.gethostname()}"):
            return True
        os.kill(int(number), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _of_the_system(error: Exception) -> OSError | None:
    """Return the system's error, if it is one: safetensors has it in the words of its own."""
    if isinstance(error, OSError):
        return error
    told = re.search(r"\(os error (\d+)\)", str(error))
    return None if told is None else OSError(int(told[1]), os.strerror(int(told[1])))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unwritable(target: Path, error: OSError) -> UserError:
    """Return the message for a file that the system refuses to write."""
    reason = error.strerror or str(error)
    return UserError(
        f"cannot be written: {reason}",
        where=str(target),
        fix="free some space or give write permission, then run the same command again",
    )


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose folder cannot be written to or made, before its content is computed.

    Raises:
        UserError: With that folder, or the one in which it would be made.
    """
    folder = Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    check_folder(str(folder))


def check_folder(folder: str, *, write: bool = True) -> None:
    """Refuse a results folder that cannot be written to, before anything is run.

    Args:
        folder: Its path.
        write: Whether anything is to be written; else just something that is no folder is refused.

    Raises:
        UserError: If it is no folder, or not writable; a missing one will be made.
    """
    usable = os.path.isdir(folder) and (not write or os.access(folder, os.W_OK))
    if os.path.lexists(folder) and not usable:
        fix = "move it away, or give write permission"
        raise UserError("is not a folder that can be written to", where=folder, fix=fix)
