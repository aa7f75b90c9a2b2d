"""Numbers of Chen et al. (2022) that figures are compared with.

The exponents were typed in by hand into the authors' plotting scripts; the displacements are read
out of the figure files that they committed (batch size 1024, first window).
"""

from __future__ import annotations

# (depth, shortcut flag) -> batch size -> (exponent 1, exponent 2, crossover in steps)
S3: dict[tuple[int, int], dict[int, tuple[float, float, float]]] = {
    (14, 0): {128: (1.359, 0.70, 80), 512: (1.222, 0.69, 50), 1024: (1.388, 0.69, 65)},
    (20, 0): {128: (1.231, 0.650, 140), 512: (1.298, 0.683, 60), 1024: (1.314, 0.693, 100)},
    (56, 0): {128: (1.111, 0.767, 200), 512: (1.10, 0.717, 125), 1024: (1.033, 0.70, 133)},
    (110, 0): {128: (1.012, 0.70, 300), 256: (1.172, 0.746, 400), 512: (1.35, 0.733, 300)},
    (14, 1): {128: (1.315, 0.727, 180), 512: (1.405, 0.70, 100), 1024: (1.215, 0.783, 70)},
    (20, 1): {128: (1.227, 0.733, 150), 512: (1.36, 0.703, 100), 1024: (1.36, 0.60, 45)},
    (56, 1): {128: (1.158, 0.684, 70), 512: (1.172, 0.75, 70), 1024: (1.259, 0.733, 70)},
    (110, 1): {128: (1.216, 0.80, 220), 256: (1.182, 0.884, 110), 512: (1.417, 0.674, 100)},
}

# learning rate -> (exponent 1, exponent 2)
S4 = {
    0.001: (2.0, 2.0),
    0.01: (1.833, 1.7),
    0.05: (1.7, 0.677),
    0.1: (1.388, 0.69),
    0.5: (1.4, 0.727),
}

# lag -> mean squared displacement in the first window
COMMITTED = {
    "CIFAR-10, net A": {1: 0.0405, 10: 0.0576, 100: 0.80},
    "CIFAR-10, net B": {1: 0.0270, 10: 0.0709, 100: 0.61},
    "MNIST": {1: 0.0079, 10: 0.041, 100: 0.62},
}


def means() -> tuple[float, float, float]:
    """Return the means of exponent 1, exponent 2 and crossover over all networks of S3."""
    rows = [row for per_batch in S3.values() for row in per_batch.values()]
    one, two, crossover = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return one, two, crossover
