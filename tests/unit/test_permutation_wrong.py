"""Networks and settings that units cannot be matched of: one line each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossatlas
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.measuring import measure_networks
from lossatlas.metrics.alignment import Alignment
from lossatlas.models.functional import state_of
from lossatlas.spec import config
from notebook_cases import net, rows
from permuted import labelled, networks
from small_config import changed

X, Y = rows()


class Own(nn.Module):
    """Two linear layers and a function of what is between them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(x, torch.relu(self.a(x))))

    def between(self, x: Tensor, features: Tensor) -> Tensor:
        return features


class OfValues(Own):
    def between(self, x: Tensor, features: Tensor) -> Tensor:
        return features if features.mean() > 0 else -features


class Few(Own):
    def between(self, x: Tensor, features: Tensor) -> Tensor:
        if len(x) < 30:
            raise RuntimeError("a batch has 30 or more")
        return features


class InOrder(Own):
    def between(self, x: Tensor, features: Tensor) -> Tensor:
        return features * torch.arange(6)


class Later(Own):
    """In its place only on batches that hold a large number."""

    def between(self, x: Tensor, features: Tensor) -> Tensor:
        return features * torch.arange(6) if float(x.max()) > 50 else features


class Deeper(Own):
    """One more layer on such batches."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return self.c(out) if float(x.max()) > 50 else out


def measured(kind: type[Own], large: bool = False, **settings: Any) -> None:
    split = labelled(X)
    if large:
        inputs = X.clone()
        inputs[-1, 0] = 100  # none of the examples on which symmetries are tried
        split = Split(inputs, split.labels)
    both = kind(0), kind(1)
    found = networks(both[0], [state_of(both[1])], split)
    measure_networks(Alignment(points=3, samples=60, **settings), found)


def asked(seeds: int = 2, **changes: Any) -> None:
    raw = changed("experiments.grid.metrics", ["alignment"])
    raw["experiments"]["grid"]["seeds"] = seeds
    raw["metrics"] = {"alignment": changes}
    config.load(raw)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no hidden units": (
        lambda: lossatlas.align(nn.Linear(4, 3), nn.Linear(4, 3), (X, Y)),
        r"^model Linear: has no units that can be permuted \(leave out the metric 'alignment'",
    ),
    "units with places of their own": (
        lambda: measured(InOrder),
        "model InOrder: has no units that can be permuted",
    ),
    "values of features": (
        lambda: measured(OfValues),
        r"^model OfValues: forward depends on values of features.*'if x.mean\(\) > 0'",
    ),
    "a forward pass that fails": (
        lambda: measured(Few),
        r"^model Few: its forward pass cannot be followed: RuntimeError: a batch has 30 or more",
    ),
    "other symmetries on other examples": (
        lambda: measured(Later, large=True),
        "^model Later: permuting its units changes the train_loss from",
    ),
    "other layers on other examples": (
        lambda: measured(Deeper, large=True, matching="activations"),
        r"^model Deeper: a forward pass has 3 layers, and another 2 \(set 'matching: weights'",
    ),
    "other architectures": (
        lambda: lossatlas.align(net(0), net(1, hidden=7), (X, Y)),
        "^model 1: is another network than model 0",
    ),
    "three models": (
        lambda: lossatlas.align([net(0), net(1)], net(2), (X, Y)),
        r"^align: aligns two models; 3 given \(align\(model_a, model_b, data\)\)",
    ),
    "one model": (lambda: lossatlas.align(net(0), None, (X, Y)), "^model: is a NoneType"),
    "too few examples": (
        lambda: lossatlas.align(net(0), net(1), (X[:10], Y[:10]), method="activations"),
        r"^alignment: matching units by their activations on 10 examples is mostly chance",
    ),
    "too few for REPAIR": (
        lambda: lossatlas.align(plain(0), plain(1), (X[:10], Y[:10]), repair=True),
        r"^alignment: REPAIR on 10 examples is mostly chance",
    ),
    "few asked for": (
        lambda: lossatlas.align(net(0), net(1), (X, Y), samples=8),
        "samples: Input should be greater than or equal to 16",
    ),
    "no such method": (
        lambda: lossatlas.align(net(0), net(1), (X, Y), method="feature"),
        "alignment: matching: Input should be 'weights' or 'activations'",
    ),
    "no such key": (
        lambda: lossatlas.align(net(0), net(1), (X, Y), repairs=True),
        r"has no setting 'repairs' \(did you mean 'repair'\?\)",
    ),
    "one replica": (lambda: asked(seeds=1), "'alignment' compares replicas, and there is one seed"),
    "few in a config": (lambda: asked(samples=4), "samples.*greater than or equal to 16"),
    "no method in a config": (lambda: asked(matching="features"), "'weights' or 'activations'"),
}


def plain(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case: str) -> None:
    call, expected = WRONG[case]
    with pytest.raises(UserError, match=expected) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_is_not_wrong() -> None:
    measured(Own)
    measured(Own, large=True, matching="activations")
    asked(repair=True, matching="activations")


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_numbers_that_are_not_finite(method: str) -> None:
    broken = plain(1)
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")
    found = lossatlas.align(plain(0), broken, (X, Y), method=method, points=3)
    assert found["moved_share"].value < 1
    assert found["loss_barrier_after"].status == "undefined"
    assert found["distance_after"].status == "undefined"


def test_pairs_and_cost() -> None:
    for pairs, expected in (
        ("chain", [(0, 2), (2, 5)]),
        ("all", [(0, 2), (0, 5), (2, 5)]),
        ("first", [(0, 2)]),
    ):
        metric = Alignment(pairs=pairs)
        assert metric.compared([5, 0, 2]) == expected
        assert metric.uses([5, 0, 2]) == sorted({seed for pair in expected for seed in pair})
