"""Every number and curve of the metric's windows against its definition, on known points."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from test_diffusion_measure import SETTINGS, brownian, curves, frame, one_gram, recorded_of, values

from lossatlas.diffusion import stable, tails, window
from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.contour import msl_against_distance
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.exponents import TwoSegments
from lossatlas.diffusion.gram import path_of_points
from lossatlas.diffusion.measure import Number, Sheet, measure
from lossatlas.diffusion.recorded import Recorded, seeded
from lossatlas.store import Record

POINTS = brownian()
ALL = SETTINGS.model_copy(update={"entries": 10**6})


@pytest.fixture(scope="module")
def path() -> Recorded:
    return recorded_of(POINTS)


@pytest.fixture(scope="module")
def record(path: Recorded) -> Record:
    return measure({0: path}, ALL)


def windows_at(path: Recorded, ends: list[tuple[int, int]]) -> Recorded:
    """Record the same path in other windows of equal length."""
    grams = [one_gram(POINTS[first:end]) for first, end in ends]
    return replace(path, window=np.array(ends), gram=np.concatenate(grams))


def noise_of(path: Recorded, *, detailed: bool = False) -> dict[str, Number]:
    """Return the numbers about gradients of the first 399 steps."""
    sheet = Sheet(0, ALL)
    window.noise(sheet, path, slice(0, 399), detailed=detailed)
    return {name: at[0] for name, at in sheet.numbers.items()}


def msd(part: np.ndarray, lag: int, q: float = 2.0) -> float:
    return float((np.square(part[lag:] - part[:-lag]).sum(axis=1) ** (q / 2)).mean())


def test_displacement(record: Record) -> None:
    found, made, part = values(record), curves(record), POINTS[300:700]
    assert found["msd_long_last"].value == pytest.approx(msd(part, 100))
    moves = np.diff(part, axis=0)
    product = (moves[1:] * moves[:-1]).sum(axis=1).mean() / np.square(moves).sum(axis=1).mean()
    assert found["velocity_correlation_last"].value == pytest.approx(product, abs=1e-9)
    start = made["msd_from_start", 300]
    wanted = np.square(part[start.x.astype(int)] - part[0]).sum(axis=1)
    np.testing.assert_allclose(start.y, wanted, rtol=1e-9)
    lags = log_lags(1, 100)
    lags = lags[lags >= 10]
    moments = made["moment_exponent", 300]
    assert moments.x.tolist() == [0.5, 1, 2, 3, 4]
    for q, slope in zip(moments.x, moments.y, strict=True):
        logs = np.log([msd(part, lag, q) for lag in lags])
        assert slope == pytest.approx(np.polyfit(np.log(lags), logs, 1)[0], abs=1e-9)


def test_whole_run(path: Recorded, record: Record) -> None:
    made = curves(record)
    time = made["distance", None].x.astype(int)
    np.testing.assert_allclose(
        made["distance", None].y, np.linalg.norm(POINTS[time] - POINTS[0], axis=1)
    )
    variance = [path.loss[t : t + 101].var(ddof=1) for t in range(len(path.loss) - 1)]
    np.testing.assert_allclose(made["moving_variance", None].y, [*variance, 0.0], atol=1e-12)
    inside = [path.loss[300:700][t : t + 101].var(ddof=1) for t in range(399)]
    assert values(record)["loss_variance_last"].value == pytest.approx(np.mean([*inside, 0.0]))
    for name, kept, stride in (("loss_after", path.after, 3), ("loss_whole", path.whole, 4)):
        assert made[name, None].x.tolist() == list(range(0, stride * len(kept), stride))
        np.testing.assert_array_equal(made[name, None].y, kept)
    still = POINTS - np.arange(701)[:, None] * (POINTS[-1] - POINTS[0]) / 700
    for name, points in (("msd_run", POINTS), ("still_msd_run", still)):
        wanted = [msd(points, int(lag)) for lag in made[name, None].x]
        np.testing.assert_allclose(made[name, None].y, wanted, rtol=1e-8)


def test_strides_that_do_not_divide_the_first_point(path: Recorded) -> None:
    moved = windows_at(path, [(1, 402), (300, 701)])
    made = curves(measure({0: moved}, SETTINGS))
    assert made["step_gain", 1].x.tolist() == list(range(3, 401, 3))
    np.testing.assert_allclose(made["step_gain", 1].y, path.after[1:134] - path.loss[3:401:3])
    for first, points in ((1, range(4, 402, 4)), (300, range(300, 701, 4))):
        kept = np.array(points)
        wanted = msl_against_distance(path_of_points(POINTS[kept]), path.whole[kept // 4])
        np.testing.assert_allclose(made["msl_whole", first].x, wanted.x, rtol=1e-9)
        np.testing.assert_allclose(made["msl_whole", first].y, wanted.y, rtol=1e-9)


def test_first_middle_and_last_window_have_all_curves(path: Recorded) -> None:
    five = windows_at(path, [(first, first + 100) for first in (0, 150, 300, 450, 600)])
    settings = SETTINGS.model_copy(update={"fit": [4, 20]})
    made = curves(measure({0: five}, settings))
    for name in ("msl", "excursion", "gradient_density"):
        firsts = [window for one, window in made if one == name]
        assert sorted(firsts) == [0, 300, 600]
    for name in ("msd", "step_gain"):
        assert {(name, first) for first in (0, 150, 300, 450, 600)} <= set(made)


def test_fits_of_gradients_take_the_steps_of_their_window(path: Recorded, record: Record) -> None:
    found = values(record)
    for place, steps in (("first", slice(0, 399)), ("last", slice(300, 699))):
        entries = path.reservoir[steps].ravel()
        for name, fit in (
            ("stable", stable.fit_by_characteristic),
            ("quantile", stable.fit_by_quantiles),
        ):
            alpha = fit(entries).law.alpha
            assert found[f"{name}_alpha_{place}"].value == pytest.approx(alpha, rel=1e-6)


def test_densities_of_gradients(path: Recorded, record: Record) -> None:
    made, entries = curves(record), path.reservoir[:399].ravel()
    density, normal = made["gradient_density", 0], made["gradient_normal", 0]
    width = density.x[1] - density.x[0]
    assert density.y.sum() * width == pytest.approx(0.99, abs=0.002)
    place = 40
    inside = np.abs(entries - density.x[place]) < width / 2
    assert density.y[place] == pytest.approx(inside.mean() / width)
    wanted = scipy.stats.norm.pdf(normal.x, entries.mean(), entries.std())
    np.testing.assert_allclose(normal.y, wanted, rtol=1e-9)
    law = stable.fit_by_characteristic(entries).law
    np.testing.assert_allclose(
        made["gradient_stable", 0].y, stable.density(density.x, law), rtol=1e-4
    )


def test_entries_are_scaled_by_their_own_tensor_at_their_own_step(path: Recorded) -> None:
    """Normal entries of any mix of scales are normal once each is divided by its scale."""
    rng = np.random.default_rng(3)
    tensor = rng.integers(0, 2, (700, 5))
    scale = np.stack([np.where(np.arange(700) % 2, 1.0, 30.0), np.full(700, 5.0)], axis=1)
    size = np.array([1, 400])
    entries = rng.standard_normal((700, 5)) * np.take_along_axis(scale, tensor, axis=1)
    mixed = replace(
        path,
        reservoir=entries,
        reservoir_tensor=tensor,
        size=size,
        layer_gradient=np.square(scale) * size,
    )
    found = noise_of(mixed)
    assert found["stable_alpha"][0] < 1.5
    assert found["layer_alpha"][0] == pytest.approx(2, abs=0.05)


def test_a_mean_gradient_is_no_noise() -> None:
    """Sums of a constant grow like their number, which would be an index of 1."""
    found = noise_of(recorded_of(brownian(drift=3.0)))
    assert found["tail_index"][0] == pytest.approx(2, abs=0.2)
    assert found["tail_index_ranked"][0] == pytest.approx(2, abs=0.5)


def test_ranked_tail_index_is_of_medians(path: Recorded, record: Record) -> None:
    rows = path.gradient[:399]  # 21 blocks of 19
    index = tails.tail_index_by_order(rows - rows.mean(axis=0), 19, 10)
    assert values(record)["tail_index_ranked_first"].value == pytest.approx(index)


def test_the_null_of_mixed_scales(path: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    null = tails.MixtureNull(1.0, 1.9, np.array([1.0, 2.0, 4.0]), 0.5, "ok")
    monkeypatch.setattr(tails, "scale_mixture_null", lambda *_, **__: null)
    found = noise_of(path, detailed=True)["mixture_alpha"]
    expected = (7 / 3, np.std([1, 2, 4], ddof=1) / np.sqrt(3), 2)
    assert (found.value, found.stderr, found.df) == pytest.approx(expected)


def test_noise_norms(path: Recorded, record: Record) -> None:
    gradients, epoch = path.gradient[300:699], path.epoch[300:699]
    norms = np.concatenate([
        np.linalg.norm(gradients[epoch == e] - gradients[epoch == e].mean(axis=0), axis=1)
        for e in np.unique(epoch)
    ])  # fmt: skip
    np.testing.assert_allclose(curves(record)["noise_norm", 300].y, norms, rtol=1e-6)
    fit, found = tails.fit_power_law(norms), values(record)["noise_exponent_last"]
    assert (found.value, found.stderr) == pytest.approx((fit.exponent, fit.stderr), rel=1e-4)


def test_crossover(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def bent(_curve: Curve, low: float) -> TwoSegments:
        asked.append(low)
        return TwoSegments(1.5, 0.1, 0.5, 0.2, 0.3, 40.0, 30.0, 56.0, 0.01, 0.1, "ok")

    monkeypatch.setattr(window, "two_segments", bent)
    sheet, nothing = Sheet(0, SETTINGS), np.empty(0)
    window.two_slopes(sheet, Curve(*[nothing] * 6, df=4.0), 300)
    assert asked == [5.0]  # half of the smallest lag of `fit`
    assert {name: at[300] for name, at in sheet.numbers.items()} == {
        "early_exponent": (1.5, 0.1, "ok", 4.0),
        "late_exponent": (0.5, 0.2, "ok", 4.0),
        "crossover": (40.0, 13.0, "ok", 4.0),
    }


def test_slope_of_the_upper_reliable_decade() -> None:
    x = np.arange(1.0, 1001)
    y = np.where(x < 60, x**0.5, 60**0.5 * (x / 60) ** 1.5)
    y = np.where(x > 600, 600**3 / x**2, y)
    curve = Curve(x, y, np.full(1000, np.nan), np.ones(1000), x <= 600, np.empty((0, 1000)))
    assert window.slope_of_reliable(curve)[0] == pytest.approx(1.5)


def test_avalanches(path: Recorded, record: Record) -> None:
    made, loss = curves(record), path.loss[:400]
    change = np.abs(np.diff(loss))
    marks = "".join("x" if big else " " for big in change > change.std(ddof=1))
    lengths = [len(run) for run in marks.split()]
    counts = made["avalanche_length", 0]
    assert counts.x.tolist() == list(range(1, max(lengths) + 1))
    assert counts.y.tolist() == [lengths.count(int(n)) for n in counts.x]
    shown = made["loss_change", 0]
    np.testing.assert_allclose(shown.y, change[50:])
    runs = [(len(r.group()), r.start()) for r in re.finditer("x+", marks[: 399 - 50])]
    longest = sorted(runs, key=lambda run: -run[0])[:5]
    peaks = [start + change[start : start + length].argmax() for length, start in longest]
    after = frame(record, "after_avalanche", window=0)
    for name, curve in (("loss", loss), ("change", change)):
        wanted = np.mean([curve[peak : peak + 51] for peak in peaks], axis=0)
        np.testing.assert_allclose(after[name], wanted)


def test_excursions_stand_beside_their_chords(record: Record) -> None:
    wanted = []
    for first in (0, 100, 200):
        part = POINTS[first : first + 101] - POINTS[first]
        chord = part[-1]
        away = part - np.outer(part @ chord / (chord @ chord), chord)
        wanted.append((chord @ chord, np.square(away).sum(axis=1).max()))
    made = curves(record)["excursion", 0]
    np.testing.assert_allclose(np.stack([made.x, made.y], axis=1), sorted(wanted), rtol=1e-9)


def test_draws_depend_on_every_word() -> None:
    words = [("a", 1, 2), ("a", 1, 3), ("a", 2, 2), ("b", 1, 2), ("a", 12), ("a1", 2)]
    assert len({seeded(*some).integers(2**62) for some in words}) == len(words)
    assert seeded("a", 1).random() == seeded("a", 1).random()
