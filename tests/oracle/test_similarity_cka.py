"""The CKA metric: which images, which layers, how many passes, what is undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from similarity_cells import Small, cell, data, modules
from torch import nn

from lossatlas.errors import UserError
from lossatlas.metrics.cka import Cka
from lossatlas.similarity import cka, measure_cka
from lossatlas.similarity.features import features, recording
from lossatlas.training.networks import evaluator

FEW = Cka(samples=24, batch_size=8, layers=["softmax", "output"], layer_images=0)


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in module.modules())


def values(record) -> dict[tuple[str, int, int], float]:
    return {(s.name, s.replica, s.partner): s.value for s in record.scalars}


def test_agrees_with_the_modules_on_the_same_blended_images():
    members, of = modules(3), data()
    networks = cell(members, of, [4, 6, 9])
    settings = Cka(samples=24, batch_size=8, layers=["softmax", "output", "conv"])
    record = measure_cka.measure(networks, settings)
    places, images, blend = measure_cka.blended_images(of.train.images, settings)
    assert record.arrays["images"].values.tolist() == places.tolist()
    assert record.arrays["blend"].values.tolist() == blend.tolist()
    with torch.no_grad():
        logits = [m(images) for m in members]
        conv = [m.conv(images) for m in members]
    found = values(record)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        pair = ([4, 6, 9][i], [4, 6, 9][j])
        soft = [out.softmax(1) for out in logits]
        for layer, x in (("", soft), (".output", logits), (".conv", conv)):
            for unbiased, name in ((False, "cka_biased"), (True, "cka_unbiased")):
                expected = cka(x[i], x[j], unbiased=unbiased)
                assert found[name + layer, *pair] == pytest.approx(expected, abs=1e-6)
    assert len(found) == 3 * 7
    assert {s.status for s in record.scalars} == {"ok"}


@pytest.mark.parametrize(("mode", "same"), [("paper", "cka_biased"), ("fixed", "cka_unbiased")])
def test_mode_picks_the_estimator(mode, same):
    settings = Cka(samples=24, batch_size=8, mode=mode)
    record = measure_cka.measure(cell(modules(2), data()), settings)
    found = values(record)
    assert record.mode == mode
    assert found["cka", 0, 1] == found[same, 0, 1]
    assert found["cka_biased", 0, 1] != found["cka_unbiased", 0, 1]
    assert {one.name for one in Cka.outputs} <= {name for name, *_ in found}


def test_each_network_sees_the_same_blended_images_once(monkeypatch):
    networks, calls = cell(modules(4), data()), []

    def watched(*network):
        forward = evaluator(*network)
        return lambda x: calls.append(x) or forward(x)

    monkeypatch.setattr("lossatlas.similarity.features.evaluator", watched)
    monkeypatch.setattr("lossatlas.similarity.features.chunk_of", lambda _: 10)
    measure_cka.measure(networks, FEW)
    assert [len(x) for x in calls] == 4 * [10, 10, 4]
    _, images, _ = measure_cka.blended_images(networks.data.train.images, FEW)
    for g in range(4):
        assert torch.equal(torch.cat(calls[3 * g : 3 * g + 3]), images)


def test_hooks_are_taken_off_even_when_the_forward_pass_fails():
    networks = cell(modules(2), data())
    module = networks.functional.module
    with recording(module, ["conv", "relu"]):
        assert hooks(module) == 2
    assert hooks(module) == 0
    with pytest.raises(RuntimeError, match="channels"):
        features(networks, 0, torch.zeros(8, 5, 4, 4), ["conv", "output"])
    assert hooks(module) == 0
    with pytest.raises(UserError):
        features(networks, 0, torch.zeros(8, 1, 4, 4), ["conv", "nothing"])
    assert hooks(module) == 0


def test_features_are_copied_before_anything_works_in_place():
    members, of = modules(1), data()
    found = features(cell(members, of), 0, of.train.images, ["norm", "relu"])
    with torch.no_grad():
        norm = members[0].norm(members[0].conv(of.train.images))
    assert found["norm"] == pytest.approx(norm.flatten(1), abs=1e-5)
    assert found["norm"].min() < 0 <= found["relu"].min()
    assert found["norm"].shape == (40, 64)


def test_networks_are_left_alone():
    networks = cell(modules(2), data())
    before = {name: b.clone() for name, b in networks.buffers.items()}
    measure_cka.measure(networks, FEW)
    assert all(torch.equal(before[name], b) for name, b in networks.buffers.items())


def test_blend_is_mixup_with_one_lambda_per_batch():
    images = data(train=30).train.images
    settings = Cka(samples=20, batch_size=8)
    places, blended, blend = measure_cka.blended_images(images, settings)
    assert blended.shape == (20, 1, 4, 4)
    assert len(set(places.tolist())) == 20
    assert len(set(blend)) == 3
    originals = images[torch.as_tensor(places)].split(8)
    for batch, original, share in zip(blended.split(8), originals, blend, strict=True):
        partners = (batch - share * original) / (1 - share)
        gaps = torch.cdist(partners.flatten(1), original.flatten(1))
        assert gaps.min(dim=1).values.max() < 1e-4
        assert sorted(gaps.argmin(dim=1).tolist()) == list(range(len(batch)))  # a permutation


def test_lambda_has_the_moments_of_the_beta_distribution():
    images = torch.zeros(1200, 1, 1, 1)
    _, _, blend = measure_cka.blended_images(images, Cka(samples=1200, batch_size=4))
    # 300 draws of Beta(16, 16): standard deviation sqrt(1 / (4 * 33)); five standard errors
    deviation = (4 * 33) ** -0.5
    assert abs(blend.mean() - 0.5) < 5 * deviation / 300**0.5
    assert blend.std() == pytest.approx(deviation, rel=5 / 600**0.5)


def test_no_blend_and_few_training_images():
    images = data(train=10).train.images
    settings = Cka(samples=640, batch_size=8, mixup_alpha=0)
    places, blended, blend = measure_cka.blended_images(images, settings)
    assert sorted(places.tolist()) == list(range(10))
    assert torch.equal(blended, images[torch.as_tensor(places)])
    assert blend.tolist() == [1.0, 1.0]


def test_images_depend_on_the_seed_alone():
    images = data().train.images
    first, again, other = (
        measure_cka.blended_images(images, Cka(samples=16, batch_size=8, seed=seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first[1], again[1])
    assert first[0].tolist() != other[0].tolist()
    assert first[2].tolist() != other[2].tolist()


def test_collapsed_network_is_undefined_in_its_pairs_only():
    members, of = modules(3), data()
    with torch.no_grad():
        members[1].head.weight.zero_()
    record = measure_cka.measure(cell(members, of), FEW)
    for s in record.scalars:
        touched = 1 in (s.replica, s.partner)
        assert np.isnan(s.value) == touched, s
        assert s.status == ("undefined" if touched else "ok")


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_networks_have_no_pairs(count):
    record = measure_cka.measure(cell(modules(count), data()), FEW)
    assert (record.kind, record.scalars) == ("cka", [])


def test_equal_networks_and_repeated_layers():
    member = modules(1)[0]
    settings = Cka(samples=24, batch_size=8, layers=["output", "output"])
    record = measure_cka.measure(cell([member, member], data()), settings)
    assert [s.name for s in record.scalars] == ["cka_biased", "cka_unbiased", "cka"]
    assert [s.value for s in record.scalars] == pytest.approx([1.0, 1.0, 1.0], abs=1e-12)


def test_messages():
    networks = cell(modules(2), data())
    for layers, text in (
        (["hed"], "no module 'hed' .did you mean 'head'"),
        (["sofmax"], "did you mean 'softmax'"),
        (["unused"], "module 'unused' does not run"),
    ):
        with pytest.raises(UserError, match=text):
            measure_cka.measure(networks, Cka(samples=24, batch_size=8, layers=layers))
    with pytest.raises(UserError, match="at least 4 training images, not 3"):
        measure_cka.measure(cell(modules(2), data(train=3)), FEW)


class Odd(nn.Module):
    """Returns what has no row per image."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return (x, x) if self.kind == "tuple" else x.sum()


class WithOdd(Small):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.odd = Odd(kind)

    def forward(self, x):
        self.odd(x)
        return super().forward(x)


@pytest.mark.parametrize(("kind", "text"), [("tuple", "returns a tuple"), ("sum", r"shape \(\)")])
def test_outputs_without_a_row_per_image(kind, text):
    networks = cell([WithOdd(kind).eval(), WithOdd(kind).eval()], data())
    with pytest.raises(UserError, match=text):
        measure_cka.measure(networks, Cka(samples=24, batch_size=8, layers=["odd"]))
    assert hooks(networks.functional.module) == 0
