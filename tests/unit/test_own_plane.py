"""The picture of a plane through one's own files."""

import pytest
from test_figures_simplex import plane, tables

import overlaps
from lossatlas.figures import draw, simplex_landscape, style


@pytest.mark.parametrize(
    "names",
    [["a.pt", "b.pt", "c.safetensors"], ["$x_{<b>.pt", "checkpoint_of_the_last_epoch.pt", "ü.pt"]],
)
def test_a_plane_names_its_files_and_says_what_its_lines_are(names: list[str]) -> None:
    drawn = simplex_landscape.own_plane(tables(plane()), names)
    with style.sheet():
        assert draw.whole_page(drawn.figure) is None
        assert not [pair for pair in overlaps.overlaps(drawn.figure) if pair != ("Axes ", "Axes ")]
    said = " ".join(text.get_text() for text in drawn.figure.texts).replace(r"\$", "$")
    ends = [name if len(name) <= 30 else f"…{name[-29:]}" for name in names]
    assert all(f"{place}: {name}" in said for place, name in enumerate(ends, 1))
    assert "training error (white lines)" in said
    axes = drawn.figure.axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text() in "123"] == ["1", "2", "3"]
    assert axes.get_position().width * 180 > 100  # of 180 mm
