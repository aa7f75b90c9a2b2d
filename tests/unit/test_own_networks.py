"""Networks of a user's own: what a module may do, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossatlas import models
from lossatlas.curvature.operator import hessian_of
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, reestimate_norms, stack, state_of
from lossatlas.spec.parts import Recipe
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.networks import evaluator
from lossatlas.training.trained import Trained, replica

torch.set_num_threads(1)
CLASSES = 3
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x[:, 0])[0][:, -1])


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x.flatten(1))))


class Branches(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.flatten(1))
        return self.head(torch.tanh(y) if y.mean() > 0 else torch.sin(y))


class Averages(Base):
    """BatchNorm whose running statistics are plain means: its momentum depends on a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.first(x.flatten(1)))))


class Replaces(Base):
    """Puts new tensors in the place of its buffers, a counter among them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            self.steps = self.steps + 1
        return super().forward(x - self.mean)


class Overwrites(Base):
    def forward(self, x: Tensor) -> Tensor:
        x *= 2
        return super().forward(x)


class Checkpointed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


class TwoHeads(Base):
    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return (found, found) if self.training else found


class Narrow(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :2]


class Pooled(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(0, keepdim=True)


class Wrong(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :2])


class Hooked(Base):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.weight_norm(self.first)


class Viewed(nn.Module):
    """Flattens its features by `view`, as many do: it refuses images channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.conv(x))).view(x.size(0), -1))


class Reshaped(Viewed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.conv(x))).reshape(x.size(0), -1))


def split(images: int = 32) -> Split:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % CLASSES
    return Split(torch.randn(images, 1, 4, 4, generator=draw) + 1, labels)


def trained(build: type[nn.Module], seeds: list[int]) -> Trained:
    return Engine(build, RECIPE, seeds, split()).train()


@pytest.mark.parametrize("build", [Recurrent, Branches, Averages])
def test_what_vmap_does_not_take_is_called_one_by_one(build: type[nn.Module]) -> None:
    with pytest.raises(RuntimeError):  # else this test tests nothing
        Functional(build())._vectorised(
            *(stack([part, part]) for part in state_of(build())),
            torch.ones(2, 4, 1, 4, 4),
            train=True,
        )
    both = trained(build, [0, 1])
    for index in (0, 1):
        alone = trained(build, [index])
        for one, other in zip(
            replica(both, "final", index), replica(alone, "final", 0), strict=True
        ):
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_trying_vmap_draws_and_changes_nothing() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))
    params, buffers = (stack([part, part]) for part in state_of(module))
    images = torch.randn(2, 8, 1, 4, 4)
    found = []
    functional = Functional(module)
    for _ in range(2):  # the first call tries
        fresh = {name: b.clone() for name, b in buffers.items()}
        torch.manual_seed(0)
        found.append((functional.many(params, fresh, images, train=True), fresh))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(b, found[1][1][name]) for name, b in found[0][1].items())


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_view_of_features_is_as_good_as_a_reshape(seeds: list[int]) -> None:
    one, other = trained(Viewed, seeds), trained(Reshaped, seeds)
    for held, expected in zip(one.checkpoints["final"], other.checkpoints["final"], strict=True):
        for name, tensor in expected.items():
            torch.testing.assert_close(held[name], tensor, rtol=1e-4, atol=1e-5)
    data = split()
    vectors, labels = torch.randn(2, sum(p.numel() for p in Viewed().parameters())), data.labels
    products = []
    for build in (Viewed, Reshaped):
        module = initialise(build, 0)
        operator = hessian_of(module, data.images, labels)
        forward = evaluator(Functional(module), *state_of(module))
        products.append([*map(operator, vectors), forward(data.images)])
    for found, expected in zip(*products, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_buffers_that_are_replaced(seeds: list[int]) -> None:
    params, buffers = replica(trained(Replaces, seeds), "final", 0)
    net, data = initialise(Replaces, 0).train(), split()
    moves = [torch.zeros_like(p) for p in net.parameters()]
    for epoch in range(RECIPE.epochs):
        for index in batches(data, [0], epoch, RECIPE):
            loss = F.cross_entropy(net(data.images[index[0]]), data.labels[index[0]])
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for p, move, gradient in zip(net.parameters(), moves, gradients, strict=True):
                    move.mul_(RECIPE.momentum).add_(gradient + RECIPE.weight_decay * p)
                    p.sub_(RECIPE.learning_rate * move)
    assert int(buffers["steps"]) == int(net.steps) == 8
    for name, expected in net.state_dict().items():
        torch.testing.assert_close({**params, **buffers}[name], expected)


REFUSED = [
    (Overwrites, "forward changes its images in place, and they are used again"),
    (Checkpointed, "runs a part of itself again during the backward pass"),
    (TwoHeads, "forward returns a tuple, not a tensor"),
    (Narrow, "forward returns 2 logits, and there are 3 classes"),
    (Pooled, r"a tensor of shape \(1, 3\) for 2 images, not \(N, classes\)"),
    (Wrong, r"fails on images \(2, 1, 4, 4\) of torch.float32: RuntimeError: .*mat1 .*\(test_own_"),
    (Hooked, "cannot be copied: RuntimeError: Only Tensors created explicitly"),
]


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(("build", "says"), REFUSED)
def test_what_cannot_be_used_is_refused_before_training(build: type[nn.Module], says: str) -> None:
    data = split()
    before = data.images.clone()
    with pytest.raises(UserError, match=says) as caught:
        Engine(build, RECIPE, [0], data)
    assert "\n" not in str(caught.value)
    assert torch.equal(data.images, before)


def product_with_ones(module: nn.Module, data: Split) -> None:
    hessian = hessian_of(module, data.images, data.labels)
    hessian(torch.ones(hessian.size))


def test_curvature_refuses_them_as_well() -> None:
    data = split()
    for build, says in REFUSED[:2]:
        with pytest.raises(UserError, match=says):
            product_with_ones(build(), data)


class Instances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
        self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


def test_statistics_of_instance_norm_are_estimated_anew() -> None:
    module, images = Instances(), split().images
    _, buffers = state_of(module)
    found = reestimate_norms(Functional(module), *state_of(module), images, batch=20)
    features = module.conv(images)
    torch.testing.assert_close(found["norm.running_mean"], features.mean((0, 2, 3)))
    torch.testing.assert_close(found["norm.running_var"], features.var((2, 3)).mean(0))
    assert not torch.equal(found["norm.running_mean"], buffers["norm.running_mean"])


def lazy(num_classes: int) -> nn.Module:
    first = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten())
    return nn.Sequential(first, nn.LazyLinear(num_classes))


def failing(kind: str) -> nn.Module:
    if kind == "assertion":
        return nn.MultiheadAttention(4, 3)
    return nn.Linear(-1, 2)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in the folder of this file."""
    monkeypatch.chdir(Path(__file__).parent)


SHAPE = {"num_classes": 3, "in_channels": 2, "image_size": 5}


def test_lazy_layers_learn_their_shapes(here: None) -> None:
    made = models.build("test_own_networks:lazy", {}, **SHAPE)
    assert made.training
    assert made[1].weight.shape == (3, 36)
    assert not made[0][1].running_mean.any()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("assertion", r"AssertionError: embed_dim must be .* \(test_own_networks.py, line \d+\)"),
        ("negative", "RuntimeError: Trying to create tensor with negative"),
    ],
)
def test_builders_that_fail_are_one_line(here: None, kind: str, says: str) -> None:
    with pytest.raises(UserError, match=f"refuses its arguments: {says}"):
        models.build("test_own_networks:failing", {"kind": kind}, **SHAPE)


class Tied(nn.Module):
    """One weight in two places, and in a module that is used twice; fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second, self.again = nn.Linear(4, 4), self.first
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 1:
            raise ValueError("not these")
        return self.again(self.second(self.norm(self.first(x.flatten(1)))))


def test_calls_are_those_of_torch() -> None:
    """Against torch.func.functional_call, gradients and updated statistics included."""
    torch.manual_seed(0)
    functional, (params, buffers) = Functional(Tied()), state_of(Tied())
    assert "second.weight" not in params
    x = torch.randn(6, 1, 2, 2)
    wanted = {name: b.clone() for name, b in buffers.items()}
    for _ in range(2):
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        theirs = {name: p.clone().requires_grad_() for name, p in params.items()}
        logits = functional(leaves, buffers, x, train=True)
        twin = Tied().train()  # a new one: torch leaves another's weights in what is used twice
        expected = torch.func.functional_call(twin, {**theirs, **wanted}, (x,))
        assert torch.equal(logits, expected)
        mine = torch.autograd.grad(logits.square().sum(), list(leaves.values()))
        other = torch.autograd.grad(expected.square().sum(), list(theirs.values()))
        assert all(map(torch.equal, mine, other))
        assert all(torch.equal(b, wanted[name]) for name, b in buffers.items())
        with pytest.raises(ValueError, match="not these"):  # and leaves nothing behind
            functional(params, buffers, x.flatten(1), train=True)
        assert all(p.is_meta for p in functional.module.parameters())
    for wrong in (params | {"third": x}, {n: p for n, p in params.items() if "norm" not in n}):
        with pytest.raises(KeyError, match=r"third|norm\.bias"):
            functional(wrong, buffers, x, train=True)
