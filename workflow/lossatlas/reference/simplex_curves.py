"""Ensembles of Benton et al. (2021), figure 8: test error, digitised from the authors' plots.

VGG16 without BatchNorm; good to 0.02 percentage points, values of half-hidden markers to 0.05.
"""

from __future__ import annotations

PAPER = "Benton et al. 2021"
NETWORK = "VGG16"

# data set -> method (dimension of the simplex; 0 is the deep ensemble) -> error (%) of 1 to 8
# components
ERRORS: dict[str, dict[int, tuple[float, ...]]] = {
    "CIFAR-10": {
        0: (6.95, 6.38, 6.17, 5.99, 6.16, 5.94, 6.02, 5.89),
        1: (6.53, 6.08, 5.84, 5.74, 5.59, 5.62, 5.70, 5.58),
        2: (6.60, 6.09, 5.68, 5.72, 5.60, 5.67, 5.67, 5.67),
    },
    "CIFAR-100": {
        0: (28.20, 25.75, 24.60, 24.12, 23.59, 23.23, 23.41, 23.20),
        1: (26.65, 24.88, 23.66, 23.45, 23.11, 22.96, 22.85, 22.94),
        2: (26.21, 24.72, 23.84, 23.50, 22.73, 22.90, 23.06, 23.02),
    },
}

# Seconds of training of one component, read off the time axis of the same figure, along which the
# curves are straight: a base of 300 epochs, and 10 epochs of five points a step for each vertex.
SECONDS = {0: 6224, 1: 7217, 2: 8334}
