import numpy as np
import pytest
from matplotlib.colors import CenteredNorm, LogNorm, to_rgb

from lossatlas.figures import style

PANEL = {panel.metric: panel for panel in style.PANELS}


def lightness(colour):
    """CIE lightness of an RGB colour."""
    rgb = np.asarray(colour[:3], dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(89.912, "89.9"), (-12.34, "-12.3"), (5.678, "5.68"), (-0.0312, "-0.031")],
        *[(0.00083, "8e-4"), (1024.4, "1024"), (0.0, "0"), (-0.0, "0"), (float("nan"), "")],
    ],
)
def test_spelling_of_numbers(value, text):
    assert style.spell(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, ".4"), (1.7, "2"), (12.3, "12"), (0.0091, ".009"), (3e-5, "3e-5")]
)
def test_spelling_of_standard_errors(value, text):
    assert style.spell_error(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(16, "16"), (0.05, "0.05"), (0.0015625, "0.00156"), (1.25e-5, "1.25e-5")],
        *[(1e-4, "1e-4"), (0, "0"), (1024, "1024")],
    ],
)
def test_spelling_of_axis_values(value, text):
    assert style.spell_axis(value) == text


def test_axis_names():
    assert style.axis_label("batch_size") == "batch size"
    assert style.axis_label("model.growth_rate") == "growth rate"


@pytest.mark.parametrize("panel", [p for p in style.PANELS if p.scale != "centred"])
def test_colours_keep_their_order_in_grey(panel):
    colours = style.colour_map(panel)(np.linspace(0, 1, 64))
    steps = np.diff([lightness(colour) for colour in colours])
    assert np.all(steps > 0) or np.all(steps < 0)


def test_phases_differ_in_grey():
    order = [lightness(to_rgb(style.PHASE_COLOURS[p])) for p in ("I", "II", "III", "IV-A", "IV-B")]
    assert np.diff(order).min() > 12


def test_ink_reads_on_every_colour():
    for panel in style.PANELS:
        for colour in style.colour_map(panel)(np.linspace(0, 1, 33)):
            ink = to_rgb(style.contrast(tuple(colour)))
            assert abs(lightness(ink) - lightness(colour)) > 35


def test_connectivity_is_centred_on_zero():
    norm = style.norm(PANEL["mode_connectivity"], np.array([-20.0, 5.0, np.nan]), "data")
    assert isinstance(norm, CenteredNorm)
    assert norm(0.0) == 0.5
    assert norm(-20.0) == 0


def test_limits_of_the_paper():
    for panel in style.PANELS:
        norm = style.norm(panel, np.array([1.0, 2.0]), "paper")
        assert (norm.vmin, norm.vmax) == panel.paper
    assert PANEL["mode_connectivity"].paper == (-30, 30)
    assert PANEL["test_accuracy"].paper == (56, 91)


def test_limits_of_the_data():
    norm = style.norm(PANEL["cka"], np.array([0.2, np.nan, 0.6]), "data")
    assert (norm.vmin, norm.vmax) == (0.2, 0.6)
    assert isinstance(style.norm(PANEL["train_loss"], np.array([1e-3, 1.0]), "data"), LogNorm)
    assert not isinstance(style.norm(PANEL["train_loss"], np.array([0.0, 1.0]), "data"), LogNorm)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.0], [np.nan], []])
@pytest.mark.parametrize("panel", style.PANELS)
def test_limits_are_never_empty(panel, values):
    norm = style.norm(panel, np.array(values, dtype=float), "data")
    assert norm.vmin < norm.vmax


@pytest.mark.parametrize("panel", style.PANELS)
def test_one_outlier_costs_the_others_no_colours(panel):
    """Its bar has an arrow; without an outlier limits are the ends of the data."""
    values = np.linspace(0.4, 0.6, 12) if panel.scale != "centred" else np.linspace(-6, -1, 12)
    plain = style.norm(panel, values, "data")
    far = np.append(values, -1000.0 if panel.scale == "centred" else 1000.0)
    robust = style.norm(panel, far, "data")
    assert (robust.vmin, robust.vmax) == (plain.vmin, plain.vmax)
    assert plain.vmin <= values.min()
    assert plain.vmax >= values.max()
