"""The gain of one experiment over another: numbers, lines, marks; from planted tables."""

import math

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest

from lossatlas.figures import Drawn, Tables
from lossatlas.figures.draw import resolve
from lossatlas.spec.figures import Figure
from lossatlas.tables.gains import gains

SMALL = ft.product([2, 4, 8], [16, 64])
PAPER = ft.product(
    [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128],
    [16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024],
)
GAINED = {(2, 16): 1.0, (4, 16): 5.0, (8, 16): 2.0, (2, 64): -1.0, (4, 64): 0.0, (8, 64): 3.0}


def two(cells=SMALL, mine=None, theirs=None, gain=GAINED, replicas=3):
    """Tables of "a", and of "b", whose accuracies are less by the gain and by 0.1 per replica."""
    a = ft.scalars(cells, replicas=replicas, **(mine or {})).assign(experiment="a")
    b = ft.scalars(cells, replicas=replicas, **(theirs or {})).assign(experiment="b")
    accuracy = b["metric"] == "test_accuracy"
    places = zip(b["width"], b["batch_size"], strict=True)
    less = np.array([gain.get(place, 1.0) for place in places])
    b.loc[accuracy, "value"] -= (less + 0.1 * b["replica"].astype(float))[accuracy]
    return pd.concat([a, b], ignore_index=True)


def drawn(rows, **options) -> Drawn:
    chosen = Figure(draws="taxonomy_decay_gain", experiment="a", against="b", **options)
    function = resolve("taxonomy_decay_gain")
    return function(Tables(rows, ft.no_series()), chosen, "width", "batch_size")


def test_gain_is_the_mean_difference_of_replicas_of_one_seed():
    numbers = drawn(two()).numbers.set_index(["load", "temperature"])
    for place, gain in GAINED.items():
        row = numbers.loc[place]
        assert row["gain"] == pytest.approx(gain + 0.1)  # replicas 0, 1, 2
        assert row["stderr"] == pytest.approx(0.1 / math.sqrt(3))  # not that of two means apart
        assert (row["df"], row["count"], row["status"]) == (2, 3, "ok")
    rows = two()
    own = rows[(rows["experiment"] == "a") & (rows["metric"] == "mode_connectivity")]
    expected = own.groupby(["width", "batch_size"])["value"].mean()
    assert numbers["connectivity_a"].to_dict() == pytest.approx(expected.to_dict())


def test_seeds_that_only_one_has_do_not_count():
    rows = two()
    gone = (rows["experiment"] == "b") & (rows["replica"] == 2)
    row = drawn(rows[~gone]).numbers.set_index(["load", "temperature"]).loc[(4, 16)]
    assert (row["gain"], row["count"]) == (pytest.approx(5.05), 2)


def test_equal_differences_tell_no_error():
    rows = two()
    accuracy = rows["metric"] == "test_accuracy"
    rows.loc[accuracy, "value"] = np.where(rows["experiment"][accuracy] == "a", 90.1, 85.3)
    numbers = drawn(rows).numbers
    assert numbers["gain"].tolist() == pytest.approx([4.8] * len(SMALL))
    assert numbers["stderr"].isna().all()
    assert set(numbers["stderr_status"]) == {"undefined"}


def test_diverged_and_absent_cells_are_marked():
    mine = {"diverged": {(2, 16): (0,), (4, 16): (0, 1, 2)}}
    rows = two(mine=mine)
    gone = (rows["experiment"] == "b") & (rows["width"] == 8) & (rows["batch_size"] == 64)
    figure, numbers = drawn(rows[~gone])
    status = numbers.set_index(["load", "temperature"])["status"]
    assert status[(2, 16)] == "ok"
    assert status[(4, 16)] == "diverged"
    assert status[(8, 64)] == "undefined"
    axes = figure.axes[0]
    assert len(ft.named(axes, "diverged")) == 2
    assert len(ft.named(axes, "cross")) == 1
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"replicas diverged", "no number"} <= set(words)


def test_the_border_of_connectivity_is_drawn_between_its_tiles():
    def values(where):
        return {
            "values": {("mode_connectivity", c): (-9.0 if c[0] < where else 0.0) for c in SMALL}
        }

    figure, _ = drawn(two(mine=values(4), theirs=values(8)))
    axes = figure.axes[0]
    found = {}
    for name in ("a", "b"):
        (_, line) = ft.named(axes, f"border {name}")
        found[name] = [float(x) for part in line.get_segments() for x, _ in part]
    assert found["a"] == pytest.approx([math.log10(math.sqrt(8))] * 4)
    assert found["b"] == pytest.approx([math.log10(math.sqrt(32))] * 4)
    figure, _ = drawn(two(mine=values(4), theirs=values(8)), thresholds={"mode_connectivity": -10})
    assert not ft.named(figure.axes[0], "border a")[0].get_segments()


def test_tiles_have_the_colours_of_the_gains():
    figure, numbers = drawn(two())
    wide = numbers.pivot(index="temperature", columns="load", values="gain").to_numpy()
    (mesh,) = ft.named(figure.axes[0], "tiles")
    np.testing.assert_array_equal(mesh.get_array(), wide)
    assert mesh.norm(0.0) == 0.5  # nothing gained is the middle of the colours


def test_a_grid_of_the_papers_size_has_dots_and_a_single_cell_has_its_numbers():
    figure, _ = drawn(two(PAPER, gain=dict.fromkeys(PAPER, 0.1)))
    assert ft.named(figure.axes[0], "dots")
    assert not figure.axes[0].texts
    figure, numbers = drawn(two([(4, 64)]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.100\n±.06"]
    assert len(numbers) == 1


def test_statuses_of_single_numbers():
    rows = two([(4, 64)])
    rows.loc[rows["replica"] == 1, "status"] = "unconverged"
    found = gains(rows, "test_accuracy", "a", "b")
    assert found["status"].tolist() == ["unconverged"]
    assert found["count"].tolist() == [3]
