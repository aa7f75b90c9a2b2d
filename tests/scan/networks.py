"""Every built-in network trained a step, and a Hessian-vector product, each in its own process.

`make scan` looks at images of three sizes, all widths below, one replica and three together. What
a job would compute in float32 is compared with the same in float64, parameter by parameter.

ReLU and max-pool have kinks: where rounding carries a unit over one, the gradient jumps, and that
is no fault (one in three gradients of ResNet18 of width 4 on 32 x 32 images is off by a hundredth,
with or without oneDNN). Which units these are depends on the images, while a fault does not. So
each network sees up to five sets of images, and is wrong if all of them say so. A jump of one unit
among the few of a narrow network can be large, and a fault in one small layer must be seen, so that
neither a median over parameters nor a wide tolerance would do.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from lossatlas import models
from lossatlas.curvature.operator import hessian_of
from lossatlas.data.tensors import Split
from lossatlas.models.functional import one_of
from lossatlas.spec.catalogue import NETWORKS
from lossatlas.spec.parts import Recipe
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.rows import named
from scan.children import each

SIDES, WIDTHS, REPLICAS = (8, 16, 32), (1, 2, 3, 4, 6, 8, 16), (1, 3)
BATCH, CLASSES, DRAWS = 16, 4, 5
SECONDS = 300
MOST = 1e8  # multiply-adds per image, so that none takes minutes
# Of a parameter's own norm. Rounding is mostly below 1e-4, and a fault was above 5e-2.
TOLERANCE = 1e-3
SMALL = 1e-3  # of the norm of all: a gradient below is rounding, as that of a bias before BatchNorm


@dataclass(frozen=True)
class Case:
    """One network, on images of one size, so many replicas at once."""

    network: str
    width: int
    side: int
    replicas: int

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in asdict(self).items())


def cases(
    names: Sequence[str] = tuple(NETWORKS),
    widths: Sequence[int] = WIDTHS,
    sides: Sequence[int] = SIDES,
) -> Iterator[Case]:
    """Yield all networks of these that exist."""
    for name in names:
        network = NETWORKS[name]
        for side in sides if "square" in network.inputs else ():
            if side < network.smallest:
                continue
            for width in widths if "width" in network.arguments else (0,):
                arguments = {**network.arguments, **({"width": width} if width else {})}
                count = network.cost(arguments, CLASSES, network.channels or 3, side)
                for replicas in REPLICAS if count[1] <= MOST else ():
                    yield Case(name, width, side, replicas)


def errors(case: Case) -> dict[str, float]:
    """Return the largest error of any parameter's gradient and product, of its norm."""
    torch.set_num_threads(1)
    best = {"product": float("inf"), **dict.fromkeys(map(str, range(case.replicas)), float("inf"))}
    for seed in range(DRAWS):
        found = {"product": _product(case, seed), **_trained(case, seed)}
        best = {name: min(best[name], value) for name, value in found.items()}
        if max(best.values()) < TOLERANCE:
            break
    _train(case, torch.float32, 0, epochs=3)
    return {"product": best.pop("product"), "training": max(best.values())}


def _built(case: Case, dtype: torch.dtype) -> nn.Module:
    arguments = {"width": case.width} if case.width else {}
    channels = NETWORKS[case.network].channels or 3
    shape = {"num_classes": CLASSES, "in_channels": channels, "image_size": case.side}
    network = models.build(case.network, arguments, **shape)
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # in float64 it drops others
    return network.to(dtype)


def _images(case: Case, seed: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    channels = NETWORKS[case.network].channels or 3
    images = torch.randn(BATCH, channels, case.side, case.side, generator=draws)
    return images, torch.arange(BATCH) % CLASSES


def _train(case: Case, dtype: torch.dtype, seed: int, epochs: int) -> dict[str, Tensor]:
    """Train as a job does, a step per epoch; return the momentum (G, ...) of each parameter.

    After one step it is the gradient, without the digits that are lost where parameters stand.
    """
    images, labels = _images(case, seed)
    recipe = Recipe(epochs=epochs, batch_size=BATCH, learning_rate=0.01, weight_decay=0.0)
    split = Split(images.to(dtype), labels)
    engine = Engine(lambda: _built(case, dtype), recipe, list(range(case.replicas)), split)
    engine.train()
    momentum = engine.run.optimiser.memory["velocity"]
    return {n: v.double() for n, v in named(engine.functional, momentum, engine.frozen).items()}


def _trained(case: Case, seed: int) -> dict[str, float]:
    """Return replica -> the largest error of a gradient in training."""
    one, right = (_train(case, dtype, seed, 1) for dtype in (torch.float32, torch.float64))
    each_one = range(case.replicas)
    return {str(index): _distance(one_of(one, index), one_of(right, index)) for index in each_one}


def _product(case: Case, seed: int) -> float:
    """Return the largest error of a Hessian-vector product in any parameter."""
    images, labels = _images(case, seed)
    found, along = [], None
    for dtype in (torch.float32, torch.float64):
        network = initialise(lambda dtype=dtype: _built(case, dtype), seed)
        hessian = hessian_of(network, images.to(dtype), labels)
        if along is None:
            along = torch.randn(hessian.size, generator=torch.Generator().manual_seed(seed))
        sizes = [p.numel() for p in network.parameters() if p.requires_grad]
        pieces = hessian(along).double().split(sizes)
        found.append(dict(zip(hessian.names, pieces, strict=True)))
    return _distance(*found)


def _distance(one: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    total = sum(float(value.norm()) ** 2 for value in right.values()) ** 0.5
    worst = 0.0
    for name, value in right.items():
        error = (one[name] - value).norm() / max(float(value.norm()), SMALL * total, 1e-30)
        worst = max(worst, float(error) if error == error else float("inf"))
    return worst


def wrong(outcome: object) -> str:
    """Return what is wrong with a network, or ""."""
    if isinstance(outcome, str):
        return outcome.strip().splitlines()[-1]
    assert isinstance(outcome, dict)
    return ", ".join(f"{k} {v:.1e}" for k, v in outcome.items() if not v < TOLERANCE)


def prepare() -> None:
    """Import what torch imports late, so that no child needs to."""
    _trained(Case("mlp", 1, 8, 2), 0)
    _product(Case("mlp", 1, 8, 2), 0)


def main() -> int:
    """Scan, and print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="names; all if none is given")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--workers", type=int, default=1, help="processes at the same time")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    prepare()
    chosen = cases(tuple(asked.networks) or tuple(NETWORKS), asked.widths, asked.sides)
    count, bad, largest = 0, 0, 0.0
    for case, outcome in each(errors, chosen, SECONDS, asked.workers):
        count += 1
        if isinstance(outcome, dict):
            largest = max(largest, *outcome.values())
        if what := wrong(outcome):
            bad += 1
            print(f"WRONG {case}: {what}", flush=True)
    print(f"{count} networks, {bad} wrong, largest error {largest:.1e}; torch {torch.__version__}")
    return int(bad > 0 or count == 0)


if __name__ == "__main__":
    sys.exit(main())
