"""Checkpoints as people have them: read, or one line that names what stands in the way."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, state_of
from lossatlas.training.foreign import divide, read_state, unwrapped


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(self.a(x)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def read(net: nn.Module, held: object, folder: Path) -> dict[str, torch.Tensor]:
    file = str(folder / "a.pt")
    torch.save(held, file)
    functional = Functional(net)
    params, buffers = divide(functional, unwrapped(functional, read_state(file), file), file)
    return {**params, **buffers}


def ahead(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimiser(net: nn.Module) -> dict:
    step = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.ones(1, 4)).sum().backward()
    step.step()
    return step.state_dict()


HELD = {
    "mode connectivity": lambda n, s: {
        "epoch": 3,
        "model_state": s,
        "optimizer_state": optimiser(n),
    },
    "another key": lambda n, s: {"epoch": 3, "student": s, "optimizer": optimiser(n)},
    "nested": lambda _, s: {"checkpoint": {"state_dict": s}, "epoch": 1},
    "a criterion": lambda _, s: {
        "state_dict": {"criterion.weight": torch.ones(9), **ahead("model.", s)}
    },
    "a criterion after": lambda _, s: {**ahead("net.", s), "loss.weight": torch.ones(9)},
    "extra state": lambda _, s: {**s, "a._extra_state": None, "_extra_state": {"x": 1}},
    "extra tensors": lambda _, s: {**s, "a._extra_state": torch.ones(3)},
}


@pytest.mark.parametrize("shape", HELD)
def test_what_training_scripts_write(shape: str, net: nn.Module, tmp_path: Path) -> None:
    found = read(net, HELD[shape](net, net.state_dict()), tmp_path)
    assert found.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(found[name], tensor)


REFUSED = {
    "a NumPy number": (lambda s: {"state_dict": s, "best": np.float64(1)}, "numpy"),
    "a Namespace": (
        lambda s: {"state_dict": s, "a": argparse.Namespace(x=1)},
        "argparse.Namespace",
    ),
    "two networks": (lambda s: {"g": s, "d": s}, "holds weights under 'g' and 'd'"),
    "two parts": (
        lambda s: {**ahead("teacher.", s), **ahead("student.", s)},
        "under 'student.' and 'teacher.'",
    ),
    "whole-number keys": (lambda s: dict(enumerate(s.values())), "the key 0, which is no name"),
    "a number inside": (lambda s: {**s, "epoch": 3}, "'epoch' is a int"),
    "no dictionary": (lambda s: list(s.values()), "holds no state dict, but a list"),
    "nothing": (lambda _: {"epoch": 3}, "no state dict under 'epoch'"),
    "int8": (lambda s: {k: (t * 9).to(torch.int8) for k, t in s.items()}, "holds torch.int8"),
    "complex": (lambda s: {k: torch.complex(t, t) for k, t in s.items()}, "torch.complex64"),
    "booleans": (lambda s: {k: t > 0 for k, t in s.items()}, "holds torch.bool"),
    "sparse": (lambda s: {k: t.to_sparse() for k, t in s.items()}, "is sparse"),
    "quantised": (
        lambda s: {k: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8) for k, t in s.items()},
        "is quantised",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", REFUSED)
def test_what_is_refused_names_its_cause(shape: str, net: nn.Module, tmp_path: Path) -> None:
    make, says = REFUSED[shape]
    with pytest.raises(UserError) as told:
        read(net, make(net.state_dict()), tmp_path)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_torchscript_is_called_so(net: nn.Module, tmp_path: Path) -> None:
    scripted = torch.jit.script(net)
    scripted.save(str(tmp_path / "s.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        read_state(str(tmp_path / "s.pt"))
    with pytest.raises(UserError, match="is TorchScript"):
        Functional(scripted)


def test_pruned_weights_are_multiplied_by_their_masks(net: nn.Module, tmp_path: Path) -> None:
    pruned = Net()
    prune.l1_unstructured(pruned.a, "weight", amount=0.5)
    found = read(net, pruned.state_dict(), tmp_path)
    assert torch.equal(found["a.weight"], pruned.a.weight)
    assert (found["a.weight"] == 0).sum() == 6
    with pytest.raises(UserError, match=r"is pruned .*prune\.remove"):
        Functional(pruned)


def test_extra_state_of_the_network_itself_is_not_left_out(tmp_path: Path) -> None:
    class Keeps(Net):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            raise AssertionError

    keeps = Keeps()
    with pytest.raises(UserError, match="keeps '_extra_state'"):
        read(keeps, keeps.state_dict(), tmp_path)


def test_a_counter_held_as_a_parameter_is_a_buffer(net: nn.Module) -> None:
    net.steps = nn.Parameter(torch.arange(4), requires_grad=False)
    functional = Functional(net)
    params, buffers = state_of(net)
    assert "steps" not in functional.shapes
    assert list(buffers) == ["steps"]
    x = torch.ones(2, 4)
    assert torch.equal(functional(params, buffers, x, train=False), net(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_trained_parameters_have_one_real_type(net: nn.Module, dtype: torch.dtype) -> None:
    net.w = nn.Parameter(torch.ones(3, dtype=dtype))
    with pytest.raises(UserError, match=r"trained parameters are .*32"):
        Functional(net)


def test_sparse_gradients_of_embeddings_become_dense() -> None:
    from lossatlas.curvature import hessian_of

    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.EmbeddingBag(7, 3, mode="sum"), nn.Tanh(), nn.Linear(3, 2))
        net = nn.Sequential(nn.Embedding(7, 3, sparse=sparse), nn.Flatten(), nn.Linear(6, 2))
        hessian = hessian_of(net, torch.tensor([[1, 2], [3, 3]]), torch.tensor([0, 1]))
        found.append(hessian(torch.linspace(0, 1, hessian.size)))
        assert net[0].sparse == sparse
    assert torch.equal(*found)
