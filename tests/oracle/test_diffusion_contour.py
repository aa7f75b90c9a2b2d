import tracemalloc

import numpy as np
import pytest
from diffusion_reference import ORACLE, brownian, rng

from lossatlas.diffusion.contour import (
    binned_pairs,
    contour_lengths,
    grouped_pairs,
    mean_contour_length,
    msd_against_contour,
    msl_against_contour,
    msl_against_distance,
)
from lossatlas.diffusion.exponents import fit_exponent
from lossatlas.diffusion.gram import path_of_points, squared_distances
from lossatlas.diffusion.smoothing import coarse_grain, moving_mean, moving_variance

CASES = [ORACLE["tiny_T12_d3"], ORACLE["lattice_ties_T10_d2"]]
TIES = 1e-12
MODES = {"fixed": "true", "paper": "seed"}


def pieces(case):
    path = path_of_points(np.array(case["positions"]))
    loss = np.array(case["loss"])
    return path, loss, loss - loss[:, None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_contour_groups(case, mode):
    path, _, differences = pieces(case)
    expected = case[f"by_contour_{MODES[mode]}"]
    lengths = contour_lengths(path, mode)
    np.testing.assert_allclose(
        mean_contour_length(path, mode), case[f"mean_contour_{MODES[mode]}"], rtol=1e-10
    )
    msd = grouped_pairs(lengths, squared_distances(path), tolerance=TIES)
    np.testing.assert_allclose(msd.x, expected["contour_length"], rtol=1e-10)
    assert msd.count.tolist() == expected["n_pairs"]
    np.testing.assert_allclose(msd.y, expected["msd"], rtol=1e-10)
    squared = grouped_pairs(lengths, differences, tolerance=TIES, square_of_mean=True)
    np.testing.assert_allclose(squared.y, expected["msl_square_of_mean"], rtol=1e-9, atol=1e-15)
    squares = grouped_pairs(lengths, np.square(differences), tolerance=TIES)
    np.testing.assert_allclose(squares.y, expected["msl_mean_of_square"], rtol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_distance_groups_and_coarse_graining(case):
    path, loss, differences = pieces(case)
    expected = case["by_distance"]
    distances = np.sqrt(squared_distances(path))
    squared = grouped_pairs(distances, differences, tolerance=TIES, square_of_mean=True)
    np.testing.assert_allclose(squared.x, expected["distance"], rtol=1e-10, atol=1e-15)
    assert squared.count.tolist() == expected["n_pairs"]
    np.testing.assert_allclose(squared.y, expected["msl_square_of_mean"], rtol=1e-9)
    squares = grouped_pairs(distances, np.square(differences), tolerance=TIES)
    np.testing.assert_allclose(squares.y, expected["msl_mean_of_square"], rtol=1e-10)
    coarse = case["coarse_msl_vs_distance"]
    centres, values = coarse_grain(squared.x, squared.y, coarse["nbins"])
    np.testing.assert_allclose(centres, coarse["centers"], rtol=1e-10)
    np.testing.assert_allclose(values, np.array(coarse["values"], dtype=float), rtol=1e-9)
    paper = msl_against_distance(path, loss, "paper")
    assert paper.count.sum() == len(loss) * (len(loss) - 1) // 2
    assert len(paper.replicates) == 0


@pytest.mark.parametrize("case", CASES)
def test_moving_windows(case):
    np.testing.assert_allclose(moving_mean(case["msd"], 2, 4), case["movmean_msd_2_4"], rtol=1e-10)
    np.testing.assert_allclose(
        moving_variance(case["loss"], 0, 3), case["movvar_loss_0_3"], rtol=1e-9, atol=1e-18
    )


def test_moving_windows_of_many_points_need_little_memory():
    values = rng(6).standard_normal(60_000)
    tracemalloc.start()
    means, variances = moving_mean(values), moving_variance(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # 60,000 windows of 441 entries would have 212 MB
    for place in (0, 39, 8191, 8192, 30_000, 59_900, 59_999):
        around = values[max(place - 40, 0) : place + 401]
        assert means[place] == pytest.approx(around.mean(), abs=1e-12)
        ahead = values[place : place + 101]
        expected = ahead.var(ddof=1) if len(ahead) > 1 else 0
        assert variances[place] == pytest.approx(expected, abs=1e-12)


def test_empty_coarse_bin_is_nan():
    _, values = coarse_grain([0.0, 0.1, 1.0], [1.0, 3.0, 9.0], 4)
    np.testing.assert_array_equal(values, [2, np.nan, np.nan, np.nan])


def test_bins_by_definition():
    path = path_of_points(brownian(50, 3, 1))
    loss = rng(2).standard_normal(50)
    for curve, keys, values in [
        (msd_against_contour(path), contour_lengths(path), squared_distances(path)),
        (msl_against_contour(path, loss), contour_lengths(path), (loss - loss[:, None]) ** 2),
        (
            msl_against_distance(path, loss),
            np.sqrt(squared_distances(path)),
            (loss - loss[:, None]) ** 2,
        ),
    ]:
        upper = np.triu_indices(50, 1)
        key, value = keys[upper], values[upper]
        bins = int(np.ceil(np.log10(key.max() / key.min()) * 10))
        edges = np.geomspace(key.min(), key.max(), bins + 1)
        place = np.clip(np.searchsorted(edges, key, side="right") - 1, 0, bins - 1)
        used = np.unique(place)
        near = (upper[1] - upper[0]) <= 50 / 4
        reliable = [near[place == b].mean() >= 0.5 for b in used]
        assert curve.reliable.tolist() == reliable
        np.testing.assert_allclose(curve.y, [value[place == b].mean() for b in used], rtol=1e-10)
        np.testing.assert_allclose(curve.x, [key[place == b].mean() for b in used], rtol=1e-10)
        assert curve.count.sum() == len(key)


def test_blocks_do_not_change_the_average():
    path = path_of_points(brownian(60, 3, 1))
    plain = msd_against_contour(path)
    blocks = msd_against_contour(path, rng=rng(), block=7, replicates=40)
    np.testing.assert_allclose(blocks.y, plain.y, rtol=1e-10)
    assert blocks.replicates.shape == (40, len(plain.y))
    assert (blocks.stderr > 0).mean() > 0.8
    assert plain.reliable[0]
    assert not plain.reliable[-1]


def test_groups_of_long_lags_are_not_reliable():
    time = np.arange(16.0)
    found = grouped_pairs(time - time[:, None], np.ones((16, 16)))
    assert found.x.tolist() == list(range(1, 16))
    assert found.reliable.tolist() == [lag <= 4 for lag in range(1, 16)]


def test_dimension_of_a_path():
    walk = fit_exponent(msd_against_contour(path_of_points(brownian(600, 20, 3))), 40, 400)
    assert walk.value == pytest.approx(1, abs=0.15)
    line = path_of_points(np.arange(100)[:, None] * np.ones(3))
    assert fit_exponent(msd_against_contour(line), 1, 100).value == pytest.approx(2, abs=0.01)


def test_revisited_points_and_ties_have_no_bin():
    path, loss, _ = pieces(CASES[1])
    curve = msl_against_distance(path, loss)
    assert curve.count.sum() == 45 - 3
    nothing = binned_pairs(np.zeros((5, 5)), np.ones((5, 5)))
    assert len(nothing.x) == 0
    equal = binned_pairs(np.ones((5, 5)), np.ones((5, 5)))
    assert equal.x.tolist() == [1.0]
    assert equal.count.tolist() == [10]
    constant = path_of_points(np.ones((6, 2)))
    assert len(msd_against_contour(constant).x) == 0
    assert msd_against_contour(constant, "paper").y.tolist() == [0.0]


def test_ties_of_distances_survive_rounding():
    """Distances from a Gram matrix differ in their last digits where those of points are equal."""
    points = rng(0).integers(0, 3, (12, 2)) + 1 / 3
    loss = rng(1).random(12)
    path = path_of_points(points)
    groups = {}
    for i in range(12):
        for j in range(i + 1, 12):
            apart = round(np.square(points[i] - points[j]).sum())
            groups.setdefault(apart, []).append(loss[j] - loss[i])
    paper = msl_against_distance(path, loss, "paper")
    np.testing.assert_allclose(paper.x, np.sqrt(sorted(groups)), atol=1e-7)
    assert paper.count.tolist() == [len(groups[key]) for key in sorted(groups)]
    np.testing.assert_allclose(paper.y, [np.mean(groups[key]) ** 2 for key in sorted(groups)])
    fixed = msl_against_distance(path, loss)
    assert fixed.count.sum() == 66 - len(groups[0])  # revisits have no bin
    assert fixed.x.min() >= 1 - 1e-9


def test_refused_loss():
    path, loss, _ = pieces(CASES[0])
    for function in (msl_against_contour, msl_against_distance):
        with pytest.raises(ValueError, match="11 entries for 12 points"):
            function(path, loss[1:])
        with pytest.raises(ValueError, match="loss is not finite from index 3"):
            function(path, np.where(np.arange(12) == 3, np.nan, loss))
    with pytest.raises(ValueError, match="loss is not finite from index 3"):
        moving_variance(np.where(np.arange(12) == 3, np.nan, loss))
    with pytest.raises(ValueError, match="both must be >= 0"):
        moving_mean(loss, -1, 2)
    with pytest.raises(ValueError, match="two different x"):
        coarse_grain([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 and 3 entries"):
        coarse_grain([1.0, 2.0], [1.0, 2.0, 3.0])
