"""Test images unlike those of training: with Gaussian noise, and from an archive of corruptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lossatlas import paths
from lossatlas.data.corruptions import SEVERITIES, Corruptions
from lossatlas.data.loading import inputs
from lossatlas.data.tensors import TensorData
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import corrupted_source
from lossatlas.training.seeds import generator

NOISE = "noise"


class Shifts:
    """All shifted copies of a test set, the same for every network.

    Args:
        data: Whose test images.
        noise: Standard deviations of Gaussian noise, in units of the normalised pixels.
        corruptions: A row of the datasets table whose archive has been downloaded; "" for none.

    Attributes:
        severities: Kind of shift -> its severities; those of an archive are 1 to 5.

    Raises:
        UserError: If the archive is missing or damaged, or is not of these test images.
    """

    def __init__(self, data: TensorData, noise: list[float], corruptions: str = "") -> None:
        self.data, self.noise = data, noise
        self.severities: dict[str, list[float]] = {NOISE: noise} if noise else {}
        self.archive = None
        if corruptions:
            file = corrupted_source(corruptions).file
            self.archive = Corruptions(Path(paths.download(file)))
            self._check(self.archive)
            levels = [float(level) for level in range(1, SEVERITIES + 1)]
            self.severities |= dict.fromkeys(self.archive.kinds, levels)

    def _check(self, archive: Corruptions) -> None:
        """Refuse an archive of other images."""
        labels = self.data.test.labels.cpu().numpy()
        shape = archive.images(archive.kinds[0], 1).shape[1:]
        own = (self.data.image_size, self.data.image_size, self.data.channels)
        if self.data.pixels is None or shape != own or archive.labels.tolist() != labels.tolist():
            what = f"is not of the test images of '{self.data.name}'"
            fix = "leave 'corruptions' out for this data set"
            raise UserError(what, where=str(archive.archive), fix=fix)

    def images(self, kind: str) -> Iterator[Tensor]:
        """Yield the shifted images (N, C, H, W), normalised, of each severity of a kind."""
        clean = self.data.test.tensor
        for index, severity in enumerate(self.severities[kind]):
            if kind == NOISE:
                noise = torch.randn(clean.shape, generator=generator("gaussian noise", index))
                yield clean + severity * noise.to(clean.device)
            elif self.archive is not None and self.data.pixels is not None:
                found = self.archive.images(kind, int(severity))
                yield inputs(found, self.data.pixels, clean.device)
