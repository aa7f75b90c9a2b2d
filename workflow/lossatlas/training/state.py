"""Resume state of a long job: saved by time, atomically, and trusted only by its own job."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lossatlas import seal
from lossatlas.files import atomic, sweep

PREEMPTED = 75  # exit code of a job that saved its state and asks to be run again (EX_TEMPFAIL)
LONGEST = 900.0  # seconds between saves, however long they take: a disk may be slow just once


class Preempted(Exception):  # noqa: N818 -- it is no error
    """The job was told to leave; its state has been saved."""


class _Warning:
    """Whether a signal asked the job to leave; one object for a job and all of its parts."""

    given = False


class State:
    """Where a job's unfinished work is kept.

    Args:
        path: The file. None keeps nothing (for use as a library).
        key: Names the work: a state that was saved under another key is ignored.
        every: Seconds between saves; more, up to `LONGEST`, where one takes over a twentieth of it.
    """

    def __init__(self, path: str | Path | None, key: str, every: float = 60.0) -> None:
        self.path = None if path is None else Path(path)
        self.key, self.every = key, every
        self._saved_at, self._pause = time.monotonic(), every
        self._warning = _Warning()
        self._parts: list[State] = []
        self._kept: tuple[Path, str] | None = None

    def listen(self) -> State:
        """Save and leave on SIGTERM and SIGUSR1, the warnings that schedulers give."""

        def leave(_signal: int, _frame: FrameType | None) -> None:
            self._warning.given = True

        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, leave)
        return self

    def due(self) -> bool:
        """Say whether the job should call `save` now."""
        return self.path is not None and (
            self._warning.given or time.monotonic() - self._saved_at >= self._pause
        )

    def save(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Save, and leave if the job was told to.

        Raises:
            Preempted: After saving, if a signal asked the job to leave.
        """
        if self.path is None:
            return
        started = time.monotonic()
        content = {"seal": seal.BLANK, "key": self.key, "values": values}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic(self.path) as temporary:
            safetensors.torch.save_file(plain, temporary, {"state": json.dumps(content)})
            seal.close(temporary)
        self._saved_at = time.monotonic()
        if self.every:
            self._pause = max(self.every, min(20 * (self._saved_at - started), LONGEST))
        if self._warning.given:
            raise Preempted

    def load(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what was saved under this key, or None; a damaged file is as good as none."""
        if self.path is None or not self.path.exists():
            return None
        try:
            if not seal.whole(self.path):
                return None
            with safetensors.safe_open(self.path, "pt", device=str(device)) as file:
                content = json.loads((file.metadata() or {}).get("state", "{}"))
                if content.get("key") != self.key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError):
            return None
        print(json.dumps({"resumed": self.path.name}), flush=True)  # for the log
        return tensors, content["values"]

    def part(self, *words: object) -> State:
        """Return the state of a part of the job, in a file of its own; `clear` forgets it too."""
        name = "-".join(map(str, words))
        path = None if self.path is None else self.path.with_name(f"{self.path.name}.{name}")
        one = State(path, f"{self.key}:{name}", self.every)
        one._warning, one._kept = self._warning, self._kept
        self._parts.append(one)
        return one

    def keep(self, folder: str | Path, made_by: str) -> State:
        """Keep finished pieces in a folder, for other jobs too; see `finished`.

        Args:
            folder: Where.
            made_by: Names what all pieces depend on, such as the code.
        """
        self._kept = (Path(folder), made_by)
        return self

    def finished(self, words: str) -> State:
        """Return where a finished piece is kept, named by all that it depends on.

        In the folder of `keep` it outlives the job, and any job finds it that wants the same piece.
        Without one it is a part of this job.
        """
        if self._kept is None:
            return self.part(hashlib.sha256(words.encode()).hexdigest()[:24])
        folder, made_by = self._kept
        digest = hashlib.sha256(f"{made_by}:{words}".encode()).hexdigest()
        path = folder / f"{digest[:24]}.safetensors"
        sweep(path, dead=True)  # jobs of one cell share the folder
        return State(path, digest)

    def clear(self) -> None:
        """Forget the state: the job is done."""
        for one in self._parts:
            one.clear()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            sweep(self.path)
