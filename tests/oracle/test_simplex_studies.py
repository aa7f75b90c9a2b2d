"""The two studies: their data and optimiser against naive ones, and what they find."""

import math

import numpy as np
import pytest
import torch

from lossatlas.models.functional import Functional, flatten, state_of
from lossatlas.simplex import sampling_bias, spirals
from lossatlas.training.engine import initialise
from lossatlas.training.seeds import generator

torch.set_num_threads(1)


def test_spirals_mirror_each_other() -> None:
    split = spirals.spirals(500, generator("test spirals"))
    points = split.images[:, :, 0, 0]
    torch.testing.assert_close(points[:500], -points[500:])
    assert split.labels.bincount().tolist() == [500, 500]
    clean = spirals.spirals(500, generator("test spirals"), noise=0.0).images[:, :, 0, 0]
    radius = clean.norm(dim=1)
    assert float(radius.max()) <= 1.5 * 600 * 2 * math.pi / 360
    assert float((points - clean).std()) == pytest.approx(1.0, abs=0.1)


def test_binary_is_cross_entropy_with_logits() -> None:
    module = initialise(spirals.Binary, 0)
    assert sum(p.numel() for p in module.parameters()) == 4_001
    x, labels = torch.randn(9, 2, 1, 1), torch.randint(0, 2, (9,))
    logits = module(x)
    two = torch.nn.functional.cross_entropy(logits, labels)
    one = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], labels.float())
    torch.testing.assert_close(two, one)


def test_adam_is_that_of_torch() -> None:
    start = torch.randn(7)
    ours, theirs = spirals.Adam(start.clone()), torch.nn.Parameter(start.clone())
    peer = torch.optim.Adam([theirs], lr=spirals.RATE, weight_decay=spirals.WEIGHT_DECAY)
    for step in range(20):
        gradient = torch.randn(7, generator=generator("adam", step))
        ours.move(gradient)
        theirs.grad = gradient.clone()
        peer.step()
    torch.testing.assert_close(ours.theta, theirs.detach())


def test_a_simplex_grows_from_a_spiral_network() -> None:
    data = [spirals.spirals(n, generator("spirals", 0, n)) for n in (50, 100)]
    toy = spirals.Toy(Functional(spirals.Binary()), data[0], data[1], 0)
    base = flatten(state_of(initialise(spirals.Binary, 0))[0])
    vertices = toy.grow(base, 3.0)
    assert vertices.shape == (4, 4001)
    assert torch.equal(vertices[0], base)
    assert torch.isfinite(vertices).all()


def test_quarters_have_equal_shares() -> None:
    weights = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]])
    assert sampling_bias.quarters(weights).tolist() == [0, 1, 2, 3]


def test_bias_study_tells_right_from_wrong() -> None:
    record = sampling_bias.study()
    table = {s.name: s.y for s in record.series}
    assert table["tests:wrong"].tolist() == [0, 0, 1, 1]
    assert table["tests:p_chi_square"][:2].min() > 1e-3
    assert table["tests:p_chi_square"][2:].max() < 1e-100
    assert table["tests:quarter3"][2] == pytest.approx(0.5, abs=0.01)
    assert table["tests:mean"][:2] == pytest.approx(1 / 3, abs=0.01)
    # The long axis of a uniform triangle: P(X > L / 2) = 1/4.
    chosen = (table["points:wrong"] == 0) & (table["points:elongated"] == 1)
    assert np.mean(table["points:x"][chosen] > 50) == pytest.approx(0.25, abs=0.1)
