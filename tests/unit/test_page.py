"""What the page holds: numbers, phases and curves as in the tables, and nothing that runs."""

import base64
import gzip
import json
import math
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import page_tables
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from lossatlas import paths, store
from lossatlas.errors import UserError
from lossatlas.page import assets, contents, lines, runs, write
from lossatlas.spec.figures import Thresholds
from lossatlas.tables import collect
from lossatlas.tables.phases import phases

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'\U0001f600"


def content(page: str) -> dict:
    packed = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_numbers_are_those_of_the_tables(tmp_path):
    asked = page_tables.asked(tmp_path)
    found = contents.of_experiment(asked, {"train_loss": ("nats", "loss")})
    table = collect.read(asked.scalars[0])
    assert found["axes"] == ["width", "batch_size"]
    assert len(found["cells"]) == 12
    summary = collect.cell_summary(table).set_index(["metric", "cell"])
    for name in ("train_loss", "log_hessian_trace", "mode_connectivity", "cka"):
        for place, cell in enumerate(found["cells"]):
            row = summary.loc[(name, cell["id"])]
            numbers = found["numbers"][name]
            assert numbers["value"][place] == pytest.approx(row["value"], rel=1e-5)
            assert numbers["stderr"][place] == pytest.approx(row["stderr"], rel=1e-5)
            assert numbers["n"][place] == row["count"]
    assert found["units"]["train_loss"] == ["nats", "loss"]
    # Of any metric, the mean over replicas.
    mean = table[(table["metric"] == "hessian_trace") & (table["cell"] == "net-w2-b16")]["value"]
    place = [cell["id"] for cell in found["cells"]].index("net-w2-b16")
    assert found["numbers"]["hessian_trace"]["value"][place] == pytest.approx(mean.mean(), rel=1e-5)


def test_a_single_number_keeps_its_own_error(tmp_path):
    row = ("e", "c", 1, 2, "volume", None, None, 3.0, 0.25, 7.0, "ok")
    path = page_tables.save(tmp_path, "one", page_tables.frame([row], collect.SCALAR))
    found = contents.of_experiment(contents.Asked("e", [path], []), {})["numbers"]["volume"]
    assert (found["value"], found["stderr"], found["df"], found["n"]) == ([3.0], [0.25], [7.0], [1])


@pytest.mark.parametrize("rule", ["published", "nulls"])
def test_phases_are_those_of_the_rule(tmp_path, rule):
    asked = page_tables.asked(tmp_path, rule=rule)
    found = contents.of_experiment(asked, {})["phases"]
    summary = collect.cell_summary(collect.read(asked.scalars[0]))
    wanted = phases(summary, Thresholds(rule=rule))
    assert found["label"] == wanted["phase"].to_list()
    assert len(set(found["label"])) > 2
    for name in ("I", "II", "III", "IV-A", "IV-B"):
        np.testing.assert_allclose(found["probability"][name], wanted[f"p_{name}"], atol=2e-3)
    for key, table in found["student"].items():
        np.testing.assert_allclose(table, stats.t.cdf(found["errors"], float(key)), rtol=2e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=900), st.integers(4, 200))
def test_thinned_curves_keep_their_extremes(values, most):
    array = np.array(values)
    kept = lines.thinned(array, most)
    assert len(kept) <= max(most, len(values) if len(values) <= most else 0)
    assert (np.diff(kept) > 0).all()
    assert array[kept].max() == array.max()
    assert array[kept].min() == array.min()
    assert {0, len(values) - 1} <= set(kept)


def test_curves_and_planes_of_a_table():
    columns = ["series", *collect.SEEDS, "window", "u", "v", "loss", *collect.POINT, "status"]
    nothing, place = (math.nan,) * 4, ("e", "c", 1, 2)
    rows = [
        (
            "e",
            "c",
            1,
            2,
            "msd",
            seed,
            None,
            window,
            *(math.nan,) * 3,
            lag,
            lag * window,
            0.5,
            2.0,
            "ok",
        )
        for seed in (0, 1)
        for window in (100, 200)
        for lag in (3.0, 1.0, 2.0)
    ]
    rows += [
        (*place, "plane", None, None, math.nan, u, v, 10 * u + v, *nothing, "ok")
        for u in (0.0, 1.0, 2.0)
        for v in (0.0, 1.0, 2.0, 3.0)
    ]
    found = lines.of_series(page_tables.frame(rows, columns))["c"]
    msd = [one for one in found if one["series"] == "msd"]
    assert {one["name"] for one in msd} == {
        f"replica {s}, window {w}" for s in (0, 1) for w in (100, 200)
    }
    one = next(one for one in msd if one["name"] == "replica 1, window 200")
    assert (one["x"], one["y"], one["of"]) == ([1, 2, 3], [200, 400, 600], 4)
    assert (one["low"], one["high"]) == ([199.5, 399.5, 599.5], [200.5, 400.5, 600.5])
    (plane,) = (one for one in found if one["series"] == "plane")
    assert (plane["u"], plane["v"]) == ([0, 1, 2], [0, 1, 2, 3])
    assert plane["z"][3] == [3, 13, 23]  # rows by v


def test_the_page_asks_for_nothing_and_holds_all(tmp_path):
    picture, path = tmp_path / "f.png", tmp_path / "report.html"
    Image.new("RGB", (2400, 600), "white").save(picture)
    shown = [write.Shown("f", str(picture), "It *shows* ``a``.\n\nMore.")]
    write.write(str(path), page_tables.atlas(tmp_path, figures=shown))
    page = path.read_text()
    held = content(page)
    assert [one["name"] for one in held["experiments"]] == ["e", "f"]
    assert [one["claim"] for one in held["claims"]] == ["T1", "T2", "C1"]
    assert "<p>It <em>shows</em>" in page
    assert 'href="figures/f.pdf"' in page
    elements = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/webp;|#|figures/)""", elements)
    assert "default-src 'none'" in page
    assert len(page) < 1.6e6


class Parsed(HTMLParser):
    """What a browser would run or ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.asked, self.handlers = 0, list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.asked += [value for name, value in attrs if name in ("src", "href")]


def test_a_damaged_figure_is_one_line(tmp_path):
    picture = tmp_path / "f.png"
    Image.new("RGB", (20, 20), "white").save(picture)
    picture.write_bytes(picture.read_bytes()[:50])
    shown = [write.Shown("f", str(picture), "")]
    with pytest.raises(UserError, match=r"f\.png: no whole picture \(delete it"):
        write.write(str(tmp_path / "p.html"), page_tables.atlas(tmp_path, figures=shown))
    assert not (tmp_path / "p.html").exists()


def test_text_of_others_is_never_markup(tmp_path):
    picture, path = tmp_path / "f.png", tmp_path / "report.html"
    Image.new("RGB", (20, 20), "white").save(picture)
    caption = f"{EVIL}\n\n.. raw:: html\n\n   <script>alert(3)</script>\n\n"
    caption += "`a <javascript:alert(4)>`__ `b <data:text/html,x>`__\n\n.. include:: /etc/passwd\n"
    figures = [write.Shown("f", str(picture), caption)]
    texts = {"about": {EVIL: EVIL}, "config": EVIL, "warning": EVIL}
    write.write(str(path), page_tables.atlas(tmp_path, figures=figures, **texts))
    page = path.read_text()
    parsed = Parsed(page)
    assert parsed.scripts == 3  # data, library, ours
    assert parsed.handlers == []
    assert not [one for one in parsed.asked if not re.match("data:image/webp;|#|figures/f", one)]
    assert "root:x:0" not in page


def test_scripts_cannot_end_their_element():
    assert assets.in_element("a('</script>'); // <!-- x") == "a('<\\/script>'); // <\\!-- x"
    for name in assets.SCRIPTS:
        assert "innerHTML" not in (assets.LOOK / f"{name}.js").read_text()


@pytest.mark.parametrize("case", ["nothing", "diverged", "one replica", "no axes", "a name"])
def test_experiments_with_little_in_them(tmp_path, case):
    table = page_tables.scalars((1, 2), (2,), replicas=1 if case == "one replica" else 3)
    if case == "nothing":
        table = table.iloc[:0]
    elif case == "diverged":
        table = table.assign(value=math.nan, status="diverged")
    elif case == "no axes":
        table = table.drop(columns=["width", "batch_size"])
    elif case == "a name":
        table["cell"] = table["cell"] + EVIL.replace("\n", "")
    path = page_tables.save(tmp_path, "t", table)
    found = contents.of_experiment(contents.Asked("e", [path], []), {})
    assert len(found["cells"]) == (0 if case == "nothing" else 2)
    if case == "diverged":
        assert set(found["numbers"]["train_loss"]["status"]) == {"diverged"}
        assert found["numbers"]["train_loss"]["value"] == [None, None]
    if case == "one replica":
        assert found["numbers"]["train_loss"]["stderr"] == [None, None]
        assert found["phases"] is None  # no pairs, no connectivity
    write.write(str(tmp_path / "p.html"), page_tables.atlas(tmp_path, experiments=[found]))
    assert content((tmp_path / "p.html").read_text())["experiments"][0] == found


def test_a_large_grid_fits(tmp_path):
    grid = tuple(range(1, 15)), tuple(range(2, 15))
    sizes = {
        "scalars": [page_tables.save(tmp_path, "s", page_tables.scalars(*grid, replicas=5))],
        "series": [page_tables.save(tmp_path, "c", page_tables.series(*grid))],
    }
    found = contents.of_experiment(contents.Asked("e", **sizes), {})
    assert len(found["cells"]) == 182
    assert len(write.packed({"experiments": [found]})) < 1e6


def test_runs_and_curves_of_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell, x = "net-w1-b2", np.array([1.0, 2.0, 3.0])
    ends = {"final_train_loss": (0.25, math.nan), "final_train_accuracy": (91.0, math.nan)}
    scalars = [
        store.Scalar(name, values[seed], seed, status="ok" if seed == 0 else "diverged")
        for name, values in ends.items()
        for seed in (0, 1)
    ]
    curves = [
        store.Series("train_loss", x, x / (seed + 1), "epoch", seed, y_unit="nats")
        for seed in (0, 1)
    ]
    record = store.Record("training", scalars, curves, provenance={"device": "cuda"})
    record.times = {"seconds": 7.0, "peak_memory_bytes": 5e8, "started": "2026-11-29T01:02:03Z"}
    store.write(paths.history(cell, "0-1"), record)
    path = store.Series("train_loss", x, x, "t", 0, 1, y_unit="nats")
    store.write(paths.metric(cell, "connectivity"), store.Record("connectivity", series=[path]))
    # without weights, as after `lossatlas import` or `prune`
    rows, found = runs.of_cells([cell, "elsewhere"])
    wanted = {"train_loss": 0.25, "train_accuracy": 91, "status": "ok", "seconds": 7, "together": 2}
    assert rows[0].items() >= {**wanted, "memory_mb": 500, "device": "cuda"}.items()
    assert (rows[0]["started"], rows[1]["status"]) == ("2026-11-29 01:02", "diverged")
    assert rows[1]["train_loss"] is None
    assert list(found) == [cell]
    assert found[cell][1]["y"] == [0.5, 1, 1.5]
    assert (found[cell][1]["over"], found[cell][1]["of"]) == (["epoch", "nats"], 2)
    asked = page_tables.asked(tmp_path)
    asked = replace(asked, metrics=["connectivity", "cka"])
    told = contents.of_experiment(asked, {})
    assert told["over"] == {"train_loss": ["place on the path, from 0 to 1", "nats"]}
    assert told["cells"][0]["commands"] == [f"snakemake {paths.weights(cell, '0-1')}"]


def test_what_is_told_of_runs():
    row = {"device": "cpu", "versions": "torch 2", "seconds": 3600.0}
    told = runs.told(
        [
            {**row, "status": "ok", "file": "a"},
            {**row, "status": "diverged", "file": "a"},
            {**row, "status": "ok", "file": "b"},
        ]
    )
    assert told["replicas trained"] == "3, of which 1 diverged"
    assert told["training"] == "2 hours in 2 jobs on cpu"  # two replicas of one job
    assert runs.told([]) == {}


def test_a_digest_follows_the_look(monkeypatch, tmp_path):
    before = assets.digest()
    (tmp_path / "main.js").write_text("other")
    monkeypatch.setattr(assets, "LOOK", tmp_path)
    assert assets.digest() != before


def test_empty_series():
    assert lines.of_series(pd.DataFrame()) == {}


def test_the_commit_of_a_checkout(tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    assert assets.commit(tmp_path) == ""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").write_text("one")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert assets.commit(tmp_path) == head.stdout[:12]
    assert assets.commit(tmp_path / "inner") == ""  # a folder of somebody else's project
    (tmp_path / "inner/file").write_text("two")
    assert assets.commit(tmp_path) == f"{head.stdout[:12]} with changes"
