"""Small tables of the shape that figures read, with numbers that are known."""

import math

import pandas as pd

from lossatlas.figures import Tables
from lossatlas.tables.collect import SCALAR, SEEDS, SERIES

NO_ERROR = (math.nan, math.nan)  # stderr, df
PER_REPLICA = ("test_accuracy", "train_loss", "hessian_eigenvalue", "hessian_trace")
PER_PAIR = ("mode_connectivity", "cka", "l2_distance")


def number(metric, load, temperature, replica):
    """A value that differs between all cells and replicas; positive, and a few units at most."""
    known = (*PER_REPLICA, *PER_PAIR)
    place = known.index(metric) if metric in known else len(known)
    return 1 + place + 0.1 * math.log(load) + 0.01 * math.log(temperature) + 0.3 * replica


def scalars(
    cells, axes=("width", "batch_size"), diverged=None, values=None, replicas=2, metrics=None
):
    """One row per number.

    Args:
        cells: (load, temperature) of each cell.
        axes: Names of the two axes.
        diverged: Cell -> replicas that diverged.
        values: (metric, cell) -> the value of all its replicas or pairs.
        replicas: How many per cell.
        metrics: Name -> "replica", "pair" or "cell"; default: those of the taxonomy.
    """
    rows = []
    metrics = metrics or dict.fromkeys(PER_REPLICA, "replica") | dict.fromkeys(PER_PAIR, "pair")
    for cell in cells:
        lost = (diverged or {}).get(cell, ())
        pairs = [(a, b) for a in range(replicas) for b in range(a + 1, replicas)]
        who = {"replica": [(r, None) for r in range(replicas)], "pair": pairs}
        who["cell"] = [(None, None)]
        for metric, per in metrics.items():
            for a, b in who[per]:
                value = (values or {}).get((metric, cell))
                value = number(metric, *cell, a or 0) if value is None else value
                bad = a in lost or b in lost
                value, status = (math.nan, "diverged") if bad else (value, "ok")
                rows.append(
                    ("e", f"c{cell}", *cell, metric, a, b, value, math.nan, math.nan, status)
                )
    return _frame(rows, axes, SCALAR)


def series(
    cells, axes=("width", "batch_size"), paths=("bezier",), pairs=((0, 1),), name="train_error"
):
    """One row per point: y = 10 x + load for each pair, shifted by its first replica."""
    rows = [
        ("e", f"c{cell}", *cell, name, a, b, path, x, 10 * x + cell[0] + a, *NO_ERROR, "ok")
        for cell in cells
        for path in paths
        for a, b in pairs
        for x in (0.0, 0.5, 1.0)
    ]
    made = _frame(rows, axes, ["series", *SEEDS, "path", *SERIES[3:]])
    return made.assign(probe=0) if name == "hessian_ritz" else made


def _frame(rows, axes, columns):
    frame = pd.DataFrame(rows, columns=["experiment", "cell", *axes, *columns])
    return frame.astype({"replica": "Int64", "partner": "Int64"})


def no_series():
    return pd.DataFrame(columns=["experiment", "cell", *SERIES])


def no_scalars():
    return pd.DataFrame(columns=["experiment", "cell", *SCALAR])


def tables(cells, **options):
    return Tables(scalars(cells, **options), no_series())


def product(loads, temperatures):
    return [(load, temperature) for load in loads for temperature in temperatures]


def named(axes, gid):
    """Artists of that group id."""
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def height(axes, y):
    """Height on the page of a place on the y axis."""
    return axes.transData.transform((axes.get_xlim()[0], y))[1]
