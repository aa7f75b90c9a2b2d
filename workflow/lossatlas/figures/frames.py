"""Tables that metrics wrote, taken out of the joined tables of an experiment's series."""

from __future__ import annotations

import pandas as pd

from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.tables.collect import FIRST, SEEDS, axes_of


def experiment(tables: Tables) -> str:
    """Return the name of the experiment that the tables are of."""
    return str(tables.series["experiment"].iloc[0])


def frame(tables: Tables, name: str) -> pd.DataFrame:
    """Return the rows of the tables of that name: their columns, and those of their indices.

    Columns of other tables are there as well, and empty.

    Raises:
        UserError: If it is not there, or there is one for each of several cells.
    """
    series = tables.series
    rows = series[series["series"] == name]
    if rows.empty:
        fix = "measure the metric that the figure shows"
        raise UserError(f"the figure's tables have no '{name}'", where="figures", fix=fix)
    if rows["cell"].nunique() > 1:
        fix = "give it an experiment without load and temperature"
        raise UserError("the figure shows one cell", where="figures", fix=fix)
    first = [*FIRST, *axes_of(series), "series", *SEEDS, "status"]
    found = rows.drop(columns=first).reset_index(drop=True)
    whole = {key: found[key].isna().any() for key in found.select_dtypes("Int64")}
    return found.astype({key: "float64" if some else "int64" for key, some in whole.items()})


def frames(tables: Tables, name: str, key: str) -> dict[str, pd.DataFrame]:
    """Return the tables of that name by their index `key`, in order; none if there are none.

    Raises:
        UserError: If the tables are those of several cells.
    """
    if not (tables.series["series"] == name).any():
        return {}
    return {str(value): rows for value, rows in frame(tables, name).groupby(key, sort=False)}
