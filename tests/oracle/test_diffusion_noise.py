import numpy as np
import pytest
from diffusion_reference import ORACLE, rng
from scipy import stats

from lossatlas.diffusion import stable
from lossatlas.diffusion.stable import fit_by_characteristic, fit_by_quantiles, sample
from lossatlas.diffusion.stable_table import ALPHAS, BETAS, NU_ALPHA, NU_BETA, NU_SCALE, NU_SHIFT
from lossatlas.diffusion.tails import (
    fit_power_law,
    scale_mixture_null,
    tail_index_by_blocks,
    tail_index_by_order,
)

FITS = [fit_by_quantiles, fit_by_characteristic]
NOISE = ORACLE["gradient_statistics"]


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.0), (1.0, 0.5), (1.5, -0.6), (1.8, 0.3)])
@pytest.mark.parametrize("fit", FITS)
def test_fits_recover_the_law(fit, alpha, beta):
    data = sample(alpha, 20000, rng(1), beta=beta, scale=0.02, location=5)
    found = fit(data).law
    assert found.alpha == pytest.approx(alpha, abs=0.05)
    assert found.beta == pytest.approx(beta, abs=0.12)
    assert found.scale == pytest.approx(0.02, rel=0.05)
    assert found.location == pytest.approx(5, abs=0.002)


@pytest.mark.parametrize("fit", FITS)
def test_normal_data(fit):
    data = rng(2).normal(1, 3, 20000)
    found = fit(data, rng(3))
    assert found.law.alpha == pytest.approx(2, abs=0.06)
    assert found.law.scale == pytest.approx(3 / np.sqrt(2), rel=0.04)
    assert found.status == "ok"


@pytest.mark.parametrize("fit", FITS)
def test_bootstrap_errors_have_the_right_size(fit):
    fits = [fit(sample(1.5, 1000, rng(seed)), rng(1000 + seed), 60) for seed in range(25)]
    for name in ("alpha", "scale", "location"):
        spread = np.std([getattr(one.law, name) for one in fits], ddof=1)
        claimed = np.mean([getattr(one.stderr, name) for one in fits])
        assert 0.6 < claimed / spread < 1.7


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("beta", [-0.5, 0.8])
def test_regression_on_an_exact_characteristic_function(alpha, beta):
    t = stable.FREQUENCIES * 1.3  # scale 1.3, location 0.2
    lean = (
        2 / np.pi * np.log(t) if alpha == 1 else np.tan(np.pi * alpha / 2) * (t ** (1 - alpha) - 1)
    )
    phi = np.exp(0.2j * stable.FREQUENCIES - t**alpha * (1 + 1j * beta * lean))
    found = stable._by_regression(phi[:, None], 1.0, 0.0)[0]
    np.testing.assert_allclose(found, [alpha, beta, 1.3, 0.2], rtol=1e-9)


def test_standard_errors_are_those_of_a_sample():
    drawn = np.array([[1.0, 0, 2, 5], [3.0, 1, 2, 9]])
    errors = stable._result(drawn[0], drawn, 100, "quantile").stderr
    assert (errors.alpha, errors.beta) == pytest.approx((np.sqrt(2), np.sqrt(0.5)))
    assert np.isnan(stable._result(drawn[0], drawn[:1], 100, "quantile").stderr.alpha)


def test_characteristic_fit_is_the_sharper_one():
    truth = [sample(1.5, 1000, rng(seed)) for seed in range(25)]
    errors = [np.std([fit(data).law.alpha - 1.5 for data in truth]) for fit in FITS]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("fit", FITS)
def test_fits_move_with_shift_scale_and_reflection(fit):
    data = sample(1.3, 2000, rng(4), beta=0.4)
    plain, moved, mirrored = fit(data).law, fit(10 + 1e-4 * data).law, fit(-data).law
    assert moved.alpha == pytest.approx(plain.alpha, rel=1e-6)
    assert moved.beta == pytest.approx(plain.beta, rel=1e-5)
    assert moved.scale == pytest.approx(1e-4 * plain.scale, rel=1e-6)
    assert moved.location == pytest.approx(10 + 1e-4 * plain.location, rel=1e-9)
    assert mirrored.beta == pytest.approx(-plain.beta, rel=1e-6)
    assert mirrored.location == pytest.approx(-plain.location, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.0), (1.0, 1.0), (1.6, 0.5), (2.0, 0.0)])
def test_sampler_has_the_right_characteristic_function(alpha, beta):
    data = sample(alpha, 40000, rng(5), beta=beta, scale=2.0, location=-1.0)
    for t in (0.2, 0.5, 0.9):
        phi = np.exp(1j * t * data).mean()
        s = 2 * t
        lean = (
            -2 / np.pi * s * np.log(s) if alpha == 1 else np.tan(np.pi * alpha / 2) * (s**alpha - s)
        )
        assert abs(phi - np.exp(-1j * t - s**alpha + 1j * beta * lean)) < 0.02


def test_table_of_quantiles():
    row = {alpha: place for place, alpha in enumerate(ALPHAS)}
    normal, cauchy = stats.norm.ppf([0.95, 0.75]), stats.cauchy.ppf([0.95, 0.75])
    assert NU_ALPHA[row[2.0]] == pytest.approx(normal[0] / normal[1], rel=1e-4)
    assert NU_ALPHA[row[1.0], 0] == pytest.approx(cauchy[0] / cauchy[1], rel=1e-4)
    assert NU_SCALE[row[2.0]] == pytest.approx(2 * np.sqrt(2) * normal[1], rel=1e-4)
    assert NU_SCALE[row[1.0], 0] == pytest.approx(2, rel=1e-4)
    assert not NU_BETA[:, 0].any()
    assert not NU_SHIFT[:, 0].any()
    levy = -stats.levy.ppf([0.05, 0.25, 0.5, 0.75, 0.95][::-1]) * -1
    q95, q75, q50, q25, q05 = levy
    assert NU_ALPHA[row[0.5], -1] == pytest.approx((q95 - q05) / (q75 - q25), rel=1e-3)
    assert NU_SHIFT[row[0.5], -1] == pytest.approx(1 - q50, rel=1e-3)
    data = sample(1.4, 400000, rng(6), beta=0.5)
    q05, q25, q50, q75, q95 = np.quantile(data, [0.05, 0.25, 0.5, 0.75, 0.95])
    column = list(BETAS).index(0.5)
    assert NU_ALPHA[row[1.4], column] == pytest.approx((q95 - q05) / (q75 - q25), rel=0.02)
    assert NU_BETA[row[1.4], column] == pytest.approx((q95 + q05 - 2 * q50) / (q95 - q05), abs=0.01)
    assert NU_SCALE[row[1.4], column] == pytest.approx(q75 - q25, rel=0.02)


@pytest.mark.parametrize("fit", FITS)
def test_samples_that_have_no_fit(fit):
    constant = fit(np.full(100, 3.0), rng())
    assert constant.status == "undefined"
    assert np.isnan(constant.law.alpha)
    ties = np.append(np.zeros(90), np.arange(10.0))
    assert fit(ties).status == "undefined"
    with pytest.raises(ValueError, match="at least 50"):
        fit(np.arange(49.0))
    with pytest.raises(ValueError, match="not finite from index 7"):
        fit(np.where(np.arange(100) == 7, np.nan, 1.0))


def test_tails_beyond_the_table_are_flagged():
    heavy = fit_by_quantiles(sample(0.35, 5000, rng(1)))
    assert (heavy.law.alpha, heavy.status) == (0.5, "unconverged")
    assert fit_by_quantiles(sample(0.6, 5000, rng(1))).status == "ok"
    assert fit_by_characteristic(sample(0.35, 5000, rng(1))).law.alpha == pytest.approx(0.35, 0.1)


def test_sampler_refuses():
    for bad in (
        {"alpha": 0.0},
        {"alpha": 2.1},
        {"alpha": 1.0, "beta": 2},
        {"alpha": 1, "scale": -1},
    ):
        with pytest.raises(ValueError, match="no stable law"):
            sample(bad.pop("alpha"), 5, rng(), **bad)


def test_tail_indices_of_reference():
    rows = np.array(NOISE["X"])
    for key, expected in NOISE["alpha_log_moment"].items():
        assert tail_index_by_blocks(rows, int(key[2:])) == pytest.approx(expected, rel=1e-10)
    for key, expected in NOISE["alpha_order_stat"].items():
        block, rank = (int(part[2:]) for part in key.split(","))
        assert tail_index_by_order(rows, block, rank) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("alpha", [1.2, 1.6, 2.0])
def test_tail_index_of_stable_samples(alpha):
    data = sample(alpha, 40000, rng(7))
    assert tail_index_by_blocks(data, 200) == pytest.approx(alpha, abs=0.12)
    assert tail_index_by_order(data, 20, 1000) == pytest.approx(alpha, abs=0.12)


def test_tail_index_edges():
    rows = np.ones((12, 2))
    rows[3] = 0
    assert np.isnan(tail_index_by_blocks(rows, 3))
    assert np.isnan(tail_index_by_order(np.zeros(12), 3, 1))
    flips = np.where(np.arange(12) % 2, 1.0, -1.1)  # sums of two are smaller than either
    assert np.isnan(tail_index_by_blocks(flips, 2))
    assert np.isnan(tail_index_by_order(flips, 2, 3))
    with pytest.raises(ValueError, match="do not divide 12"):
        tail_index_by_blocks(rows, 5)
    with pytest.raises(ValueError, match="do not divide 12"):
        tail_index_by_blocks(rows, 1)
    with pytest.raises(ValueError, match=r"rank must lie in 1\.\.4"):
        tail_index_by_order(rows, 3, 5)
    with pytest.raises(ValueError, match="not finite from index 2"):
        tail_index_by_blocks(np.where(np.arange(12) == 2, np.nan, 1.0), 3)


def test_power_law_against_exponential():
    power = 2 * rng(8).random(3000) ** (-1 / 1.5)
    found = fit_power_law(power)
    assert found.exponent == pytest.approx(2.5, abs=4 * found.stderr)
    assert found.ratio > 0
    assert found.p < 0.01
    given = fit_power_law(power, smallest=2.0)
    logs = np.log(power / 2)
    excess = power - 2.0
    each = np.log(stats.pareto.pdf(power, given.exponent - 1, scale=2.0))
    each -= np.log(stats.expon.pdf(excess, scale=excess.mean()))
    assert given.ratio == pytest.approx(each.sum())
    assert given.z == pytest.approx(each.mean() / each.std() * np.sqrt(3000))
    assert given.p == pytest.approx(2 * stats.norm.sf(abs(given.z)))
    assert given.exponent == pytest.approx(1 + 3000 / logs.sum())
    assert given.tail == 3000
    ks = stats.kstest(power, lambda x: 1 - (x / 2) ** (1 - given.exponent)).statistic
    assert given.distance == pytest.approx(ks, rel=1e-9)
    decaying = fit_power_law(1 + rng(9).exponential(size=3000), smallest=1.0)
    assert decaying.ratio < 0
    assert decaying.p < 0.01


def test_power_law_finds_where_the_tail_starts():
    body = rng(10).uniform(0.5, 5, 3000)
    tail = 5 * rng(11).random(2000) ** (-1 / 1.8)
    found = fit_power_law(np.append(body, tail))
    assert 4 < found.smallest < 8
    assert found.exponent == pytest.approx(2.8, abs=0.2)


def test_a_tail_has_ten_values_or_more():
    """The last 6 of these lie nearest to a power law, and are too few."""
    body, tail = 1 + np.arange(30) / 1000, 10.0 ** np.arange(1, 6)
    assert fit_power_law(np.append(body, tail)).tail == 10


def test_power_law_edges():
    assert fit_power_law(np.ones(100)).status == "undefined"
    assert fit_power_law(-np.arange(100.0)).status == "undefined"
    assert fit_power_law(np.arange(1.0, 50), smallest=100).status == "undefined"
    with pytest.raises(ValueError, match="not finite"):
        fit_power_law([1.0, np.inf])
    with pytest.raises(ValueError, match="must be positive"):
        fit_power_law(np.arange(1.0, 50), smallest=0)


def test_mixed_scales_look_heavy_tailed_and_the_null_says_so():
    scales = np.exp(1.2 * rng(12).standard_normal(300))
    mixture = scale_mixture_null(scales * rng(13).standard_normal((200, 300)), rng(14))
    assert mixture.alpha < 1.6
    assert mixture.standardised_alpha > 1.9
    assert mixture.p > 0.04
    assert abs(mixture.null_alpha.mean() - mixture.alpha) < 0.15
    heavy = scale_mixture_null(sample(1.2, (200, 300), rng(15)), rng(16))
    # a stable column has a huge standard deviation, and the mixture of those is less heavy
    assert heavy.p < 0.06
    assert heavy.alpha == pytest.approx(1.2, abs=0.1)


def test_means_of_columns_are_no_part_of_the_mixture():
    columns = np.exp(rng(12).standard_normal(40))
    samples = columns * rng(13).standard_normal((100, 40))
    plain, moved = (
        scale_mixture_null(samples + shift, rng(14), surrogates=3)
        for shift in (0.0, 30 * rng(15).standard_normal(40))
    )
    assert moved.alpha == pytest.approx(plain.alpha, rel=1e-6)
    assert moved.standardised_alpha == pytest.approx(plain.standardised_alpha, rel=1e-6)


def test_mixture_edges():
    constant = scale_mixture_null(np.ones((10, 20)), rng())
    assert constant.status == "undefined"
    assert np.isnan(constant.p)
    dead = np.zeros((100, 200))
    dead[:, 0] = rng(17).standard_normal(100)
    nearly = scale_mixture_null(dead, rng(), entries=1000)  # about 5 entries that are not 0
    assert np.isnan(nearly.standardised_alpha)
    assert nearly.status == "undefined"
    with pytest.raises(ValueError, match="not finite from index 4"):
        scale_mixture_null(np.where(np.arange(10)[:, None] == 4, np.nan, np.ones((10, 20))), rng())
