"""What jobs ask for grows with their work and their attempt, and is never below what works."""

import pytest

from lossatlas.metrics.base import Memory
from lossatlas.spec import needs
from lossatlas.spec.config import load
from lossatlas.spec.plan import PlannedCell, make_plan


def cells(width: list[int], batch: list[int], seeds: int = 2) -> list[PlannedCell]:
    experiment = {
        "dataset": "cifar10",
        "model": "resnet18",
        "recipe": "long",
        "load": {"width": width},
        "temperature": {"batch_size": batch},
        "seeds": seeds,
        "metrics": ["performance", "hessian", "connectivity", "cka"],
    }
    config = {
        "datasets": {"cifar10": None},
        "models": {"resnet18": None},
        "recipes": {"long": {"epochs": 150}},
        "experiments": {"e": experiment},
    }
    plan = make_plan(load(config), lambda _: [])
    return list(plan.cells.values())


KINDS = ("performance", "hessian", "connectivity", "cka")


def settings(name: str):
    from lossatlas.metrics import registry

    return registry.built_in()[name]()


def test_training_grows_with_width_batch_replicas_and_attempt() -> None:
    small, larger = cells([64], [128, 1024])
    wide = cells([128], [128])[0]
    memory = needs.training_mb(small, 1)
    assert memory < needs.training_mb(larger, 1)
    assert memory < needs.training_mb(wide, 1)
    assert memory < needs.training_mb(small, 4)
    assert needs.training_mb(small, 1, 3) == 3 * memory
    assert needs.training_minutes(small, 2) == 2 * needs.training_minutes(small)


def test_no_job_asks_for_more_than_the_walltime() -> None:
    wide = cells([128], [16])[0]
    assert needs.training_minutes(wide, 9, limit=24.0) == 24 * 60
    assert needs.metric_minutes(wide, settings("connectivity"), 3, limit=0.5) == 30
    small = cells([2], [1024])[0]
    assert needs.training_minutes(small, 1, limit=24.0) == needs.training_minutes(small)


def test_recording_asks_for_its_ring() -> None:
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.parts import DataPart, ModelPart, Recipe, Recording

    def asked(replicas: int, record: Recording | None) -> int:
        recipe = Recipe(epochs=10, batch_size=1024, record=record)
        part = ModelPart(builder="vgg9")
        planned = PlannedCell(Cell(DataPart(source="cifar10"), part, recipe))
        return needs.training_mb(planned, replicas)

    short = Recording(length=100, stride=1000, projection=0, gradients=0, reservoir=0)
    ring = 4 * 2_789_706 * 100 / 1e6
    assert ring < asked(1, short) - asked(1, None) < 1.1 * ring
    assert asked(2, short) - asked(2, None) > 2 * ring
    deep = recorded(1000, 4000)  # norms of the gradients of 335 tensors in float64
    tables = 195_500 * (4 * (1024 + 256 + 16) + 8 * 335) + 49 * 8e6
    file = tables - 49 * 4e6  # which is put together in memory: of windows, one triangle
    assert needs._recorded_mb(deep) > (tables + file + 4 * 1000 * 1_730_714) / 1e6


def recorded(length: int, stride: int, snapshots: int = 0) -> PlannedCell:
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.parts import DataPart, ModelPart, Recipe, Recording

    record = Recording(length=length, stride=stride, snapshots=snapshots)
    recipe = Recipe(epochs=500, batch_size=128, incomplete_batch="keep", record=record)
    part = ModelPart(builder="resnet_cifar", depth=110)
    return PlannedCell(Cell(DataPart(source="cifar10"), part, recipe), seeds=[0, 1, 2])


def test_paths_are_read_whole() -> None:
    """Of 195,500 steps the projection alone has 0.8 GB per replica; windows come on top."""
    usual, long = recorded(1000, 4000), recorded(10000, 10000)
    memory = needs.metric_mb(usual, settings("diffusion"))
    assert memory > 3 * 195_500 * 4 * (1024 + 256 + 2 * 335) / 1e6
    windows = 3 * 19 + 14  # of 800 MB each, and what the analysis of one holds
    assert needs.metric_mb(long, settings("diffusion")) > windows * 800
    assert needs.metric_mb(usual, settings("diffusion"), 2) == 2 * memory
    minutes = [needs.metric_minutes(p, settings("diffusion")) for p in (usual, long)]
    assert minutes[1] > 3 * 19 * 1e8 * 1e-6 / 60 > minutes[0] >= needs.LEAST_MINUTES
    for kind in ("landscape", "hessian_path"):
        more = needs.metric_mb(recorded(1000, 4000, 5), settings(kind))
        kept = 3 * 101 * 1_730_714 * 4 / 1e6
        assert more - needs.metric_mb(usual, settings(kind)) > 0.9 * kept


def test_planes_and_spectra_along_the_path_take_time() -> None:
    """A plane is side^2 passes; a spectrum is wanted at each of the 101 kept weights."""
    from lossatlas.metrics.hessian_path import HessianPath
    from lossatlas.metrics.landscape import Landscape
    from lossatlas.spec.cost import GPU, job_hours

    usual, kept = recorded(1000, 4000), recorded(1000, 4000, 5)
    hours = {side: job_hours(usual, Landscape(side=side), GPU) for side in (65, 129)}
    assert hours[65] > 3 * 65**2 * GPU.seconds_per_step / 3600
    assert hours[129] > 3 * hours[65]
    assert job_hours(kept, Landscape(), GPU) > 1.9 * hours[65]
    spectra = job_hours(kept, HessianPath(iterations=50, density_probes=0), GPU)
    assert spectra > 3 * 101 * 50 * GPU.seconds_per_step / 3600
    assert job_hours(kept, HessianPath(mode="paper", iterations=50), GPU) > 10 * spectra


def test_the_basis_of_lanczos_is_counted() -> None:
    """A vector as long as the parameters for each product that extends it."""
    from lossatlas.metrics.hessian import Hessian
    from lossatlas.metrics.hessian_path import HessianPath

    (wide,) = cells([128], [128])
    vector = 1.3 * 4 * 44.7
    for short, long, count in (
        (HessianPath(iterations=50), HessianPath(iterations=150), 200),  # and one for copies
        (Hessian(iterations=50), Hessian(iterations=150), 100),
        (Hessian(probes=40), Hessian(probes=240), 100),
    ):
        more = needs.metric_mb(wide, long) - needs.metric_mb(wide, short)
        assert more == pytest.approx(count * vector, rel=0.01)


def test_a_product_holds_the_images_of_one_pass() -> None:
    """Of 128 images, a product of ResNet18 of width 16 held 702 MB: 5.5 MB an image."""
    from lossatlas.metrics.hessian import Hessian

    (one,) = cells([16], [128])
    asked = {c: needs.metric_mb(one, Hessian(samples=8000, chunk=c)) for c in (500, 1000, 8000)}
    assert asked[500] == needs.metric_mb(one, Hessian(samples=500, chunk=8000))
    for images, memory in asked.items():
        assert 5.5 * images < memory - needs.BASE_MB
    assert asked[8000] > 8 * 5.5 * 1000 > 3 * asked[1000]


def test_vectors_of_complexes_are_counted() -> None:
    """Against peaks of jobs on 8 replicas of 1.5 million parameters, less 20 for the process."""
    from lossatlas.metrics.base import Metric
    from lossatlas.metrics.espro import Espro
    from lossatlas.metrics.simplex import Simplex
    from lossatlas.metrics.simplex_volume import SimplexVolume

    (wide,) = cells([128], [128])
    (vector, own) = 1.3 * 4 * 44.7, needs.metric_mb(wide, Metric())
    shared = Simplex(modes=4, connectors=3)
    listed = Simplex(complex=[[f"w{i}", "c0", "c1", "c2"] for i in range(4)])
    peaks = ((shared, 110), (SimplexVolume(connectors=6), 142), (Espro(vertices=3), 158))
    for asked, peak in peaks:
        more = (needs.metric_mb(wide, asked) - own) / vector
        assert more + 2 * 8 + 8 > peak - 20
    assert needs.metric_mb(wide, listed) == needs.metric_mb(wide, shared)


def test_a_network_of_the_user_s_own_has_hours() -> None:
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.parts import DataPart, ModelPart, Recipe

    part = ModelPart(builder="mynet:Net")
    own = PlannedCell(Cell(DataPart(source="cifar10"), part, Recipe()), seeds=[0, 1])
    assert needs.training_minutes(own) == needs.UNKNOWN_MINUTES
    assert needs.metric_minutes(own, settings("hessian"), 2) == 2 * needs.UNKNOWN_MINUTES
    assert needs.training_mb(own, 2, 3) == 3 * needs.UNKNOWN_MB


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_grow_with_width_and_attempt(kind: str) -> None:
    narrow, wide = cells([1, 256], [128])
    least = needs.metric_mb(narrow, settings(kind))
    assert needs.LEAST_MB <= least < needs.metric_mb(wide, settings(kind))
    assert needs.metric_mb(narrow, settings(kind), 2) == 2 * least
    assert needs.metric_minutes(narrow, settings(kind)) >= needs.LEAST_MINUTES


@pytest.mark.parametrize(
    ("builder", "arguments"),
    [
        ("resnet18", {"width": 16}),
        ("resnet_imagenet", {"width": 4, "depth": 152}),
        ("resnet_cifar", {"depth": 110}),
        ("preresnet", {"depth": 164}),
        ("densenet", {"width": 8}),
        ("densenet40", {}),
        ("vgg9", {}),
        ("vgg11", {}),
        ("alexnet", {}),
        ("vit_token", {"width": 8}),
    ],
)
def test_activations_are_covered(builder: str, arguments: dict) -> None:
    """The estimate holds what autograd keeps: counted, for a width and a batch."""
    import torch

    from lossatlas import models
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.parts import DataPart, ModelPart, Recipe

    part = ModelPart(builder=builder, **arguments)
    planned = PlannedCell(Cell(DataPart(source="cifar10"), part, Recipe()))
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    module = models.build(builder, arguments, **shape).train()
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(torch.randn(2, 3, 32, 32))
    del output
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    counted = sum(size for place, size in held.items() if place not in own) / 2
    with_batch = needs._mb(planned, Memory(0, 64_000), 1) - needs._mb(planned, Memory(0, 32_000), 1)
    assert with_batch / 32_000 > counted / 1e6


def test_a_device_named_cpu_asks_for_no_gpu_and_more_time(monkeypatch) -> None:
    monkeypatch.delenv("LOSSATLAS_DEVICE", raising=False)
    planned = cells([64], [128])[0]
    minutes = needs.training_minutes(planned)
    assert needs.gpu() == 1
    monkeypatch.setenv("LOSSATLAS_DEVICE", "cpu")
    assert needs.gpu() == 0
    assert needs.training_minutes(planned) > 10 * minutes


def test_narrow_networks_take_one_thread_and_share_a_gpu() -> None:
    narrow, wide = cells([8, 64], [128])
    assert (needs.threads(narrow), needs.wide(narrow)) == (1, False)
    assert (needs.threads(wide), needs.wide(wide)) == (2, True)
