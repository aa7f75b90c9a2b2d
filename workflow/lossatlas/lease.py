"""One writer per result: a lease that a job holds on its outputs while it runs.

After `kill -9` of Snakemake, cluster jobs live on, and a new run submits them again. The second
job finds the first one's lease and waits. If the first ends well at the same work, the second has
nothing to do; if it dies, the second takes over and resumes from its saved state.

The lease is a file, held in two ways. `flock` tells at once when an owner on the same machine has
died. Owners on other machines, where a file system may keep `flock` to itself, are known by a
heartbeat: one that stands still for `DEAD` seconds, by the waiting job's own clock, is dead. A file
server may hold the lock of a machine that is gone for ever: after `GONE` seconds without a
heartbeat it does not count. An owner that finds its lease taken (it had been suspended) leaves at
once without writing; one that cannot look, because the file server is away, goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossatlas.files import unwritable

BEAT = 10.0  # seconds between heartbeats
# Seconds without a heartbeat after which an owner elsewhere is dead; saving gigabytes to a slow
# disk holds Python, and with it the heartbeat, for a minute.
DEAD = 180.0
GONE = 600.0  # the same, for one whose lock still stands
PAUSE = 1.0  # seconds between looks at a lease that another holds
SIZE = 1024  # bytes of a lease
LOST = 75  # exit code of an owner whose lease was taken
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def machine() -> str:
    """Name this running system: its host and the identity of its boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{platform.node()}/{boot}"


class Lease:
    """The right to write some results.

    Args:
        path: Of the lease.
        key: Names the work: another job with the same key would write the same results.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path, self.key = Path(path), key
        self.token, self.beats = uuid.uuid4().hex, 0
        self._file: int | None = None
        self._flock = True
        self._seen: tuple[Any, Any] | None = None  # the owner's heartbeat
        self._since = time.monotonic()
        self._ended = threading.Event()

    def take(self) -> bool:
        """Wait for the lease and hold it.

        Returns:
            True when it is held. False when another job held it and ended well at the same work:
            there is nothing left to do.

        Raises:
            UserError: If the folder of leases cannot be written to.
        """
        told = False
        while (held := self._look()) is None:
            if not told:
                line = f"lossatlas: waiting for another job that works on it ({self.path})"
                print(line, file=sys.stderr, flush=True)
                told = True
            time.sleep(PAUSE)
        return held

    def _look(self) -> bool | None:
        """Look at the lease once; None if another job has it, or had it a moment ago.

        Raises:
            UserError: As `take`.
        """
        try:
            return self._try()
        except OSError as error:
            self._drop()
            if error.errno != errno.ESTALE:  # removed by another machine while it was open here
                raise unwritable(self.path, error) from None
        return None

    def _try(self) -> bool | None:
        file = self._open()
        locked, owner = self._lock(file), self._read(file)
        if owner.get("done"):
            self._drop()
            return False if owner.get("key") == self.key else None
        if not self._stands(file):
            self._drop()
            return None
        state = (owner.get("token"), owner.get("beats"))
        if state != self._seen:
            self._seen, self._since = state, time.monotonic()
        silence = time.monotonic() - self._since
        if locked and (not owner or self._dead(owner) or silence >= DEAD) and self._claim(file):
            return True
        if locked and self._flock:
            fcntl.flock(file, fcntl.LOCK_UN)
        if not locked and silence >= GONE and owner.get("machine") != machine():
            self.path.unlink(missing_ok=True)
        return None

    def release(self, *, done: bool) -> None:
        """Give the lease back; `done` tells a job that waits that the results are there."""
        self._ended.set()
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if self._owns(self._file):
                self._write(self._file, done=done)
                self.path.unlink(missing_ok=True)
        self._drop()

    def _open(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._file

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _lock(self, file: int) -> bool:
        """Say whether the file is ours, as far as `flock` can tell on this file system."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self._flock = False
        return True

    def _dead(self, owner: dict[str, Any]) -> bool:
        """Say whether an unlocked lease's owner is known to be dead: it was on this machine."""
        return self._flock and owner.get("machine") == machine()

    def _claim(self, file: int) -> bool:
        self._write(file, done=False)
        if not self._flock:
            time.sleep(2 * PAUSE)  # two jobs that both saw a silent owner: the last one to write
        if not self._owns(file):
            return False
        threading.Thread(target=self._beat, args=(file,), daemon=True).start()
        return True

    def _beat(self, file: int) -> None:
        while not self._ended.wait(BEAT):
            try:
                lost = not self._owns(file)
                if not lost:
                    self._write(file, done=False)
            except OSError:  # a full disk, a file server that is away: try again
                continue
            if lost and not self._ended.is_set():
                line = f"lossatlas: another job has taken over; leaving ({self.path})"
                print(line, file=sys.__stderr__, flush=True)
                os._exit(LOST)

    def _owns(self, file: int) -> bool:
        return self._stands(file) and self._read(file).get("token") == self.token

    def _stands(self, file: int) -> bool:
        """Say whether the open file is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return False
            raise

    def _read(self, file: int) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(file, SIZE, 0) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, file: int, *, done: bool) -> None:
        self.beats += 1
        content = {"token": self.token, "key": self.key, "machine": machine(), "done": done}
        text = json.dumps({**content, "pid": os.getpid(), "beats": self.beats})
        os.pwrite(file, text.ljust(SIZE).encode(), 0)  # always the same blocks: no disk fills up
        os.fsync(file)


@contextlib.contextmanager
def lease(path: str | Path, key: str) -> Iterator[bool]:
    """Hold a lease while the block runs; yields False if another job has done the work."""
    one = Lease(path, key)
    held, done = one.take(), False
    try:
        yield held
        done = True
    finally:
        if held:
            one.release(done=done)
