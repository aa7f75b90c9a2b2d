"""Every figure is fit to print: text can be read, hues are apart, and nothing is covered."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figure_cases import CASES
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

import colours
import overlaps
from lossatlas.figures import Drawn, draw, style
from lossatlas.spec.figures import FIGURES
from lossatlas.spec.figures import Figure as Style

HUES = 20.0  # CIE76 differences in L*a*b*: the least between hues that must be told apart


@pytest.fixture(scope="module")
def made() -> dict[str, Drawn]:
    return {}


@pytest.fixture(params=sorted(FIGURES))
def figure(request: pytest.FixtureRequest, made: dict[str, Drawn]) -> Figure:
    """A figure with its layout done, drawn once for all tests."""
    if request.param not in made:
        drawn = CASES[request.param]().draw(request.param)
        with style.sheet():
            FigureCanvasAgg(drawn.figure)
            drawn.figure.canvas.draw()
        made[request.param] = drawn
    return made[request.param].figure


def texts(figure: Figure) -> list[Text]:
    return [one for one in figure.findobj(Text) if one.get_text().strip() and _seen(one)]


def _seen(one: Any) -> bool:
    return bool(one.get_visible()) and not (one.axes is not None and not one.axes.get_visible())


def test_every_built_in_figure_is_looked_at() -> None:
    assert set(CASES) == set(FIGURES)


def test_text_has_8_points_on_a_page_of_two_columns(figure: Figure) -> None:
    small = {one.get_text(): one.get_fontsize() for one in texts(figure) if one.get_fontsize() < 8}
    assert small == {}
    assert figure.get_figwidth() * 25.4 <= 180.01


def test_a_picture_has_300_dots_per_inch(tmp_path: Path) -> None:
    assert Style().dpi == 300
    drawn = CASES["simplex_diversity"]().draw("simplex_diversity")
    draw.save(drawn, tmp_path / "a.png", "png", Style().dpi)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_nothing_covers_anything_or_leaves_the_page(figure: Figure) -> None:
    with style.sheet():
        assert overlaps.overlaps(figure) == []
        assert draw.whole_page(figure) is None


def _labels(axis: Axis) -> list[tuple[float, Text]]:
    low, high = sorted(axis.get_view_interval())
    return [
        (float(tick.get_loc()), label)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if label.get_visible() and label.get_text() and low <= tick.get_loc() <= high
    ]


def _axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison and axes.name != "3d"]


def test_numbers_of_an_axis_stand_apart(figure: Figure) -> None:
    close = []
    for axes in _axes(figure):
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [(t.get_text(), t.get_window_extent()) for _, t in _labels(axis)]
            close += [
                (axes.get_title("left"), a, b)
                for (a, one), (b, other) in combinations(boxes, 2)
                if one.overlaps(other)
            ]
    assert close == []


def test_ticks_below_0_have_numbers(figure: Figure) -> None:
    for axes in _axes(figure):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            with style.sheet():
                below = [t for t in axis.get_majorticklocs() if low <= t <= high and t < -1e-9]
                labels = [place for place, _ in _labels(axis)]
            if labels:
                assert all(np.isclose(labels, place).any() for place in below)


def _hues(legend: Legend) -> list[tuple[str, str]]:
    """Words and colour of what a legend tells apart by colour."""
    found = []
    for handle, label in zip(legend.legend_handles, legend.get_texts(), strict=True):
        for name in ("get_color", "get_facecolor"):
            if handle is not None and hasattr(handle, name):
                colour = np.ravel(np.asarray(getattr(handle, name)(), dtype=object))
                value = colour[0] if isinstance(colour[0], str) else tuple(colour[:4])
                rgba = to_rgba(value)
                if rgba[3] > 0.5 and rgba[:3] != (1, 1, 1):
                    found.append((label.get_text(), rgba))
                break
    return found


def test_hues_are_apart_in_normal_deutan_and_protan_vision(figure: Figure) -> None:
    bad = []
    for legend in figure.findobj(Legend):
        for (one, a), (other, b) in combinations(_hues(legend), 2):
            if a != b and colours.apart(a, b) < HUES:
                bad.append((one, other, round(colours.apart(a, b), 1)))
    assert bad == []


def test_phases_are_apart() -> None:
    found = style.PHASE_COLOURS.values()
    assert min(colours.apart(a, b) for a, b in combinations(found, 2)) >= HUES


def test_the_measure_of_hues_knows_red_and_green() -> None:
    """Equal hues of a deuteranope: their normal distance is large."""
    red, green = "#a06b00", "#7a7d2d"
    assert float(np.linalg.norm(colours.lab(red) - colours.lab(green))) > 30
    assert colours.apart(red, green) < HUES
    assert colours.apart("black", "white") == pytest.approx(100, abs=0.1)
