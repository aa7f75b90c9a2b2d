"""The edge of stability: each rate with its limit, and gradient descent on a quadratic about it."""

from __future__ import annotations

import math

import pytest
import torch
from figure_cases import SEEDS, of_rates
from torch import Tensor, nn

from lossatlas.data.tensors import Split, TensorData
from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.figures.stability import edge_of_stability
from lossatlas.measuring import measure_networks
from lossatlas.metrics.hessian import Hessian
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec.figures import Figure
from lossatlas.spec.parts import Recipe
from lossatlas.tasks import find
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks

torch.set_num_threads(1)


def test_each_rate_has_its_limit_and_the_largest_load_is_drawn():
    drawn = edge_of_stability(of_rates([0.1, 0.4]), Figure(), "width", "learning_rate")
    limits = drawn.numbers[drawn.numbers["line"] == "2 / learning rate"]
    assert dict(zip(limits["learning_rate"], limits["y"], strict=True)) == {0.1: 20.0, 0.4: 5.0}
    lines = drawn.numbers[drawn.numbers["panel"] == "b"]
    assert len(lines.groupby(["learning_rate", "replica"])) == 2 * SEEDS
    of_first = lines[(lines["replica"] == 0) & (lines["x"] == 50)]
    assert of_first["y"].to_numpy() == pytest.approx(math.tanh(51 / 20))
    assert drawn.figure.get_suptitle().startswith("e: width 8")
    assert len(drawn.figure.axes[0].lines) == 2 * (SEEDS + 1)


def test_of_many_rates_a_few_are_drawn():
    rates = [0.01 * 2**k for k in range(9)]
    drawn = edge_of_stability(of_rates(rates), Figure(), "learning_rate", "width")
    kept = sorted(set(drawn.numbers["learning_rate"]))
    assert (len(kept), kept[0], kept[-1]) == (5, rates[0], rates[-1])


def test_an_experiment_without_rates_is_refused():
    found = of_rates([0.1])
    bare = Tables(found.scalars, found.series.drop(columns="learning_rate"))
    with pytest.raises(UserError, match="edge_of_stability: no axis 'learning_rate'"):
        edge_of_stability(bare, Figure(), "width", "")
    none = Tables(found.scalars, found.series[found.series["rank"] == 2])
    with pytest.raises(UserError, match="no eigenvalues"):
        edge_of_stability(none, Figure(), "width", "learning_rate")


class Line(nn.Module):
    """A linear network: squares of its outputs are a quadratic loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize(("share", "settles"), [(0.98, True), (1.02, False)])
def test_descent_on_a_quadratic_diverges_above_2_over_the_measured_eigenvalue(share, settles):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    split = Split(x, x @ torch.ones(3, 1), task=find("regression"))
    params, buffers = (stack([part]) for part in state_of(Line()))
    data = TensorData("line", split, split, classes=1)
    networks = Networks(Functional(Line()), params, buffers, [0], data)
    record = measure_networks(Hessian(samples=20, density_probes=0, tolerance=1e-6), networks)
    largest = record.scalar("hessian_eigenvalue").value
    exact = torch.linalg.eigvalsh(2 * (x.T @ x).double() / 20)[-1]
    assert largest == pytest.approx(float(exact), rel=1e-5)
    fixed = {"batch_size": 20, "momentum": 0.0, "weight_decay": 0.0}
    recipe = Recipe(epochs=400, learning_rate=share * 2 / largest, **fixed)
    losses = Engine(Line, recipe, [0], split).train().history["train_loss"][:, 0]
    assert bool(losses[-1] < 0.1 * losses[0]) is settles
