"""Each task with each metric: against losses written out by hand and the autograd of torch."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.connectivity.curves import straight_line
from lossatlas.connectivity.evaluate import evaluate_path
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data.tensors import Named, repeated
from lossatlas.measuring import measure_networks
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.distance import Distance
from lossatlas.metrics.hessian import Hessian
from lossatlas.metrics.landscape import Landscape
from lossatlas.metrics.performance import Performance
from lossatlas.metrics.simplex import Simplex
from lossatlas.models.functional import Functional, flatten, stack, state_of, unflatten
from lossatlas.simplex.spro import loss_and_gradient
from lossatlas.spec.parts import Recipe
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.networks import Networks
from task_cases import ALL, SEQUENCES, by_hand, call, data, module

torch.set_num_threads(1)


def double(task: str, seed: int = 0) -> nn.Module:
    return initialise(lambda: module(task), seed).double()


@cache
def networks(task: str, padding: int = 0) -> Networks:
    """Two networks in double precision, at their initial weights."""
    states = [state_of(double(task, seed)) for seed in (0, 1)]
    params, buffers = (stack([state[part] for state in states]) for part in (0, 1))
    found = data(task, torch.float64, padding)
    return Networks(Functional(double(task)), params, buffers, [0, 1], found)


def loss_at(task: str, vector: torch.Tensor, *, train: bool = True) -> float:
    """Return the loss by hand at weights (P,)."""
    network, found = double(task), data(task, torch.float64)
    torch.nn.utils.vector_to_parameters(vector, network.parameters())
    split = found.train if train else found.test
    with torch.no_grad():
        return by_hand(task, call(network, split), split.labels)


def vectors(task: str) -> list[torch.Tensor]:
    return [flatten(networks(task).one(index)[0]) for index in (0, 1)]


@pytest.mark.parametrize("task", ALL)
def test_losses_of_several_networks(task: str) -> None:
    split, found = data(task, torch.float64).train, networks(task)
    outputs = found.functional.many(
        found.params, found.buffers, repeated(split.images, 2), train=False
    )
    labels = split.labels.expand(2, *split.labels.shape)
    means = split.task.means(outputs, labels)
    for one, mean in zip(outputs, means, strict=True):
        expected = by_hand(task, one, split.labels)
        assert float(mean) == pytest.approx(expected, rel=1e-9)
        assert float(split.task.mean(one, split.labels)) == pytest.approx(expected, rel=1e-9)
        total, _, units = split.task.totals(one, split.labels).tolist()
        assert total / units == pytest.approx(expected, rel=1e-9)
    parts = [split.take(slice(0, 5)), split.take(slice(5, None))]  # unequal numbers of tokens
    units = [float(split.task.units(part.labels[None])) for part in parts]
    network = double(task).requires_grad_(False)
    pieces = [split.task.mean(call(network, part), part.labels) for part in parts]
    whole = sum(float(p) * u for p, u in zip(pieces, units, strict=True)) / sum(units)
    assert whole == pytest.approx(float(means[0]), rel=1e-9)


@pytest.mark.parametrize("task", ALL)
def test_performance(task: str) -> None:
    record = measure_networks(Performance(), networks(task))
    rows = {(row.name, row.replica): row for row in record.scalars}
    for seed, vector in enumerate(vectors(task)):
        for name in ("train", "test"):
            expected = loss_at(task, vector, train=name == "train")
            assert rows[f"{name}_loss", seed].value == pytest.approx(expected, rel=1e-6)
    scored = task != "regression"
    assert (("train_accuracy", 0) in rows) is scored
    assert rows["train_loss", 0].unit == ("nats" if scored else "squared")
    if task in SEQUENCES:
        split = data(task, torch.float64).train
        guesses, counts = call(double(task), split).argmax(-1), split.labels != -100
        right = float((guesses == split.labels)[counts].double().mean())
        assert rows["train_accuracy", 0].value == pytest.approx(100 * right)


@pytest.mark.parametrize("chunk", [100, 7])
@pytest.mark.parametrize("task", ALL)
def test_hessian(task: str, chunk: int) -> None:
    """Against autograd of a loss of one's own, and its gradient against central differences."""
    split, found = data(task, torch.float64).train, networks(task)
    params, buffers = found.one(0)
    operator = HessianOperator(
        found.functional, params, buffers, split.images, split.labels, loss=split.task, chunk=chunk
    )

    def loss(vector: torch.Tensor) -> torch.Tensor:
        outputs = found.functional(unflatten(vector, params), buffers, split.images, train=False)
        return reference(task, outputs, split.labels)

    start = flatten(params)
    expected = torch.autograd.functional.hessian(loss, start)
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(len(start), generator=draw, dtype=torch.float64)
    torch.testing.assert_close(operator(direction), expected @ direction, rtol=1e-7, atol=1e-9)
    ends = [loss_at(task, start + sign * 1e-5 * direction) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / 2e-5
    assert float(operator.gradient() @ direction) == pytest.approx(slope, rel=1e-6)
    record = measure_networks(Hessian(chunk=chunk, samples=100, density_probes=0), found)
    top = next(row for row in record.scalars if row.name == "hessian_eigenvalue")
    values = torch.linalg.eigvalsh(expected)
    assert top.value == pytest.approx(float(values[values.abs().argmax()]), rel=1e-3)


def reference(task: str, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss as the functions of torch define it."""
    if task == "regression":
        return nn.functional.mse_loss(outputs, targets)
    if task == "multi_label":
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets)
    if task in SEQUENCES:
        outputs = outputs.transpose(1, 2)  # as cross_entropy wants them: (N, classes, L)
    return nn.functional.cross_entropy(outputs, targets)


@pytest.mark.parametrize("task", ALL)
def test_paths_and_planes(task: str) -> None:
    found = networks(task)
    ends = found.one(0), found.one(1)
    t = np.linspace(0, 1, 5)
    line = straight_line(*ends)
    path = evaluate_path(found.functional, line, found.data.train, found.data.test, t)
    first, last = vectors(task)
    expected = [loss_at(task, torch.lerp(first, last, float(place))) for place in t]
    assert path.values("train_loss") == pytest.approx(expected, rel=1e-9)
    plane = Landscape(samples=100, side=17)
    table = measure_networks(plane, found).tables[0].columns
    middle = np.flatnonzero((np.abs(table["u"]) < 1e-9) & (np.abs(table["v"]) < 1e-9))
    assert table["loss"][middle] == pytest.approx([loss_at(task, first)], rel=1e-6)


@pytest.mark.parametrize("task", ALL)
def test_metrics_that_train(task: str) -> None:
    """Curves and simplexes end lower than they began; their ends are the replicas."""
    found = networks(task)
    curve = Connectivity(epochs=12, batch_size=8, learning_rate=0.05, points=5)
    record = measure_networks(curve, found)
    losses = {one.index["path"]: one.y for one in record.series if one.name == "train_loss"}
    ends = [loss_at(task, vector) for vector in vectors(task)]
    for kind in ("linear", "bezier"):
        assert losses[kind][[0, -1]] == pytest.approx(ends, rel=1e-6)
    assert losses["bezier"][2] < losses["linear"][2]
    scalars = {row.name: row for row in record.scalars}
    unit = "percent" if task != "regression" else "squared"
    assert scalars["mode_connectivity"].unit == unit
    assert scalars["mode_connectivity"].status == "ok"
    simplex = Simplex(epochs=8, batch_size=8, learning_rate=0.05, points=3, raster=5, connectors=1)
    rows = {row.name: row for row in measure_networks(simplex, found).scalars}
    assert rows["path_loss_max"].value <= max(*ends, losses["linear"].max()) * (1 + 1e-6)


@pytest.mark.parametrize("task", ALL)
def test_gradients_at_points_of_a_simplex(task: str) -> None:
    found = networks(task)
    first, last = vectors(task)
    weights = torch.tensor([[0.25, 0.75], [0.6, 0.4]], dtype=torch.float64)
    split = found.data.train
    loss, gradient = loss_and_gradient(
        found.functional, found.one(0)[1], first[None], last, weights, split
    )
    points = weights[:, :1] * first + weights[:, 1:] * last
    assert float(loss) == pytest.approx(np.mean([loss_at(task, one) for one in points]), rel=1e-9)
    direction = torch.randn(len(first), generator=torch.Generator().manual_seed(1)).double()
    moved = [
        np.mean([loss_at(task, p + s * w * direction) for p, w in zip(points, weights[:, 1])])  # noqa: B905
        for s in (1e-5, -1e-5)
    ]
    assert float(gradient @ direction) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("task", ALL)
def test_similarity_and_distance(task: str) -> None:
    found = networks(task)
    rows = {row.name: row for row in measure_networks(Distance(), found).scalars}
    first, last = vectors(task)
    assert rows["l2_distance"].value == pytest.approx(float((first - last).norm()), rel=1e-6)
    with_classes = task not in ("regression", "multi_label")
    assert ("disagreement" in rows) is with_classes
    split = found.data.test
    outputs = [call(double(task, seed), split).detach() for seed in (0, 1)]
    if task in SEQUENCES:
        outputs = [one[split.labels != -100] for one in outputs]
    cosine = nn.functional.cosine_similarity(*(one.flatten() for one in outputs), dim=0)
    assert rows["logit_cosine"].value == pytest.approx(float(cosine), rel=1e-5)
    cka = Cka(layers=["output"], mixup_alpha=0.0, samples=100)
    rows = {row.name: row for row in measure_networks(cka, found).scalars}
    features = []
    for seed in (0, 1):
        one = call(double(task, seed), found.data.train)
        if task in SEQUENCES:
            one = one.masked_fill((found.data.train.labels == -100)[..., None], 0.0)
        features.append(one.flatten(1) - one.flatten(1).mean(0))
    k, m = (x @ x.T for x in features)
    expected = float((k * m).sum() / (k.norm() * m.norm()))
    assert rows["cka_biased"].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", SEQUENCES)
def test_more_padding_changes_nothing(task: str) -> None:
    for metric in (
        Performance(),
        Hessian(samples=100, density_probes=0),
        Cka(samples=100),
        Distance(),
        Connectivity(epochs=2, batch_size=8, points=5),
    ):
        plain, padded = (
            {(r.name, r.replica): r.value for r in measure_networks(metric, one).scalars}
            for one in (networks(task), networks(task, padding=5))
        )
        assert plain.keys() == padded.keys()
        for key, value in plain.items():
            assert padded[key] == pytest.approx(value, rel=1e-6, abs=1e-9), (metric.kind, key)


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, 0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.01),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("task", ALL)
def test_training_is_that_of_torch(task: str, name: str) -> None:
    """Two replicas, clipped gradients and a warm-up, against one network after another."""
    split = data(task).train
    recipe = Recipe(
        epochs=3,
        batch_size=24,
        learning_rate=0.02,
        optimiser=name,
        momentum=0.9,
        betas=(0.8, 0.95),
        epsilon=1e-3,
        weight_decay=0.01,
        clip_norm=0.3,
        warmup_steps=2,
        inverse_sqrt=True,
    )
    trained = Engine(lambda: module(task), recipe, [0, 1], split).train()
    for index, seed in enumerate((0, 1)):
        network = initialise(lambda: module(task), seed)
        optimiser = OPTIMISERS[name](network.parameters())
        for step in range(3):
            optimiser.param_groups[0]["lr"] = 0.02 * [0.5, 1.0, (2 / 3) ** 0.5][step]
            optimiser.zero_grad()
            loss = reference(task, call(network, split), split.labels)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.3)
            optimiser.step()
            assert trained.history["train_loss"][step, index] == pytest.approx(
                loss.item(), rel=1e-4
            )
        for key, value in network.named_parameters():
            found = trained.checkpoints["final"][0][key][index]
            torch.testing.assert_close(found, value.detach(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("task", ["classification", "language_model"])
def test_smoothed_labels_are_minimised_and_plain_losses_reported(task: str) -> None:
    split = data(task).train
    recipe = Recipe(epochs=1, batch_size=24, label_smoothing=0.2, learning_rate=0.1, momentum=0.0)
    recipe = recipe.model_copy(update={"weight_decay": 0.0})
    trained = Engine(lambda: module(task), recipe, [3], split).train()
    network = initialise(lambda: module(task), 3)
    outputs = call(network, split)
    plain = reference(task, outputs, split.labels).item()
    assert trained.history["train_loss"][0, 0] == pytest.approx(plain, rel=1e-5)
    columns = outputs if task == "classification" else outputs.transpose(1, 2)
    smoothed = nn.functional.cross_entropy(columns, split.labels, label_smoothing=0.2)
    slopes = torch.autograd.grad(smoothed, list(network.parameters()))
    for (key, value), slope in zip(network.named_parameters(), slopes, strict=True):
        found = trained.checkpoints["final"][0][key][0]
        torch.testing.assert_close(found, (value - 0.1 * slope).detach(), rtol=1e-4, atol=1e-6)


def test_named_inputs_are_cut_like_tensors() -> None:
    images = data("sequence_to_sequence").train.images
    assert isinstance(images, Named)
    pieces = images.split(10)
    assert [len(piece) for piece in pieces] == [10, 10, 4]
    assert torch.equal(pieces[1].tensors["source"], images.tensors["source"][10:20])
