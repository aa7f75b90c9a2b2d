"""What is drawn of the papers' plans is readable: nothing lies over anything else."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import LogNorm

import overlaps
import walk_tables
from lossatlas import paths
from lossatlas.figures import (
    Tables,
    diffusion,
    draw,
    simplex_ensembles,
    simplex_landscape,
    simplex_shifts,
    style,
)
from lossatlas.figures.walks import MANY
from lossatlas.spec.config import Config, load
from lossatlas.spec.figures import Figure
from lossatlas.spec.shown import Shown
from lossatlas.store import Table
from lossatlas.tables import collect


def plan(name: str, **recipes: dict[str, Any]) -> Config:
    """Return a shipped config with one replica, and other settings of some recipes."""
    raw = yaml.safe_load((paths.PROJECT / f"config/{name}.yaml").read_text(encoding="utf-8"))
    for recipe, changes in recipes.items():
        raw["recipes"][recipe].update(changes)
    for one in raw["experiments"].values():
        one["seeds"] = 2
    return load({"name": "x", **raw})


# Fewer windows, but more than a legend tells apart.
FEW = {"length": 1000, "stride": 18_000, "snapshots": 100}


def drawn(name: str, config: Config) -> Any:
    shown = Shown(config, name)
    tables = walk_tables.tables(config, shown.experiment)
    with style.sheet():
        function = draw.resolve(shown.style.draws)
        return function(tables, shown.style, shown.axis("load"), shown.axis("temperature"))


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_s4_learning_rate",
        "diffusion_s4_1024",
        "diffusion_ratio_no_norm",
        "diffusion_s3_110",
        "diffusion_wide",
        "diffusion_fig2_msd",
        "diffusion_fig2_5000",
        "diffusion_fig3_trapping",
        "diffusion_fig5_gradients",
        "diffusion_avalanches",
        "diffusion_controls",
        "diffusion_s1_msd",
    ],
)
def test_no_panel_of_a_walk_covers_another(name: str) -> None:
    config = plan("diffusion", walk={"record": FEW})
    picture = drawn(name, config)
    with style.sheet():
        assert overlaps.overlaps(picture.figure) == []
    assert draw.whole_page(picture.figure) is None
    heading = picture.figure.get_suptitle()
    assert heading.partition(":")[0] == Shown(config, name).experiment


def test_there_are_more_windows_than_a_legend_tells_apart() -> None:
    config = plan("diffusion", walk={"record": FEW})
    (cell,) = config.cells("hessian")
    assert len(cell.recipe.record.windows(cell.recipe.steps(50_000))) > MANY
    assert len(config.cells("rates")) == 8


def test_a_trend_over_one_load_is_drawn_over_batch_sizes_alone() -> None:
    picture = drawn("diffusion_s3_110", plan("diffusion", walk={"record": FEW}))
    assert [axes.get_xlabel() for axes in picture.figure.axes] == ["batch size"] * 3
    ticks = [text.get_text() for text in picture.figure.axes[0].get_xticklabels()]
    assert ticks == ["128", "256", "512"]
    marks = [line for line in picture.figure.axes[0].lines if line.get_marker() == "x"]
    assert [float(line.get_xdata()[0]) for line in marks] == [128, 256, 512]


def test_a_panel_without_numbers_says_why() -> None:
    config = plan("diffusion", walk={"record": FEW})
    tables = walk_tables.tables(config, "depth_110")
    scalars = tables.scalars[~tables.scalars["metric"].str.startswith("crossover")]
    chosen = config.figures["diffusion_s3_110"]
    function = draw.resolve(chosen.draws)
    picture = function(Tables(scalars, tables.series), chosen, "depth", "learning_rate")
    said = [[t for t in axes.texts if t.get_gid() == "absent"] for axes in picture.figure.axes]
    assert [len(texts) for texts in said] == [0, 0, 1]
    assert "no bend" in said[2][0].get_text()


def test_a_legend_names_lines_that_are_there() -> None:
    config = plan("diffusion")
    tables = walk_tables.tables(config, "resnet14")
    chosen = config.figures["diffusion_fig3_trapping"]

    def words(given: Tables) -> list[str]:
        axes = diffusion.trapping(given, chosen, "depth", "batch_size").figure.axes[0]
        return [text.get_text() for text in axes.get_legend().get_texts()]

    assert "all images" not in words(tables)
    rows = tables.series[tables.series["series"] == "msl"].assign(series="msl_whole")
    late = rows[rows["window"] > 0]  # the first window has none
    assert words(Tables(tables.scalars, pd.concat([tables.series, late])))[-1] == "all images"


def test_avalanches_of_short_windows_or_none_say_so() -> None:
    config = plan("diffusion")
    tables = walk_tables.tables(config, "resnet14")
    chosen = config.figures["diffusion_avalanches"]
    function = draw.resolve("diffusion_avalanches")
    short = tables.series[tables.series["series"] != "after_avalanche"]
    picture = function(Tables(tables.scalars, short), chosen, "depth", "batch_size")
    said = [[t.get_text() for t in axes.texts] for axes in picture.figure.axes]
    assert [len(words) for words in said] == [0, 1, 1]
    whole = function(tables, chosen, "depth", "batch_size")
    laws = whole.numbers[whole.numbers["line"].str.startswith("power law")]
    exponents = laws.groupby("window")["line"].first().str.rpartition(" ")[2].astype(float)
    assert exponents[0] == pytest.approx(2.5, abs=0.4)  # as planted
    assert exponents.iloc[-1] > exponents[0]
    first = whole.numbers.query("line == 'avalanches' and window == 0")
    assert first["y"].iloc[0] == 1
    assert first["y"].is_monotonic_decreasing


def numbers_of(axes: Any) -> list[str]:
    """Return the numbers that are written at an x axis, within its limits."""
    low, high = sorted(axes.get_xlim())
    return [
        text.get_text()
        for minor in (False, True)
        for place, text in zip(
            axes.get_xticks(minor=minor), axes.get_xticklabels(minor=minor), strict=True
        )
        if low <= place <= high and text.get_text()
    ]


@pytest.mark.parametrize(("ends", "least"), [((0.015, 0.3), 4), ((1, 1000), 4), ((0.021, 0.09), 2)])
def test_logarithmic_axes_have_two_numbers(ends: tuple[float, float], least: int) -> None:
    with style.sheet():
        axes = style.page(50, 50).add_subplot()
        axes.plot(ends, ends)
        diffusion.loglog(axes, "x", "y")
        assert len(numbers_of(axes)) >= least


def collected(parts: list[Table]) -> Tables:
    axes: dict = {"c": {}}
    return Tables(
        collect.scalar_frame("vit_cifar100", axes, {"c": []}),
        collect.series_frame("vit_cifar100", axes, {"c": parts}),
    )


def ensembles(methods: tuple[int, ...] = (0, 1, 2, -1), sizes: int = 8) -> list[Table]:
    groups = {j: sizes if j < sizes else 1 for j in range(1, sizes + 1)}
    rows = [(m, j, g) for m in methods for j, count in groups.items() for g in range(count)]
    method, size, group = (np.array(column) for column in zip(*rows, strict=True))
    value = 1 / size + group / 10
    names = ("error", "nll", "ece", "nll_scaled", "ece_scaled", "passes")
    shift = [(m, s, g) for m in methods for s in (0.0, 0.4, 0.8) for g in range(2)]
    own = dict(zip(("method", "severity", "group"), map(np.array, zip(*shift, strict=True)),
                   strict=True))  # fmt: skip
    level = own["severity"] + own["group"] / 10
    shifted = dict.fromkeys(("error", "nll_scaled", "ece_scaled"), level)
    bins = {"method": [0, 1] * 2, "scaled": [0, 0, 1, 1], "bin": [3, 4] * 2, "share": [0.5] * 4}
    bins |= {"confidence": [0.5, 0.6] * 2, "accuracy": [0.4, 0.7] * 2}
    table = {**own, "components": 0 * level + 1, **shifted}
    return [
        Table("ensembles", {"method": method, "components": size, "group": group,
                            **dict.fromkeys(names, value)}),
        Table("reliability", bins),
        *(Table("corruption", table, index={"kind": kind}) for kind in ("noise", "fog", "snow")),
    ]  # fmt: skip


ENSEMBLES = [
    simplex_ensembles.ensembles,
    simplex_ensembles.calibration,
    simplex_ensembles.corruption,
]


@pytest.mark.parametrize("function", ENSEMBLES)
def test_pictures_of_ensembles_name_their_experiment_and_cover_nothing(function: Any) -> None:
    with style.sheet():
        picture = function(collected(ensembles()), Figure(), "", "")
        assert overlaps.overlaps(picture.figure) == []
    titles = [a.get_title(loc) for a in picture.figure.axes for loc in ("left", "right")]
    assert any("vit_cifar100" in title for title in titles)


MANY_METHODS = (-3, 0, -1, 2, -2, 1, 3)
IN_ORDER = ["deep ensemble", "1-simplex", "2-simplex", "3-simplex"]
IN_ORDER += ["fast geometric ensemble", "MultiSWA", "MultiSWAG"]


@pytest.mark.parametrize("function", [*ENSEMBLES, simplex_shifts.kinds])
def test_a_legend_of_many_methods_stays_on_the_page(function: Any) -> None:
    with style.sheet():
        picture = function(collected(ensembles(MANY_METHODS)), Figure(), "", "")
        assert overlaps.overlaps(picture.figure) == []
        (legend,) = picture.figure.legends
        box, page = legend.get_window_extent(), picture.figure.bbox
        assert box.x0 >= 0
        assert box.x1 <= page.x1
        tops = [axes.get_tightbbox().y1 for axes in picture.figure.axes if axes.axison]
        assert box.y0 >= max(tops)
    assert [text.get_text() for text in legend.get_texts()][:7] == IN_ORDER


def test_published_curves_say_whose_they_are() -> None:
    picture = simplex_ensembles.ensembles(collected(ensembles()), Figure(), "", "")
    titles = [axes.get_title("left") for axes in picture.figure.axes]
    assert [t for t in titles if "published" in t] == [
        "published,\nVGG16 on CIFAR-10",
        "published,\nVGG16 on CIFAR-100",
    ]


@pytest.mark.parametrize("sizes", [2, 3, 8])
def test_components_are_whole_numbers(sizes: int) -> None:
    tables = collected(ensembles(sizes=sizes))
    picture = simplex_ensembles.calibration(tables, Figure(), "", "")
    for axes in picture.figure.axes[2:]:
        assert all(float(place).is_integer() for place in axes.get_xticks())


@pytest.mark.parametrize("most", [2, 3, 12])
def test_connectors_are_whole_numbers(most: int) -> None:
    rows = [(way, c) for way in (0, 1, 2) for c in range(1, most + 1)]
    way, connectors = (np.array(column) for column in zip(*rows, strict=True))
    one = 0.0 * connectors + 1
    columns = {"way": way, "connectors": connectors, "simplex": 0 * way, "pair": 0 * way}
    names = ("regularisation", "strength", "log_volume", "height", "train_loss")
    columns |= dict.fromkeys((*names, "least_singular_value", "edge"), one)
    with style.sheet():
        picture = simplex_landscape.volume(collected([Table("volume", columns)]), Figure(), "", "")
        assert overlaps.overlaps(picture.figure) == []
    for axes in picture.figure.axes:
        assert all(float(place).is_integer() for place in axes.get_xticks())


def test_directions_of_a_complex_say_how_they_are_stretched() -> None:
    vertices = {"mode": [1, 1, 0], "number": [0, 1, 0], "x": [-6.0, 6.0, 0.0]}
    vertices |= {"y": [0.0, 0.0, 1.2], "z": [0.0, 0.2, 0.4]}
    cloud = {name: np.linspace(-1, 1, 5) * size for name, size in zip("xyz", (6, 0.6, 0.2),
             strict=True)} | {"train_loss": np.linspace(0.1, 1, 5)}  # fmt: skip
    parts = [Table("vertices", vertices), Table("points", cloud)]
    parts.append(Table("vertex_pairs", {"from": [0, 1], "to": [2, 2]}))
    axes: Any = simplex_landscape.complex_3d(collected(parts), Figure(), "", "").figure.axes[0]
    width = {name: np.ptp(getattr(axes, f"get_{name}lim")()) for name in "xyz"}
    assert axes.get_xlabel() == "direction 1"
    assert axes.get_ylabel() == f"direction 2 (stretched {width['x'] / width['y']:.2g}×)"
    assert axes.get_zlabel() == f"direction 3 (stretched {0.75 * width['x'] / width['z']:.2g}×)"


def test_equal_losses_have_one_number_on_their_scale() -> None:
    scale = simplex_landscape.log_scale(np.full(9, 0.25))
    assert isinstance(scale, LogNorm)
    figure = style.page(50, 50)
    image = figure.add_subplot().imshow(np.full((3, 3), 0.25), norm=scale)
    simplex_landscape.loss_bar(figure, image, scale, (0.9, 0.1, 0.02, 0.8))
    words = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert words == ["0.25"]
