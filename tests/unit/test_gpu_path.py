"""What a GPU would run, on a machine without one: the functions that jobs call, on `meta` tensors.

No operation may mix devices, and between two ends of an epoch (or of a window, a point of a curve,
a product) the host may wait for the device no more often than is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from lossatlas import device, models
from lossatlas.connectivity.evaluate import evaluate_point
from lossatlas.connectivity.fit import CurveFit
from lossatlas.curvature.lanczos import Lanczos
from lossatlas.curvature.operator import HessianOperator, hessian_at
from lossatlas.data.augment import Augmentation
from lossatlas.data.tensors import Split, TensorData
from lossatlas.errors import UserError
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import flatten, reestimate_norms
from lossatlas.similarity import alignment
from lossatlas.similarity.performance import measure_replicas
from lossatlas.simplex import spro
from lossatlas.simplex.complexes import shared
from lossatlas.spec.parts import Augment, Recipe, Recording
from lossatlas.training import graphs
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks, outputs
from lossatlas.training.rows import named
from lossatlas.training.state import State
from pretend import DEVICE, Pretend
from task_cases import ALL, data, module

torch.set_num_threads(1)
KINDS = ("images", *ALL)
SEEDS = [0, 1, 2]
BATCH = 12


def images() -> TensorData:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(24, 1, 8, 8, generator=draw)
    split = Split(x, torch.arange(24) % 4)
    return TensorData("images", split, split, 4)


def build(kind: str) -> nn.Module:
    if kind not in ("images", "augmented"):
        return module(kind)
    shape = {"num_classes": 4, "in_channels": 1, "image_size": 8}
    return models.build("resnet18", {"width": 1}, **shape)


def there(kind: str) -> TensorData:
    """Return a kind's data on the device."""
    found = images() if kind in ("images", "augmented") else data(kind)
    splits = [
        replace(s, images=s.images.to(DEVICE), labels=s.labels.to(DEVICE))
        for s in (found.train, found.test)
    ]
    if kind == "augmented":
        made = Augmentation(Augment(crop=1, flip=True), torch.zeros(1, device=DEVICE))
        splits[0] = replace(splits[0], augmentation=made)
    return replace(found, train=splits[0], test=splits[1])


def engine(kind: str, **more: object) -> Engine:
    recipe = Recipe(epochs=2, batch_size=BATCH, learning_rate=0.1, **more)
    return Engine(lambda: build(kind), recipe, SEEDS, there(kind).train)


def networks(kind: str) -> Networks:
    found = engine(kind)
    params = named(found.functional, found.run.flat, found.frozen)
    return Networks(found.functional, params, found.run.buffers, SEEDS, there(kind))


@pytest.mark.parametrize("kind", [*KINDS, "augmented"])
def test_training_waits_at_the_end_of_an_epoch_only(kind: str) -> None:
    with Pretend() as seen:
        found = engine(kind)
        seen.waits.clear()
        seen.sent.clear()
        found._epoch()
        steps = len(found.split) // BATCH
        assert not seen.waits, seen.waits
        draws = steps if kind == "augmented" else 0
        assert seen.sent.total() == 1 + draws, seen.sent  # the order of the epoch
        found._close_epoch(0.0)
    assert seen.waits.total() <= 2, seen.waits
    assert found.run.flat.device == DEVICE
    assert found.run.flat.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_recording_waits_at_the_end_of_a_window_only(kind: str) -> None:
    window = Recording(length=2, stride=2, after=1, whole=2)
    with Pretend() as seen:
        found = engine(kind, momentum=0.0, record=window)
        seen.waits.clear()
        found._epoch()
    assert seen.waits.total() == 3, seen.waits  # the Gram matrix of each replica


@pytest.mark.parametrize("kind", [*KINDS, "augmented"])
def test_curves_wait_for_nothing_within_an_epoch(kind: str) -> None:
    with Pretend() as seen:
        found = networks(kind)
        ends = [found.one(index) for index in range(3)]
        settings = Connectivity(epochs=2, batch_size=BATCH)
        fit = CurveFit(
            found.functional, ends[:2], ends[1:], found.data.train, settings, [("a",), ("b",)]
        )
        seen.waits.clear()
        seen.sent.clear()
        fit._epoch(0, None)
    assert not seen.waits, seen.waits
    draws = fit.steps if kind == "augmented" else 0
    assert seen.sent.total() == 2 + draws, seen.sent  # order, points
    assert fit.controls.device == DEVICE


@pytest.mark.parametrize("kind", KINDS)
def test_a_connector_waits_once_in_a_step(kind: str) -> None:
    """For its heights, which decide in which simplex the next points lie."""
    with Pretend() as seen:
        found = networks(kind)
        modes = torch.stack([flatten(found.one(index)[0]) for index in range(2)])
        settings = Spro(epochs=1, batch_size=BATCH, regularisation=1e-3)
        vertex = spro._Vertex(
            found.functional,
            found.one(0)[1],
            spro.Grown(modes),
            found.data.train,
            shared([0, 1], 2),
            0,
            settings,
            ("x",),
        )
        seen.waits.clear()
        vertex._epoch(0.1, State(None, ""))
    assert seen.waits.total() == vertex.steps, seen.waits


@pytest.mark.parametrize("kind", KINDS)
def test_products_wait_for_nothing_and_a_step_of_lanczos_three_times(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once for each operator, two calls are compared: here all their numbers are made up.
    monkeypatch.setattr(HessianOperator, "_check_still", lambda _: None)
    with Pretend() as seen:
        found = networks(kind)
        operator = hessian_at(found, 0, found.data.train, chunk=BATCH)
        seen.waits.clear()
        product = operator(torch.empty(operator.size, device=DEVICE))
        assert not seen.waits, seen.waits
        lanczos = Lanczos(operator, product, 4, torch.Generator())
        seen.waits.clear()
        lanczos.step()
    assert seen.waits.total() <= 3, seen.waits
    assert product.shape == (operator.size,)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_waits_once_for_each_split(kind: str) -> None:
    with Pretend() as seen:
        found = networks(kind)
        seen.waits.clear()
        fresh = reestimate_norms(found.functional, *found.one(0), found.data.train.images, BATCH)
        assert not seen.waits, seen.waits
        network = found.one(0)[0], fresh
        evaluate_point(found.functional, network, found.data.train, found.data.test)
        # Each split is read once, and once for the number of its classes.
        assert seen.waits.total() <= 4, seen.waits
        seen.waits.clear()
        record = measure_replicas(found, range(3))
    assert len(record.scalars) > 0
    assert seen.waits.total() <= 16 * len(SEEDS), seen.waits


@pytest.mark.parametrize("kind", KINDS)
def test_similarity_stays_on_the_device(kind: str) -> None:
    with Pretend() as seen:
        found = networks(kind)
        features = [outputs(found, index, found.data.test.images) for index in range(3)]
        seen.waits.clear()
        centred = [alignment.centre(one) for one in features]
        biased, _ = alignment.estimates(centred)
    assert biased.device == DEVICE
    assert seen.waits.total() <= len(SEEDS) + 1, seen.waits


class Reads(nn.Module):
    """Looks at a value in each call, as a module of the user's may."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layer(x.flatten(1))
        return found * 2 if found.detach().mean().item() > 1e9 else found


class Elsewhere(Reads):
    """Makes a tensor on the CPU whatever its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) + torch.ones(4)


def trained(make: Callable[[], nn.Module]) -> Pretend:
    with Pretend() as seen:
        found = Engine(make, Recipe(epochs=1, batch_size=BATCH), [0], there("images").train)
        seen.waits.clear()
        found._epoch()
    return seen


def test_a_value_that_is_read_is_seen() -> None:
    assert trained(Reads).waits.total() == 2  # one in each step


def test_a_tensor_of_the_host_is_seen() -> None:
    with pytest.raises(AssertionError, match="of the host and of the device"):
        trained(Elsewhere)


@pytest.mark.parametrize(
    ("broken", "where"),
    [("_step", "training"), ("_gradient", "training"), ("_images", "training")],
)
def test_a_planted_read_is_seen(broken: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(Engine, broken)

    def reading(self: Engine, *args: object) -> object:
        self.run.sums[0, 0].item()
        return original(self, *args)

    monkeypatch.setattr(Engine, broken, reading)
    with pytest.raises(AssertionError):
        test_training_waits_at_the_end_of_an_epoch_only("images")


def test_kept_graphs_of_several_passes_give_the_same_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = images().train
    made = build("images")
    found = engine_on_cpu(made, split)
    vector = torch.randn(
        found.size, generator=torch.Generator().manual_seed(2), dtype=torch.float32
    )
    expected = [found(vector), found(vector * 2)]
    monkeypatch.setattr(HessianOperator, "_fits", lambda self, number: number != 1)
    kept = engine_on_cpu(made, split)
    for want, times in zip(expected, (1, 2), strict=True):
        assert torch.equal(kept(vector * times), want)
    assert [graph is not None for graph in kept._kept] == [True, False]


def engine_on_cpu(made: nn.Module, split: Split) -> HessianOperator:
    from lossatlas.curvature.operator import hessian_of

    return hessian_of(made, split.images, split.labels, chunk=BATCH)


class FakeGraph:
    """Stands for `torch.cuda.CUDAGraph`: what was captured is run again."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


def test_graphs_copy_inputs_replay_and_fall_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import contextmanager

    captured = []

    @contextmanager
    def capture(graph: FakeGraph):  # type: ignore[no-untyped-def]
        captured.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x * 2

    replayed = graphs.Replayed(double)
    for number in range(6):
        replayed(torch.full((3,), float(number)))
    assert len(calls) == 4  # three as they are, one captured
    assert len(captured) == 1
    assert captured[0].replayed == 3
    assert torch.equal(calls[-1], torch.full((3,), 5.0))  # the place of the last input

    def fails(x: torch.Tensor) -> torch.Tensor:
        if len(captured) > 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return x + 1

    broken = graphs.Replayed(fails)
    for _ in range(3):
        assert float(broken(torch.zeros(()))) == 1
    captured.append(FakeGraph())
    with pytest.raises(RuntimeError):  # as it is, it fails too: the caller hears of it
        broken(torch.zeros(()))
    assert "no CUDA graph: RuntimeError: operation not permitted" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["yes", "2"])
def test_a_wrong_switch_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(graphs.VARIABLE, value)
    with pytest.raises(UserError, match="neither 0 nor 1"):
        graphs.wanted(torch.device("cuda"))


def test_graphs_are_for_gpus_and_off_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(graphs.VARIABLE, raising=False)
    assert not graphs.wanted(torch.device("cuda"))
    monkeypatch.setenv(graphs.VARIABLE, "1")
    assert graphs.wanted(torch.device("cuda"))
    assert not graphs.wanted(torch.device("cpu"))


def test_bfloat16_rounds_products_and_keeps_weights() -> None:
    split = images().train
    found = {
        precision: Engine(
            lambda: build("images"),
            Recipe(epochs=2, batch_size=BATCH, learning_rate=0.05, precision=precision),
            SEEDS,
            split,
        ).train()
        for precision in ("float32", "tf32", "bfloat16")
    }
    weights = {name: one.checkpoints["final"][0] for name, one in found.items()}
    losses = {name: one.history["train_loss"] for name, one in found.items()}
    for name, exact in weights["float32"].items():
        assert torch.equal(weights["tf32"][name], exact)  # there is none on a CPU
        assert weights["bfloat16"][name].dtype == torch.float32
    assert not (losses["bfloat16"] == losses["float32"]).all()
    assert abs(losses["bfloat16"] - losses["float32"])[0].max() < 0.02


def test_a_gpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla P100")
    with pytest.raises(UserError, match="Tesla P100 has no bfloat16"):
        device.check_precision("bfloat16", torch.device("cuda"))
    device.check_precision("tf32", torch.device("cuda"))


def test_arithmetic_is_as_asked_and_put_back() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    with device.arithmetic("tf32", deterministic=True):
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (True, True)
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    with device.arithmetic("bfloat16", deterministic=False):
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    assert before == (cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark)
