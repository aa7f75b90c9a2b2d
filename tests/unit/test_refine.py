"""The choice of cells: against formulas of normal variables, and on grids that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lossatlas import paths
from lossatlas.reference import taxonomy_published, taxonomy_tables
from lossatlas.refine import choose, generators, oracles, rounds, trial
from lossatlas.refine.surrogate import Surrogate, coordinates, fit
from lossatlas.spec.figures import Thresholds
from lossatlas.spec.refining import coarse, evenly, more_seeds
from lossatlas.tables import collect, phases
from lossatlas.tables.collect import cell_summary
from lossatlas.tables.phases import PHASES

GRID = {f"{x}-{y}": {"width": 2**x, "batch_size": 2**y} for x in range(6) for y in range(5)}
PUBLISHED = Thresholds(rule="published")


def normal(cells: int, seed: int = 0) -> Surrogate:
    random = np.random.default_rng(seed)
    root = random.normal(size=(cells, cells))
    return Surrogate(random.normal(size=cells), root @ root.T / cells, np.full(cells, 0.3))


def rows(numbers: dict[str, tuple[float, float, float]], spread: float = 0.01) -> pd.DataFrame:
    """Return scalars of three replicas of cells that have these means of trace, path and CKA."""
    names = ("hessian_trace", "mode_connectivity", "cka")
    found = []
    for cell, means in numbers.items():
        for name, mean in zip(names, means, strict=True):
            value = np.exp(mean) if name == "hessian_trace" else mean
            for replica in range(3):
                shift = (replica - 1) * spread
                number = value * (1 + shift) if name == "hessian_trace" else value + shift
                place = ("own", cell, *GRID[cell].values())
                found.append((*place, name, replica, pd.NA, number, np.nan, np.nan, "ok"))
    columns = ["experiment", "cell", "width", "batch_size", "metric", "replica", "partner"]
    return pd.DataFrame(found, columns=[*columns, "value", "stderr", "df", "status"])


def plane(cell: str) -> tuple[float, float, float]:
    """Return flat cells at large widths, poorly connected ones at small batches."""
    x, y = map(int, cell.split("-"))
    return 5.25 + 1.5 * (2.4 - x), -2.0 + 3.0 * (y - 1.6), 0.5 + 0.1 * x


def test_a_process_interpolates_and_is_surest_where_it_was_measured() -> None:
    places = coordinates([[*point.values()] for point in GRID.values()])
    truth = np.sin(3 * places[:, 0]) + places[:, 1]
    measured = np.arange(0, 30, 2)
    none = np.full(15, np.nan)
    found, limit = fit(places, measured, truth[measured], none, none, None)
    others = np.setdiff1d(np.arange(30), measured)
    assert np.corrcoef(np.sign(found.mean), np.sign(truth - limit))[0, 1] > 0.8
    assert limit == pytest.approx(np.median(truth), abs=0.1)
    assert found.spread[others].mean() > 2 * found.spread[measured].mean()


def test_larger_errors_leave_larger_spreads() -> None:
    places = coordinates([[*point.values()] for point in GRID.values()])
    truth, measured = 3 * places[:, 0] - 1.5, np.arange(0, 30, 2)
    spreads = []
    for size in (0.01, 0.5):
        errors, df = np.full(15, size), np.full(15, 2.0)
        spreads.append(fit(places, measured, truth[measured], errors, df, 0.0)[0].spread[measured])
    assert (spreads[1] > 2 * spreads[0]).all()


def test_believing_is_conditioning_on_one_more_measurement() -> None:
    one = normal(5)
    precision = np.linalg.inv(one.covariance)
    precision[2, 2] += 1 / one.noise[2]
    assert one.believing(2).covariance == pytest.approx(np.linalg.inv(precision))


@pytest.mark.parametrize(("nodes", "close"), [(7, 0.15), (101, 0.02)])
def test_gains_are_those_of_many_imagined_measurements(
    nodes: int, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against drawing a measurement, conditioning on it, and counting errors, 20,000 times.

    Errors have a kink at the limit, so that quadrature with few nodes is right to a tenth or so.
    """
    places, weights = np.polynomial.hermite_e.hermegauss(nodes)
    monkeypatch.setattr(choose, "_NODES", places)
    monkeypatch.setattr(choose, "_WEIGHTS", weights / weights.sum())
    found = {name: normal(4, k) for k, name in enumerate((choose.FLAT, choose.CONNECTED))}
    found[choose.SIMILAR] = Surrogate(np.full(4, 9.0), np.eye(4) * 1e-9, np.ones(4))  # all known
    random = np.random.default_rng(1)
    for cell in range(4):
        gain = 0.0
        for one in (found[choose.FLAT], found[choose.CONNECTED]):
            column, own = one.covariance[:, cell], one.covariance[cell, cell] + one.noise[cell]
            moved = random.normal(size=(20_000, 1)) * np.sqrt(own) * column / own
            after = one.believing(cell).spread
            before = norm.cdf(-np.abs(one.mean) / one.spread)
            gain += (before - norm.cdf(-np.abs(one.mean + moved) / after).mean(axis=0)).sum()
        assert choose.gains(found, np.array([cell]))[0] == pytest.approx(gain, rel=close)


def test_phases_follow_from_the_sides() -> None:
    sure = {"trace": (-9.0, -9.0, 9.0, 9.0, -9.0), "path": (9.0, 9.0, 9.0, -9.0, -9.0)}
    known = {
        choose.FLAT: Surrogate(np.array(sure["trace"]), np.eye(5), np.ones(5)),
        choose.CONNECTED: Surrogate(np.array(sure["path"]), np.eye(5), np.ones(5)),
        choose.SIMILAR: Surrogate(np.array([9.0, -9.0, 0.0, 0.0, 0.0]), np.eye(5), np.ones(5)),
    }
    found = choose.shares(known)
    assert [PHASES[k] for k in found.argmax(axis=1)] == ["IV-B", "IV-A", "II", "I", "III"]
    assert found.sum(axis=1) == pytest.approx(1)


def test_a_round_looks_where_phases_meet() -> None:
    start = [[*GRID][k] for k in coarse([tuple(p.values()) for p in GRID.values()])]
    scalars = rows({cell: plane(cell) for cell in start})
    four = rounds.next_cells(scalars, GRID, start, 4, PUBLISHED, most=1)
    assert four[:2] == rounds.next_cells(scalars, GRID, start, 2, PUBLISHED, most=1)
    assert not {*four} & {*start}
    distance = [abs(plane(cell)[0] - 5.25) for cell in GRID]
    chosen = [min(abs(plane(c)[0] - 5.25) / 1.5, abs(plane(c)[1] + 2) / 3) for c in four]
    assert max(chosen) < 1 < np.mean(distance)


def test_noise_asks_for_replicas_and_distance_for_cells() -> None:
    every = {cell: plane(cell) for cell in GRID}
    noisy = rounds.next_cells(rows(every, spread=0.6), GRID, [*GRID], 3, PUBLISHED, most=2)
    assert len({*noisy}) == 3  # all are measured: more replicas of some
    assert rounds.next_cells(rows(every), GRID, [*GRID], 3, PUBLISHED, most=1) == []


def test_inferred_cells_have_probabilities() -> None:
    start = [cell for cell in GRID if int(cell[0]) % 2 == 0]
    found = rounds.inferred("own", rows({c: plane(c) for c in start}), GRID, PUBLISHED)
    assert found["cell"].tolist() == [cell for cell in GRID if cell not in start]
    columns = [name for name in found if name.startswith("p_")]
    assert found[columns].sum(axis=1).to_numpy() == pytest.approx(1)
    truth = oracles.labels_of(np.array([plane(cell) for cell in found["cell"]]).T)
    assert (found["phase"] == [PHASES[k] for k in truth]).mean() > 0.85
    assert (found["flat_limit"] == 5.25).all()


def test_too_few_numbers_choose_what_is_far_and_infer_nothing() -> None:
    scalars = rows({"0-0": plane("0-0"), "5-0": plane("5-0")})
    assert rounds.next_cells(scalars, GRID, ["0-0", "5-0"], 2, PUBLISHED, most=1)[0] in (
        "2-4",
        "3-4",
    )
    found = rounds.inferred("own", scalars, GRID, PUBLISHED)
    assert set(found["phase"]) == {""}
    assert found["probability"].isna().all()


def test_coarse_grids() -> None:
    assert evenly(13, 4) == [0, 4, 8, 12]
    points = [(x, y) for x in range(13) for y in range(13)]
    assert len(coarse(points)) == 16
    assert coarse([(0, 0), (0, 1), (1, 1)], 2) == [0, 1, 2]
    assert more_seeds([0, 2], 2) == [0, 2, 3, 4]


@pytest.mark.parametrize("name", ["straight", "wavy"])
def test_chosen_cells_beat_random_ones(name: str) -> None:
    known = trial.grid(name, 1)
    quarter = len(known.points) // 4
    chosen = trial.adaptive(known, 1, quarter)
    assert chosen[-1][0] == quarter
    assert chosen[-1][1] > trial.at(trial.at_random(known, 1, quarter), quarter)


def test_generated_grids_have_all_that_they_say() -> None:
    for make in (*generators.DEVELOPED, *generators.HELD_OUT):
        grid = make()
        assert grid.truth.shape == (3, np.prod(grid.shape))
        assert len(set(oracles.labels_of(grid.truth))) == 5


def test_published_labels_are_those_of_its_phases() -> None:
    tables = taxonomy_tables.tables(taxonomy_published.read(Path(paths.published())))
    scalars = pd.concat([tables[kind][0] for kind in ("hessian", "connectivity", "cka")])
    labels = phases.labels(cell_summary(taxonomy_tables.plotted(scalars)), PUBLISHED)
    expected = labels.set_index(["width", "batch_size"])["phase"]
    known = oracles.published()
    assert len(known.points) == 169
    for point, label in zip(known.points, known.labels, strict=True):
        assert expected[tuple(point)] == PHASES[label]


def test_tables_of_inferred_cells_are_read_back(tmp_path: Path) -> None:
    found = rounds.inferred("own", rows({c: plane(c) for c in [*GRID][::2]}), GRID, PUBLISHED)
    path = tmp_path / "inferred.csv"
    collect.write(path, found)
    back = collect.read_phases(path)
    assert back["probability"].tolist() == found["probability"].tolist()
    assert back["width"].tolist() == found["width"].tolist()
