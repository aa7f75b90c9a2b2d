"""Networks modulo permutations of their units: a matched copy of one of the user's own models."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from lossatlas import measuring
from lossatlas.errors import UserValueError
from lossatlas.metrics.alignment import Alignment
from lossatlas.metrics.registry import with_settings
from lossatlas.notebook.measures import without_test
from lossatlas.notebook.networks import module_at, modules_of, networks_of
from lossatlas.notebook.results import Aligned, about
from lossatlas.permutation.measure import aligned
from lossatlas.progress import shown


def align(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Any,
    *,
    method: Literal["weights", "activations"] = "weights",
    loss: Any = None,
    test: Any = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Aligned:
    """Permute the units of a model so that they match those of another, and compare both.

    Which units can be permuted follows from the operations of a forward pass, and is tried.
    Sources: Ainsworth et al. (2023), Li et al. (2016), Jordan et al. (2023); formulas:
    `lossatlas.permutation`.

    Args:
        model_a: The model that stays.
        model_b: The model whose units are permuted, of the same architecture.
        data: As `hessian`; losses along the straight line are taken on these.
        method: "weights", or "activations" on `samples` of the data.
        loss: As there.
        test: Data that training did not see, likewise; adds the curves of test loss and error.
        seed: Of the order of groups and of the examples.
        progress: As there.
        settings: Of the metric `alignment`: points, repair, restarts, samples.

    Returns:
        Numbers `barrier_before`, `barrier_after`, `distance_before`, ...; curves of loss and error
        along both straight lines; `model` is the permuted copy.

    Raises:
        UserError: As `hessian`; or if nothing can be permuted.
    """
    metric = with_settings(Alignment, settings, seed=seed, matching=method, pairs="chain")
    both = [*modules_of(model_a), *modules_of(model_b)]
    if len(both) != 2:
        what = f"aligns two models; {len(both)} given"
        raise UserValueError(what, where="align", fix="align(model_a, model_b, data)")
    with shown(wanted=progress):
        given = networks_of(both, data, loss, test)
        record, (found,) = aligned(given.networks, metric, [(0, 1)])
    record = measuring.checked(metric, record, given.networks.data.task)
    record = about(record if given.tested else without_test(record), metric.model_dump())
    params, buffers = found.network
    groups = found.symmetries.groups
    return Aligned(
        record,
        "paths",
        model=module_at(both[1], {**params, **buffers}),
        permutations=tuple(found.matching.permutations),
        places=tuple(tuple((p.name, p.axis) for p in group.places) for group in groups),
    )
