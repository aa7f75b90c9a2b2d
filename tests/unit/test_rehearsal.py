"""Rehearsals: the config made small, the data that stand in, the marks on all that comes out."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imread

from lossatlas import paths, report
from lossatlas.claims import verdicts
from lossatlas.claims.conditions import FAULT
from lossatlas.data import loading, own, rehearsal
from lossatlas.data.corruptions import Corruptions
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, draw
from lossatlas.spec.catalogue import corrupted_source, data_source, rehearsal_of
from lossatlas.spec.config import Config, load
from lossatlas.spec.figures import REHEARSAL
from lossatlas.spec.plan import make_plan
from lossatlas.spec.shown import Shown, tables_told
from lossatlas.tables import collect

PROJECT = paths.PROJECT
CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "config").glob("*.yaml"))]
EXAMPLES = sorted(PROJECT.glob("examples/*/config.yaml"))
PAPERS = ("taxonomy", "simplex", "diffusion")


def both(path: Path, **changes: Any) -> tuple[Config, Config]:
    """Return a config as it is, and as it is rehearsed."""
    raw = {"name": "one", **yaml.safe_load(path.read_text(encoding="utf-8")), **changes}
    return load(raw), load({**raw, "rehearse": True})


def asked(config: Config) -> dict[str, Any]:
    """Return what decides which rules run, and what they make: no sizes."""
    plan = make_plan(config, blocks_on_disk=lambda _: [])
    return {
        "experiments": {name: one.metrics for name, one in config.experiments.items()},
        "axes": {name: list(one.axes) for name, one in config.experiments.items()},
        "kinds": {metric: config.metric(metric).kind for metric in {*config.metrics}},
        "figures": {name: figure.draws for name, figure in config.figures.items()},
        "tables": {name: Shown(config, name).tables("scalars") for name in config.figures},
        "claims": {paper: tables_told(config, paper) for paper in PAPERS},
        "adopted": {name: bool(one.checkpoints) for name, one in config.experiments.items()},
        "recorded": {name: one.record is not None for name, one in config.recipes.items()},
        "corruptions": len(plan.corruptions),
    }


def check_small(real: Config, small: Config) -> None:
    """Hold that a rehearsal asks for the same in small, and that nothing of it passes as real."""
    before, after = asked(real), asked(small)
    after["kinds"] = {name: after["kinds"][name] for name in before["kinds"]}
    assert after == before
    plans = [make_plan(one, blocks_on_disk=lambda _: []) for one in (real, small)]
    assert not plans[0].cells.keys() & plans[1].cells.keys()
    for planned in plans[1].cells.values():
        assert "_rehearsal" in planned.cell.spec["data"]["source"]
        source = data_source(planned.cell.data.source)
        assert source.train <= 200
        recipe = planned.cell.recipe
        assert recipe.batch_size <= 16 or recipe.batch_tokens or planned.cell.adopted
    for name, one in small.experiments.items():
        assert len(small.cells(name)) <= min(9, len(real.cells(name)))
        assert set(one.seed_list) <= set(real.experiments[name].seed_list)
        assert len(one.seed_list) <= 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_the_same_in_small(path: Path) -> None:
    check_small(*both(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_are_the_same_in_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(path.parent, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    if path.parent.name == "checkpoints":
        np.savez("theirs.npz", **labelled(30))
        for hidden in (4, 16, 32, 64):
            for seed in range(6):
                file = Path(f"runs/hidden={hidden}/batch=8/seed={seed}.pt")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{hidden} {seed}")
    real, small = both(Path("config.yaml"))
    check_small(real, small)
    if path.parent.name == "checkpoints":
        assert small.experiments["adopted"].axes["model.hidden"] == [4, 32, 64]
        assert small.experiments["adopted"].seed_list == [0, 1]
        assert [len(files) for files in small.checkpoints("adopted")] == [2, 2, 2]


def labelled(count: int) -> dict[str, np.ndarray]:
    """Return images of three classes, sorted by class."""
    labels = np.sort(np.arange(count) % 3)
    images = np.arange(count, dtype=np.uint8)[:, None, None] + np.zeros((count, 8, 8), np.uint8)
    return {f"{s}_{k}": v for s in ("train", "test") for k, v in
            (("images", images), ("labels", labels))}  # fmt: skip


def test_relations_are_kept() -> None:
    real, small = both(PROJECT / "config/taxonomy.yaml")
    decay = small.recipes["lr_decay"]
    assert (decay.epochs, decay.decay_epochs) == (5, [4])  # 75 of 100
    assert small.experiments["amount_of_data"].load["data_fraction"] == [0.1, 1.0]
    assert small.experiments["lr_decay"].load["width"] == [1, 2]
    assert small.experiments["lr_decay"].temperature["batch_size"] == [8, 16]
    assert small.metric("hessian").chunk == real.metric("hessian").chunk
    _, small = both(PROJECT / "config/diffusion.yaml")
    for name in small.experiments:
        for cell in small.cells(name):
            steps = cell.recipe.steps(cell.data.kept(data_source(cell.data.source).train))
            windows = cell.recipe.record.windows(steps)
            assert len(windows) >= 2, name
            assert steps <= 300, name
            least = windows[0][1] - windows[0][0]
            assert small.metric("diffusion").fit[1] <= least / 4
    _, small = both(PROJECT / "config/simplex.yaml")
    espro = small.metric("espro")
    assert (espro.swag_epochs, espro.swag_rank) == (2, 2)
    assert small.metric("espro_many").swag_epochs == 0
    complexes = small.metric("wide_complex")
    named = {vertex for simplex in complexes.complex for vertex in simplex}
    assert named == {"w0", "w1", "c0", "c1", "c2"}
    assert small.experiments["vgg_cifar10"].seed_list == [0, 1, 2, 3]  # two complexes of two modes


def test_few_data_and_odd_relations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", **labelled(12))
    raw = yaml.safe_load("""
    datasets: {mine: {source: mine.npz, fraction: 0.75}}
    models: {mlp: }
    recipes: {late: {epochs: 2, batch_size: 8, decay_epochs: [1]}, once: {epochs: 1, batch_size: 9}}
    experiments:
      one:
        {dataset: mine, model: mlp, recipe: late, seeds: [7, 3, 9, 5], metrics: [connectivity],
         load: {data_fraction: [1.0, 0.9]}, temperature: {batch_size: [9, 2, 1]}}
      two: {dataset: mine, model: mlp, recipe: once, metrics: [performance]}
    metrics: {connectivity: {pairs: [[7, 9]], points: 3}}
    """)
    small = load({**raw, "name": "x", "rehearse": True})
    one = small.experiments["one"]
    assert one.seed_list == [3, 5]
    assert small.metric("connectivity").pairs == "first"
    assert small.metric("connectivity").points == 3
    assert one.temperature["batch_size"] == [9, 1]
    assert one.load["data_fraction"] == [1.0]  # others leave less than a batch of what there is
    assert small.recipes["once"].epochs == 1
    assert make_plan(small).cells


@pytest.mark.parametrize("word", ["maybe", "1", 1, 2.5, {"epochs": 1}])
def test_other_words_are_refused(word: Any) -> None:
    raw = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
    with pytest.raises(UserError, match=r"^rehearse: .*true or false"):
        load({**raw, "name": "x", "rehearse": word})


@pytest.mark.parametrize(
    ("word", "on"), [("true", True), ("True", True), ("on", True), ("off", False)]
)
def test_words_of_a_command_line(word: str, on: bool) -> None:
    raw = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
    assert load({**raw, "name": "x", "rehearse": word}).rehearse is on


def test_no_experiments_is_one_line() -> None:
    raw = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
    with pytest.raises(UserError, match=r"^experiments: "):
        load({**raw, "name": "x", "experiments": {}, "rehearse": True})


def test_mistakes_are_those_of_the_config() -> None:
    raw = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
    raw["datasets"]["digits"]["fraction"] = 0.05  # 72 images, and batches of 128
    with pytest.raises(UserError, match="batch_size 128 is more than the 72 training images"):
        load({**raw, "name": "x", "rehearse": True})


# --- data ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "mnist", "gauss"])
def test_made_images_are_as_the_table_says(name: str) -> None:
    row, real = data_source(f"{name}_rehearsal"), data_source(name)
    record = rehearsal.made(row)
    data = loading.load(record)
    assert data.classes == real.classes
    assert (data.channels, data.image_size) == (real.channels, real.image_size)
    assert len(data.train) == row.train
    assert len(data.test) == row.test
    assert set(data.train.labels.tolist()) == set(range(real.classes))
    again = rehearsal.made(row)
    assert all(
        (record.arrays[key].values == again.arrays[key].values).all() for key in record.arrays
    )
    train, test = data.train.tensor.flatten(1), data.test.tensor.flatten(1)
    means = [train[data.train.labels == c].mean(0) for c in range(real.classes)]
    nearest = [min(range(real.classes), key=lambda c: float((x - means[c]).norm())) for x in test]
    assert np.mean(np.array(nearest) == data.test.labels.numpy()) > 0.9  # can be learned


def test_made_corruptions_are_of_the_made_test_images(tmp_path: Path) -> None:
    source = corrupted_source("cifar10_c_rehearsal")
    rehearsal.write_corruptions(source, tmp_path / "some.tar")
    archive = Corruptions(tmp_path / "some.tar")
    clean = rehearsal.made(data_source("cifar10_rehearsal")).arrays
    assert archive.kinds == ["blur", "contrast"]
    assert archive.labels.tolist() == clean["test_labels"].values.tolist()
    assert archive.images("blur", 5).shape == clean["test_images"].values.shape
    assert source.test == len(archive.labels) * 5 * 2


def test_own_data_are_the_first_of_each_class(tmp_path: Path) -> None:
    path = tmp_path / "sorted.npz"
    np.savez(path, **labelled(600))
    row = own.describe_npz(path)
    small = data_source_of(row, "sorted")
    record = rehearsal.first_of(small, path)
    labels = record.arrays["train_labels"].values
    assert np.bincount(labels).tolist() == [54, 53, 53]
    assert (np.diff(labels) >= 0).all()
    values = record.arrays["train_images"].values
    whole = own.convert(row, path).arrays["train_images"].values
    assert (values[:54] == whole[:54]).all()
    assert (values[54:107] == whole[200:253]).all()
    assert record.spec["stands_for"] == "sorted"


def data_source_of(row: Any, name: str) -> Any:
    return rehearsal_of(replace(row, name=name))


def test_own_tokens_are_the_first(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npz"
    tokens = np.random.default_rng(0).integers(0, 50, (500, 12))
    np.savez(path, train_inputs=tokens, test_inputs=tokens[:90])
    small = data_source_of(own.describe_npz(path), "tokens")
    record = rehearsal.first_of(small, path)
    assert (record.arrays["train_inputs"].values == tokens[:160, :-1]).all()
    assert (record.arrays["test_targets"].values == tokens[:60, 1:]).all()
    assert record.settings["classes"] == 50


# --- where it lies, and what it says --------------------------------------------------------------
@pytest.fixture
def rehearsing() -> Any:
    paths.use("mine", rehearsal=True)
    yield
    paths.use(paths.DEFAULT)


def test_everything_lies_in_a_folder_of_its_own(rehearsing: None) -> None:
    made = [
        *(paths.figure("f", "png"), paths.claims(), paths.page(), paths.origin("mine")),
        *(paths.metric("c", "m"), paths.weights("c", "0"), paths.dataset("d"), paths.download("a")),
        *(paths.study("s"), paths.metric_table(paths.STUDIES, "s"), paths.table("e")),
        *(paths.state("x"), paths.lease("x"), paths.kept("x"), paths.code("x"), paths.accepted()),
        *(paths.log("train", "c"), paths.log("figure", "f"), paths.vertices("c"), paths.imported()),
    ]
    assert [path for path in made if not path.startswith("results/rehearsal/")] == []
    assert paths.figure("f", "png") == "results/rehearsal/mine/figures/f.png"
    paths.use("mine")
    assert paths.figure("f", "png") == "results/mine/figures/f.png"
    assert not paths.rehearsing()


def test_a_config_cannot_be_called_rehearsal() -> None:
    raw = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
    with pytest.raises(UserError, match="'rehearsal' is taken in results/"):
        load({**raw, "name": "rehearsal"})


def test_tables_say_so_and_read_as_before(rehearsing: None, tmp_path: Path) -> None:
    table = ft.tables(ft.product([2, 4], [16]), metrics={"train_loss": "replica"}).scalars
    collect.write(tmp_path / "a.csv", table)
    raw = pd.read_csv(tmp_path / "a.csv")
    assert list(raw.columns) == [*table.columns, "rehearsal"]
    assert set(raw["rehearsal"]) == {"not a result"}
    pd.testing.assert_frame_equal(collect.read(tmp_path / "a.csv"), table, check_dtype=False)
    paths.use("mine")
    collect.write(tmp_path / "b.csv", table)
    assert list(pd.read_csv(tmp_path / "b.csv").columns) == list(table.columns)


def test_captions_say_so() -> None:
    real, small = both(PROJECT / "config/smoke.yaml")
    caption, mark = Shown(real, "taxonomy_phases").caption, "\n\nExperiment"
    assert f"\n\n{caption.partition(mark)[0]}{mark}" in Shown(small, "taxonomy_phases").caption
    assert Shown(small, "taxonomy_phases").caption.startswith("A rehearsal, and not a result")


def picture(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of a figure with a legend at its upper edge, without and with a mark."""
    found = []
    for mark in ("", text):
        figure = Figure(figsize=(3, 2))
        axes = figure.add_axes((0.2, 0.2, 0.7, 0.5))
        axes.plot([0, 1], label="some")
        figure.legend(loc="upper center")
        whole = draw.whole_page(figure)
        whole = draw.marked(figure, mark, whole) if mark else whole
        draw.save(Drawn(figure, pd.DataFrame()), f"{len(found)}.png", "png", 100, whole)
        found.append(imread(f"{len(found)}.png"))
    return found[0], found[1]


def test_a_mark_covers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, marked = picture(REHEARSAL)
    strip = marked.shape[0] - plain.shape[0]
    assert 15 < strip < 40
    assert np.abs(marked[strip:] - plain).max() < 0.3  # half a pixel of the strip at most
    assert (np.abs(marked[strip + 1 :] - plain[1:]) < 0.02).mean() > 0.999
    ground = marked[strip // 2, 3, :3]
    assert ground[0] > 0.6
    assert ground[1] < 0.3
    assert (marked[:strip, :, 1] > 0.9).any()  # white letters


def test_no_claim_is_testable() -> None:
    rows = [
        ("P", "C1", "e", "s", "c", "x", "none", "rho is 1", 1.0, 0.5, 2.0, 0.01, 0.02, 9, "yes")
    ]
    rows.append((*rows[0][:7], f"{FAULT}KeyError: 'x'", *rows[0][8:14], "not testable"))
    table = verdicts.of_a_rehearsal(pd.DataFrame(rows, columns=verdicts.COLUMNS))
    assert table["holds"].tolist() == ["not testable"] * 2
    assert table["observed"].tolist() == ["a rehearsal", f"{FAULT}KeyError: 'x'"]
    assert table[["effect", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert table["units"].tolist() == [0, 0]


def test_plan_says_what_a_rehearsal_costs(capsys: pytest.CaptureFixture[str]) -> None:
    _, small = both(PROJECT / "config/taxonomy.yaml")
    some = [make_plan(one, blocks_on_disk=lambda _: []) for one in (small, small)]
    report.plan(some[0], rehearsal=some[1], files=["config/taxonomy.yaml"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Plan of the rehearsal of one" in said
    command = "snakemake --configfile config/taxonomy.yaml --config rehearse=true"
    replicas = sum(len(cell.seeds) for cell in some[1].cells.values())
    assert f"Rehearse it first ({replicas} replicas, " in said
    assert f"): {command} " in f"{said} "
