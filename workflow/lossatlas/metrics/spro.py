"""How the vertices of simplexes are trained: what the metrics of simplexes have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from lossatlas.metrics.base import IMAGES, OPTIMISER, Metric, Mode, Passes
from lossatlas.spec.catalogue import NETWORKS
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell


class Spro(Metric):
    """How the vertices of simplexes are trained (Benton et al., 2021)."""

    per = "cell"
    resumes = True
    keeps_vertices = True
    trains = True

    mode: Mode = Field(
        "fixed",
        description="'paper': losses summed over samples, log(V^2 + 1e-4) of the first simplex, "
        "simplexes chosen with equal probability, strength by the rule of the authors' code",
    )
    epochs: int = Field(20, ge=1, description="passes over the training data, per vertex")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="initial step size; annealed by a cosine")
    optimiser: str = OPTIMISER
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on the vertex that is trained")
    samples: int = Field(5, ge=1, description="points of the complex per step")
    regularisation: float = Field(
        1e-3, ge=0, description="strength of -log V; in mode 'paper' what its rule starts from"
    )
    epsilon: float | None = Field(
        None,
        ge=0,
        description="added to V^2 inside the logarithm; default: 0, in mode 'paper' 1e-4",
    )
    jitter: float = Field(
        0.03, ge=0, description="distance of a vertex's start from the mean, by the mean's norm"
    )
    seed: int = Field(0, ge=0, description="seed of data order, of points and of starts")

    def rehearsed(self) -> dict[str, Any]:
        """A rehearsal trains vertices on two points per step."""
        return {**super().rehearsed(), "samples": min(2, self.samples)}

    def passes(self, planned: PlannedCell) -> Passes:
        """Vertices to train, then networks to evaluate."""
        images = images_of(planned)
        vertices = self.trained_vertices(len(planned.seeds))
        steps = vertices * self.epochs * images / self.batch_size
        seen = self.evaluated(planned) / IMAGES
        return [(steps * self.samples, 6.0, self.batch_size), (seen, 2.0, IMAGES)]

    def evaluated(self, planned: PlannedCell) -> float:
        """Return how many images all networks see after training."""
        return 0.0


def norm_images(planned: PlannedCell) -> int:
    """Return the images on which BatchNorm's statistics are estimated at each point."""
    network = NETWORKS.get(planned.cell.model.builder)
    return images_of(planned) if network and network.norms else 0


def vectors(modes: int, connectors: int, simplexes: int, largest: int, sampled: int = 0) -> int:
    """Return how many vectors as long as the parameters a complex is made and looked at with.

    Its vertices thrice; in float64 a basis of each face, and what one is made with; the networks
    that are sampled at once.

    Args:
        modes: Replicas that are vertices.
        connectors: Vertices that are trained.
        simplexes: How many.
        largest: Vertices of the largest simplex.
        sampled: Networks at once.
    """
    return 3 * (modes + connectors) + 2 * (simplexes + 3) * largest + sampled
