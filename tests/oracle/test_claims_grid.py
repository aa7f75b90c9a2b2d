"""Claims about grids: what enters, what is left out, and what an experiment is asked."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published
from lossatlas.claims import verdicts
from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.grid import copies, grid, grids, rho
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import PANELS, cell_summary

PAIRED = ("mode_connectivity", "cka", "l2_distance")


def scalars(batches, widths, value, replicas=3, axes=("width", "batch_size")):
    """Scalars of a grid; value(quantity, batch, width, replica) is what figures draw."""
    rows = []
    for w, b, (panel, (metric, logarithm)) in itertools.product(widths, batches, PANELS.items()):
        for k in range(replicas):
            partner = (k + 1) % replicas if panel in PAIRED else None
            if panel in PAIRED and (replicas < 2 or (replicas == 2 and k)):
                continue
            number = value(panel, b, w, k)
            number = math.exp(number) if logarithm else number
            status = "ok" if math.isfinite(number) else "undefined"
            rows.append(("exp", f"{b}-{w}", w, b, metric, k, partner, number, status))
    columns = ["experiment", "cell", *axes, "metric", "replica", "partner", "value", "status"]
    table = pd.DataFrame(rows, columns=columns)
    for name in ("stderr", "df"):
        table.insert(len(table.columns) - 1, name, np.nan)
    return table.astype({"replica": "Int64", "partner": "Int64"})


def falling(metric, batch, width, replica):
    """Everything falls with width and batch size, a little otherwise in each replica."""
    del metric
    return 1 - 0.05 * math.log(width) - 0.01 * math.log(batch) + 1e-4 * replica * width


def numbered(metric, batch, width, replica):
    return -1.0 if metric.startswith("log") else batch * 1000.0 + width + 1e-6 * replica


def judged(tables, known=None):
    return verdicts.claims("taxonomy", tables, known).set_index(["claim", "experiment"])


def test_arrays_are_batch_size_by_width():
    table = scalars([512, 64], [8, 2, 4], numbered)
    table = table.sample(frac=1, random_state=0)
    arranged = grid(cell_summary(table))
    assert arranged.batch.tolist() == [64, 512]
    assert arranged.width.tolist() == [2, 4, 8]
    assert arranged["cka"].round().tolist() == [[64002, 64004, 64008], [512002, 512004, 512008]]
    part = arranged.part(batch=(100, math.inf), width=(0, 4))
    assert part["cka"].round().tolist() == [[512002, 512004]]
    assert part.phase.shape == (1, 2)
    with pytest.raises(NotTestableError, match="no cell has batch size of 1000 or more"):
        arranged.part(batch=(1000, math.inf))


def test_rho_by_hand():
    assert rho(np.arange(5), np.array([1, 2, 3, 5, 4])) == pytest.approx(0.9)  # 1 - 6*2/(5*24)
    assert rho(np.arange(4), np.array([1, math.nan, 0, -1])) == pytest.approx(-1)
    assert rho(np.arange(3), np.ones(3)) == 0
    with pytest.raises(NotTestableError, match="2 points"):
        rho(np.arange(3), np.array([1, 2, math.nan]))


def test_replicas_are_left_out_one_by_one():
    def value(metric, batch, width, replica):
        return 0.0 if metric.startswith("log") else float(width + (0, 1, 100)[replica])

    table = scalars([64], [1, 2, 4], value)
    found = grids(table)
    assert found.whole["train_loss"][0, 0] == pytest.approx(1 + 101 / 3)
    assert [part["train_loss"][0, 0] for part in found.left_out] == [51.5, 51, 1.5]
    assert not found.same({"train_loss"})


def test_the_one_pair_of_the_published_connectivity_stays():
    found = grids(published.scalars())
    assert len(found.left_out) == 5
    assert found.same({"mode_connectivity"})
    assert not found.same({"mode_connectivity", "cka"})
    row = judged({"e": published.scalars()}).loc[("T2", "e")]
    assert "of one pair of replicas, so that none can be left out" in row["observed"]
    assert math.isnan(row["low"])


def test_equal_replicas_count_once():
    table = scalars([64, 128, 256], [2, 4, 8], lambda m, b, w, k: falling(m, b, w, k % 2))
    assert copies(table) == [2]
    same = scalars([64, 128, 256], [2, 4, 8], lambda m, b, w, k: falling(m, b, w, 0), replicas=2)
    found = judged({"e": same})
    assert set(found["holds"]) == {"not testable"}
    assert set(found["observed"]) == {"one independent replica"}


def test_numbers_that_did_not_converge_are_left_out_and_told():
    table = scalars([64, 128, 256, 512], [2, 4, 8, 16], falling)
    rough = (table["metric"] == "hessian_trace") & (table["width"] == 16)
    table.loc[rough, ["value", "status"]] = [1e9, "unconverged"]
    row = judged({"e": table}).loc[("T5", "e")]
    assert row["units"] == 12
    assert row["holds"] == "yes"
    assert "4 numbers did not converge and are left out" in row["observed"]


@pytest.mark.parametrize(
    ("claim", "batches", "widths", "reason"),
    [
        ("T1", [64], [2, 4], "fewer than 3 widths with train_loss"),
        ("T2", [16, 32], [2, 4, 64], "batch size of 44 or more"),
        ("T3", [64, 128], [2, 4, 8, 16], "batch size of 16 or less"),
        ("T4", [64, 128], [2, 4, 8], "fewer than 3 batch sizes with mode_connectivity"),
        ("T4", [64, 128, 256], [16, 32], "width from 2 to 11"),
        ("T5", [8, 16], [2, 4, 8], "batch size of 32 or more"),
        ("T6", [16, 32, 64], [2, 4, 8], "fewer than 3 widths, or batch sizes >= 44"),
        ("T8", [64, 128], [2, 4, 16], "needs batch sizes 16, 1024"),
        ("T10", [64], [4], "no cell is in phase"),
        ("T11", [64], [4], "phase III"),
        ("T13", [64, 128], [2, 4, 8], "fewer than 3 batch sizes"),
        ("T14", [64, 1024], [2, 4, 8], "width of 45 or more"),
        ("T14", [64, 128], [2, 4, 64], "batch size of 724 or more"),
        ("T15", [64], [4], "no cell has mc above 1"),
    ],
)
def test_grids_without_the_cells_say_so(claim, batches, widths, reason):
    row = judged({"e": scalars(batches, widths, falling)}).loc[(claim, "e")]
    assert row["holds"] == "not testable"
    assert reason in row["observed"]


def test_few_cells_give_no_verdict():
    """T9 and T15 said no and yes of one cell."""

    def value(metric, batch, width, replica):
        low = {"mode_connectivity": 2.0 if (batch, width) == (64, 2) else 0.0}
        return low.get(metric, falling(metric, batch, width, replica))

    found = judged({"e": scalars([64, 128, 256], [2, 4, 8], value)})
    for claim in ("T9", "T15"):
        row = found.loc[(claim, "e")]
        assert row["holds"] == "not testable"
        assert "1 cells: p can be no smaller than 0.11" in row["observed"]


def test_ties_are_no_order_of_a_list():
    """T12 with CKA and the trace equal: neither is best."""

    def value(metric, batch, width, replica):
        noise = math.sin(7 * batch + 3 * width) if metric == "l2_distance" else 0.0
        return falling("", batch, width, replica) - 1 + noise

    row = judged({"e": scalars([64, 128, 256], [2, 4, 8], value)}).loc[("T12", "e")]
    assert row["effect"] == 0
    assert row["holds"] == "not testable"


def test_thresholds_of_the_config_reach_the_phases():
    """With its thresholds changed, the phases of T10 change, or are empty."""
    table = published.scalars()
    rule = judged({"e": table}).loc[("T10", "e"), "observed"]
    moved = {"thresholds": Thresholds(cka=0.6).model_dump()}
    assert judged({"e": table}, {"e": moved}).loc[("T10", "e"), "observed"] != rule
    none = {"thresholds": Thresholds(cka=0.99).model_dump()}
    assert (
        "no cell is in phase IV-B"
        in judged({"e": table}, {"e": none}).loc[("T10", "e"), "observed"]
    )


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"label_noise": [0.1]}, "10% of the labels are drawn anew"),
        ({"rate": "constant"}, "the learning rate is constant"),
        ({"rate": "constant, scaled by the batch size"}, "scaled by the batch size"),
        ({"classes": 100}, "there are 100 classes"),
        ({"pixel_noise": [0.2]}, "pixels have noise of 0.2"),
    ],
)
def test_where_the_paper_does_not_claim_it(known, reason):
    facts = {"classes": 10, "label_noise": [0.0], "pixel_noise": [0.0], "rate": "decay"} | known
    found = judged({"e": scalars([64, 128, 256], [2, 4, 8], falling)}, {"e": facts})
    assert set(found["holds"]) == {"not testable"}
    assert found["observed"].str.contains(reason, regex=False).all()
    assert set(found["condition"]) == {
        "clean labels of 10 classes and a decay of the learning rate"
    }


def test_other_axes_have_no_rows_and_absent_metrics_are_not_testable():
    other = scalars([1, 2, 3], [1, 2, 3], falling, axes=("depth", "batch_size"))
    assert judged({"e": other}).empty
    with pytest.raises(NotTestableError, match="its axes are depth, batch_size, not width"):
        grids(other)
    table = scalars([64, 128, 256], [2, 4, 8], falling)
    for metric, claim in (("train_loss", "T1"), ("cka", "T12"), ("hessian_trace", "T7")):
        row = judged({"e": table[table["metric"] != metric]}).loc[(claim, "e")]
        assert row["holds"] == "not testable"


def test_experiments_stand_side_by_side_and_confirm_nothing_of_each_other():
    """A cell decides a claim once; an experiment with cells of its own is judged on those."""
    small = scalars([64, 128, 256], [2, 4, 8], falling)
    more = scalars([64, 128, 256, 512, 724, 1024], [2, 4, 8], falling)
    both = verdicts.claims("taxonomy", {"one": small, "two": small, "three": more})
    assert both["claim"].tolist() == [f"T{n}" for n in range(1, 16) for _ in range(3)]
    assert both["experiment"].tolist() == ["one", "two", "three"] * 15
    first = both.query("claim == 'T1'").set_index("experiment")
    assert first["holds"].tolist() == ["yes", "not testable", "yes"]
    assert first.loc["two", "observed"] == "all its cells are cells of one, which is judged"
    assert first["units"].tolist() == [9, 0, 9]
    assert verdicts.claims("taxonomy", {}).empty


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), absent=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_no_grid_crashes_a_claim(seed, absent):
    random = np.random.default_rng(seed)
    batches = random.choice(published.BATCHES, random.integers(1, 6), replace=False)
    widths = random.choice(published.WIDTHS, random.integers(1, 6), replace=False)
    scale = {"cka": 1, "test_accuracy": 90, "train_loss": 0.3, "mode_connectivity": -9}

    def value(metric, _batch, _width, _replica):
        if random.random() < absent:
            return math.nan
        return float(np.round(random.random() * scale.get(metric, 9), random.integers(0, 5)))

    found = verdicts.claims("taxonomy", {"e": scalars(batches, widths, value)})
    assert set(found["holds"]) <= {"yes", "no", "not testable"}
    assert not found["observed"].str.contains("check failed").any()
    assert (found["holds"] == "not testable")[found["effect"].isna()].all()
    assert (found["observed"].str.len() > 0).all()
