"""SPRO: the gradient against autograd through mixtures, resume, frozen vertices, strengths."""

import math

import pytest
import torch
import torch.nn.functional as F
from simplex_cases import Interrupted, settings, squared_volume
from torch import nn

from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors, flatten, state_of, unflatten
from lossatlas.models.mlp import MLP
from lossatlas.simplex import sampling, spro
from lossatlas.simplex.complexes import grown, listed, shared
from lossatlas.simplex.geometry import face_of, shape_of
from lossatlas.simplex.points import buffers_at, loss_and_error, named, rows
from lossatlas.simplex.spro import grow, loss_and_gradient
from lossatlas.training.engine import initialise
from lossatlas.training.seeds import generator
from lossatlas.training.state import Preempted, State

torch.set_num_threads(1)


class Tied(nn.Module):
    """Tied weights, LayerNorm and BatchNorm: what wrapped layers get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.layer, self.batch = nn.LayerNorm(6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.layer(self.first(x.flatten(1))))
        return self.head(torch.relu(self.batch(self.second(x))))


def split_of(count: int = 48, features: int = 6, classes: int = 3) -> Split:
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(count, features, 1, 1, generator=draw)
    labels = (images.flatten(1)[:, :classes]).argmax(1)
    return Split(images, labels)


def setting(make=Tied, count: int = 2) -> tuple[Functional, torch.Tensor, Tensors]:
    modules = [initialise(make, seed) for seed in range(count)]
    functional = Functional(modules[0])
    states = [state_of(module) for module in modules]
    return functional, torch.stack([flatten(s[0]) for s in states]), states[0][1]


@pytest.mark.parametrize("size", [1, 8])
def test_gradient_is_that_of_the_mixture(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd through sum c_i v_i itself, one point at a time and vectorised."""
    monkeypatch.setattr("lossatlas.simplex.spro.group_size", lambda *_: size)
    functional, frozen, buffers = setting()
    split = split_of()
    theta = frozen.mean(0) + 0.1
    weights = torch.tensor([[0.2, 0.0, 0.8], [0.0, 0.5, 0.5], [0.3, 0.6, 0.1]])
    loss, gradient = loss_and_gradient(functional, buffers, frozen, theta, weights, split)
    moving = theta.clone().requires_grad_()
    total = 0.0
    for row in weights:
        point = row[:2] @ frozen + row[2] * moving
        own = {name: b.clone() for name, b in buffers.items()}
        logits = functional(unflatten(point, functional.shapes), own, split.images, train=True)
        total = total + F.cross_entropy(logits, split.labels) / len(weights)
    (expected,) = torch.autograd.grad(total, moving)
    assert float(loss) == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_tied_weights_stay_one_vertex() -> None:
    functional, frozen, _ = setting()
    assert frozen.shape[1] == sum(p.numel() for p in Tied().parameters())
    stacked = named(frozen, functional.shapes)
    torch.testing.assert_close(rows(stacked, functional.shapes), frozen)


def test_earlier_vertices_stay_and_the_chain_extends() -> None:
    functional, modes, buffers = setting()
    short = grow(functional, buffers, modes, split_of(), shared([0, 1], 1), settings())
    long = grow(functional, buffers, modes, split_of(), shared([0, 1], 3), settings())
    assert torch.equal(long.vertices[:2], modes)
    assert torch.equal(long.vertices[:3], short.vertices)
    assert len(long.losses) == len(long.strengths) == 3
    assert not torch.equal(long.vertices[3], long.vertices[4])


def test_training_lowers_the_loss_inside() -> None:
    functional, modes, buffers = setting()
    split, plan = split_of(), shared([0, 1], 1)
    done = grow(functional, buffers, modes, split, plan, settings(epochs=30))
    start, end = modes.mean(0), done.vertices[2]
    for point, below in ((start, False), (end, True)):
        middle = (modes[0] + point) / 2
        own = buffers_at(functional, middle[None], buffers, split.images)
        loss = float(loss_and_error(functional, middle[None], own, split)[0])
        assert (loss < 0.8) is below


def test_kept_vertices_are_taken_and_never_trained_again(tmp_path, monkeypatch) -> None:
    functional, modes, buffers = setting()
    trained: list[int] = []
    train = spro._Vertex.train

    def counted(vertex, state) -> None:
        trained.append(len(vertex.frozen))
        train(vertex, state)

    monkeypatch.setattr(spro._Vertex, "train", counted)

    def run(connectors: int, made_by: str = "code", **changes) -> torch.Tensor:
        trained.clear()
        state = State(tmp_path / "state", str(connectors)).keep(tmp_path / "kept", made_by)
        plan = shared([0, 1], connectors)
        done = grow(functional, buffers, modes, split_of(), plan, settings(**changes), state)
        state.clear()
        return done.vertices

    def files() -> list:
        return sorted((tmp_path / "kept").iterdir())

    first = run(2)
    assert trained == [2, 3]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files()}
    assert len(before) == 2
    third = run(3)
    assert trained == [4]
    assert torch.equal(third[:4], first)
    assert all((p.read_bytes(), p.stat().st_mtime_ns) == found for p, found in before.items())
    fresh = grow(functional, buffers, modes, split_of(), shared([0, 1], 3), settings())
    assert torch.equal(third, fresh.vertices)
    run(3)
    assert trained == []
    run(1, epochs=2)
    assert trained == [2]
    run(1, made_by="more code")
    assert trained == [2]
    for path in files():  # a damaged one is as good as none
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert torch.equal(run(2), first)
    assert trained == [2, 3]


@pytest.mark.parametrize("after", [1, 4, 12, 17])
def test_resume_is_bit_for_bit(tmp_path, after: int) -> None:
    functional, modes, buffers = setting()
    arguments = (functional, buffers, modes, split_of(), shared([0, 1], 2), settings())
    whole = grow(*arguments)
    with pytest.raises(Preempted):
        grow(*arguments, Interrupted(tmp_path / "state", "key", after))
    resumed = grow(*arguments, State(tmp_path / "state", "key"))
    assert torch.equal(whole.vertices, resumed.vertices)
    assert whole.losses == resumed.losses
    assert whole.strengths == resumed.strengths


def test_divergence_is_said() -> None:
    functional, modes, buffers = setting()
    plan = shared([0, 1], 2)
    done = grow(functional, buffers, modes, split_of(), plan, settings(learning_rate=1e30))
    assert done.diverged
    assert len(done.vertices) == 2


def test_more_strength_more_volume() -> None:
    functional, modes, buffers = setting()
    volumes = []
    for regularisation in (0.0, 0.3):
        chosen = settings(regularisation=regularisation, epochs=20)
        done = grow(functional, buffers, modes[:1], split_of(), grown(0, 2), chosen)
        volumes.append(shape_of(done.vertices).log_volume)
    assert volumes[1] > volumes[0] + 1


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_training_is_that_of_plain_autograd(mode: str) -> None:
    """All of it against torch.optim in float64, the term differentiated through determinants.

    The last 11 images of an epoch are a batch in mode `paper`, as for the authors.
    """
    functional, modes, buffers = setting(lambda: MLP(3, 6, 1, 8, 1))
    split, paper = split_of(43), mode == "paper"
    chosen = settings(mode=mode, regularisation=0.1, learning_rate=0.02, jitter=0.05)
    found = grow(functional, buffers, modes, split, shared([0, 1], 2), chosen)
    vertices = modes.double()
    for connector, given in enumerate(found.strengths):
        simplexes = [(mode, *range(2, 3 + connector)) for mode in (0, 1)]
        start = vertices.mean(0)
        if not paper:
            noise = torch.randn(start.shape, generator=generator("jitter", 0, connector))
            start = start + 0.05 * start.norm() * noise / noise.norm()
        theta = nn.Parameter(start)
        optimiser = torch.optim.SGD([theta], lr=0.02, momentum=0.9, weight_decay=5e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3)
        for epoch in range(3):
            draw, heard = generator("spro", 0, connector, epoch), []
            batches = torch.randperm(43, generator=draw).split(16)
            for index in batches if paper else batches[:2]:
                corners = torch.cat([vertices, theta[None]])
                squared = [squared_volume(corners[list(simplex)]) for simplex in simplexes]
                share = torch.stack(squared).detach().sqrt()
                share = torch.ones(2, dtype=torch.float64) if paper else share
                weights = sampling.in_complex(
                    simplexes, share / share.sum(), 3, 3 + connector, draw
                )
                losses = [
                    F.cross_entropy(
                        functional(
                            unflatten(point.float(), functional.shapes),
                            buffers,
                            split.images[index],
                            train=True,
                        ),
                        split.labels[index],
                    )
                    for point in weights @ corners
                ]
                heard.append(float(sum(losses).detach()) / 3)
                total = sum(losses) if paper else sum(losses) / 3
                if paper and given:
                    total = total - given * torch.log(squared[0] + 1e-4)
                elif not paper:
                    total = total - 0.1 * torch.log(sum(v.sqrt() for v in squared))
                optimiser.zero_grad()
                total.backward()
                optimiser.step()
            cosine.step()
        vertices = torch.cat([vertices, theta.detach()[None]])
        assert len(heard) == (3 if paper else 2)
        assert found.losses[connector] == pytest.approx(sum(heard) / len(heard), rel=1e-5)
    torch.testing.assert_close(found.vertices.double(), vertices, rtol=0, atol=2e-6)
    assert (found.vertices[2:] - modes.mean(0)).abs().max() > 0.01


def test_paper_mode_starts_at_the_mean_without_volume() -> None:
    functional, modes, buffers = setting()
    chosen = settings(mode="paper", epochs=1, learning_rate=1e-12, weight_decay=0.0)
    done = grow(functional, buffers, modes, split_of(), shared([0, 1], 2), chosen)
    torch.testing.assert_close(done.vertices[2], modes.mean(0))
    torch.testing.assert_close(done.vertices[3], done.vertices[:3].mean(0))
    assert done.strengths[0] == 0.0
    assert done.strengths[1] > 0


def test_paper_mode_sums_losses() -> None:
    """Its first step is S times as long as that of the mean."""
    functional, modes, buffers = setting()
    steps = {}
    for mode in ("paper", "fixed"):
        chosen = settings(
            mode=mode, epochs=1, batch_size=48, weight_decay=0.0, jitter=0.0, regularisation=0.0
        )
        done = grow(functional, buffers, modes, split_of(), shared([0, 1], 1), chosen)
        steps[mode] = done.vertices[2] - modes.mean(0)
    torch.testing.assert_close(steps["paper"], 3 * steps["fixed"], rtol=1e-4, atol=1e-6)


def test_kept_vertices_are_of_their_own_modes_words_and_complex(tmp_path, monkeypatch) -> None:
    """What is kept under one name must not serve another complex, mode or use."""
    functional, modes, buffers = setting()
    trained: list[int] = []
    train = spro._Vertex.train
    monkeypatch.setattr(
        spro._Vertex, "train", lambda vertex, state: (trained.append(1), train(vertex, state))
    )
    apart, one = shared([0, 1], 1), listed([["w0", "w1", "c0"]], [0, 1])
    moved = modes + 0.01
    cases = [(modes, apart, ()), (moved, apart, ()), (modes, one, ()), (modes, apart, ("volume",))]
    found = []
    for points, plan, words in cases:
        for again in (False, True):
            trained.clear()
            state = State(tmp_path / "state", "key").keep(tmp_path / "kept", "code")
            done = grow(functional, buffers, points, split_of(), plan, settings(), state, words)
            assert len(trained) == (not again)
            found.append(done.vertices[2])
    for place in range(0, 8, 2):
        assert torch.equal(found[place], found[place + 1])
        assert not any(torch.equal(found[place], other) for other in found[place + 2 :: 2])


class Dropped(MLP):
    """An MLP with dropout."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(x, 0.3, self.training))


def test_dropout_resumes_too(tmp_path) -> None:
    functional, modes, buffers = setting(lambda: Dropped(3, 6, 1, 4, 1))
    arguments = (functional, buffers, modes, split_of(), shared([0, 1], 1), settings())
    whole = grow(*arguments)
    with pytest.raises(Preempted):
        grow(*arguments, Interrupted(tmp_path / "state", "key", 4))
    torch.rand(5)  # what others have drawn in between
    resumed = grow(*arguments, State(tmp_path / "state", "key"))
    assert torch.equal(whole.vertices, resumed.vertices)


class Pair(MLP):
    def forward(self, x):
        return super().forward(x), x


def test_bad_networks_and_modes() -> None:
    split = split_of()
    functional, modes, buffers = setting()
    with pytest.raises(UserError, match="modes w0 and w1 are the same point"):
        grow(functional, buffers, modes[[0, 0]], split, shared([0, 1], 1), settings())
    broken = modes.clone()
    broken[1, 3] = math.nan
    with pytest.raises(UserError, match="mode w1 has diverged"):
        grow(functional, buffers, broken, split, shared([0, 1], 1), settings())
    tuples, modes, buffers = setting(lambda: Pair(3, 6, 1, 4, 1))
    with pytest.raises(UserError, match="forward returns a tuple"):
        grow(tuples, buffers, modes, split, shared([0, 1], 1), settings())
    with pytest.raises(ValueError, match="2 modes for a complex of 1"):
        grow(tuples, buffers, modes, split, grown(0, 1), settings())


def test_face_of_many_vertices_in_few_dimensions() -> None:
    with pytest.raises(ValueError, match="span no simplex"):
        face_of(torch.zeros(4, 2))


def test_adam_has_its_own_epsilon() -> None:
    """The metric's `epsilon` is added to V^2: the first step of Adam is as long as the rate."""
    functional, modes, buffers = setting(lambda: MLP(3, 6, 1), count=1)
    asked = settings(
        mode="paper",
        optimiser="adam",
        epsilon=1.0,
        epochs=1,
        batch_size=48,
        learning_rate=0.01,
        weight_decay=0.0,
    )
    vertices = grow(functional, buffers, modes, split_of(), grown(0, 1), asked).vertices
    moved = (vertices[1] - vertices[0]).abs()
    alive = moved > 1e-5  # behind units that are off there is no gradient
    assert float(alive.double().mean()) > 0.5
    assert float(moved[alive].median()) == pytest.approx(0.01, rel=1e-2)
