"""Spectra on the page: the share of the eigenvalues above x, in place of nodes and weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

RITZ, SHARE, DENSITY = "hessian_ritz", "share_above", "hessian_density"  # names of series
AXES = ["eigenvalue x (nats)", "share of the eigenvalues above x"]
_POINT = ("x", "y", "stderr", "df", "status", "probe")


def with_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of series with the shares that its quadratures tell.

    The weights of all probes of a replica, over the number of probes, are added up from the largest
    node on. The smoothed density, which shows its kernel, is left out.
    """
    if RITZ not in set(table.get("series", ())):
        return table
    is_ritz = table["series"] == RITZ
    rows = table[is_ritz & np.isfinite(table["x"]) & np.isfinite(table["y"])]
    keys = [name for name in rows.columns if name not in _POINT]
    rows = rows.sort_values("x", ascending=False, kind="stable")
    groups = rows.groupby(keys, dropna=False, sort=False)
    shares = groups["y"].cumsum() / groups["probe"].transform("nunique")
    made = rows.assign(series=SHARE, y=shares).drop(columns="probe")
    rest = table[~is_ritz & (table["series"] != DENSITY)]
    return pd.concat([made, rest], ignore_index=True) if len(rest) else made
