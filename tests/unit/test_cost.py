"""The model of time: its images are those that metrics send through networks, its rates sane."""

from dataclasses import replace

import pytest
import torch

from lossatlas import measuring, models
from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.simplex import Simplex
from lossatlas.metrics.simplex_volume import SimplexVolume
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec import catalogue, cost
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.spec.plan import PlannedCell
from lossatlas.spec.sizes import parameter_count
from lossatlas.training.networks import Networks

torch.set_num_threads(1)
TRAIN, HELD_OUT, TEST = 48, 12, 20
SHAPE = {"num_classes": 10, "in_channels": 1, "image_size": 8}
QUICK = {"epochs": 1, "batch_size": 24, "samples": 1}
ESPRO = Espro(vertices=1, draws=6, cycles=1, cycle_epochs=2, severities=[0.1], **QUICK)


def split(count: int) -> Split:
    draw = torch.Generator().manual_seed(count)
    return Split(torch.randn(count, 1, 8, 8, generator=draw), torch.arange(count) % 10)


def networks(builder: str, arguments: dict[str, int]) -> Networks:
    data = TensorData("toy", split(TRAIN), split(TEST), 10, split(HELD_OUT))
    modules = [models.build(builder, arguments, **SHAPE) for _ in range(2)]
    params, buffers = (stack(list(part)) for part in zip(*map(state_of, modules), strict=True))
    return Networks(Functional(modules[0]), params, buffers, [0, 1], data, epochs=1)


@pytest.mark.parametrize(
    ("builder", "arguments"),
    [("resnet_mnist", {"width": 1}), ("mlp", {"width": 4, "depth": 1})],
    ids=["BatchNorm", "none"],
)
@pytest.mark.parametrize(
    "settings",
    [
        Simplex(connectors=2, points=5, places=4, raster=3, images=16, **QUICK),
        SimplexVolume(connectors=2, regularisations=[0.1], points=3, **QUICK),
        ESPRO,
        ESPRO.model_copy(update={"swag_epochs": 2}),
    ],
    ids=["simplex", "simplex_volume", "espro", "espro with SWAG"],
)
def test_simplexes_evaluate_the_images_of_the_plan(
    builder: str, arguments: dict[str, int], settings: Spro, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes without gradients: of training, test, held-out and shifted images, and of BatchNorm's
    statistics at every point."""
    rows = catalogue.data_sources()
    images = replace(rows["digits"], train=TRAIN + HELD_OUT, test=TEST)
    monkeypatch.setitem(rows, "digits", images)
    data = DataPart(source="digits", fraction=TRAIN / (TRAIN + HELD_OUT))
    cell = Cell(data, ModelPart(builder=builder, **arguments), Recipe(epochs=1))
    planned = PlannedCell(cell, seeds=[0, 1])
    seen = 0
    one, many = Functional.__call__, Functional.many

    def count_one(self: Functional, params, buffers, x, *, train: bool):
        nonlocal seen
        seen += 0 if torch.is_grad_enabled() else len(x)
        return one(self, params, buffers, x, train=train)

    def count_many(self: Functional, params, buffers, x, *, train: bool):
        nonlocal seen
        alone = len(x) == 1 or torch.is_grad_enabled()  # the one network is counted above
        seen += 0 if alone else len(x) * x.shape[1]
        return many(self, params, buffers, x, train=train)

    monkeypatch.setattr(Functional, "__call__", count_one)
    monkeypatch.setattr(Functional, "many", count_many)
    measuring.measure_networks(settings, networks(builder, arguments))
    *_, (passes, _, size) = settings.passes(planned)
    assert passes * size == pytest.approx(seen, rel=0.1)


@pytest.mark.parametrize(
    "builder", [name for name, one in catalogue.NETWORKS.items() if "square" in one.inputs]
)
def test_networks_with_batchnorm_are_known(builder: str) -> None:
    network = catalogue.NETWORKS[builder]
    shape = {"num_classes": 10, "in_channels": network.channels or 3, "image_size": 32}
    module = models.build(builder, {"width": 2}, **shape)
    assert Functional(module).has_norms is network.norms


def test_narrow_networks_have_less_of_a_cpu_s_arithmetic() -> None:
    """Steps of 128 images on one core: 2.3 GFLOP/s at width 2, 21 at 8, 40 at 32, 50 at 64."""
    for width, measured in ((2, 2.3e9), (8, 2.1e10), (32, 4.0e10), (64, 5.0e10)):
        part = ModelPart(builder="resnet18", width=width)
        planned = PlannedCell(Cell(DataPart(source="cifar10"), part, Recipe()))
        size = parameter_count(planned.cell) or 0
        assert 0.4 < cost.LAPTOP.rate(size) / measured < 3.2
        assert cost.GPU.rate(size) == pytest.approx(cost.GPU.flops)


def test_deep_networks_take_longer_to_launch() -> None:
    """Of two images: 25, 94 and 206 ms a step for 14, 56 and 110 layers, on one core."""
    seconds = {}
    for depth in (14, 56, 110):
        part = ModelPart(builder="resnet_cifar", depth=depth)
        cell = Cell(DataPart(source="cifar10"), part, Recipe(epochs=1, batch_size=2))
        hours = cost.training_hours(PlannedCell(cell, [0], blocks={"0": [0]}), cost.GPU)
        seconds[depth] = (hours - cost.START) * 3600 / 25_000
    assert seconds[14] == pytest.approx(cost.GPU.seconds_per_step)
    for depth, measured in ((56, 94 / 25), (110, 206 / 25)):
        assert 0.5 < seconds[depth] / seconds[14] / measured < 2
