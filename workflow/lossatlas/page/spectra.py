"""Spectra on the page: the share of the eigenvalues above x, in place of nodes and weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

_RITZ, _DENSITY, SHARE = "_ritz", "_density", "share_above"  # ends of names of series; a name
AXES = ["eigenvalue x (nats)", "share of the eigenvalues above x"]
_POINT = ("x", "y", "stderr", "df", "status", "probe")


def shares_of(series: str) -> str | None:
    """Return the name of the shares that a series of quadratures tells; None for other series."""
    matrix = series.removesuffix(_RITZ)
    if matrix == series:
        return None
    return SHARE if matrix == "hessian" else f"{matrix}_{SHARE}"


def with_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of series with the shares that its quadratures tell.

    The weights of all probes of a replica, over the number of probes, are added up from the largest
    node on. The smoothed density, which shows its kernel, is left out.
    """
    names = {name: shares_of(str(name)) for name in table.get("series", pd.Series()).unique()}
    told = {name: share for name, share in names.items() if share is not None}
    if not told:
        return table
    is_ritz = table["series"].isin(told)
    rows = table[is_ritz & np.isfinite(table["x"]) & np.isfinite(table["y"])]
    keys = [name for name in rows.columns if name not in _POINT]
    rows = rows.sort_values("x", ascending=False, kind="stable")
    groups = rows.groupby(keys, dropna=False, sort=False)
    shares = groups["y"].cumsum() / groups["probe"].transform("nunique")
    made = rows.assign(series=rows["series"].map(told), y=shares).drop(columns="probe")
    smoothed = {str(name).removesuffix(_RITZ) + _DENSITY for name in told}
    rest = table[~is_ritz & ~table["series"].isin(smoothed)]
    return pd.concat([made, rest], ignore_index=True) if len(rest) else made
