"""Each figure of poor tables still comes, or says in one line why not."""

from collections.abc import Callable
from dataclasses import replace

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest
from figure_cases import CASES, Case
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lossatlas.errors import UserError
from lossatlas.figures import Tables, style
from lossatlas.spec.figures import FIGURES
from lossatlas.tables.collect import axes_of

HOSTILE = "\"quoted' <b>$x_{</b> 😀 & %"
PLACES = ("surface", "path", "fields", "data", "points", "vertices", "bands")  # x, y: where
NUMBERS = ("value", "y", "stderr")  # of scalars and curves


def both(case: Case, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Case:
    tables = case.tables
    return replace(case, tables=Tables(change(tables.scalars), change(tables.series)))


def first_replica(case: Case) -> Case:
    """One replica, hence no pair and no error."""

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        if "replica" not in table or table.empty:
            return table
        alone = table["replica"].isna() | (table["replica"] == 0)
        partner = table["partner"].isna() if "partner" in table else True
        return table[alone & partner].reset_index(drop=True)

    return both(case, kept)


def first_cell(case: Case) -> Case:
    def kept(table: pd.DataFrame) -> pd.DataFrame:
        some = table["cell"].unique()[:1]
        return table[table["cell"].isin(some)].reset_index(drop=True)

    return both(case, kept)


def without_axes(case: Case) -> Case:
    found = first_cell(case)
    names = [name for name in (case.load, case.temperature) if name]
    bare = both(found, lambda table: table.drop(columns=names, errors="ignore"))
    return replace(bare, load="", temperature="")


def one_axis(case: Case) -> Case:
    if not case.temperature:
        return case

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        if case.temperature not in table or table.empty:
            return table
        least = table[table[case.temperature] == table[case.temperature].min()]
        return least.drop(columns=case.temperature).reset_index(drop=True)

    return replace(both(case, kept), temperature="")


def diverged(case: Case) -> Case:
    """All replicas diverged: scalars without numbers, and no curve."""
    scalars = case.tables.scalars.assign(value=np.nan, stderr=np.nan, status="diverged")
    return replace(case, tables=Tables(scalars, case.tables.series.iloc[:0]))


def half_absent(case: Case) -> Case:
    """The tables of half of the metrics are missing."""

    def kept(table: pd.DataFrame, name: str) -> pd.DataFrame:
        names = sorted(table[name].unique())
        return table[table[name].isin(names[::2])].reset_index(drop=True)

    scalars, series = kept(case.tables.scalars, "metric"), kept(case.tables.series, "series")
    return replace(case, tables=Tables(scalars, series))


def empty(case: Case) -> Case:
    return both(case, lambda table: table.iloc[:0])


def no_numbers(case: Case) -> Case:
    """All numbers are NaN, with the statuses of a measurement that failed."""

    def lost(table: pd.DataFrame) -> pd.DataFrame:
        curves = ~table["series"].isin(PLACES) if "series" in table else np.ones(len(table), bool)
        known = {name: table[name].mask(curves) for name in NUMBERS if name in table}
        return table.assign(**known, status="undefined")

    return both(case, lost)


def hostile(case: Case) -> Case:
    """Names of the user's with quotes, markup, half of a formula and an emoji."""
    more = case.more
    if more and "against" in more:
        return replace(case, more={**more}, tables=_renamed(case.tables, more["experiment"]))
    return replace(case, tables=_renamed(case.tables))


def _renamed(tables: Tables, experiment: str = "") -> Tables:
    def named(table: pd.DataFrame) -> pd.DataFrame:
        own = table["experiment"].where(table["experiment"] == experiment, HOSTILE)
        return table.assign(cell=HOSTILE + table["cell"].astype(str), experiment=own)

    return Tables(named(tables.scalars), named(tables.series))


POOR = [
    first_replica, first_cell, without_axes, one_axis, diverged, half_absent, empty, no_numbers,
    hostile,
]  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: case() for name, case in CASES.items()}


# Empty legends, means of nothing and letters that a font lacks are warnings in logs, and no fault.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("poor", POOR, ids=lambda poor: poor.__name__)
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_picture_or_one_line(
    cases: dict[str, Case], name: str, poor: Callable[[Case], Case]
) -> None:
    refused = None
    try:
        drawn = poor(cases[name]).draw(name)
    except UserError as error:
        refused = error
    if refused is not None:
        assert "\n" not in str(refused)
        assert refused.fix
        return
    with style.sheet():
        FigureCanvasAgg(drawn.figure)
        drawn.figure.canvas.draw()


def test_the_cases_have_axes_and_numbers() -> None:
    """Or the tests above would look at nothing."""
    case = CASES["taxonomy_phases"]()
    assert axes_of(case.tables.scalars) == ["width", "batch_size"]
    assert (diverged(case).tables.scalars["status"] == "diverged").all()
    assert first_replica(case).tables.scalars["partner"].isna().all()
    assert set(ft.PER_PAIR) & set(case.tables.scalars["metric"])
