"""Rule R1 against the boundaries that the authors drew, and by hand."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import published
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Thresholds
from lossatlas.store import Scalar
from lossatlas.tables.collect import cell_summary, scalar_frame
from lossatlas.tables.phases import FEWEST, PHASES, PROBABILITIES, flat_limit, phases

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
    head = ["experiment", "cell", "width", "batch_size", "phase", "status", "learned"]
    assert list(found) == [*head, *PROBABILITIES, "probability_status"]
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


def simulated(random, count, replicas=3, classes=10, together=0.0):
    """A grid of cells whose true numbers lie around the thresholds of R1, and their true phases.

    Returns:
        Its summary, made by what makes those of experiments, and the true phases.
    """
    trace, connectivity, cka = (
        random.uniform(low, high, count) for low, high in ((3.25, 7.25), (-5, 1), (0.5, 0.92))
    )
    cells = {}
    pairs = [(a, b) for a in range(replicas) for b in range(a + 1, replicas)]
    for row in range(count):
        shared = together * random.normal(size=replicas)
        own = random.normal(size=(3, replicas))
        effects = (shared + np.sqrt(1 - together**2) * own) * np.array([[0.5], [0.6], [0.05]])
        traces = np.exp(trace[row] + effects[0] - 0.5**2 / 2)
        rows = [Scalar("hessian_trace", t, r) for r, t in enumerate(traces)]
        rows += [Scalar("train_loss", 0.1 + 0.01 * random.normal(), r) for r in range(replicas)]
        rows.append(Scalar("chance_loss", math.log(classes)))
        for a, b in pairs:
            barrier = connectivity[row] + effects[1, a] + effects[1, b]
            rows.append(Scalar("mode_connectivity", barrier, a, b))
            rows.append(Scalar("cka", cka[row] + effects[2, a] + effects[2, b], a, b))
        cells[f"c{row}"] = rows
    table = scalar_frame("e", {cell: {"width": row} for row, cell in enumerate(cells)}, cells)
    four = np.where(cka >= 0.71, "IV-B", "IV-A")
    connected = np.where(trace <= 5.25, four, "II")
    truth = np.where(connectivity < -2, np.where(trace <= 5.25, "III", "I"), connected)
    return cell_summary(table), truth


@pytest.mark.parametrize("replicas", [3, 5])
@pytest.mark.parametrize("together", [0.0, 0.7])
def test_stated_probabilities_come_true(replicas, together):
    """Of phases that are stated with 70 to 80%, about that share is true, and so on."""
    made, truth = simulated(np.random.default_rng(replicas), 500, replicas, together=together)
    found = phases(made)
    stated = np.concatenate([found[f"p_{phase}"] for phase in PHASES])
    true = np.concatenate([truth == phase for phase in PHASES])
    edges = np.array([0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
    for low, high in pairwise(edges):
        some = (stated >= low) & (stated <= high)
        assert some.sum() > 20
        noise = 3 * np.sqrt(0.25 / some.sum())
        assert abs(true[some].mean() - stated[some].mean()) < 0.04 + noise, (low, high)
    assert found[list(PROBABILITIES)].sum(axis=1).to_numpy() == pytest.approx(1)


def test_the_median_of_the_grid_is_taken_anew_in_each_draw():
    """A cell at the median is as likely flat as sharp, though its own number is the threshold."""
    made, _ = simulated(np.random.default_rng(1), 9)
    found, limits = phases(made, Thresholds(rule="nulls")), Thresholds(rule="nulls")
    traces = made[made["metric"] == "log_hessian_trace"]
    assert flat_limit(made, limits) == pytest.approx(traces["value"].median())
    at = found.iloc[int((traces["value"] - traces["value"].median()).abs().to_numpy().argmin())]
    assert 0.3 < at["p_III"] + at["p_IV-A"] + at["p_IV-B"] < 0.9
    fixed = Thresholds(rule="nulls", log_hessian_trace=flat_limit(made, limits) + 1e-9)
    again = phases(made, fixed)
    assert (again["phase"] == found["phase"]).all()
    assert not np.allclose(again["p_III"], found["p_III"], atol=0.02)


def grid_of(*cells):
    """A summary of cells, each metric -> numbers of its replicas or pairs."""
    rows = {
        f"c{place}": [
            Scalar(metric, value, *(pair or ()))
            for metric, values in cell.items()
            for value, pair in zip(values, who(metric, len(values)), strict=True)
        ]
        for place, cell in enumerate(cells)
    }
    axes = {name: {"width": place} for place, name in enumerate(rows)}
    return cell_summary(scalar_frame("e", axes, rows))


def who(metric, count):
    if metric == "chance_loss":
        return [()]
    if metric in ("cka", "mode_connectivity"):
        return [(0, 1), (0, 2), (1, 2)][:count]
    return [(replica,) for replica in range(count)]


def cell(trace=(50.0, 60.0, 70.0), connectivity=(-0.1, 0.1, 0.02), loss=(0.1, 0.2, 0.15)):
    found = {"hessian_trace": trace, "mode_connectivity": connectivity, "train_loss": loss}
    return {**found, "cka": (0.8, 0.82, 0.81), "chance_loss": (math.log(10),)}


CHANCE = (2.25, 2.27, 2.24)  # nats: networks with 17% right of ten classes


@pytest.mark.parametrize("rule", ["nulls", "published"])
def test_networks_at_chance_have_no_phase(rule):
    """By R1 alone they are flat, connected and alike: IV-B, the best phase."""
    calm = {"trace": (1.0, 1.1, 1.2), "connectivity": (0.0, 0.1, -0.1)}
    made = grid_of(*[cell(**calm, loss=CHANCE)] * 4)
    found = phases(made, Thresholds(rule=rule))
    assert set(found["phase"]) == {""}
    assert set(found["learned"]) == {"no"}
    assert set(found["status"]) == {"undefined"}
    assert (found["p_unlearned"] > 0.9).all()
    without = phases(made[made["metric"] != "chance_loss"])
    assert set(without["phase"]) == {"IV-B"}
    assert set(without["learned"]) == {"not tested"}


def test_cells_at_chance_move_no_threshold():
    learned = [cell(trace=np.array([0.9, 1.0, 1.1]) * t) for t in (10.0, 100.0, 1000.0)]
    limits = Thresholds(rule="nulls")
    lost = [cell(trace=(1e-3, 2e-3, 1e-3), loss=CHANCE)] * 5
    assert flat_limit(grid_of(*learned, *lost), limits) == flat_limit(grid_of(*learned), limits)


def test_connected_is_what_lies_within_its_error_of_0():
    near, far = (-1.0, 0.4, 0.1), (-3.0, -3.2, -3.1)
    cells = [cell(connectivity=c) for c in (near, far, near)]
    found = phases(grid_of(*cells), Thresholds(rule="nulls"))
    assert [p in ("I", "III") for p in found["phase"]] == [False, True, False]


ONE = {"trace": (50.0,), "connectivity": (-0.1,), "loss": (0.1,)}
SAME = {"trace": (50.0,) * 3, "connectivity": (0.0,) * 3, "loss": (0.1,) * 3}


@pytest.mark.parametrize("rule", ["nulls", "published"])
@pytest.mark.parametrize("bad", [ONE, SAME], ids=["one replica", "equal replicas"])
def test_without_errors_there_are_phases_and_no_probabilities(bad, rule):
    found = phases(grid_of(*[cell(**bad)] * FEWEST), Thresholds(rule=rule))
    assert (found["phase"] != "").all()
    assert found[list(PROBABILITIES)].isna().all(axis=None)
    assert set(found["probability_status"]) == {"undefined"}


def test_one_cell_is_no_grid():
    found = phases(grid_of(cell()), Thresholds(rule="nulls")).iloc[0]
    assert (found["phase"], found["status"], found["probability_status"]) == (
        "",
        "undefined",
        "undefined",
    )
    found = phases(grid_of(cell())).iloc[0]
    assert (found["phase"], found["probability_status"]) == ("IV-B", "ok")


@pytest.mark.parametrize("status", ["diverged", "undefined"])
@pytest.mark.parametrize("rule", ["nulls", "published"])
def test_nothing_left_of_any_cell(status, rule):
    rows = {
        f"c{k}": [Scalar(name, math.nan, 0, status=status) for name in ("hessian_trace", "cka")]
        for k in range(3)
    }
    made = cell_summary(scalar_frame("e", {n: {"width": k} for k, n in enumerate(rows)}, rows))
    found = phases(made, Thresholds(rule=rule))
    assert set(found["phase"]) == {""}
    assert set(found["status"]) == {status}
    assert found[list(PROBABILITIES)].isna().all(axis=None)


def test_an_empty_grid_has_no_phases():
    made = grid_of(cell())
    assert phases(made[:0]).empty
