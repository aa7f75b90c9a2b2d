"""Quadratures become the share of the eigenvalues above x, in which every weight counts once."""

import numpy as np
import pandas as pd
import pytest

from lossatlas.page import lines, spectra

NODES = {(0, 0): [4.0, -1.0, 0.5], (0, 1): [3.0, 0.1, -2.0], (1, 0): [1.0, 2.0, 3.0]}
WEIGHTS = [0.2, 0.3, 0.5]


def table() -> pd.DataFrame:
    rows = [
        {"experiment": "e", "cell": "c", "series": "hessian_ritz", "replica": replica, "x": x}
        | {"partner": np.nan, "probe": float(probe), "y": y, "status": "ok"}
        for (replica, probe), nodes in NODES.items()
        for x, y in zip(nodes, WEIGHTS, strict=True)
    ]
    others = [("hessian_density", 7.0), ("loss", 8.0)]
    rows += [
        {"experiment": "e", "cell": "c", "series": name, "replica": 0, "x": x, "y": 1.0}
        for name, x in others
    ]
    return pd.DataFrame(rows)


def test_the_share_above_each_node() -> None:
    made = spectra.with_shares(table())
    assert set(made["series"]) == {"share_above", "loss"}
    for replica, probes in ((0, 2), (1, 1)):
        rows = made[(made["series"] == "share_above") & (made["replica"] == replica)]
        given = [(x, w) for (r, _), xs in NODES.items() if r == replica
                 for x, w in zip(xs, WEIGHTS, strict=True)]  # fmt: skip
        for x, y in zip(rows["x"], rows["y"], strict=True):
            assert y == pytest.approx(sum(w for node, w in given if node >= x) / probes)
        assert rows["y"].max() == pytest.approx(1)
    (one, two) = lines.of_series(made)["c"][:2]
    assert (one["series"], one["name"], two["name"]) == ("share_above", "replica 0", "replica 1")
    assert one["x"] == sorted(one["x"])
    assert one["y"] == sorted(one["y"], reverse=True)


@pytest.mark.parametrize("given", [pd.DataFrame(), pd.DataFrame({"series": ["loss"], "x": [1.0]})])
def test_tables_without_quadratures_stay(given: pd.DataFrame) -> None:
    assert spectra.with_shares(given) is given
