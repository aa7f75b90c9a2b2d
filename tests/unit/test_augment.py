"""Augmentation: against a loop over images, its statistics, and what must not depend on it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lossatlas import models
from lossatlas.connectivity.fit import fit_curve
from lossatlas.data.arrays import to_record
from lossatlas.data.augment import Augmentation, augmented, augmented_batch, changed
from lossatlas.data.loading import load
from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.simplex import Simplex
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.layout import Layout
from lossatlas.simplex.complexes import grown
from lossatlas.simplex.points import rows
from lossatlas.simplex.spro import grow
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import Augment, DataPart, ModelPart, Recipe, Recording
from lossatlas.training import engine as engine_module
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine
from lossatlas.training.seeds import generator
from lossatlas.training.state import State
from lossatlas.training.trained import Trained

torch.set_num_threads(1)
BOTH = Augment(crop=2, flip=True)


def toy(size: int = 8, channels: int = 3, count: int = 52) -> TensorData:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count + 12, size, size, channels), dtype=np.uint8)
    labels = np.arange(count + 12) % 4
    arrays = {
        "train_images": images[:count],
        "train_labels": labels[:count],
        "test_images": images[count:],
        "test_labels": labels[count:],
    }
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.25, 0.3][:channels]
    return load(to_record("toy", arrays, mean=mean, std=std))


def one_by_one(
    images: torch.Tensor, draws: torch.Tensor, plan: Augment, black: torch.Tensor
) -> torch.Tensor:
    """Pad, cut and mirror (G, N, C, H, W), an image at a time."""
    result, crop, size = torch.empty_like(images), plan.crop, images.shape[-1]
    for g in range(images.shape[0]):
        for n in range(images.shape[1]):
            u, v, mirror = (float(number) for number in draws[g, :, n])
            large = black[:, None, None].repeat(1, size + 2 * crop, size + 2 * crop)
            large[:, crop : crop + size, crop : crop + size] = images[g, n]
            top, left = int(u * (2 * crop + 1)), int(v * (2 * crop + 1))
            one = large[:, top : top + size, left : left + size]
            result[g, n] = one.flip(-1) if plan.flip and mirror < 0.5 else one
    return result


@pytest.mark.parametrize("plan", [BOTH, Augment(crop=7), Augment(flip=True), Augment(crop=1)])
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [True, False])
def test_equals_a_loop_over_images(plan: Augment, together: int, channels: int, last: bool) -> None:
    data = augmented(toy(channels=channels), plan)
    assert data.train.augmentation is not None
    black = data.train.augmentation.black
    wide = Functional(nn.Conv2d(channels, 8 if last else 2, 3))
    layout = Layout(data.train.images, wide, together)
    assert layout.last is (last or together > 1)
    index = torch.stack([torch.randperm(52)[:20] for _ in range(together)])
    images = layout.take(index)
    names = [(seed, 3, 5) for seed in range(together)]
    draws = torch.stack([torch.rand(3, 20, generator=generator("augment", *n)) for n in names])
    found = changed(data.train, images, names)
    assert torch.equal(found, one_by_one(images, draws, plan, black))
    for order in ((0, 1, 2, 3, 4), (1, 3, 4, 0, 2)):  # how they lie in memory is kept
        assert found.permute(order).is_contiguous() or not images.permute(order).is_contiguous()


def test_crops_are_padded_with_black_pixels_as_they_are_after_normalisation() -> None:
    """The papers crop bytes, padded with 0, and normalise what they have cut."""
    data = toy()
    torch.manual_seed(0)
    black = load(
        to_record(
            "black",
            {
                "train_images": np.zeros((4, 8, 8, 3), np.uint8),
                "train_labels": np.arange(4),
                "test_images": np.zeros((4, 8, 8, 3), np.uint8),
                "test_labels": np.arange(4),
            },
            mean=[0.4, 0.5, 0.6],
            std=[0.2, 0.25, 0.3],
        )
    )
    found = augmented(data, BOTH).train.augmentation
    assert found is not None
    assert torch.equal(found.black, black.train.images[0, :, 0, 0])
    unknown = augmented(TensorData("own", data.train, data.test, 4), BOTH).train.augmentation
    assert unknown is not None
    assert not unknown.black.any()


def test_offsets_are_uniform_and_half_are_mirrored() -> None:
    count, plan = 20_000, Augment(crop=2, flip=True)
    image = torch.arange(1.0, 50.0).view(1, 1, 7, 7)  # black is 0, no pixel is
    split = Split(image.expand(count, 1, 7, 7), torch.zeros(count), None)
    split = Split(split.images, split.labels, Augmentation(plan, torch.zeros(1)))
    found = changed(split, split.images[None], [("statistics",)])[0, :, 0]
    middle = found[:, 3, 3].long() - 1  # the pixel that has come to the middle
    rows_, columns = middle // 7 - 3, middle % 7 - 3
    mirrored = found[:, 3, 2] > found[:, 3, 3]
    seen = torch.stack([rows_ + 2, columns + 2, mirrored.long()]).numpy()
    table = np.zeros((5, 5, 2))
    np.add.at(table, tuple(seen), 1)
    expected = count / 50
    chi2 = float(((table - expected) ** 2 / expected).sum())
    assert 25 < chi2 < 85  # 49 degrees of freedom: 49 +- 10


def resnet() -> nn.Module:
    shape = {"num_classes": 4, "in_channels": 3, "image_size": 8}
    return models.build("resnet18", {"width": 1}, **shape)


def recipe(**changes) -> Recipe:
    given = {"epochs": 2, "batch_size": 16, "learning_rate": 0.02, "augment": BOTH}
    return Recipe(**{**given, **changes})


def train(seeds: list[int], plan: Recipe, state: State | None = None) -> Trained:
    return Engine(resnet, plan, seeds, augmented(toy(), plan.augment).train, state).train()


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {**trained.checkpoints["final"][0], **trained.checkpoints["final"][1]}


@pytest.mark.parametrize("small", [True, False])
def test_together_as_alone(monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    monkeypatch.setattr(engine_module, "is_small", lambda *_: small)
    both, alone = weights(train([3, 4], recipe())), weights(train([4], recipe()))
    plain = weights(train([4], recipe(augment=None)))
    for name, tensor in alone.items():
        if small:
            torch.testing.assert_close(both[name][1], tensor[0], rtol=2e-3, atol=2e-4)
        else:
            assert torch.equal(both[name][1], tensor[0])
    assert not torch.allclose(plain["stem.weight"], alone["stem.weight"])


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 4])
def test_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    window = Recording(length=3, stride=2, projection=8, gradients=4)
    plan = recipe(record=window)
    whole, path, calls = train([0, 1], plan), tmp_path / "state", 0
    step = Engine._step

    def counted(self: Engine, *given: object) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise Killed
        step(self, *given)

    monkeypatch.setattr(Engine, "_step", counted)
    with pytest.raises(Killed):
        train([0, 1], plan, State(path, "key", every=0.0))
    monkeypatch.undo()
    resumed = train([0, 1], plan, State(path, "key"))
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    for name, array in whole.path.items():
        np.testing.assert_array_equal(array.values, resumed.path[name].values)


def test_the_loss_after_a_step_is_that_of_the_same_images() -> None:
    window = Recording(length=3, stride=2, projection=8, gradients=4, after=1)
    plan = recipe(record=window, learning_rate=1e-12, momentum=0, weight_decay=0)
    path = train([0], plan).path
    before, after = path["path_loss"].values, path["path_after"].values
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert np.ptp(before) > 1e-3


def test_each_step_has_draws_of_its_own() -> None:
    data = augmented(toy(), BOTH)
    batch = data.train.take(torch.arange(16))
    once, again, later = (augmented_batch(batch, name) for name in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(once.images, again.images)
    assert not torch.equal(once.images, later.images)
    assert torch.equal(once.labels, batch.labels)
    plain = toy().train.take(torch.arange(16))
    assert augmented_batch(plain, (0, 1)) is plain


def test_mirrors_do_not_depend_on_crops() -> None:
    images = torch.arange(5.0).expand(1, 40, 1, 5, 5).contiguous()
    draws = torch.rand(1, 3, 40, generator=torch.Generator().manual_seed(0))
    flips = [Augmentation(Augment(crop=c, flip=True), torch.zeros(1)) for c in (0, 2)]
    mirrored = [f(images, draws)[0, :, 0, 2].diff(dim=1).sum(1) < 0 for f in flips[:1]]
    moved = flips[1](images, draws)[0, :, 0, 2]
    falls = (moved[:, 1:4].diff(dim=1) == -1).any(1)
    rises = (moved[:, 1:4].diff(dim=1) == 1).any(1)
    assert (falls != rises).any()
    assert torch.equal(mirrored[0][falls != rises], falls[falls != rises])


def test_what_trains_on_from_replicas_augments_too() -> None:
    """Vertices of simplexes and bends of curves see the same kind of batches."""
    states = [state_of(resnet()) for _ in range(2)]
    functional = Engine(resnet, recipe(), [0], toy().train).functional
    plain, other = toy().train, augmented(toy(), BOTH).train
    curve = Connectivity(epochs=1, batch_size=16)
    bends = [fit_curve(functional, *states, split, curve).controls for split in (plain, other)]
    assert not torch.equal(*bends)
    again = fit_curve(functional, *states, other, curve).controls
    assert torch.equal(bends[1], again)
    modes = rows({name: p[None] for name, p in states[0][0].items()}, functional.shapes)
    settings = Simplex(epochs=1, batch_size=16)
    vertices = [
        grow(functional, states[0][1], modes, split, grown(0, 1), settings).vertices
        for split in (plain, other, other)
    ]
    assert not torch.equal(vertices[0], vertices[1])
    assert torch.equal(vertices[1], vertices[2])


def test_unshuffled_epochs_visit_the_same_batches() -> None:
    plan = recipe(shuffle=False, incomplete_batch="keep")
    some = Split(torch.zeros(40, 1), torch.zeros(40))
    for epoch in range(2):
        chunks = list(batches(some, [0, 7], epoch, plan))
        assert torch.equal(torch.cat(chunks, 1), torch.arange(40).expand(2, -1))
    shuffled = torch.cat(list(batches(some, [0, 7], 0, recipe())), 1)
    assert not torch.equal(shuffled[0], torch.arange(32))


def test_cells_without_keep_their_ids() -> None:
    part, model = DataPart(source="digits"), ModelPart(builder="resnet18")
    plain = Cell(part, model, Recipe())
    assert not {"augment", "shuffle"} & plain.spec["recipe"].keys()
    other = Cell(part, model, Recipe(augment=BOTH))
    assert other.spec["recipe"] == {"augment": {"crop": 2, "flip": True}}
    assert other.id != plain.id


def test_augmentation_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="give 'crop', 'flip' or both"):
        Augment()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu() -> None:
    data = augmented(toy(), BOTH)
    images, names = data.train.images[None, :20], [(0, 1)]
    moved = Split(data.train.images.cuda(), data.train.labels.cuda(), data.train.augmentation)
    found = changed(moved, images.cuda(), names)
    assert torch.equal(found.cpu(), changed(data.train, images, names))
