"""Folders and sockets in the temporary folder, which all users of a machine share.

Their names can be known before, so another user may have made them first, or put a link there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path

from lossatlas.errors import UserError

_CREDENTIALS = struct.Struct("3i")  # process, user, group


def make(folder: Path) -> None:
    """Make a folder that only this user can enter, or check that it is one.

    Raises:
        UserError: If what stands there is a link, no folder, another user's, or open to others.
        OSError: If it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if (what := _fault(folder)) is not None:
        fix = "remove it, or set TMPDIR to a folder of your own"
        raise UserError(what, where=str(folder), fix=fix)


def ours(folder: Path) -> bool:
    """Say whether a folder is one, of this user, which nobody else can enter."""
    try:
        return _fault(folder) is None
    except OSError:
        return False


def _fault(folder: Path) -> str | None:
    found = os.lstat(folder)
    if stat.S_ISLNK(found.st_mode):
        return "is a link, and could lead anywhere"
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if found.st_uid != os.getuid():
        return "belongs to another user"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return "can be entered by other users"
    return None


def same_user(connection: socket.socket) -> bool:
    """Say whether the process at the other end of a Unix socket is of this user.

    Where the system does not tell (it is no Linux), the socket's folder, which nobody else can
    enter, has to do.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    asked = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(asked)
    return bool(user == os.getuid())
