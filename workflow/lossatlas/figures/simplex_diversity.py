"""How much networks of one simplex differ in function, beside independently trained ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.spec.figures import Figure as Chosen

KINDS = {
    "simplex_disagreement": ("within a simplex", "#2a78b0"),
    "mode_disagreement": ("between modes", style.INK),
}


@la.figure("simplex_diversity", scalars=["espro"])
def diversity(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Test images on which two networks disagree: within a simplex, and between modes."""
    del chosen, load, temperature
    rows = tables.scalars
    rows = rows[rows["metric"].isin(KINDS) & (rows["status"] == "ok")].dropna(subset=["value"])
    missing = [name for name in KINDS if not (rows["metric"] == name).any()]
    if missing:
        what = f"the figure's tables have no {' and no '.join(missing)}"
        fix = "let 'espro' measure two replicas or more that end well"
        raise UserError(what, where="figures", fix=fix)
    means = [_mean(name, rows[rows["metric"] == name]) for name in KINDS]
    with style.sheet():
        figure = style.page(70, 90)
        axes = figure.add_axes((0.15, 0.12, 0.82, 0.82))
        for place, ((name, (_, colour)), mean) in enumerate(zip(KINDS.items(), means, strict=True)):
            values = np.sort(rows.loc[rows["metric"] == name, "value"].to_numpy())
            spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(place + spread, values, ".", color=colour, ms=3, alpha=0.5)
            half = uncertainty.half_width([mean["stderr"]], [mean["df"]])
            axes.errorbar([place], [mean["mean"]], half, fmt="D", color=colour, ms=5, capsize=3)
        axes.set_xticks(range(len(KINDS)), [words for words, _ in KINDS.values()])
        axes.set_xlim(-0.6, len(KINDS) - 0.4)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("disagreement (% of test images)")
    shown = rows[["metric", "replica", "partner", "value"]].reset_index(drop=True)
    return Drawn(figure, pd.concat([pd.DataFrame(means), shown], ignore_index=True))


def _mean(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the mean, its standard error and degrees of freedom; pairs share replicas."""
    if name == "mode_disagreement":
        pairs = [(int(a), int(b)) for a, b in zip(rows["replica"], rows["partner"], strict=True)]
        found = uncertainty.mean_of_groups(rows["value"], pairs)
    else:
        found = uncertainty.mean(rows["value"])
    return {"metric": name, "mean": found.value, "stderr": found.stderr, "df": found.df}
