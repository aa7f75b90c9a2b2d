import numpy as np
import pytest
from diffusion_reference import ORACLE, brownian, fractional_brownian, naive_msd, rng

from lossatlas.diffusion.excursions import random_starts, transverse_excursions
from lossatlas.diffusion.exponents import fit_exponent
from lossatlas.diffusion.gram import path_of_points, squared_distances
from lossatlas.diffusion.loss_events import avalanches, surroundings
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.diffusion.surrogates import surrogate, surrogate_msd

STEP = np.arange(220)
LOSS = (
    np.exp(-0.02 * STEP)
    + 0.15 * np.sin(0.35 * STEP) * np.where(STEP // 20 % 2 == 0, 1.0, 0.2)
    + 0.02 * np.sin(2.9 * STEP**2)
)


@pytest.mark.parametrize("case", ["tiny_T12_d3", "lattice_ties_T10_d2"])
def test_excursions_of_reference(case):
    case = ORACLE[case]
    distances = squared_distances(path_of_points(np.array(case["positions"])))
    for expected in case["transverse"]:
        if not expected["end_end_dist2"]:
            continue
        found = transverse_excursions(distances, expected["length"], [expected["start"]])
        assert found.chord[0] == pytest.approx(expected["end_end_dist2"], rel=1e-10)
        assert found.excursion[0] == pytest.approx(expected["transverse_excursion2"], rel=1e-9)
        assert found.excursion[0] == pytest.approx(expected["max_transverse"] ** 2, rel=1e-9)
        assert expected["perp_distance"][found.place[0] - 1] == pytest.approx(
            expected["max_transverse"], rel=1e-9
        )


def test_excursions_by_projection():
    points = brownian(100, 5, 1)
    found = transverse_excursions(squared_distances(path_of_points(points)), 30)
    assert found.start.tolist() == [0, 30, 60]
    for start, excursion in zip(found.start, found.excursion, strict=True):
        chord = points[start + 30] - points[start]
        away = points[start + 1 : start + 31] - points[start]
        away = away - np.outer(away @ chord / (chord @ chord), chord)
        assert excursion == pytest.approx(np.square(away).sum(axis=1).max(), rel=1e-9)


def test_excursions_of_lines_and_loops():
    line = squared_distances(path_of_points(np.arange(50)[:, None] * np.ones(3)))
    np.testing.assert_allclose(transverse_excursions(line, 10).excursion, 0, atol=1e-10)
    loop = np.ones((20, 2))
    loop[5] = 3
    found = transverse_excursions(squared_distances(path_of_points(loop)), 10)
    assert np.isnan(found.excursion).all()
    assert (found.place == -1).all()


def test_random_starts_reach_the_last_stretch():
    starts = random_starts(12, 10, 200, rng())
    assert set(starts.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="does not fit"):
        random_starts(10, 10, 5, rng())


def test_refused_stretches():
    distances = np.zeros((10, 10))
    with pytest.raises(ValueError, match="10 steps does not fit into 10"):
        transverse_excursions(distances, 10)
    with pytest.raises(ValueError, match=r"start in 0\.\.4"):
        transverse_excursions(distances, 5, [5])


def test_avalanches_of_reference():
    case = ORACLE["avalanche"]
    found = avalanches(LOSS)
    assert found.threshold == pytest.approx(case["threshold"], rel=1e-10)
    assert (found.change > found.threshold).sum() == case["n_above"]
    assert np.stack([found.start, found.length], 1).tolist() == case["runs_all_start_len"]
    early = avalanches(LOSS, leave_out=50)
    assert np.stack([early.start, early.length], 1).tolist() == case["runs_excluding_last50"]
    assert early.size[0] == pytest.approx(abs(LOSS[1] - LOSS[0]))
    path = path_of_points(np.cumsum(np.arange(220.0)))
    around = surroundings(LOSS, path.steps)
    assert around.peak.tolist() == [peak["peak"] for peak in case["peaks"]]
    np.testing.assert_array_equal(around.loss[2], LOSS[98:149])
    np.testing.assert_allclose(around.change[2], np.abs(np.diff(LOSS))[98:149])
    np.testing.assert_allclose(around.contour[2], np.cumsum(np.append(0, np.arange(99, 149))))


def test_few_or_no_avalanches():
    flat = avalanches(np.ones(100))
    assert len(flat.start) == 0
    loss = np.ones(100)
    loss[20] = 2
    around = surroundings(loss)
    assert around.peak.tolist() == [19]
    assert around.wanted == 5
    assert around.contour is None
    assert avalanches(loss, threshold=2.0).length.tolist() == []


@pytest.mark.parametrize(("step", "peaks"), [(8, [8]), (9, [])])
def test_what_follows_a_peak_fits_into_the_window(step, peaks):
    """60 points have 59 changes; a peak is followed by 50 more."""
    around = surroundings(np.where(np.arange(60) > step, 1.0, 0.0))
    assert around.peak.tolist() == peaks
    assert np.isfinite(around.change).all()


def test_refused_losses():
    bad = LOSS.copy()
    bad[100:] = np.nan
    for function in (avalanches, surroundings):
        with pytest.raises(ValueError, match="loss is not finite from index 100"):
            function(bad)
    with pytest.raises(ValueError, match="at least 53 entries"):
        surroundings(LOSS[:52])
    with pytest.raises(ValueError, match="cannot leave out 219"):
        avalanches(LOSS, leave_out=219)
    with pytest.raises(ValueError, match="219 squared step lengths"):
        surroundings(LOSS, np.ones(220))


def test_reordered_increments_lose_correlation():
    points = fractional_brownian(500, 10, 0.75, 1)
    path = path_of_points(points)
    measured = fit_exponent(time_averaged_msd(squared_distances(path)), 1, 20).value
    null = surrogate_msd(path, rng(), kind="signs", members=8, lags=np.arange(1, 40))
    fit = fit_exponent(null, 1, 20)
    assert measured > 1.4
    assert fit.value == pytest.approx(1, abs=4 * fit.stderr + 0.02)
    assert null.replicates.shape == (8, 39)
    np.testing.assert_allclose(null.y, null.replicates.mean(axis=0))
    assert np.isnan(null.stderr[0])  # signs change no step's length: all are equal
    spread = null.replicates.std(axis=0, ddof=1)
    np.testing.assert_allclose(null.stderr[1:], spread[1:])


def test_surrogates_keep_steps_and_sum():
    points = brownian(50, 3, 2)
    path = path_of_points(points)
    other = surrogate(path, "order", rng())
    np.testing.assert_allclose(np.sort(other.steps), np.sort(path.steps))
    far = squared_distances(other)
    assert far[0, -1] == pytest.approx(squared_distances(path)[0, -1])
    order = rng().permutation(49)
    moved = np.vstack([np.zeros(3), np.cumsum(np.diff(points, axis=0)[order], axis=0)])
    np.testing.assert_allclose(time_averaged_msd(far).y, naive_msd(moved), rtol=1e-9)
    signed = surrogate(path, "signs", rng())
    np.testing.assert_allclose(signed.steps, path.steps)
    with pytest.raises(ValueError, match="at least 2 members"):
        surrogate_msd(path, rng(), members=1)
