import math

import figure_tables as ft
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lossatlas.errors import UserError
from lossatlas.figures import style
from lossatlas.figures.diagram import phase_diagram
from lossatlas.spec.figures import Figure
from lossatlas.tables.collect import cell_summary

SMALL = ft.product([2, 4, 8], [16, 64, 256])
NOISE = ("label_noise", "batch_size")
LARGE = ft.product([1, 2, 3, 4, 6, 8, 11, 16], [16, 24, 44, 92, 180, 364, 724])


def drawn(tables, load="width", temperature="batch_size", **options):
    return phase_diagram(tables, Figure(**options), load, temperature)


def panels(figure):
    """Metric's title -> axes."""
    found = {axes.get_title("left").split("$  ")[-1]: axes for axes in figure.axes}
    return {panel.metric: found[panel.title] for panel in style.PANELS} | {
        "error": found["Std. error of accuracy"]
    }


def mesh(axes):
    return ft.named(axes, "tiles")[0]


def words(axes):
    return [text.get_text() for text in axes.texts]


def key(figure):
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return " ".join(" ".join(text.get_text() for text in legend.get_texts()).split())


def test_numbers_are_the_summary_of_the_tables():
    tables = ft.tables(SMALL)
    numbers = drawn(tables).numbers
    errors = ["stderr", "df", "stderr_status"]
    assert list(numbers) == ["metric", "load", "temperature", "value", *errors, "status"]
    summary = cell_summary(tables.scalars)
    assert len(numbers) == len(SMALL) * len(style.PANELS)
    for column, other in (("load", "width"), ("temperature", "batch_size")):
        assert numbers[column].tolist() == summary[other].tolist()
    for column in ("metric", "value", "stderr", "status"):
        assert numbers[column].equals(summary[column])


def test_numbers_by_hand():
    numbers = drawn(ft.tables(SMALL)).numbers.set_index(["metric", "load", "temperature"])
    a, b = (ft.number("test_accuracy", 4, 64, replica) for replica in (0, 1))
    row = numbers.loc[("test_accuracy", 4, 64)]
    assert row["value"] == pytest.approx((a + b) / 2)
    assert row["stderr"] == pytest.approx(abs(a - b) / 2)
    a, b = (ft.number("hessian_trace", 4, 64, replica) for replica in (0, 1))
    assert numbers.loc[("log_hessian_trace", 4, 64), "value"] == pytest.approx(
        math.log((a + b) / 2)
    )


def test_each_tile_has_the_colour_of_its_number():
    figure, numbers = drawn(ft.tables(SMALL))
    for panel in style.PANELS:
        rows = numbers[numbers["metric"] == panel.metric]
        expected = rows.pivot(index="temperature", columns="load", values="value").to_numpy()
        np.testing.assert_array_equal(mesh(panels(figure)[panel.metric]).get_array(), expected)
    errors = numbers[numbers["metric"] == "test_accuracy"]
    expected = errors.pivot(index="temperature", columns="load", values="stderr").to_numpy()
    np.testing.assert_array_equal(mesh(panels(figure)["error"]).get_array(), expected)


def test_edges_of_the_tiles():
    axes = panels(drawn(ft.tables(SMALL)).figure)["cka"]
    corners = mesh(axes).get_coordinates()
    expected = np.log10([2**0.5, 2**1.5, 2**2.5, 2**3.5])
    np.testing.assert_allclose(corners[0, :, 0], expected)
    np.testing.assert_allclose(corners[:, 0, 1], np.log10([8, 32, 128, 512]))
    assert axes.get_xlim() == pytest.approx((expected[0], expected[-1]))


@pytest.mark.parametrize(
    ("temperature", "values", "hottest"),
    [
        ("batch_size", [16, 64], 16),
        ("learning_rate", [0.05, 0.2], 0.2),
        ("weight_decay", [1e-4, 1e-3], 1e-3),
        ("model.dropout", [0.1, 0.5], 0.5),
    ],
)
def test_hot_is_on_top(temperature, values, hottest):
    tables = ft.tables(ft.product([2, 4], values), axes=("width", temperature))
    axes = panels(drawn(tables, temperature=temperature).figure)["test_accuracy"]
    heights = {value: ft.height(axes, np.log10(value)) for value in values}
    assert max(heights, key=heights.get) == hottest
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert style.spell_axis(hottest) in labels


def test_diverged_cells_are_hatched():
    lost = {(2, 16): (0, 1), (4, 16): (1,)}
    figure, numbers = drawn(ft.tables(SMALL, diverged=lost))
    axes = panels(figure)["test_accuracy"]
    hatched = ft.named(axes, "diverged")
    corners = {(round(patch.get_x(), 6), round(patch.get_y(), 6)) for patch in hatched}
    low = [round(math.log10(2) * k, 6) for k in (0.5, 1.5)]
    assert corners == {(x, round(math.log10(8), 6)) for x in low}
    assert all(patch.get_hatch() for patch in hatched)
    assert len(ft.named(axes, "missing")) == 1
    assert ft.named(axes, "cross") == []
    assert "diverged" in key(figure)
    statuses = numbers.set_index(["metric", "load", "temperature"])["status"]
    assert statuses[("test_accuracy", 2, 16)] == "diverged"
    assert statuses[("test_accuracy", 4, 16)] == "ok"


def test_nothing_is_hatched_without_divergence():
    figure = drawn(ft.tables(SMALL)).figure
    assert all(ft.named(axes, "diverged") == [] for axes in figure.axes)
    assert "diverged" not in key(figure)
    assert "no number" not in key(figure)


def test_missing_cells_are_grey_with_a_cross():
    figure = drawn(ft.tables([cell for cell in SMALL if cell != (8, 256)])).figure
    for axes in panels(figure).values():
        (tile,) = ft.named(axes, "missing")
        assert tile.get_xy() == pytest.approx((2.5 * math.log10(2), math.log10(128)))
        assert len(ft.named(axes, "cross")) == 1
    assert "no number" in key(figure)


@pytest.mark.parametrize("metric", ["cka", "mode_connectivity", "train_loss"])
def test_a_metric_that_was_not_measured_is_grey(metric):
    rows = ft.scalars(SMALL)
    figure = drawn(ft.Tables(rows[rows["metric"] != metric], ft.no_series())).figure
    assert len(ft.named(panels(figure)[metric], "missing")) == len(SMALL)
    assert len(ft.named(panels(figure)["l2_distance"], "missing")) == 0


def test_unconverged_numbers_have_a_corner():
    tables = ft.tables(SMALL)
    rows = tables.scalars
    where = (rows["metric"] == "hessian_eigenvalue") & (rows["width"] == 4)
    rows.loc[where, "status"] = "unconverged"
    figure = drawn(tables).figure
    assert len(ft.named(panels(figure)["log_hessian_eigenvalue"], "unconverged")) == 3
    assert ft.named(panels(figure)["log_hessian_trace"], "unconverged") == []
    assert "did not converge" in key(figure)


def test_small_grids_have_numbers_in_the_tiles():
    figure, numbers = drawn(ft.tables(SMALL))
    rows = numbers[numbers["metric"] == "test_accuracy"]
    expected = {
        f"{style.spell(v)}\n±{style.spell_error(s)}"
        for v, s in zip(rows["value"], rows["stderr"], strict=True)
    }
    axes = panels(figure)["test_accuracy"]
    assert set(words(axes)) == expected
    assert ft.named(axes, "dots") == []


def test_the_key_explains_standard_errors_where_there_are_some():
    assert "±" in key(drawn(ft.tables(SMALL)).figure)
    assert key(drawn(ft.tables(SMALL, replicas=1)).figure) == "no number"


def test_large_grids_have_dots_in_proportion_to_the_error():
    values = {("cka", cell): 0.5 for cell in LARGE} | {("cka", LARGE[0]): 1.5}
    tables = ft.tables(LARGE, values=values, replicas=3)
    rows = tables.scalars
    spread = {(8, 44): 0.09, (8, 92): 0.0225}  # 9 times and 2.25 times the least that is shown
    for (load, temperature), error in spread.items():
        where = (rows["metric"] == "cka") & (rows["width"] == load)
        where &= rows["batch_size"] == temperature
        rows.loc[where, "value"] = 0.5 + error * np.array([-1, 0, 1]) * math.sqrt(3)
    axes = panels(drawn(tables).figure)["cka"]
    (dots,) = ft.named(axes, "dots")
    assert words(axes) == []
    assert len(dots.get_offsets()) == 2
    narrow = [np.diff(np.log10([24, 92])) / 2, np.diff(np.log10([44, 180])) / 2]
    widths = dots.get_widths() / np.minimum(
        np.concatenate(narrow) / np.ptp(mesh(axes).get_coordinates()[:, 0, 1]),
        np.diff(mesh(axes).get_coordinates()[0, :, 0])[5] / np.ptp(axes.get_xlim()),
    )
    assert (widths[0] / widths[1]) ** 2 == pytest.approx(4, rel=1e-6)
    assert "standard error" in key(drawn(tables).figure)


def test_large_grid_outlines_positive_connectivity():
    positive = {(1, 16), (2, 16)}
    values = {("mode_connectivity", cell): 3.0 if cell in positive else 1.9 for cell in LARGE}
    axes = panels(drawn(ft.tables(LARGE, values=values)).figure)["mode_connectivity"]
    (lines,) = ft.named(axes, "positive")
    assert len(lines.get_segments()) == 3  # below both tiles, and to the right of the second


@pytest.mark.parametrize(
    "cells", [ft.product([2, 4, 8], [64]), ft.product([2], [16, 64]), [(2, 16)]]
)
def test_one_row_one_column_one_cell(cells):
    figure, numbers = drawn(ft.tables(cells))
    assert len(numbers) == 7 * len(cells)
    assert mesh(panels(figure)["cka"]).get_array().size == len(cells)


def test_limits_of_the_paper():
    figure = drawn(ft.tables(SMALL), limits="paper").figure
    for panel in style.PANELS:
        assert mesh(panels(figure)[panel.metric]).get_clim() == panel.paper
    figure = drawn(ft.tables(SMALL), limits="data").figure
    values = mesh(panels(figure)["cka"]).get_array()
    assert mesh(panels(figure)["cka"]).get_clim() == (values.min(), values.max())


def test_zero_load_is_drawn():
    values = {
        (metric, (0.0, b)): 1.0 for metric in (*ft.PER_REPLICA, *ft.PER_PAIR) for b in (16, 64)
    }
    tables = ft.tables(ft.product([0.0, 0.1, 0.2], [16, 64]), axes=NOISE, values=values)
    figure, numbers = drawn(tables, load="label_noise")
    tiles = mesh(panels(figure)["cka"])
    np.testing.assert_array_equal(tiles.get_array()[:, 0], [1.0, 1.0])
    np.testing.assert_allclose(tiles.get_coordinates()[0, :, 0], [-0.05, 0.05, 0.15, 0.25])
    assert len(numbers) == 7 * 6


def test_bad_tables():
    with pytest.raises(UserError, match="needs a load axis"):
        drawn(ft.tables(SMALL), load="")
    with pytest.raises(UserError, match="no rows"):
        drawn(ft.Tables(ft.no_scalars(), ft.no_series()))


@pytest.mark.parametrize("limits", ["paper", "data"])
@pytest.mark.parametrize("cells", [SMALL, LARGE])
def test_units_stand_clear_of_ticks_and_arrows(cells, limits):
    """Values beyond the colours of the paper give bars arrows, inside of which units stood."""
    beyond = {("test_accuracy", cells[0]): 20.0, ("cka", cells[0]): 0.1, ("cka", cells[1]): 0.95}
    figure = drawn(ft.tables(cells, values=beyond), limits=limits).figure
    FigureCanvasAgg(figure).draw()
    units = [
        (axes, text) for axes in figure.axes for text in axes.texts if text.get_gid() == "unit"
    ]
    assert len(units) == 8
    for axes, text in units:
        box = text.get_window_extent()
        low, high = sorted(axes.get_ylim())
        ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        others = [label.get_window_extent() for tick, label in ticks if low <= tick <= high]
        others += [patch.get_window_extent() for patch in axes.patches]
        assert not any(box.overlaps(other) for other in others), text.get_text()
        arrows = [patch.get_window_extent() for patch in axes.patches]
        assert all(arrow.y0 >= box.y1 for arrow in arrows)


def test_the_bar_of_errors_that_are_all_0_begins_at_0():
    assert style.norm(style.PANELS[1], np.zeros((2, 3)), "data").vmin == 0
    assert style.norm(style.PANELS[1], np.full((2, 3), 4.0), "data").vmin == pytest.approx(3.6)


def test_titles_end_before_the_ticks_of_their_bars():
    figure = drawn(ft.tables(LARGE)).figure
    FigureCanvasAgg(figure).draw()
    for axes in panels(figure).values():
        title = axes._left_title.get_window_extent()
        labels = [
            label.get_window_extent()
            for other in figure.axes
            for tick, label in zip(other.get_yticks(), other.get_yticklabels(), strict=False)
            if label.get_text() and min(other.get_ylim()) <= tick <= max(other.get_ylim())
        ]
        assert not any(title.overlaps(label) for label in labels), axes.get_title("left")


def test_corners_of_narrow_tiles_are_larger():
    """A third of a tile of 3 mm is not seen in print, least of all on dark tiles."""
    shares = []
    for cells in (SMALL, LARGE):
        tables = ft.tables(cells)
        tables.scalars.loc[tables.scalars["metric"] == "cka", "status"] = "unconverged"
        axes = panels(drawn(tables).figure)["cka"]
        corner = ft.named(axes, "unconverged")[0].get_xy()
        width = np.log10(4 / 2) if cells is SMALL else np.log10(2 / 1)
        shares.append(np.ptp(corner[:, 0]) / width)
    assert shares == pytest.approx([0.35, 0.6])
