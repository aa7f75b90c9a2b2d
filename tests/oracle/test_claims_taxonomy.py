"""The claims on the authors' results, against numbers that were worked out independently."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, spearmanr

import published
from lossatlas.claims import checks, verdicts
from lossatlas.claims.grid import grid
from lossatlas.reference import taxonomy_tables

BATCH, WIDTH = np.array(published.BATCHES), np.array(published.WIDTHS)


@pytest.fixture(scope="module")
def table():
    raw = pd.concat([scalars for scalars, _ in published.tables().values()], ignore_index=True)
    return verdicts.claims("taxonomy", {taxonomy_tables.EXPERIMENT: raw})


def row(batch):
    return published.BATCHES.index(batch)


def along_width(metric, first):
    values = published.matrix(metric)[row(first) :]
    return np.array([spearmanr(WIDTH, line).statistic for line in values])


def test_every_claim_has_a_verdict(table):
    """CKA leads the other quantities over all cells by 0.01: no test tells that from nothing."""
    assert list(table) == verdicts.COLUMNS
    assert table["claim"].tolist() == [f"T{n}" for n in range(1, 16)]
    assert table.loc[table["holds"] != "yes", "claim"].tolist() == ["T12"]
    assert table.set_index("claim").loc["T12", "holds"] == "no"
    assert np.isfinite(table["effect"]).all()
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["statement"].str.len() > 20).all()
    assert set(table["paper"]) == {"Yang et al. 2021"}
    assert set(table["threshold"]) == {"none", "fitted", "config"}


@pytest.mark.parametrize(
    ("claim", "effect", "observed"),
    [
        ("T1", -0.975, "in the mean of 13 rows (-1.00 to -0.87); so without one replica: 5 of 5"),
        ("T2", 0.965, "in the mean of 10 rows (0.91 to 0.98)"),
        ("T3", 4.648, "peak 7.6 at width 11, 2.7 at the widest"),
        ("T4", -0.927, "in the mean of 6 widths (-0.98 to -0.79)"),
        ("T5", -0.913, "in the mean of 11 rows (-0.99 to -0.64)"),
        ("T6", -0.884, "32 at batch size 44, 4 at 1024; loss falls 8.0-fold there, 1.5-fold"),
        ("T7", 0.986, "rho 0.99 over 169 cells"),
        ("T8", 0.950, "0.17 higher at batch size 64 to 92 than at 16 and 1024 (at least 0.13)"),
        ("T9", 0.951, "best cell 89.91% in phase IV-B; best 17: |mc| <= 0.04, "),
        ("T9", 0.951, "CKA >= 0.68, log trace <= 4.05"),
        ("T10", 3.258, "so ordered in 54 of 54 choices of other thresholds"),
        ("T11", 2.083, "CKA 0.86, trace -0.44"),
        ("T12", 0.011, "cka 0.94, log_hessian_trace -0.81, mode_connectivity 0.74, "),
        ("T12", 0.011, "log_hessian_eigenvalue -0.74, l2_distance 0.31; all: cka 0.89, "),
        ("T12", 0.011, "eigenvalue -0.87, log_hessian_trace -0.87, train_loss -0.78, "),
        ("T12", 0.011, "mode_connectivity 0.61, l2_distance 0.42"),
        ("T13", -0.651, "128 at width 2, 44 at 128"),
        ("T14", 0.996, "-1.00 from width 45 up in 2 rows from 724 up"),
        ("T15", 0.684, "26 cells, train loss >= 0.039, log trace >= 5.95"),
    ],
)
def test_stated_numbers(table, claim, effect, observed):
    found = table[table["claim"] == claim].iloc[0]
    assert found["effect"] == pytest.approx(effect, abs=6e-4)
    assert observed in found["observed"]


def test_effects_by_another_way(table):
    """Mean rank correlations of rows, and a share of pairs, as scipy has them."""
    effect = table.set_index("claim")["effect"]
    for claim, metric, first in (
        ("T1", "train_loss", 16),
        ("T2", "mode_connectivity", 44),
        ("T5", "log_hessian_trace", 32),
    ):
        assert effect[claim] == pytest.approx(along_width(metric, first).mean())
    mc, loss, trace = (
        published.matrix(m).ravel()
        for m in ("mode_connectivity", "train_loss", "log_hessian_trace")
    )
    shares = [
        mannwhitneyu(one[mc > 1], one[mc <= 1]).statistic / ((mc > 1).sum() * (mc <= 1).sum())
        for one in (loss, trace)
    ]
    assert effect["T15"] == pytest.approx(min(shares))


def test_leaving_out_any_replica_keeps_the_verdicts(table):
    """The thresholds that were fitted to the whole grid did not survive that."""
    whole = table.set_index("claim")["effect"]
    for seed in (0, 3):
        raw = published.scalars()
        of = ((raw["replica"] == seed) | (raw["partner"] == seed)).fillna(False)
        single = raw["metric"].isin(("mode_connectivity", "path_bump", "path_dip"))
        found = verdicts.claims("taxonomy", {"e": raw[~of.astype(bool) | single]})
        found = found.set_index("claim")
        lost = set(found.index[found["holds"] != "yes"])
        assert {"T12"} <= lost <= {"T12", "T13", "T14"}  # the two with the largest p
        assert (found["effect"] * whole > 0).all()


def test_t2_the_deepest_barrier_is_not_at_the_narrowest_width():
    deepest = WIDTH[published.matrix("mode_connectivity")[row(64) :].argmin(axis=1)]
    assert set(deepest) == {3, 4}


def test_t3_the_hot_edge():
    mc = published.matrix("mode_connectivity")
    assert spearmanr(WIDTH, mc[0]).statistic == pytest.approx(-0.37, abs=0.005)
    for batch, first in ((24, 8), (32, 11)):
        values = mc[row(batch)]
        assert np.all(values[first <= WIDTH] > 0)
        assert values[first > WIDTH][-1] < 0


def test_t5_no_trend_of_the_trace_at_the_hot_edge():
    assert along_width("log_hessian_trace", 32)[:-1].max() <= -0.85
    hot = [spearmanr(WIDTH, line).statistic for line in published.matrix("log_hessian_trace")[:2]]
    assert np.abs(hot).max() < 0.2


def test_t6_where_the_trace_drops():
    drops = -np.diff(published.matrix("log_hessian_trace"), axis=1)
    at = {int(b): int(WIDTH[drop.argmax()]) for b, drop in zip(BATCH, drops, strict=True)}
    assert [at[b] for b in (44, 64, 92, 128)] == [32, 11, 6, 6]
    assert {at[int(b)] for b in BATCH[BATCH >= 180]} == {4}
    largest = drops.max(axis=1)[row(180) :]
    assert (largest.min(), largest.max()) == pytest.approx((1.57, 2.25), abs=0.005)
    loss = published.matrix("train_loss")[row(64) :]
    step = drops[row(64) :].argmax(axis=1)
    fold = [line[s] / line[s + 1] for line, s in zip(loss, step, strict=True)]
    assert 4 < min(fold) < max(fold) < 30


def test_t9_the_best_cell():
    numbers = {
        "train_loss": 0.0009,
        "mode_connectivity": 0,
        "cka": 0.755,
        "log_hessian_trace": 3.51,
    }
    assert np.argmax(published.matrix("test_accuracy")) == row(44) * 13 + 12
    for metric, value in numbers.items():
        assert published.matrix(metric)[row(44), 12] == pytest.approx(value, abs=0.003)


def test_t10_two_and_three_are_not_ordered():
    arranged = grid(taxonomy_tables.plotted(published.summary()))
    accuracy = arranged["test_accuracy"]
    choices = list(checks._threshold_choices(arranged))
    assert len({choice.tobytes() for choice in choices}) > 40
    gaps = [accuracy[c == "II"].mean() - accuracy[c == "III"].mean() for c in choices]
    assert min(gaps) < 0 < max(gaps)


def test_t11_at_matched_trace():
    """Under R1 12 cells of III; with mc < -1 for poor it is 13, a cell at -1.87 more."""
    trace, mc, accuracy, cka = (
        published.matrix(m)
        for m in ("log_hessian_trace", "mode_connectivity", "test_accuracy", "cka")
    )
    matched = (trace > 4.4) & (trace < 5.1)
    for poor, three, four in ((-2, (12, 81.48), (13, 83.72)), (-1, (13, 81.75), (12, 83.61))):
        for cells, (count, mean) in ((mc < poor, three), (mc >= poor, four)):
            found = accuracy[matched & cells]
            assert found.size == count
            assert found.mean() == pytest.approx(mean, abs=0.005)
    band = (trace >= 4.3) & (trace <= 5.3)
    assert band.sum() == 31
    for values, expected in ((cka, 0.89), (mc, 0.63), (trace, -0.51)):
        found = spearmanr(accuracy[band], values[band]).statistic
        assert found == pytest.approx(expected, abs=0.005)


def test_t12_converged_cells():
    assert (published.matrix("train_loss") < checks.CONVERGED).sum() == 93


def test_t13_best_batch_size_of_each_width():
    best = BATCH[published.matrix("test_accuracy").argmax(axis=0)]
    found = dict(zip(WIDTH.tolist(), best.tolist(), strict=True))
    sure = {2: 128, 8: 92, 11: 92, 16: 92, 23: 64, 32: 64, 45: 64, 64: 44, 91: 64, 128: 44}
    assert found | sure == found


def test_t14_where_the_widest_is_best():
    accuracy = published.matrix("test_accuracy")
    best = WIDTH[accuracy.argmax(axis=1)]
    warm = BATCH <= 128
    assert BATCH[warm & (best != 128)].tolist() == [24]
    falls = (accuracy.max(axis=1) - accuracy[:, -1])[BATCH >= 724]
    assert np.round(falls, 1).tolist() == [0.7, 1.6]


def test_t15_training_accuracy_where_connectivity_is_positive():
    cells = published.matrix("mode_connectivity") > 1
    loss = published.matrix("train_loss")[cells]
    assert (loss.min(), loss.max()) == pytest.approx((0.039, 0.71), abs=0.005)
    performance = published.tables()["performance"][0].query("metric == 'train_accuracy'")
    mean = performance.groupby(["batch_size", "width"])["value"].mean().unstack()
    accuracy = mean.loc[published.BATCHES, published.WIDTHS].to_numpy()[cells]
    assert (round(accuracy.min()), round(accuracy.max())) == (75, 99)


def test_all_210_cells_and_the_plotted_ones_give_the_same_verdicts(table):
    found = verdicts.claims("taxonomy", {"e": published.scalars()})
    columns = [name for name in table if name != "experiment"]
    pd.testing.assert_frame_equal(found[columns], table[columns])
