"""Classes learned by squares: half the squared distance of the outputs to a one-hot vector."""

import torch

import lossatlas as la


class Squares(la.Task):
    """Half the sum of squares over the classes of an image, as in Cohen et al. (2021)."""

    unit = "squared"
    scored = True

    def per_example(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return losses (N,) of outputs (N, classes) and classes (N,)."""
        wanted = torch.nn.functional.one_hot(targets, outputs.shape[-1])
        return (outputs - wanted).square().sum(1) / 2

    def wrong(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return which images (N,) have another class than the largest output."""
        return (outputs.argmax(1) != targets).long()
