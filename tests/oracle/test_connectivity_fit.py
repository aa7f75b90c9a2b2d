"""Curve training against naive loops through autograd, and its promises."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from connectivity_cases import digits, network, random_split, trained_mlp
from torch import nn
from torch.func import functional_call

from lossatlas.connectivity import (
    CurveFit,
    coefficients,
    evaluate_path,
    fit_curve,
    fit_curves,
    linear_barrier,
)
from lossatlas.connectivity.fit import learning_rate
from lossatlas.data.augment import Augmentation
from lossatlas.data.tensors import Split
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.models.functional import Functional, flatten, stack, state_of, unflatten
from lossatlas.models.layout import is_small
from lossatlas.spec.parts import Augment
from lossatlas.training.seeds import generator
from lossatlas.training.state import Preempted, State

torch.set_num_threads(1)
QUICK = Connectivity(epochs=3, batch_size=16, learning_rate=0.1, bends=2)


def fit_of(modules, split, settings=QUICK, words=None):
    states = [state_of(module) for module in modules]
    pairs = [(states[i], states[i + 1]) for i in range(len(states) - 1)]
    words = words or [("curve", i) for i in range(len(pairs))]
    starts, ends = zip(*pairs, strict=True)
    return CurveFit(Functional(modules[0]), starts, ends, split, settings, words)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 0.1),
        (100, 0.1),
        (101, 0.0987625),
        (120, 0.07525),
        (140, 0.0505),
        (160, 0.02575),
        (180, 0.001),
        (200, 0.001),
    ],
)
def test_learning_rate(epoch, rate):
    assert learning_rate(0.1, epoch, 200) == pytest.approx(rate)


def naive_fit(modules, split, settings, words):
    """Twin parameters, a graph through the combination, torch.optim.SGD."""
    start, end = (dict(module.named_parameters()) for module in modules)
    shares = [(i + 1) / (settings.bends + 1) for i in range(settings.bends)]
    bends = [
        {n: ((1 - s) * start[n] + s * end[n]).detach().requires_grad_() for n in start}
        for s in shares
    ]
    leaves = [p for bend in bends for p in bend.values()]
    optimiser = torch.optim.SGD(leaves, lr=1.0, momentum=settings.momentum)
    modules[0].train()
    for epoch in range(settings.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings.learning_rate, epoch + 1, settings.epochs)
        order = torch.randperm(len(split), generator=generator("order", *words, epoch))
        chunks = order.split(settings.batch_size)
        random = generator("t", *words, epoch)
        times = torch.rand(len(chunks), dtype=torch.float64, generator=random)
        for chunk, t in zip(chunks, times.tolist(), strict=True):
            weights = coefficients(settings.curve, settings.bends, t)
            points = [start, *bends, end]
            params = {n: sum(w * p[n] for w, p in zip(weights, points, strict=True)) for n in start}
            logits = functional_call(modules[0], params, (split.images[chunk],))
            penalty = sum(p.square().sum() for p in params.values())
            loss = F.cross_entropy(logits, split.labels[chunk])
            optimiser.zero_grad()
            (loss + 0.5 * settings.weight_decay * penalty).backward()
            optimiser.step()
    return torch.stack([flatten(bend) for bend in bends]).detach()


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_training_equals_a_graph_through_the_combination(kind):
    modules = [network(seed).double() for seed in (1, 2)]
    split = random_split(41, dtype=torch.float64)
    settings = QUICK.model_copy(update={"curve": kind, "weight_decay": 0.05})
    fit = fit_of(modules, split, settings, [("naive",)])
    expected = naive_fit(modules, split, settings, ("naive",))
    fit.run()
    assert fit.step == 9  # the incomplete batch of 9 images is kept
    torch.testing.assert_close(fit.controls[0, 1:-1], expected, rtol=1e-10, atol=1e-12)


def test_ends_stay_bit_for_bit():
    modules = [network(seed) for seed in (1, 2)]
    before = [flatten(state_of(module)[0]) for module in modules]
    curve = fit_of(modules, random_split(40)).run()[0]
    for place, t in ((0, 0.0), (-1, 1.0)):
        assert curve.controls[place].view(torch.int32).equal(before[place].view(torch.int32))
        assert flatten(curve.at(t)[0]).view(torch.int32).equal(before[place].view(torch.int32))
        assert flatten(state_of(modules[place])[0]).equal(before[place])
    assert not curve.controls[1].equal(torch.lerp(*before, 1 / 3))


@pytest.mark.parametrize("start", ["linear", "random"])
def test_many_curves_equal_one_by_one(start):
    modules = [network(seed) for seed in (1, 2, 3, 4)]
    split, settings = random_split(40), QUICK.model_copy(update={"start": start})
    together = fit_of(modules, split, settings).run()
    for i, curve in enumerate(together):
        alone = fit_of(modules[i : i + 2], split, settings, [("curve", i)]).run()[0]
        torch.testing.assert_close(curve.controls, alone.controls, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0].controls[1], together[1].controls[1], atol=1e-2)


def test_random_start_is_drawn_as_the_authors_do():
    modules = [network(seed) for seed in (1, 2)]
    for module in modules:
        nn.init.ones_(module.norm.bias)
    settings = QUICK.model_copy(update={"mode": "paper"})
    fit = fit_of(modules, random_split(40), settings)
    bends = [unflatten(bend, fit.functional.shapes) for bend in fit.controls[0, 1:-1]]
    named = stack(bends)
    assert (named["norm.bias"] == 0).all()
    assert ((named["norm.weight"] >= 0) & (named["norm.weight"] < 1)).all()
    for layer, fan_in in (("conv", 9), ("head", 3)):
        for part in ("weight", "bias"):
            assert named[f"{layer}.{part}"].abs().max() <= fan_in**-0.5
    assert named["conv.weight"].abs().max() > 0.8 / 3
    assert not fit.controls[0, 1].equal(fit.controls[0, 2])
    line = unflatten(torch.lerp(*fit.controls[0, [0, -1]], 1 / 3), fit.functional.shapes)
    for name, drawn in bends[0].items():
        assert (drawn != line[name]).all(), name  # biases too
    two = fit_of([modules[0], modules[1], modules[0]], random_split(40), settings)
    assert not two.controls[0, 1:-1].eq(two.controls[1, 1:-1])[:, :27].any()


@pytest.mark.parametrize("options", [{}, {"dropout": 0.5}, {"norm": False}])
def test_a_resumed_fit_is_bitwise_equal(options):
    modules, split = [network(seed, **options) for seed in (1, 2, 3)], random_split(40)
    whole = fit_of(modules, split)
    states = []
    whole.run(lambda fit: states.append({k: v.clone() for k, v in fit.state().items()}))
    assert len(states) == 9
    for at in (0, 4, 5, 8):  # inside and at the ends of epochs
        resumed = fit_of(modules, split)
        resumed.load(states[at])
        resumed.run()
        assert resumed.controls.equal(whole.controls)
        assert resumed.optimiser.memory["velocity"].equal(whole.optimiser.memory["velocity"])


def test_dropout_is_active_and_leaves_the_global_generator_alone():
    modules, split = [network(seed, dropout=0.5) for seed in (1, 2)], random_split(40)
    plain = [network(seed) for seed in (1, 2)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dropped = fit_of(modules, split).run()[0]
    assert torch.rand(3).equal(expected)
    assert not dropped.controls.equal(fit_of(plain, split).run()[0].controls)


@pytest.mark.parametrize("drawn", ["dropout", "augmentation"])
def test_every_step_has_draws_of_its_own(drawn):
    """On equal points and images, gradients differ by what was drawn alone."""
    seen = []

    class Watched(CurveFit):
        def _draws(self, epoch):
            first = next(super()._draws(0))
            yield from [first] * self.steps

        def _gradient(self, index):
            seen.append(super()._gradient(index))
            return seen[-1]

    modules = [network(seed, dropout=0.5 * (drawn == "dropout")) for seed in (1, 2)]
    crop = Augmentation(Augment(crop=2), torch.zeros(1))
    split = replace(random_split(40), augmentation=crop if drawn == "augmentation" else None)
    start, end = map(state_of, modules)
    still = QUICK.model_copy(update={"learning_rate": 1e-30})
    Watched(Functional(modules[0]), [start], [end], split, still, [("one",)]).run()
    assert len(seen) == len(torch.cat(seen).unique(dim=0)) == 9


def test_fit_curves_resumes_across_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("lossatlas.connectivity.together.TOGETHER", 2)
    modules, split = [network(seed) for seed in range(4)], random_split(40)
    nets = [state_of(module) for module in modules]
    pairs = [(nets[0], nets[1]), (nets[1], nets[2]), (nets[2], nets[3])]
    words = [("curve", i) for i in range(3)]
    functional = Functional(modules[0])
    whole = fit_curves(functional, pairs, split, QUICK, words)
    for one, (start, end), own in zip(whole, pairs, words, strict=True):
        alone = CurveFit(functional, [start], [end], split, QUICK, [own]).run()[0]
        torch.testing.assert_close(one.controls, alone.controls, rtol=1e-4, atol=1e-5)

    class Leaving(State):
        calls = 0

        def due(self):
            self.calls += 1
            self._warning.given = self.calls >= 13  # in the second group
            return self._warning.given

    path = tmp_path / "state"
    with pytest.raises(Preempted):
        fit_curves(functional, pairs, split, QUICK, words, Leaving(path, "key"))
    steps = []
    original = CurveFit._step
    monkeypatch.setattr(CurveFit, "_step", lambda *args: (steps.append(1), original(*args)))
    resumed = fit_curves(functional, pairs, split, QUICK, words, State(path, "key"))
    assert len(steps) == 18 - 13
    for one, two in zip(whole, resumed, strict=True):
        assert one.controls.equal(two.controls)


def test_what_the_module_does_not_train_stays_on_the_line():
    modules = [network(seed) for seed in (1, 2)]
    for module in modules:
        module.conv.requires_grad_(False)
    split = random_split(40)
    for settings in (QUICK, QUICK.model_copy(update={"start": "random", "bends": 1})):
        curve = fit_of(modules, split, settings).run()[0]
        share = 1 / (settings.bends + 1)
        one, two = (module.conv.weight for module in modules)
        at = curve.controls[1, :27].view(3, 1, 3, 3)
        torch.testing.assert_close(at, torch.lerp(one, two, share), rtol=0, atol=0)
        assert not torch.allclose(
            curve.controls[1], torch.lerp(curve.controls[0], curve.controls[-1], share)
        )


def test_the_order_of_names_does_not_matter():
    functional, split = Functional(network(1)), random_split(40)
    start, end = (state_of(network(seed)) for seed in (1, 2))
    turned = [(dict(sorted(p.items(), reverse=True)), b) for p, b in (start, end)]
    assert list(turned[0][0]) != list(start[0])
    expected = fit_curve(functional, start, end, split, QUICK)
    assert fit_curve(functional, *turned, split, QUICK).controls.equal(expected.controls)


def test_equal_ends():
    module = network(1)
    curve = fit_of([module, module], random_split(40)).run()[0]
    assert curve.finite
    assert curve.distance() == 0
    assert curve.length() > 0


def test_divergence_is_no_crash_and_keeps_to_itself():
    modules = [network(seed) for seed in (1, 2, 3)]
    with torch.no_grad():
        modules[2].conv.weight[0] = math.nan
    good, bad = fit_of(modules, random_split(40)).run()
    assert good.finite
    assert not bad.finite
    alone = fit_of(modules[:2], random_split(40)).run()[0]
    torch.testing.assert_close(good.controls, alone.controls, rtol=1e-4, atol=1e-5)
    wild = fit_of(modules[:2], random_split(40), QUICK.model_copy(update={"learning_rate": 1e30}))
    assert not wild.run()[0].finite
    assert wild.step < 9


def test_a_last_batch_of_one_image():
    split = random_split(33)
    tiny = Split(split.images[:, :, :1, :1].contiguous(), split.labels)
    for norm, steps in ((True, 2), (False, 3)):
        modules = [network(seed, norm=norm) for seed in (1, 2)]
        fit = fit_of(modules, tiny)
        assert fit.run()[0].finite
        assert fit.step == QUICK.epochs * steps


def test_bad_inputs():
    modules, split = [network(seed) for seed in (1, 2)], random_split(40)
    functional, (start, end) = Functional(modules[0]), map(state_of, modules)
    with pytest.raises(ValueError, match="too few"):
        fit_curve(functional, start, end, split.take(slice(0, 1)), QUICK)
    with pytest.raises(ValueError, match="too few"):
        fit_curve(Functional(network(1, norm=False)), *_normless(), split.take(slice(0)), QUICK)
    with pytest.raises(ValueError, match="not those of the module"):
        fit_curve(Functional(nn.Linear(2, 2)), start, end, split, QUICK)
    with pytest.raises(ValueError, match="only one"):
        fit_curve(functional, start, ({}, {}), split, QUICK)
    with pytest.raises(ValueError, match="for each curve"):
        CurveFit(functional, [start], [end], split, QUICK, [])


def _normless():
    return (state_of(network(seed, norm=False)) for seed in (1, 2))


def test_small_networks_are_trained_together():
    small = Functional(network(1))
    assert is_small(small, torch.zeros(2, 3, 32, 32))
    wide = Functional(nn.Linear(1000, 1000))
    assert not is_small(wide, torch.zeros(2, 3, 32, 32))
    assert is_small(wide, torch.zeros(2, 1000))


def test_the_curve_goes_around_the_barrier_of_a_real_problem():
    train, test = digits()
    modules = [trained_mlp(seed, train) for seed in (0, 1)]
    functional, (start, end) = Functional(modules[0]), map(state_of, modules)
    straight = linear_barrier(functional, start, end, train, test, points=11)
    settings = Connectivity(epochs=30, learning_rate=0.05, batch_size=100)
    curve = fit_curve(functional, start, end, train, settings)
    t = np.linspace(0, 1, 11)
    path = evaluate_path(functional, curve, train, test, t)
    errors = path.values("train_error")
    assert straight > 20
    assert errors.max() - max(errors[0], errors[-1]) < straight / 4
    assert path.values("test_loss").max() < 1.5
    assert curve.length() > 1.02 * curve.distance()
