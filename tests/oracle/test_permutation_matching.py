"""Matching of units: against brute force, against copies whose permutation is known, by hand."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.models.functional import Functional, Tensors, state_of
from lossatlas.permutation.activations import at_site, features, match_activations
from lossatlas.permutation.matching import match_weights
from lossatlas.permutation.repair import Repair
from lossatlas.permutation.trace import Symmetries, find, permuted
from permuted import built, images, moved, moves, stirred

torch.set_num_threads(1)


def mlp(seed: int, *sizes: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def inner(first: Tensors, second: Tensors) -> float:
    return sum(float((p.double() * second[name].double()).sum()) for name, p in first.items())


def symmetries(module: nn.Module, inputs: torch.Tensor) -> Symmetries:
    return find(Functional(module), state_of(module), inputs)


@pytest.mark.parametrize("seed", range(6))
def test_weights_against_brute_force(seed: int) -> None:
    """Hidden layers of 4 and 5 units: all 24 x 120 pairs of permutations."""
    ends = [mlp(10 * seed + k, 3, 4, 5, 2) for k in (0, 1)]
    (a, _), (b, _) = map(state_of, ends)
    groups = symmetries(ends[0], torch.randn(8, 3)).groups
    assert [group.size for group in groups] == [4, 5]
    found = match_weights(a, b, groups, seed=seed)
    value = inner(a, permuted(b, groups, found.permutations))
    assert found.objective == pytest.approx(value, rel=1e-9)
    assert value >= inner(a, b) - 1e-9
    every = [[np.array(p) for p in permutations(range(n))] for n in (4, 5)]
    for group in (0, 1):  # no permutation of one group gains, the other as it is
        for other in every[group]:
            chosen = list(found.permutations)
            chosen[group] = other
            assert inner(a, permuted(b, groups, chosen)) <= value + 1e-9
    best = max(inner(a, permuted(b, groups, pair)) for pair in product(*every))
    many = match_weights(a, b, groups, seed=seed, restarts=40)
    assert many.objective == pytest.approx(best, rel=1e-9)
    again = match_weights(a, b, groups, seed=seed)
    assert [p.tolist() for p in again.permutations] == [p.tolist() for p in found.permutations]


def test_a_layer_that_is_used_on_both_axes() -> None:
    """Units of a recurrent layer: the objective is no sum over units, and never falls."""
    torch.manual_seed(0)

    class Core(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.head = nn.RNN(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.core(x)[0][:, -1])

    first, second = Core().eval(), Core().eval()
    (a, _), (b, _) = map(state_of, (first, second))
    groups = symmetries(first, torch.randn(8, 4, 3)).groups
    every = [np.array(p) for p in permutations(range(5))]
    best = max(inner(a, permuted(b, groups, [one])) for one in every)
    found = match_weights(a, b, groups)
    value = inner(a, permuted(b, groups, found.permutations))
    assert inner(a, b) <= value <= best + 1e-9
    many = match_weights(a, b, groups, restarts=60)
    assert many.objective == pytest.approx(best, rel=1e-9)


CASES = {
    "mlp": {"width": 24},
    "vgg9": {"width": 4},
    "resnet18": {"width": 4},
    "densenet40": {"width": 2},
    "vit": {"width": 4, "depth": 2},
}


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", CASES)
def test_a_permuted_copy_is_found_again(name: str, method: str) -> None:
    module, x = built(name, **CASES[name]), images()
    functional, state = Functional(module), state_of(module)
    found = symmetries(module, x)
    copy = moved(state, found.groups, moves(found.groups))
    if method == "weights":
        matching = match_weights(state[0], copy[0], found.groups)
    else:
        matching = match_activations(functional, state, copy, found, x)
    back = moved(copy, found.groups, matching.permutations)
    looked = features(functional, state, found, x)
    alive = [bool((f.std(0) > 1e-6).all()) for f in looked]
    for k, group in enumerate(found.groups):
        own = [a for a, site in zip(alive, found.sites, strict=True) if site.group == k]
        if method == "activations" and not all(own):
            continue  # units that never fire have no correlations
        drawn = moves(found.groups)[k]
        assert drawn[matching.permutations[k]].tolist() == list(range(group.size))
    if all(alive) or method == "weights":
        for held, now in zip(state, back, strict=True):
            assert all(torch.equal(held[n], now[n]) for n in held)
        assert matching.moved > 0.8 * found.units
    if method == "activations":
        assert matching.objective > 0.5


def test_correlations_by_hand() -> None:
    ends = [mlp(k, 6, 7, 3) for k in (0, 1)]
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    found = symmetries(ends[0], x)
    one, other = (end[0](x).detach().double().numpy() for end in ends)
    table = np.corrcoef(one.T, other.T)[:7, 7:]
    best = max(permutations(range(7)), key=lambda p: table[range(7), list(p)].sum())
    matching = match_activations(Functional(ends[0]), *map(state_of, ends), found, x)
    assert matching.permutations[0].tolist() == list(best)
    assert matching.objective == pytest.approx(table[range(7), list(best)].mean(), rel=1e-6)


def test_a_unit_that_never_varies_correlates_with_none() -> None:
    ends = [mlp(k, 6, 7, 3) for k in (0, 1)]
    with torch.no_grad():
        ends[0][0].weight[2] = 0
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    found = symmetries(ends[0], x)
    matching = match_activations(Functional(ends[0]), *map(state_of, ends), found, x)
    assert sorted(matching.permutations[0].tolist()) == list(range(7))
    assert np.isfinite(matching.objective)


# --- REPAIR ---------------------------------------------------------------------------------------
def interpolated(name: str, t: float) -> tuple[Functional, list, Symmetries, torch.Tensor]:
    modules = [built(name, width=6) if name == "mlp" else built(name, depth=8, norm="none")]
    torch.manual_seed(9)
    ends = [state_of(modules[0])]
    last = {n: p + 1.5 * p.std() * torch.randn_like(p) for n, p in ends[0][0].items()}
    ends.append((last, {}))
    x = images(64)
    found = symmetries(modules[0], x)
    middle = {n: torch.lerp(p, ends[1][0][n], t) for n, p in ends[0][0].items()}, ends[0][1]
    return Functional(modules[0]), [*ends, middle], found, x


@pytest.mark.parametrize("t", [0.5, 0.2])
@pytest.mark.parametrize("name", ["mlp", "resnet_cifar"])
def test_features_have_the_means_and_spreads_of_the_paper(name: str, t: float) -> None:
    """After REPAIR they are the interpolated ones of both ends, in every layer."""
    functional, (first, last, middle), found, x = interpolated(name, t)
    repair = Repair.between(functional, (first, last), found, x)
    corrected = repair.at(middle, t)
    seen = {}
    change = corrected._change

    def look(layer: int, out: torch.Tensor) -> torch.Tensor:
        done = change(layer, out)
        for place, site in enumerate(found.sites):
            if site.layer == layer:
                seen[place] = at_site(done, site)
        return done

    corrected._change = look
    corrected(*middle, x, train=False)
    ends = [features(functional, end, found, x) for end in (first, last)]
    plain = features(functional, middle, found, x)
    apart = 0.0
    for place in range(len(found.sites)):
        for what in (lambda f: f.mean(0), lambda f: f.std(0, correction=0)):
            aim = torch.lerp(what(ends[0][place]), what(ends[1][place]), t)
            torch.testing.assert_close(what(seen[place]), aim, rtol=1e-3, atol=1e-4)
            apart = max(apart, float((what(plain[place]) - aim).abs().max()))
    assert apart > 0.05  # it was not so before


def test_repair_of_equal_ends_changes_nothing() -> None:
    functional, (first, _, _), found, x = interpolated("mlp", 0.5)
    repair = Repair.between(functional, (first, first), found, x)
    new = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    after = repair.at(first, 0.3)(*first, new, train=False)
    torch.testing.assert_close(after, functional(*first, new, train=False), rtol=1e-4, atol=1e-5)


def test_repair_of_one_unit_by_hand() -> None:
    """A unit w x + b between (w, b) = (1, 0) and (-0.5, 2)."""
    module = stirred(nn.Sequential(nn.Linear(1, 2), nn.Identity(), nn.Linear(2, 1)))
    ends = []
    for weight, bias in ((1.0, 0.0), (-0.5, 2.0)):
        params, buffers = state_of(module)
        params["0.weight"], params["0.bias"] = torch.full((2, 1), weight), torch.full((2,), bias)
        ends.append((params, buffers))
    x = torch.linspace(-1, 3, 41)[:, None]
    found = symmetries(module, x)
    t = 0.25
    middle = {n: torch.lerp(p, ends[1][0][n], t) for n, p in ends[0][0].items()}, {}
    repair = Repair.between(Functional(module), (ends[0], ends[1]), found, x)
    got = repair.at(middle, t)(*middle, x, train=False)
    spread, mean = float(x.std(correction=0)), float(x.mean())
    aim_spread = 0.75 * spread + 0.25 * 0.5 * spread
    aim_mean = 0.75 * mean + 0.25 * (2 - 0.5 * mean)
    hidden = (x - mean) / spread * aim_spread + aim_mean  # the middle's w = 0.625 is above 0
    params = middle[0]
    wanted = hidden @ params["2.weight"].sum(1, keepdim=True) + params["2.bias"]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
