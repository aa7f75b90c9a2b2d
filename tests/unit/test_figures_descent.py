"""Test error along both axes: lines, errors, gaps; from planted tables."""

import figure_tables as ft
import numpy as np
import pytest

from lossatlas.figures.descent import double_descent
from lossatlas.spec.figures import Figure
from lossatlas.tables.collect import cell_summary

SMALL = ft.product([2, 4, 8], [16, 64])
PAPER = ft.product(
    [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128],
    [16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024],
)


def drawn(cells=SMALL, axes=("width", "batch_size"), **options):
    tables = ft.tables(cells, axes=axes, **options)
    return double_descent(tables, Figure(), *axes), tables


def lines(axes):
    """Containers of error bars: (x, y, standard errors) of each line."""
    found = []
    for container in axes.containers:
        data, _, (bars,) = container.lines
        half = [np.ptp(part[:, 1]) / 2 if len(part) else np.nan for part in bars.get_segments()]
        found.append((data.get_xdata(), data.get_ydata(), np.array(half)))
    return found


def test_numbers_are_the_summary_with_the_accuracy_as_an_error():
    (_, numbers), tables = drawn()
    summary = cell_summary(tables.scalars).set_index(["metric", "width", "batch_size"])
    assert set(numbers["quantity"]) == {"test_error", "train_loss", "log_hessian_trace"}
    for row in numbers.itertuples():
        name = "test_accuracy" if row.quantity == "test_error" else row.quantity
        expected = summary.loc[(name, row.load, row.temperature)]
        value = 100 - expected["value"] if row.quantity == "test_error" else expected["value"]
        assert row.value == pytest.approx(value)
        assert row.stderr == pytest.approx(expected["stderr"])


def test_a_line_for_each_value_of_the_other_axis_with_its_errors():
    (figure, numbers), _ = drawn()
    panels = figure.axes
    assert [len(axes.containers) for axes in panels] == [2] * 3 + [3] * 3
    error = numbers[numbers["quantity"] == "test_error"]
    for (x, y, half), batch in zip(lines(panels[0]), (16, 64), strict=True):
        rows = error[error["temperature"] == batch].sort_values("load")
        np.testing.assert_allclose(x, np.log10([2, 4, 8]))
        np.testing.assert_allclose(y, rows["value"])
        np.testing.assert_allclose(half, rows["stderr"])
    for (x, y, _), width in zip(lines(panels[3]), (2, 4, 8), strict=True):
        rows = error[error["load"] == width].sort_values("temperature")
        np.testing.assert_allclose(x, np.log10([16, 64]))
        np.testing.assert_allclose(y, rows["value"])
    assert panels[3].xaxis_inverted()  # small batches are hot, and to the right
    assert not panels[0].xaxis_inverted()


def test_at_most_five_lines_and_both_ends_are_among_them():
    (figure, _), _ = drawn(PAPER)
    words = [[text.get_text() for text in one.get_texts()] for one in figure.legends]
    assert words[0] == ["1024", "364", "128", "44", "16"]
    assert words[1] == ["1", "4", "11", "45", "128"]


def test_what_is_absent_leaves_a_gap_and_a_cross():
    cells = [cell for cell in SMALL if cell != (8, 64)]
    (figure, _), _ = drawn(cells, diverged={(4, 16): (0, 1)})
    first, second = lines(figure.axes[0])
    assert np.isnan(first[1]).tolist() == [False, True, False]
    assert np.isnan(second[1]).tolist() == [False, False, True]
    crosses = [line.get_xdata() for line in figure.axes[0].lines if line.get_gid() == "absent"]
    assert [x.tolist() for x in crosses] == [[np.log10(4)], [np.log10(8)]]
    words = [text.get_text() for text in figure.legends[-1].get_texts()]
    assert "no number" in words


def test_unconverged_numbers_have_rings():
    tables = ft.tables(SMALL)
    rough = (tables.scalars["metric"] == "hessian_trace") & (tables.scalars["width"] == 4)
    tables.scalars.loc[rough, "status"] = "unconverged"
    figure = double_descent(tables, Figure(), "width", "batch_size").figure
    rings = [
        [len(line.get_xdata()) for line in axes.lines if line.get_gid() == "unconverged"]
        for axes in figure.axes
    ]
    assert rings == [[], [], [1, 1], [], [], [2]]


@pytest.mark.parametrize("cells", [[(4, 64)], ft.product([0.1, 1.0], [16])])
def test_a_few_cells(cells):
    (figure, numbers), _ = drawn(cells, replicas=1)
    assert len(numbers) == 3 * len(cells)
    assert numbers["stderr"].isna().all()
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
