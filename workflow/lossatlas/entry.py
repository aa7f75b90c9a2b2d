"""What every thin script does around its one call: threads, log, and one line for mistakes."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lossatlas import attempts, fingerprint, installed, kept, made, paths, slots, warm, watch
from lossatlas.errors import UserError, out_of_memory
from lossatlas.files import sweep, unwritable
from lossatlas.lease import lease

_TRIALS = {"rehearsal": "rehearse", "pilot": "pilot"}
_INTERRUPTED = "interrupted; the same command goes on from here"


def share_imports(folder: str) -> None:
    """Let the jobs that this process starts import from this folder first."""
    before = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *(p for p in before if p != folder)])


def find_user_modules() -> None:
    """Let the user's own models be found in the folder in which they start.

    It comes last: a file there takes no other module's place, whatever its name.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def leave_warnings_to_scripts() -> None:
    """Ignore SIGUSR1 in Snakemake, and thereby in the shells between it and a job's script.

    A scheduler sends its warning to every process of a job. Only the script can save, and it is
    killed when one of the others, which die of the signal by default, ends before it.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextlib.contextmanager
def job(snakemake: Any, *, quiet: bool = True) -> Iterator[Any]:
    """Run a script's body with its output in the log, and mistakes as one line at the terminal.

    Args:
        snakemake: The object that Snakemake gives to a script.
        quiet: Send standard output to the log too.

    Raises:
        SystemExit: With 1 after a mistake or a fault, 75 when the job saved its state and left,
            130 when it was interrupted; and as the script ended, in the process that only watches
            the one that runs it (`watch.py`).
    """
    try:
        log = str(snakemake.log[0]) if snakemake.log else ""
        warm.hand_over(snakemake.threads, log)
        watch.watched(log)
        _use_folders(snakemake)
        find_user_modules()
        _check_sibling(Path(snakemake.scriptdir))
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(snakemake.threads)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        with contextlib.ExitStack() as stack:
            _only_writer(snakemake, stack)
            _place(snakemake, stack)
            _log(snakemake, stack, quiet)
            try:
                _begin(snakemake, log)
                yield snakemake
                made.write_sidecars(map(str, snakemake.output))
                _keep(snakemake)
                attempts.forget(log)
            except UserError as error:
                _leave(str(error), 1)
            except KeyboardInterrupt:  # here, where the line reaches the log too
                _leave(_INTERRUPTED, 130)
            except Exception as error:  # noqa: BLE001 -- the last one to see it
                _fault(error, log)
            finally:
                made.end()
    except KeyboardInterrupt:
        _leave(_INTERRUPTED, 130)


def _use_folders(snakemake: Any) -> None:
    """Let `paths` know whose results these are: of which config, and of which trial of it."""
    config = getattr(snakemake, "config", {})
    name = str(config.get("name", paths.DEFAULT))
    trial = {key: config.get(name) is True for key, name in _TRIALS.items()}
    paths.use(name, **trial)


def _begin(snakemake: Any, log: str) -> None:
    """Note that an attempt begins, and what makes its results, if their code is fingerprinted."""
    if snakemake.output:
        attempts.begin(log)
    if snakemake.output and (code := snakemake.params.get("code")):
        if asked := fingerprint.entries_of(code):
            fingerprint.check(asked, code)
        made.begin(snakemake.params.items(), code, map(str, snakemake.input))


def _log(snakemake: Any, stack: contextlib.ExitStack, quiet: bool) -> None:
    """Send what is printed to the log."""
    if snakemake.log:
        log = stack.enter_context(_opened(snakemake.log[0]))
        faulthandler.enable(log)  # where a signal of a compiled library's fault met the script
        stack.callback(faulthandler.disable)
        stack.enter_context(contextlib.redirect_stderr(log))
        if quiet:
            stack.enter_context(contextlib.redirect_stdout(log))


class _Lossy(io.FileIO):
    """A file that loses what the disk has no room for: no job ends for a line of its log."""

    def write(self, content: Any, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(content)
        return len(content)


def _opened(log: str) -> TextIO:
    try:
        file = io.BufferedWriter(_Lossy(log, "w"))
    except OSError as error:
        _leave(str(unwritable(Path(log), error)), 1)
    return io.TextIOWrapper(file, "utf-8", errors="backslashreplace", line_buffering=True)


def _fault(error: Exception, log: str) -> None:
    """Leave after an error that is not the user's."""
    if type(error).__name__ == "Preempted":
        attempts.lacked(log, "time")
        _leave("told to leave; state saved, run the same command again to go on", 75)
    traceback.print_exc()
    if isinstance(error, ModuleNotFoundError) and (lacking := installed.lacking(error)):
        _leave(str(lacking), 1)
    if out_of_memory(error):
        attempts.lacked(log, "memory")
        _leave("out of memory (with --retries 2, each attempt asks for more of it)", 1)
    _leave(f"{type(error).__name__}: {error} (a fault of ours: the log has the details)", 1)


def _only_writer(snakemake: Any, stack: contextlib.ExitStack) -> None:
    """Hold the lease on the outputs; leave if another job makes the same ones meanwhile."""
    outputs = [str(output) for output in snakemake.output]
    if not outputs:
        return
    key, done = _work(snakemake), False
    try:
        while not done and not stack.enter_context(lease(paths.lease(outputs[0]), key)):
            done = all(os.path.exists(output) for output in outputs)
    except UserError as error:
        _leave(str(error), 1)
    if done or (slots.allocation() and kept.take_back(outputs, key)):
        print("lossatlas: another job has made it", file=sys.stderr, flush=True)
        sys.exit(0)
    for output in outputs:
        sweep(output)


def _keep(snakemake: Any) -> None:
    """On a cluster, where a job may be submitted twice, keep its results for its double."""
    outputs = [str(output) for output in snakemake.output]
    if outputs and slots.allocation():
        kept.keep(outputs, _work(snakemake))


def _work(snakemake: Any) -> str:
    """Name a job's work: jobs of the same name write the same results."""
    inputs = []
    for path in map(str, snakemake.input):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            inputs.append([path, found.st_size, found.st_mtime_ns])
    words = [snakemake.rule, [str(p) for p in snakemake.params], inputs, list(snakemake.output)]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _place(snakemake: Any, stack: contextlib.ExitStack) -> None:
    """Wait for a place on a GPU where the profile (profiles/gpu) says how many share one."""
    asked = snakemake.resources
    if asked.get("gpu", 0) and (runs := int(asked.get("runs_per_gpu", 0))):
        try:
            stack.enter_context(slots.gpu(runs, whole=bool(asked.get("whole_gpu", 0))))
        except UserError as error:
            _leave(str(error), 1)
        except OSError as error:
            _leave(str(unwritable(slots.folder(), error)), 1)


def _leave(message: str, code: int) -> NoReturn:
    line = f"lossatlas: {message}"
    print(line, file=sys.stderr)
    if sys.__stderr__ is not None and sys.__stderr__ is not sys.stderr:
        print(line, file=sys.__stderr__, flush=True)
    sys.exit(code)


def _check_sibling(scripts: Path) -> None:
    """Refuse to run with an installed copy of the library in place of the one beside the script."""
    if scripts.resolve() != paths.LIBRARY.parent:
        sys.exit(
            f"lossatlas: {paths.LIBRARY} was imported, not the library in {scripts}"
            " (pip uninstall lossatlas, or run in this project's own environment)"
        )
