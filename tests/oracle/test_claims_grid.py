"""Claims on made-up grids: what cannot be tested says so, what is false is found out."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published
from lossatlas.claims import verdicts
from lossatlas.claims.grid import NotTestableError, grid, rho
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import PANELS

METRICS = list(PANELS)


def made(batches, widths, value, axes=("width", "batch_size")):
    """A summary of a grid; value(metric, batch, width) may be NaN."""
    rows = [
        ("exp", f"{b}-{w}", w, b, metric, value(metric, b, w))
        for w in widths
        for b in batches
        for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=["experiment", "cell", *axes, "metric", "value"])
    table["status"] = np.where(table["value"].isna(), "undefined", "ok")
    return table


def verdict(table, claim):
    found = verdicts.taxonomy_claims({"exp": table}).set_index("claim").loc[claim]
    return found["holds"], found["observed"]


def test_arrays_are_batch_size_by_width():
    table = made([512, 64], [8, 2, 4], lambda m, b, w: b * 1000 + w)
    arranged = grid(table.sample(frac=1, random_state=0))
    assert arranged.batch.tolist() == [64, 512]
    assert arranged.width.tolist() == [2, 4, 8]
    assert arranged["cka"].tolist() == [[64002, 64004, 64008], [512002, 512004, 512008]]
    part = arranged.part(batch=(100, math.inf), width=(0, 4))
    assert part["cka"].tolist() == [[512002, 512004]]
    assert part.phase.shape == (1, 2)
    with pytest.raises(NotTestableError, match="no cell has batch size of 1000 or more"):
        arranged.part(batch=(1000, math.inf))


def test_rho_by_hand():
    assert rho(np.arange(5), np.array([1, 2, 3, 5, 4])) == pytest.approx(0.9)  # 1 - 6*2/(5*24)
    assert rho(np.arange(4), np.array([1, math.nan, 0, -1])) == -1
    assert rho(np.arange(3), np.ones(3)) == 0
    with pytest.raises(NotTestableError, match="2 points"):
        rho(np.arange(3), np.array([1, 2, math.nan]))


def test_other_axes_and_absent_metrics_are_not_testable():
    other = made([1, 2, 3], [1, 2, 3], lambda *_: 1.0, axes=("depth", "batch_size"))
    found = verdicts.taxonomy_claims({"exp": other})
    assert set(found["holds"]) == {"not testable"}
    assert found["observed"].str.startswith("its axes are depth, batch_size").all()
    assert found["effect"].isna().all()
    table = made([64, 128, 256], [2, 4, 8], lambda m, b, w: w + b)
    for metric, claim in (("train_loss", "T1"), ("cka", "T12"), ("log_hessian_trace", "T7")):
        assert verdict(table[table["metric"] != metric], claim)[0] == "not testable"


@pytest.mark.parametrize(
    ("claim", "batches", "widths", "reason"),
    [
        ("T1", [64], [2, 4], "fewer than 3 widths with train_loss"),
        ("T2", [16, 32], [2, 4, 64], "batch size of 44 or more"),
        ("T2", [16, 64], [2, 4, 8], "no cell has batch size >= 44 and width >= 23"),
        ("T3", [64, 128], [2, 4, 8, 16], "batch size of 16 or less"),
        ("T4", [64, 128], [2, 4, 8], "fewer than 3 batch sizes with mode_connectivity"),
        ("T4", [64, 128, 256], [16, 32], "width from 2 to 11"),
        ("T5", [8, 16], [2, 4, 8], "batch size of 32 or more"),
        ("T6", [16, 32, 64], [2, 4, 8], "fewer than 3 widths, or batch sizes >= 44"),
        ("T8", [64, 128], [2, 4, 16], "needs batch sizes 16, 1024"),
        ("T10", [64], [4], "some phase is empty"),
        ("T11", [64], [4], "phase III at log trace 4.4 to 5.1"),
        ("T13", [64, 128], [2, 4, 8], "fewer than 3 batch sizes"),
        ("T14", [64, 1024], [2, 4, 8], "one beyond 45"),
        ("T14", [64, 128], [2, 4, 64], "batch size of 724 or more"),
        ("T15", [64], [4], "mode connectivity above 1"),
    ],
)
def test_grids_without_the_cells_say_so(claim, batches, widths, reason):
    holds, observed = verdict(made(batches, widths, lambda m, b, w: 0.5 + w / 1000), claim)
    assert holds == "not testable"
    assert reason in observed


def spoiled(metric, change):
    """The authors' cells with one metric changed."""
    table = taxonomy_tables.plotted(published.summary()).copy()
    rows = table["metric"] == metric
    table.loc[rows, "value"] = change(table[rows])
    table["experiment"] = "exp"
    return table


@pytest.mark.parametrize(
    ("claim", "metric", "change"),
    [
        ("T1", "train_loss", lambda t: -t["value"]),
        ("T1", "train_loss", lambda t: t["value"].where(t["batch_size"] != 64, t["width"])),
        ("T2", "mode_connectivity", lambda t: t["value"].where(t["width"] < 128, 2.0)),
        ("T2", "mode_connectivity", lambda t: t["value"].clip(lower=-9.0)),
        ("T3", "mode_connectivity", lambda t: t["value"].clip(upper=1.0)),
        ("T3", "mode_connectivity", lambda t: t["value"] + t["width"]),
        ("T4", "mode_connectivity", lambda t: t["value"].where(t["width"] != 6, t["batch_size"])),
        ("T5", "log_hessian_trace", lambda t: -t["value"]),
        ("T6", "log_hessian_trace", lambda t: -t["value"]),
        ("T6", "train_loss", lambda t: t["value"] + 1),
        ("T7", "log_hessian_trace", lambda t: t["value"].sample(frac=1, random_state=0).to_numpy()),
        ("T8", "cka", lambda t: t["value"].where(t["batch_size"] != 1024, 0.75)),
        ("T8", "cka", lambda t: 1 - t["value"]),
        ("T8", "cka", lambda t: t["value"] + 0.1 * t["batch_size"].between(100, 200)),
        ("T9", "test_accuracy", lambda t: -t["value"]),
        ("T9", "log_hessian_trace", lambda t: t["value"] + 1),
        ("T9", "mode_connectivity", lambda t: t["value"] - 0.1),
        ("T10", "test_accuracy", lambda t: -t["value"]),
        ("T10", "test_accuracy", lambda t: t["value"].where(~t["width"].isin((8, 11)), 86.0)),
        ("T11", "test_accuracy", lambda t: -t["value"]),
        ("T12", "cka", lambda t: t["value"].sample(frac=1, random_state=0).to_numpy()),
        ("T12", "l2_distance", lambda t: t["cell"].map(accuracy()).round(-1)),
        ("T13", "test_accuracy", lambda t: t["batch_size"] * t["width"]),
        ("T14", "test_accuracy", lambda t: t["value"] - 1.1 * (t["width"] == 91)),
        ("T14", "test_accuracy", lambda t: t["width"].astype(float)),
        ("T15", "train_loss", lambda t: t["value"] / 10),
        ("T15", "log_hessian_trace", lambda t: t["value"] - 1),
    ],
)
def test_a_spoiled_archive_is_found_out(claim, metric, change):
    assert verdict(spoiled(metric, change), claim)[0] == "no"


def test_t6_the_step_must_move():
    def stepping(at):
        def value(metric, batch, width):
            low = width > at[batch]
            return 0.1 ** (1 + low) if metric == "train_loss" else 8.0 - width / 100 - 3 * low

        return made(at, [2, 4, 8, 16], value)

    assert verdict(stepping({64: 8, 128: 4, 256: 2}), "T6")[0] == "yes"
    assert verdict(stepping({64: 4, 128: 4, 256: 4}), "T6")[0] == "no"
    assert verdict(stepping({64: 8, 128: 2, 256: 4}), "T6")[0] == "no"


def test_t12_distance_must_be_the_worst_proxy():
    def value(metric, batch, width):
        noise = {"l2_distance": second, "mode_connectivity": third}.get(metric, 0.0)
        return 0.01 * noise * (batch * 7 % 5 - width % 3) + width / 1000

    second, third = 0.5, 0.2
    assert verdict(made([64, 128, 256], [2, 4, 8], value), "T12")[0] == "yes"
    second, third = 0.2, 0.5
    holds, observed = verdict(made([64, 128, 256], [2, 4, 8], value), "T12")
    assert holds == "no"
    assert "converged: cka 1.00" in observed


def accuracy():
    rows = published.summary().query("metric == 'test_accuracy'")
    return dict(zip(rows["cell"], rows["value"], strict=True))


def test_thresholds_move_the_phases():
    table = spoiled("cka", lambda t: t["value"])
    strict = verdicts.taxonomy_claims(
        {"exp": table}, Thresholds(rule="published", cka=0.99)
    ).set_index("claim")
    assert strict.loc["T9", "holds"] == "no"
    assert "in IV-A" in strict.loc["T9", "observed"]


def test_experiments_stand_side_by_side():
    small = made([64, 128, 256], [2, 4, 8], lambda m, b, w: -float(w))
    both = verdicts.taxonomy_claims({"one": small, "two": small})
    assert both["claim"].tolist() == [f"T{n}" for n in range(1, 16) for _ in range(2)]
    assert both["experiment"].tolist() == ["one", "two"] * 15
    assert both.query("claim == 'T1'")["holds"].tolist() == ["yes", "yes"]
    assert verdicts.taxonomy_claims({}).empty


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), absent=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_no_grid_crashes_a_claim(seed, absent):
    random = np.random.default_rng(seed)
    batches = random.choice(published.BATCHES, random.integers(1, 8), replace=False)
    widths = random.choice(published.WIDTHS, random.integers(1, 8), replace=False)
    scale = {"cka": 1, "test_accuracy": 90, "train_loss": 0.3, "mode_connectivity": -9}

    def value(metric, _batch, _width):
        if random.random() < absent:
            return math.nan
        return float(np.round(random.random() * scale.get(metric, 9), random.integers(0, 5)))

    found = verdicts.taxonomy_claims({"exp": made(batches, widths, value)})
    assert set(found["holds"]) <= {"yes", "no", "not testable"}
    assert ((found["holds"] == "not testable") == found["effect"].isna()).all()
    assert (found["observed"].str.len() > 0).all()


def test_names_of_claims_are_distinct():
    names = verdicts.taxonomy_claims({"exp": made([1], [1], lambda *_: 0.0)})["claim"]
    assert all(a != b for a, b in itertools.combinations(names, 2))
