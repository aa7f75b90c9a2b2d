"""The phase of each cell, and how probable each phase is.

            poorly connected    well connected
    sharp   I                   II
    flat    III                 IV-A, or IV-B when similar

Nulls come first. A cell has learned if its training loss lies below chance, ln(classes), by a share
of it; one that has not has no phase. By the rule "nulls" a cell is poorly connected if its mode
connectivity lies below 0 by more than its standard error, and flat if its trace is at most the
median of the cells of its grid that have learned (three or more): a statement about this grid
alone. By the rule "published" the thresholds are those of rule R1, which fit the boundaries that
Yang et al. (2021) drew by hand for CIFAR-10: flat when the logarithm of the Hessian's trace is at
most 5.25, poorly connected when the mode connectivity is below -2, similar when the CKA is at least
0.71. It labels 155 of their 169 cells as they did. It says little about other data.

Probabilities: the true numbers of a cell are drawn around the measured ones from Student's t with
their standard errors and degrees of freedom, independently for each number; thresholds that follow
from the grid follow from each draw anew. So a phase of 70% is right in 70% of such cells, if
nothing is known about the numbers beforehand. Replicas are not resampled: three of them make ten
different samples only, whose spread is too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import FIRST, axes_of

PHASES = ("I", "II", "III", "IV-A", "IV-B")
PROBABILITIES = (*(f"p_{phase}" for phase in PHASES), "p_unlearned")
DRAWS = 2000
FEWEST = 3  # cells whose median parts flat from sharp
INPUTS = ("log_hessian_trace", "mode_connectivity", "cka")
_LOSS, _CHANCE = "train_loss", "chance_loss"
# Codes of what a cell is: 0 to 4 a phase, and
_UNLEARNED, _FOUR, _UNKNOWN = 5, 6, 7  # _FOUR: IV-A or IV-B

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def phases(summary: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Return the phase of each cell.

    Args:
        summary: From `collect.cell_summary`, of one grid.
        thresholds: Where the phases part; default: those of R1, also where no rule is named.

    Returns:
        Columns experiment, cell, <axes>, phase, status, learned ("yes", "no", or "not tested"
        where chance or the loss was not measured), `PROBABILITIES` and probability_status. The
        phase is '' where a cell has not learned (status `undefined`), and where a number that
        decides it is absent, with the status of that number; else the status is `unconverged` if
        that of a deciding number is, or `ok`. The CKA decides just between IV-A and IV-B.
        Probabilities are NaN, and their status `undefined`, where the error of a number that
        decides cannot be had, as of one replica; that of not having learned also where it was not
        tested.
    """
    limits, cells = _rule(thresholds), _Cells.of(summary)
    codes = _codes(cells, limits)
    found = _labelled(cells, codes)
    found["status"] = [_status(cells, place, code) for place, code in enumerate(codes)]
    words = np.where(codes == _UNLEARNED, "no", "yes").astype(object)
    found["learned"] = np.where(cells.tested, words, "not tested")
    shares = _probabilities(cells, limits)
    for name, column in zip(PROBABILITIES, shares.T, strict=True):
        found[name] = column
    known = np.isfinite(shares[:, : len(PHASES)]).all(axis=1)
    found["probability_status"] = np.where(known, "ok", "undefined")
    return found


def labels(summary: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Return experiment, cell, <axes> and phase of each cell, as `phases` does, and no more."""
    cells = _Cells.of(summary)
    return _labelled(cells, _codes(cells, _rule(thresholds)))


def _rule(thresholds: Thresholds | None) -> Thresholds:
    limits = thresholds or Thresholds()
    return limits.model_copy(update={"rule": limits.rule or "published"})


def _codes(cells: _Cells, limits: Thresholds) -> Codes:
    values = {name: cells.value[name][None] for name in (*INPUTS, _LOSS)}
    codes: Codes = _decide(cells, values, limits, _flat(cells, values, limits))[0]
    return codes


def _labelled(cells: _Cells, codes: Codes) -> pd.DataFrame:
    found = cells.places.copy()
    found["phase"] = [PHASES[code] if code < len(PHASES) else "" for code in codes]
    return found


def flat_limit(summary: pd.DataFrame, thresholds: Thresholds) -> float:
    """Return the log trace up to which cells are flat; NaN if no cell tells."""
    cells = _Cells.of(summary)
    values = {name: cells.value[name][None] for name in (*INPUTS, _LOSS)}
    return float(_flat(cells, values, thresholds)[0, 0])


@dataclass(frozen=True)
class _Cells:
    """Numbers of n cells: quantity -> (n,)."""

    places: pd.DataFrame
    value: dict[str, Floats]
    stderr: dict[str, Floats]
    df: dict[str, Floats]
    status: dict[str, list[str]]

    @classmethod
    def of(cls, summary: pd.DataFrame) -> _Cells:
        keys = [*FIRST, *axes_of(summary)]
        places = summary[keys].drop_duplicates().reset_index(drop=True)
        columns: dict[str, dict[str, Floats]] = {"value": {}, "stderr": {}, "df": {}}
        status: dict[str, list[str]] = {}
        at = pd.MultiIndex.from_frame(places[FIRST])
        for name in (*INPUTS, _LOSS, _CHANCE):
            rows = summary[summary["metric"] == name].set_index(FIRST)
            for column, kept in columns.items():
                known = rows.reindex(at).get(column)
                none = np.full(len(places), math.nan)
                kept[name] = none if known is None else known.to_numpy(np.float64)
            status[name] = rows["status"].reindex(at).fillna("undefined").astype(str).to_list()
        return cls(places, columns["value"], columns["stderr"], columns["df"], status)

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Where the training loss can be compared with chance."""
        return np.isfinite(self.value[_LOSS]) & np.isfinite(self.value[_CHANCE])


def _decide(
    cells: _Cells, numbers: dict[str, Floats], limits: Thresholds, flattest: Floats
) -> Codes:
    """Return the codes (draws, n) of cells with these numbers, each (draws, n)."""
    trace, connectivity, cka = (numbers[name] for name in INPUTS)
    flat = trace <= flattest
    poor = connectivity < _poor(cells, limits)
    similar = limits.number("cka")
    assert similar is not None
    four = np.where(np.isnan(cka), _FOUR, np.where(cka >= similar, 4, 3))
    codes = np.where(flat, np.where(poor, 2, four), np.where(poor, 0, 1))
    absent = np.isnan(trace) | np.isnan(connectivity) | np.isnan(flattest)
    codes = np.where(absent, _UNKNOWN, codes)
    loss = numbers[_LOSS]
    codes = np.where(cells.tested & np.isnan(loss), _UNKNOWN, codes)
    return np.where(cells.tested & ~_learned(cells, loss, limits), _UNLEARNED, codes)


def _learned(cells: _Cells, loss: Floats, limits: Thresholds) -> NDArray[np.bool_]:
    """Say which cells are not known to be at chance (draws, n)."""
    return ~(loss > (1 - limits.chance) * cells.value[_CHANCE])


def _flat(cells: _Cells, numbers: dict[str, Floats], limits: Thresholds) -> Floats:
    """Return the largest flat log trace (draws or 1, 1); NaN if too few cells tell."""
    if (given := limits.number("log_hessian_trace")) is not None:
        return np.array([[given]])
    trace = numbers["log_hessian_trace"]
    counted = np.where(_learned(cells, numbers[_LOSS], limits), trace, np.nan)
    found = np.full((len(trace), 1), np.nan)
    some = np.isfinite(counted).sum(axis=1) >= FEWEST
    if some.any():
        found[some, 0] = np.nanmedian(counted[some], axis=1)
    return found


def _poor(cells: _Cells, limits: Thresholds) -> Floats:
    """Return the mode connectivity (n,) below which a cell is poorly connected."""
    given = limits.number("mode_connectivity")
    if given is not None:
        return np.full(len(cells.places), given)
    return -np.nan_to_num(cells.stderr["mode_connectivity"])


def _status(cells: _Cells, place: int, code: int) -> str:
    """Return the status of the phase of a cell."""
    if code == _UNLEARNED:
        return "undefined"
    deciding = INPUTS if code in (3, 4, _FOUR) else INPUTS[:2]
    absent = [
        cells.status[name][place] for name in deciding if math.isnan(cells.value[name][place])
    ]
    if absent or code == _UNKNOWN:
        return absent[0] if absent else "undefined"
    rough = any(cells.status[name][place] == "unconverged" for name in deciding)
    return "unconverged" if rough else "ok"


def _probabilities(cells: _Cells, limits: Thresholds) -> Floats:
    """Return the probability (n, 6) of each phase, and of not having learned."""
    random = np.random.default_rng(0)
    count = len(cells.places)
    numbers, around = {}, {}
    for name in (*INPUTS, _LOSS):
        stderr, df = cells.stderr[name], cells.df[name]
        known = np.isfinite(stderr) & (df > 0)
        degrees = np.where(known, np.minimum(df, 1e9), 1.0)
        noise = random.standard_t(degrees, size=(DRAWS, count)) * np.where(known, stderr, 0.0)
        around[name] = cells.value[name] + noise
        numbers[name] = np.where(known, around[name], np.nan)
    # Cells without errors are part of the grid.
    codes = _decide(cells, numbers, limits, _flat(cells, around, limits))
    shares = np.stack([(codes == code).mean(axis=0) for code in range(_UNLEARNED + 1)], axis=1)
    shares[(codes == _FOUR).any(axis=0), 3:5] = np.nan
    unknown = (codes == _UNKNOWN).any(axis=0)
    shares[unknown, :_UNLEARNED] = np.nan
    shares[cells.tested & np.isnan(numbers[_LOSS]).any(axis=0)] = np.nan
    shares[~cells.tested, _UNLEARNED] = np.nan
    return shares
