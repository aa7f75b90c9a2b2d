"""The recorder: against every weight vector kept in float64; resumed; windows; divergence."""

import copy
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossatlas import models, store
from lossatlas.data.tensors import Split
from lossatlas.diffusion import recorded as recorded_path
from lossatlas.diffusion.gram import path_of_gram, path_of_points, squared_distances
from lossatlas.errors import UserError
from lossatlas.spec.config import load
from lossatlas.spec.parts import Recipe, Recording
from lossatlas.training import engine as engine_module
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.job import training_record
from lossatlas.training.recorder import Projection, gram_of_ring
from lossatlas.training.state import Preempted, State

torch.set_num_threads(1)

PLAN = Recording(
    start=3, length=12, stride=5, projection=8, gradients=7, snapshots=3, after=4, whole=5
)
SEEDS = [2, 5]


def split() -> Split:
    made = torch.Generator().manual_seed(3)
    images = torch.randn(50, 1, 8, 8, generator=made)
    return Split(images, (images.mean(dim=(1, 2, 3)) * 20).round().long() % 4)


def mlp():
    shape = {"num_classes": 4, "in_channels": 1, "image_size": 8}
    return models.build("mlp", {"width": 6, "depth": 1}, **shape)


def recipe(**more) -> Recipe:
    plain = {"epochs": 8, "batch_size": 8, "learning_rate": 0.1, "momentum": 0.0}
    return Recipe(**{**plain, "weight_decay": 0.0, "record": PLAN, **more})


def naive(chosen: Recipe, seed: int) -> tuple[np.ndarray, list[float], np.ndarray]:
    """Train by a plain loop; return all weights (T, P), losses and gradients before each step."""
    module, data = initialise(mlp, seed), split()
    points, losses, gradients = [], [], []
    parameters = list(module.parameters())

    def flat(tensors) -> np.ndarray:
        return np.concatenate([t.detach().numpy().ravel() for t in tensors])

    points.append(flat(parameters))
    for epoch in range(chosen.epochs):
        for index in batches(data, [seed], epoch, chosen):
            batch = data.take(index[0])
            loss = F.cross_entropy(module(batch.images), batch.labels)
            grads = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, g in zip(parameters, grads, strict=True):
                    p -= chosen.learning_rate * (g + chosen.weight_decay * p)
            losses.append(loss.item())
            gradients.append(flat(grads))
            points.append(flat(parameters))
    return np.array(points), losses, np.array(gradients)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    trained = Engine(mlp, recipe(), SEEDS, split()).train()
    return {name: array.values for name, array in trained.path.items()}


def test_equals_every_weight_vector_kept(recorded: dict[str, np.ndarray]) -> None:
    windows = recorded["path_window"]
    assert windows.tolist() == [[first, first + 12] for first in range(3, 38, 5)]
    for place, seed in enumerate(SEEDS):
        points, losses, gradients = naive(recipe(), seed)
        assert len(points) == 49
        exact = points.astype(np.float64)
        np.testing.assert_allclose(recorded["path_loss"][:, place], losses, rtol=1e-5)
        steps = np.square(np.diff(exact, axis=0)).sum(1)
        np.testing.assert_allclose(recorded["path_step"][:, place], steps, rtol=1e-3)
        moved = np.square(exact - exact[0]).sum(1)
        np.testing.assert_allclose(recorded["path_distance"][:, place], moved, rtol=1e-3)
        squares = recorded["path_layer_gradient"][:, place].sum(1)
        np.testing.assert_allclose(squares, np.square(gradients).sum(1), rtol=1e-3)
        for number, (first, end) in enumerate(windows):
            gram = recorded["path_gram"][number, place]
            path = path_of_gram(
                gram + np.triu(gram, 1).T, recorded["path_step"][first : end - 1, place]
            )
            wanted = squared_distances(path_of_points(exact[first:end]))
            np.testing.assert_allclose(squared_distances(path), wanted, rtol=1e-3, atol=1e-9)
            cut = np.split(exact[end - 1], np.cumsum(recorded["path_size"])[:-1])
            norms = [np.linalg.norm(tensor) for tensor in cut]
            np.testing.assert_allclose(recorded["path_layer_weight"][number, place], norms, 1e-4)


def test_weight_decay_and_short_batches() -> None:
    """L2 is no part of what is recorded, and a last batch counts by its own size."""
    chosen = recipe(weight_decay=0.5, incomplete_batch="keep")
    path = Engine(mlp, chosen, [2], split()).train().path
    points, losses, gradients = naive(chosen, 2)
    assert len(losses) == 8 * 7
    np.testing.assert_allclose(path["path_loss"].values[:, 0], losses, rtol=1e-4)
    squares = path["path_layer_gradient"].values[:, 0].sum(1)
    np.testing.assert_allclose(squares, np.square(gradients).sum(1), rtol=1e-3)
    steps = np.square(np.diff(points.astype(np.float64), axis=0)).sum(1)
    np.testing.assert_allclose(path["path_step"].values[:, 0], steps, rtol=1e-3)


def test_the_seed_of_the_plan_draws_entries_and_projection(recorded: dict[str, np.ndarray]) -> None:
    other = Engine(mlp, recipe(record=PLAN.model_copy(update={"seed": 1})), SEEDS, split()).train()
    assert np.array_equal(other.path["path_loss"].values, recorded["path_loss"])
    for name in ("gradient", "reservoir", "projection"):
        found, before = other.path[f"path_{name}"].values, recorded[f"path_{name}"]
        assert found.shape == before.shape
        assert (np.sort(found[1:], axis=2) != np.sort(before[1:], axis=2)).any()


def test_records_are_read_back_as_paths(tmp_path: Path) -> None:
    trained = Engine(mlp, recipe(), SEEDS, split()).train()
    store.write(tmp_path / "2_5.h5", training_record(trained))
    found = recorded_path.read([str(tmp_path / "2_5.h5")], [5])
    assert list(found) == [5]
    points = naive(recipe(), 5)[0].astype(np.float64)
    path = found[5].path(1)
    wanted = squared_distances(path_of_points(points[8:20]))
    np.testing.assert_allclose(squared_distances(path), wanted, rtol=1e-3, atol=1e-9)
    assert found[5].reservoir.shape == found[5].reservoir_tensor.shape == (48, 8)


@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize(
    "optimiser",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"momentum": 0.5, "weight_decay": 0.01},
        {"momentum": 0.0, "weight_decay": 0.1},
    ],
)
def test_gradient_noise_follows_from_steps(optimiser: dict, window: int, tmp_path: Path) -> None:
    """Its norms are those of the gradients themselves, whatever made the steps of them."""
    seen: list[np.ndarray] = []
    plan = Recording(length=14, stride=6, projection=0)

    class Watched(Engine):
        def _gradient(self, group, index):
            found = super()._gradient(group, index)
            seen.append(found[0].numpy().astype(np.float64))
            return found

    chosen = recipe(record=plan, **optimiser)
    store.write(tmp_path / "a.h5", training_record(Watched(mlp, chosen, [2], split()).train()))
    path = recorded_path.read([str(tmp_path / "a.h5")], [2])[2]
    first, end = path.window[window]
    known = first + int(optimiser["momentum"] > 0 and first > 0)
    wanted = []
    for epoch in range(8):
        own = [s for s in range(known, end - 1) if s // 6 == epoch]
        if len(own) > 1:
            some = np.array([seen[s] for s in own])
            wanted += np.linalg.norm(some - some.mean(axis=0), axis=1).tolist()
    np.testing.assert_allclose(path.noise_norms(window), wanted, rtol=2e-3)


def test_late_window_keeps_its_short_distances() -> None:
    """|w|^2 = 2500 and steps of 3e-5: the Gram matrix agrees with float64 to 1e-9."""
    made = torch.Generator().manual_seed(0)
    moves = torch.randn(40, 3000, generator=made, dtype=torch.float64) * (3e-5 / 3000) ** 0.5
    points = (torch.full((3000,), (2500 / 3000) ** 0.5) + moves.cumsum(0)).float()
    placed = torch.empty_like(points)
    for time, point in enumerate(points, start=53):
        placed[time % 40] = point
    found = squared_distances(path_of_gram(gram_of_ring(placed, 53).numpy()))
    exact = points.double().numpy()
    wanted = np.square(exact[:, None] - exact).sum(2)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-18)


def test_gradients_follow_from_the_weights(recorded: dict[str, np.ndarray]) -> None:
    """With plain SGD the increments are the gradients, so no Gram matrix of theirs is kept."""
    ratio = recorded["path_step"] / recorded["path_layer_gradient"].sum(2)
    np.testing.assert_allclose(np.sqrt(ratio), 0.1, rtol=1e-4)
    assert (recorded["path_rate"] == 0.1).all()
    _, _, gradients = naive(recipe(), SEEDS[1])
    columns = recorded["path_gradient"][:, 1]
    assert columns.shape == (48, 7)
    for column in columns.T:
        gaps = np.abs(gradients - column[:, None]).max(axis=0)
        assert gaps.min() < 1e-5


def test_projection_keeps_squared_distances() -> None:
    vectors = torch.randn(1, 500, dtype=torch.float64)
    ratios = []
    for seed in range(400):
        image = Projection(500, 32, seed, vectors.device)(vectors)
        ratios.append(float(image.square().sum() / vectors.square().sum()))
    assert np.mean(ratios) == pytest.approx(1, abs=4 * (2 / 32 / 400) ** 0.5)
    assert np.std(ratios) == pytest.approx((2 / 32) ** 0.5, rel=0.2)
    whole = Projection(500, 512, 0, vectors.device)(vectors)
    assert float(whole.square().sum()) == pytest.approx(float(vectors.square().sum()))


def test_projection_is_linear_and_recorded_from_the_start(recorded: dict[str, np.ndarray]) -> None:
    points, _, _ = naive(recipe(), SEEDS[0])
    project = Projection(points.shape[1], 8, 0, torch.device("cpu"))
    wanted = project(torch.from_numpy(points - points[0])).numpy()
    np.testing.assert_allclose(recorded["path_projection"][:, 0], wanted, rtol=1e-3, atol=1e-5)


def mean_loss(point: np.ndarray, batch: Split) -> float:
    """Return the cross entropy of the network with these parameters."""
    module = mlp()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(point), module.parameters())
    with torch.no_grad():
        return F.cross_entropy(module(batch.images), batch.labels).item()


def test_losses_after_steps_and_on_all_images(recorded: dict[str, np.ndarray]) -> None:
    data, chosen = split(), recipe()
    assert recorded["path_after"].shape == (12, 2)
    assert recorded["path_whole"].shape == (10, 2)
    for place, seed in enumerate(SEEDS):
        points, _, _ = naive(chosen, seed)
        order = [index[0] for e in range(8) for index in batches(data, [seed], e, chosen)]
        after = [mean_loss(points[t + 1], data.take(order[t])) for t in range(0, 48, 4)]
        np.testing.assert_allclose(recorded["path_after"][:, place], after, rtol=1e-4)
        whole = [mean_loss(points[t], data) for t in range(0, 49, 5)]
        np.testing.assert_allclose(recorded["path_whole"][:, place], whole, rtol=1e-4)


def test_sums_give_the_paper_s_displacement(recorded: dict[str, np.ndarray]) -> None:
    points = naive(recipe(), SEEDS[0])[0].astype(np.float64)
    sums = recorded["path_sums"][:, 0]
    np.testing.assert_allclose(sums[:, 0], points.sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sums[:, 1], np.square(points).sum(1), rtol=1e-5)
    np.testing.assert_allclose(sums[:, 2], points[:, 0], rtol=1e-4, atol=1e-6)


def test_reservoir_holds_other_entries_at_each_step(recorded: dict[str, np.ndarray]) -> None:
    _, _, gradients = naive(recipe(), SEEDS[1])
    held, tensor = recorded["path_reservoir"][:, 1], recorded["path_reservoir_tensor"]
    ends = np.cumsum(recorded["path_size"])
    assert ends[-1] == gradients.shape[1]
    places = []
    for step, (values, own) in enumerate(zip(held, tensor, strict=True)):
        for value, number in zip(values, own, strict=True):
            inside = gradients[step, ends[number] - recorded["path_size"][number] : ends[number]]
            assert np.abs(inside - value).min() < 1e-5
            places.append(ends[number] - recorded["path_size"][number])
    assert len(set(places)) > 1


def test_weights_along_the_way_are_those_of_a_run_that_ended_there() -> None:
    trained = Engine(mlp, recipe(), SEEDS, split()).train()
    assert set(trained.checkpoints) == {"final", "epoch-0", "epoch-3", "epoch-6"}
    for epochs in (3, 6):
        short = Engine(mlp, recipe(epochs=epochs, record=None), SEEDS, split()).train()
        for name, tensor in short.checkpoints["final"][0].items():
            assert torch.equal(tensor, trained.checkpoints[f"epoch-{epochs}"][0][name])
    for place, seed in enumerate(SEEDS):
        for name, tensor in initialise(mlp, seed).named_parameters():
            assert torch.equal(tensor, trained.checkpoints["epoch-0"][0][name][place])


def normed() -> torch.nn.Module:
    layers = [torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(72, 4))


def test_losses_of_a_network_with_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step by the statistics of its batch; on all images by the running ones, in chunks."""
    monkeypatch.setattr(engine_module, "chunk_of", lambda _: 16)
    chosen = recipe(learning_rate=0.05)
    path = Engine(normed, chosen, [2], split()).train().path
    module, data = initialise(normed, 2), split()
    after, whole = [], []
    for step, index in enumerate(i for e in range(8) for i in batches(data, [2], e, chosen)):
        if step % 5 == 0:
            with torch.no_grad():
                whole.append(F.cross_entropy(module.eval()(data.images), data.labels).item())
        batch, parameters = data.take(index[0]), list(module.train().parameters())
        loss = F.cross_entropy(module(batch.images), batch.labels)
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= 0.05 * g
            if step % 4 == 0:
                probe = copy.deepcopy(module)
                after.append(F.cross_entropy(probe(batch.images), batch.labels).item())
    np.testing.assert_allclose(path["path_after"].values[:, 0], after, rtol=1e-3)
    np.testing.assert_allclose(path["path_whole"].values[:, 0], whole, rtol=1e-3)


def test_buffers_are_kept_with_their_weights() -> None:
    trained = Engine(normed, recipe(), SEEDS, split()).train()
    short = Engine(normed, recipe(epochs=6, record=None), SEEDS, split()).train()
    for name, buffer in short.checkpoints["final"][1].items():
        kept = trained.checkpoints["epoch-6"][1][name]
        assert kept.dtype == buffer.dtype
        assert torch.equal(kept, buffer)


class StopsAt(State):
    """Saves and leaves after so many steps."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path, "key")
        self.steps, self._warning.given = steps, True

    def due(self) -> bool:
        self.steps -= 1
        return self.steps == 0


@pytest.mark.parametrize("plan", [PLAN, Recording(length=9, stride=20, projection=0, gradients=0)])
def test_resumed_runs_are_equal_bit_for_bit(plan: Recording, tmp_path: Path) -> None:
    chosen = recipe(momentum=0.9, checkpoints=["best"], record=plan)
    whole = Engine(mlp, chosen, SEEDS, split()).train()
    for steps in (1, 3, 4, 9, 16, 23, 30, 41, 48):
        path = tmp_path / f"{steps}"
        with pytest.raises(Preempted):
            Engine(mlp, chosen, SEEDS, split(), StopsAt(path, steps)).train()
        with suppress(Preempted):  # once more, if there are 14 steps left
            Engine(mlp, chosen, SEEDS, split(), StopsAt(path, 14)).train()
        again = Engine(mlp, chosen, SEEDS, split(), State(path, "key")).train()
        assert whole.path.keys() == again.path.keys()
        for name, array in whole.path.items():
            np.testing.assert_array_equal(array.values, again.path[name].values, err_msg=name)
        assert whole.checkpoints.keys() == again.checkpoints.keys()
        for kind, (params, _) in whole.checkpoints.items():
            for name, tensor in params.items():
                assert torch.equal(tensor, again.checkpoints[kind][0][name])


def test_weights_of_a_window_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        Engine(mlp, recipe(), SEEDS, split(), StopsAt(tmp_path / "state", 10)).train()
    tensors, _ = State(tmp_path / "state", "key").load(torch.device("cpu"))
    size = tensors["flat"].shape[1]
    assert all(t.numel() <= 12 * len(SEEDS) * size / 2 for t in tensors.values())


@pytest.mark.parametrize(("steps", "windows", "copies"), [(1, 0, 1), (16, 1, 1), (30, 4, 2)])
def test_a_state_holds_what_was_recorded_so_far(
    tmp_path: Path, steps: int, windows: int, copies: int
) -> None:
    """And not the room for a long run's gigabytes."""
    with pytest.raises(Preempted):
        Engine(mlp, recipe(), SEEDS, split(), StopsAt(tmp_path / "state", steps)).train()
    tensors, _ = State(tmp_path / "state", "key").load(torch.device("cpu"))
    rows = {name: len(t) for name, t in tensors.items() if name.startswith("record/")}
    for name in ("loss", "step", "gradient", "reservoir", "projection", "sums", "layer_gradient"):
        assert rows[f"record/{name}"] == steps
    assert (rows["record/after"], rows["record/whole"]) == (-(-steps // 4), -(-steps // 5))
    assert rows["record/gram"] == rows["record/layer_weight"] == windows
    assert rows["record/weights"] == copies


def test_recording_changes_no_weight() -> None:
    with_, without = (Engine(mlp, recipe(record=r), SEEDS, split()).train() for r in (PLAN, None))
    assert without.path == {}
    for name, tensor in with_.checkpoints["final"][0].items():
        assert torch.equal(tensor, without.checkpoints["final"][0][name])


def test_divergence_inside_a_window_spoils_just_later_windows(monkeypatch) -> None:
    original = Engine._gradient

    def explode(self, group, index):
        gradient = original(self, group, index)
        if self.recorder.time == 20:
            gradient[1] = float("nan")
        return gradient

    monkeypatch.setattr(engine_module.Engine, "_gradient", explode)
    trained = Engine(mlp, recipe(), SEEDS, split()).train()
    assert trained.diverged.tolist() == [False, True]
    grams = trained.path["path_gram"].values
    sound = np.isfinite(grams).all(axis=(2, 3))
    assert sound[:, 0].all()
    assert sound[:, 1].tolist() == [end <= 21 for _, end in trained.path["path_window"].values]


def config(**record) -> dict:
    plain = {"epochs": 1, "batch_size": 64}
    return {
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"short": {**plain, "record": record}},
        "experiments": {"one": {"dataset": "digits", "model": "mlp", "recipe": "short"}},
    }


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"length": 100}, r"a window of 100 points from point 0 on is longer than the run"),
        ({"length": 10, "start": 20}, r"longer than the run, which has 23"),
        ({"length": 10, "stride": 0}, r"recipes.short.record.stride: .*greater than or equal to 1"),
        ({"length": 1}, r"recipes.short.record.length"),
        ({"lenght": 10}, r"unknown key 'lenght'.*'length'"),
    ],
)
def test_bad_windows_are_refused_before_anything_runs(record: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(config(**record))


def test_the_longest_window_fits() -> None:
    assert Recipe(epochs=1, batch_size=64, record={"length": 23}).record.windows(22) == [(0, 23)]
    load(config(length=23))
