"""The volume term of SPRO: gradients against autograd, strengths against the authors' values."""

import math

import pytest
import torch
from simplex_cases import settings, squared_volume
from torch import nn

from lossatlas.models.functional import Functional
from lossatlas.simplex.complexes import grown, shared
from lossatlas.simplex.geometry import regular_log_volume
from lossatlas.simplex.strength import random_squared_edge, rule, strength
from lossatlas.simplex.volume_term import VolumeTerm

torch.set_num_threads(1)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_volume_gradient_against_autograd(mode: str) -> None:
    draw = torch.Generator().manual_seed(1)
    frozen = 0.4 * torch.randn(4, 20, generator=draw, dtype=torch.float64)
    theta = torch.randn(20, generator=draw, dtype=torch.float64).requires_grad_()
    simplexes = [(0, 2, 3, 4), (1, 2, 3, 4)]
    term = VolumeTerm(frozen, simplexes, 0.7, settings(mode=mode))
    gradient = torch.zeros(20, dtype=torch.float64)
    term.add_gradient(term.heights(theta.detach()), gradient)

    def volume(simplex: tuple[int, ...]) -> torch.Tensor:
        vertices = torch.cat([frozen, theta[None]])[list(simplex)]
        edges = vertices[1:] - vertices[0]
        return torch.linalg.det(edges @ edges.T).sqrt() / math.factorial(len(edges))

    if mode == "paper":
        log = torch.log(volume(simplexes[0]) ** 2 + 1e-4)
    else:
        log = torch.log(sum(volume(simplex) for simplex in simplexes))
    (expected,) = torch.autograd.grad(-0.7 * log, theta)
    torch.testing.assert_close(gradient, expected)


def test_paper_gradient_dies_below_its_epsilon() -> None:
    frozen = torch.zeros(2, 3, dtype=torch.float64)
    frozen[1, 0] = 1e-8
    theta = torch.tensor([0.0, 1e-8, 0.0], dtype=torch.float64)
    sizes = {}
    for mode in ("fixed", "paper"):
        gradient = torch.zeros(3, dtype=torch.float64)
        term = VolumeTerm(frozen, [(0, 1, 2)], 1.0, settings(mode=mode))
        term.add_gradient(term.heights(theta), gradient)
        sizes[mode] = float(gradient.norm())
    assert sizes["fixed"] == pytest.approx(1e8)
    assert sizes["paper"] < 1e-10
    on_face = torch.zeros(3, dtype=torch.float64)
    term = VolumeTerm(frozen, [(0, 1, 2)], 1.0, settings())
    term.add_gradient(term.heights(frozen[0]), on_face)
    assert not on_face.any()


SPIRAL = nn.Sequential(*[nn.Linear(a, b) for a, b in [(2, 25), *[(25, 25)] * 6, (25, 1)]])


def test_strengths_of_the_authors_rule() -> None:
    """Closed form against their stored and rerun values (specification 8.4)."""
    assert random_squared_edge(SPIRAL) == pytest.approx(129.6933, abs=1e-4)
    logs = [2 * regular_log_volume(129.6933, n) for n in range(1, 7)]
    assert logs == pytest.approx([4.865, 8.056, 10.319, 11.941, 13.077, 13.820], abs=2e-3)
    found = [rule(3.0, 129.6933, n) for n in (1, 2, 3)]
    assert found == pytest.approx([0.61663, 0.37238, 0.29073], rel=2e-4)
    wide = [rule(1e-6, 3509.371, n) for n in (1, 2, 3, 4)]
    assert wide == pytest.approx([1.225e-7, 6.825e-8, 4.947e-8, 3.979e-8], rel=1e-3)
    assert rule(1e-10, 3509.371, 2) == 1e-8
    assert rule(1.0, 0.01, 3) == 1e-8  # the quotient is negative
    assert rule(1e-6, 3509.371, 0) == pytest.approx(0.01, rel=1e-4)
    assert random_squared_edge(nn.LayerNorm(3)) == 0.0
    assert rule(1e-6, 0.0, 2) == 1e-8  # V is 0, and log 1e-4 negative


def test_strengths_of_the_authors_scripts() -> None:
    """Their script for complexes takes the strength of one vertex too many; the other does not."""
    chosen, spiral = settings(mode="paper", regularisation=3.0), Functional(SPIRAL)
    single = [strength(spiral, grown(0, 3), i, chosen) for i in range(3)]
    assert single == pytest.approx([0.61663, 0.37238, 0.29073], rel=2e-4)
    complexes = [strength(spiral, shared([0, 1], 3), i, chosen) for i in range(3)]
    assert complexes == pytest.approx([0.0, 3 / 10.319, 3 / 11.941], rel=2e-4)
    assert strength(spiral, shared([0, 1], 3), 0, settings(regularisation=3.0)) == 3.0


@pytest.mark.parametrize(("mode", "epsilon"), [("fixed", 0.3), ("paper", 0.02)])
def test_volume_gradient_with_an_epsilon(mode: str, epsilon: float) -> None:
    """Half of log(V^2 + epsilon), V summed; in mode "paper" the whole of it, of the first."""
    draw = torch.Generator().manual_seed(1)
    frozen = torch.randn(4, 6, generator=draw, dtype=torch.float64)
    theta = torch.randn(6, generator=draw, dtype=torch.float64).requires_grad_()
    simplexes = [(0, 2, 3, 4), (1, 2, 3, 4)]
    chosen = settings(mode=mode, epsilon=epsilon)
    gradient = torch.zeros(6, dtype=torch.float64)
    term = VolumeTerm(frozen, simplexes, 0.7, chosen)
    term.add_gradient(term.heights(theta.detach()), gradient)
    corners = torch.cat([frozen, theta[None]])
    volumes = [squared_volume(corners[list(simplex)]).sqrt() for simplex in simplexes]
    volume, factor = (volumes[0], 1.0) if mode == "paper" else (sum(volumes), 0.5)
    (expected,) = torch.autograd.grad(-0.7 * factor * torch.log(volume**2 + epsilon), theta)
    torch.testing.assert_close(gradient, expected)
