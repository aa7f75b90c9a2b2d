"""Results of torch and numpy on the CPU do not depend on how memory happens to be aligned.

Resumed jobs equal uninterrupted ones bit for bit only if that holds: `lossatlas/__init__.py` sets
MKL_CBWR for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossatlas

LINE = 64  # bytes of a cache line
OFFSETS = (0, 1, 3, 4, 8)  # entries past the start of a line
SHAPES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "dot": (torch.dot, [(3771,), (3771,)]),
    "matrix-vector": (torch.mv, [(53, 371), (371,)]),
    "matrix-matrix": (torch.mm, [(300, 371), (371, 41)]),
    "batched matrices": (torch.bmm, [(3, 17, 29), (3, 29, 13)]),
    "linear": (F.linear, [(33, 64), (10, 64), (10,)]),
    "norm": (torch.linalg.vector_norm, [(37713,)]),
    "sum": (torch.sum, [(37713,)]),
    "columns": (lambda a: a.sum(0), [(371, 33)]),
    "softmax": (lambda a: a.softmax(1), [(37, 113)]),
    "eigenvalues": (lambda a: torch.linalg.eigvalsh(a @ a.T), [(61, 61)]),
    "QR": (lambda a: torch.linalg.qr(a)[0], [(61, 21)]),
    "numpy product": (lambda a, b: torch.from_numpy(a.numpy() @ b.numpy()), [(37, 530), (530, 41)]),
    "numpy dot": (lambda a, b: torch.tensor(np.dot(a.numpy(), b.numpy())), [(3771,), (3771,)]),
    "numpy sum": (lambda a: torch.tensor(a.numpy().sum()), [(37713,)]),
}
for _groups, _channels, _out, _kernel, _stride in (
    (1, 3, 8, 3, 1),
    (1, 8, 16, 3, 2),
    (3, 12, 24, 3, 1),
):

    def _convolve(
        x: Tensor, weight: Tensor, groups: int = _groups, stride: int = _stride
    ) -> Tensor:
        leaves = [x.detach().requires_grad_(), weight.detach().requires_grad_()]
        y = F.conv2d(*leaves, stride=stride, padding=1, groups=groups)
        gradients = torch.autograd.grad(y.square().sum(), leaves)
        return torch.cat([part.flatten() for part in (y, *gradients)])

    SHAPES[f"convolution {_channels} to {_out}, groups {_groups}, stride {_stride}"] = (
        _convolve,
        [(16, _channels, 8, 8), (_out, _channels // _groups, _kernel, _kernel)],
    )


def at(tensor: Tensor, offset: int) -> Tensor:
    """Copy a tensor to memory that begins `offset` entries past a cache line."""
    size = tensor.element_size()
    room = torch.empty(tensor.numel() + 2 * LINE // size, dtype=tensor.dtype)
    first = (-room.data_ptr() % LINE) // size + offset
    copy = room[first : first + tensor.numel()].view(tensor.shape)
    return copy.copy_(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_alignment_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    function, shapes = SHAPES[name]
    torch.manual_seed(0)
    given = [torch.randn(shape, dtype=dtype) for shape in shapes]
    expected = function(*(at(one, 0) for one in given))
    for offset in OFFSETS:
        for step in (0, 1, 2):
            found = function(*(at(one, offset + i * step) for i, one in enumerate(given)))
            assert torch.equal(found, expected), (offset, step)


@pytest.mark.parametrize("own", ["", "COMPATIBLE"])
def test_a_users_own_mode_wins_and_is_recorded(own: str) -> None:
    code = (
        "import lossatlas.device as d; p = d.provenance()['code_path'];"
        "print(p['MKL_CBWR'], p['threads'], p['cpu'])"
    )
    environment = {**os.environ, "MKL_CBWR": own, "OMP_NUM_THREADS": "1"}
    if not own:
        del environment["MKL_CBWR"]
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(lossatlas.__file__))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    mode, threads, cpu = done.stdout.split(maxsplit=2)
    assert (mode, threads) == (own or "AUTO", "1")
    assert cpu.strip() == torch.backends.cpu.get_cpu_capability()
