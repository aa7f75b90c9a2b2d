"""Sizes in claims: just inside them a claim holds, just outside it does not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import test_claims_simplex as simplex_cases
from scipy.stats import spearmanr
from test_claims_diffusion import toy, walks
from test_claims_diffusion import verdict as diffusion_verdict
from test_claims_grid import spoiled

import published
from lossatlas.claims import taxonomy
from lossatlas.claims.grid import grid
from lossatlas.figures import Tables


def ranks(low: float, high: float, count: int = 13) -> np.ndarray:
    """Return 0 .. count - 1 in an order whose rank correlation lies between two numbers."""
    random, found = np.random.default_rng(0), np.arange(float(count))
    found = found[::-1].copy() if high < 0 else found
    while not low < spearmanr(np.arange(count), found).statistic < high:
        place = random.integers(count - 1)
        found[[place, place + 1]] = found[[place + 1, place]]
    return found


def row(batch: int, order: np.ndarray) -> Callable[[pd.DataFrame], np.ndarray]:
    """Put new numbers, by ascending width, into the row of a batch size."""
    new = dict(zip(published.WIDTHS, order, strict=True))
    return lambda t: t["value"].where(t["batch_size"] != batch, t["width"].map(new))


def column(width: int, order: np.ndarray) -> Callable[[pd.DataFrame], np.ndarray]:
    new = dict(zip(published.BATCHES, order, strict=True))
    return lambda t: t["value"].where(t["width"] != width, t["batch_size"].map(new))


def backwards(batch: int, widths: list[int]) -> Callable[[pd.DataFrame], pd.Series]:
    """Reverse the numbers of some widths in the row of a batch size: rho falls to 0.8."""

    def change(table: pd.DataFrame) -> pd.Series:
        values = table["value"].copy()
        chosen = table[(table["batch_size"] == batch) & table["width"].isin(widths)]
        chosen = chosen.sort_values("width")
        values[chosen.index] = chosen["value"].to_numpy()[::-1]
        return values

    return change


def cell(batch: int, width: int, value: float) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda t: t["value"].where((t["batch_size"] != batch) | (t["width"] != width), value)


NARROW, WIDE = [2, 3, 4, 6, 8, 11], [23, 32, 45, 64, 91, 128]
TAXONOMY = [
    ("T1", "train_loss", row(64, ranks(-0.9, -0.87)), "yes"),
    ("T1", "train_loss", row(64, ranks(-0.87, -0.84)), "no"),
    ("T2", "mode_connectivity", backwards(64, WIDE), "no"),
    ("T2", "mode_connectivity", cell(64, 128, 0.59), "yes"),
    ("T2", "mode_connectivity", cell(64, 128, 0.61), "no"),
    ("T3", "mode_connectivity", lambda t: t["value"] - 0.2, "yes"),
    ("T3", "mode_connectivity", lambda t: t["value"] - 0.3, "no"),
    ("T4", "mode_connectivity", column(6, ranks(-0.83, -0.79)), "yes"),
    ("T4", "mode_connectivity", column(6, ranks(-0.79, -0.75)), "no"),
    ("T5", "log_hessian_trace", row(64, ranks(-0.68, -0.64)), "yes"),
    ("T5", "log_hessian_trace", row(64, ranks(-0.64, -0.6)), "no"),
    ("T6", "train_loss", lambda t: t["value"] ** 0.95, "yes"),
    ("T6", "train_loss", lambda t: t["value"] ** 0.9, "no"),
    ("T8", "cka", lambda t: t["value"] + 0.02 * t["batch_size"].isin((16, 1024)), "no"),
    ("T8", "cka", backwards(128, NARROW), "no"),
    ("T9", "mode_connectivity", lambda t: 1.1 * t["value"], "yes"),
    ("T9", "mode_connectivity", lambda t: 1.5 * t["value"], "no"),
    ("T9", "cka", lambda t: t["value"] - 0.03, "no"),
    ("T9", "log_hessian_trace", lambda t: t["value"] + 0.1, "no"),
    ("T11", "cka", lambda t: t["value"].sample(frac=1, random_state=0).to_numpy(), "no"),
    ("T13", "test_accuracy", cell(92, 2, 99.0), "no"),
    ("T14", "test_accuracy", lambda t: t["value"] + 0.1 * cold_and_widest(t), "no"),
    ("T14", "test_accuracy", cell(44, 91, 89.92), "no"),
    ("T15", "train_loss", lambda t: 0.99 * t["value"], "yes"),
    ("T15", "train_loss", lambda t: 0.95 * t["value"], "no"),
    ("T15", "log_hessian_trace", lambda t: t["value"] - 0.1, "no"),
]


def cold_and_widest(table: pd.DataFrame) -> pd.Series:
    return (table["batch_size"] >= 724) & (table["width"] == 128)


@pytest.mark.parametrize(("claim", "metric", "change", "holds"), TAXONOMY)
def test_sizes_of_the_taxonomy(claim: str, metric: str, change: Callable, holds: str) -> None:
    assert taxonomy_verdict(claim, metric, change) == holds


def taxonomy_verdict(name: str, metric: str, change: Callable) -> str:
    (claim,) = (claim for claim in taxonomy.CLAIMS if claim.name == name)
    return "yes" if claim.check(grid(spoiled(metric, change))).holds else "no"


@pytest.mark.parametrize(("far", "holds"), [(10, "yes"), (25, "no")])
def test_t7_asks_for_almost_the_same_order(far: int, holds: str) -> None:
    """The eigenvalue has the ranks of the trace, but every other cell is moved up, or down."""
    rows = published.summary().query("metric == 'log_hessian_trace'")
    trace = dict(zip(rows["cell"], rows["value"], strict=True))

    def moved(table: pd.DataFrame) -> np.ndarray:
        order = table["cell"].map(trace).rank().to_numpy()
        return np.where(order % 2, order + far, order - far)

    assert taxonomy_verdict("T7", "log_hessian_eigenvalue", moved) == holds


def given(metric: str, value: Callable[[pd.DataFrame], object]) -> dict[str, Tables]:
    """Tables on which all claims hold, with one scalar changed."""
    tables = walks()["diffusion"]
    scalars = tables.scalars.copy()
    chosen = scalars["metric"] == metric
    scalars.loc[chosen, "value"] = value(scalars[chosen])
    return {"diffusion": Tables(scalars, tables.series)}


def drawn(series: str, x: list[float], y: list[float]) -> dict[str, Tables]:
    """The same with one curve changed."""
    tables = walks()["diffusion"]
    frame = tables.series
    keys = [c for c in frame.columns if c not in ("x", "y")]
    one = frame[frame["series"] == series].drop_duplicates(keys)[keys]
    new = one.merge(pd.DataFrame({"x": x, "y": y}), how="cross")[list(frame.columns)]
    both = pd.concat([frame[frame["series"] != series], new])
    return {"diffusion": Tables(tables.scalars, both)}


DIFFUSION = [
    ("C4", "exponent_first", lambda t: 1.3 + 0.52 * (t["learning_rate"] == 0.01), "yes"),
    ("C4", "exponent_first", lambda t: 1.3 + 0.48 * (t["learning_rate"] == 0.01), "no"),
    ("C4", "exponent_last", lambda t: 0.7 + 1.02 * (t["learning_rate"] == 0.01), "yes"),
    ("C4", "exponent_last", lambda t: 0.7 + 0.98 * (t["learning_rate"] == 0.01), "no"),
    ("C5", "exponent_first", lambda t: 1.3 + 0.28 * (t["batch_size"] == 32), "yes"),
    ("C5", "exponent_first", lambda t: 1.3 + 0.32 * (t["batch_size"] == 32), "no"),
    ("C8", "msd_long_last", lambda _: 2.9, "yes"),
    ("C8", "msd_long_last", lambda _: 3.1, "no"),
    ("C9", "msl_exponent_first", lambda _: -0.1, "no"),
    ("C9", "msl_exponent_last", lambda _: -0.1, "no"),
    ("C10", "path_exponent_first", lambda _: 0.99, "no"),
    ("C10", "path_exponent_first", lambda _: 2.01, "no"),
    ("C12", "stable_alpha_last", lambda _: 1.41, "yes"),
    ("C12", "stable_alpha_last", lambda _: 1.39, "no"),
    ("C15", "exponent_first", lambda t: 0.9 + 2.0 * (t["label_noise"] == 0), "no"),
]


@pytest.mark.parametrize(("claim", "metric", "value", "holds"), DIFFUSION)
def test_sizes_of_diffusion(claim: str, metric: str, value: Callable, holds: str) -> None:
    assert diffusion_verdict(given(metric, value))[claim] == holds


CURVES = [
    ("C7", "local_exponent", [1, 10, 100, 300, 1000], [9, 0.6, 2.4, 2.4, 9], "yes"),
    ("C7", "local_exponent", [1, 10, 100, 300, 1000], [1, 0.4, 2.6, 1.0, 1], "no"),
    ("C11", "moving_variance", [0, 500, 1000, 1500, 2000], [1, 1, 0.0049, 0, 0], "yes"),
    ("C11", "moving_variance", [0, 500, 1000, 1500, 2000], [0, 0, 0.0051, 0, 0], "no"),
]


@pytest.mark.parametrize(("claim", "series", "x", "y", "holds"), CURVES)
def test_ranges_of_curves(claim: str, series: str, x: list, y: list, holds: str) -> None:
    assert diffusion_verdict(drawn(series, x, y))[claim] == holds


@pytest.mark.parametrize(("flat", "holds"), [(0.985, "yes"), (1.015, "yes"), (1.025, "no")])
def test_flat_surfaces_diffuse_normally(flat: float, holds: str) -> None:
    assert diffusion_verdict(toy(1.3, 0.9, flat=flat))["C13"] == holds


def test_trends_are_those_of_the_largest_load() -> None:
    tables = walks()["diffusion"]
    small = [
        frame.assign(depth=0, cell=frame["cell"] + "x") for frame in (tables.scalars, tables.series)
    ]
    small[0].loc[small[0]["metric"] == "exponent_first", "value"] = 0.2
    both = [pd.concat(pair) for pair in zip(small, (tables.scalars, tables.series), strict=True)]
    found = diffusion_verdict({"diffusion": Tables(*both)})
    assert found["C4"] == found["C5"] == found["C15"] == "yes"


def test_networks_with_shortcuts_say_nothing_about_those_without() -> None:
    tables = walks()["diffusion"]
    some = tables.scalars[tables.scalars["label_noise"] == 0]
    parts = []
    for shortcut, slope in ((0.0, -0.001), (1.0, 0.01)):
        for depth in (14, 20, 56):
            part = some.assign(depth=depth, **{"model.shortcut": shortcut})
            first = part["metric"] == "exponent_first"
            part.loc[first, "value"] = 1.3 + slope * depth
            parts.append(part)
    rows = pd.concat(parts)
    columns = list(tables.scalars.columns)
    columns.insert(columns.index("metric"), "model.shortcut")
    assert diffusion_verdict({"diffusion": Tables(rows[columns], tables.series)})["C6"] == "yes"


SIMPLEX = [
    ("C1", {"scalars": simplex_cases.complexes(inside_loss_max=0.245)}, "yes"),
    ("C1", {"scalars": simplex_cases.complexes(inside_loss_max=0.255)}, "no"),
    ("C2", {"scalars": simplex_cases.complexes(path_loss_max=0.199)}, "yes"),
    ("C2", {"scalars": simplex_cases.complexes(path_loss_max=0.201)}, "no"),
    ("C3", {"volume": simplex_cases.volume(fixed=0.88)}, "yes"),
    ("C3", {"volume": simplex_cases.volume(fixed=0.9)}, "no"),
    ("C4", {"scalars": simplex_cases.complexes(inside_accuracy_min=98.01)}, "yes"),
    ("C4", {"scalars": simplex_cases.complexes(inside_accuracy_min=98.0)}, "no"),
    ("C6", {"ensembles": simplex_cases.ensembles().assign(error=5.0)}, "yes"),
    ("C6", {"ensembles": simplex_cases.ensembles().assign(error=lambda t: t["method"] / 9)}, "no"),
    ("C9", {"volume": simplex_cases.volume(small=1.009)}, "yes"),
    ("C9", {"volume": simplex_cases.volume(small=1.011)}, "no"),
    ("C9", {"volume": simplex_cases.volume().assign(test_nll=1.0)}, "no"),
    ("C10", {"tests": simplex_cases.bias(wrong=0.01)}, "no"),
]


@pytest.mark.parametrize(("claim", "given_", "holds"), SIMPLEX)
def test_sizes_of_simplexes(claim: str, given_: dict, holds: str) -> None:
    assert simplex_cases.verdict(claim, simplex_cases.found(**given_)) == holds


def test_ensembles_are_compared_at_the_largest_size_with_enough_pairs() -> None:
    """Of 12 replicas 6 pairs share none, but only 4 triples."""
    assert "at 2 components" in simplex_cases.row("C5", simplex_cases.found())[-3]
