"""The one style of all figures: fonts, colours, names of axes and metrics, spelling of numbers.

Colour maps are perceptually uniform and keep their order in grey and for colour-blind readers.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import CenteredNorm, Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.ticker import Formatter
from numpy.typing import NDArray

from lossatlas.spec.cells import LOAD_AXES, axis_target

Floats = NDArray[np.float64]

MM = 1 / 25.4  # inches
PAGE = 180.0  # mm, two columns of a journal
SMALLEST = 8.0  # points: text of a page in print
INK, GREY, MISSING = "#222222", "#777777", "#dcdcdc"
CORNER = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]  # some number did not converge
FENCE = 3.0  # Tukey's outer fences
HATCH = "////"
BAND = "#7d7d7d"  # strips along boundaries

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same everywhere
    "font.size": SMALLEST,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelsize": SMALLEST,
    "axes.linewidth": 0.5,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.width": 0.3,
    "ytick.minor.width": 0.3,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "legend.fontsize": SMALLEST,
    "legend.title_fontsize": SMALLEST,
    "legend.handlelength": 1.6,
    "legend.labelspacing": 0.3,
    "legend.borderaxespad": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def sheet() -> AbstractContextManager[None]:
    """Return the context that figures are drawn and saved in; a reader's own settings stay out."""
    return matplotlib.style.context(["default", _RC])


def page(height: float, width: float = PAGE) -> Figure:
    """Return an empty figure of that many millimetres."""
    return Figure(figsize=(width * MM, height * MM))


class Between(Formatter):
    """Numbers at 2 and 5 of a logarithmic axis where fewer than two powers of ten are in view."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the words for a minor tick."""
        del pos
        low, high = sorted(cast("Any", self.axis).get_view_interval())
        powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
        leading = x / 10 ** math.floor(math.log10(x))
        return f"{x:g}" if powers < 2 and round(leading, 6) in (2, 5) else ""


def head(figure: Figure, words: str) -> None:
    """Say above all panels, on the right, what they show."""
    figure.suptitle(words, fontsize=SMALLEST, x=0.99, ha="right")


@dataclass(frozen=True)
class Panel:
    """How one metric is shown.

    Attributes:
        metric: Its name in the summary of a table.
        title: Over the panel.
        unit: Under the colour bar.
        colours: Name of the colour map.
        paper: Colour limits of the paper's figures.
        scale: How values become colours when limits come from the data: "centred" is symmetric
            about 0, whatever the limits.
    """

    metric: str
    title: str
    unit: str
    colours: str
    paper: tuple[float, float]
    scale: Literal["linear", "log", "centred"] = "linear"


PANELS = (
    Panel("test_accuracy", "Test accuracy", "%", "viridis", (56, 91)),
    Panel("train_loss", "Training loss", "nats", "viridis_r", (0, 3), "log"),
    Panel("log_hessian_eigenvalue", "Log top eigenvalue", "ln λ₁", "viridis_r", (0, 6)),
    Panel("log_hessian_trace", "Log Hessian trace", "ln tr H", "viridis_r", (3, 8)),
    Panel(
        "mode_connectivity",
        "Mode connectivity",
        "% points",
        "PuOr_r",
        (-30, 30),
        "centred",
    ),
    Panel("cka", "CKA similarity", "CKA", "viridis", (0.3, 0.8)),
    Panel("l2_distance", "Distance of weights", "ℓ₂", "cividis", (0, 100)),
)

# Lightness falls from IV-B to I, so that phases stay apart in grey.
PHASE_COLOURS = {
    "I": "#33247a",
    "II": "#a03a70",
    "III": "#4a9bb5",
    "IV-A": "#f2b866",
    "IV-B": "#fdf6c0",
}

AXIS_LABELS = {
    "width": "width",
    "depth": "depth",
    "data_fraction": "fraction of the training data",
    "label_noise": "label noise",
    "pixel_noise": "pixel noise",
    "batch_size": "batch size",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
}


def plain(text: str) -> str:
    """Return a text of the user's for a picture: no formulas, and no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


def axis_label(name: str) -> str:
    """Return the words for an axis; the user's own "model.growth_rate" is "growth rate"."""
    return AXIS_LABELS.get(name, name.rpartition(".")[2].replace("_", " "))


def hot_label(name: str) -> str:
    """Return the words for an axis upwards; an axis of load that stands there is not hot."""
    hot = axis_target(name) not in LOAD_AXES.values()
    return f"{axis_label(name)} (hotter →)" if hot else axis_label(name)


def norm(panel: Panel, values: NDArray[np.float64], limits: str) -> Normalize:
    """Return what maps a metric's values to [0, 1].

    Args:
        panel: How the metric is shown.
        values: Any shape; NaN is left out. No finite value at all is fine.
        limits: "data", or "paper" for the limits of the paper's figures.
    """
    finite = values[np.isfinite(values)]
    if limits == "paper":
        return Normalize(*panel.paper)
    finite = _within_fences(finite, logarithm=panel.scale == "log")
    if panel.scale == "centred":
        return CenteredNorm(0, float(np.abs(finite).max(initial=0)) or 1.0)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if panel.scale == "log" and low > 0 and high > 10 * low:
        return LogNorm(low, high)
    if low == high:
        pad = abs(low) / 10 or 0.5
        low, high = (0.0, pad) if low == 0 else (low - pad, high + pad)
    return Normalize(low, high)


def _within_fences(values: Floats, *, logarithm: bool) -> Floats:
    """Leave out what lies more than `FENCE` interquartile ranges beyond the quartiles.

    One outlier then costs all other tiles no colours; bars say by an arrow that there is one.
    """
    scaled = np.log(values) if logarithm and (values > 0).all() else values
    if scaled.size < 4:
        return values
    low, high = np.percentile(scaled, (25, 75))
    reach = FENCE * (high - low)
    kept = (scaled >= low - reach) & (scaled <= high + reach)
    return values[kept] if reach > 0 else values


def colour_map(panel: Panel) -> Colormap:
    """Return a metric's colour map."""
    return colormaps[panel.colours]


def contrast(colour: tuple[float, ...]) -> str:
    """Return the ink, dark or white, that reads better on a colour (RGB, 0 to 1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.22 else "white"


def inks(values: Floats, colours: Colormap, norm: Normalize) -> NDArray[np.str_]:
    """Return the ink that reads on the colour of each value; dark on tiles without one."""
    found = np.full(values.shape, INK, dtype="<U7")
    for place in np.argwhere(np.isfinite(values)):
        colour = colours(float(norm(values[tuple(place)])))
        found[tuple(place)] = contrast(colour)
    return found


def hatched() -> Patch:
    """Return the key's sample of a tile with diverged replicas."""
    return Patch(facecolor="white", edgecolor=INK, hatch=HATCH, linewidth=0.5)


def unsure() -> Line2D:
    """Return the key's sample of a tile or panel with numbers that did not converge."""
    return Line2D([], [], marker=Path(CORNER), linestyle="", color=INK, markersize=5)


def cross() -> tuple[Patch, Line2D]:
    """Return the key's sample of a tile without a number."""
    mark = Line2D([], [], marker="x", linestyle="", color=GREY, markersize=3.5)
    return Patch(facecolor=MISSING, edgecolor="none"), mark


def spell(value: float) -> str:
    """Write a number shortly; NaN is nothing.

    Example:
        >>> [spell(x) for x in (89.912, -12.34, -0.0312, 0.00083, 1024.0, 0.0)]
        ['89.9', '-12.3', '-0.031', '8e-4', '1024', '0']
    """
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.005:
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:.{decimals}f}"


def spell_error(value: float) -> str:
    """Write a standard error with its leading digit: 12, .4, .009, 3e-3."""
    if value >= 10:
        return f"{value:.0f}"
    return spell(value) if value < 0.005 else f"{value:.1g}".lstrip("0")


def spell_axis(value: float) -> str:
    """Write an axis value without trailing zeros: 16, 0.05, 0.00156, 1.25e-5."""
    if value == 0 or 1 <= abs(value) < 1e6:
        return f"{value:.10g}"
    if 1e-3 <= abs(value) < 1:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
