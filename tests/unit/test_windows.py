"""Windows that are shorter than what is fitted in them are refused when a config is read."""

import numpy as np
import pytest

from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.exponents import fit_exponent, local_exponents, paper_local_exponents
from lossatlas.diffusion.gram import path_of_points, squared_distances
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.errors import UserError
from lossatlas.metrics.diffusion import LEAST_RATIO, LEAST_WINDOW, RELIABLE
from lossatlas.spec.config import Config, load


def config(length: int, **settings: object) -> Config:
    return load({
        "name": "x",
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"walk": {"epochs": 200, "record": {"length": length}}},
        "experiments": {
            "e": {"dataset": "digits", "model": "mlp", "recipe": "walk", "metrics": ["slow"]}
        },
        "metrics": {"slow": {"kind": "diffusion", **settings}},
    })  # fmt: skip


LENGTH = "recipes.walk.record.length: "
BAD = [
    (
        399,
        {},
        f"{LENGTH}'slow' fits lags of 10 to 100 steps, and those of a window of 399 points are "
        "reliable up to 99 (400 or more, or metrics.slow.fit: [10, 99])",
    ),
    (
        40,
        {},
        f"{LENGTH}'slow' fits lags of 10 to 100 steps, and those of a window of 40 points are "
        "reliable up to 10 (400 or more)",
    ),
    (
        11,
        {"fit": [1, 2]},
        f"{LENGTH}local exponents of 'slow' need windows of 12 points, not 11 (12 or more)",
    ),
    (
        21,
        {"fit": [1, 4], "mode": "paper"},
        f"{LENGTH}local exponents of 'slow' need windows of 22 points, not 21 (22 or more)",
    ),
    (1000, {"last_lag": 99}, "metrics.slow.last_lag: 99 is less than the largest lag of the fit"),
    (1000, {"fit": [10, 10.5]}, "metrics.slow.fit: a slope needs two lags or more, and there is"),
    (1000, {"fit": [0.2, 1.5]}, "from 0.2 to 1.5 ([0.2, 2])"),
]


@pytest.mark.parametrize(("length", "settings", "says"), BAD)
def test_what_cannot_be_fitted_is_one_line(length: int, settings: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        config(length, **settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("length", "settings"),
    [
        (400, {}),
        (396, {"fit": [10, 99]}),
        (12, {"fit": [1, 3]}),
        (22, {"fit": [1, 4], "mode": "paper"}),
    ],
)
def test_what_is_just_long_enough_is_taken_and_rehearsed(length: int, settings: dict) -> None:
    assert config(length, **settings).recipes["walk"].record.length == length
    raw = config(length, **settings).model_dump(exclude_unset=True)
    small = load({**raw, "name": "x", "rehearse": True})
    fit = small.metric("slow").fit
    assert fit[1] * RELIABLE <= small.recipes["walk"].record.length


@pytest.mark.parametrize("length", [12, 13, 22, 60, 400])
def test_local_exponents_and_errors_are_there_from_the_least_window_on(length: int) -> None:
    rng = np.random.default_rng(0)
    distances = squared_distances(path_of_points(rng.standard_normal((length, 3)).cumsum(0)))
    lags = log_lags(1, length // RELIABLE)
    curve = time_averaged_msd(distances, lags, rng=rng, replicates=50)
    found = local_exponents(curve)
    assert np.isfinite(found.value).any()
    assert np.isfinite(found.stderr[np.isfinite(found.value)]).all()
    assert curve.df >= 2  # blocks of the bootstrap, less one
    if length >= LEAST_WINDOW["paper"]:
        every = time_averaged_msd(distances)
        assert np.isfinite(paper_local_exponents(every.x, every.y)).any()


def test_windows_that_are_shorter_have_none() -> None:
    lags = log_lags(1, (LEAST_WINDOW["fixed"] - 1) // RELIABLE)
    distances = squared_distances(path_of_points(np.arange(11.0)[:, None]))
    assert not np.isfinite(local_exponents(time_averaged_msd(distances, lags)).value).any()


@pytest.mark.parametrize("low", [0.2, 1.0, 2.5, 7.9, 10.0, 33.3, 100.0])
def test_the_narrowest_fit_holds_two_lags(low: float) -> None:
    high = max(LEAST_RATIO * low, np.ceil(low) + 1)
    distances = squared_distances(path_of_points(np.arange(801.0)[:, None]))
    curve = time_averaged_msd(distances, log_lags(1, 200))
    found = fit_exponent(curve, low, high)
    assert found.points >= 2
    assert found.value == pytest.approx(2)
