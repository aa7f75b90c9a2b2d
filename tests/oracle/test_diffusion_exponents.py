import numpy as np
import pytest
from diffusion_reference import ORACLE, brownian, fractional_brownian, rng
from scipy import signal

from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.exponents import (
    fit_exponent,
    local_exponents,
    paper_local_exponents,
    two_segments,
)
from lossatlas.diffusion.gram import path_of_points, squared_distances, without_drift
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.diffusion.stable import sample


def curve_of(x, y, replicates=None):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    drawn = np.empty((0, len(x))) if replicates is None else replicates
    ones = np.ones(len(x), dtype=np.int64)
    return Curve(x, y, np.full(len(x), np.nan), ones, ones > 0, drawn)


def msd_curve(points, seed=None, **options):
    distances = squared_distances(path_of_points(points))
    return time_averaged_msd(distances, rng=None if seed is None else rng(seed), **options)


@pytest.mark.parametrize("case", ["tiny_T12_d3", "lattice_ties_T10_d2"])
def test_reference_slopes(case):
    case = ORACLE[case]
    for offset, expected in case["beta"].items():
        found = paper_local_exponents(case["tau"], case["msd"], int(offset))
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    curve = msd_curve(np.array(case["positions"]))
    for window, expected in case["msd_loglog_slopes"].items():
        low, high = map(int, window.split("-"))
        assert fit_exponent(curve, low, high).value == pytest.approx(expected, rel=1e-10)


def test_power_law_is_exact():
    curve = curve_of(np.arange(1, 200), 3 * np.arange(1, 200) ** 1.3)
    for weights in ("equal", "blocks"):
        found = fit_exponent(curve, weights=weights)
        assert (found.value, found.prefactor) == (pytest.approx(1.3), pytest.approx(3))
        assert (found.low, found.high, found.points, found.status) == (10, 100, 91, "ok")
    local = local_exponents(curve)
    assert np.isnan(local.value[0])
    np.testing.assert_allclose(local.value[local.points > 1], 1.3)
    np.testing.assert_allclose(paper_local_exponents(curve.x, curve.y), 1.3)


def test_weights_are_stretches_that_do_not_overlap():
    curve = msd_curve(brownian(200, 1, 5))
    inside = slice(9, 50)
    x, pairs = curve.x[inside], curve.count[inside]
    weighted = np.polyfit(np.log(x), np.log(curve.y[inside]), 1, w=np.sqrt(pairs / x))
    found = fit_exponent(curve, 10, 50, weights="blocks")
    assert (found.value, found.prefactor) == pytest.approx((weighted[0], np.exp(weighted[1])))
    assert abs(found.value - fit_exponent(curve, 10, 50).value) > 1e-3


def test_local_windows_have_constant_width():
    curve = curve_of(np.arange(1, 1000), np.arange(1, 1000.0))
    local = local_exponents(curve, decades=0.3)
    place = np.argmin(np.abs(local.x - 100))
    centre = local.x[place]
    inside = (curve.x >= centre / 10**0.15) & (curve.x <= centre * 10**0.15)
    assert local.points[place] == inside.sum()


@pytest.mark.parametrize(
    "name", ["brownian_T1000_d10", "fbm_H0.75_T1000_d50", "fbm_H0.3_T1000_d50"]
)
def test_ensembles_fall_into_their_bands(name):
    band = ORACLE["ensembles"][name]
    for seed in range(2):
        if name.startswith("brownian"):
            points = brownian(1000, 10, 1000 + seed)
        else:
            points = fractional_brownian(1000, 50, band["expected"] / 2, seed)
        curve = msd_curve(points, lags=np.arange(1, 101))
        for place, (low, high) in enumerate([(1, 10), (10, 100)]):
            slope = fit_exponent(curve, low, high).value
            assert abs(slope - band["mean"][place]) < 4 * band["sd"][place] + 1e-3


def test_drift_and_its_removal_fall_into_their_bands():
    band = ORACLE["ensembles"]["drift_noise_T1000_d10"]
    for seed in range(3):
        moves = 0.05 + 0.2 * rng(seed).standard_normal((1000, 10))
        path = path_of_points(np.cumsum(moves, axis=0))
        raw = time_averaged_msd(squared_distances(path), np.arange(1, 401))
        still = time_averaged_msd(squared_distances(without_drift(path)), np.arange(1, 401))
        found = [
            fit_exponent(raw, 1, 5).value,
            fit_exponent(raw, 50, 400).value,
            fit_exponent(still, 50, 400).value,
        ]
        assert (np.abs(np.array(found) - band["mean"]) < 4 * np.array(band["sd"])).all()


def test_stationary_process_reaches_a_plateau():
    moves = rng(1).standard_normal((2000, 20))
    points = signal.lfilter([1], [1, -0.9], moves, axis=0)[200:]
    curve = msd_curve(points, lags=log_lags(1, 400))
    expected = 2 * 20 / (1 - 0.81) * (1 - 0.9**curve.x)
    np.testing.assert_allclose(curve.y, expected, rtol=0.06)
    assert abs(fit_exponent(curve, 100, 400).value) < 0.05


def test_levy_flight_moments():
    flights = [np.cumsum(sample(1.5, 1000, rng(seed))) for seed in range(20)]
    msd = [fit_exponent(msd_curve(path, lags=log_lags(1, 10)), 1, 10).value for path in flights]
    moment = [
        fit_exponent(msd_curve(path, lags=log_lags(1, 100), moment=0.6), 1, 100).value
        for path in flights
    ]
    assert np.mean(msd) == pytest.approx(1, abs=0.06)
    assert np.mean(moment) == pytest.approx(0.4, abs=0.06)


def test_error_of_the_exponent_has_the_right_size():
    lags = np.arange(1, 101)
    fits = [
        fit_exponent(msd_curve(brownian(1000, 10, 1000 + seed), seed, lags=lags))
        for seed in range(12)
    ]
    sd = ORACLE["ensembles"]["brownian_T1000_d10"]["sd"][1]
    assert 0.5 * sd < np.mean([fit.stderr for fit in fits]) < 1.5 * sd


def test_two_segments_found():
    x = np.arange(1, 400)
    y = 2 * np.where(x < 30, x**1.4, 30**1.4 * (x / 30) ** 0.7)
    noise = np.exp(0.01 * rng(1).standard_normal((50, len(x))))
    found = two_segments(curve_of(x, y, y * noise))
    assert found.status == "ok"
    assert found.first == pytest.approx(1.4, abs=0.03)
    assert found.second == pytest.approx(0.7, abs=0.03)
    assert found.crossover == pytest.approx(30, rel=0.12)
    assert found.crossover_low <= found.crossover * 1.1
    assert found.crossover_high >= found.crossover / 1.1
    assert 0 < found.first_stderr < 0.1
    assert 0 < found.change_stderr < 0.1
    assert found.straight_residual > 5 * found.residual


def test_errors_are_those_of_fitting_every_replicate() -> None:
    x = np.arange(1, 400)
    y = 2 * np.where(x < 30, x**1.4, 30**1.4 * (x / 30) ** 0.7)
    drawn = y * np.exp(0.05 * rng(1).standard_normal((40, len(x))))
    drawn *= x ** (0.1 * rng(2).standard_normal((40, 1)))
    whole = two_segments(curve_of(x, y, drawn))
    each = [two_segments(curve_of(x, one)) for one in drawn]
    first, second, bend = (
        np.array([getattr(one, name) for one in each]) for name in ("first", "second", "crossover")
    )
    assert whole.first_stderr == pytest.approx(first.std(ddof=1))
    assert whole.second_stderr == pytest.approx(second.std(ddof=1))
    assert whole.change_stderr == pytest.approx((second - first).std(ddof=1))
    assert whole.crossover_low == pytest.approx(np.percentile(bend, 16))
    assert whole.crossover_high == pytest.approx(np.percentile(bend, 84))
    slopes = [fit_exponent(curve_of(x, one)).value for one in drawn]
    assert fit_exponent(curve_of(x, y, drawn)).stderr == pytest.approx(np.std(slopes, ddof=1))


def test_local_exponents_are_weighted() -> None:
    curve = msd_curve(brownian(300, 2, 5))
    local = local_exponents(curve)
    place = int(np.argmin(np.abs(local.x - 40)))
    inside = np.abs(np.log10(curve.x / local.x[place])) <= 0.15 + 1e-9
    x, stretches = curve.x[inside], curve.count[inside] / curve.x[inside]
    fit = np.polyfit(np.log(x), np.log(curve.y[inside]), 1, w=np.sqrt(stretches))
    assert local.value[place] == pytest.approx(fit[0], rel=1e-9)


def test_segments_without_a_bend():
    x = np.arange(1, 400)
    found = two_segments(curve_of(x, x**1.0))
    assert found.straight_residual == pytest.approx(found.residual, abs=1e-9)
    assert np.isnan(found.first_stderr)
    late = two_segments(curve_of(x, np.where(x < 300, x, 300 * (x / 300.0) ** 9)))
    assert late.status == "unconverged"


def test_undefined_fits():
    zero = msd_curve(np.ones((200, 2)), 0)
    fit = fit_exponent(zero)
    assert fit.status == "undefined"
    assert np.isnan(fit.value)
    assert two_segments(zero).status == "undefined"
    assert np.isnan(local_exponents(zero).value).all()
    assert np.isnan(paper_local_exponents(zero.x, zero.y)).all()
    short = msd_curve(brownian(12, 1, 0))
    assert fit_exponent(short, 20, 30).status == "undefined"
    assert two_segments(short).status == "undefined"


def test_range_beyond_a_quarter_is_flagged():
    curve = msd_curve(brownian(200, 2, 0))
    assert fit_exponent(curve, 5, 50).reliable
    assert not fit_exponent(curve, 5, 51).reliable


def test_refused():
    curve = msd_curve(brownian(20, 2, 0))
    with pytest.raises(ValueError, match="0 < low < high"):
        fit_exponent(curve, 5, 5)
    with pytest.raises(ValueError, match="offset must lie"):
        paper_local_exponents(curve.x, curve.y, 19)
    with pytest.raises(ValueError, match="positive x"):
        paper_local_exponents([0, 1, 2], [1, 2, 3], 1)
    with pytest.raises(ValueError, match="positive width"):
        local_exponents(curve, decades=0)
    with pytest.raises(ValueError, match="first <= last"):
        log_lags(5, 2)
