"""What was measured of a replica or a pair is kept: nothing twice, and the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lossatlas import measuring, paths, store
from lossatlas.data.convert import convert
from lossatlas.differences import differences
from lossatlas.metrics import registry
from lossatlas.metrics.hessian import Hessian
from lossatlas.metrics.parts import divide, put_together
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.store import Array, Record, Scalar
from lossatlas.training import job

torch.set_num_threads(1)
SEEDS = [0, 1, 2, 3]
SETTINGS = {
    "performance": {},
    "hessian": {"samples": 40, "density_steps": 5, "iterations": 12, "probes": 9},
    "gauss_newton": {"samples": 40, "density_steps": 5, "iterations": 12, "probes": 9},
    "connectivity": {"epochs": 1, "points": 3},
    "cka": {"samples": 40, "batch_size": 20},
    "distance": {},
    "landscape": {"side": 9, "samples": 30},
    "hessian_path": {"eigenvalues": 2, "iterations": 6, "density_probes": 0, "samples": 40},
    "diffusion": {"fit": [1, 4], "bootstrap": 5},
}
RECORD = {"length": 40, "stride": 40, "snapshots": 1, "projection": 4}
BUILDERS = [ModelPart(builder="mlp", width=4, depth=1), ModelPart(builder="resnet18", width=1)]


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda part: part.builder)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A cell of four replicas, in blocks of two."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = Recipe(epochs=2, batch_size=16, record=RECORD)
    cell = Cell(DataPart(source="digits", fraction=0.3), request.param, recipe)
    dataset = str(folder / "digits.h5")
    store.write(dataset, convert("digits"))
    files = []
    for block in ([0, 1], [2, 3]):
        name = str(folder / f"{block[0]}")
        job.train_block(cell.spec, block, dataset, f"{name}.safetensors", f"{name}.h5", "code")
        files.append((f"{name}.safetensors", f"{name}.h5"))
    return cell, dataset, files


class Measured:
    """Measures one metric on some of the replicas, as jobs of one cell do."""

    def __init__(self, folder: Path, trained, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.cell, self.dataset, self.files = trained

    def __call__(self, seeds: list[int], parts: str = "parts", code: str = "code", **settings):
        inputs = self.inputs(seeds, str(self.folder / parts))
        if self.kind == "distance":
            store.write(inputs.performance, self._run("performance", seeds, inputs, code, {}))
        asked = SETTINGS[self.kind] | settings
        record = self._run(self.kind, seeds, inputs, code, asked)
        self.count = record.times["units_measured"]
        path = self.folder / f"{len(list(self.folder.glob('*.h5')))}.h5"
        store.write(path, record)
        return path

    def inputs(self, seeds: list[int], parts: str) -> measuring.Inputs:
        blocks = [self.files[0]] + ([self.files[1]] if max(seeds) > 1 else [])
        weights, histories = zip(*blocks, strict=True)
        performance = str(self.folder / "performance")
        return measuring.Inputs(weights, histories, self.dataset, performance, parts)

    def _run(self, kind: str, seeds: list[int], inputs, code: str, asked: dict) -> Record:
        if kind != self.kind:
            inputs = measuring.Inputs(inputs.weights, inputs.histories, inputs.dataset)
        return measuring.measure_cell(kind, asked, self.cell.spec, seeds, inputs, code)


@pytest.fixture
def measured(tmp_path: Path, trained, request, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "results"))
    return Measured(tmp_path, trained, request.param)


@pytest.mark.parametrize("measured", list(SETTINGS), indirect=True)
def test_one_more_seed_measures_what_is_new(measured: Measured) -> None:
    """And the record is that of measuring all at once, bit for bit."""
    pairs = registry.built_in()[measured.kind].per == "pair"
    chain = measured.kind == "connectivity"
    measured([0, 1])
    assert measured.count == (1 if pairs else 2)
    measured([0, 1, 2])
    assert measured.count == ((1 if chain else 2) if pairs else 1)
    grown = measured(SEEDS)
    assert measured.count == ((1 if chain else 3) if pairs else 1)
    again = measured(SEEDS)
    assert measured.count == 0
    whole = measured(SEEDS, "elsewhere")
    assert measured.count == ((3 if chain else 6) if pairs else 4)
    assert differences(grown, whole) == differences(again, whole) == []


@pytest.mark.parametrize("measured", ["hessian", "cka"], indirect=True)
def test_a_part_is_of_its_settings_code_weights_and_data(measured: Measured) -> None:
    measured(SEEDS)
    kept = {path.name for path in (measured.folder / "parts").iterdir()}
    measured(SEEDS, code="other")
    assert measured.count == len(kept)
    now = {path.name for path in (measured.folder / "parts").iterdir()}
    assert len(now) == len(kept)  # those of before are gone
    assert not now & kept
    measured(SEEDS, code="other", seed=1)
    assert measured.count == len(kept)
    assert {path.name for path in (measured.folder / "parts").iterdir()} > now
    measured(SEEDS, code="other")
    assert measured.count == 0  # another config asks for these settings
    weights = Path(measured.files[1][0])
    content = weights.read_bytes()
    try:
        measured(SEEDS)
        recipe = measured.cell.recipe
        assert recipe.epochs == 2
        block, other = [2, 3], measured.folder / "other.h5"
        job.train_block(measured.cell.spec, block, measured.dataset, str(weights), str(other), "c")
        measured(SEEDS)
        assert measured.count == 0  # the same weights
        digits = convert("digits")
        digits.arrays["train_images"].values[0] = 0
        store.write(measured.folder / "data", digits)
        measured.dataset = str(measured.folder / "data")
        measured(SEEDS)
        assert measured.count == len(kept)
    finally:
        weights.write_bytes(content)


@pytest.mark.parametrize("measured", ["cka"], indirect=True)
def test_damaged_parts_are_measured_again(measured: Measured) -> None:
    first = measured(SEEDS)
    one, two, *_ = (measured.folder / "parts").iterdir()
    one.write_bytes(one.read_bytes()[:-9])
    two.write_text("")
    assert differences(first, measured(SEEDS)) == []
    assert measured.count == 2


@pytest.mark.parametrize("measured", ["hessian", "gauss_newton", "hessian_path"], indirect=True)
def test_settings_that_only_cost_memory_or_time(measured: Measured) -> None:
    """They change results by rounding alone, so that parts and records stay valid."""
    usual = store.read(measured(SEEDS, "none"))
    chunked = store.read(measured(SEEDS, "other", chunk=7))
    for one, other in zip(usual.scalars, chunked.scalars, strict=True):
        assert (one.name, one.replica, one.status) == (other.name, other.replica, other.status)
        assert one.value == pytest.approx(other.value, rel=1e-4)
    assert "chunk" not in Hessian().identity
    measured(SEEDS)
    measured(SEEDS, chunk=7)
    assert measured.count == 0


def test_rows_of_different_lengths_are_filled_up() -> None:
    def part(seed: int, count: int) -> Record:
        values = np.full((1, count), float(seed))
        return Record("k", [Scalar("a", 1.0, seed)], arrays={"x": Array(values, ("replica", "n"))})

    whole = put_together("k", [part(0, 2), part(1, 3)])
    expected = [[0, 0, np.nan], [1, 1, 1]]
    np.testing.assert_array_equal(whole.arrays["x"].values, expected)
    back = divide(whole, [(0,), (1,)])
    assert [row.replica for row in back[1,].scalars] == [1]
    with pytest.raises(ValueError, match="array 'x' has 2 rows for 1 units"):
        divide(Record("k", arrays=whole.arrays), [(0,)])
    shared = [Record("k", arrays={"y": Array(np.array(i), ())}) for i in range(2)]
    with pytest.raises(ValueError, match="'y' of a k is not the same for all units"):
        put_together("k", shared)


def test_which_seeds_matter() -> None:
    metric = registry.built_in()
    uses = {
        ("performance", ()): SEEDS,
        ("connectivity", (("mode", "paper"),)): [0, 1],
        ("connectivity", (("pairs", "first"),)): [0, 1],
        ("connectivity", ()): SEEDS,
        ("simplex", ()): [0, 1],
        ("simplex", (("complex", "single"),)): [0],
        ("simplex", (("complex", "single"), ("repeats", 3))): [0, 1, 2],
        ("simplex_volume", ()): [0, 1],
        ("simplex_volume", (("repeats", 2),)): SEEDS,
        ("espro", ()): SEEDS,
        ("espro", (("replicas", 2),)): SEEDS[:2],
        ("espro_strength", (("repeats", 2),)): SEEDS[:2],
    }
    for (kind, settings), expected in uses.items():
        assert metric[kind](**dict(settings)).uses(SEEDS) == expected
    assert metric["connectivity"](pairs=[[3, 1]]).uses(SEEDS) == [1, 3]
    listed = metric["simplex"](complex=[["w1", "c0"], ["w3", "c0"]])
    assert (listed.uses(SEEDS), listed.least) == ([1, 3], 2)


def test_a_complex_whose_modes_diverged(tmp_path: Path, monkeypatch) -> None:
    record = Record("simplex")
    measuring.add_diverged(record, registry.built_in()["simplex"](), [0], [1])
    assert record.status == "diverged"
    found = {(row.name, row.replica): (row.status, row.unit) for row in record.scalars}
    assert found["mode_loss", 1] == ("diverged", "nats")
    assert found["mode_loss", 0] == ("undefined", "nats")
    assert found["inside_accuracy_min", None] == ("diverged", "percent")
