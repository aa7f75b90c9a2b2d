"""Functions for notebooks: wrong input is one line that says what was expected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lossatlas
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from notebook_cases import Pairs, net, rows

FAST = {"samples": 20, "iterations": 5, "probes": 4, "density_steps": 5}
X, Y = rows()


class Noisy(Pairs):
    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        return X[place].numpy() + np.random.default_rng().normal(size=4).astype("f4"), 0


class Broken(Pairs):
    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        raise OSError("disk gone")


def other_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3, bias=False))


class Strange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


class OfTheBatch(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


def of_one(_: Tensor) -> None: ...


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    # models
    "a batch": (
        lambda: lossatlas.hessian(OfTheBatch(4, 3), (X, Y)),
        "depends on the other examples of its batch",
    ),
    "no graph": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=lambda o, t: (o.detach().sum(1) - t) ** 2),
        "Hessian: the loss does not depend on the parameters",
    ),
    "a loss that fails": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=of_one),
        r"loss of_one: fails: TypeError.*called as loss\(outputs, targets\)",
    ),
    "no whole number": (
        lambda: lossatlas.hessian(net(0), (X, Y), samples="many"),
        "samples: Input should be a valid integer.*, not 'many'",
    ),
    "a name": (lambda: lossatlas.hessian("a.pt", (X, Y)), "model: is a str .*read_checkpoint"),
    "a class": (
        lambda: lossatlas.hessian(Strange, (X, Y)),
        r"is the class Strange .*Strange\(\.\.\.\)",
    ),
    "a state dict": (lambda: lossatlas.hessian(net(0).state_dict(), (X, Y)), "is a OrderedDict"),
    "one of them": (lambda: lossatlas.similarity([net(0), None], (X, Y)), "model 1: is a NoneType"),
    "one alone": (lambda: lossatlas.similarity(net(0), (X, Y)), "needs at least 2 models; 1 given"),
    "two in a plane": (lambda: lossatlas.plane([net(0), net(1)], (X, Y)), "2 given .*connect"),
    "three ends": (lambda: lossatlas.connect([net(0), net(1)], net(2), (X, Y)), "3 given"),
    "another shape": (
        lambda: lossatlas.connect(net(0), net(1, hidden=5), (X, Y)),
        r"model 1: is another network than model 0, which has '0.weight' \(6, 4\) where this has "
        r"'0.weight' \(5, 4\)",
    ),
    "another network": (
        lambda: lossatlas.similarity([nn.Sequential(nn.Linear(4, 3)), other_bias()], (X, Y)),
        r"has '0.bias' \(3,\) where this has no '0.bias'",
    ),
    "no parameters": (lambda: lossatlas.hessian(nn.ReLU(), (X, Y)), "has no parameters"),
    "lazy layers": (
        lambda: lossatlas.hessian(nn.LazyLinear(3), (X, Y)),
        "lazy layers .*call it once",
    ),
    "meta": (lambda: lossatlas.hessian(nn.Linear(4, 3, device="meta"), (X, Y)), "lies on meta"),
    "two outputs": (lambda: lossatlas.hessian(Strange(), (X, Y)), "forward returns a tuple"),
    "wide inputs": (lambda: lossatlas.hessian(net(0), (X[:, :2], Y)), "forward fails on"),
    "the same point": (
        lambda: lossatlas.grow_simplex([net(0), net(0)], (X, Y)),
        "w0 and w1 are the same point",
    ),
    # data
    "nothing": (lambda: lossatlas.hessian(net(0), None), "data: is a NoneType, which holds no"),
    "inputs alone": (lambda: lossatlas.hessian(net(0), X), r"is a Tensor, .*\(inputs, targets\)"),
    "no data set": (lambda: lossatlas.hessian(net(0), "digitz"), "unknown data 'digitz'"),
    "too few targets": (lambda: lossatlas.hessian(net(0), (X, Y[:9])), "60 inputs and 9 targets"),
    "texts": (
        lambda: lossatlas.hessian(net(0), (X, np.array(["a"]))),
        "targets: is an array of <U1",
    ),
    "one number": (
        lambda: lossatlas.hessian(net(0), (X, torch.tensor(1))),
        "targets: is one number",
    ),
    "no examples": (lambda: lossatlas.hessian(net(0), (X[:0], Y[:0])), "0 inputs and 0 targets"),
    "no test examples": (
        lambda: lossatlas.connect(net(0), net(1), (X, Y), test=(X[:0], Y[:0])),
        "test: 0 inputs and 0 targets",
    ),
    "test examples of another shape": (
        lambda: lossatlas.connect(net(0), net(1), (X, Y), test=(X, X)),
        "test: targets: the loss 'classification' needs targets that are classes",
    ),
    "a split that is none": (
        lambda: lossatlas.hessian(net(0), Split(X, Y[:3])),
        "data: 60 inputs and 3 targets",
    ),
    "an empty loader": (
        lambda: lossatlas.hessian(net(0), DataLoader([])),
        "gives no examples",
    ),
    "an empty Dataset": (
        lambda: lossatlas.hessian(net(0), TensorDataset(X[:0], Y[:0])),
        "holds no examples",
    ),
    "a generator": (
        lambda: lossatlas.hessian(net(0), (pair for pair in [(X, Y)])),
        "is a generator, which can be read only once",
    ),
    "shuffled": (
        lambda: lossatlas.hessian(net(0), DataLoader(Pairs(), batch_size=9, shuffle=True)),
        r"gives other examples each time .*shuffle=False",
    ),
    "random transforms": (lambda: lossatlas.hessian(net(0), Noisy()), "gives other examples each"),
    "a Dataset that fails": (lambda: lossatlas.hessian(net(0), Broken()), "OSError: disk gone"),
    "triples": (
        lambda: lossatlas.hessian(net(0), [(X, Y, Y)]),
        r"gives a tuple of 3, not \(inputs",
    ),
    "no targets by name": (lambda: lossatlas.hessian(net(0), [{"x": X}]), "with x, and no targets"),
    "NaN": (lambda: lossatlas.hessian(net(0), (X / 0, Y)), "inputs that are not finite"),
    "ragged": (
        lambda: lossatlas.hessian(net(0), [(X, Y), (X[:, :2], Y)]),
        "gives batches of different shapes",
    ),
    # targets and losses
    "one-hot": (
        lambda: lossatlas.hessian(net(0), (X, nn.functional.one_hot(Y))),
        r"'classification' needs targets that are one class per example \(N,\), not \(60, 3\)",
    ),
    "numbers for classes": (
        lambda: lossatlas.hessian(net(0), (X, torch.randn(60))),
        r"needs targets that are classes, .* or loss=regression",
    ),
    "classes for numbers": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss="regression"),
        "needs targets that are numbers of floating point",
    ),
    "negative classes": (
        lambda: lossatlas.hessian(net(0), (X, Y - 1)),
        "targets: run from -1 to 1",
    ),
    "too many classes": (
        lambda: lossatlas.hessian(net(0), (X, Y + 5)),
        "3 logits, and there are 8",
    ),
    "another shape of targets": (
        lambda: lossatlas.hessian(net(0), (X, torch.randn(60, 2)), loss=nn.MSELoss()),
        r"shape \(2, 3\).*targets have shape \(2, 2\)",
    ),
    "no such loss": (lambda: lossatlas.hessian(net(0), (X, Y), loss="regress"), "'regression'"),
    "no loss": (lambda: lossatlas.hessian(net(0), (X, Y), loss=3), "loss: is a int, not a loss"),
    "a class of losses": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=nn.NLLLoss),
        "is the class NLLLoss, not a loss",
    ),
    "a sum": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=nn.CrossEntropyLoss(reduction="sum")),
        r"loss CrossEntropyLoss: is .* of 60 examples, and .* as their mean \(let it return the",
    ),
    "weighted": (
        lambda: lossatlas.connect(
            net(0), net(1), (X, Y), loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 9]))
        ),
        "as their mean",
    ),
    "a number": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=lambda o, t: 3.0),
        "returns a float",
    ),
    "too short a loss": (
        lambda: lossatlas.hessian(net(0), (X, Y), loss=lambda o, t: o[0]),
        r"returns \(3,\) for",
    ),
    # settings
    "a generator for a seed": (
        lambda: lossatlas.hessian(net(0), (X, Y), seed=torch.Generator()),
        "hessian: seed: Input should be a valid integer, not a Generator",
    ),
    "a negative seed": (lambda: lossatlas.connect(net(0), net(1), (X, Y), seed=-1), "seed: "),
    "no such setting": (
        lambda: lossatlas.hessian(net(0), (X, Y), sample=3),
        r"hessian: has no setting 'sample' \(did you mean 'samples'\?\)",
    ),
    "fixed settings": (
        lambda: lossatlas.connect(net(0), net(1), (X, Y), pairs="all"),
        "'pairs' is not to be set here",
    ),
    "points": (lambda: lossatlas.plane(net(0), (X, Y), points=1), "points: is 1 .*from 2 up"),
    "extent": (lambda: lossatlas.plane(net(0), (X, Y), extent=0), "extent: is 0"),
    # walks
    "no path": (lambda: lossatlas.msd("path"), "weights: is a str, not points of a path"),
    "an empty list": (lambda: lossatlas.msd([]), "weights: is a list, not points"),
    "a cube": (lambda: lossatlas.msd(np.ones((3, 3, 3))), r"has the shape \(3, 3, 3\)"),
    "few points": (lambda: lossatlas.msd(np.ones((5, 2))), "5 points are too few"),
    "not finite": (lambda: lossatlas.msd(np.full((50, 2), np.nan)), "not finite from index 0"),
    "other networks": (
        lambda: lossatlas.msd([net(0), net(1, hidden=5)]),
        "point 1 has 53 parameters, and point 0 has 63",
    ),
    "a list of texts": (lambda: lossatlas.msd(["a"] * 20), "weights: point 0: is a str"),
    "no lags": (
        lambda: lossatlas.msd(np.arange(100.0).reshape(50, 2), fit=[30, 10]),
        r"fit: \[30.0, 10.0\] is not",
    ),
    "few lags": (lambda: lossatlas.msd(np.arange(100.0), fit=[10, 10.5]), "fit: "),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_says_what_was_expected(what: str) -> None:
    call, says = WRONG[what]
    with pytest.raises(UserError, match=says) as told:
        call()
    assert "\n" not in str(told.value)


def test_wrong_input_is_an_error_of_python_too() -> None:
    with pytest.raises(TypeError):
        lossatlas.hessian("a.pt", (X, Y))
    with pytest.raises(ValueError, match="60 inputs"):
        lossatlas.hessian(net(0), (X, Y[:9]))
    with pytest.raises(TypeError):
        lossatlas.hessian(net(0), (X, Y), sample=3)
    with pytest.raises(ValueError, match="samples"):
        lossatlas.hessian(net(0), (X, Y), samples=0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((X, Y[:5]), "hessian_of: 60 inputs and 5 targets"),
        ((X[:0], Y[:0]), "0 inputs and 0 targets"),
        ((X.numpy(), Y), "the inputs are a ndarray"),
        (([X], Y), "the inputs are a list"),
        ((X, Y.tolist()), "the targets are a list"),
    ],
)
def test_an_operator_takes_tensors_of_one_length(given: tuple, says: str) -> None:
    from lossatlas.curvature import hessian_of

    with pytest.raises(UserError, match=says):
        hessian_of(net(0), *given)


def test_a_path_that_was_not_copied() -> None:
    with pytest.raises(UserError, match=r"all 300 points are equal \(keep copies"):
        lossatlas.msd([torch.ones(4)] * 300)


def test_a_checkpoint_by_its_path(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    read = lossatlas.read_checkpoint(nn.Linear(2, 2), tmp_path / "a.pt")
    assert torch.equal(read.weight, model.weight)
    for wrong in (3, model.state_dict(), [1]):
        with pytest.raises(UserError, match="give the name of a file"):
            lossatlas.read_checkpoint(model, wrong)
