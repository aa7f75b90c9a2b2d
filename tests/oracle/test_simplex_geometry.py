"""Volumes against closed forms, exact fractions and Cayley-Menger; gradients against autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossatlas.simplex.geometry import (
    cayley_menger,
    effective_edge,
    face_of,
    orthonormal,
    regular_log_volume,
    shape_of,
)

FIVE = torch.tensor(
    [
        [1, 0, 2, -1, 0, 3],
        [0, 2, 1, 1, -1, 0],
        [2, -1, 0, 3, 1, 1],
        [-1, 1, 1, 0, 2, -2],
        [0, 0, -2, 1, 1, 1],
    ],
    dtype=torch.float64,
)
UNIT = {1: 1.0, 2: 0.4330127019, 3: 0.1178511302, 4: 2.3292374766e-2, 10: 2.8561652529e-8}


def regular(n: int, edge: float = 1.0) -> torch.Tensor:
    return torch.eye(n + 1, dtype=torch.float64) * edge / math.sqrt(2)


def closed(n: int, edge: float) -> float:
    return edge**n * math.sqrt(n + 1) / (math.factorial(n) * 2 ** (n / 2))


@pytest.mark.parametrize("n", range(1, 11))
@pytest.mark.parametrize("edge", [1.0, 59.24])
def test_regular_simplex(n: int, edge: float) -> None:
    found = shape_of(regular(n, edge))
    assert found.volume == pytest.approx(closed(n, edge), rel=1e-12)
    assert cayley_menger(regular(n, edge)) == pytest.approx(closed(n, edge) ** 2, rel=1e-10)
    assert math.exp(regular_log_volume(edge**2, n)) == pytest.approx(closed(n, edge), rel=1e-12)
    assert effective_edge(found.log_volume, n) == pytest.approx(edge, rel=1e-12)
    if edge == 1.0 and n in UNIT:
        assert found.volume == pytest.approx(UNIT[n], rel=1e-9)


KNOWN = [
    ([[3.0, 1.0]], 1.0),
    ([[0, 0], [3, 4]], 25.0),
    ([[0, 0], [3, 0], [0, 4]], 36.0),
    ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], 1 / 36),
    ([[0, 0, 1], [0, 1, 0], [1, 0, 0]], 3 / 4),
    ([[0, 0, 100], [0, 1, 0], [1, 0, 0]], 20001 / 4),
    (FIVE[:2].tolist(), 20.0),
    (FIVE[:3].tolist(), 99.0),
    (FIVE[:4].tolist(), 171.0),
    (FIVE.tolist(), 12691 / 144),
]


@pytest.mark.parametrize(("vertices", "squared"), KNOWN)
def test_exact_volumes(vertices: list, squared: float) -> None:
    points = torch.tensor(vertices, dtype=torch.float64)
    assert shape_of(points).volume ** 2 == pytest.approx(squared, rel=1e-12)
    assert cayley_menger(points) == pytest.approx(squared, rel=1e-11)


@pytest.mark.parametrize(
    "vertices",
    [
        [[0, 0], [2, 2], [1, 1]],
        [[0, 0, 0], [3, 0, 0], [0, 3, 0], [1, 1, 0]],
        [[1, 2], [1, 2]],
        [[0.1, 0.2, 0.3], [0.7, 0.1, 0.9], [0.4, 0.15, 0.6]],
    ],
)
def test_degenerate_is_zero_with_a_status(vertices: list) -> None:
    found = shape_of(torch.tensor(vertices, dtype=torch.float64))
    assert found.status == "degenerate"
    assert found.volume == 0.0
    assert torch.isfinite(found.heights).all()
    assert torch.isfinite(found.singular_values).all()


def test_the_mean_of_float32_vertices_is_degenerate() -> None:
    """The start of a vertex in one simplex: what the authors' float32 determinant gets wrong."""
    points = torch.randn(9, 5000, generator=torch.Generator().manual_seed(0)) * 0.5
    found = shape_of(torch.cat([points, points.mean(0, keepdim=True)]))
    assert found.volume == 0.0


def test_heights_and_singular_values() -> None:
    found = shape_of(FIVE)
    assert float(found.heights[-1]) ** 2 == pytest.approx(12691 / 1539, rel=1e-12)
    exact = np.linalg.svd((FIVE[1:] - FIVE[0]).numpy(), compute_uv=False)
    np.testing.assert_allclose(found.singular_values.numpy(), exact, rtol=1e-12)
    np.testing.assert_allclose(exact, [8.8852, 4.2475, 2.5815, 2.3127], atol=5e-5)


@settings(deadline=None)  # for machines with other work
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_invariances(n: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(n + 1, 12, generator=draw, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=torch.float64)).Q
    log = shape_of(points).log_volume
    moved = points @ basis + torch.randn(12, generator=draw, dtype=torch.float64)
    assert shape_of(moved).log_volume == pytest.approx(log, abs=1e-9)
    assert shape_of(points.flip(0)).log_volume == pytest.approx(log, abs=1e-9)
    assert shape_of(3.0 * points).log_volume == pytest.approx(log + n * math.log(3), abs=1e-9)
    assert 2 * log == pytest.approx(math.log(cayley_menger(points)), abs=1e-7)


def test_almost_parallel_edges_keep_their_digits() -> None:
    """Edges (1, d, 0, 0), (1, 0, d, 0), (1, 0, 0, d): det of the Gram matrix is d^6 + 3 d^4."""
    d = 1e-7
    edges = torch.cat([torch.ones(3, 1).double(), d * torch.eye(3).double()], 1)
    found = shape_of(torch.cat([torch.zeros(1, 4).double(), edges]))
    assert found.volume == pytest.approx(d**2 * math.sqrt(3 + d**2) / 6, rel=1e-8)
    basis, _ = orthonormal(edges, 1e-14)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3).double(), rtol=0, atol=1e-14)


def test_face_gives_height_volume_and_gradient() -> None:
    face = face_of(FIVE[:4])
    height, direction = face.height(FIVE[4])
    assert height**2 == pytest.approx(12691 / 1539, rel=1e-12)
    assert face.log_volume_at(height) == pytest.approx(shape_of(FIVE).log_volume, abs=1e-12)
    theta = FIVE[4].clone().requires_grad_()
    edges = torch.cat([FIVE[1:4], theta[None]]) - FIVE[0]
    log = 0.5 * torch.logdet(edges @ edges.T)
    (expected,) = torch.autograd.grad(log, theta)
    torch.testing.assert_close(direction / height, expected)
    published = torch.tensor([-0.2179, 0.0172, -0.6155, -0.1581, 0.0024, 0.1830])
    torch.testing.assert_close((2 * direction / height).float(), published, atol=5e-5, rtol=0)
    triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    height, direction = face_of(triangle[:2]).height(triangle[2])
    torch.testing.assert_close(2 * direction / height, torch.tensor([0, 0.5]).double())


def test_height_on_the_face_is_zero_without_nan() -> None:
    height, direction = face_of(FIVE[:4]).height(FIVE[:4].mean(0))
    assert height == 0.0
    assert not direction.any()
    assert face_of(FIVE[:4]).log_volume_at(height) == -math.inf


@pytest.mark.parametrize(
    ("vertices", "says"),
    [
        (torch.zeros(0, 3), "n >= 0"),
        (torch.zeros(5, 3), "span no simplex in 3 dimensions"),
        (torch.tensor([[0.0], [math.nan]]), "not finite"),
    ],
)
def test_bad_vertices(vertices: torch.Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        shape_of(vertices)
