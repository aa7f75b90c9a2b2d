import figure_tables as ft
import numpy as np
import pandas as pd
import pytest

from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.figures.multiples import curves
from lossatlas.figures.spectra import spectra
from lossatlas.spec.figures import Figure

CELLS = ft.product([2, 4], [16, 64, 256])
PATHS = ("bezier", "linear")
PAIRS = ((0, 1), (1, 2))


def draw(function, tables, axes=("width", "batch_size")):
    return function(tables, Figure(), *axes)


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def places(figure):
    """Panels as a table, top row first, left column first."""
    boxes = [(axes.get_position(), axes) for axes in figure.axes]
    tops = sorted({round(box.y0, 6) for box, _ in boxes}, reverse=True)
    lefts = sorted({round(box.x0, 6) for box, _ in boxes})
    found = {(round(box.y0, 6), round(box.x0, 6)): axes for box, axes in boxes}
    return [[found[top, left] for left in lefts] for top in tops]


def test_curves_numbers():
    both = [
        ft.series(CELLS, paths=PATHS, pairs=PAIRS, name=f"{k}_error") for k in ("train", "test")
    ]
    rows = pd.concat(both, ignore_index=True)
    numbers = draw(curves, Tables(ft.no_scalars(), rows)).numbers
    assert list(numbers) == [
        *("load", "temperature", "path", "replica", "partner", "t", "train_error")
    ]
    kept = rows[rows["series"] == "train_error"]
    assert numbers["train_error"].tolist() == kept["y"].tolist()
    assert numbers["t"].tolist() == kept["x"].tolist()
    assert set(numbers["path"]) == {"bezier", "linear"}
    assert numbers["replica"].tolist() == kept["replica"].tolist()


def test_curves_panels_hold_their_cell_hot_on_top():
    figure = draw(curves, Tables(ft.no_scalars(), ft.series(CELLS, paths=PATHS))).figure
    grid = places(figure)
    assert (len(grid), len(grid[0])) == (3, 2)
    assert [axes.get_title("center") for axes in grid[0]] == ["2", "4"]
    assert [row[-1].texts[0].get_text() for row in grid] == ["16", "64", "256"]
    for row in grid:
        for load, axes in zip((2, 4), row, strict=True):
            assert len(lines(axes, "pair")) == 2
            np.testing.assert_array_equal(
                lines(axes, "pair")[0].get_ydata(), [load, load + 5, load + 10]
            )


def test_learning_rate_is_turned_the_other_way():
    names = ("width", "learning_rate")
    rows = ft.series(ft.product([2], [0.05, 0.2]), axes=names)
    grid = places(draw(curves, Tables(ft.no_scalars(), rows), names).figure)
    assert [row[-1].texts[0].get_text() for row in grid] == ["0.2", "0.05"]


def test_thick_line_is_the_mean_of_the_pairs():
    rows = ft.series([(2, 16)], pairs=((0, 1), (1, 4), (5, 6)))
    (axes,) = draw(curves, Tables(ft.no_scalars(), rows)).figure.axes
    (mean,) = lines(axes, "mean")
    assert len(lines(axes, "pair")) == 3
    np.testing.assert_allclose(mean.get_ydata(), [4, 9, 14])
    assert mean.get_linewidth() > lines(axes, "pair")[0].get_linewidth()


def test_straight_lines_lie_on_top_of_equal_curves():
    for names in (PATHS, PATHS[::-1]):
        rows = ft.series([(2, 16)], paths=names)
        (axes,) = draw(curves, Tables(ft.no_scalars(), rows)).figure.axes
        drawn = sorted(lines(axes, "mean"), key=lambda line: line.get_zorder())
        assert [line.get_linestyle() for line in drawn] == ["-", "--"]
        assert drawn[0].get_zorder() < drawn[1].get_zorder()


def test_panels_share_one_scale():
    rows = ft.series(CELLS)
    figure = draw(curves, Tables(ft.no_scalars(), rows)).figure
    limits = {axes.get_ylim() for axes in figure.axes}
    assert len(limits) == 1
    assert limits.pop()[1] >= rows["y"].max()
    assert {axes.get_yscale() for axes in figure.axes} == {"symlog"}
    low = rows.assign(y=rows["y"] / 100)
    figure = draw(curves, Tables(ft.no_scalars(), low)).figure
    assert {axes.get_yscale() for axes in figure.axes} == {"linear"}


@pytest.mark.parametrize(("function", "name"), [(curves, "train_error"), (spectra, "hessian_ritz")])
def test_diverged_and_missing_cells(function, name):
    scalars = ft.scalars(CELLS, diverged={(2, 16): (0, 1), (4, 16): (0,)})
    kept = [cell for cell in CELLS if cell not in ((2, 16), (4, 256))]
    grid = places(draw(function, Tables(scalars, ft.series(kept, name=name))).figure)
    marks = [
        [(len(ft.named(axes, "diverged")), len(lines(axes, "cross"))) for axes in row]
        for row in grid
    ]
    assert marks == [[(1, 0), (1, 0)], [(0, 0), (0, 0)], [(0, 0), (0, 1)]]


@pytest.mark.parametrize(("function", "name"), [(curves, "train_error"), (spectra, "hessian_ritz")])
def test_cells_that_did_not_converge_have_a_corner(function, name):
    series = ft.series(CELLS, name=name)
    series.loc[(series["width"] == 4) & (series["batch_size"] == 64), "status"] = "unconverged"
    figure = draw(function, Tables(ft.scalars(CELLS), series)).figure
    marks = [[len(ft.named(axes, "unconverged")) for axes in row] for row in places(figure)]
    assert marks == [[0, 0], [0, 1], [0, 0]]
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "some numbers did not converge" in words


def test_all_replicas_diverged_is_a_picture_without_curves():
    cells = [(2, 16), (4, 16)]
    scalars = ft.scalars(cells, diverged=dict.fromkeys(cells, (0, 1)))
    figure, numbers = draw(curves, Tables(scalars, ft.no_series()))
    assert numbers.empty
    assert sum(len(ft.named(axes, "diverged")) for axes in figure.axes) == 2


def test_large_grid_fits_the_page():
    cells = ft.product(range(1, 15), [16, 32, 64])
    figure = draw(curves, Tables(ft.no_scalars(), ft.series(cells))).figure
    assert figure.get_figwidth() * 25.4 == pytest.approx(180)
    boxes = [axes.get_position() for axes in figure.axes]
    assert min(box.x0 for box in boxes) > 0
    assert max(box.x1 for box in boxes) < 1
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[k + 1 :])


@pytest.mark.parametrize(
    ("function", "word"), [(curves, "connectivity"), (spectra, "density_probes")]
)
def test_no_such_series(function, word):
    tables = Tables(ft.scalars(CELLS), ft.series(CELLS, name="accuracy"))
    with pytest.raises(UserError, match="no series") as caught:
        draw(function, tables)
    assert word in caught.value.fix
    with pytest.raises(UserError, match="no series"):
        draw(function, Tables(ft.no_scalars(), ft.no_series()))


def test_missing_axis():
    with pytest.raises(UserError, match="needs a load axis"):
        draw(curves, Tables(ft.no_scalars(), ft.series(CELLS)), ("", "batch_size"))


@pytest.mark.parametrize(("function", "name"), [(curves, "train_error"), (spectra, "hessian_ritz")])
def test_undefined_points_leave_gaps(function, name):
    rows = ft.series(CELLS, name=name)
    gone = rows["width"] == 2
    rows.loc[gone, ["y", "status"]] = [np.nan, "undefined"]
    figure, numbers = draw(function, Tables(ft.no_scalars(), rows))
    column = "y" if function is spectra else "train_error"
    assert numbers[column].isna().sum() == gone.sum()
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
    everything = rows.assign(x=np.nan, y=np.nan)
    figure = draw(function, Tables(ft.no_scalars(), everything)).figure
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
