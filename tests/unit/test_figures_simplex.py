"""Figures of simplexes: what they draw and the numbers they give, from made-up tables."""

from pathlib import Path

import numpy as np
import pytest

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.figures import Tables, draw, simplex_ensembles, simplex_landscape
from lossatlas.figures.frames import frame, frames
from lossatlas.reference import simplex_curves
from lossatlas.spec.figures import FIGURES, Figure
from lossatlas.store import Table
from lossatlas.tables import collect


def tables(parts: list[Table], cells: tuple[str, ...] = ("c",)) -> Tables:
    axes: dict = {cell: {} for cell in cells}
    return Tables(
        collect.scalar_frame("e", axes, {cell: [] for cell in cells}),
        collect.series_frame("e", axes, dict.fromkeys(cells, parts)),
    )


def plane(flat: float = 0.0) -> list[Table]:
    u, v = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 2, 5), np.linspace(0, 1, 5)))
    table = {
        "u": u,
        "v": v,
        "inside": u < v,
        "loss": 0 * u + flat if flat else 0.01 + u**2,
        "error": 20 * u,
    }
    corners = {"mode": [1, 1, 0], "number": [0, 1, 0], "u": [0, 2, 1], "v": [0.0, 0.0, 1.0]}
    index = {"plane": "w0 w1 c0"}
    return [Table("plane", table, index=index), Table("corners", corners, index=index)]


def ensembles() -> list[Table]:
    rows = [(m, j, g) for m in (0, 1, 2, -1) for j in (1, 2) for g in range(3)]
    method, size, group = (np.array(column) for column in zip(*rows, strict=True))
    numbers = dict.fromkeys(("error", "nll", "ece", "nll_scaled"), 1 / size + group / 10)
    extra = {"passes": 10 * size, "ece_scaled": numbers["ece"]}
    head = {"method": method, "components": size, "group": group}
    bins = {"method": [0, 1], "scaled": [0, 1], "bin": [3, 4], "share": [0.5, 0.5]}
    return [
        Table("ensembles", {**head, **numbers, **extra}),
        Table("reliability", {**bins, "confidence": [0.5, 0.6], "accuracy": [0.4, 0.7]}),
    ]


def test_frame_takes_columns_back() -> None:
    one = Table("x", {"a": [1.5, 2.5], "b": [3.0, np.nan], "n": [4, 5]}, index={"kind": "k"})
    other = Table("other", {"n": [7], "m": [8]})
    found = frame(tables([one, other]), "x")
    assert found["a"].tolist() == [1.5, 2.5]
    np.testing.assert_array_equal(found["b"], one.column("b"))
    assert found["n"].tolist() == [4, 5]
    assert (found["n"].dtype, found["m"].dtype) == (np.int64, np.float64)
    assert found["m"].isna().all()
    assert found["kind"].tolist() == ["k", "k"]
    with pytest.raises(UserError, match="no 'y'"):
        frame(tables([one]), "y")
    with pytest.raises(UserError, match="one cell"):
        frame(tables([one], ("c", "d")), "x")


def test_frames_are_told_apart_by_an_index() -> None:
    some = [Table("t", {"a": [n]}, index={"kind": kind}) for n, kind in enumerate(("z", "a"))]
    found = frames(tables(some), "t", "kind")
    assert list(found) == ["z", "a"]
    assert found["a"]["a"].tolist() == [1]
    assert frames(tables(some), "u", "kind") == {}
    assert frames(tables([]), "t", "kind") == {}


def test_planes_are_true_to_length() -> None:
    drawn = simplex_landscape.planes(tables(plane()), Figure(draws="simplex_planes"), "", "")
    axes = drawn.figure.axes[0]
    assert axes.get_aspect() == 1.0
    assert axes.get_title(loc="left") == "w0 – w1 – θ0"
    assert list(drawn.numbers.columns) == ["plane", "u", "v", "inside", "loss", "error"]
    assert len(drawn.numbers) == 25
    with pytest.raises(UserError, match="no plane"):
        simplex_landscape.planes(tables([]), Figure(draws="simplex_planes"), "", "")


def test_losses_have_a_scale_of_two_numbers_or_more() -> None:
    figure = simplex_landscape.planes(tables(plane()), Figure(), "", "").figure
    bar = figure.axes[-1]
    low, high = bar.get_ylim()
    shown = [float(text.get_text()) for text in bar.get_yticklabels()]
    assert len(set(shown)) >= 2
    assert all(0.99 * low <= tick <= 1.01 * high for tick in shown)


@pytest.mark.parametrize("flat", [0.9, 1e-5])
def test_equal_losses_have_one_number_on_their_scale(flat: float) -> None:
    """A range around them would be made up; the scale begins at a floor."""
    figure = simplex_landscape.planes(tables(plane(flat=flat)), Figure(), "", "").figure
    shown = [float(text.get_text()) for text in figure.axes[-1].get_yticklabels()]
    assert shown == [max(flat, simplex_landscape.FLOOR)]


def test_ensembles_are_averaged_over_groups() -> None:
    chosen = Figure(draws="simplex_ensembles")
    drawn = simplex_ensembles.ensembles(tables(ensembles()), chosen, "", "")
    ours = drawn.numbers[drawn.numbers["source"] == "ours"]
    row = ours[(ours["method"] == "2-simplex") & (ours["components"] == 2)].iloc[0]
    assert row["error"] == pytest.approx(0.6)
    # Pairs of three replicas: as many unknowns as numbers, so all is put down to the replicas.
    assert row["error_stderr"] == pytest.approx(2 * 0.1 / np.sqrt(3))
    assert row["error_df"] == 2
    published = drawn.numbers[drawn.numbers["source"] == "CIFAR-10"]
    assert published["error"].tolist() == [
        error for errors in simplex_curves.ERRORS["CIFAR-10"].values() for error in errors
    ]
    assert published["seconds"].tolist()[8:10] == [7217, 14434]  # of 1-simplexes
    assert len(drawn.figure.axes) == 8


def test_calibration_draws_both_tables() -> None:
    chosen = Figure(draws="simplex_calibration")
    drawn = simplex_ensembles.calibration(tables(ensembles()), chosen, "", "")
    assert set(drawn.numbers["part"]) == {"reliability", "components"}


@pytest.mark.parametrize("kinds", [["noise"], ["noise", "fog", "snow"]])
def test_corruption_of_every_kind(kinds: list[str]) -> None:
    rows = [(m, s, g) for m in (0, 1) for s in (0.0, 1.0) for g in (0, 1, 2)]
    method, severity, group = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    head = {"method": method, "severity": severity, "group": group, "components": 0 * group + 2}
    parts = []
    for place, kind in enumerate(kinds):
        values = place + severity - 0.1 * method + 0.01 * group
        numbers = dict.fromkeys(("error", "nll_scaled", "ece_scaled"), values)
        parts.append(Table("corruption", {**head, **numbers}, index={"kind": kind}))
    drawn = simplex_ensembles.corruption(tables(parts), Figure(draws="simplex_corruption"), "", "")
    assert len(drawn.figure.axes) == (6 if len(kinds) == 1 else 12)
    found = drawn.numbers.set_index(["corruption", "method", "severity"])["error"]
    assert found["gaussian noise", "1-simplex", 1.0] == pytest.approx(0.91)
    if len(kinds) > 1:
        assert found["snow", "deep ensemble", 1.0] == pytest.approx(3.01)
    with pytest.raises(UserError, match="no shifted images"):
        simplex_ensembles.corruption(tables([]), Figure(draws="simplex_corruption"), "", "")


@pytest.mark.parametrize("name", [n for n in FIGURES if n.startswith("simplex")])
def test_every_figure_resolves_and_has_a_caption(name: str) -> None:
    assert callable(draw.resolve(name))
    text = paths.caption(name).read_text(encoding="utf-8")
    assert f"figures.{name}" in text


def test_same_numbers_same_bytes(tmp_path: Path) -> None:
    files = []
    for run in range(2):
        drawn = simplex_landscape.planes(tables(plane()), Figure(draws="simplex_planes"), "", "")
        files.append(tmp_path / f"{run}.png")
        draw.save(drawn, files[-1], "png", 50)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([2.0, 8.0], (2, 8)),
        ([2.0, 2.2], (2, 2.2)),
        ([1e-5, 2e-4], (1e-3 / 1.01, 1.01e-3)),
        ([0.1, 3.0, np.nan, np.inf], (0.1, 3)),
        ([5.0], (5 / 1.01, 5.05)),
        ([], (1 / 1.01, 1.01)),
    ],
)
def test_the_scale_of_losses_is_theirs(losses: list[float], ends: tuple[float, float]) -> None:
    scale = simplex_landscape.log_scale(np.array(losses))
    assert (scale.vmin, scale.vmax) == pytest.approx(ends)
