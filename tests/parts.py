"""The curves and tables of a record, by name and index."""

from typing import Any

import pandas as pd

from lossatlas.store import Record, Series, Table

ANY = object()


def _chosen(part: Series | Table, name: str, who: tuple[Any, Any], index: dict[str, Any]) -> bool:
    found = (part.replica, part.partner)
    known = all(wanted is ANY or wanted == seed for wanted, seed in zip(who, found, strict=True))
    return part.name == name and known and all(part.index.get(k) == v for k, v in index.items())


def curve(
    record: Record, name: str, replica: Any = ANY, partner: Any = ANY, **index: Any
) -> Series:
    """Return the only curve of that name, replicas and index."""
    who = (replica, partner)
    (found,) = (one for one in record.series if _chosen(one, name, who, index))
    return found


def frame(record: Record, name: str, **index: Any) -> pd.DataFrame:
    """Return the rows of the tables of that name and index."""
    some = [one for one in record.tables if _chosen(one, name, (ANY, ANY), index)]
    return pd.concat([pd.DataFrame(one.columns) for one in some], ignore_index=True)
