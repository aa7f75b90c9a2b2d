"""Optimisers of flat parameters: one step for all replicas, curves or vertices at once.

Parameters and gradients are tensors (..., P), and what an optimiser remembers are tensors of the
same shape, so that a step is a few operations whatever the number of layers. They agree with
`torch.optim`, which is avoided in jobs: it imports `torch._dynamo`, 2 to 3 s per process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lossatlas import plugins
from lossatlas.errors import UserError, told
from lossatlas.spec.parts import OPTIMISERS


class Settings(Protocol):
    """What a recipe, or a metric that trains, says of its optimiser."""

    @property
    def optimiser(self) -> str: ...  # noqa: D102
    @property
    def momentum(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Plain:
    """Settings of an optimiser alone, where other settings have a name of its own (`epsilon`)."""

    optimiser: str
    momentum: float
    weight_decay: float

    @classmethod
    def of(cls, settings: Settings) -> Plain:
        """Take them from settings that have more."""
        return cls(settings.optimiser, settings.momentum, settings.weight_decay)


class Optimiser:
    """What every optimiser is. A subclass writes `step`, and names in `slots` what it remembers.

    Args:
        like: Parameters (..., P): shape, type and device of what is remembered.
        settings: `momentum`, `weight_decay` and, where they are there, `nesterov`, `betas` and
            `epsilon`.

    Attributes:
        slots: Names of the tensors that it remembers, all 0 at first.
        decoupled: Whether `step` applies weight decay by itself, so that it must not be added to
            the gradient.
        memory: Name -> tensor like the parameters.
        steps: How many were made.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False

    def __init__(self, like: Tensor, settings: Settings) -> None:
        self.settings = settings
        self.memory = {name: torch.zeros_like(like) for name in self.slots}
        self.steps = torch.zeros((), dtype=torch.float64)

    def step(self, params: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the parameters in place.

        Args:
            params: (..., P).
            gradient: (..., P), with L2 where it is not `decoupled`; may be overwritten.
            rate: Learning rate.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no 'step'")

    def state(self) -> dict[str, Tensor]:
        """Return all that it remembers, for the resume state."""
        return {**self.memory, "steps": self.steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class SGD(Optimiser):
    """SGD with momentum, without dampening, as `torch.optim.SGD` defines it."""

    slots = ("velocity",)

    def step(self, params: Tensor, gradient: Tensor, rate: float) -> None:
        """Move by the velocity: v = momentum v + g."""
        momentum, velocity = self.settings.momentum, self.memory["velocity"]
        velocity.mul_(momentum).add_(gradient)
        move = velocity
        if getattr(self.settings, "nesterov", False):
            move = gradient.add_(velocity, alpha=momentum)
        params.add_(move, alpha=-rate)


class Adam(Optimiser):
    """Adam (Kingma and Ba, 2015, algorithm 1)."""

    slots = ("mean", "square")

    def step(self, params: Tensor, gradient: Tensor, rate: float) -> None:
        """Move by the mean gradient over the root of its mean square, both without bias."""
        self.steps += 1
        first, second = getattr(self.settings, "betas", (0.9, 0.999))
        epsilon = getattr(self.settings, "epsilon", 1e-8)
        if self.decoupled:
            params.mul_(1.0 - rate * self.settings.weight_decay)
        mean, square = self.memory["mean"], self.memory["square"]
        mean.lerp_(gradient, 1.0 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        count = float(self.steps)
        root = square.sqrt().div_((1.0 - second**count) ** 0.5).add_(epsilon)
        params.addcdiv_(mean, root, value=-rate / (1.0 - first**count))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2)."""

    decoupled = True


_BUILT_IN: dict[str, type[Optimiser]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
assert tuple(_BUILT_IN) == OPTIMISERS


def optimiser_of(settings: Settings, like: Tensor) -> Optimiser:
    """Return the optimiser that settings name, for parameters of this shape.

    Raises:
        UserError: If it is the user's own and cannot be imported, or is no `Optimiser`.
    """
    name = settings.optimiser
    made = _BUILT_IN.get(name)
    if made is None:
        made = plugins.load(name, "optimiser", Optimiser)
        _try(made, name, settings)
    return made(like, settings)


def _try(made: type[Optimiser], name: str, settings: Settings) -> None:
    """Refuse an optimiser of the user's that fails, or moves nothing."""
    params = torch.ones(2, 3)
    try:
        tried = made(params, settings)
        tried.step(params, torch.full((2, 3), 0.5), 0.1)
        tried.step(params, torch.full((2, 3), 0.5), 0.1)
    except Exception as error:  # it may fail in any way
        what = f"'{name}' fails: {told(error)}"
        raise UserError(what, where="optimiser", fix="mend it") from error
    if params.shape != (2, 3) or torch.equal(params, torch.ones(2, 3)):
        fix = "change `params` in place, as by `params.sub_(...)`"
        raise UserError(f"'{name}' moves no parameter", where="optimiser", fix=fix)


def decay(settings: Settings, made: Optimiser) -> float:
    """Return the L2 that is added to gradients: none where the optimiser decays by itself."""
    return 0.0 if made.decoupled else settings.weight_decay
