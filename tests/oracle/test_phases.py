"""Rule R1 against the boundaries that the authors drew, and by hand."""

import math

import numpy as np
import pandas as pd
import pytest

import published
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.phases import PHASES, phases

# Width : batch size along the lines drawn in the authors' figure, digitised.
ONE_TWO = [(3, 16), (4, 19), (6, 24), (8, 28), (10, 32), (12, 36), (14, 40), (16, 45)]
ONE_THREE = [(6, 1938), (8, 372), (10, 108), (12, 62), (14, 49), (16, 45)]
TWO_FOUR = [(16, 45), (18, 43), (20, 41), (25, 39), (32, 38), (45, 37), (64, 36), (91, 35)]
TWO_FOUR += [(128, 34), (240, 33)]
FOUR = [(16, 45), (18, 60), (20, 84), (25, 127), (32, 162), (45, 191), (64, 213), (91, 233)]
FOUR += [(128, 252), (240, 281)]


def border(line, width):
    """The batch size of a line at a width, straight between its points on logarithmic axes."""
    widths, batches = np.log(np.array(line, dtype=float)).T
    return math.exp(np.interp(math.log(width), widths, batches)) * (1 + 1e-9)


def drawn(batch, width):
    """The phase in the authors' figure; a cell on a line belongs to the hotter side."""
    if width < 16:
        if width >= 3 and batch <= border(ONE_TWO, width):
            return "II"
        return "III" if width >= 6 and batch > border(ONE_THREE, width) else "I"
    if batch <= border(TWO_FOUR, width):
        return "II"
    return "IV-B" if batch <= border(FOUR, width) else "IV-A"


def summary(**values):
    """One cell, of metrics given as value or as (value, status)."""
    rows = []
    for metric, given in values.items():
        value, status = given if isinstance(given, tuple) else (given, "ok")
        rows.append(("exp", "cell", 8, metric, value, status))
    columns = ["experiment", "cell", "width", "metric", "value", "status"]
    return pd.DataFrame(rows, columns=columns)


def label(trace, connectivity, cka, thresholds=None):
    values = {"log_hessian_trace": trace, "mode_connectivity": connectivity, "cka": cka}
    kept = {name: value for name, value in values.items() if value is not None}
    row = phases(summary(train_loss=0.1, **kept), thresholds).iloc[0]
    return row["phase"], row["status"]


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((5.26, -2.01, 0.9), ("I", "ok")),
        ((5.26, -2.00, 0.9), ("II", "ok")),
        ((5.25, -2.01, 0.9), ("III", "ok")),
        ((5.25, -2.00, 0.70), ("IV-A", "ok")),
        ((5.25, -2.00, 0.71), ("IV-B", "ok")),
        ((5.25, 3.0, 0.71), ("IV-B", "ok")),
        ((6.0, -9.0, None), ("I", "ok")),  # CKA does not decide here
        ((4.0, 0.0, None), ("", "undefined")),
        ((4.0, 0.0, (NAN, "undefined")), ("", "undefined")),
        (((NAN, "diverged"), 0.0, 0.8), ("", "diverged")),
        ((4.0, None, 0.8), ("", "undefined")),
        ((4.0, (NAN, "diverged"), (NAN, "undefined")), ("", "diverged")),
        (((6.0, "unconverged"), 0.0, 0.8), ("II", "unconverged")),
        ((6.0, 0.0, (0.8, "unconverged")), ("II", "ok")),
        ((4.0, 0.0, (0.8, "unconverged")), ("IV-B", "unconverged")),
    ],
)
def test_rule_by_hand(values, expected):
    assert label(*values) == expected


def test_thresholds_are_settings():
    chosen = Thresholds(log_hessian_trace=1.0, mode_connectivity=-5.0, cka=0.2)
    assert label(1.1, -3.0, 0.3, chosen) == ("II", "ok")
    assert label(0.9, -3.0, 0.3, chosen) == ("IV-B", "ok")
    assert label(0.9, -6.0, 0.3, chosen) == ("III", "ok")


def published_phases():
    found = phases(taxonomy_tables.plotted(published.summary()))
    assert list(found) == ["experiment", "cell", "width", "batch_size", "phase", "status"]
    table = found.pivot(index="batch_size", columns="width", values="phase")
    return table.loc[published.BATCHES, published.WIDTHS].to_numpy()


def test_rule_agrees_with_the_authors_drawing():
    reference = np.array([[drawn(b, w) for w in published.WIDTHS] for b in published.BATCHES])
    assert set(reference.flat) == set(PHASES)
    assert (published_phases() == reference).sum() == 155  # of 169: 92%


def test_means_of_the_phases():
    metrics = ["test_accuracy", "train_loss", "cka", "log_hessian_eigenvalue", "log_hessian_trace"]
    metrics += ["mode_connectivity", "l2_distance"]
    expected = {
        "I": (55, 74.9, 0.312, 0.459, 5.16, 7.02, -15.6, 36.2),
        "II": (33, 82.2, 0.154, 0.555, 3.94, 6.14, 2.9, 52.6),
        "III": (14, 81.3, 0.002, 0.527, 2.33, 4.74, -7.0, 38.9),
        "IV-A": (44, 85.2, 0.001, 0.645, 1.79, 4.25, -0.34, 40.5),
        "IV-B": (23, 88.5, 0.001, 0.749, 0.87, 3.68, -0.01, 41.9),
    }
    tolerance = [0, 0.05, 0.0006, 0.0005, 0.006, 0.006, 0.05, 0.05]
    labels = published_phases()
    for phase, numbers in expected.items():
        cells = labels == phase
        found = [cells.sum(), *(published.matrix(metric)[cells].mean() for metric in metrics)]
        assert np.all(np.abs(np.array(found) - numbers) <= np.array(tolerance) + 1e-9), phase
