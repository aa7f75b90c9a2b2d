import numpy as np
import pytest
from diffusion_reference import naive_distances, rng

from lossatlas.diffusion.gram import (
    embedding,
    finite_points,
    increments,
    path_of_chunks,
    path_of_gram,
    path_of_increments,
    path_of_points,
    squared_distances,
    without_drift,
)

POINTS = np.cumsum(rng(1).standard_normal((40, 7)), axis=0) + 3


def late_window(size=300, parameters=400):
    """float32 weights with |w|^2 about 2500 and MSD(1) about 3e-5, as late in training."""
    generator = rng(5)
    centre = generator.standard_normal(parameters) * np.sqrt(2500 / parameters)
    moves = generator.standard_normal((size, parameters)) * np.sqrt(3e-5 / parameters)
    return (centre + np.cumsum(moves, axis=0)).astype(np.float32)


def test_distances_match_the_definition():
    found = squared_distances(path_of_points(POINTS))
    np.testing.assert_allclose(found, naive_distances(POINTS), rtol=1e-12, atol=1e-12)


def test_late_window_keeps_nine_digits():
    points = late_window()
    assert 2000 < np.square(points, dtype=np.float64).sum(axis=1).mean() < 3000
    expected = naive_distances(points)
    assert 2e-5 < np.diagonal(expected, 1).mean() < 4e-5
    np.testing.assert_allclose(
        squared_distances(path_of_chunks(np.split(points, 8, axis=1))), expected, rtol=1e-9
    )


def test_uncentred_single_precision_would_not():
    points = late_window()
    gram = points @ points.T
    norms = np.diagonal(gram)
    bad = np.diagonal(norms + norms[:, None] - 2 * gram, 1)
    assert np.abs(bad / np.diagonal(naive_distances(points), 1) - 1).max() > 1


def test_chunks_add_up():
    whole, parts = path_of_points(POINTS), path_of_chunks([POINTS[:, :3], POINTS[:, 3:]])
    np.testing.assert_allclose(parts.gram, whole.gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(parts.steps, whole.steps, rtol=1e-12)


def test_recorded_gram_is_centred_again():
    path = path_of_gram(POINTS @ POINTS.T)
    np.testing.assert_allclose(path.gram.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(squared_distances(path), naive_distances(POINTS), atol=1e-9)


def test_recorded_steps_are_kept():
    steps = np.square(np.diff(POINTS, axis=0)).sum(axis=1) * (1 + 1e-6)
    distances = squared_distances(path_of_gram(POINTS @ POINTS.T, steps))
    np.testing.assert_array_equal(np.diagonal(distances, 1), steps)
    np.testing.assert_array_equal(distances, distances.T)


def test_embedding_is_isometric():
    found = embedding(path_of_points(POINTS))
    np.testing.assert_allclose(naive_distances(found.points), naive_distances(POINTS), atol=1e-9)
    assert found.variance[:7].sum() == pytest.approx(1)
    assert (np.diff(found.variance) <= 1e-12).all()
    assert embedding(path_of_points(POINTS), 3).points.shape == (40, 3)


def test_drift_removed():
    time = np.arange(40)[:, None]
    still = POINTS - time * (POINTS[-1] - POINTS[0]) / 39
    path = without_drift(path_of_points(POINTS))
    np.testing.assert_allclose(squared_distances(path), naive_distances(still), atol=1e-10)
    np.testing.assert_allclose(path.steps, np.square(np.diff(still, axis=0)).sum(axis=1))
    np.testing.assert_allclose(path.gram, path_of_points(still).gram, atol=1e-10)


def test_increments_and_back():
    path = path_of_points(POINTS)
    moves = np.diff(POINTS, axis=0)
    np.testing.assert_allclose(increments(path), moves @ moves.T, atol=1e-11)
    again = squared_distances(path_of_increments(increments(path)))
    np.testing.assert_allclose(again, naive_distances(POINTS), atol=1e-9)


def test_constant_trajectory_has_no_distances():
    points = np.full((10, 3), 7.3)
    path = path_of_points(points)
    assert not squared_distances(path).any()
    assert np.isnan(embedding(path).variance).all()


def test_diverged_run_names_the_first_bad_point():
    points = POINTS.copy()
    points[17:, 2] = np.nan
    with pytest.raises(ValueError, match="not finite from index 17"):
        path_of_points(points)
    gram = points @ points.T
    with pytest.raises(ValueError, match="not finite"):
        path_of_gram(gram)
    assert finite_points(gram) == 17
    assert finite_points(POINTS @ POINTS.T) == 40


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (np.zeros((3, 4)), "square"),
        (np.triu(np.ones((3, 3))), "symmetric"),
        (np.zeros((1, 1)), "at least 2"),
        (np.zeros(3), "2 axes"),
    ],
)
def test_refused_gram(gram, message):
    with pytest.raises(ValueError, match=message):
        path_of_gram(gram)


def test_refused_chunks_and_steps():
    with pytest.raises(ValueError, match="at least one chunk"):
        path_of_chunks([])
    with pytest.raises(ValueError, match="40 and 39 points"):
        path_of_chunks([POINTS, POINTS[1:]])
    with pytest.raises(ValueError, match="39 squared step lengths"):
        path_of_gram(POINTS @ POINTS.T, np.ones(40))
    with pytest.raises(ValueError, match=r"1\.\.40"):
        embedding(path_of_points(POINTS), 41)
