"""Trains curves of low loss between networks (Garipov et al., 2018).

Curves of the same network can be trained together as one vectorised network: the control points of
G curves lie in one tensor (G, bends + 2, P), so that a step is a few operations whatever the number
of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossatlas.connectivity.curves import Curve, Network, coefficients, straight_line
from lossatlas.connectivity.starts import random_vector
from lossatlas.data.augment import changed
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, Tensors, stack
from lossatlas.models.layout import Layout
from lossatlas.progress import advance, counted
from lossatlas.training.optimisers import decay, optimiser_of
from lossatlas.training.seeds import generator, seed_default

if TYPE_CHECKING:
    from lossatlas.metrics.connectivity import Connectivity

Save = Callable[["CurveFit"], None]
Words = tuple[object, ...]


def learning_rate(initial: float, epoch: int, epochs: int) -> float:
    """Return the rate of an epoch (from 1): constant to half, linear to 1% at 90%, then 1%."""
    share = epoch / epochs
    if share <= 0.5:
        return initial
    return initial * (1.0 - 0.99 * (share - 0.5) / 0.4 if share <= 0.9 else 0.01)


class CurveFit:
    """Trains G curves of one network, whose ends never move.

    Each step draws, for each curve, its own batch and its own t ~ U(0, 1), and descends

        mean loss at gamma(t) + weight_decay / 2 * |gamma(t)|^2

    where gamma(t) = sum_i c_i(t) w_i. The gradient for the bend w_i is c_i(t) times the gradient at
    gamma(t), so one backward pass to that single point serves all bends. The L2 term runs over all
    trainable parameters, those of BatchNorm included. Parameters that the module does not train
    stay on the straight line. BatchNorm uses statistics of the batch; an incomplete last batch is
    kept, except that a network with BatchNorm skips a last batch of one image, which has none.

    Args:
        functional: The network.
        starts: Parameters and buffers of the G first ends.
        ends: Of the G last ends.
        split: Training images and labels, on the device to train on.
        settings: `curve`, `bends`, `start`, `epochs`, `batch_size`, `learning_rate`, `optimiser`,
            `momentum`, `weight_decay`; mode "paper" starts bends at random whatever `start` says.
        words: What the random numbers of each curve are named after.

    Raises:
        ValueError: If networks do not match each other or the module, or there are no images.
    """

    def __init__(
        self,
        functional: Functional,
        starts: Sequence[Network],
        ends: Sequence[Network],
        split: Split,
        settings: Connectivity,
        words: Sequence[Words],
    ) -> None:
        if not len(starts) == len(ends) == len(words) > 0:
            raise ValueError("needs a start, an end and words for each curve, at least one")
        self.functional, self.settings, self.words = functional, settings, list(words)
        self.split, self.labels = split, split.labels
        self.layout = Layout(split.images, functional, len(words))
        pairs = zip(starts, ends, strict=True)
        self.lines = [straight_line(_ordered(functional, one), two) for one, two in pairs]
        self.steps = self._steps_per_epoch(len(split))
        self.step = 0
        self._start()
        self._bind()

    def _steps_per_epoch(self, images: int) -> int:
        size = self.settings.batch_size
        steps = -(-images // size)
        if self.functional.norms and images - (steps - 1) * size == 1:
            steps -= 1
        if steps < 1:
            raise ValueError(f"{images} training images are too few to fit a curve")
        return steps

    def _start(self) -> None:
        settings, bends = self.settings, self.settings.bends
        shares = [number / (bends + 1) for number in range(1, bends + 1)]
        random = settings.mode == "paper" or settings.start == "random"
        controls = []
        for line, words in zip(self.lines, self.words, strict=True):
            first, last = line.controls
            points = [torch.lerp(first, last, share) for share in shares]
            if random:
                points = [
                    random_vector(self.functional, point, generator("bend", *words, index))
                    for index, point in enumerate(points)
                ]
            controls.append(torch.stack([first, *points, last]))
        self.controls = torch.stack(controls)
        self.optimiser = optimiser_of(settings, self.controls[:, 1:-1])

    def _bind(self) -> None:
        """Make the sampled points gamma(t): a matrix (G, P), and its named copies, the leaves.

        The leaves lie in their own memory: as views of the matrix, whose rows are far apart, they
        make a step of several narrow ResNet18 on the CPU 1.5 times as slow.
        """
        count = len(self.words)
        self.points = torch.zeros_like(self.controls[:, 0])
        shapes = self.functional.shapes
        pieces = self.points.split([shape.numel() for shape in shapes.values()], dim=1)
        self.views = [
            piece.view(count, *shape) for shape, piece in zip(shapes.values(), pieces, strict=True)
        ]
        self.leaves = {
            name: torch.zeros_like(view, memory_format=torch.contiguous_format).requires_grad_()
            for name, view in zip(shapes, self.views, strict=True)
        }
        self.still = self.functional.untrained(self.points.device)
        self.buffers: Tensors = stack([line.buffers[0] for line in self.lines])

    def run(self, save: Save | None = None) -> list[Curve]:
        """Train to the end and return the curves.

        Args:
            save: Called after each step, for instance to keep `state()` now and then.

        Returns:
            G curves. One that diverged has controls that are not finite (`Curve.finite`).
        """
        device = self.points.device
        epochs = self.settings.epochs
        left = epochs * self.steps - self.step
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), counted("curve", left, "steps"):
            for epoch in range(self.step // self.steps, epochs):
                if not torch.isfinite(self.controls).flatten(1).all(1).any():
                    break
                self._epoch(epoch, save)
        return [
            Curve(self.settings.curve, controls.detach().clone(), line.shapes, line.buffers)
            for line, controls in zip(self.lines, self.controls, strict=True)
        ]

    def _epoch(self, epoch: int, save: Save | None) -> None:
        settings = self.settings
        rate = learning_rate(settings.learning_rate, epoch + 1, settings.epochs)
        for number, (index, weights) in enumerate(self._draws(epoch)):
            if epoch * self.steps + number < self.step:
                continue
            seed_default(self.points.device, "noise", *self.words, self.step)  # for dropout
            self._step(index, weights, rate)
            self.step += 1
            advance("steps")
            if save is not None:
                save(self)

    def _draws(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each step, places of images (G, N) and weights of control points (G, B)."""
        settings, device = self.settings, self.points.device
        images = len(self.labels)
        orders = torch.stack(
            [torch.randperm(images, generator=generator("order", *w, epoch)) for w in self.words]
        )
        times = torch.stack(
            [
                torch.rand(self.steps, dtype=torch.float64, generator=generator("t", *w, epoch))
                for w in self.words
            ]
        )
        weights = torch.from_numpy(coefficients(settings.curve, settings.bends, times.numpy()))
        weights = weights.to(device, self.points.dtype)
        chunks = orders.to(device).split(settings.batch_size, dim=1)[: self.steps]
        for number, chunk in enumerate(chunks):
            yield chunk, weights[:, number]

    def _step(self, index: Tensor, weights: Tensor, rate: float) -> None:
        """One step of the optimiser, on all curves."""
        with torch.no_grad():
            self.points.copy_(torch.bmm(weights[:, None], self.controls)[:, 0])
            torch._foreach_copy_(list(self.leaves.values()), self.views)
        gradient = self._gradient(index)
        with torch.no_grad():
            slopes = weights[:, 1:-1, None] * gradient[:, None]
            self.optimiser.step(self.controls[:, 1:-1], slopes, rate)

    def _gradient(self, index: Tensor) -> Tensor:
        """Return the gradient (G, P) of the objective at the sampled points."""
        labels = self.labels[index]
        names = [(*words, self.step) for words in self.words]
        images = changed(self.split, self.layout.take(index), names)
        outputs = self.functional.many(self.leaves, self.buffers, images, train=True)
        total = self.split.task.means(outputs, labels).sum()
        leaves = list(self.leaves.values())
        pieces = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            gradient = torch.cat([piece.reshape(len(labels), -1) for piece in pieces], 1)
            gradient.add_(self.points, alpha=decay(self.settings, self.optimiser))
            if self.still is not None:
                gradient.masked_fill_(self.still, 0.0)
        return gradient

    def state(self) -> dict[str, Tensor]:
        """Return all that changes while curves are trained, for `load`."""
        bends = self.controls[:, 1:-1]
        own = {f"optimiser/{name}": tensor for name, tensor in self.optimiser.state().items()}
        return {"bends": bends, "step": torch.tensor(self.step), **own}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state: the result is that of a run without a break."""
        with torch.no_grad():
            self.controls[:, 1:-1].copy_(state["bends"])
            self.optimiser.load({n: state[f"optimiser/{n}"] for n in self.optimiser.state()})
        self.step = int(state["step"])


def _ordered(functional: Functional, network: Network) -> Network:
    """Return the network with its parameters in the module's order, which flat vectors follow."""
    params, buffers = network
    if dict(functional.shapes) != {name: p.shape for name, p in params.items()}:
        raise ValueError("the parameters are not those of the module")
    return {name: params[name] for name in functional.shapes}, buffers


def fit_curve(
    functional: Functional,
    start: Network,
    end: Network,
    split: Split,
    settings: Connectivity,
    save: Save | None = None,
) -> Curve:
    """Train one curve between two networks.

    Args:
        functional: The network.
        start: Parameters and buffers, as `models.functional.state_of` returns them.
        end: The same of the other network.
        split: Training images and labels.
        settings: As in `CurveFit`; random numbers come from its `seed`.
        save: As in `CurveFit.run`.

    Raises:
        ValueError: As `CurveFit`.
    """
    words = ("curve", settings.seed)
    return CurveFit(functional, [start], [end], split, settings, [words]).run(save)[0]
