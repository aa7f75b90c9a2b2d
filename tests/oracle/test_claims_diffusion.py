"""Claims about diffusion, on tables in which each holds, and in which each fails."""

import numpy as np
import pandas as pd
import pytest

from lossatlas.claims import diffusion, statements, verdicts
from lossatlas.figures import Tables
from lossatlas.tables.collect import SCALAR, SERIES

X = np.array([0.0, 700.0, 1400.0, 2100.0])
AXES = ["experiment", "cell", "depth", "learning_rate", "batch_size", "label_noise"]


def walks(good: bool = True) -> dict[str, Tables]:
    """Tables of one cell per learning rate, batch size and label noise."""
    scalars, series = [], []
    lags = np.array([1.0, 10.0, 100.0])
    for rate in (0.01, 0.1, 0.5):
        for batch in (32, 64):
            for noise in (0, 1):
                slow = rate == 0.01
                axes = ("e", f"{rate}{batch}{noise}", 2, rate, batch, noise)
                place = dict(zip(AXES, axes, strict=True))
                who = place | {
                    "replica": 0,
                    "partner": np.nan,
                    "status": "ok",
                    "stderr": 0.1,
                    "df": np.nan,
                }
                numbers = {
                    "exponent_first": (1.9 if slow else 1.3) if good else 0.9 + batch / 64,
                    "exponent_last": 1.8 if slow else 0.7,
                    "still_exponent_first": 1.1,
                    "surrogate_exponent_last": 1.0,
                    "msd_long_first": 9.0,
                    "msd_long_last": 1.0,
                    "msl_exponent_first": 0.5,
                    "msl_exponent_last": 0.3,
                    "path_exponent_first": 1.4,
                    "stable_alpha_first": 0.9,
                    "stable_alpha_last": 1.6,
                    "mixture_alpha_first": 1.0,
                }
                if not good:
                    numbers |= {"exponent_first": -batch / 64, "exponent_last": 1.2}
                    numbers |= {"msd_long_last": 8.0, "msl_exponent_last": -0.1}
                    numbers |= {"path_exponent_first": 2.1, "stable_alpha_last": 1.0}
                scalars += [who | {"metric": n, "value": v} for n, v in numbers.items()]
                sign = 1 if good else -1
                curves = {
                    "exponent": (X, 1.5 - sign * X / 4000),
                    "moving_variance": (X, 0.004 * (1 if good else 9) + 0 * X),
                    "local_exponent": (lags, lags * 0 + (1.2 if good else 3)),
                }
                for name, (x, y) in curves.items():
                    of = who | {"series": name, "window": 0 if name == "local_exponent" else None}
                    series += [of | {"x": a, "y": b} for a, b in zip(x, y, strict=True)]
    columns = [*AXES, *SERIES[:3], "window", *SERIES[3:]]
    frames = (pd.DataFrame(scalars)[[*AXES, *SCALAR]], pd.DataFrame(series)[columns])
    return {"diffusion": Tables(*frames)}


def toy(fractal: float, cone: float, flat: float = 1.0) -> dict[str, Tables]:
    values = {
        "fractal late_short": 0.3 if fractal > 1 else 1.1,
        "flat early_short": flat,
        "fractal early_long": fractal,
        "cone early_long": cone,
        "fractal small early_long": 1.5,
        "cone small early_long": 1.9,
    }
    return {"toy_walkers": Tables(pd.DataFrame(values.items(), columns=["metric", "value"]), None)}


def verdict(found: dict[str, Tables]) -> dict[str, str]:
    rows = statements.rows({"e": found}, diffusion.CLAIMS, diffusion.PAPER)
    return {row[1]: row[-1] for row in rows}


def test_claims_hold_on_tables_made_for_them() -> None:
    found = verdict(walks())
    assert found.pop("C6") == "not testable"
    assert set(found.values()) == {"yes"}, found
    assert len(found) == 12


@pytest.mark.parametrize(("depth", "words"), [(0, "a convex loss 1.30"), (2, "smallest load 1.30")])
def test_the_control_of_early_motion_is_named(depth: int, words: str) -> None:
    tables = walks()["diffusion"]
    other = [
        frame.assign(depth=depth, cell=frame["cell"] + "x")
        for frame in (tables.scalars, tables.series)
    ]
    both = [pd.concat(pair) for pair in zip(other, (tables.scalars, tables.series), strict=True)]
    rows = statements.rows({"e": {"diffusion": Tables(*both)}}, diffusion.CLAIMS, diffusion.PAPER)
    assert any(words in str(cell) for row in rows if row[1] == "C1" for cell in row)


def test_claims_fail_on_tables_made_against_them() -> None:
    found = verdict(walks(good=False))
    assert found.pop("C6") == "not testable"
    assert set(found.values()) == {"no"}, found


def test_toy_claims() -> None:
    assert verdict(toy(1.3, 0.9)) == {"C13": "yes", "C14": "yes"}
    assert verdict(toy(0.9, 1.7)) == {"C13": "no", "C14": "no"}
    assert verdict(toy(1.3, 1.7))["C14"] == "no"
    assert verdict(toy(1.3, 0.9, flat=1.1))["C13"] == "no"


@pytest.mark.parametrize(("slope", "holds"), [(-0.01, "yes"), (0.01, "no")])
def test_shortcuts_need_networks_without_them(slope: float, holds: str) -> None:
    tables = walks()["diffusion"]
    some = tables.scalars[tables.scalars["label_noise"] == 0]
    deep = [some.assign(depth=d, **{"model.shortcut": 0.0}) for d in (14, 20, 56)]
    rows = pd.concat(deep)
    first = rows["metric"] == "exponent_first"
    rows.loc[first, "value"] = 1.3 + slope * rows.loc[first, "depth"]
    rows = rows[[*AXES, "model.shortcut", *SCALAR]]
    assert verdict({"diffusion": Tables(rows, tables.series)})["C6"] == holds


def test_missing_numbers_are_not_testable() -> None:
    tables = walks()["diffusion"]
    bare = Tables(tables.scalars[tables.scalars["metric"] == "none"], tables.series)
    found = verdict({"diffusion": bare})
    assert found["C1"] == found["C4"] == found["C15"] == "not testable"
    assert found["C3"] == "yes"


@pytest.mark.parametrize(("exponent", "holds"), [(0.5, "yes"), (0.95, "yes"), (1.05, "no")])
def test_slow_motion_is_subdiffusive_whatever_its_size(exponent: float, holds: str) -> None:
    """Sizes are those of the authors' networks; the direction is what carries over."""
    tables = walks()["diffusion"]
    late = tables.scalars.copy()
    late.loc[late["metric"] == "exponent_last", "value"] = exponent
    assert verdict({"diffusion": Tables(late, tables.series)})["C2"] == holds


def test_a_last_window_that_stands_still_is_not_testable() -> None:
    tables = walks()["diffusion"]
    still = tables.scalars.copy()
    still.loc[still["metric"] == "msd_long_last", "value"] = 0.0
    assert verdict({"diffusion": Tables(still, tables.series)})["C8"] == "not testable"


def test_all_fifteen_reach_the_table() -> None:
    table = verdicts.claims("diffusion", {"e": walks(), "studies": toy(1.3, 1.7)})
    rows = table[table["paper"] == diffusion.PAPER]
    assert sorted(rows["claim"], key=lambda c: int(c[1:])) == [f"C{n}" for n in range(1, 16)]
    effect = rows.set_index("claim")["effect"]
    assert effect["C1"] == pytest.approx(1.3)
    assert effect["C8"] == pytest.approx(9)
