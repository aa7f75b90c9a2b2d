"""The tables of one experiment by kind of metric, and what claims take out of them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import pandas as pd

from lossatlas.claims.conditions import About, NotTestableError
from lossatlas.claims.grid import copies
from lossatlas.claims.statements import Claim
from lossatlas.figures import Tables
from lossatlas.figures.frames import frame, frames


@dataclass(frozen=True)
class Found:
    """Tables by kind of metric, or study, and what else is known of the experiment."""

    kinds: Mapping[str, Tables]
    known: About = field(default_factory=About)

    def tables(self, kind: str) -> Tables:
        """Return the tables of a kind.

        Raises:
            NotTestableError: If it was not measured.
        """
        if kind not in self.kinds:
            raise NotTestableError(f"'{kind}' was not measured")
        return self.kinds[kind]

    def scalars(self, kind: str, *names: str) -> pd.DataFrame:
        """Return the rows of some scalars that converged; numbers of another status are left out.

        Raises:
            NotTestableError: If one of them has none.
        """
        table = self.tables(kind).scalars
        asked = table[table["metric"].isin(names)]
        rows = asked[(asked["status"] == "ok") & asked["value"].notna()]
        for name in names:
            if not (rows["metric"] == name).any():
                states = asked.loc[asked["metric"] == name, "status"].unique()
                why = f": {', '.join(map(str, states))}" if len(states) else " was measured"
                raise NotTestableError(f"no {name}{why}")
        return rows

    def frame(self, kind: str, name: str) -> pd.DataFrame:
        """Return the table of that name.

        Raises:
            NotTestableError: If there is none, or one for each of several cells.
        """
        self._need(kind, name)
        return frame(self.tables(kind), name)

    def frames(self, kind: str, name: str, key: str) -> pd.DataFrame:
        """Return the tables of that name, one after another.

        Raises:
            NotTestableError: If there are none, or some for each of several cells.
        """
        self._need(kind, name)
        return pd.concat(frames(self.tables(kind), name, key).values())

    def _need(self, kind: str, name: str) -> None:
        series = self.tables(kind).series
        count = series.loc[series["series"] == name, "cell"].nunique()
        if count != 1:
            what = f"{count} cells have it, and it takes one" if count else "it was not measured"
            raise NotTestableError(f"table '{name}' of {kind}: {what}")


def cells(kinds: Mapping[str, Tables], needs: str) -> set[str]:
    """Return the cells of a kind of metric; none of a study."""
    tables = kinds[needs]
    if "replica" not in tables.scalars or tables.scalars["replica"].isna().all():
        return set()
    return set(tables.scalars["cell"])


def tells(kinds: Mapping[str, Tables], claim: Claim, known: About) -> bool:
    """Say whether an experiment measured what a claim is about."""
    del known
    return claim.needs in kinds


def evidence(kinds: Mapping[str, Tables], known: About, judged: Set[str], experiment: str) -> Found:
    """Return the tables without cells on which a claim was judged before."""
    del experiment
    return Found({kind: _own(tables, judged) for kind, tables in kinds.items()}, known)


def _own(tables: Tables, judged: Set[str]) -> Tables:
    """Leave out cells that were judged before, and replicas that equal one before them."""
    again = copies(tables.scalars)
    kept = []
    for table in (tables.scalars, tables.series):
        out = table["cell"].isin(judged)
        for who in ("replica", "partner") if again else ():
            out |= table[who].isin(again)
        kept.append(table[~out])
    return Tables(*kept)
