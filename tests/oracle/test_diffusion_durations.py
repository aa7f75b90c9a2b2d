"""Power laws of durations, against scipy's laws of whole numbers."""

import numpy as np
import pytest
import scipy.stats

from lossatlas.diffusion.durations import fit_durations, survival


def test_the_exponent_of_a_zeta_law_is_found() -> None:
    drawn = scipy.stats.zipf.rvs(2.5, size=20_000, random_state=1)
    fit = fit_durations(drawn, smallest=1)
    assert fit.exponent == pytest.approx(2.5, abs=4 * fit.stderr)
    assert 0.005 < fit.stderr < 0.03
    assert fit.distance < 0.01
    assert fit.z > 1.96  # and no geometric law


def test_the_error_is_that_of_samples() -> None:
    fits = [
        fit_durations(scipy.stats.zipf.rvs(2.2, size=400, random_state=seed), smallest=1)
        for seed in range(200)
    ]
    spread = np.std([fit.exponent for fit in fits], ddof=1)
    assert np.mean([fit.stderr for fit in fits]) == pytest.approx(spread, rel=0.2)


def test_no_other_exponent_is_likelier() -> None:
    drawn = scipy.stats.zipf.rvs(1.9, size=60, random_state=3)
    fit = fit_durations(drawn, smallest=1)
    grid = np.linspace(1.2, 4, 2801)
    likelihood = [scipy.stats.zipf.logpmf(drawn, a).sum() for a in grid]
    assert fit.exponent == pytest.approx(grid[np.argmax(likelihood)], abs=1e-3)


def test_survival_is_that_of_scipy() -> None:
    fit = fit_durations(scipy.stats.zipf.rvs(2.5, size=500, random_state=1), smallest=1)
    expected = scipy.stats.zipf.sf(np.arange(5), fit.exponent)  # P(k > 0), P(k > 1), ...
    np.testing.assert_allclose(survival(np.arange(1, 6), fit), expected, rtol=1e-8)


def test_independent_changes_have_geometric_runs() -> None:
    above = np.random.default_rng(0).random(40_000) < 0.4
    edges = np.flatnonzero(np.diff(np.concatenate([[0], above, [0]]).astype(int)))
    runs = edges[1::2] - edges[::2]
    fit = fit_durations(runs, smallest=1)
    assert fit.z < -1.96
    counted = scipy.stats.geom.logpmf(runs, 1 / runs.mean()).sum()
    power = scipy.stats.zipf.logpmf(runs, fit.exponent).sum()
    assert fit.ratio == pytest.approx(power - counted, rel=1e-6)


def test_the_tail_begins_where_a_law_does() -> None:
    tail = np.round(scipy.stats.pareto.rvs(1.5, size=4000, random_state=2) * 5)
    both = np.concatenate([np.repeat([1, 2, 3, 4], 2000), tail[tail >= 5]])
    fit = fit_durations(both)
    assert 4 <= fit.smallest <= 8
    assert fit.exponent == pytest.approx(2.5, abs=0.15)


@pytest.mark.parametrize("few", [[], [1] * 9, [3] * 50])
def test_too_few_or_equal_durations_have_no_law(few: list[int]) -> None:
    assert fit_durations(few).status == "undefined"


@pytest.mark.parametrize("bad", [[0, 1, 2], [1.5, 2], [np.nan]])
def test_other_numbers_are_no_durations(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="whole numbers from 1 on"):
        fit_durations(bad)
    with pytest.raises(ValueError, match="is 1 or more, not 0"):
        fit_durations([1, 2], smallest=0)
