"""Random numbers of training, and the modules that it takes."""

import hashlib
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.data.augment import Augmentation
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, one_of
from lossatlas.spec.parts import Augment, Recipe, Recording
from lossatlas.training import engine as engine_module
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.seeds import seed_of
from trainings import assert_same, mlp, split, weights


def test_seeds_are_hashes_of_words_that_do_not_run_together() -> None:
    digest = hashlib.sha256(b"order\0003\00017").hexdigest()
    assert seed_of("order", 3, 17) == int(digest[:16], 16) // 2
    assert seed_of("order", 3, 17) != seed_of("order", 31, 7)


def test_batches_cover_the_data_once() -> None:
    keep, some = Recipe(batch_size=16, incomplete_batch="keep"), split().take(slice(0, 50))
    index = torch.cat(list(batches(some, [0, 1], 0, keep)), 1)
    for row in index:
        assert sorted(row.tolist()) == list(range(50))
    assert not torch.equal(index[0], index[1])
    dropped = list(batches(some, [0], 0, Recipe(batch_size=16)))
    assert [len(b[0]) for b in dropped] == [16, 16, 16]
    other = torch.cat(list(batches(some, [0], 1, keep)), 1)
    assert not torch.equal(index[0], other[0])


class Odd(nn.Module):
    """A frozen layer, an unused one, dropout, tied weights, no normalisation."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, 8)
        self.first.requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, num_classes)
        self.again = nn.Linear(8, num_classes)
        self.again.weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(self.first(x.flatten(1)).relu())
        return self.head(hidden) + self.again(hidden)


class Noisy(nn.Module):
    """Draws random numbers without a module of its own for that."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(self.first(x.flatten(1)).relu(), 0.5, self.training)
        return self.last(hidden)


@pytest.mark.parametrize("alone", [True, False])
def test_every_random_number_comes_from_the_seeds(
    monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(engine_module, "is_small", lambda *_: not alone)
    recipe = Recipe(epochs=2, batch_size=13, learning_rate=0.1)
    before = torch.random.get_rng_state()
    first, second = (Engine(Noisy, recipe, [0, 1], split()).train() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same(weights(first), weights(second))
    if alone:  # one by one, they do not depend on each other
        other = Engine(Noisy, recipe, [1], split()).train()
        assert_same(weights(other), {n: w[1:] for n, w in weights(first).items()})


class Same(nn.Module):
    """Starts with the same weights whatever the seed."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.drop, self.last = nn.Dropout(dropout), nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.linspace(-1, 1, 256).view(4, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(x.flatten(1)))


@pytest.mark.parametrize("drawn", ["dropout", "augmentation"])
def test_every_step_of_every_replica_has_draws_of_its_own(
    monkeypatch: pytest.MonkeyPatch, drawn: str
) -> None:
    """On equal weights and images, losses differ by what was drawn alone."""
    monkeypatch.setattr(engine_module, "is_small", lambda *_: False)
    half, crop = split(13), Augmentation(Augment(crop=2), torch.zeros(1))
    twice = [torch.cat([one, one]) for one in (half.images, half.labels)]
    data = Split(*twice, crop if drawn == "augmentation" else None)
    window = Recording(length=2, stride=1, projection=0)
    still = {"learning_rate": 1e-12, "momentum": 0.0, "weight_decay": 0.0, "shuffle": False}
    recipe = Recipe(epochs=2, batch_size=13, record=window, **still)
    build = partial(Same, 0.5 if drawn == "dropout" else 0.0)
    losses = Engine(build, recipe, [3, 4], data).train().path["path_loss"].values
    assert losses.shape == (4, 2)
    assert len(np.unique(losses.round(6))) == 8


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_odd_modules_train(seeds: list[int]) -> None:
    recipe = Recipe(epochs=4, batch_size=13, learning_rate=0.1, weight_decay=0.0)
    first, second = (Engine(lambda: Odd(4), recipe, seeds, split()).train() for _ in range(2))
    assert_same(weights(first), weights(second))
    made = initialise(lambda: Odd(4), 0)
    params = one_of(first.checkpoints["final"][0], 0)
    assert torch.equal(params["first.weight"], made.first.weight)
    assert torch.equal(params["unused.weight"], made.unused.weight)
    assert not torch.equal(params["head.weight"], made.head.weight)
    assert "again.weight" not in params
    assert first.history["train_loss"][-1, 0] < first.history["train_loss"][0, 0]


def test_functional_equals_the_module() -> None:
    module = initialise(lambda: Odd(4), 1).eval()
    functional = Functional(module)
    params = {name: p.detach() for name, p in module.named_parameters()}
    images = split().images
    assert torch.equal(functional(params, {}, images, train=False), module(images))


class Pair(nn.Module):
    """Returns its features too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(x), x


@pytest.mark.parametrize(
    ("build", "says"),
    [(Pair, "returns a tuple"), (nn.Identity, "tensor of shape \\(2, 1, 8, 8\\)")],
)
def test_networks_without_logits_are_refused(build, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Engine(build, Recipe(epochs=3, batch_size=16, learning_rate=0.05), [0, 1], split())
