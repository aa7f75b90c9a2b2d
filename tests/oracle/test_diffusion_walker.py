import numpy as np
import pytest
from diffusion_reference import ORACLE, naive_msd, rng

from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.ensembles import ensemble, walker_msd
from lossatlas.diffusion.exponents import fit_exponent
from lossatlas.diffusion.surfaces import cone, diamond_square, flat, quadratic
from lossatlas.diffusion.walker import Field, Rules, _at_wall, _redrawn, walk


def slopes(surfaces, rules, windows, fits, walkers=256, steps=1000):
    """Slopes on lags spaced evenly in the logarithm, as the reference numbers have them."""
    found = ensemble(surfaces, rules, walkers=walkers, steps=steps, rng=rng(1), windows=windows)
    values = []
    for place, (low, high) in fits:
        lags = log_lags(low, high)
        values.append(np.polyfit(np.log(lags), np.log(found.msd[place].y[lags - 1]), 1)[0])
    return found, values


def test_noise_free_walk_of_reference():
    expected = ORACLE["cone_walker_noise_free"]["trajectory"]
    rules = Rules(noise=0, start=(0.8005, -0.6005), mode="paper")
    found = walk(cone(), rules, walkers=1, steps=7, rng=rng(), keep_gradients=True)
    path = np.array([[row["x"], row["y"]] for row in expected])
    np.testing.assert_allclose(found.positions[:, 0], path, rtol=1e-10)
    field = Field(cone(), "paper")
    gradients = np.array([[row["grad_x"], row["grad_y"]] for row in expected])
    np.testing.assert_allclose(field(path), gradients, rtol=1e-9)
    np.testing.assert_allclose(found.gradients[:, 0], gradients[:-1, [1, 1]], rtol=1e-9)


def test_fixed_field_is_exact_for_a_quadratic():
    field = Field(quadratic(65))
    points = rng(2).uniform(-0.9, 0.9, (100, 2))
    np.testing.assert_allclose(field(points), points, atol=1e-12)


def test_axes():
    slope_in_x = np.linspace(0, 1, 33) + np.zeros((33, 1))
    points = rng(3).uniform(-1, 1, (20, 2))
    for mode in ("fixed", "paper"):
        np.testing.assert_allclose(Field(slope_in_x, mode)(points), [[-0.5, 0]] * 20, atol=1e-9)
        np.testing.assert_allclose(Field(slope_in_x.T, mode)(points), [[0, -0.5]] * 20, atol=1e-9)


def test_paper_reads_the_next_node_even_on_a_node():
    field = Field(diamond_square(65, rng(4)), "paper")
    assert field.nodes[1500] == 0.5
    expected = field.table[1501 * 2001 + 1501]
    np.testing.assert_array_equal(field(np.array([[0.5, 0.5], [0.5003, 0.5009]])), [expected] * 2)
    assert (field.table[1500 * 2001 + 1500] != expected).any()


def test_field_at_the_border():
    field = Field(diamond_square(17, rng(4)))
    corners = np.array([[-1, -1], [1, 1], [-1, 1.0]])
    assert np.isfinite(field(corners)).all()
    np.testing.assert_allclose(field(corners)[1], field.table[-1])


def test_noise_alone_diffuses():
    wide = Rules(noise=1e-4)
    found = walk(flat(), wide, walkers=500, steps=200, rng=rng(5))
    curve = walker_msd(found.positions, rng=rng(6))
    np.testing.assert_allclose(curve.y[:50], 2e-8 * np.arange(1, 51), rtol=0.1)
    assert fit_exponent(curve, 1, 10).value == pytest.approx(1, abs=0.02)
    assert not found.stuck.any()


def test_walker_msd_by_definition():
    paths = np.cumsum(rng(7).standard_normal((30, 6, 2)), axis=0)
    expected = np.mean([naive_msd(paths[:, one]) for one in range(6)], axis=0)
    curve = walker_msd(paths, rng=rng(8), groups=np.array([0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(curve.y, expected, rtol=1e-9)
    assert curve.count.tolist() == [6 * pairs for pairs in range(29, 0, -1)]
    time = np.arange(30)[:, None, None] / 29
    still = paths - time * (paths[-1] - paths[0])
    expected = np.mean([naive_msd(still[:, one]) for one in range(6)], axis=0)
    found = walker_msd(paths, without_drift=True).y
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_walls():
    outward = np.linspace(0, 40, 33) + np.zeros((33, 1))
    for wall, low in [("reflect", 0.3), ("clip", 1 - 1e-12), ("redraw", 0.7)]:
        rules = Rules(eta=0.02, noise=0, wall=wall, start=(0.7, 0.0))
        found = walk(outward, rules, walkers=2, steps=30, rng=rng())
        x = found.positions[1:, :, 0]
        assert low <= x.min()
        assert x.max() <= 1
        assert (found.stuck.all(), found.discarded.all()) == ((wall == "redraw"),) * 2
        assert found.wall_share.min() > 0.3


def test_skipped_steps_are_recorded_at_the_origin_in_paper_mode():
    outward = np.linspace(0, 40, 33) + np.zeros((33, 1))
    paper = Rules(noise=0, start=(0.95, 0.5), mode="paper")
    found = walk(outward, paper, walkers=1, steps=4, rng=rng())
    np.testing.assert_array_equal(found.positions[1:, 0], 0)
    rules = Rules(noise=0, start=(0.95, 0.5), wall="redraw")
    fixed = walk(outward, rules, walkers=1, steps=4, rng=rng())
    np.testing.assert_array_equal(fixed.positions[:, 0], [[0.95, 0.5]] * 5)
    assert found.discarded.all()


def test_redraw_law_equals_redrawing():
    drifted = np.array([[1.01, -0.3]])
    noise, tries = 0.02, 4000
    inside = drifted + noise * rng(9).standard_normal((200000, 2))
    inside = inside[(np.abs(inside) <= 1).all(axis=1)]
    found, failed = _redrawn(np.repeat(drifted, tries, axis=0), noise, rng(10))
    assert not failed.any()
    for axis in (0, 1):
        quantiles = [0.1, 0.5, 0.9]
        np.testing.assert_allclose(
            np.quantile(found[:, axis], quantiles),
            np.quantile(inside[:, axis], quantiles),
            atol=2e-3,
        )
    mirrored, _ = _redrawn(np.repeat(-drifted, tries, axis=0), noise, rng(10))
    assert np.quantile(mirrored[:, 0], 0.5) == pytest.approx(
        -np.quantile(found[:, 0], 0.5), abs=1e-3
    )


def test_chance_of_failing_all_redraws():
    from scipy.stats import norm

    drifted = np.repeat([[1 + 0.01 * 3.0, 0.0]], 20000, axis=0)
    _, failed = _redrawn(drifted, 0.01, rng(11))
    assert failed.mean() == pytest.approx((1 - norm.sf(3.0)) ** 501, abs=0.015)
    far, failed = _redrawn(np.array([[9.0, 0.0]]), 0.01, rng(12))
    assert failed.all()
    assert np.isfinite(far).all()


def span(text):
    low, high = text.split("-")
    return int(low), int(high)


@pytest.mark.parametrize(
    ("name", "surface"), [("cone_shipped", cone), ("quadratic", quadratic), ("flat", flat)]
)
def test_controls_of_the_paper(name, surface):
    case = ORACLE["toy_walker"][name]
    windows = [key for key in case if key.startswith("window_")]
    fits = [(place, fit) for place, key in enumerate(windows) for fit in case[key]]
    found, values = slopes(
        [surface()],
        Rules(mode="paper"),
        [tuple(map(int, key.split("_")[1:])) for key in windows],
        [(place, span(fit)) for place, fit in fits],
    )
    assert found.stuck == case.get("stuck_frac", found.stuck)
    expected = [case[windows[place]][fit] for place, fit in fits]
    np.testing.assert_allclose(values, expected, atol=0.08)
    if "M1" in case:
        one = walker_msd(walk(surface(), Rules(mode="paper"), walkers=64, steps=999, rng=rng())
                         .positions).y[0]  # fmt: skip
        assert one == pytest.approx(case["M1"], rel=0.1)


def test_fractal_walkers_get_stuck_and_smaller_steps_do_not():
    surfaces = [diamond_square(257, rng(seed)) for seed in range(6)]
    windows = ((0, 50), (501, 1000))
    rules = Rules(wall="redraw")
    found, steep = slopes(surfaces, rules, windows, [(0, (1, 10)), (1, (1, 10))], 60)
    assert 0.3 < found.stuck < 0.85
    assert 0.6 < steep[0] < 1.2
    assert steep[1] < 0.7
    assert found.walkers == 360
    assert np.isfinite(found.msd[0].stderr[:10]).all()
    small = Rules(eta=0.001, noise=0.0005, wall="redraw")
    gentle, slope = slopes(surfaces, small, ((0, 50),), [(0, (3, 20))], 60, 100)
    assert gentle.stuck < 0.2
    assert slope[0] > 1.4


def test_paper_ensembles_drop_walkers_whose_last_step_failed():
    surfaces = [diamond_square(65, rng(seed)) for seed in range(2)]
    rules = Rules(mode="paper")
    found = ensemble(surfaces, rules, walkers=20, steps=60, rng=rng(1), windows=[(0, 60)])
    same = walk(np.stack(surfaces), rules, walkers=40, steps=60, rng=rng(1))
    lost = same.discarded
    assert 0 < lost.sum() < 40
    assert found.discarded == pytest.approx(lost.mean())
    np.testing.assert_allclose(found.msd[0].y, walker_msd(same.positions[:, ~lost]).y)
    outward = np.linspace(0, 40, 33) + np.zeros((33, 1))
    still = Rules(noise=0, start=(0.95, 0.5), mode="paper")
    nobody = ensemble([outward], still, walkers=3, steps=20, rng=rng(), windows=[(0, 20)])
    assert nobody.discarded == 1
    assert np.isnan(nobody.msd[0].y).all()


def test_steps_are_mirrored_at_the_wall() -> None:
    there = np.array([[1.3, 0.2], [-1.2, 1.5], [3.5, -0.4], [-2.9, -5.0]])
    found, skipped = _at_wall(there, there, 0.1, "reflect", rng())
    np.testing.assert_allclose(found, [[0.7, 0.2], [-0.8, 0.5], [-0.5, -0.4], [0.9, -1.0]])
    assert not skipped.any()


def test_share_of_steps_at_the_wall_and_gradients_met() -> None:
    """Down a ramp of slope -1/2 in x: every step from the second on would leave the box."""
    ramp = np.linspace(0, 1, 33) + np.zeros((33, 1))
    rules = Rules(eta=0.2, noise=0, wall="clip", start=(0.85, 0.3))
    found = walk(ramp, rules, walkers=2, steps=10, rng=rng(), keep_gradients=True)
    np.testing.assert_allclose(found.wall_share, 0.9)
    np.testing.assert_allclose(found.gradients, np.broadcast_to([-0.5, 0], (10, 2, 2)), atol=1e-9)
    both = ensemble([ramp, flat(33)], rules, walkers=2, steps=10, rng=rng(), windows=[(0, 10)])
    assert both.wall_share == pytest.approx(0.45)
    assert both.stuck == 0


def test_errors_are_those_of_surfaces_from_five_on() -> None:
    surfaces = [diamond_square(33, rng(seed)) for seed in range(5)]
    for count in (4, 5):
        found = ensemble(
            surfaces[:count], Rules(), walkers=6, steps=40, rng=rng(1), windows=[(0, 40)]
        )
        draws = rng(1)
        some = np.stack(surfaces[:count])
        same = walk(some, Rules(), walkers=6 * count, steps=40, rng=draws)
        groups = np.repeat(np.arange(5), 6) if count == 5 else None
        wanted = walker_msd(same.positions, groups=groups, rng=draws)
        np.testing.assert_allclose(found.msd[0].stderr, wanted.stderr)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_walkers_on_several_surfaces_are_those_on_each(mode) -> None:
    surfaces = [diamond_square(33, rng(seed)) for seed in range(3)]
    rules = Rules(noise=0, start=(0.1, -0.3), mode=mode)
    found = walk(np.stack(surfaces), rules, walkers=6, steps=15, rng=rng(), keep_gradients=True)
    for place, surface in enumerate(surfaces):
        alone = walk(surface, rules, walkers=2, steps=15, rng=rng(), keep_gradients=True)
        mine = slice(2 * place, 2 * place + 2)
        np.testing.assert_array_equal(found.positions[:, mine], alone.positions)
        np.testing.assert_array_equal(found.gradients[:, mine], alone.gradients)
        assert len(np.unique(alone.positions[:, 0], axis=0)) > 5
    with pytest.raises(ValueError, match="7 walkers cannot be divided among 3 surfaces"):
        walk(np.stack(surfaces), rules, walkers=7, steps=2, rng=rng())


def test_same_seed_same_walk():
    surface = diamond_square(33, rng(1))
    first = walk(surface, Rules(), walkers=5, steps=20, rng=rng(2))
    again = walk(Field(surface), Rules(), walkers=5, steps=20, rng=rng(2))
    np.testing.assert_array_equal(first.positions, again.positions)
    corner = walk(surface, Rules(start="corner"), walkers=5, steps=1, rng=rng(2))
    np.testing.assert_array_equal(corner.positions[0], -1)


def test_refused():
    holed = np.zeros((9, 9))
    holed[3] = np.nan
    with pytest.raises(ValueError, match="not finite from index 3"):
        walk(holed, Rules(), walkers=1, steps=1, rng=rng())
    with pytest.raises(ValueError, match="square"):
        walk(np.zeros((9, 5)), Rules(), walkers=1, steps=1, rng=rng())
    with pytest.raises(ValueError, match="at least 1"):
        walk(flat(), Rules(), walkers=0, steps=1, rng=rng())
    with pytest.raises(ValueError, match="inside"):
        walk(flat(), Rules(start=(0.0, 1.5)), walkers=1, steps=1, rng=rng())
    with pytest.raises(ValueError, match="mode fixed and the rules have mode paper"):
        walk(Field(flat()), Rules(mode="paper"), walkers=1, steps=1, rng=rng())
    with pytest.raises(ValueError, match="noise -1"):
        Rules(noise=-1)
    with pytest.raises(ValueError, match=r"window 0\.\.30"):
        ensemble([flat()], Rules(), walkers=1, steps=20, rng=rng(), windows=[(0, 30)])
    with pytest.raises(ValueError, match="at least one surface"):
        ensemble([], Rules(), walkers=1, steps=20, rng=rng())
