"""Layers of a cell on the page: CKA of all layers with all layers, averaged over its pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lossatlas import uncertainty
from lossatlas.page.lines import rounded

Json = dict[str, Any]
TABLE = "cka_layers"  # of the record of the metric


def of_layers(table: pd.DataFrame) -> dict[str, list[Json]]:
    """Return, by cell, the matrix of CKA of layers in one table of series.

    Layer a of one replica with layer b of another stands for both orders of a pair: the matrix of a
    cell is symmetric.

    Returns:
        Cell -> one item of `series`, `name`, `of` (1), `value`, `layers` (names in the order they
        run), `z` (rows of means over the pairs) and `stderr` likewise, None where it is not known.
    """
    if TABLE not in set(table.get("series", ())):
        return {}
    rows = table[table["series"] == TABLE]
    found = {}
    for cell, some in rows.groupby("cell", sort=False):
        names = list(dict.fromkeys(some["layer"]))
        pairs, matrices = [], []
        for pair, part in some.groupby(["replica", "partner"], sort=False):
            wide = part.pivot_table("cka", "layer", "other_layer", dropna=False, observed=True)
            matrix = wide.reindex(index=names, columns=range(len(names))).to_numpy(np.float64)
            pairs.append(pair)
            matrices.append((matrix + matrix.T) / 2)
        every = np.array(matrices)
        means = [
            [uncertainty.mean_of_groups(every[:, i, j], pairs) for j in range(len(names))]
            for i in range(len(names))
        ]
        item: Json = {"series": TABLE, "name": f"mean of {len(pairs)} pairs", "of": 1}
        item |= {"value": "cka", "layers": [str(name) for name in names]}
        item["z"] = [rounded([one.value for one in row]) for row in means]
        item["stderr"] = [rounded([one.stderr for one in row]) for row in means]
        found[str(cell)] = [item]
    return found
