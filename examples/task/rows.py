"""A regression: rows of five numbers, and a smooth function of them."""

import numpy as np


def rows() -> dict[str, np.ndarray]:
    """Return 300 rows for training and 100 for the test."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(400, 5))
    targets = np.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] + 0.1 * draw.normal(size=400)
    return {
        "train_inputs": inputs[:300],
        "train_targets": targets[:300],
        "test_inputs": inputs[300:],
        "test_targets": targets[300:],
    }
