import numpy as np
import pytest
import tidynamics
from diffusion_reference import ORACLE, brownian, naive_msd, rng
from hypothesis import given, settings
from hypothesis import strategies as st
from test_diffusion_gram import late_window

from lossatlas.diffusion.curves import block_length, curve_of_blocks
from lossatlas.diffusion.gram import path_of_points, squared_distances, without_drift
from lossatlas.diffusion.msd import (
    displacement_of_walkers,
    lag_averages,
    msd_from_start,
    paper_msd_from_start,
    time_averaged_msd,
    velocity_autocorrelation,
)

CASES = [ORACLE["tiny_T12_d3"], ORACLE["lattice_ties_T10_d2"]]


def distances_of(points):
    return squared_distances(path_of_points(points))


@pytest.mark.parametrize("case", CASES)
def test_reference_cases(case):
    points = np.array(case["positions"])
    distances = distances_of(points)
    np.testing.assert_allclose(time_averaged_msd(distances).y, case["msd"], rtol=1e-10)
    averages = lag_averages([points[:, :1], points[:, 1:]])
    np.testing.assert_allclose(averages.msd, case["msd"], rtol=1e-10)
    start = case["msd_from_first_point"]
    np.testing.assert_allclose(msd_from_start(distances), start, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(averages.from_start, start, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(np.sqrt(averages.steps), case["step_length"], rtol=1e-10)
    faulty = paper_msd_from_start([points[:, :1], points[:, 1:]])
    np.testing.assert_allclose(faulty, case["seed_bug_no_average_msd"], rtol=1e-10, atol=1e-13)


def test_both_routes_equal_the_definition_late_in_training():
    points = late_window()
    expected = naive_msd(points)
    np.testing.assert_allclose(time_averaged_msd(distances_of(points)).y, expected, rtol=1e-9)
    np.testing.assert_allclose(lag_averages([points]).msd, expected, rtol=1e-9)


def test_agrees_with_tidynamics():
    points = brownian(300, 3, 2)
    np.testing.assert_allclose(
        time_averaged_msd(distances_of(points)).y, tidynamics.msd(points)[1:], rtol=1e-9
    )


def test_strong_drift_on_both_routes():
    points = brownian(200, 4, 3) * 0.01 + np.arange(200)[:, None] * np.ones(4)
    still = points - np.arange(200)[:, None] * (points[-1] - points[0]) / 199
    averages = lag_averages([points])
    np.testing.assert_allclose(averages.msd, naive_msd(points), rtol=1e-10)
    np.testing.assert_allclose(averages.msd_without_drift, naive_msd(still), rtol=1e-9, atol=1e-12)
    found = time_averaged_msd(squared_distances(without_drift(path_of_points(points)))).y
    np.testing.assert_allclose(found, naive_msd(still), rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-50, 50))
def test_shift_and_scale(seed, scale, shift):
    points = rng(seed).standard_normal((12, 3))
    before = time_averaged_msd(distances_of(points)).y
    after = time_averaged_msd(distances_of(scale * points + shift)).y
    np.testing.assert_allclose(after, scale**2 * before, rtol=1e-7)


def test_ballistic_and_period_two():
    line = np.arange(20)[:, None] * np.array([3.0, 4.0])
    np.testing.assert_allclose(
        time_averaged_msd(distances_of(line)).y, 25 * np.arange(1, 20) ** 2.0
    )
    flips = np.where(np.arange(20) % 2, 1.0, -1.0)
    found = time_averaged_msd(distances_of(flips)).y
    np.testing.assert_allclose(found, np.where(np.arange(1, 20) % 2, 4, 0), atol=1e-12)
    np.testing.assert_allclose(
        velocity_autocorrelation(path_of_points(flips)).y, np.where(np.arange(19) % 2, -1, 1)
    )


def test_moments_and_velocity_by_definition():
    points = brownian(60, 2, 4)
    found = time_averaged_msd(distances_of(points), [1, 5, 9], moment=0.6).y
    expected = [
        (np.square(points[lag:] - points[:-lag]).sum(axis=1) ** 0.3).mean() for lag in (1, 5, 9)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    moves = np.diff(points, axis=0)
    norm = np.square(moves).sum(axis=1).mean()
    expected = [(moves[: 59 - lag] * moves[lag:]).sum(axis=1).mean() / norm for lag in (1, 7)]
    found = velocity_autocorrelation(path_of_points(points), [1, 7], rng=rng(), replicates=50)
    np.testing.assert_allclose(found.y, expected, rtol=1e-9)
    assert np.abs(found.y / found.stderr).max() < 4


def test_error_of_the_velocity_correlation_is_that_of_a_ratio():
    """Steady stretches of different speed: products vary with the squares, their ratio little."""
    points = np.cumsum(np.repeat(np.arange(1.0, 11), 20))
    found = velocity_autocorrelation(path_of_points(points), [1], block=20, rng=rng())
    assert found.y[0] == pytest.approx(1, abs=0.02)
    assert 0 < found.stderr[0] < 0.01


def test_constant_trajectory():
    distances = distances_of(np.ones((30, 2)))
    assert not time_averaged_msd(distances).y.any()
    assert np.isnan(velocity_autocorrelation(path_of_points(np.ones((30, 2)))).y).all()
    assert not lag_averages([np.ones((30, 2))]).msd.any()


def test_lags_beyond_a_quarter_are_flagged():
    curve = time_averaged_msd(distances_of(brownian(100, 1, 0)), [1, 25, 26, 99])
    assert curve.reliable.tolist() == [True, True, False, False]
    assert curve.count.tolist() == [99, 75, 74, 1]


@pytest.mark.parametrize("lags", [[0], [30], [1.5], [], [-3]])
def test_refused_lags(lags):
    with pytest.raises(ValueError, match="lags must"):
        time_averaged_msd(distances_of(brownian(30, 1, 0)), lags)


def test_refused():
    points = brownian(30, 2, 0)
    with pytest.raises(ValueError, match="moment must be positive"):
        time_averaged_msd(distances_of(points), moment=0)
    with pytest.raises(ValueError, match="blocks of 30"):
        time_averaged_msd(distances_of(points), block=30, rng=rng())
    points[4] = np.inf
    with pytest.raises(ValueError, match="not finite from index 4"):
        lag_averages([points])
    for function in (lag_averages, paper_msd_from_start):
        with pytest.raises(ValueError, match="at least one chunk"):
            function([])
    with pytest.raises(ValueError, match="30 and 29 points"):
        lag_averages([brownian(30, 2, 0), brownian(29, 2, 0)])


def test_bootstrap_error_has_the_right_size():
    runs = [
        time_averaged_msd(
            distances_of(brownian(400, 3, seed)), [1, 10, 40], block=40, rng=rng(seed)
        )
        for seed in range(60)
    ]
    spread = np.std([run.y for run in runs], axis=0)
    claimed = np.mean([run.stderr for run in runs], axis=0)
    np.testing.assert_allclose(claimed / spread, 1, atol=0.35)


def test_bootstrap_error_of_independent_blocks_is_the_usual_one() -> None:
    """B - 1 of B blocks are drawn, so that the variance is that of a mean, s^2 / B, unbiased."""
    means = rng(0).standard_normal((4, 3))
    counts = np.full((4, 3), 7)
    found = curve_of_blocks(np.arange(3.0), means * counts, counts, np.ones(3) > 0, rng(1), 40_000)
    np.testing.assert_allclose(found.y, means.mean(axis=0))
    np.testing.assert_allclose(found.stderr, means.std(axis=0, ddof=1) / 2, rtol=0.02)


def test_default_blocks_are_a_fifth_of_the_window() -> None:
    assert [block_length(points, None) for points in (5, 99, 1000)] == [1, 20, 200]


def test_walkers_one_by_one():
    paths = np.stack([brownian(50, 2, seed) for seed in range(4)], axis=1)
    found = displacement_of_walkers(paths)
    for walker in range(4):
        np.testing.assert_allclose(found[:, walker], naive_msd(paths[:, walker]), rtol=1e-9)


@pytest.mark.parametrize("place", [0, 5, 29])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_diverged_run(place, value):
    points = brownian(30, 3, 0)
    points[place, 1] = value
    message = "too large" if value == 1e200 else f"not finite from index {place} on"
    for function in (path_of_points, lambda x: lag_averages([x])):
        with pytest.raises(ValueError, match=message):
            function(points)
