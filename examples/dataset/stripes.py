"""A data set: noisy stripes that run across or down."""

import numpy as np


def stripes() -> dict[str, np.ndarray]:
    """Return 200 training and 100 test images of 8 x 8 pixels, of two classes."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 300)
    across = np.tile(np.arange(8) % 2, (8, 1))
    clean = np.where(labels[:, None, None] == 1, across, across.T)
    images = (0.5 * clean + 0.5 * draw.random((300, 8, 8))).astype(np.float32)
    return {
        "train_images": images[:200],
        "train_labels": labels[:200],
        "test_images": images[200:],
        "test_labels": labels[200:],
    }
