"""The published results of the taxonomy, for tests: the table that comes with the project.

Tests of the archive itself skip unless LOSSATLAS_MIRROR names a folder that has it.
"""

import os
import pickle
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lossatlas import paths
from lossatlas.reference import taxonomy_published, taxonomy_tables
from lossatlas.tables.collect import cell_summary

NAME = "loss_landscape_taxonomy-results.tar.gz"
BATCHES = [16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024]
WIDTHS = [2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]


def archive() -> Path:
    folder = os.environ.get("LOSSATLAS_MIRROR")
    if not folder or not (Path(folder) / NAME).is_file():
        pytest.skip(f"LOSSATLAS_MIRROR names no folder with {NAME}")
    return Path(folder) / NAME


@cache
def numbers() -> pd.DataFrame:
    return taxonomy_published.read(Path(paths.published()))


@cache
def tables():
    return taxonomy_tables.tables(numbers())


@cache
def summary() -> pd.DataFrame:
    """Of all 210 cells."""
    return cell_summary(pd.concat([scalars for scalars, _ in tables().values()]))


@cache
def scalars() -> pd.DataFrame:
    """Return the scalars of the cells that the authors plotted, as of an experiment "e"."""
    joined = pd.concat([scalars for scalars, _ in tables().values()], ignore_index=True)
    return taxonomy_tables.plotted(joined).assign(experiment="e")


@cache
def matrix(metric: str) -> np.ndarray:
    """A quantity (13, 13) over BATCHES and WIDTHS."""
    rows = summary()[summary()["metric"] == metric]
    found = rows.pivot(index="batch_size", columns="width", values="value")
    return found.loc[BATCHES, WIDTHS].to_numpy()


class NumbersOnly(pickle.Unpickler):
    """Python's own unpickler, for numpy's scalars alone: another way than the library's."""

    def find_class(self, module: str, name: str):
        if name not in ("scalar", "dtype") or not module.startswith("numpy"):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def raw(batch: int, width: int, file: str):
    """A file of the archive, read the plain way."""
    with tarfile.open(archive()) as tar:
        name = f"different_knobs_subset_10/bs_{batch}/lr_decay/ResNet18_w{width}/metrics/{file}"
        data = tar.extractfile(name).read()
    return NumbersOnly(BytesIO(data)).load() if file.endswith(".pkl") else np.load(BytesIO(data))
