"""The diffusion metric on paths whose exponents are known, and on paths that have none."""

from dataclasses import replace

import numpy as np
import pytest

from lossatlas import measuring, store
from lossatlas.diffusion import contour, recorded, tails
from lossatlas.diffusion.gram import path_of_points
from lossatlas.diffusion.measure import measure
from lossatlas.diffusion.smoothing import coarse_grain
from lossatlas.errors import UserError
from lossatlas.metrics.diffusion import Diffusion
from lossatlas.spec.config import load
from lossatlas.store import Array, Record, Scalar
from parts import frame

SETTINGS = Diffusion(bootstrap=20, surrogates=2, entries=500)
WINDOWS = np.array([[0, 400], [300, 700]])


def recorded_of(points: np.ndarray, rate: float = 0.1) -> recorded.Recorded:
    """Record a path (S + 1, P) as the engine does, with gradients that explain its steps."""
    steps = np.diff(points, axis=0)
    rng = np.random.default_rng(1)
    grams = []
    for first, end in WINDOWS:
        part = points[first:end] - points[first]
        grams.append(np.triu(part @ part.T))
    return recorded.Recorded(
        loss=np.exp(-np.arange(len(steps)) / 100) + 0.1 * rng.random(len(steps)),
        step=np.square(steps).sum(1),
        distance=np.square(points - points[0]).sum(1),
        layer_gradient=np.square(steps / rate).sum(1)[:, None],
        gradient=-steps / rate,
        projection=points - points[0],
        rate=np.full(len(steps), rate),
        window=WINDOWS,
        gram=np.array(grams),
        layer_weight=np.ones((2, 1)),
        reservoir=rng.permuted(-steps / rate, axis=1)[:, :5],
        reservoir_tensor=np.zeros((len(steps), 5), dtype=np.int64),
        size=np.array([steps.shape[1]]),
        after=np.arange(len(steps))[::3] / 1000.0,
        whole=np.square(points[::4, 0]),
        stride=np.array([3, 4]),
        sums=np.stack([points.sum(1), np.square(points).sum(1), points[:, 0]], axis=1),
        epoch=np.arange(len(steps)) // 50,
        optimiser=np.array([0.0, 0.0, 0.0]),
    )


def brownian(drift: float = 0.0, dimension: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    moves = rng.standard_normal((700, dimension)) * np.linspace(1, 1, dimension)
    return np.vstack([np.zeros(dimension), np.cumsum(moves + drift, axis=0)])


def values(record: Record) -> dict[str, Scalar]:
    return {scalar.name: scalar for scalar in record.scalars}


def curves(record: Record) -> dict[tuple[str, int | None], store.Series]:
    """Return (name, window) -> curve; None is the whole run."""
    return {(series.name, series.index.get("window")): series for series in record.series}


def test_noise_has_exponent_one_and_normal_gradients() -> None:
    record = measure({4: recorded_of(brownian())}, SETTINGS)
    found = values(record)
    assert set(found) == {one.name for one in Diffusion.outputs}
    assert {scalar.replica for scalar in record.scalars} == {4}
    for name in ("exponent_first", "exponent_last", "surrogate_exponent_last"):
        assert found[name].value == pytest.approx(1, abs=0.12)
        assert found[name].status == "ok"
    assert 0 < found["exponent_first"].stderr < 0.2
    assert found["still_exponent_first"].value < found["exponent_first"].value + 0.05
    assert abs(found["velocity_correlation_first"].value) < 0.05
    for name in ("stable_alpha_last", "quantile_alpha_last", "layer_alpha_last"):
        assert found[name].value > 1.75
    assert found["tail_index_ranked_first"].value == pytest.approx(2, abs=0.5)
    assert found["tail_index_first"].value == pytest.approx(2, abs=0.2)
    run = curves(record)["msd_run", None]
    assert run.y[0] == pytest.approx(60, rel=0.05)


def test_tail_index_of_a_prime_number_of_steps() -> None:
    points = brownian()
    path = replace(recorded_of(points), window=np.array([[0, 600]]), gram=one_gram(points[:600]))
    found = values(measure({0: path}, SETTINGS))  # 599 steps have no divisor
    for name in ("tail_index_first", "tail_index_ranked_first"):
        assert found[name].status == "ok"
        assert found[name].value == pytest.approx(2, abs=0.5)


def test_entries_of_a_fit_are_drawn_once() -> None:
    """If all are wanted, the fit is that of all, whatever the seed of the draw."""
    path = {0: recorded_of(brownian())}
    settings = SETTINGS.model_copy(update={"entries": 10**6})
    other = settings.model_copy(update={"seed": 5})
    one, two = (values(measure(path, chosen)) for chosen in (settings, other))
    for name in ("stable_alpha_first", "layer_alpha_last", "standardised_alpha_first"):
        assert one[name].value == pytest.approx(two[name].value, rel=1e-9)


def one_gram(points: np.ndarray) -> np.ndarray:
    """Return the Gram matrix (1, T, T) of one window as it is recorded."""
    moved = points - points[0]
    return np.triu(moved @ moved.T)[None]


def test_drift_is_ballistic_and_can_be_taken_out() -> None:
    found = values(measure({0: recorded_of(brownian(drift=3.0))}, SETTINGS))
    assert found["exponent_first"].value == pytest.approx(2, abs=0.03)
    assert found["still_exponent_first"].value == pytest.approx(1, abs=0.25)
    assert found["surrogate_exponent_first"].value == pytest.approx(2, abs=0.03)
    assert found["path_exponent_first"].value == pytest.approx(2, abs=0.05)


def test_curves_are_named_after_their_window() -> None:
    names = curves(measure({0: recorded_of(brownian())}, SETTINGS))
    for first in (0, 300):
        for name in ("msd", "still_msd", "surrogate_msd", "msl", "msd_contour", "local_exponent"):
            assert (name, first) in names
    for name in ("exponent", "loss", "moving_variance", "distance"):
        assert (name, None) in names


def test_local_exponents_have_errors() -> None:
    made = curves(measure({0: recorded_of(brownian())}, SETTINGS))
    beta = made["local_exponent", 0]
    assert beta.stderr is not None
    assert (beta.stderr > 0).all()
    assert (np.abs(beta.y - 1) < 5 * beta.stderr + 0.02).mean() > 0.9
    for name in ("msl_contour", "msl", "msd_contour", "msd"):
        assert np.isfinite(made[name, 0].stderr).any()
    assert made["contour", 0].stderr is None


def test_fitted_lines_have_the_slope_of_the_exponent_and_run_through_the_curve() -> None:
    record = measure({0: recorded_of(brownian(drift=0.4))}, SETTINGS)
    made, found = curves(record), values(record)
    for name in ("", "still_", "surrogate_"):
        line, curve = made[f"{name}msd_fit", 0], made[f"{name}msd", 0]
        slope = np.diff(np.log(line.y)) / np.diff(np.log(line.x))
        assert slope == pytest.approx(found[f"{name}exponent_first"].value, rel=1e-9)
        inside = (curve.x >= line.x[0]) & (curve.x <= line.x[1])
        along = np.log(line.y[0]) + slope * np.log(curve.x[inside] / line.x[0])
        assert np.mean(np.log(curve.y[inside]) - along) == pytest.approx(0, abs=1e-9)
        low, high = SETTINGS.fit
        assert low <= line.x[0] < line.x[1] <= high


def test_msd_equals_its_definition() -> None:
    points = brownian()
    curve = curves(measure({0: recorded_of(points)}, SETTINGS))["msd", 300]
    part = points[300:700]
    for lag, value in zip(curve.x.astype(int), curve.y, strict=True):
        assert value == pytest.approx(np.square(part[lag:] - part[:-lag]).sum(1).mean(), rel=1e-9)


def test_losses_on_both_sides_of_a_step() -> None:
    path = recorded_of(brownian())
    made = curves(measure({0: path}, SETTINGS))
    gain = made["step_gain", 300]
    assert gain.x.tolist() == list(range(300, 699, 3))
    np.testing.assert_allclose(gain.y, path.after[100:233] - path.loss[300:699:3])
    share = values(measure({0: path}, SETTINGS))["downhill_last"].value
    assert share == np.mean(gain.y < 0)


def test_loss_on_all_images_is_compared_at_its_own_points() -> None:
    """The loss is the square of the first coordinate: differences follow from the points."""
    points = brownian()
    made = curves(measure({0: recorded_of(points)}, SETTINGS))["msl_whole", 300]
    some = points[300:700:4]
    apart = np.linalg.norm(some[:, None] - some, axis=2)[np.triu_indices(100, 1)]
    loss = np.square(some[:, 0])
    squares = np.square(loss[:, None] - loss)[np.triu_indices(100, 1)]
    counts = np.interp(made.x, np.sort(apart), np.arange(len(apart)))
    assert (np.diff(counts) > 0).all()
    assert made.y.min() >= squares.min()
    assert made.y.max() <= squares.max()
    assert made.x[-1] == pytest.approx(apart.max(), rel=0.2)


def test_contour_excursions_and_avalanches_are_written() -> None:
    points = brownian()
    record = measure({0: recorded_of(points)}, SETTINGS)
    made = curves(record)
    lengths = np.sqrt(np.square(np.diff(points[300:700], axis=0)).sum(1))
    wanted = np.array(
        [np.convolve(lengths, np.ones(int(lag)), "valid").mean() for lag in made["contour", 300].x]
    )
    np.testing.assert_allclose(made["contour", 300].y, wanted, rtol=1e-9)
    after = frame(record, "after_avalanche", window=0)
    assert after["step"].tolist() == list(range(51))
    assert after["contour"][0] == 0
    assert {"loss", "change"} <= set(after)
    path = frame(record, "principal_path", window=0)
    centred = points[:400] - points[:400].mean(axis=0)
    spectrum = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(np.square(path["u"]).sum(), spectrum[0] ** 2, rtol=1e-6)
    np.testing.assert_allclose(np.square(path["v"]).sum(), spectrum[1] ** 2, rtol=1e-6)


def test_paper_mode_differs_where_the_paper_does() -> None:
    settings = SETTINGS.model_copy(update={"mode": "paper"})
    path = {0: recorded_of(brownian())}
    ours, theirs = curves(measure(path, SETTINGS)), curves(measure(path, settings))
    np.testing.assert_array_equal(ours["msd", 0].y, theirs["msd", 0].y)
    assert len(theirs["local_exponent", 0].x) == 399 - 20  # all lags of the window
    points = brownian()[300:700]
    faulty = np.square(points - points[:, :1]).sum(1)
    made = theirs["msd_from_start", 300]
    np.testing.assert_allclose(made.y, faulty[made.x.astype(int) - 1], rtol=1e-9, atol=1e-6)
    entering = theirs["contour", 300].y[0] / ours["contour", 300].y[0]
    assert 1.9 < entering < 2.1  # the step that enters a point is counted too
    assert ("msl_contour", 0) in theirs
    assert len(theirs["excursion", 0].x) == 50  # random stretches of 100 steps
    assert len(ours["excursion", 0].x) == 3  # side by side
    assert len(theirs["msl", 0].x) <= 50
    assert len(ours["msd_contour", 0].x) < 40 < len(theirs["msd_contour", 0].x)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
@pytest.mark.parametrize("first", [0, 40])
def test_losses_stand_beside_their_weights(first: int, mode: str) -> None:
    """The run's last point has no loss; in mode `paper` it has that of the step before."""
    points, whole = brownian()[:201], recorded_of(brownian())
    short = {"loss": whole.loss[:200], "step": whole.step[:200], "gradient": whole.gradient[:200]}
    short |= {"window": np.array([[first, 201]]), "gram": one_gram(points[first:])}
    short |= {name: getattr(whole, name)[:201] for name in ("distance", "projection", "sums")}
    path = replace(whole, **short, stride=np.array([0, 0]))
    settings = SETTINGS.model_copy(update={"mode": mode, "fit": [4, 40]})
    made = curves(measure({0: path}, settings))["msl", first]
    if mode == "fixed":
        known = path_of_points(points[first:200])
        wanted = contour.msl_against_distance(known, path.loss[first:200])
        np.testing.assert_allclose(made.y, wanted.y)
        return
    start = max(first, 1)
    known = path_of_points(points[start:])
    pairs = contour.msl_against_distance(known, path.loss[start - 1 :], "paper")
    y = coarse_grain(pairs.x, pairs.y)[1]
    np.testing.assert_allclose(made.y, y[np.isfinite(y)])


def test_noise_norms_are_compared_in_standard_deviations() -> None:
    path = recorded_of(brownian())
    found = values(measure({0: path}, SETTINGS))["noise_ratio_first"]
    assert found.value == tails.fit_power_law(path.noise_norms(0)).z
    assert found.status == "ok"


def test_constant_path_is_undefined() -> None:
    still = recorded_of(np.ones((701, 60)))
    found = values(measure({0: still}, SETTINGS))
    for name in ("exponent_first", "path_exponent_last", "stable_alpha_first", "crossover_first"):
        assert found[name].status == "undefined"
        assert np.isnan(found[name].value)


def test_divergence_spoils_its_window_alone() -> None:
    path = recorded_of(brownian())
    path.gram[1, 350:] = np.nan
    path.gram[1, :, 350:] = np.nan
    found = values(measure({0: path}, SETTINGS))
    assert found["exponent_last"].status == "diverged"
    assert np.isnan(found["exponent_last"].value)
    assert found["exponent_first"].status == "ok"
    loss = path.loss.copy()
    loss[10] = np.nan
    assert values(measure({0: replace(path, loss=loss)}, SETTINGS))["exponent_first"].status == (
        "diverged"
    )


def test_lags_beyond_a_quarter_are_flagged() -> None:
    settings = SETTINGS.model_copy(update={"last_lag": 300, "fit": [50, 300]})
    with pytest.warns(UserWarning, match="lags up to 300 of a window of 400 points"):
        found = values(measure({0: recorded_of(brownian())}, settings))
    assert found["exponent_first"].status == "unconverged"


def test_fits_that_need_longer_windows_are_flagged() -> None:
    points = brownian()
    path = replace(recorded_of(points), window=np.array([[0, 60]]), gram=one_gram(points[:60]))
    with pytest.warns(UserWarning, match="lags up to 100, and those of a window of 60 points end"):
        record = measure({0: path}, SETTINGS)
    assert values(record)["exponent_first"].status == "unconverged"
    series = curves(record)
    assert series["exponent", None].status == "unconverged"
    assert series["msd_long", None].status == "ok"


@pytest.mark.parametrize("mode", ["fixed", "paper"])
@pytest.mark.parametrize("length", [4, 5, 9])
@pytest.mark.filterwarnings("ignore:exponents are wanted")
def test_shortest_windows_and_runs(length: int, mode: str) -> None:
    points = brownian()[:length]
    path = replace(recorded_of(brownian()), window=np.array([[0, length]]), gram=one_gram(points))
    short = {name: getattr(path, name)[: length - 1] for name in ("loss", "step", "gradient")}
    short |= {name: getattr(path, name)[:length] for name in ("distance", "projection", "sums")}
    settings = SETTINGS.model_copy(update={"mode": mode})
    record = measure({0: replace(path, **short, stride=np.array([0, 0]))}, settings)
    assert values(record)["exponent_first"].status == "undefined"
    np.testing.assert_allclose(curves(record)["msd", 0].y[0], np.mean(path.step[: length - 1]))


def test_runs_that_stop_before_the_first_window_is_full() -> None:
    none = {"window": np.empty((0, 2), dtype=np.int64), "gram": np.empty((0, 400, 400))}
    record = measure({3: replace(recorded_of(brownian()), **none)}, SETTINGS)
    assert {scalar.name for scalar in record.scalars} == {one.name for one in Diffusion.outputs}
    assert {scalar.status for scalar in record.scalars} == {"undefined"}
    assert ("msd_run", None) in curves(record)


def test_records_without_a_path_are_refused(tmp_path) -> None:
    record = Record("training", arrays={"seeds": Array(np.array([0]), ("replica",))})
    store.write(tmp_path / "a.h5", record)
    with pytest.raises(UserError, match=r"holds no path of training.*record"):
        recorded.read([str(tmp_path / "a.h5")], [0])


def test_metric_needs_a_recording_recipe() -> None:
    raw = {
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"short": {"epochs": 1}},
        "experiments": {
            "one": {
                "dataset": "digits",
                "model": "mlp",
                "recipe": "short",
                "metrics": ["diffusion"],
            }
        },
    }
    with pytest.raises(UserError, match=r"recipes.short: 'diffusion' needs the path of training"):
        load(raw)
    raw["recipes"]["short"]["record"] = {"length": 3}
    with pytest.raises(UserError, match=r"record.length: local exponents of 'diffusion' need"):
        load(raw)
    raw["recipes"]["short"]["record"] = {"length": 400}
    raw["recipes"]["short"]["epochs"] = 100
    load(raw)
    raw["metrics"] = {"diffusion": {"fit": [100, 10]}}
    with pytest.raises(UserError, match=r"metrics.diffusion.fit"):
        load(raw)


def test_metric_on_checkpoints_alone_is_refused() -> None:
    with pytest.raises(UserError, match="needs the path of training"):
        measuring.measure_networks(SETTINGS, None)


def test_axis_at_its_default_keeps_its_value() -> None:
    cells = load(
        {
            "datasets": {"digits": None},
            "models": {"mlp": None},
            "recipes": {"short": {"epochs": 1}},
            "experiments": {
                "one": {
                    "dataset": "digits",
                    "model": "mlp",
                    "recipe": "short",
                    "load": {"depth": [0, 2]},
                }
            },
        }
    ).cells("one")
    assert [cell.axis("depth") for cell in cells] == [0, 2]
