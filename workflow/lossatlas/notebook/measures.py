"""One call each: curvature, connection, similarity, simplexes and planes of the user's own models.

Each function takes modules and data as they are, measures with the formulas of the metrics, and
gives the numbers of `lossatlas metric` on the same models and data, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lossatlas import measuring
from lossatlas.connectivity.evaluate import shuffled
from lossatlas.errors import UserValueError
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.distance import Distance
from lossatlas.metrics.hessian import Hessian
from lossatlas.metrics.registry import with_settings
from lossatlas.metrics.simplex import Simplex
from lossatlas.models.functional import unflatten
from lossatlas.notebook.networks import modules_of, networks_of, with_statistics
from lossatlas.notebook.results import Connection, Result, Simplexes, about
from lossatlas.progress import shown
from lossatlas.store import Record, Table
from lossatlas.training.networks import Networks

if TYPE_CHECKING:
    from lossatlas.simplex.complexes import Complex
    from lossatlas.simplex.spro import Grown

Models = nn.Module | Sequence[nn.Module]


def hessian(
    models: Models,
    data: Any,
    *,
    loss: Any = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Measure the Hessian of the mean loss: largest eigenvalues, trace, spectral density.

    The networks are in evaluation mode. Formulas: `lossatlas.curvature`.

    Args:
        models: A module, or several of one architecture.
        data: (inputs, targets), a Dataset, a DataLoader without shuffling, or what `lossatlas.load`
            gives; the loss is taken on `samples` of them.
        loss: The name of a task, a `lossatlas.Task`, a loss of torch, or a function of outputs and
            targets that returns the mean or a number for each example; default: classification.
        seed: Of the examples and of the probes.
        progress: Whether to show progress, on a terminal or in a notebook.
        settings: Of the metric `hessian`: eigenvalues, samples, probes, tolerance, parameters, ...

    Returns:
        Numbers `hessian_eigenvalue`, `hessian_eigenvalue_2`, ..., `hessian_trace` of each model;
        curves `hessian_ritz` and `hessian_density`.

    Raises:
        UserError: If the models, data or settings are not such.
    """
    metric = with_settings(Hessian, settings, seed=seed)
    with shown(wanted=progress):
        networks = networks_of(models, data, loss).networks
        record = measuring.measure_networks(metric, networks)
    return Result(about(record, metric.model_dump()), "spectrum")


def connect(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Any,
    *,
    loss: Any = None,
    test: Any = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Connection:
    """Train a curve of low loss between two networks, and compare it with the straight line.

    Source: Garipov et al. (2018); formulas: `lossatlas.connectivity`.

    Args:
        model_a: One end.
        model_b: The other end, of the same architecture.
        data: Training data, as `hessian`.
        loss: As there.
        test: Data that training did not see, likewise; adds the curves of test loss and error.
        seed: Of the order of the data and of the places on the curve.
        progress: As there.
        settings: Of the metric `connectivity`: epochs, batch_size, learning_rate, optimiser, ...

    Returns:
        Numbers `mode_connectivity`, `path_dip`, `path_bump`, `linear_barrier`; curves of loss and
        error by `path`; `module(t)` is the network at a place on the curve.

    Raises:
        UserError: As `hessian`.
    """
    from lossatlas.connectivity import measure

    metric = with_settings(Connectivity, settings, seed=seed, pairs="chain")
    both = [*modules_of(model_a), *modules_of(model_b)]
    if len(both) != 2:
        what = f"connects two models; {len(both)} given"
        raise UserValueError(what, where="connect", fix="connect(model_a, model_b, data)")
    with shown(wanted=progress):
        given = networks_of(both, data, loss, test, trains=True)
        networks, pairs = given.networks, [(0, 1)]
        curves = measure.fit(networks, metric, pairs)
        record = measure.evaluate(networks, metric, pairs, curves)
    record = measuring.checked(metric, record, networks.data.task)
    record = about(record if given.tested else without_test(record), metric.model_dump())

    def module(t: float) -> nn.Module:
        train = shuffled(networks.data.train, "connectivity", seed)
        return with_statistics(both[0], networks.functional, curves[0].at(t), train.images)

    return Connection(record, "paths", _module=module)


def similarity(
    models: Sequence[nn.Module],
    data: Any,
    *,
    loss: Any = None,
    test: Any = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Compare every two networks: features (CKA), weights and predictions.

    Source: Yang et al. (2021); formulas: `lossatlas.similarity`.

    Args:
        models: Two or more modules of one architecture.
        data: As `hessian`; features are compared on these.
        loss: As there.
        test: Data on which predictions are compared; default: `data`.
        seed: Of the examples and of the blends.
        progress: As there.
        settings: Of the metric `cka`: layers, samples, mixup_alpha, ...

    Returns:
        Numbers of each pair: `cka`, `l2_distance`, `normalised_distance`, `disagreement`,
        `js_divergence`, `logit_cosine` and those of other layers.

    Raises:
        UserError: As `hessian`.
    """
    metric = with_settings(Cka, settings, seed=seed)
    with shown(wanted=progress):
        given = networks_of(models, data, loss, test, least=2)
        networks = given.networks
        record = measuring.measure_networks(metric, networks)
        if not given.tested:
            whole = replace(networks.data, test=networks.data.train)
            networks = replace(networks, data=whole)
        apart = measuring.measure_networks(Distance(), networks)
    record.kind = "similarity"
    record.scalars += apart.scalars
    return Result(about(record, metric.model_dump()), "pairs")


def grow_simplex(
    models: Models,
    data: Any,
    *,
    connectors: int = 3,
    loss: Any = None,
    test: Any = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Simplexes:
    """Grow simplexes of low loss: between several networks, or from one.

    Several networks become vertices of one simplex each, which share the connectors; from one
    network a single simplex grows. Source: Benton et al. (2021); formulas: `lossatlas.simplex`.

    Args:
        models: One module, or several of one architecture.
        data: Training data, as `hessian`.
        connectors: Vertices to train.
        loss: As there.
        test: Data that training did not see, likewise; adds columns of test loss and error.
        seed: Of the order of the data, of points and of starts.
        progress: As there.
        settings: Of the metric `simplex`: epochs, batch_size, regularisation, points, raster, ...

    Returns:
        Numbers `mode_loss`, `inside_loss`, `inside_loss_max`, ...; tables `volumes`, `plane`, ...;
        `vertices`; `module(w0=0.5, c0=0.5)` is the network at a mixture of vertices.

    Raises:
        UserError: As `hessian`.
    """
    from lossatlas.simplex import measure

    modules = modules_of(models)
    shape = "shared" if len(modules) > 1 else "single"
    fixed: Any = {"complex": settings.pop("complex", shape), "modes": len(modules), "repeats": 1}
    metric = with_settings(Simplex, settings, seed=seed, connectors=connectors, **fixed)
    with shown(wanted=progress):
        given = networks_of(modules, data, loss, test, trains=True)
        networks = given.networks
        asked, *_ = measure.plans_of(networks.seeds, metric)
        planes = [asked.indices(names, "planes") for names in metric.planes]
        plan, grown = measure.train(networks, asked, metric)
        record = measure.evaluate(networks, plan, grown, metric, planes)
    record = measuring.checked(metric, record, networks.data.task)
    record = about(record if given.tested else without_test(record), metric.model_dump())
    return _simplexes(record, modules[0], networks, plan, grown)


def plane(
    models: Models,
    data: Any,
    *,
    points: int = 21,
    examples: int = 512,
    extent: float = 1.0,
    loss: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Map the loss on a plane: through three networks, or around one.

    Around one network the plane has two random filter-normalised directions (Li et al., 2018), and
    BatchNorm keeps its statistics. Between three, those are estimated anew at every point.

    Args:
        models: One module, or three of one architecture.
        data: As `hessian`.
        points: Along each side.
        examples: In the loss, the same at all points.
        extent: Around one network, half the side in lengths of the directions.
        loss: As there.
        seed: Of the examples and of the directions.
        progress: As there.

    Returns:
        Numbers `corner_loss`, `inside_loss_max` and `outside_loss_max`, or `centre_loss` and
        `plane_loss_max`; the table `plane`.

    Raises:
        UserError: As `hessian`; or if there are not one or three networks, or three on one line.
    """
    from lossatlas.simplex import triangle

    modules = modules_of(models)
    if len(modules) not in (1, 3):
        what = f"a plane goes through three models, or around one; {len(modules)} given"
        fix = "connect(model_a, model_b, data) has the line between two"
        raise UserValueError(what, where="models", fix=fix)
    told = {"points": points, "examples": examples, "extent": extent, "seed": seed}
    _check_numbers(told)
    with shown(wanted=progress):
        networks = networks_of(modules, data, loss).networks
        if len(modules) == 3:
            words = (seed,) if seed else ()
            record = triangle.measure(networks, points, examples, *words)
        else:
            record = _around(networks, points, examples, extent, seed)
    draw = "triangle" if len(modules) == 3 else "square"
    return Result(about(record, told), draw)


def _around(networks: Networks, points: int, examples: int, extent: float, seed: int) -> Record:
    """Map the loss on a plane of random directions around one network."""
    from lossatlas.diffusion import landscape
    from lossatlas.similarity.rows import scalar

    some = landscape.images_of(networks.data.train, examples, seed)
    loss = landscape.plane(networks, 0, some, points, extent, seed)
    centre = landscape.plane(networks, 0, some, 1, 0.0, seed)
    places = np.linspace(-extent, extent, points)
    u, v = np.meshgrid(places, places)
    unit = networks.data.task.unit
    columns = {"u": u.ravel(), "v": v.ravel(), "loss": loss.ravel()}
    table = Table("plane", columns, 0, units={"loss": unit})
    rows = [
        scalar("centre_loss", float(centre[0, 0]), replica=0, unit=unit),
        scalar("plane_loss_max", float(loss.max()), replica=0, unit=unit),
    ]
    return Record("plane", rows, tables=[table])


def _simplexes(
    record: Record, first: nn.Module, networks: Networks, plan: Complex, grown: Grown
) -> Simplexes:
    """Return what was grown, with its vertices."""
    names = tuple(plan.names)

    def module(weights: Mapping[str, float]) -> nn.Module:
        parts = [share * grown.vertices[names.index(name)] for name, share in weights.items()]
        point = unflatten(torch.stack(parts).sum(0), networks.functional.shapes)
        network = point, networks.one(0)[1]
        train = shuffled(networks.data.train, "simplex", record.settings["seed"])
        return with_statistics(first, networks.functional, network, train.images)

    about: Any = {"vertices": grown.vertices, "names": names, "_module": module}
    return Simplexes(record, "planes", **about)


def without_test(record: Record) -> Record:
    """Leave out what was measured on test examples, of which there were none."""
    record.scalars = [row for row in record.scalars if not row.name.startswith("test_")]
    record.series = [one for one in record.series if not one.name.startswith("test_")]
    record.tables = [
        replace(
            table,
            columns={k: v for k, v in table.columns.items() if not k.startswith("test_")},
            units={k: v for k, v in table.units.items() if not k.startswith("test_")},
        )
        for table in record.tables
    ]
    record.arrays.pop("stored_values", None)
    return record


def _check_numbers(told: Mapping[str, Any]) -> None:
    """Refuse sizes and seeds that are none."""
    least = {"points": 2, "examples": 1, "seed": 0}
    for name, low in least.items():
        value = told[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            fix = f"a whole number from {low} up"
            raise UserValueError(f"is {value!r}", where=name, fix=fix)
    if not told["extent"] > 0:
        raise UserValueError(f"is {told['extent']!r}", where="extent", fix="a number above 0")
