"""Convolutions of many shapes against float64, each in its own process (`make scan`).

After those that are known to be faulty in torch come, for each kernel, stride and number of input
channels, ones whose other settings are drawn at random, always the same: `--draws 40` goes on where
8 stop. It looks at the result, its gradients, and the gradients of those, through what the library
puts around torch (`lossatlas.models.safe_convolution`); `--plain` looks at torch alone, to see what
is faulty.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from lossatlas.models.safe_convolution import avoid_faults
from scan.children import each

KERNELS, STRIDES = (1, 2, 3, 5, 7), (1, 2, 3)
CHANNELS = (*range(1, 17), 24, 33, 64)
SECONDS, AGAIN = 60, 4
MOST = 3e7  # multiply-adds, so that none takes long
# Of the largest entry. Rounding is below 2e-6, and what is wrong is above 1e-3.
TOLERANCE = 3e-5


@dataclass(frozen=True)
class Case:
    """One convolution.

    Attributes:
        kind: "conv1d", "conv2d", "conv3d", "conv_transpose1d" or "conv_transpose2d"; the last two
            with the output padding that makes the result larger by the whole stride.
        grouping: "one"; "depthwise" has a group per input channel, "stacked" is `torch.vmap` over
            three sets of images and weights, "shared" over three sets of images.
        images: Layout in memory, "first" or "last", as `slopes` (of the result) and `weights`.
    """

    kernel: int
    stride: int
    inputs: int
    outputs: int
    side: int
    batch: int
    padding: int = 0
    images: str = "last"
    slopes: str = "last"
    weights: str = "first"
    grouping: str = "one"
    threads: int = 1
    bias: bool = False
    kind: str = "conv2d"

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in asdict(self).items())


# With these torch alone crashed, hung or was wrong on a processor with AVX2 and no AVX-512.
KNOWN = (
    Case(1, 2, 4, 8, 32, 16),
    Case(1, 2, 2, 4, 32, 128),
    Case(1, 2, 4, 8, 8, 16),
    Case(1, 2, 3, 3, 16, 128, weights="first"),
    Case(1, 2, 6, 12, 16, 16, bias=True),
    Case(1, 2, 2, 10, 6, 16, weights="last"),
    Case(1, 2, 1, 1, 32, 128, slopes="first", weights="last"),
    Case(1, 2, 3, 3, 16, 7, images="first", weights="last"),
    Case(1, 3, 5, 16, 12, 16),
    Case(1, 2, 3, 6, 32, 128, grouping="shared", weights="last"),
    Case(1, 2, 4, 8, 32, 16, threads=2),
    Case(1, 2, 2, 2, 1200, 16, slopes="first", weights="last", kind="conv1d"),
    Case(1, 2, 7, 7, 12, 16, weights="last", kind="conv_transpose2d"),
    Case(1, 2, 12, 3, 16, 2, kind="conv_transpose2d"),
    Case(1, 2, 5, 4, 1200, 7, images="first", weights="last", kind="conv_transpose1d"),
)


def cases(
    draws: int, kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES
) -> Iterator[Case]:
    """Yield the known ones, and so many more for each kernel, stride and number of channels."""
    yield from KNOWN
    for kernel, stride, inputs in product(kernels, strides, CHANNELS):
        settings = random.Random(f"{kernel} {stride} {inputs}")
        for _ in range(draws):
            yield drawn(settings, kernel, stride, inputs)


def drawn(settings: random.Random, kernel: int, stride: int, inputs: int) -> Case:
    """Draw the other settings of a convolution."""
    pick, last = settings.choice, ("first", "last", "last")
    case = Case(
        kernel,
        stride,
        inputs,
        outputs=pick((2 * inputs, 2 * inputs, inputs, 1, 3, 8, 10, 16)),
        side=pick((4, 7, 8, 16, 32)),
        batch=pick((1, 2, 7, 16, 64, 128)),
        padding=pick((0, kernel // 2, 1)),
        images=pick(last),
        slopes=pick(last),
        weights=pick(last),
        grouping=pick(("one",) * 5 + ("depthwise", "stacked", "shared")),
        threads=pick((1, 1, 1, 2)),
        bias=pick((True, False)),
        kind=pick(("conv2d",) * 8 + ("conv1d", "conv_transpose1d", "conv_transpose2d")),
    )
    if "1d" in case.kind:  # the fault needs a row of more than 192 pixels behind the stride
        case = replace(case, side=48 * case.side)
    work = case.batch * case.side ** int(case.kind[-2]) * inputs * case.outputs * kernel**2
    fits = case.side + 2 * case.padding >= kernel
    if not fits or work > MOST or ("transpose" in case.kind and case.padding >= kernel):
        return drawn(settings, kernel, stride, inputs)
    return case


def errors(case: Case, *, plain: bool = False) -> dict[str, float]:
    """Return the errors of a convolution and its derivatives, of the largest entry of each."""
    torch.set_num_threads(case.threads)
    network, tensors = _made(case)
    if not plain:
        avoid_faults(network)
    right = _derived(network.double(), [one.double() for one in tensors])
    network.float()
    found = {}
    for _ in range(AGAIN):  # whether memory is broken shows after a while
        held = [torch.randn(997 + 13 * i) for i in range(40)]
        for name, value in _derived(network, tensors).items():
            error = (value.double() - right[name]).abs().max() / right[name].abs().max()
            error = float(error) if value.isfinite().all() and held else float("inf")
            found[name] = max(found.get(name, 0.0), error)
    return found


def _made(case: Case) -> tuple["Many", list[Tensor]]:
    """Return the layer, and images, weights, bias and directions to differentiate along."""
    torch.manual_seed(0)
    how = {"groups": case.inputs} if case.grouping == "depthwise" else {}
    outputs = case.outputs
    if how:
        outputs = case.inputs * max(1, case.outputs // case.inputs)
    dims = int(case.kind[-2])
    layers = {
        "conv1d": nn.Conv1d,
        "conv2d": nn.Conv2d,
        "conv3d": nn.Conv3d,
        "conv_transpose1d": nn.ConvTranspose1d,
        "conv_transpose2d": nn.ConvTranspose2d,
    }
    if "transpose" in case.kind:
        how["output_padding"] = case.stride - 1
    layer = layers[case.kind](
        case.inputs, outputs, case.kernel, case.stride, case.padding, bias=case.bias, **how
    )
    network = Many(layer, case.grouping)
    stacks = {"stacked": (3, 3), "shared": (3, 0)}.get(case.grouping, (0, 0))
    images = _laid(stacks[0], (case.batch, case.inputs, *[case.side] * dims), case.images)
    weights = _laid(stacks[1], tuple(layer.weight.shape), case.weights)
    bias = torch.randn(*stacks[1:][: stacks[1] > 0], outputs)
    with torch.no_grad():
        plane = layer(images[0] if stacks[0] else images).shape
    slopes = _laid(stacks[0], tuple(plane), case.slopes)
    along = [torch.randn_like(images), torch.randn_like(weights)]
    return network, [images, weights, bias, slopes, *along]


def _laid(stack: int, shape: tuple[int, ...], layout: str) -> Tensor:
    """Return random (stack, N, C, ...), or (N, C, ...), in a layout that vmap keeps."""
    if layout == "first":
        return torch.randn(*([stack] if stack else []), *shape)
    planes = len(shape) - 2
    if not stack:
        last = torch.randn(shape[0], *shape[2:], shape[1])
        return last.permute(0, planes + 1, *range(1, planes + 1))
    last = torch.randn(shape[0], *shape[2:], stack, shape[1])
    return last.permute(planes + 1, 0, planes + 2, *range(1, planes + 1))


class Many(nn.Module):
    """A layer with weights that are given, once or under vmap."""

    def __init__(self, layer: nn.Module, grouping: str) -> None:
        super().__init__()
        self.layer, self.grouping = layer, grouping

    def forward(self, images: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        if self.grouping in ("stacked", "shared"):
            inner = 0 if self.grouping == "stacked" else None
            return torch.vmap(self.once, in_dims=(0, inner, inner))(images, weights, bias)
        return self.once(images, weights, bias)

    def once(self, images: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        held = self.layer._parameters
        empty = dict(held)
        held["weight"], held["bias"] = weights, bias if empty["bias"] is not None else None
        try:
            return self.layer(images)
        finally:
            held.update(empty)


def _derived(network: Many, tensors: list[Tensor]) -> dict[str, Tensor]:
    leaves = [one.detach().requires_grad_() for one in tensors[:4]]
    images, weights, bias, slopes = leaves
    result = network(images, weights, bias)
    wanted = [images, weights]
    first = torch.autograd.grad(result, wanted, slopes, create_graph=True)
    sums = sum((one * along).sum() for one, along in zip(first, tensors[4:], strict=True))
    second = torch.autograd.grad(sums, [images, weights, slopes])
    names = ("by images", "by weights", "second by images", "second by weights", "by slopes")
    values = (one.detach() for one in (*first, *second))
    return {"result": result.detach(), **dict(zip(names, values, strict=True))}


def wrong(case: Case, outcome: object) -> str:
    """Return what is wrong with a case, or ""."""
    if isinstance(outcome, str):
        return outcome
    assert isinstance(outcome, dict)
    return ", ".join(f"{k} {v:.1e}" for k, v in outcome.items() if not v < TOLERANCE)


def main() -> int:
    """Scan, and print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=8, help="per kernel, stride and channels")
    parser.add_argument("--kernels", type=int, nargs="+", default=KERNELS)
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES)
    parser.add_argument("--workers", type=int, default=1, help="processes at the same time")
    parser.add_argument("--plain", action="store_true", help="torch without what we put around it")
    asked = parser.parse_args()
    for grouping in ("one", "stacked"):  # what torch imports only now, each child would again
        errors(Case(1, 1, 1, 1, 4, 1, grouping=grouping), plain=True)
    seen, bad = Counter[str](), 0
    work = lambda case: errors(case, plain=asked.plain)  # noqa: E731
    for case, outcome in each(
        work, cases(asked.draws, asked.kernels, asked.strides), SECONDS, asked.workers
    ):
        seen["all"] += 1
        if what := wrong(case, outcome):
            bad += 1
            print(f"WRONG {case}: {what.strip().splitlines()[-1]}", flush=True)
    print(f"{seen['all']} convolutions, {bad} wrong; torch {torch.__version__}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
