"""Densities of stable laws: closed forms, tails, samples."""

import numpy as np
import pytest
import scipy.stats

from lossatlas.diffusion import stable


@pytest.mark.parametrize("alpha", [2.0, 1.0, 1.5])
def test_stable_density_has_closed_forms(alpha: float) -> None:
    x = np.linspace(-4, 4, 9)
    found = stable.density(x, stable.Stable(alpha, 0.0, 1.3, 0.2))
    z = (x - 0.2) / 1.3
    if alpha == 2:
        wanted = np.exp(-(z**2) / 4) / np.sqrt(4 * np.pi) / 1.3
    elif alpha == 1:
        wanted = 1 / (np.pi * (1 + z**2)) / 1.3
    else:
        wanted = scipy.stats.levy_stable.pdf(x, alpha, 0, loc=0.2, scale=1.3)
    np.testing.assert_allclose(found, wanted, rtol=2e-4)
    with pytest.raises(ValueError, match="alpha"):
        stable.density(x, stable.Stable(0.1, 0, 1, 0))


@pytest.mark.parametrize("beta", [0.0, 0.5, -0.9])
@pytest.mark.parametrize("alpha", [0.3, 0.45, 0.7, 0.89])
def test_stable_density_far_in_the_tails(
    alpha: float, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scipy.stats.levy_stable, "parameterization", "S0")
    x = np.array([-3000, -30, -3, -0.4, 0, 0.2, 1, 30, 3000.0])
    found = stable.density(x, stable.Stable(alpha, beta, 1.0, 0.0))
    np.testing.assert_allclose(found, scipy.stats.levy_stable.pdf(x, alpha, beta), rtol=1e-2)


def test_density_of_one_sided_law_is_zero_on_the_other_side() -> None:
    found = stable.density(np.array([-300.0, -3.0, 3.0]), stable.Stable(0.55, 1.0, 1.0, 0.0))
    assert (found[:2] < 1e-5).all()
    assert found[2] > 1e-3


def test_skewed_density_matches_its_samples() -> None:
    law = stable.Stable(1.6, 0.8, 1.0, 0.0)
    draws = stable.sample(1.6, 200_000, np.random.default_rng(0), beta=0.8)
    edges = np.linspace(-3, 3, 13)
    counts = np.histogram(draws, edges)[0] / len(draws) / 0.5
    found = stable.density((edges[1:] + edges[:-1]) / 2, law)
    np.testing.assert_allclose(found, counts, atol=0.01)
