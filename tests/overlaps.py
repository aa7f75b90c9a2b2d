"""Which parts of a picture lie over each other."""

from itertools import combinations

from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

LEAST = 1.0  # pixels, each way


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of panels, legends and texts of the page that cover a part of each other.

    Panels are taken with their titles, labels, ticks and colour bars.
    """
    FigureCanvasAgg(figure)
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.axison]
    parts: list[Artist] = [*panels, *figure.legends, *(t for t in figure.texts if t.get_text())]
    boxes = [(_name(part), part.get_tightbbox()) for part in parts]
    return [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if _meet(a, b)]


def _meet(a: Bbox | None, b: Bbox | None) -> bool:
    both = Bbox.intersection(a, b) if a is not None and b is not None else None
    return both is not None and min(both.width, both.height) > LEAST


def _name(part: Artist) -> str:
    if isinstance(part, Text):
        return part.get_text()
    title = getattr(part, "get_title", lambda *_: "")
    return f"{type(part).__name__} {title('left') if hasattr(part, 'lines') else ''}"
