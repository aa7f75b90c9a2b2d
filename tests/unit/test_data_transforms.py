"""Load on the training data: exact counts, strata, nesting, and the paper's own way."""

# ruff: noqa: NPY002 - the legacy generator is what the paper used

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossatlas.data import transforms
from lossatlas.errors import UserError
from lossatlas.spec.parts import DataPart

LABELS = np.random.default_rng(0).integers(0, 7, 1000)
EVERYTHING = np.arange(1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_prefixes_follow_sainte_lague(labels, seed):
    """Each next place goes to the class with the largest n / (2 k + 1), k places taken."""
    labels = np.array(labels)
    order = transforms.stratified_order(labels, np.random.default_rng(seed).random(len(labels)))
    assert sorted(order) == list(range(len(labels)))
    counts = np.bincount(labels, minlength=6)
    taken = np.zeros(6)
    for image in order:
        quotients = counts / (2 * taken + 1)
        assert quotients[labels[image]] == pytest.approx(quotients.max())
        taken[labels[image]] += 1


def test_order_within_a_class_is_that_of_the_keys():
    labels, keys = np.array([0, 1, 0, 1, 0]), np.array([0.9, 0.1, 0.5, 0.8, 0.2])
    order = transforms.stratified_order(labels, keys)
    assert [i for i in order if labels[i] == 0] == [4, 2, 0]
    assert [i for i in order if labels[i] == 1] == [1, 3]


def test_subsets_have_exact_size_are_stratified_and_nested():
    previous = set()
    for fraction in (0.003, 0.1, 0.25, 0.333, 0.9, 1.0):
        kept = transforms.fixed_subset(LABELS, fraction, seed=3)
        assert len(kept) == len(set(kept)) == round(fraction * 1000)
        assert np.all(np.diff(kept) > 0)
        assert previous <= set(kept)
        shares = np.bincount(LABELS, minlength=7) * fraction
        assert np.all(np.abs(np.bincount(LABELS[kept], minlength=7) - shares) <= 1)
        previous = set(kept)


def test_subset_depends_on_the_seed_alone():
    first = transforms.fixed_subset(LABELS, 0.5, seed=0)
    assert np.array_equal(first, transforms.fixed_subset(LABELS, 0.5, seed=0))
    other = transforms.fixed_subset(LABELS, 0.5, seed=1)
    # two independent halves share half of their images: 250 +- 8
    assert 200 < len(set(first) & set(other)) < 300


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"fraction: 0\.0001 leaves no training image"):
        transforms.fixed_subset(LABELS, 0.0001, seed=0)
    part = DataPart(fraction=0.0001, transforms="paper")
    with pytest.raises(UserError, match="leaves no training image"):
        transforms.paper_load(np.zeros((1000, 1, 1, 1), np.uint8), LABELS, 7, 255, part)


def drawn_anew(share, kept=EVERYTHING, seed=5):
    """Which labels are drawn: with labels out of range, every new label differs from the old."""
    strange = LABELS + 7
    noisy = transforms.fixed_label_noise(strange, kept, share, 7, seed)
    return set(kept[noisy != strange[kept]]), noisy


def test_label_noise_is_exact_stratified_and_nested():
    previous, final = set(), drawn_anew(1.0)[1]
    for share in (0.0, 0.025, 0.1, 0.333, 0.8, 1.0):
        changed, noisy = drawn_anew(share)
        assert len(changed) == round(share * 1000)
        assert previous <= changed
        counts = np.bincount(LABELS[sorted(changed)], minlength=7)
        assert np.all(np.abs(counts - share * np.bincount(LABELS)) <= 1)
        places = sorted(changed)
        assert np.array_equal(noisy[places], final[places])
        previous = changed


def test_label_noise_is_exact_on_a_subset_too():
    kept = transforms.fixed_subset(LABELS, 0.3, seed=5)
    changed, noisy = drawn_anew(0.1, kept)
    assert len(changed) == 30
    full = dict(zip(EVERYTHING, drawn_anew(1.0)[1], strict=True))
    assert all(noisy[i] == full[image] for i, image in enumerate(kept) if image in changed)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_new_labels_are_uniform_over_all_classes(share):
    labels = np.full(20000, 10)
    noisy = transforms.fixed_label_noise(labels, np.arange(20000), share, 10, seed=0)
    counts = np.bincount(noisy, minlength=11)[:10]
    drawn = share * 20000
    assert counts.sum() == drawn
    assert np.all(np.abs(counts - drawn / 10) < 4 * np.sqrt(drawn * 0.1 * 0.9))  # multinomial


def test_effective_corruption_is_that_of_the_paper():
    labels = np.random.default_rng(1).integers(0, 10, 20000)
    for noise, expected in ((0.1, 0.09), (0.5, 0.45)):
        fixed = transforms.fixed_label_noise(labels, np.arange(20000), noise, 10, seed=0)
        part = DataPart(label_noise=noise, transforms="paper")
        images = np.zeros((20000, 1, 1, 1), np.uint8)
        _, paper = transforms.paper_load(images, labels, 10, 255, part)
        assert np.mean(fixed != labels) == pytest.approx(expected, abs=0.012)
        assert np.mean(paper != labels) == pytest.approx(expected, abs=0.012)


def test_labels_given_are_left_alone():
    before = LABELS.copy()
    transforms.fixed_label_noise(LABELS, EVERYTHING, 1.0, 7, seed=0)
    part = DataPart(label_noise=1.0, pixel_noise=0.5, transforms="paper")
    images = np.zeros((1000, 2, 2, 1), np.uint8)
    transforms.paper_load(images, LABELS, 7, 255, part)
    assert np.array_equal(LABELS, before)
    assert not images.any()


def test_pixel_noise_is_gaussian_and_belongs_to_the_image():
    kept = np.arange(2500)
    noise = torch.zeros(2500, 3, 4, 4)
    transforms.add_pixel_noise(noise, kept, 0.2, seed=0)
    values = noise.flatten().double()
    assert values.mean().item() == pytest.approx(0, abs=5 * 0.2 / len(values) ** 0.5)
    assert values.std().item() == pytest.approx(0.2, rel=0.02)
    assert ((values / 0.2) ** 4).mean().item() == pytest.approx(3, abs=0.15)  # Gaussian kurtosis
    some = np.array([0, 7, 999, 1000, 1001, 2499])
    part = torch.ones(6, 3, 4, 4)
    transforms.add_pixel_noise(part, some, 0.4, seed=0)
    assert torch.allclose(part - 1, 2 * noise[some], atol=1e-6)
    assert not torch.equal(noise[:1000], noise[1000:2000])
    other = torch.zeros(6, 3, 4, 4)
    transforms.add_pixel_noise(other, some, 0.4, seed=1)
    assert not torch.allclose(other, part - 1)


def naive_paper(images, labels, classes, part):
    """What the authors' loader does, on NumPy's global generator and whole arrays."""
    if part.label_noise > 0:
        np.random.seed(12345)
        chosen = np.random.rand(len(labels)) <= part.label_noise
        new = np.random.choice(classes, chosen.sum())
        labels = labels.copy()
        labels[chosen] = new
    if part.pixel_noise > 0:
        np.random.seed(12345)
        noise = np.random.uniform(0, 1, size=images.shape)
        images = images + np.uint8(noise * part.pixel_noise * 255)
    kept = int(len(images) * part.fraction)
    return np.clip(images, 0, 255)[:kept], labels[:kept]


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"fraction": 0.2999},
        {"label_noise": 0.1},
        {"label_noise": 0.5, "fraction": 0.3},
        {"pixel_noise": 0.25},
        {"pixel_noise": 1.0, "fraction": 0.55, "label_noise": 0.8},
    ],
)
def test_paper_load_is_that_of_the_paper(load, monkeypatch):
    monkeypatch.setattr(transforms, "CHUNK", 64)
    part = DataPart(transforms="paper", seed=99, **load)
    images = np.random.default_rng(2).integers(0, 256, (1000, 4, 4, 3), dtype=np.uint8)
    found = transforms.paper_load(images, LABELS, 7, 255.0, part)
    expected = naive_paper(images, LABELS, 7, part)
    assert found[0].dtype == np.uint8
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_paper_noise_wraps_round():
    images = np.full((50, 4, 4, 1), 250, dtype=np.uint8)
    part = DataPart(transforms="paper", pixel_noise=0.5)
    noisy, _ = transforms.paper_load(images, LABELS[:50], 7, 255.0, part)
    assert noisy.min() < 5 < 250 <= noisy.max()


@pytest.mark.parametrize(
    ("dtype", "noise"), [(np.uint8, 1.1), (np.float32, 0.5)], ids=["too large", "not bytes"]
)
def test_paper_noise_refuses(dtype, noise):
    part = DataPart(transforms="paper", pixel_noise=noise)
    with pytest.raises(UserError, match=r"pixel_noise: .*needs images of bytes"):
        transforms.paper_load(np.zeros((10, 2, 2, 1), dtype), LABELS[:10], 7, 255.0, part)
