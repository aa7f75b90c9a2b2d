"""Small and failed runs: each claim is not testable, with the reason, and none crashes."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
from test_claims_grid import falling, scalars

import planted
from lossatlas.claims import verdicts
from lossatlas.figures import Tables

BATCHES, WIDTHS = [16, 44, 64, 92, 128, 256, 724, 1024], [2, 4, 8, 16, 23, 45, 64, 91]
Change = Callable[[pd.DataFrame], pd.DataFrame]
IDENTITIES = {"C8", "C10", "C11"}  # of the simplex paper: they hold or fail without chance


def constant(table: pd.DataFrame) -> pd.DataFrame:
    names = ("value", "y", "nll", "nll_scaled", "error", "height", "test_nll")
    numbers = [c for c in names if c in table]
    return table.assign(**dict.fromkeys(numbers, 1.0))


def status(name: str) -> Change:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        gone = {c: math.nan for c in ("value", "y") if c in table and name == "diverged"}
        return table.assign(status=name, **gone)

    return change


def equal(table: pd.DataFrame) -> pd.DataFrame:
    """Two replicas, the second a copy of the first."""
    first = table[(table["replica"] == 0) & table["partner"].isna()]
    return pd.concat([first, first.assign(replica=1)], ignore_index=True)


DIFFUSION: dict[str, Change] = {
    "one replica": lambda t: t[t["replica"] == 0],
    "all diverged": status("diverged"),
    "nothing converged": status("unconverged"),
    "two equal replicas": equal,
    "constant metrics": constant,
    "no rows": lambda t: t.iloc[:0],
    "one cell, one replica, one window": lambda t: t[
        (t["replica"] == 0)
        & (t["cell"] == t["cell"].iloc[-1])
        & (("series" not in t) | (t.get("x", pd.Series(0, t.index)) <= 0))
    ],
}


@pytest.mark.parametrize("fault", list(DIFFUSION))
def test_diffusion(fault: str) -> None:
    tables = planted.diffusion("yes", "")["diffusion"]
    change = DIFFUSION[fault]
    given = {"diffusion": Tables(change(tables.scalars), change(tables.series))}
    silent(verdicts.claims("diffusion", {"e": given}))


@pytest.mark.parametrize("fault", ["one pair", "all diverged", "nothing converged", "constant"])
def test_simplex(fault: str) -> None:
    tables = planted.simplex("yes", pairs=1 if fault == "one pair" else planted.PAIRS)
    given = {}
    for kind, one in tables.items():
        if fault == "one pair":
            series = one.series[~(one.series.get("group", pd.Series(0, one.series.index)) > 1)]
            given[kind] = Tables(one.scalars, series)
        elif fault == "constant":
            given[kind] = Tables(constant(one.scalars), constant(one.series))
        elif fault == "all diverged":
            given[kind] = Tables(status("diverged")(one.scalars), one.series.iloc[:0])
        else:
            given[kind] = Tables(status("unconverged")(one.scalars), one.series.iloc[:0])
    # Of constants some are clear all the same: an accuracy of 1% in all complexes.
    clear = {"C1", "C2", "C3", "C4", "C7", "C9"} if fault == "constant" else set()
    silent(verdicts.claims("simplex", {"e": given}), but=IDENTITIES | clear)


def value_of(fault: str) -> Callable:
    def value(metric: str, batch: int, width: int, replica: int) -> float:
        if fault == "constant metrics":
            return 1.0 + 1e-3 * replica
        if fault == "all diverged":
            return math.nan
        return falling(metric, batch, width, 0 if fault == "two equal replicas" else replica)

    return value


@pytest.mark.parametrize(
    "fault",
    [
        "one replica",
        "one cell",
        "all diverged",
        "nothing converged",
        "two equal replicas",
        "constant metrics",
    ],
)
def test_taxonomy(fault: str) -> None:
    few = {"one replica": 1, "two equal replicas": 2}.get(fault, 3)
    batches, widths = ([64], [4]) if fault == "one cell" else (BATCHES, WIDTHS)
    table = scalars(batches, widths, value_of(fault), replicas=few)
    if fault == "nothing converged":
        table["status"] = "unconverged"
    if fault == "all diverged":
        table["status"] = "diverged"
    silent(verdicts.claims("taxonomy", {"e": table}))


def silent(table: pd.DataFrame, but: frozenset | set = frozenset()) -> None:
    """Hold that no claim has a verdict, and that each says why."""
    rest = table[~table["claim"].isin(but)]
    assert set(rest["holds"]) <= {"not testable"}, rest[rest["holds"] != "not testable"].T
    assert not table["observed"].str.contains("check failed").any(), list(table["observed"])
    assert (table["observed"].str.len() > 10).all()
    assert len(table)
