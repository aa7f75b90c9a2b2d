"""The authors' archive: what is read and refused; the shipped table against it, cell by cell."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import published
from lossatlas import paths
from lossatlas.claims import verdicts
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.reference import taxonomy_archive, taxonomy_published, taxonomy_tables
from lossatlas.tables.collect import PANELS

CELL = "different_knobs_subset_10/bs_16/lr_decay/ResNet18_w2/metrics"
LOSS = {run: {"nll": 0.5, "loss": run / 4, "accuracy": 10.0 * run} for run in range(5)}


def packed(tmp_path, *entries):
    """An archive of (name, bytes) and ready-made TarInfos."""
    path = tmp_path / "some.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def arrays(**values):
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def values(numbers, quantity):
    """The numbers of a quantity in the first cell."""
    return numbers.filter(regex=rf"^{quantity}\.").iloc[0].tolist()


def test_one_file_is_enough_and_the_rest_is_nan(tmp_path):
    folder = special(CELL, tarfile.DIRTYPE)
    path = packed(tmp_path, folder, (f"{CELL}/loss_acc.pkl", pickle.dumps(LOSS)))
    numbers = taxonomy_archive.convert(path)
    assert list(numbers) == taxonomy_published.COLUMNS
    assert numbers[["batch_size", "width"]].to_numpy().tolist() == [[16, 2]]
    assert values(numbers, "train_loss") == [0, 0.25, 0.5, 0.75, 1]
    assert values(numbers, "train_accuracy") == [0, 10, 20, 30, 40]
    assert np.isnan(values(numbers, "test_loss")).all()
    tables = taxonomy_tables.tables(numbers)
    rows, curves = tables["connectivity"]
    assert list(rows["status"]) == ["undefined"] * 3
    assert rows["value"].isna().all()
    assert set(curves["status"]) == {"undefined"}
    assert len(curves) == 20
    assert (tables["performance"][0]["status"] == "ok").sum() == 10


@pytest.mark.parametrize(
    "entry",
    [
        (f"{CELL}/../../../../../evil.pkl", b""),
        ("/etc/passwd", b""),
        ("../loss_acc.pkl", b""),
        (f"{CELL}/loss_acc.pkl/../x", b""),
        (f"{CELL}/other.pkl", b""),
        (f"{CELL}/loss_acc.pkl\n", b""),
        ("different_knobs_subset_10/bs_0/lr_decay/ResNet18_w2/metrics/loss_acc.pkl", b""),
        special(f"{CELL}/loss_acc.pkl", tarfile.SYMTYPE, "/etc/passwd"),
        special(f"{CELL}/loss_acc.pkl", tarfile.LNKTYPE, "other"),
        special(f"{CELL}/loss_acc.pkl", tarfile.FIFOTYPE),
        special(f"{CELL}/loss_acc.pkl", tarfile.DIRTYPE),
        special("../elsewhere", tarfile.DIRTYPE),
    ],
)
def test_unexpected_entries_are_refused(tmp_path, entry):
    with pytest.raises(UserError, match="refused: it holds an unexpected entry"):
        taxonomy_archive.convert(packed(tmp_path, entry))


def test_giants_and_repetitions_are_refused(tmp_path):
    name = f"{CELL}/loss_acc.pkl"
    with pytest.raises(UserError, match="with 65537 bytes"):
        taxonomy_archive.convert(packed(tmp_path, (name, bytes(2**16 + 1))))
    twice = (name, pickle.dumps(LOSS))
    with pytest.raises(UserError, match="twice"):
        taxonomy_archive.convert(packed(tmp_path, twice, twice))
    swollen = io.BytesIO()
    with zipfile.ZipFile(swollen, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ts.npy", bytes(2**17))
    with pytest.raises(UserError, match="it unpacks to 131072 bytes"):
        taxonomy_archive.convert(packed(tmp_path, (f"{CELL}/curve_test.npz", swollen.getvalue())))


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(taxonomy_archive, "MOST_FILES", 2)
    with pytest.raises(UserError, match="more than 2 files"):
        taxonomy_archive.convert(packed(tmp_path, *[special(CELL, tarfile.DIRTYPE)] * 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: LOSS[0]}, "KeyError"),
        ([], "IndexError"),
        (7, "TypeError"),
        ({run: {"loss": "x", "accuracy": 1} for run in range(5)}, "ValueError"),
        ({run: {"loss": [1, 2], "accuracy": 1} for run in range(5)}, "has shape"),
    ],
)
def test_foreign_layouts_get_one_line(tmp_path, content, message):
    path = packed(tmp_path, (f"{CELL}/loss_acc.pkl", pickle.dumps(content)))
    with pytest.raises(UserError, match=message) as error:
        taxonomy_archive.convert(path)
    assert "bs 16, width 2, loss_acc.pkl" in error.value.where


def test_pickles_inside_arrays_are_refused(tmp_path):
    objects = arrays(ts=np.array([{}, None], dtype=object))
    for data in (objects, b"no zip", arrays(ts=np.arange(5.0))[:-30]):
        with pytest.raises(UserError, match="not readable arrays"):
            taxonomy_archive.convert(packed(tmp_path, (f"{CELL}/curve_test.npz", data)))


def test_missing_truncated_and_empty_archives(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        taxonomy_archive.convert(tmp_path / "none.tar.gz")
    path = packed(tmp_path, (f"{CELL}/loss_acc.pkl", pickle.dumps(LOSS)))
    for data in (path.read_bytes()[:60], b"", b"plain text"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"not a readable \.tar\.gz"):
            taxonomy_archive.convert(path)
    with pytest.raises(UserError, match="no results"):
        taxonomy_archive.convert(packed(tmp_path))


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0, 0, 5, 0, 0], (-5, 0, 5)),
        ([5, 5, 0, 5, 5], (5, 5, 0)),
        ([4, 3, 7, 4, 4], (-3, 1, 3)),
        ([2, 3, 6, 3, 4], (-3, 1, 3)),  # from the mean of the ends, 3
        ([0, 2, 2, 2, 4], (2, 2, 2)),  # an end is furthest, and the first of two
    ],
)
def test_mode_connectivity_by_hand(tmp_path, errors, expected):
    keys = [f"{part}_{name}" for part in ("tr", "te") for name in ("err", "nll", "loss")]
    curve = dict.fromkeys([*keys, "dl"], np.zeros(5)) | {"ts": np.linspace(0, 1, 5)}
    curve["tr_err"] = np.array(errors, dtype=float)
    path = packed(tmp_path, (f"{CELL}/curve_test.npz", arrays(**curve)))
    rows = taxonomy_tables.tables(taxonomy_archive.convert(path))["connectivity"][0]
    assert rows["metric"].tolist() == ["mode_connectivity", "path_dip", "path_bump"]
    assert tuple(rows["value"]) == expected
    assert set(rows["status"]) == {"ok"}


def test_curves_at_other_places_are_refused(tmp_path):
    for places in (np.linspace(0, 0.9, 5), np.linspace(0, 1, 6), np.full(5, np.nan)):
        path = packed(tmp_path, (f"{CELL}/curve_test.npz", arrays(ts=places)))
        with pytest.raises(UserError, match=r"curve at the places t|has shape \[6\]"):
            taxonomy_archive.convert(path)


def test_the_shipped_table_is_the_archive_rounded(tmp_path):
    """Made again it is the same file; each number is the archive's to nine digits."""
    archive, shipped = published.archive(), Path(paths.published())
    exact = taxonomy_archive.convert(archive)
    taxonomy_published.write(tmp_path / "made.csv", exact, archive)
    assert (tmp_path / "made.csv").read_bytes() == shipped.read_bytes()
    assert "equal" in taxonomy_published.compare(tmp_path / "made.csv", shipped)
    rounded = [float(f"{number:.9g}") for number in exact.to_numpy().flat]
    np.testing.assert_array_equal(published.numbers().to_numpy().ravel(), rounded)


def test_tables_and_claims_are_those_of_the_archive():
    exact = taxonomy_tables.tables(taxonomy_archive.convert(published.archive()))
    for kind, tables in published.tables().items():
        for ours, theirs in zip(tables, exact[kind], strict=True):
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-8, atol=1e-12)
    ours, theirs = (
        verdicts.claims("taxonomy", {"e": pd.concat(some, ignore_index=True)})
        for some in ([one for one, _ in of.values()] for of in (published.tables(), exact))
    )
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)


def test_all_cells_are_there_and_what_is_missing_shows():
    numbers = published.numbers()
    assert sorted(set(numbers["batch_size"])) == sorted([*published.BATCHES, 19, 27])
    assert sorted(set(numbers["width"])) == [1, *published.WIDTHS]
    assert len(numbers) == 210
    lost = {
        name: int(numbers.filter(regex=rf"^{name}\.").isna().sum().sum())
        for name in taxonomy_published.QUANTITIES
    }
    cka = {"cka_biased_output": 3 * 8, "cka_biased_softmax": 3 * 8}
    assert {name: n for name, n in lost.items() if n} == {
        "test_loss": 140,
        "test_accuracy": 140,
        **cka,
    }
    collapsed = numbers[numbers.filter(regex=r"^cka_biased_softmax\.").isna().any(axis=1)]
    places = collapsed[["batch_size", "width"]].to_numpy().tolist()
    assert places == [[19, 1], [24, 1], [64, 1]]  # runs that collapsed


def test_ranges_of_the_plotted_cells():
    ranges = {
        "test_accuracy": (65.016, 89.908, 5e-4),
        "train_loss": (0.00083, 0.926, 5e-4),
        "cka": (0.313, 0.795, 5e-4),
        "log_hessian_eigenvalue": (0.307, 6.721, 5e-4),
        "log_hessian_trace": (3.379, 8.355, 5e-4),
        "mode_connectivity": (-29.752, 7.645, 5e-4),
        "l2_distance": (27.5, 70.5, 5e-2),
    }
    assert set(ranges) == set(PANELS) - {"chance_loss"}
    for metric, (low, high, tolerance) in ranges.items():
        found = published.matrix(metric)
        assert np.isfinite(found).all()
        assert_allclose([found.min(), found.max()], [low, high], atol=tolerance)


@pytest.mark.parametrize(("batch", "width"), [(16, 2), (44, 128), (64, 16), (1024, 11)])
def test_cells_by_hand(batch, width):
    place = published.BATCHES.index(batch), published.WIDTHS.index(width)
    train, test = (published.raw(batch, width, f) for f in ("loss_acc.pkl", "loss_acc_test.pkl"))
    hessian = published.raw(batch, width, "hessian.pkl")
    cka = published.raw(batch, width, "CKA_mixup_alpha_16.0.pkl")["representation_similarity"]
    distance = published.raw(batch, width, "model_dist.pkl")["model_distance"]
    error = published.raw(batch, width, "curve_test.npz")["tr_err"]
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    middle = (error[0] + error[4]) / 2
    expected = {
        "test_accuracy": sum(test[i]["accuracy"] for i in range(5)) / 5,
        "train_loss": sum(train[i]["loss"] for i in range(5)) / 5,
        "log_hessian_eigenvalue": np.log(np.mean([hessian[i]["top_eigenvalue"] for i in range(5)])),
        "log_hessian_trace": np.log(np.mean([hessian[i]["trace"] for i in range(5)])),
        "mode_connectivity": max((middle - e for e in error), key=abs),
        "cka": sum(float(cka[i][j][1]) for i, j in pairs) / 20,
        "l2_distance": sum(distance[i][j]["dist"] for i, j in pairs) / 20,
    }
    for metric, value in expected.items():
        assert_allclose(published.matrix(metric)[place], value, rtol=1e-8, atol=1e-12)


def test_rows_have_our_columns_and_names():
    counts = {"performance": 20, "hessian": 10, "connectivity": 3, "cka": 60, "distance": 10}
    for kind, (scalars, series) in published.tables().items():
        columns = ["experiment", "cell", "width", "batch_size"]
        assert list(scalars) == [
            *columns,
            "metric",
            "replica",
            "partner",
            "value",
            "stderr",
            "df",
            "status",
        ]
        index = ["path"] if kind == "connectivity" else []
        head = [*columns, "series", "replica", "partner", *index]
        assert list(series) == [*head, "x", "y", "stderr", "df", "status"]
        assert len(scalars) == 210 * counts[kind]
        assert len(series) == (210 * 4 * 5 if kind == "connectivity" else 0)
        names = {name.partition(".")[0] for name in scalars["metric"]}
        assert names <= {one.name for one in registry.built_in()[kind].outputs}
        assert scalars["value"].isna().equals(scalars["status"] == "undefined")
        assert scalars["cell"].iloc[-1] == "bs_1024/ResNet18_w128"
    cka = published.tables()["cka"][0]
    pairs = set(zip(cka["replica"], cka["partner"], strict=True))
    assert pairs == {(i, j) for i in range(5) for j in range(5) if i != j}


def test_ordered_pairs_are_those_of_the_archive():
    cka = published.raw(44, 128, "CKA_mixup_alpha_16.0.pkl")["representation_similarity"]
    rows = published.tables()["cka"][0].query("cell == 'bs_44/ResNet18_w128'")
    for name, layer in (("cka_biased.output", 0), ("cka_biased", 1), ("cka", 1)):
        for row in rows[rows["metric"] == name].itertuples():
            assert_allclose(row.value, cka[row.replica][row.partner][layer], rtol=1e-8)


def test_curves_are_those_of_the_archive():
    series = published.tables()["connectivity"][1].query("cell == 'bs_364/ResNet18_w6'")
    curve = published.raw(364, 6, "curve_test.npz")
    keys = {"train_error": "tr_err", "train_loss": "tr_nll", "test_error": "te_err"}
    keys["test_loss"] = "te_nll"
    for name, key in keys.items():
        rows = series[(series["cell"] == "bs_364/ResNet18_w6") & (series["series"] == name)]
        assert rows["x"].tolist() == [0, 0.25, 0.5, 0.75, 1]
        assert_allclose(rows["y"], curve[key], rtol=1e-8)
        assert (set(rows["replica"]), set(rows["partner"])) == ({0}, {1})
        assert set(rows["path"]) == {"bezier"}
    # Accuracies are left out of the table: they follow from the errors.
    errors = series[series["series"] == "train_error"]["y"]
    assert_allclose(curve["tr_acc"], 100 - errors)


def test_plotted_leaves_13_by_13():
    rows = taxonomy_tables.plotted(published.summary())
    assert sorted(rows["batch_size"].unique()) == published.BATCHES
    assert sorted(rows["width"].unique()) == published.WIDTHS
    assert (rows["status"] == "ok").all()
    lost = published.summary().query("status != 'ok'")
    assert set(lost["batch_size"]) == {19, 27}
    assert set(lost["metric"]) == {"test_accuracy"}
    assert set(lost["status"]) == {"undefined"}
