"""Figures of recorded paths: what they draw is what the tables hold."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lossatlas.errors import UserError
from lossatlas.figures import (
    Tables,
    diffusion,
    diffusion_hessian,
    diffusion_more,
    diffusion_trends,
    walks,
)
from lossatlas.metrics.diffusion import Diffusion
from lossatlas.reference import diffusion_hand
from lossatlas.spec.figures import Figure
from lossatlas.tables.collect import SCALAR, SERIES

STYLE = Figure(draws="diffusion_fig2_msd")
FIRSTS = [0, 700, 1400]
LAGS = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
PER_WINDOW = [
    "msd",
    "still_msd",
    "surrogate_msd",
    "local_exponent",
    "msd_from_start",
    "velocity_correlation",
    "moment_exponent",
    "msl",
    "msl_contour",
    "msd_contour",
    "excursion",
    "gradient_density",
    "gradient_stable",
    "gradient_normal",
    "loss_change",
    "msl_whole",
]
OTHER = {"eigenvalue": "rank", "hessian_ritz": "epoch"}  # curves by something else
WHOLE = [
    "msd_run",
    "still_msd_run",
    "exponent",
    "still_exponent",
    "surrogate_exponent",
    "stable_alpha",
    "mixture_alpha",
    "standardised_alpha",
    "loss",
    "moving_variance",
    "distance",
]


def tables() -> Tables:
    """Tables of 2 depths x 3 learning rates x 2 batch sizes, 2 replicas, 3 windows."""
    scalars, series = [], []
    for depth in (0, 2):
        for rate in (0.02, 0.1, 0.5):
            for batch in (32, 64):
                cell = f"d{depth}-lr{rate}-b{batch}"
                place = {"experiment": "e", "cell": cell, "depth": depth}
                place |= {"learning_rate": rate, "batch_size": batch}
                for replica in (0, 1):
                    who = place | {"replica": replica, "partner": np.nan, "status": "ok"}
                    windows = product(PER_WINDOW, ["window"], FIRSTS)
                    others = ((name, key, first) for name, key in OTHER.items() for first in FIRSTS)
                    for name, key, first in [
                        *windows,
                        *others,
                        *product(WHOLE, ["window"], [None]),
                    ]:
                        y = LAGS * (1 + replica) * rate
                        series += [
                            who | {"series": name, key: first, "probe": 0, "x": a, "y": b}
                            for a, b in zip(LAGS, y, strict=True)
                        ]
                    path = {"series": "principal_path", "window": 0}
                    series += [
                        who | path | {"step": step, "u": step / 2, "v": step * replica}
                        for step in range(24)
                    ]
                    for name in Diffusion.numbers():
                        for when in ("first", "last"):
                            value = {"metric": f"{name}_{when}", "value": depth + rate + replica}
                            scalars.append(who | value | {"stderr": 0.1, "df": np.nan})
    axes = ["experiment", "cell", "depth", "learning_rate", "batch_size"]
    index = ["window", "rank", "epoch", "step", "u", "v", "probe"]
    columns = [*axes, *SERIES[:3], *index, *SERIES[3:]]
    frame = pd.DataFrame(series).reindex(columns=columns)
    whole = dict.fromkeys(index[:4], "Int64")
    return Tables(pd.DataFrame(scalars)[[*axes, *SCALAR]], frame.astype(whole))


PATHS = {
    "fig2": diffusion.displacement,
    "fig3": diffusion.trapping,
    "fig5": diffusion.gradients,
    "controls": diffusion.controls,
    "s1": diffusion_more.all_windows,
    "s2": diffusion_hessian.hessian,
    "s3": diffusion_trends.depth_and_batch,
    "s4": diffusion_trends.learning_rates,
}


@pytest.mark.parametrize("name", list(PATHS))
def test_figures_draw_and_say_what_they_drew(name: str) -> None:
    drawn = PATHS[name](tables(), STYLE, "depth", "learning_rate")
    assert len(drawn.figure.axes) >= 2
    assert len(drawn.numbers) > 5
    shown = [a for a in drawn.figure.axes if a.axison and a.get_label() != "<colorbar>"]
    assert all(axes.get_xlabel() for axes in shown)


@pytest.mark.parametrize("name", [name for name in PATHS if name != "s3"])
def test_tables_of_something_else_are_refused(name: str) -> None:
    empty = Tables(tables().scalars.iloc[:0], tables().series.iloc[:0])
    with pytest.raises(UserError, match="figure's tables have no"):
        PATHS[name](empty, STYLE, "depth", "learning_rate")


def without_axes() -> Tables:
    """Return the tables of an experiment of one cell."""
    frames = []
    for frame in (tables().scalars, tables().series):
        one = frame[frame["cell"] == frame["cell"].iloc[0]]
        frames.append(one.drop(columns=["depth", "learning_rate", "batch_size"]))
    return Tables(*frames)


@pytest.mark.parametrize(("name", "axis"), [("s3", "load"), ("s4", "temperature")])
def test_trends_need_an_axis(name: str, axis: str) -> None:
    with pytest.raises(UserError, match=f"experiment has no '{axis}' axis"):
        PATHS[name](without_axes(), STYLE, "", "")


def test_an_experiment_of_one_cell_has_its_displacement_drawn() -> None:
    drawn = diffusion.displacement(without_axes(), STYLE, "", "")
    rows = drawn.numbers.query("panel == 'a' and line == 'msd' and window == 700")
    np.testing.assert_allclose(rows["y"], LAGS * 0.02 * np.sqrt(2))


def test_displacement_is_the_geometric_mean_over_replicas() -> None:
    drawn = diffusion.displacement(tables(), STYLE, "depth", "learning_rate")
    rows = drawn.numbers.query("panel == 'a' and line == 'msd' and window == 700")
    np.testing.assert_allclose(rows["y"], LAGS * 0.1 * np.sqrt(2))
    assert set(rows["cell"]) == {"depth 2, learning rate 0.1, batch size 32"}
    authors = drawn.numbers.query("line == 'authors: MNIST'")
    assert dict(zip(authors["x"], authors["y"], strict=True)) == {1: 0.0079, 10: 0.041, 100: 0.62}


def test_means_end_where_a_replica_does() -> None:
    """Bins of distance differ between replicas; none is carried on as a constant."""
    own = {0: np.array([1.0, 2.0, 4.0, 8.0]), 1: np.array([1.5, 3.0, 6.0])}
    rows = [
        {"series": "msl", "window": 0, "replica": replica, "x": x, "y": x * (1 + replica)}
        for replica, xs in own.items()
        for x in xs
    ]
    x, y = walks.Walks(pd.DataFrame(rows), "").mean("msl", logarithm=False, window=0)
    np.testing.assert_allclose(x, [2, 4])
    np.testing.assert_allclose(y, [3, 6])


def test_windows_are_labelled_by_their_first_step() -> None:
    shown = walks.typical(tables(), "depth")
    assert shown.firsts("msd") == shown.some("msd") == FIRSTS
    assert shown.firsts("eigenvalue", "rank") == FIRSTS
    assert shown.firsts("eigenvalue") == shown.firsts("msd", "kind") == []
    assert shown.curves("msd", window=5) == shown.curves("msd", kind="a") == []
    drawn = diffusion.displacement(tables(), STYLE, "depth", "learning_rate")
    words = [text.get_text() for text in drawn.figure.axes[0].get_legend().get_texts()]
    assert words[:3] == ["from step 0", "from step 700", "from step 1400"]


def test_many_windows_have_a_colour_bar() -> None:
    many = tables().series
    first = many[(many["series"] == "msd") & (many["window"] == 0)]
    more = [first.assign(window=n) for n in range(1, 12)]
    both = Tables(tables().scalars, pd.concat([many, *more]))
    drawn = diffusion_more.all_windows(both, STYLE, "depth", "learning_rate")
    assert drawn.figure.axes[0].get_legend() is None
    (bar,) = drawn.figure.axes[0].child_axes
    assert bar.get_title() == "from step"
    assert [text.get_text() for text in bar.get_xticklabels()] == ["0", "1400"]


@pytest.mark.parametrize(
    ("shortcut", "shown"),
    [
        (None, {(14, 1.315), (14, 1.405), (20, 1.227), (20, 1.36)}),
        (1.0, {(14, 1.315), (14, 1.405), (20, 1.227), (20, 1.36)}),
        (0.0, {(14, 1.359), (14, 1.222), (20, 1.231), (20, 1.298)}),
    ],
)
def test_authors_numbers_stand_at_their_own_network(
    shortcut: float | None, shown: set[tuple[float, float]]
) -> None:
    some = tables()
    deep = some.scalars.replace({"depth": {0: 14, 2: 20}, "batch_size": {32: 128, 64: 512}})
    if shortcut is not None:
        deep.insert(3, "model.shortcut", shortcut)
    drawn = diffusion_trends.depth_and_batch(
        Tables(deep, some.series), STYLE, "depth", "learning_rate"
    )
    marks = [
        line.get_xydata()[0] for line in drawn.figure.axes[0].lines if line.get_marker() == "x"
    ]
    assert {(float(x), float(y)) for x, y in marks} == shown


def test_controls_show_the_smallest_load_as_convex() -> None:
    drawn = diffusion.controls(tables(), STYLE, "depth", "learning_rate")
    assert {label.split(",")[0] for label in drawn.numbers["cell"]} == {"depth 2", "depth 0"}


@pytest.mark.parametrize(("depth", "words"), [(0, "convex"), (14, "smallest load")])
def test_controls_are_convex_at_depth_0_alone(depth: int, words: str) -> None:
    some = tables()
    frames = (frame.replace({"depth": {0: depth, 2: 20}}) for frame in (some.scalars, some.series))
    drawn = diffusion.controls(Tables(*frames), STYLE, "depth", "learning_rate")
    titles = [axes.get_title(loc="left") for axes in drawn.figure.axes]
    assert [f"b  {words}, first window", f"d  {words}, exponents"] == [titles[1], titles[3]]
    entries = [text.get_text() for text in drawn.figure.axes[4].get_legend().get_texts()]
    assert entries[2].startswith(f"{words}, from")


def test_depth_and_batch_are_means_over_replicas() -> None:
    drawn = diffusion_trends.depth_and_batch(tables(), STYLE, "depth", "learning_rate")
    rows = drawn.numbers.query("depth == 2 and batch_size == 64 and metric == 'exponent_first'")
    assert rows["mean"].item() == pytest.approx(2 + 0.1 + 0.5)
    assert (rows["stderr"].item(), rows["df"].item()) == (pytest.approx(0.5), 1)
    assert rows["half_width"].item() == pytest.approx(0.5 * 12.7062, rel=1e-4)


def test_depth_and_batch_where_batch_size_is_the_temperature() -> None:
    some = tables()
    one = some.scalars[some.scalars["learning_rate"] == some.scalars["learning_rate"].max()]
    drawn = diffusion_trends.depth_and_batch(
        Tables(one.drop(columns="learning_rate"), some.series), STYLE, "depth", "batch_size"
    )
    assert sorted(drawn.numbers["batch_size"].unique()) == sorted(one["batch_size"].unique())
    assert one["batch_size"].nunique() > 1


def test_crossovers_at_an_end_of_the_search_are_left_out() -> None:
    some = tables()
    scalars = some.scalars.copy()
    scalars.loc[scalars["replica"] == 1, "status"] = "unconverged"
    drawn = diffusion_trends.depth_and_batch(
        Tables(scalars, some.series), STYLE, "depth", "learning_rate"
    )
    counts = drawn.numbers.groupby("metric")["count"].unique()
    assert counts["crossover_first"].tolist() == [1]
    assert counts["exponent_first"].tolist() == [2]
    scalars["status"] = "unconverged"
    none = diffusion_trends.depth_and_batch(
        Tables(scalars, some.series), STYLE, "depth", "learning_rate"
    )
    assert "crossover_first" not in set(none.numbers["metric"])


def test_learning_rates_have_a_panel_each() -> None:
    drawn = diffusion_trends.learning_rates(tables(), STYLE, "depth", "learning_rate")
    titles = [axes.get_title(loc="left") for axes in drawn.figure.axes]
    rates = zip("def", ("0.02", "0.1", "0.5"), strict=True)
    assert titles == ["a", "b", "c", *(f"{letter}  learning rate {rate}" for letter, rate in rates)]


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (diffusion_trends.depth_and_batch, "learning rate 0.1"),
        (diffusion_trends.learning_rates, "depth 2, batch size 32"),
    ],
)
def test_what_is_the_same_in_all_panels_stands_above_them(figure: Any, words: str) -> None:
    drawn = figure(tables(), STYLE, "depth", "learning_rate")
    assert drawn.figure.get_suptitle() == f"e: {words}"


def test_hessian_shows_each_rank_and_where_descent_is_unstable() -> None:
    drawn = diffusion_hessian.hessian(tables(), STYLE, "depth", "learning_rate")
    assert drawn.numbers.query("panel == 'a'")["rank"].unique().tolist() == FIRSTS
    limit = drawn.numbers.query("line == '2 / learning rate'")
    assert limit["y"].item() == 2 / 0.1
    words = [text.get_text() for text in drawn.figure.axes[2].get_legend().get_texts()]
    assert words == ["epoch 0", "epoch 700", "epoch 1400"]


def test_hand_read_exponents_average_as_stated() -> None:
    one, two, crossover = diffusion_hand.means()
    assert crossover == pytest.approx((163 + 107) / 2, abs=1)
    assert one == pytest.approx((1.216 + 1.274) / 2, abs=2e-3)
    assert two == pytest.approx((0.706 + 0.731) / 2, abs=2e-3)
