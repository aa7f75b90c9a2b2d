import figure_tables as ft
import numpy as np
import pytest

from lossatlas.errors import UserError
from lossatlas.figures.grid import Axis, Grid, grid_of


def axis(*values, name="width"):
    return Axis(name, np.array(values, dtype=float))


def test_edges_are_geometric_middles():
    edges = 10 ** axis(2, 8, 16).edges
    np.testing.assert_allclose(edges, [1, 4, np.sqrt(128), 16 * np.sqrt(2)])


def test_single_value_has_one_tile_around_it():
    edges = axis(64).edges
    assert len(edges) == 2
    assert edges.mean() == pytest.approx(np.log10(64))


def test_noise_with_zero_is_linear():
    np.testing.assert_allclose(axis(0, 0.1, 0.3).edges, [-0.05, 0.05, 0.2, 0.4])


def test_wide_axis_with_zero_puts_it_one_step_before_the_rest():
    centres = axis(0, 1e-5, 1e-4, 1e-3, name="weight_decay").centres
    np.testing.assert_allclose(centres, [-6, -5, -4, -3])


def test_zero_and_one_more_value():
    assert np.all(np.diff(axis(0, 0.5).edges) > 0)
    assert np.all(np.diff(axis(0).edges) > 0)


def test_labels_keep_apart_and_keep_the_ends():
    widths = axis(1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
    kept = widths.labelled(37, upright=False)
    assert kept[0] == 0
    assert kept[-1] == 13
    assert 5 < len(kept) < 14
    assert widths.labelled(400, upright=False) == list(range(14))
    gaps = np.diff(widths.centres[kept]) / np.ptp(widths.edges) * 37
    assert gaps.min() >= 1.5


def test_hot_rows_come_first():
    cold = Grid(axis(1, 2), axis(16, 64, 256, name="batch_size"))
    assert cold.rows_hot_first == [0, 1, 2]
    for name in ("learning_rate", "weight_decay", "model.dropout"):
        hot = Grid(axis(1, 2), axis(0.1, 0.2, 0.3, name=name))
        assert hot.rows_hot_first == [2, 1, 0]


def test_matrix_finds_cells_in_any_order():
    rows = ft.scalars([(8, 64), (2, 16), (2, 64)])
    grid = grid_of(rows, "width", "batch_size")
    one = rows[(rows["metric"] == "cka")]
    matrix = grid.matrix(one, "value")
    assert matrix.shape == (2, 2)
    assert np.isnan(matrix[0, 1])
    assert matrix[1, 1] == ft.number("cka", 8, 64, 0)
    assert matrix[1, 0] == ft.number("cka", 2, 64, 0)


def test_matrix_refuses_two_numbers_for_a_cell():
    rows = ft.scalars([(2, 16)])
    grid = grid_of(rows, "width", "batch_size")
    with pytest.raises(ValueError, match="two rows of 'value'"):
        grid.matrix(rows, "value")


@pytest.mark.parametrize(("load", "temperature"), [("", "batch_size"), ("width", "")])
def test_missing_axis(load, temperature):
    with pytest.raises(UserError, match=r"needs a (load|temperature) axis") as caught:
        grid_of(ft.scalars([(2, 16)]), load, temperature)
    assert "one value is enough" in caught.value.fix


def test_unknown_axis():
    with pytest.raises(UserError, match="no axis 'depth'"):
        grid_of(ft.scalars([(2, 16)]), "depth", "batch_size")


def test_two_load_axes():
    rows = ft.scalars(ft.product([2, 4], [16, 64]))
    rows.insert(3, "depth", np.where(rows["width"] == 2, 1, 3))
    with pytest.raises(UserError, match="'depth' varies too"):
        grid_of(rows, "width", "batch_size")
    rows["depth"] = 1
    assert grid_of(rows, "width", "batch_size").shape == (2, 2)


def test_empty_table():
    with pytest.raises(UserError, match="no rows"):
        grid_of(ft.no_scalars(), "width", "batch_size")
