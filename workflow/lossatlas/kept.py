"""Results that outlive the second start of their job.

Snakemake removes the results of a job that it starts. After `kill -9` of Snakemake, cluster jobs
live on, and a new run submits them again. A second job that stays in the scheduler's queue until
the first has ended would find its results removed, and spend the hours once more. So every job in
a scheduler's allocation gives its results a second name (a hard link, which takes no space), below
the key of its work; a job with the same key takes them back. Snakemake, when it ends, forgets those
of the jobs that it knows to have ended: of others, such as those of an earlier run that
`snakemake status` was started after, they are still wanted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lossatlas import paths


def keep(outputs: list[str], key: str) -> None:
    """Give the results of a job that has ended well their second names.

    Args:
        outputs: The job's results, all of them there.
        key: Names the work: another job with the same key would write the same results.
    """
    folder = Path(paths.kept(outputs[0]))
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # no hard links here: the work would be done again
        (folder / key).mkdir(parents=True)
        for number, output in enumerate(outputs):
            os.link(output, folder / key / str(number))


def take_back(outputs: list[str], key: str) -> bool:
    """Put the results of an earlier job with the same key in place; say whether there were any."""
    folder = Path(paths.kept(outputs[0])) / key
    names = [folder / str(number) for number in range(len(outputs))]
    if not all(name.exists() for name in names):
        return False
    for name, output in zip(names, outputs, strict=True):
        with contextlib.suppress(FileExistsError):
            os.link(name, output)
    return True


def forget(outputs: Iterable[str]) -> None:
    """Drop second names: whoever removes these results from now on wants them made anew.

    Args:
        outputs: The first result of each job.
    """
    if os.path.isdir(paths.kept_by_all()):
        for output in outputs:
            shutil.rmtree(paths.kept(output), ignore_errors=True)
        with contextlib.suppress(OSError):  # some are left
            os.rmdir(paths.kept_by_all())
