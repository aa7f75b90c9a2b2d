"""The store: round trips, atomicity, refusal of what is not ours, differences."""

import contextlib
import errno
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.lib.recfunctions as rfn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossatlas import files, store
from lossatlas.differences import differences
from lossatlas.errors import UserError

NAN = float("nan")


def record() -> store.Record:
    return store.Record(
        "hessian",
        [
            store.Scalar("trace", 3.5, 0, stderr=0.25, unit="nat", df=2.0),
            store.Scalar("cka", NAN, 0, 2, status="undefined"),
            store.Scalar("whole", -1.0),
        ],
        [store.Series("density", np.arange(4), np.arange(4.0) ** 2, "eigenvalue", 1)],
        {"probes": store.Array(np.ones((2, 3)), ("replica", "probe"), "nat", "estimates")},
        tables=[
            store.Table("plane", {"u": [0.5, 1.0], "loss": [2.0, NAN]}, index={"plane": "a b"})
        ],
        mode="fixed",
        spec={"a": {"b": 1}},
        settings={"x": [1, 2]},
        provenance={"code": "abc"},
        times={"seconds": 1.5, "host": "here"},
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.h5"
    store.write(path, record())
    back = store.read(path, "hessian")
    assert [s.name for s in back.scalars] == ["trace", "cka", "whole"]
    assert back.scalars[0] == record().scalars[0]
    assert np.isnan(back.scalars[1].value)
    assert (back.scalars[2].replica, back.scalars[2].partner) == (None, None)
    assert back.series[0].replica == 1
    np.testing.assert_array_equal(back.series[0].y, [0, 1, 4, 9])
    assert back.arrays["probes"].axes == ("replica", "probe")
    assert (back.spec, back.settings, back.times["seconds"]) == (
        {"a": {"b": 1}},
        {"x": [1, 2]},
        1.5,
    )
    assert store.read_about(path).status == "ok"


def test_every_field_survives(tmp_path: Path) -> None:
    one = store.Record(
        "any",
        [store.Scalar("a", 1.0, 3, 7, 0.5, "unconverged", "nats", 4.5)],
        [
            store.Series(
                "s",
                np.arange(2.0),
                np.array([1 / 3, NAN]),
                "t",
                4,
                9,
                "m",
                "s",
                "undefined",
                {"window": 480, "kind": "fractal", "rate": 0.1},
                np.array([NAN, 0.25]),
            )
        ],
        {"x": store.Array(np.arange(3, dtype=np.int16), ("axis",), "unit", "words")},
        "diverged",
        "paper",
        {"a": 1},
        {"b": [2]},
        {"code": "c", "seeds": [1]},
        {"seconds": 2.5},
        [store.Table("t", {"a": [1.5], "b": [3]}, 2, 5, "undefined", {"n": 3}, {"a": "m"})],
    )
    store.write(tmp_path / "a.h5", one)
    back = store.read(tmp_path / "a.h5")
    for part in ("kind", "scalars", "status", "mode", "spec", "settings", "provenance", "times"):
        assert getattr(back, part) == getattr(one, part)
    assert same(one.series[0], back.series[0])
    assert back.tables[0].units == {"a": "m"}
    assert same(one.tables[0], back.tables[0])
    array = back.arrays["x"]
    assert replace(array, values=0) == replace(one.arrays["x"], values=0)
    np.testing.assert_array_equal(array.values, [0, 1, 2])
    assert array.values.dtype == np.int16
    assert store.read_about(tmp_path / "a.h5").status == "diverged"
    assert store.read(tmp_path / "a.h5", arrays=False).arrays == {}


@settings(deadline=None)  # for machines with other work
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
            st.floats(),
            st.integers(0, 2**40),
        ),
        max_size=5,
    )
)
def test_scalars_survive(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("s") / "f.h5"
    scalars = [store.Scalar(name, value, seed) for name, value, seed in rows]
    store.write(path, store.Record("x", scalars))
    for before, after in zip(scalars, store.read(path).scalars, strict=True):
        assert (before.name, before.replica) == (after.name, after.replica)
        assert np.array_equal(before.value, after.value, equal_nan=True)


def curves() -> list[store.Series]:
    """Curves of different lengths and indices, among them one without points."""
    rng = np.random.default_rng(3)
    index: list[dict] = [{}, {"window": 3}, {"kind": "a", "window": -7}, {"rate": 0.5}, {}]
    return [
        store.Series(
            f"s{n}", rng.random(n), rng.random(n), "t", n or None, x_unit=f"{n} m", index=of
        )
        for n, of in zip((0, 4, 1, 0, 700), index, strict=True)
    ]


def tables() -> list[store.Table]:
    """Tables of two names, those of one name not side by side."""
    planes = [
        store.Table("plane", {"u": np.arange(n), "inside": np.arange(n) > 1}, index={"plane": str_})
        for n, str_ in ((3, "a b"), (0, "c"), (900, "d"))
    ]
    other = store.Table("scores", {"method": [0, 2], "nll": [0.5, NAN]}, 4)
    return [planes[0], other, *planes[1:]]


def same(one: store.Series | store.Table, two: store.Series | store.Table) -> bool:
    """Say whether two parts are equal bit for bit, types of columns and indices included."""
    fields = [vars(part).copy() for part in (one, two)]
    columns = [part.pop("columns", {}) for part in fields]
    if [list(some) for some in columns] != [list(columns[0])] * 2:
        return False
    kinds = [{key: type(value) for key, value in part["index"].items()} for part in fields]
    arrays = [{n: v for n, v in part.items() if isinstance(v, np.ndarray)} for part in fields]
    rest = [{n: v for n, v in part.items() if n not in arrays[0]} for part in fields]
    both = zip(*({**a, **c}.values() for a, c in zip(arrays, columns, strict=True)), strict=True)
    equal = all(
        a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=True) for a, b in both
    )
    return equal and kinds[0] == kinds[1] and rest[0] == rest[1]


def test_curves_keep_their_points(tmp_path: Path) -> None:
    store.write(tmp_path / "a.h5", store.Record("any", series=curves()))
    back = store.read(tmp_path / "a.h5").series
    assert len(back) == 5
    assert all(map(same, curves(), back))
    bad = store.Record("any", series=[store.Series("s", np.ones(2), np.ones(3), "t")])
    with pytest.raises(ValueError, match=r"s: x \(2,\), y \(3,\)"):
        store.write(tmp_path / "b.h5", bad)
    assert not (tmp_path / "b.h5").exists()


def test_tables_keep_their_columns(tmp_path: Path) -> None:
    store.write(tmp_path / "a.h5", store.Record("any", tables=tables()))
    back = store.read(tmp_path / "a.h5").tables
    assert [len(table) for table in back] == [3, 2, 0, 900]
    assert all(map(same, tables(), back))
    assert {key: column.dtype for key, column in back[3].columns.items()} == {
        "u": np.int64,
        "inside": np.int64,
    }
    assert back[1].column("nll").dtype == np.float64


def test_errors_of_one_curve_leave_the_others_without(tmp_path: Path) -> None:
    x = np.arange(3.0)
    pair = [store.Series("a", x, x, "t"), store.Series("b", x, x, "t", stderr=x / 2)]
    store.write(tmp_path / "a.h5", store.Record("any", series=pair))
    a, b = store.read(tmp_path / "a.h5").series
    assert np.isnan(a.stderr).all()
    np.testing.assert_array_equal(b.stderr, x / 2)


def curve(**options) -> store.Record:
    return store.Record("any", series=[store.Series("s", np.ones(2), np.ones(2), "t", **options)])


def table(*columns: dict, **options) -> store.Record:
    return store.Record("any", tables=[store.Table("t", one, **options) for one in columns])


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (curve(index={"window": NAN}), "index 'window' is nan"),
        (curve(index={"window": ""}), "index 'window' is ''"),
        (curve(index={"window": "12"}), "index 'window' is '12'"),
        (curve(index={"window": True}), "index 'window' is True"),
        (curve(index={"window": None}), "index 'window' is None"),
        (curve(index={"window": [1]}), r"index 'window' is \[1\]"),
        (curve(index={"replica": 1}), "'s' cannot have this name, or a column .*'replica'"),
        (curve(index={"x": 1}), "column .*'x'"),
        (curve(index={"a/b": 1}), "column .*'a/b'"),
        (curve(stderr=np.ones(3)), r"s: x \(2,\), y \(2,\), stderr \(3,\)"),
        (curve(stderr=np.array(["a", "b"])), "no row of numbers"),
        (table({"status": [1]}), "column .*'status'"),
        (table({"a": [1]}, index={"a": 1}), "column .*'a'"),
        (table({"a": [1]}, {"b": [1]}), "tables named 't' have different columns"),
        (
            store.Record("any", tables=[store.Table("a/b", {"a": [1]})]),
            "'a/b' cannot have this name",
        ),
    ],
)
def test_what_could_not_be_read_back_is_refused(
    tmp_path: Path, record: store.Record, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        store.write(tmp_path / "a.h5", record)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": [1, 2], "b": [1]}, r"lengths \{'a': 2, 'b': 1\}"),
        ({"a": ["x"]}, "no row of numbers"),
        ({"a": [1.0 + 2j]}, "no row of numbers"),
        ({"a": [[1.0]]}, "no row of numbers"),
        ({"a": 1.0}, "no row of numbers"),
        ({}, "lengths"),
    ],
)
def test_columns_are_rows_of_numbers_of_one_length(columns: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        store.Table("t", columns)


def test_an_index_is_a_number_or_a_text_throughout(tmp_path: Path) -> None:
    mixed = [curve(index={"k": 1}).series[0], curve(index={"k": "one"}).series[0]]
    with pytest.raises(ValueError, match="index 'k' is a number here and a text there"):
        store.write(tmp_path / "a.h5", store.Record("any", series=mixed))
    assert not list(tmp_path.iterdir())


def test_big_records_are_read_quickly(tmp_path: Path) -> None:
    """Hundreds of curves are read in some hundredths of a second: figures wait for them."""
    x = np.arange(200.0)
    series = [
        store.Series(f"q{n % 40}", x, x * n, "t", n % 3, index={"window": n // 40})
        for n in range(900)
    ]
    plane = {name: np.linspace(0, n, 4000) for n, name in enumerate(("u", "v", "loss"))}
    planes = [store.Table("plane", plane, index={"plane": f"w{n} c0"}) for n in range(40)]
    store.write(tmp_path / "a.h5", store.Record("any", series=series, tables=planes))
    began = time.perf_counter()
    back = store.read(tmp_path / "a.h5")
    assert time.perf_counter() - began < 2  # 0.05 measured, on a machine with nothing else to do
    assert all(map(same, series, back.series))
    assert all(map(same, planes, back.tables))


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("series/y", lambda old: old[:-1]),
        ("series/index/window", lambda old: old[:-1]),
        ("tables/rows/plane", lambda old: old[:-1]),
        ("scalars", lambda old: old[["name", "replica", "value"]]),
        ("scalars", lambda old: rfn.append_fields(old, "more", np.zeros(len(old)), usemask=False)),
        ("series/curves", lambda old: old[["name", "points"]]),
        ("series/x", None),
        ("series/index", None),
        ("tables", None),
        ("tables/rows/scores", None),
    ],
)
def test_parts_without_what_they_should_have_are_damaged(tmp_path: Path, place, change) -> None:
    path = tmp_path / "a.h5"
    store.write(path, replace(record(), series=curves(), tables=tables()))
    path.write_bytes(path.read_bytes()[512:])  # a file from before there were checksums
    with h5py.File(path, "a") as file:
        kept = change(file[place][()]) if change else None
        del file[place]
        if change:
            file.create_dataset(place, data=rfn.repack_fields(kept) if kept.dtype.names else kept)
    with pytest.raises(UserError, match=r"a\.h5: damaged"):
        store.read(path)


@pytest.mark.parametrize("schema", [1, 2])
def test_older_schemas_are_refused(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "a.h5"
    store.write(path, record())
    path.write_bytes(path.read_bytes()[512:])
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = schema
    with pytest.raises(UserError, match=rf"a\.h5: has schema {schema} .*reads schema 3"):
        store.read(path)


def test_two_writes_of_the_same_have_equal_contents_whatever_the_time(tmp_path: Path) -> None:
    store.write(tmp_path / "a.h5", record())
    later = record()
    later.times = {"seconds": 99.0, "host": "there"}
    store.write(tmp_path / "b.h5", later)
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda r: r.scalars.__setitem__(0, store.Scalar("trace", 3.75, 0)),
            "/scalars value: 1 of 3 values differ, largest 0.25",
        ),
        (lambda r: r.arrays.clear(), "/arrays/probes: only in the first"),
        (
            lambda r: r.arrays.update(times=store.Array(np.ones(2), ("x",))),
            "/arrays/times: only in the second",
        ),
        (
            lambda r: r.arrays.update(probes=store.Array(np.ones((2, 3), np.float32), ("x",))),
            "/arrays/probes values: float64[2, 3] against float32[2, 3]",
        ),
        (lambda r: r.scalars.pop(), "/scalars: 3 against 2"),
        (lambda r: r.series.clear(), "/series: 1 curves against 0"),
        (
            lambda r: r.series.__setitem__(0, replace(r.series[0], index={"window": 1})),
            "/series/0 (density) index: {} against {'window': 1}",
        ),
        (lambda r: r.tables.clear(), "/tables: 1 tables against 0"),
        (
            lambda r: r.tables[0].columns["loss"].__setitem__(0, 2.25),
            "/tables/0 (plane) column loss: 1 of 2 values differ, largest 0.25",
        ),
        (
            lambda r: r.tables.__setitem__(0, store.Table("plane", {"u": [0.5, 1.0]})),
            "/tables/0 (plane): columns ",
        ),
        (lambda r: r.spec.update(a=2), '/@spec: {"a": {"b": 1}} against {"a": 2}'),
        (lambda r: setattr(r, "mode", "paper"), "/@mode: fixed against paper"),
        (
            lambda r: r.series[0].y.__setitem__(1, 1.5),
            "/series/0 (density) y: 1 of 4 values differ, largest 0.5",
        ),
    ],
)
def test_differences_are_named(tmp_path: Path, change, says: str) -> None:
    store.write(tmp_path / "a.h5", record())
    other = record()
    change(other)
    store.write(tmp_path / "b.h5", other)
    found = differences(tmp_path / "a.h5", tmp_path / "b.h5")
    assert any(line.startswith(says) for line in found), found


def test_unknown_status_is_refused(tmp_path: Path) -> None:
    curve = store.Series("s", np.ones(1), np.ones(1), "t", status="fine")
    for bad in (
        store.Record("x", [store.Scalar("a", 1.0, status="fine")]),
        store.Record("x", series=[curve]),
        store.Record("x", status="fine"),
    ):
        with pytest.raises(ValueError, match="fine"):
            store.write(tmp_path / "a.h5", bad)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    store.write(path, record())
    before = path.read_bytes()

    def fail() -> None:
        with files.atomic(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        fail()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        store.write(tmp_path / "file" / "a.h5", record())


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.h5: no such file"):
        store.read(tmp_path / "gone.h5")


@pytest.mark.parametrize("size", [0, 7, 500, -20])
def test_truncated(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.h5"
    store.write(path, record())
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(UserError, match=r"truncated|damaged") as caught:
        store.read(path)
    assert "delete it and run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="not a Loss Atlas file"):
        store.read(tmp_path / "foreign.h5")


def test_other_kind_and_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    store.write(path, record())
    with pytest.raises(UserError, match="holds 'hessian', not 'cka'"):
        store.read(path, "cka")
    with monkeypatch.context() as later:
        later.setattr(store, "SCHEMA", 99)
        store.write(path, record())
    with pytest.raises(UserError, match="has schema 99"):
        store.read(path)
    assert path.exists()


def test_part_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    store.write(path, record())
    path.write_bytes(path.read_bytes()[512:])  # a file from before there were checksums
    with h5py.File(path, "a") as file:
        del file["scalars"]
    with pytest.raises(UserError, match="damaged"):
        store.read(path)


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        store.write(tmp_path / "a.h5", record())
    finally:
        os.umask(old)
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o640


def test_file_systems_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with files.atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    target, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # killed before that
        for path in (target, other):
            with contextlib.suppress(KeyboardInterrupt), files.atomic(path) as temporary:
                (temporary.parent / ".tmpAbCdEf").write_bytes(b"of the writer's own")
                raise KeyboardInterrupt
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 2
    files.sweep(target)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".b.safetensors.")


def test_a_writer_sweeps_after_dead_ones_only(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    here, old = socket.gethostname(), time.time() - 2 * 86400
    cases = {
        f".a.h5.{here}-{dead.pid}.abcdefgh": False,
        f".a.h5.{here}-{os.getpid()}.abcdefgh": True,
        ".a.h5.other-node-1.abcdefgh": True,  # of a machine that cannot be asked
        ".a.h5.other-node-2.abcdefgh": False,
        f".b.h5.{here}-{dead.pid}.abcdefgh": True,
    }
    for name in cases:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.h5").touch()
    os.utime(tmp_path / ".a.h5.other-node-2.abcdefgh", (old, old))
    store.write(tmp_path / "a.h5", record())
    kept = {path.name for path in tmp_path.iterdir()} - {"a.h5"}
    assert kept == {name for name, stays in cases.items() if stays}
