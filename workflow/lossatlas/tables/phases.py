"""The phase of each cell, by rule R1.

Yang et al. (2021) drew the boundaries by hand. R1 has the thresholds that fit their drawing best:
flat when the logarithm of the Hessian's trace is at most 5.25, poorly connected when the mode
connectivity is below -2, similar when the CKA is at least 0.71. It labels 155 of their 169 cells
as they did.

            poorly connected    well connected
    sharp   I                   II
    flat    III                 IV-A, or IV-B when similar
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import FIRST, axes_of

PHASES = ("I", "II", "III", "IV-A", "IV-B")
INPUTS = ("log_hessian_trace", "mode_connectivity", "cka")
_UNMEASURED = (math.nan, "undefined")


def phases(summary: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Return the phase of each cell.

    Args:
        summary: From `collect.cell_summary`.
        thresholds: Where the phases part; default: those of R1.

    Returns:
        Columns experiment, cell, <axes>, phase, status. The phase is '' when a number that decides
        it is absent, with the status of that number; else the status is `unconverged` if that of
        a deciding number is, or `ok`. The CKA decides just between IV-A and IV-B.
    """
    limits = thresholds or Thresholds()
    keys = [*FIRST, *axes_of(summary)]
    rows = []
    for place, group in summary.groupby(keys, sort=False, dropna=False):
        columns = (group["metric"], group["value"], group["status"])
        found = {m: (float(v), str(s)) for m, v, s in zip(*columns, strict=True)}
        rows.append((*place, *_phase(found, limits)))
    return pd.DataFrame(rows, columns=[*keys, "phase", "status"])


def _phase(found: Mapping[str, tuple[float, str]], limits: Thresholds) -> tuple[str, str]:
    """Return phase and status from metric -> (value, status)."""
    trace, connectivity, cka = (found.get(name, _UNMEASURED) for name in INPUTS)
    phase, deciding = "", [trace, connectivity]
    if not any(math.isnan(value) for value, _ in deciding):
        flat = trace[0] <= limits.log_hessian_trace
        poor = connectivity[0] < limits.mode_connectivity
        if flat and not poor:
            deciding.append(cka)
            phase = "IV-B" if cka[0] >= limits.cka else "IV-A"
        else:
            phase = "III" if flat else "I" if poor else "II"
    absent = [status for value, status in deciding if math.isnan(value)]
    if absent:
        return "", absent[0]
    return phase, "unconverged" if "unconverged" in {s for _, s in deciding} else "ok"
