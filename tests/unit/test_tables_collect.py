"""Records -> tables -> CSV, and the summary of a cell."""

import math
import subprocess
import sys
from itertools import combinations

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from lossatlas import store
from lossatlas.errors import UserError
from lossatlas.measuring import add_diverged
from lossatlas.store import Scalar, Series
from lossatlas.tables import collect

AXES = {"b": {"width": 8, "batch_size": 64}, "a": {"width": 4, "batch_size": 64}}


def table(*scalars, axes=None):
    axes = axes or {"cell": {"width": 8, "batch_size": 64}}
    return collect.scalar_frame("exp", axes, {cell: list(scalars) for cell in axes})


def one(*scalars, metric):
    rows = collect.cell_summary(table(*scalars))
    return rows[rows["metric"] == metric].iloc[0]


def losses(*values, status="ok"):
    return [Scalar("train_loss", value, i, status=status) for i, value in enumerate(values)]


def write(folder, **records):
    for name, record in records.items():
        store.write(folder / f"{name}.h5", record)
    return {name: folder / f"{name}.h5" for name in records}


def test_rows_come_in_the_order_of_the_cells(tmp_path):
    curve = Series("bezier_train_error", np.array([0, 1]), np.array([2, math.nan]), "t", 0, 1)
    paths = write(
        tmp_path,
        a=store.Record("cka", [Scalar("cka", 0.5, 0, 1, 0.1)], [curve]),
        b=store.Record("cka", [Scalar("cka", math.nan, 2, status="diverged"), Scalar("x", 1.0)]),
    )
    rows, points = collect.tables("exp", AXES, paths)
    columns = "experiment cell width batch_size metric replica partner value stderr status"
    assert list(rows) == columns.split()
    assert rows["cell"].tolist() == ["b", "b", "a"]
    assert rows["width"].tolist() == [8, 8, 4]
    assert rows["replica"].tolist() == [2, pd.NA, 0]
    assert rows["partner"].tolist() == [pd.NA, pd.NA, 1]
    assert rows["status"].tolist() == ["diverged", "ok", "ok"]
    assert points["x"].tolist() == [0.0, 1.0]
    assert points["y"].isna().tolist() == [False, True]
    assert collect.axes_of(points) == collect.axes_of(rows) == ["width", "batch_size"]


def test_records_must_be_those_of_the_cells(tmp_path):
    paths = write(tmp_path, a=store.Record("cka"), c=store.Record("cka"))
    with pytest.raises(ValueError, match="cells and records differ: b, c"):
        collect.tables("exp", AXES, paths)
    with pytest.raises(ValueError, match="different axes"):
        collect.scalar_frame("exp", {"a": {"width": 1}, "b": {"depth": 1}}, {"a": [], "b": []})


def test_csv_is_plain_and_stable(tmp_path):
    rows = table(
        Scalar("x", 0.1, 0), Scalar("x", math.nan, 1, 2, 1e-7), Scalar("x", 1 / 3), Scalar("y", 2)
    )
    collect.write(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        "experiment,cell,width,batch_size,metric,replica,partner,value,stderr,status\n"
        "exp,cell,8,64,x,0,,0.1,,ok\n"
        "exp,cell,8,64,x,1,2,,1e-07,ok\n"
        "exp,cell,8,64,x,,,0.3333333333333333,,ok\n"
        "exp,cell,8,64,y,,,2.0,,ok\n"
    )


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(), min_size=1, max_size=5),
    name=st.sampled_from(["x", "NA", "nan", "None", "a,b", 'q"', "1"]),
)
def test_csv_reads_back_number_for_number(tmp_path_factory, values, name):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    axes = {name: {"learning_rate": 0.1, "width": 3, "model.kind": "wide"}}
    rows = table(*(Scalar(name, v, i, stderr=v) for i, v in enumerate(values)), axes=axes)
    collect.write(path, rows)
    back = collect.read(path)
    pd.testing.assert_frame_equal(back, rows, check_exact=True)
    assert [math.copysign(1, v) for v in back["value"].dropna()] == [
        math.copysign(1, v) for v in values if not math.isnan(v)
    ]


def test_tables_without_rows_read_back(tmp_path):
    collect.write(tmp_path / "t.csv", table())
    assert list(collect.read(tmp_path / "t.csv")) == list(table())
    assert collect.cell_summary(collect.read(tmp_path / "t.csv")).empty


def test_concatenate_keeps_order_and_refuses_strangers(tmp_path):
    collect.write(tmp_path / "a.csv", table(Scalar("x", 1.0)))
    collect.write(tmp_path / "b.csv", table(Scalar("y", 2.0, 0)))
    collect.write(tmp_path / "c.csv", table(axes={"cell": {"width": 1}}))
    (tmp_path / "d.csv").write_text("")
    (tmp_path / "e.csv").write_text("value\nhello\n")
    both = collect.concatenate([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert both["metric"].tolist() == ["y", "x"]
    assert both.index.tolist() == [0, 1]
    assert str(both["replica"].dtype) == "Int64"
    collect.write(tmp_path / "empty.csv", table())
    joined = collect.concatenate([tmp_path / "empty.csv", tmp_path / "a.csv"])
    pd.testing.assert_frame_equal(joined, collect.read(tmp_path / "a.csv"))
    assert collect.concatenate([tmp_path / "empty.csv"] * 2).empty
    with pytest.raises(UserError, match=r"c\.csv: has other columns than .*a\.csv"):
        collect.concatenate([tmp_path / "a.csv", tmp_path / "c.csv"])
    for name in "de":
        with pytest.raises(UserError, match="not a table"):
            collect.concatenate([tmp_path / f"{name}.csv"])
    with pytest.raises(UserError, match="no such file"):
        collect.read(tmp_path / "none.csv")


def test_a_scalar_that_two_metrics_write_is_told_apart(tmp_path):
    files = {}
    for name, scalars in {
        "hessian": [Scalar("hessian_trace", 1.0, 0), Scalar("x", 5.0)],
        "none": [],
        "hessian_paper": [Scalar("hessian_trace", 9.0, 0), Scalar("y", 6.0)],
        "hessian_wide": [Scalar("hessian_trace", 7.0, 0), Scalar("y", 8.0)],
    }.items():
        files[name] = tmp_path / f"{name}.csv"
        collect.write(files[name], table(*scalars))
    joined = collect.join(files)
    assert dict(zip(joined["metric"], joined["value"], strict=True)) == {
        "hessian_trace": 1.0,
        "x": 5.0,
        "hessian_paper.hessian_trace": 9.0,
        "y": 6.0,
        "hessian_wide.hessian_trace": 7.0,
        "hessian_wide.y": 8.0,
    }
    assert joined.columns.tolist() == collect.read(files["hessian"]).columns.tolist()
    assert collect.join({"none": files["none"]}).empty


def test_mean_and_standard_error_over_replicas():
    found = one(*losses(1.0, 2.0, 6.0), metric="train_loss")
    assert found["value"] == 3.0
    assert found["stderr"] == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))
    assert (found["count"], found["diverged"], found["status"]) == (3, 0, "ok")
    alone = one(*losses(2.0), metric="train_loss")
    assert alone["value"] == 2.0
    assert math.isnan(alone["stderr"])


def test_logarithm_of_the_mean_with_the_delta_method():
    traces = [Scalar("hessian_trace", value, i) for i, value in enumerate((10.0, 30.0))]
    found = one(*traces, metric="log_hessian_trace")
    assert found["value"] == pytest.approx(math.log(20))
    assert found["stderr"] == pytest.approx(10 / 20)  # s / sqrt(2) = 10
    for value in (-10.0, -31.0):
        found = one(traces[0], Scalar("hessian_trace", value, 1), metric="log_hessian_trace")
        assert math.isnan(found["value"])
        assert math.isnan(found["stderr"])
        assert found["status"] == "undefined"


def test_both_orders_of_a_pair_are_one_pair():
    ordered = {(0, 1): 0.2, (1, 0): 0.4, (0, 2): 0.5, (2, 0): 0.5, (1, 2): 0.9, (2, 1): 0.7}
    found = one(*(Scalar("cka", v, *pair) for pair, v in ordered.items()), metric="cka")
    pairs = [0.3, 0.5, 0.8]
    assert found["value"] == pytest.approx(np.mean(list(ordered.values())))
    assert found["stderr"] == pytest.approx(np.std(pairs, ddof=1) / math.sqrt(3))
    assert found["count"] == 3


def test_what_went_wrong_stays_out_of_means_and_shows():
    rows = [*losses(1.0, 3.0), Scalar("train_loss", math.nan, 7, status="diverged")]
    found = one(*rows, metric="train_loss")
    assert (found["value"], found["count"], found["diverged"]) == (2.0, 2, 1)
    assert found["status"] == "ok"
    # Whatever number such a row has, it does not enter.
    for status in ("diverged", "undefined"):
        found = one(*losses(1.0), Scalar("train_loss", 99.0, 1, status=status), metric="train_loss")
        assert found["value"] == 1.0
    found = one(
        *losses(1.0), Scalar("train_loss", 3.0, 1, status="unconverged"), metric="train_loss"
    )
    assert (found["value"], found["status"]) == (2.0, "unconverged")
    found = one(*losses(1.0, math.inf), metric="train_loss")
    assert (found["value"], found["count"]) == (1.0, 1)
    found = one(*losses(math.nan, math.nan, status="undefined"), metric="train_loss")
    assert (found["status"], found["count"], found["diverged"]) == ("undefined", 0, 0)


@pytest.mark.parametrize(
    ("good", "lost", "status", "pair"),
    [([0, 1, 2], [], "ok", "ok"), ([0, 2], [1], "ok", "ok"), ([2], [0, 1], "ok", "diverged"),
     ([], [0, 1, 2], "diverged", "diverged")],
)  # fmt: skip
def test_diverged_replicas_are_counted(good, lost, status, pair):
    rows = []
    for kind in ("performance", "distance"):
        record = store.Record(kind)
        add_diverged(record, kind, good, lost, list(combinations(sorted([*good, *lost]), 2)))
        rows += record.scalars
    rows += [Scalar("train_loss", 1.0, seed) for seed in good]
    rows += [Scalar("l2_distance", 1.0, a, b) for a in good for b in good if a < b]
    for metric, expected in (("train_loss", status), ("l2_distance", pair)):
        found = one(*rows, metric=metric)
        assert (found["diverged"], found["status"]) == (len(lost), expected)


def test_cells_keep_their_order_and_unmeasured_quantities_have_no_rows():
    axes = {"z": {"width": 8}, "y": {"width": 2}, "x": {"width": 4}}
    rows = collect.scalar_frame("exp", axes, {"z": losses(1.0), "y": [], "x": losses(3.0)})
    found = collect.cell_summary(rows)
    assert found["cell"].tolist() == ["z", "x"]
    assert set(found["metric"]) == {"train_loss"}
    axes_columns = ["experiment", "cell", "width", *collect.SUMMARY]
    assert list(found) == axes_columns
    more = collect.scalar_frame(
        "exp", axes, {"z": losses(1.0), "y": [Scalar("cka", 0.5, 0, 1)], "x": []}
    )
    statuses = {(r.cell, r.metric): r.status for r in collect.cell_summary(more).itertuples()}
    assert statuses == {
        ("z", "train_loss"): "ok",
        ("z", "cka"): "undefined",
        ("y", "train_loss"): "undefined",
        ("y", "cka"): "ok",
    }


def test_no_torch_is_imported():
    code = (
        "import sys, lossatlas.claims.verdicts, lossatlas.reference.taxonomy_archive,"
        "lossatlas.reference.taxonomy_tables;"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(collect.__file__).partition("/lossatlas/")[0]}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
