"""How far colours are apart, for normal and for colour-blind readers."""

import numpy as np
from matplotlib.colors import to_rgb

# Viénot, Brettel and Mollon (1999): linear RGB that a dichromat tells apart, of a colour.
VISIONS = {
    "normal": np.eye(3),
    "deutan": np.array(
        [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]
    ),
    "protan": np.array(
        [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
    ),
}
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)  # D65


def lab(colour: object, vision: str = "normal") -> np.ndarray:
    """Return CIE L*a*b* (3,) of a colour as someone of that vision sees it."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = _TO_XYZ @ np.clip(VISIONS[vision] @ linear, 0, 1) / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: object, other: object) -> float:
    """Return the least difference, CIE76, of two colours over the visions."""
    return min(float(np.linalg.norm(lab(one, v) - lab(other, v))) for v in VISIONS)
