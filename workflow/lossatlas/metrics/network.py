"""One replica as the function of a metric sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.curvature.operator import HessianOperator
    from lossatlas.data.tensors import Inputs, Split
    from lossatlas.training.networks import Networks


class Network:
    """A trained replica in evaluation mode: BatchNorm's statistics are fixed, dropout is off.

    Args:
        networks: The replicas of a cell.
        index: Which one.

    Attributes:
        seed: Of the replica.
    """

    def __init__(self, networks: Networks, index: int) -> None:
        self._networks, self._index = networks, index
        self.seed = networks.seeds[index]

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Name -> parameter."""
        return self._networks.one(self._index)[0]

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Name -> buffer, such as BatchNorm's statistics."""
        return self._networks.one(self._index)[1]

    @property
    def flat(self) -> Tensor:
        """All parameters as one vector (P,)."""
        from lossatlas.models.functional import flatten

        return flatten(self.parameters)

    def __call__(self, images: Inputs) -> Tensor:
        """Return outputs of inputs, such as logits of images (N, C, H, W), without gradients."""
        from lossatlas.training.networks import outputs

        return outputs(self._networks, self._index, images)

    def loss(self, split: Split) -> Tensor:
        """Return the mean loss of the task, without gradients: of images, cross entropy in nats."""
        return split.task.mean(self(split.images), split.labels)

    def gradient(self, split: Split, *, parameters: str = "") -> Tensor:
        """Return the gradient (P,) of the mean loss, detached.

        Args:
            split: Images and labels.
            parameters: Regular expression that picks parameters by name; "" is all.
        """
        return self.hessian(split, parameters=parameters).gradient()

    def hessian(self, split: Split, *, parameters: str = "", chunk: int = 512) -> HessianOperator:
        """Return the Hessian of the mean loss, as a function of vectors (P,).

        Args:
            split: Images and labels.
            parameters: Regular expression that picks parameters by name; "" is all.
            chunk: Images per pass.
        """
        from lossatlas.curvature.operator import hessian_at

        return hessian_at(self._networks, self._index, split, parameters=parameters, chunk=chunk)

    def features(self, images: Inputs, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return layer -> features (N, D): "output", "softmax", or names of modules."""
        from lossatlas.similarity.features import features

        return features(self._networks, self._index, images, layers)


def of_all(networks: Networks) -> dict[int, Network]:
    """Return seed -> network."""
    return {seed: Network(networks, index) for index, seed in enumerate(networks.seeds)}


def arguments(networks: Networks, per: str, unit: Sequence[int]) -> tuple[Any, ...]:
    """Return what `Metric.measure` is called with for a unit."""
    known = of_all(networks)
    found = [known[seed] for seed in unit]
    return (found, networks.data) if per == "cell" else (*found, networks.data)
