"""Records -> tables -> CSV, and the summary of a cell."""

import math
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from lossatlas import store
from lossatlas.errors import UserError
from lossatlas.measuring import add_diverged
from lossatlas.metrics import registry
from lossatlas.store import Scalar, Series, Table
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
    curve = Series("train_error", np.array([0, 1]), np.array([2, math.nan]), "t", 0, 1)
    paths = write(
        tmp_path,
        a=store.Record("cka", [Scalar("cka", 0.5, 0, 1, 0.1)], [curve]),
        b=store.Record("cka", [Scalar("cka", math.nan, 2, status="diverged"), Scalar("x", 1.0)]),
    )
    rows, points = collect.tables("exp", AXES, paths)
    columns = "experiment cell width batch_size metric replica partner value stderr df status"
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
        Scalar("x", 0.1, 0),
        Scalar("x", math.nan, 1, 2, 1e-7, df=2.5),
        Scalar("x", 1 / 3),
        Scalar("y", 2),
    )
    collect.write(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        "experiment,cell,width,batch_size,metric,replica,partner,value,stderr,df,status\n"
        "exp,cell,8,64,x,0,,0.1,,,ok\n"
        "exp,cell,8,64,x,1,2,,1e-07,2.5,ok\n"
        "exp,cell,8,64,x,,,0.3333333333333333,,,ok\n"
        "exp,cell,8,64,y,,,2.0,,,ok\n"
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


def parts():
    """A curve of the whole run, two of windows, one with errors, and tables of two names."""
    x = np.arange(2.0)
    errors = {"stderr": np.array([math.nan, 0.25]), "df": np.array([math.nan, 4.0])}
    one, two = ({"window": n, "kind": kind} for n, kind in ((0, "fractal"), (480, "a,b")))
    return [
        Series("loss", x, x / 3, "step", 0),
        Series("msd", x, x * 0.1, "lag", 0, index=one, **errors),
        Series("msd", x[:1], x[:1] - 1, "lag", 0, 1, status="unconverged", index=two),
        Series("msd", x[:0], x[:0], "lag", 1, index=two),
        Table("plane", {"u": [0.5, 1e-7], "inside": [True, False]}, index={"plane": "w0 c0"}),
        Table("path", {"epoch": [3, 4], "x": [1.5, 2.5]}, 2, index={"rate": 0.5}),
    ]


def points(cells=("cell",)):
    axes = {cell: {"width": 8, "batch_size": 64} for cell in cells}
    return collect.series_frame("exp", axes, dict.fromkeys(cells, parts()))


def test_indices_and_columns_of_tables_are_columns(tmp_path):
    rows = points()
    collect.write(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "experiment,cell,width,batch_size,series,replica,partner,"
        "window,kind,plane,u,inside,rate,epoch,x,y,stderr,df,status",
        "exp,cell,8,64,loss,0,,,,,,,,,0.0,0.0,,,ok",
        "exp,cell,8,64,loss,0,,,,,,,,,1.0,0.3333333333333333,,,ok",
        "exp,cell,8,64,msd,0,,0,fractal,,,,,,0.0,0.0,,,ok",
        "exp,cell,8,64,msd,0,,0,fractal,,,,,,1.0,0.1,0.25,4.0,ok",
        'exp,cell,8,64,msd,0,1,480,"a,b",,,,,,0.0,-1.0,,,unconverged',
        "exp,cell,8,64,plane,,,,,w0 c0,0.5,1,,,,,,,ok",
        "exp,cell,8,64,plane,,,,,w0 c0,1e-07,0,,,,,,,ok",
        "exp,cell,8,64,path,2,,,,,,,0.5,3,1.5,,,,ok",
        "exp,cell,8,64,path,2,,,,,,,0.5,4,2.5,,,,ok",
    ]
    assert rows["window"].tolist() == [pd.NA, pd.NA, 0, 0, 480, *[pd.NA] * 4]
    both = points(("a", "b"))
    collect.write(tmp_path / "both.csv", both)
    for frame, name in ((rows, "t"), (both, "both")):
        back = collect.read(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(back, frame, check_exact=True)
        assert collect.axes_of(back) == ["width", "batch_size"]


def test_a_column_with_the_name_of_an_axis_is_refused():
    axes = {"c": {"window": 1}}
    with pytest.raises(UserError, match="exp: measures a column named 'window', as an axis is"):
        collect.series_frame("exp", axes, {"c": parts()})


def test_series_without_points_read_back(tmp_path):
    for name, found in {"none": [], "empty": [parts()[3]]}.items():
        frame = collect.series_frame("exp", {"c": {"width": 1}}, {"c": found})
        assert list(frame)[-5:] == ["x", "y", "stderr", "df", "status"]
        assert frame.empty
        collect.write(tmp_path / f"{name}.csv", frame)
        assert list(collect.read(tmp_path / f"{name}.csv")) == list(frame)


def test_series_of_several_metrics_are_joined(tmp_path):
    axes = {"c": {"width": 1}}
    files = []
    for name, found in (("a", parts()[:2]), ("b", parts()[4:])):
        files.append(tmp_path / f"{name}.csv")
        collect.write(files[-1], collect.series_frame("exp", axes, {"c": found}))
    joined = collect.concatenate(files)
    assert joined["series"].tolist() == ["loss"] * 2 + ["msd"] * 2 + ["plane"] * 2 + ["path"] * 2
    assert joined["window"].tolist()[2:5] == [0, 0, pd.NA]
    assert joined["inside"].tolist()[3:6] == [pd.NA, 1, 0]
    assert collect.axes_of(joined) == ["width"]
    collect.write(tmp_path / "scalars.csv", table(Scalar("x", 1.0), axes=axes))
    with pytest.raises(UserError, match=r"scalars\.csv: has other columns than .*a\.csv"):
        collect.concatenate([files[0], tmp_path / "scalars.csv"])


def damage(place, old, new):
    """Return a change of one line of a file."""

    def change(content):
        lines = content.split(b"\n")
        assert old in lines[place]
        lines[place] = lines[place].replace(old, new)
        return b"\n".join(lines)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c[:-1], "its last line is cut off"),
        (lambda c: c[:-9], "its last line is cut off"),
        (lambda c: c[: c.index(b"\n")], "its last line is cut off"),
        (lambda c: c[:40], "its last line is cut off"),
        (lambda c: b"", "its last line is cut off"),
        (lambda c: b"\n", "No columns|its columns are"),
        (damage(2, b"exp", b"e\0p"), "line 3 holds NUL bytes"),
        (lambda c: c[:-20] + bytes(20), "holds NUL bytes"),
        (lambda c: bytes(len(c)), "line 1 holds NUL bytes"),
        (damage(2, b",ok", b""), "row 2 has too few fields"),
        (damage(2, b"exp,cell,8,64,", b""), "row 2 has too few fields"),
        (damage(2, b"exp", b""), None),
        (lambda c: c.replace(b"\nexp,", b"\n\nexp,"), "row 1 has too few fields"),
        (damage(2, b",ok", b",ok,ok"), "Expected .* fields in line 3, saw"),
        (lambda c: c.replace(b",ok\n", b",ok,ok\n"), "more fields than there are columns"),
        (damage(2, b",ok", b",o"), "unknown status 'o'"),
        (damage(2, b"1.0", b"1.x"), "could not convert string to float: '1.x'"),
        (damage(1, b",0,", b",0.5,"), "invalid literal for int"),
        (damage(1, b",0,", b",99999999999999999999,"), "not a table"),
        (damage(0, b"stderr", b"error"), "its columns are"),
        (damage(0, b"partner", b"replica"), "its columns are"),
        (damage(0, b"experiment,", b""), "more fields than there are columns"),
        (damage(0, b"experiment", b"exp"), "its columns are"),
        (damage(0, b"metric", b"other"), "its columns are"),
        (damage(2, b"exp", b"\xff"), "not a table"),
        (damage(2, b"exp", b'"exp'), "not a table"),
    ],
)
def test_damaged_tables_end_in_one_line_that_names_the_file(tmp_path, change, says):
    rows = table(Scalar("x", 0.5, 0), Scalar("x", 1.0, 1, stderr=0.25), Scalar("y", 2.0))
    collect.write(tmp_path / "t.csv", rows)
    (tmp_path / "t.csv").write_bytes(change((tmp_path / "t.csv").read_bytes()))
    if says is None:  # a checksum finds it, a parser cannot
        collect.read(tmp_path / "t.csv")
        return
    with pytest.raises(UserError, match=says) as caught:
        collect.read(tmp_path / "t.csv")
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}: ")
    assert "\n" not in str(caught.value)
    assert "delete it and run the same command again" in str(caught.value)


@pytest.mark.parametrize("end", range(1, 12))
def test_series_cut_anywhere_in_a_line_are_refused(tmp_path, end):
    collect.write(tmp_path / "t.csv", points())
    content = (tmp_path / "t.csv").read_bytes()
    (tmp_path / "t.csv").write_bytes(content[: -end * 7])
    if content[: -end * 7].endswith(b"\n"):
        return
    with pytest.raises(UserError, match=r"t\.csv: not a table: its last line is cut off"):
        collect.read(tmp_path / "t.csv")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        collect.read(tmp_path)


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
    for value in (-9.0, 0.0, -31.0):  # whatever the sign of the mean
        found = one(traces[0], Scalar("hessian_trace", value, 1), metric="log_hessian_trace")
        assert math.isnan(found["value"])
        assert math.isnan(found["stderr"])
        assert found["status"] == "undefined"


def test_both_orders_of_a_pair_are_one_pair():
    ordered = {(0, 1): 0.2, (1, 0): 0.4, (0, 2): 0.5, (2, 0): 0.5, (1, 2): 0.9, (2, 1): 0.7}
    found = one(*(Scalar("cka", v, *pair) for pair, v in ordered.items()), metric="cka")
    pairs = {(0, 1): 0.3, (0, 2): 0.5, (1, 2): 0.8}
    assert found["value"] == pytest.approx(np.mean(list(ordered.values())))
    without = [next(v for pair, v in pairs.items() if seed not in pair) for seed in range(3)]
    assert found["stderr"] == pytest.approx(math.sqrt(2 / 3 * 3 * np.var(without)))  # jackknife
    assert (found["count"], found["df"], found["stderr_status"]) == (3, 2, "ok")


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
        add_diverged(record, registry.built_in()[kind](), good, lost)
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
