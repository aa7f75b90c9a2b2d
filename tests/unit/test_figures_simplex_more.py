"""Figures of strengths, diversity, kinds of corruption and regression, from made-up tables."""

from collections.abc import Callable

import numpy as np
import pytest
from test_figures_simplex import tables

from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, simplex_shifts
from lossatlas.figures.simplex_diversity import diversity
from lossatlas.figures.simplex_regression import regression
from lossatlas.figures.simplex_strength import strength
from lossatlas.spec.figures import Figure
from lossatlas.store import Scalar, Table
from lossatlas.tables import collect

LOOK = Figure()


def scalars(parts: list[Scalar]) -> Tables:
    axes: dict = {"c": {}}
    return Tables(
        collect.scalar_frame("e", axes, {"c": parts}), collect.series_frame("e", axes, {"c": []})
    )


def sweep() -> list[Table]:
    rows = [(c, w, s) for w in (0, 1) for s in (0.0, 1e-6, 0.1) for c in (2, 5, 7)]
    component, way, values = (np.array(column, float) for column in zip(*rows, strict=True))
    nll = 1 + values * (1 - way) + component / 100
    single = {"component": component, "way": way, "regularisation": values, "strength": values}
    single |= {"nll": nll, "error": 10 * nll, "disagreement": nll, "log_volume": -nll}
    runs = [(w, s) for w in (0.0, 1.0) for s in (0.0, 1e-6, 0.1)]
    ways, strengths = (np.array(column) for column in zip(*runs, strict=True))
    both = {"way": ways, "regularisation": strengths, "components": 3 + 0 * ways}
    both |= {"nll": 0.5 + 0 * ways, "error": 5 + 0 * ways}
    return [Table("strengths", single), Table("mixtures", both)]


def test_strengths_are_means_over_simplexes() -> None:
    drawn = strength(tables(sweep()), LOOK, "", "")
    table = drawn.numbers
    row = table.query("mode == 'fixed' and regularisation == 0.1 and components == 1").iloc[0]
    assert row["nll"] == pytest.approx(1.1 + 14 / 300)
    assert row["nll_stderr"] == pytest.approx(np.std([0.02, 0.05, 0.07], ddof=1) / np.sqrt(3))
    assert (row["nll_df"], row["simplexes"]) == (2, 3)
    assert table.query("components == 3")["nll"].tolist() == [0.5] * 6
    axes = drawn.figure.axes[2]
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert len(drawn.figure.axes) == 4


def test_diversity_knows_that_pairs_share_replicas() -> None:
    inside = [
        Scalar("simplex_disagreement", value, seed) for seed, value in ((0, 1), (1, 2), (2, 3))
    ]
    pairs = {(0, 1): 5.0, (0, 2): 6.0, (1, 2): 7.0}
    between = [Scalar("mode_disagreement", value, *pair) for pair, value in pairs.items()]
    lost = Scalar("simplex_disagreement", np.nan, 3, status="diverged")
    drawn = diversity(scalars([*inside, *between, lost]), LOOK, "", "")
    means = drawn.numbers.dropna(subset=["mean"]).set_index("metric")
    assert means.loc["simplex_disagreement", "mean"] == 2
    assert means.loc["simplex_disagreement", "stderr"] == pytest.approx(1 / np.sqrt(3))
    assert means.loc["mode_disagreement", "mean"] == 6
    assert means.loc["mode_disagreement", "stderr"] > 1 / np.sqrt(3)
    assert drawn.figure.axes[0].get_ylim()[0] == 0
    with pytest.raises(UserError, match="no mode_disagreement"):
        diversity(scalars(inside), LOOK, "", "")


def kinds(names: list[str]) -> list[Table]:
    rows = [(m, g, s) for m in (0, 1, 2) for g in range(4) for s in range(6)]
    method, group, severity = (np.array(column, float) for column in zip(*rows, strict=True))
    found = []
    for place, name in enumerate(names):
        nll = 0.3 + severity * (1 + place) / 10 - method / 50 + group / 100
        table = {
            "method": method,
            "group": group,
            "severity": severity,
            "components": 2 + 0 * group,
        }
        table |= {"error": 30 * nll, "nll_scaled": nll, "ece_scaled": nll / 10}
        found.append(Table("corruption", table, index={"kind": name}))
    return found


def test_every_kind_of_corruption_has_a_panel() -> None:
    names = ["noise", "fog", "jpeg_compression", "snow", "frost", "zoom_blur"]
    drawn = simplex_shifts.kinds(tables(kinds(names)), LOOK, "", "")
    shown = [axes.get_title(loc="left") for axes in drawn.figure.axes if axes.axison]
    assert shown == ["noise", "fog", "jpeg compression", "snow", "frost", "zoom blur"]
    row = drawn.numbers.query("corruption == 'fog' and method == '2-simplex' and severity == 5")
    assert row["nll_scaled"].tolist() == pytest.approx([0.3 + 1.0 - 0.04 + 0.015])
    assert set(drawn.numbers["components"]) == {2}
    with pytest.raises(UserError, match="no shifted images were measured"):
        simplex_shifts.kinds(tables([]), LOOK, "", "")


def test_bands_of_regression() -> None:
    x = np.tile(np.linspace(-1.8, 1.8, 21), 3)
    method = np.repeat([0.0, 1.0, 2.0], 21)
    bands = {"method": method, "x": x, "mean": x, "sd": 0.1 * (1 + method), "truth": x}
    summary = {"repeat": [0, 0, 0, 1, 1, 1], "method": [0.0, 1, 2] * 2}
    summary |= {"sd_inside": [0.1] * 6, "sd_between": [0.2] * 6, "sd_outside": [0.4] * 6}
    data = {"x": [-0.6, 0.5], "y": [-0.6, 0.5]}
    parts = [Table("bands", bands), Table("summary", summary), Table("data", data)]
    drawn = regression(tables(parts), LOOK, "", "")
    titles = [axes.get_title(loc="left") for axes in drawn.figure.axes]
    assert titles == ["deep ensemble", "simplexes", "curve subspace", "s.d. of predictions"]
    assert drawn.numbers["method"].tolist()[:2] == ["deep ensemble", "simplexes"]
    (wide, _narrow) = (
        band.get_paths()[0].get_extents() for band in drawn.figure.axes[2].collections[:2]
    )
    assert wide.height > 0


@pytest.mark.parametrize(
    ("draw", "lacks"), [(strength, "strengths"), (regression, "bands"), (diversity, "simplex_dis")]
)
def test_a_record_without_what_a_figure_reads(draw: Callable[..., Drawn], lacks: str) -> None:
    with pytest.raises(UserError, match=f"the figure's tables have no '?{lacks}") as caught:
        draw(tables([]), LOOK, "", "")
    assert "\n" not in str(caught.value)
