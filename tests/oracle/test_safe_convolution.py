"""Convolutions that torch computes wrongly on CPUs are computed otherwise, with the same result.

Whatever could crash runs in processes of its own (`tests/scan`); what is compared in this process
is float64, which does not go through oneDNN.
"""

import copy
import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.safe_convolution import avoid_faults
from lossatlas.paths import PROJECT
from lossatlas.training.networks import evaluator
from scan.children import each

torch.set_num_threads(1)


class Calls(TorchFunctionMode):
    """Counts calls of convolutions that oneDNN may compute wrongly."""

    faulty = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "conv" in getattr(func, "__name__", "") and args[1].dim() > 2:
            bound = dict(zip(("x", "w", "b", "stride", "padding", "after"), args, strict=False))
            bound |= kwargs or {}
            strides = torch.as_tensor(bound.get("stride", 1))
            whole = "transpose" not in func.__name__ or torch.as_tensor(bound.get("after", 0)).any()
            padded = torch.as_tensor(bound.get("padding", 0)).any()
            one = set(args[1].shape[2:]) == {1}
            self.faulty += bool(one and (strides > 1).any() and whole and not padded)
        return func(*args, **(kwargs or {}))


class OwnWeight(nn.Module):
    """Calls the function itself."""

    def __init__(self, call: Callable[..., Tensor], *shape: int, **how: Any) -> None:
        super().__init__()
        self.weight, self.call, self.how = nn.Parameter(torch.randn(shape)), call, how

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.weight, **self.how)


class Standardised(nn.Conv2d):
    """Changes its weights first."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        w = self.weight - self.weight.mean(1, keepdim=True)
        return F.conv2d(input, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Inside(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        return super()._conv_forward(input, weight * 2, bias)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(4, 6, 1, 2),
    "no bias": lambda: nn.Conv2d(4, 6, 1, 2, bias=False),
    "one direction": lambda: nn.Conv2d(4, 6, 1, (1, 2)),
    "padded": lambda: nn.Conv2d(4, 6, 1, 2, padding=1),
    "valid": lambda: nn.Conv2d(4, 6, 1, 2, padding="valid"),
    "circular": lambda: nn.Conv2d(4, 6, 1, 2, padding=(1, 2), padding_mode="circular"),
    "dilated": lambda: nn.Conv2d(4, 6, 1, 3, dilation=2),
    "groups": lambda: nn.Conv2d(4, 8, 1, 2, groups=2),
    "kernel 3": lambda: nn.Conv2d(4, 6, 3, 2, 1),
    "standardised": lambda: Standardised(4, 6, 1, 2),
    "inside": lambda: Inside(4, 6, 1, 2),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 6, 1, 2)),
    "function": lambda: OwnWeight(F.conv2d, 6, 4, 1, 1, stride=2),
    "function, (2, 2)": lambda: OwnWeight(F.conv2d, 6, 4, 1, 1, stride=[2, 2], padding=(0, 0)),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 1, 2, output_padding=1),
    "transposed, one": lambda: nn.ConvTranspose2d(4, 6, 1, (3, 2), output_padding=(2, 0)),
    "transposed kernel 3": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
}


def copies(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    network = make().double().eval()
    safe = copy.deepcopy(network)
    avoid_faults(safe)
    return network, copy.deepcopy(safe)


def derived(network: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    leaves = [x, *network.parameters()]
    result = network(x)
    first = torch.autograd.grad((result**3).sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves)
    return [result, *first, *second]


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_by_another_way(name: str) -> None:
    network, safe = copies(LAYERS[name])
    x = torch.randn(3, 4, 6, 9, dtype=torch.float64)
    with Calls() as calls:
        found = derived(safe, x)
    assert calls.faulty == 0
    for one, other in zip(found, derived(network, x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["plain", "function", "standardised", "groups", "transposed"])
def test_many_networks_and_images_without_a_batch(name: str) -> None:
    network, safe = copies(LAYERS[name])
    x = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(safe(x[0, 0]), network(x[0, 0]))
    params = stack([state_of(LAYERS[name]().double())[0] for _ in range(2)])
    functional = Functional(network)
    expected = []
    for index in range(2):
        network.load_state_dict({n: p[index] for n, p in params.items()})
        expected.append(network(x[index]))
    for train in (True, False):
        with Calls() as calls:
            found = functional.many(params, {}, x, train=train)
        assert calls.faulty == 0
        torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("call", [F.conv1d, F.conv_transpose1d])
def test_rows(call: Callable[..., Tensor]) -> None:
    how = {"output_padding": 1} if call is F.conv_transpose1d else {}
    network, safe = copies(lambda: OwnWeight(call, 4, 4, 1, stride=2, **how))
    x = torch.randn(2, 4, 400, dtype=torch.float64)
    layer, other = copies(lambda: nn.Conv1d(4, 2, 1, 2))
    with Calls() as calls:
        found = safe(x), other(x)
    assert calls.faulty == 0
    torch.testing.assert_close(found, (network(x), layer(x)))


def test_ordinary_networks_run_under_no_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1, 2))
    avoid_faults(network)
    assert "forward" not in vars(network)
    assert ["forward" in vars(part) for part in network] == [False, False, False, True]


@pytest.mark.parametrize("name", ["plain", "function", "standardised"])
def test_traced_and_with_hooks(name: str) -> None:
    network = nn.Sequential(LAYERS[name](), nn.BatchNorm2d(6), nn.ReLU()).double().eval()
    functional, state = Functional(network), state_of(network)
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    expected = network(x).detach()
    torch.testing.assert_close(evaluator(functional, *state)(x), expected)
    fx.Tracer().trace(functional.module)
    seen = []
    network[0].register_forward_hook(lambda part, given, out: seen.append(out.shape))
    hooked = Functional(network)
    torch.testing.assert_close(hooked(*state, x, train=False), expected)
    assert seen == [(5, 6, 4, 4)]


def dies(how: str) -> object:
    if how == "crash":
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(60)
    if how == "raise":
        raise ValueError(how)
    return {"answer": 1}


def test_children_that_fail() -> None:
    found = dict(each(dies, ["crash", "fine", "raise", "hang"], 2.0, workers=2))
    assert found["crash"] == "killed by SIGSEGV"
    assert found["fine"] == {"answer": 1}
    assert found["raise"].strip().endswith("ValueError: raise")
    assert found["hang"] == "no answer after 2 s"


def scanned(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = [str(PROJECT / "workflow"), str(PROJECT / "tests")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=900, check=False
    )


def test_some_convolutions() -> None:
    risky = "--kernels", "1", "--strides", "2"
    done = scanned("scan.convolutions", *risky, "--draws", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "34 convolutions, 0 wrong" in done.stdout


def test_some_networks() -> None:
    done = scanned("scan.networks", "resnet18", "--widths", "2", "4", "--sides", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 networks, 0 wrong" in done.stdout
