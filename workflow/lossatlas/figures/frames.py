"""Tables with several columns, taken back out of the tables of series (see simplex.columns)."""

from __future__ import annotations

import pandas as pd

from lossatlas.errors import UserError
from lossatlas.figures import Tables


def frame(tables: Tables, name: str) -> pd.DataFrame:
    """Return the table `name`: one column per series "name:column", one row per x.

    Raises:
        UserError: If it is not there, or there is one for each of several cells.
    """
    found = frames(tables, name)
    if name not in found:
        fix = "measure the metric that the figure shows"
        raise UserError(f"the figure's tables have no '{name}'", where="figures", fix=fix)
    return found[name]


def frames(tables: Tables, beginning: str) -> dict[str, pd.DataFrame]:
    """Return name -> table for all names with that beginning.

    Raises:
        UserError: If the tables are those of several cells.
    """
    series = tables.series
    if series.empty:
        return {}
    names = series["series"].astype(str).str.rpartition(":")
    whole = series.assign(table=names[0], column=names[2])
    rows = whole[whole["table"].str.startswith(beginning)]
    if rows["cell"].nunique() > 1:
        fix = "give it an experiment without load and temperature"
        raise UserError("the figure shows one cell", where="figures", fix=fix)
    found: dict[str, pd.DataFrame] = {}
    for name, group in rows.groupby("table", sort=False):
        wide = group.pivot(index="x", columns="column", values="y")
        found[str(name)] = wide[list(dict.fromkeys(group["column"]))].reset_index(drop=True)
    return found
