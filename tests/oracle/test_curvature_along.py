"""The Hessian along training: against dense Hessians of the weights that were kept on the way."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from curvature_cases import Dense, dense_hessian, images_and_labels, spectrum_like_a_network

from lossatlas import store
from lossatlas.curvature import along, hessian_of, power_iteration
from lossatlas.curvature.along import NextBatch, measure
from lossatlas.curvature.lanczos import Eigenvalues
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data.tensors import Split, TensorData
from lossatlas.differences import differences
from lossatlas.errors import UserError
from lossatlas.measuring import measure_networks
from lossatlas.metrics.hessian_path import HessianPath
from lossatlas.models.functional import flatten, one_of
from lossatlas.models.mlp import MLP
from lossatlas.spec.config import load
from lossatlas.spec.parts import Recipe
from lossatlas.training import checkpoints
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator
from lossatlas.training.state import State
from parts import curve

torch.set_num_threads(1)
SEEDS = [1, 4]


def mlp() -> MLP:
    return MLP(num_classes=4, in_channels=1, image_size=4, width=5, depth=1)


@pytest.fixture(scope="module")
def stages() -> dict[int, Networks]:
    images, labels = images_and_labels(40, size=4)
    split = Split(images.float(), labels)
    other = Split(-split.images, split.labels)  # the test set has no part in it
    data = TensorData("noise", split, other, classes=4)
    recipe = Recipe(epochs=4, batch_size=10, record={"length": 5, "snapshots": 2})
    trained = Engine(mlp, recipe, SEEDS, split).train()
    found = {}
    for epoch in (0, 2, 4):
        params, buffers = trained.checkpoints[f"epoch-{epoch}"]
        found[epoch] = Networks(trained.functional, params, buffers, SEEDS, data)
    return found


def dense(networks: Networks, index: int, places: slice | torch.Tensor = slice(None)) -> np.ndarray:
    """Return the eigenvalues of the Hessian on all or some images, largest modulus first."""
    module = mlp()
    module.load_state_dict(one_of(networks.params, index))
    images, labels = (one[places] for one in images_and_labels(40, size=4))
    names = [name for name, _ in module.named_parameters()]
    values = torch.linalg.eigvalsh(dense_hessian(module.double(), images, labels, names)).numpy()
    return values[np.argsort(-np.abs(values))]


def test_eigenvalues_are_those_of_dense_hessians(stages: dict[int, Networks]) -> None:
    record = measure(stages, HessianPath(samples=40, eigenvalues=3, tolerance=1e-5))
    scalars = {(one.name, one.replica): one for one in record.scalars}
    assert {name for name, _ in scalars} == {one.name for one in HessianPath.outputs}
    for index, seed in enumerate(SEEDS):
        wanted = np.array([dense(networks, index)[:3] for networks in stages.values()])
        for rank in range(3):
            one = curve(record, "eigenvalue", seed, rank=rank + 1)
            assert one.x.tolist() == [0, 2, 4]
            assert one.status == "ok"
            np.testing.assert_allclose(one.y, wanted[:, rank], rtol=1e-4)
        assert scalars["eigenvalue_start", seed].value == pytest.approx(wanted[0, 0], rel=1e-4)
        assert scalars["eigenvalue_end", seed].value == pytest.approx(wanted[2, 0], rel=1e-4)
        assert scalars["eigenvalue_peak", seed].value == pytest.approx(wanted[:, 0].max(), rel=1e-4)
        for epoch, networks in stages.items():
            found = curve(record, "hessian_density", seed, epoch=epoch)
            area = float(np.trapezoid(found.y, found.x))
            assert area == pytest.approx(1, abs=0.02)
            trace = float(np.trapezoid(found.y * found.x, found.x))
            mean = dense(networks, index).mean()
            assert trace == pytest.approx(mean, abs=0.6 * abs(mean))  # one probe
        flat = [flatten(networks.one(index)[0]).double() for networks in stages.values()]
        moved = [float(torch.linalg.vector_norm(one - flat[0])) for one in flat]
        np.testing.assert_allclose(curve(record, "distance", seed).y, moved, rtol=1e-5)
        for rank in (1, 2, 3):
            small = curve(record, "residual", seed, rank=rank).y
            assert (small <= 1e-5 * np.abs(curve(record, "eigenvalue", seed, rank=rank).y)).all()
            assert (small > 0).all()


@pytest.mark.parametrize("chosen", [{"samples": 12}, {"samples": 12, "seed": 3}])
def test_some_images_are_drawn_by_the_seed(stages: dict[int, Networks], chosen: dict) -> None:
    asked = {"eigenvalues": 1, "tolerance": 1e-5, "density_probes": 0}
    record = measure(stages, HessianPath(**asked, **chosen))
    words = ("hessian path", chosen.get("seed", 0))
    places = torch.randperm(40, generator=generator(*words))[:12]
    for index, seed in enumerate(SEEDS):
        found = curve(record, "eigenvalue", seed, rank=1)
        wanted = [dense(networks, index, places)[0] for networks in stages.values()]
        np.testing.assert_allclose(found.y, wanted, rtol=1e-4)


def test_statuses_and_the_peak(
    stages: dict[int, Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series converged if all of its values did; the peak is the largest value, with its sign."""
    tables = iter(
        Eigenvalues(torch.tensor(values).double(), torch.zeros(2).double(), torch.tensor(good), 1)
        for values, good in (
            ([1.0, -0.5], [True, True]),
            ([-5.0, 0.25], [False, True]),
            ([3.0, float("nan")], [True, False]),
            ([2.0, 1.0], [True, True]),
            ([6.0, 1.0], [False, True]),
            ([float("nan")] * 2, [False, False]),
        )
    )
    spectrum = along._Spectrum
    monkeypatch.setattr(along, "_spectrum", lambda *_: spectrum(next(tables), None))
    record = measure(stages, HessianPath(eigenvalues=2))
    scalars = {(s.name.removeprefix("eigenvalue_"), s.replica): s for s in record.scalars}
    assert [(scalars[w, 1].value, scalars[w, 1].status) for w in ("start", "end", "peak")] == [
        (1.0, "ok"),
        (3.0, "ok"),
        (3.0, "ok"),
    ]
    assert [scalars[w, 4].status for w in ("start", "end", "peak")] == [
        "ok",
        "undefined",
        "unconverged",
    ]
    assert scalars["peak", 4].value == 6.0
    assert curve(record, "eigenvalue", 1, rank=1).y.tolist() == [1.0, -5.0, 3.0]
    assert curve(record, "eigenvalue", 1, rank=2).x.tolist() == [0, 2]
    assert {s.status for s in record.series if s.name == "eigenvalue"} == {"unconverged"}


def test_paper_mode_iterates_over_batches(stages: dict[int, Networks]) -> None:
    asked = {"mode": "paper", "batch_size": 8, "eigenvalues": 2, "density_probes": 0}
    record = measure(stages, HessianPath(samples=20, **asked))
    places = torch.randperm(40, generator=generator("hessian path", 0))[:20]
    images, labels = images_and_labels(40, size=4)
    for epoch, networks in stages.items():
        module = mlp()
        module.load_state_dict(one_of(networks.params, 1))
        parts = [hessian_of(module, images[p].float(), labels[p]) for p in places.split(8)]
        random = generator("hessian path", 0, SEEDS[1], epoch, "start")
        wanted = power_iteration(
            NextBatch(parts), 2, iterations=20, tolerance=1e-4, generator=random
        )
        for rank in (0, 1):
            found = curve(record, "eigenvalue", SEEDS[1], rank=rank + 1)
            value = found.y[found.x.tolist().index(epoch)]
            assert value == pytest.approx(wanted.values[rank].item(), rel=1e-4)


def test_few_products_are_not_called_converged(stages: dict[int, Networks]) -> None:
    record = measure(stages, HessianPath(samples=40, eigenvalues=8, iterations=9, tolerance=1e-6))
    assert curve(record, "eigenvalue", SEEDS[0], rank=8).status == "unconverged"


def test_next_batch_goes_round(stages: dict[int, Networks]) -> None:
    matrices = [spectrum_like_a_network(30, seed) for seed in (0, 1, 2)]
    turning = NextBatch([Dense(matrix) for matrix in matrices])
    vector = torch.ones(30, dtype=torch.float64)
    for turn in range(7):
        assert torch.equal(turning(vector), matrices[turn % 3] @ vector)
    assert turning.products == 7
    one, same = (NextBatch([Dense(matrices[0])]), Dense(matrices[0]))
    found = power_iteration(one, 2, generator=generator("a"))
    assert torch.equal(found.values, power_iteration(same, 2, generator=generator("a")).values)
    paper = measure(
        stages,
        HessianPath(
            mode="paper",
            samples=40,
            batch_size=40,
            eigenvalues=1,
            iterations=100,
            tolerance=1e-6,
        ),
    )
    found = curve(paper, "eigenvalue", SEEDS[0], rank=1)
    wanted = [dense(networks, 0)[0] for networks in stages.values()]
    np.testing.assert_allclose(found.y, wanted, rtol=2e-2)


def test_kept_epochs_are_read_from_the_file(tmp_path: Path, stages: dict[int, Networks]) -> None:
    recipe = Recipe(epochs=12, batch_size=40, record={"length": 5, "snapshots": 4})
    split = stages[0].data.train
    checkpoints.save(tmp_path / "w", Engine(mlp, recipe, SEEDS, split).train(), "digest")
    assert checkpoints.kept_epochs([str(tmp_path / "w")]) == [0, 4, 8, 12]


def test_needs_the_path(stages: dict[int, Networks]) -> None:
    with pytest.raises(UserError, match="needs the path of training"):
        measure_networks(HessianPath(), stages[4])
    with pytest.raises(ValueError, match="no weights along training"):
        measure({}, HessianPath())


@pytest.mark.parametrize(
    ("record", "words"),
    [(None, "record: {length"), ({"length": 5}, "'snapshots: 5'")],
)
def test_recipes_without_snapshots_are_refused(record: dict | None, words: str) -> None:
    raw = {
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"short": {"epochs": 1, "batch_size": 64, "record": record}},
        "experiments": {
            "one": {
                "dataset": "digits",
                "model": "mlp",
                "recipe": "short",
                "metrics": ["hessian_path"],
            }
        },
    }
    with pytest.raises(UserError, match=f"needs the path of training.*{words}"):
        load(raw)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_goes_on_after_the_products_that_were_taken(
    stages: dict[int, Networks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    asked = HessianPath(samples=20, eigenvalues=2, mode=mode, batch_size=8)
    store.write(tmp_path / "whole.h5", measure(stages, asked))
    product, left = HessianOperator.__call__, 0

    def stopping(operator: HessianOperator, vector: torch.Tensor) -> torch.Tensor:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return product(operator, vector)

    monkeypatch.setattr(HessianOperator, "__call__", stopping)
    for _ in range(100):
        left = 11
        with suppress(KeyboardInterrupt):
            resumed = measure(stages, asked, State(tmp_path / "state", "key", every=0.0))
            break
    store.write(tmp_path / "resumed.h5", resumed)
    assert differences(tmp_path / "whole.h5", tmp_path / "resumed.h5") == []
