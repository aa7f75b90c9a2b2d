"""Looks whether torch computes rightly on this CPU, in a child process: a fault may end it.

Convolutions of shapes that were once computed wrongly, their gradients and the gradients of those
are compared with float64, which torch computes by code of its own; so is a product of matrices. A
second run must give the same bits.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

from lossatlas.models.safe_convolution import avoid_faults

# Input channels, output channels, kernel, stride, side, images.
SHAPES = (
    (4, 8, 1, 2, 32, 16),
    (2, 4, 1, 2, 8, 16),
    (3, 6, 1, 3, 9, 7),
    (12, 24, 1, 2, 16, 4),
    (3, 8, 3, 1, 8, 16),
    (4, 8, 3, 2, 16, 8),
    (16, 16, 3, 1, 8, 4),
)
TOLERANCE = 3e-5  # of the largest entry; rounding is below 2e-6
SECONDS = 60.0  # that the child may take; it takes about half a second


def run(seconds: float = SECONDS) -> str:
    """Return what is wrong with torch on this CPU, or "".

    The child is forked where that is safe, so that it need not import torch again. It uses one
    thread.

    Args:
        seconds: How long to wait for it.
    """
    spawn, linux = multiprocessing.get_context("spawn"), sys.platform == "linux"
    context = multiprocessing.get_context("fork") if linux else spawn
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs,), daemon=True)
    child.start()
    theirs.close()
    try:
        found: str = ours.recv() if ours.poll(seconds) else f"no answer after {seconds:g} s"
    except EOFError:
        child.join()
        found = f"convolutions end the process ({_end(child.exitcode)})"
    child.kill()
    child.join()
    return found


def _end(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name


def _answer(pipe: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the C library says of broken memory
    pipe.send(next(faults(), ""))


def faults() -> Iterator[str]:
    """Yield what is wrong, computed in this process; a crash ends it."""
    torch.set_num_threads(1)
    for shape in SHAPES:
        layer, images = drawn(*shape)
        name = "convolution {}->{}, kernel {}, stride {}, {} pixels, {} images".format(*shape)
        runs = [_derived(layer, images) for _ in range(2)]
        yield from _compare(name, runs, _derived(layer.double(), images.double()))
    draws = torch.Generator().manual_seed(1)
    one, other = (torch.randn(300, 300, generator=draws) for _ in range(2))
    runs = [{"result": one @ other} for _ in range(2)]
    yield from _compare("product of matrices", runs, {"result": one.double() @ other.double()})


def drawn(
    inputs: int, outputs: int, kernel: int, stride: int, side: int, count: int
) -> tuple[nn.Module, Tensor]:
    """Return a layer that is kept from faults, and images (N, C, H, W), channels last."""
    draws = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    with torch.no_grad():
        for own in layer.parameters():
            own.copy_(torch.randn(own.shape, generator=draws))
    avoid_faults(layer)
    images = torch.randn(count, inputs, side, side, generator=draws)
    return layer, images.contiguous(memory_format=torch.channels_last)


def _derived(layer: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the result of a layer, its gradients, and what those give differentiated again."""
    x = images.detach().requires_grad_()
    weight = next(layer.parameters())
    result = layer(x)
    bent = (result**2).sum()
    first = torch.autograd.grad(bent, [x, weight], create_graph=True)
    again = torch.stack([(one**2).sum() for one in first]).sum()
    second = torch.autograd.grad(again, [x, weight])
    names = (
        "result",
        "gradient by images",
        "gradient by weights",
        "second by images",
        "second by weights",
    )
    values = (one.detach() for one in (result, *first, *second))
    return dict(zip(names, values, strict=True))


def _compare(name: str, runs: list[dict[str, Tensor]], right: dict[str, Tensor]) -> Iterator[str]:
    for what, value in runs[0].items():
        scale = right[what].abs().max()
        error = float((value.double() - right[what]).abs().max() / scale)
        if not error <= TOLERANCE:
            yield f"{name}: {what} is wrong by {error:.1e} of its size"
        if not all(torch.equal(value, other[what]) for other in runs[1:]):
            yield f"{name}: {what} differs from run to run"
