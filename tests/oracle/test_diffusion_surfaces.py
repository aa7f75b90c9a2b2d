import numpy as np
import pytest
from diffusion_reference import ORACLE, rng
from scipy import ndimage, stats

from lossatlas.diffusion.roughness import box_counting, radial_spectrum, structure_function
from lossatlas.diffusion.surfaces import (
    check_surface,
    cone,
    diamond_square,
    flat,
    gaussian,
    quadratic,
    shuffled,
)

STATISTICS = ORACLE["diamond_square_statistics"]


def golden_draws(side):
    return (np.arange(1, side**2 - 3) * 0.6180339887498949) % 1 - 0.5


def naive_diamond_square(side, draws, amplitude=3.0, hurst=1.0):
    """One node at a time; midpoints row by row."""
    z, draw, step = np.zeros((side, side)), iter(draws), side - 1
    while step > 1:
        half = step // 2
        for row in range(half, side, step):
            for column in range(half, side, step):
                corners = [z[row + a, column + b] for a in (-half, half) for b in (-half, half)]
                z[row, column] = np.mean(corners) + amplitude * next(draw)
        for row in range(0, side, half):
            for column in range(0, side, half):
                if (row + column) // half % 2:
                    around = [
                        z[row + a, column + b]
                        for a, b in ((-half, 0), (half, 0), (0, -half), (0, half))
                        if 0 <= row + a < side and 0 <= column + b < side
                    ]
                    z[row, column] = np.mean(around) + amplitude * next(draw)
        step, amplitude = half, amplitude * 2**-hurst
    return z


def self_affine(side, hurst, seed):
    """A periodic Gaussian surface with power k^-(2 H + 2), cut to an odd side."""
    wave = np.fft.fftfreq(side - 1, 1 / (side - 1))
    radius = np.hypot(wave, wave[:, None])
    radius[0, 0] = np.inf
    noise = np.fft.fft2(rng(seed).standard_normal((side - 1, side - 1)))
    z = np.fft.ifft2(noise * radius ** -(hurst + 1)).real
    return np.pad(z, ((0, 1), (0, 1)), mode="wrap")


@pytest.mark.parametrize("level", [1, 2, 3])
def test_draw_order_of_the_paper(level):
    case = ORACLE[f"diamond_square_n{level}_r3"]
    side = 2**level + 1
    assert case["draws"] == side**2 - 4
    z = diamond_square(side, golden_draws(side), mode="paper")
    np.testing.assert_allclose(z, case["z"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hurst", [1.0, 0.6])
def test_vectorised_equals_node_by_node(hurst):
    draws = rng(1).random(33**2 - 4) - 0.5
    expected = naive_diamond_square(33, draws, hurst=hurst)
    np.testing.assert_allclose(diamond_square(33, draws, hurst=hurst), expected, atol=1e-12)
    assert np.abs(diamond_square(33, draws, mode="paper") - expected).max() > 0.01


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_structure_function_of_fractal_surfaces(mode):
    functions = [
        structure_function(diamond_square(257, rng(seed), mode=mode)) for seed in range(12)
    ]
    assert functions[0].lag.tolist() == [1, 2, 4, 8, 16, 32, 64]
    mean = np.mean([one.value for one in functions], axis=0)
    expected = list(STATISTICS["n8_30_surfaces"].values())
    np.testing.assert_allclose(mean[:4], expected[:4], rtol=0.05)
    np.testing.assert_allclose(mean[4:], expected[4:], rtol=0.3)
    low, high = STATISTICS["n8_S2_1_range"]
    assert all(0.93 * low < one.value[0] < 1.07 * high for one in functions)


def test_structure_function_by_definition():
    z = rng(2).standard_normal((20, 20))
    found = structure_function(z, [3, 7])
    expected = [
        np.mean(np.concatenate([
            np.square(z[step:] - z[:-step]).ravel(), np.square(z[:, step:] - z[:, :-step]).ravel()
        ]))
        for step in (3, 7)
    ]  # fmt: skip
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    slope = np.log(expected[1] / expected[0]) / np.log(7 / 3)
    np.testing.assert_allclose(found.local, [slope])
    ramp = np.arange(65.0) + np.zeros((65, 1))
    np.testing.assert_allclose(structure_function(ramp).local, 2)


@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_self_affine_surfaces(hurst):
    surfaces = [self_affine(513, hurst, seed) for seed in range(4)]
    local = np.mean([structure_function(z, [4, 16]).local for z in surfaces])
    assert local == pytest.approx(2 * hurst, abs=0.15)
    spectra = [radial_spectrum(z[:-1, :-1], window=False) for z in surfaces]
    power = np.mean([one.power for one in spectra], axis=0)
    rings = slice(4, 100)
    slope = np.polyfit(np.log(spectra[0].frequency[rings]), np.log(power[rings]), 1)[0]
    assert slope == pytest.approx(-(2 * hurst + 2), abs=0.1)
    windowed = np.mean([radial_spectrum(z).power for z in surfaces], axis=0)[:-1]
    assert np.abs(np.log(windowed[10:100] / power[10:100])).mean() < 0.25
    boxes = np.mean([box_counting(z).local[2:5] for z in surfaces])
    assert boxes == pytest.approx(3 - hurst, abs=0.3)
    assert boxes > 2.15 if hurst > 0.5 else boxes > 2.4


@pytest.mark.parametrize("height", [None, 2.5])
def test_box_counts_by_definition(height):
    z = rng(3).random((17, 17))
    found = box_counting(z, height)
    scaled = (z - z.min()) / (height or np.ptp(z))
    for size, count in zip(found.size, found.count, strict=True):
        step, expected = round(size * 16), 0
        for row in range(0, 16, step):
            for column in range(0, 16, step):
                cell = scaled[row : row + step + 1, column : column + step + 1]
                expected += int(cell.max() // size) - int(cell.min() // size) + 1
        assert count == expected
    line = stats.linregress(np.log(found.size), np.log(found.count))
    assert found.dimension == pytest.approx(-line.slope)


def test_smooth_surfaces_have_dimension_two():
    plane = box_counting(flat(129))
    assert plane.dimension == pytest.approx(2)
    assert box_counting(cone(257)).local[0] == pytest.approx(2, abs=0.1)
    assert box_counting(flat(5)).status == "undefined"


def test_spectrum_finds_a_wave():
    grid = np.arange(64) / 64
    found = radial_spectrum(np.cos(2 * np.pi * 5 * grid) + np.zeros((64, 1)), window=False)
    assert found.frequency[found.power.argmax()] == 5
    assert found.power[4] * found.modes[4] == pytest.approx(0.5)
    assert np.delete(found.power, 4).max() < 1e-20


@pytest.mark.parametrize("window", [True, False])
def test_height_above_nothing_has_no_spectrum(window):
    z = rng(6).standard_normal((32, 32))
    plain, lifted = (radial_spectrum(z + height, window=window).power for height in (0, 1000))
    np.testing.assert_allclose(lifted, plain, rtol=1e-6)


def test_shuffled_surface():
    z = diamond_square(65, rng(4))
    found = shuffled(z, rng(5))
    mixed = rng(5).permutation(z.ravel()).reshape(65, 65)
    axis = np.arange(-16, 17)
    kernel = np.exp(-(axis**2) / 128.0)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    smooth = ndimage.convolve(mixed, kernel, mode="nearest")
    np.testing.assert_allclose(np.abs(found) ** (1 / 0.7) * np.sign(found), smooth, atol=1e-12)
    positive = shuffled(z + 10, rng(5))
    np.testing.assert_allclose(shuffled(z + 10, rng(5), mode="paper"), positive)
    with pytest.raises(ValueError, match="no real power"):
        shuffled(z - 10, rng(5), mode="paper")


def test_closed_forms():
    for surface, peak, corner in [
        (cone(), 1, 1 - np.sqrt(0.5)),
        (quadratic(), 1, 0),
        (gaussian(), 10, 10 / np.e),
        (flat(), 0, 0),
    ]:
        assert surface[128, 128] == pytest.approx(peak)
        assert surface[0, -1] == pytest.approx(corner)


@pytest.mark.parametrize("side", [0, 1, 2, 4, 6, 7, 1024])
def test_refused_sides(side):
    with pytest.raises(ValueError, match=r"2\^n \+ 1"):
        diamond_square(side, rng())


def test_refused_draws():
    with pytest.raises(ValueError, match="needs 21 draws, not 20"):
        diamond_square(5, np.zeros(20))


@pytest.mark.parametrize(
    "function",
    [
        check_surface,
        structure_function,
        box_counting,
        radial_spectrum,
        lambda z: shuffled(z, rng()),
    ],
)
def test_refused_surfaces(function):
    with pytest.raises(ValueError, match="square, not 5 x 9"):
        function(np.zeros((5, 9)))
    holed = np.zeros((9, 9))
    holed[4, 2] = np.nan
    with pytest.raises(ValueError, match="surface is not finite from index 4"):
        function(holed)


def test_other_refusals():
    with pytest.raises(ValueError, match="2\\^n \\+ 1 nodes"):
        box_counting(np.zeros((6, 6)))
    with pytest.raises(ValueError, match="height must be positive"):
        box_counting(np.zeros((9, 9)), 0)
    with pytest.raises(ValueError, match="at least 3 nodes"):
        cone(2)
