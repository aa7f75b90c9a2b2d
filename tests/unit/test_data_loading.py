"""From a record to tensors on a device, with and without load; a user's own data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lossatlas import paths, store
from lossatlas.data import transforms
from lossatlas.data.arrays import to_record
from lossatlas.data.loading import inputs, load, open_data
from lossatlas.errors import UserError
from lossatlas.spec.parts import DataPart

RANDOM = np.random.default_rng(4)
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


def arrays(train=60, test=20, size=6, channels=3):
    images = RANDOM.integers(0, 256, (train + test, size, size, channels), dtype=np.uint8)
    labels = np.arange(train + test) % 5
    return {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }


@pytest.fixture(scope="module")
def toy():
    return to_record("toy", arrays(), mean=MEAN, std=STD)


def test_same_numbers_as_torchvision(toy):
    from torchvision.transforms import Compose, Normalize, ToTensor

    steps = Compose([ToTensor(), Normalize(MEAN, STD)])
    data = load(toy)
    for split, found in (("train", data.train), ("test", data.test)):
        expected = torch.stack([steps(image) for image in toy.arrays[f"{split}_images"].values])
        assert torch.equal(found.images, expected)
        assert found.images.is_contiguous()
        assert found.labels.tolist() == toy.arrays[f"{split}_labels"].values.tolist()


def test_a_normalisation_of_ones_own(toy):
    plain, own = load(toy), load(toy, DataPart(mean=[0.5, 0.0, 0.25], std=[1.0, 2.0, 0.5]))
    assert own.pixels.mean == (0.5, 0.0, 0.25)
    for split in ("train", "test"):
        unit = getattr(plain, split).images * torch.tensor(STD)[:, None, None]
        unit += torch.tensor(MEAN)[:, None, None]
        expected = (unit - torch.tensor([0.5, 0.0, 0.25])[:, None, None]) / torch.tensor(
            [1.0, 2.0, 0.5]
        )[:, None, None]
        torch.testing.assert_close(getattr(own, split).images, expected, rtol=1e-5, atol=1e-6)


def test_shape_and_statistics_of_digits():
    data = open_data("digits")
    assert (data.name, data.classes, data.channels, data.image_size) == ("digits", 10, 1, 8)
    assert data.train.images.shape == (1437, 1, 8, 8)
    assert (data.train.images.dtype, data.train.labels.dtype) == (torch.float32, torch.int64)
    pixels = data.train.images.double()
    assert pixels.mean().item() == pytest.approx(0, abs=1e-6)
    assert pixels.std(unbiased=False).item() == pytest.approx(1, abs=1e-6)


def test_a_file_gives_the_same_as_its_record(toy, tmp_path):
    store.write(tmp_path / "toy.h5", toy)
    part = DataPart(fraction=0.5, label_noise=0.2, pixel_noise=0.1, seed=2)
    for given in (DataPart(), part):
        one, two = load(toy, given), load(tmp_path / "toy.h5", given)
        assert torch.equal(one.train.images, two.train.images)
        assert torch.equal(one.train.labels, two.train.labels)
        assert torch.equal(one.test.images, two.test.images)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_load_is_on_the_training_split_only(toy, mode):
    clean = load(toy)
    part = DataPart(fraction=0.5, label_noise=0.6, pixel_noise=0.3, transforms=mode)
    data = load(toy, part)
    assert torch.equal(data.test.images, clean.test.images)
    assert torch.equal(data.test.labels, clean.test.labels)
    assert len(data.train) == 30
    assert torch.equal(load(toy).train.images, clean.train.images)  # the record is unharmed


def test_fixed_load_piece_by_piece(toy):
    clean = load(toy)
    part = DataPart(fraction=0.4, label_noise=0.5, pixel_noise=0.3, seed=7)
    data = load(toy, part)
    labels = toy.arrays["train_labels"].values
    kept = transforms.fixed_subset(labels, 0.4, 7)
    noise = torch.zeros(24, 3, 6, 6)
    transforms.add_pixel_noise(noise, kept, 0.3, 7)
    std = torch.tensor(STD)[:, None, None]
    expected = clean.train.images[torch.from_numpy(kept)] + noise / std
    assert torch.allclose(data.train.images, expected, atol=1e-5)
    noisy = transforms.fixed_label_noise(labels, kept, 0.5, 5, 7)
    assert data.train.labels.tolist() == noisy.tolist()
    assert (noisy != labels[kept]).any()


def test_paper_load_piece_by_piece(toy):
    part = DataPart(fraction=0.4, label_noise=0.5, pixel_noise=0.3, transforms="paper")
    data = load(toy, part)
    images, labels = (toy.arrays[f"train_{key}"].values for key in ("images", "labels"))
    images, labels = transforms.paper_load(images, labels, 5, 255.0, part)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    unit = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    assert torch.allclose(data.train.images, (unit - mean) / std, atol=1e-5)
    assert data.train.labels.tolist() == labels.tolist()


def test_held_out_images_are_the_others_and_clean(toy):
    """What a fraction leaves out: no image of the training split, true labels, no noise."""
    clean, labels = load(toy), toy.arrays["train_labels"].values
    part = DataPart(fraction=0.4, label_noise=1.0, pixel_noise=0.3, seed=7)
    data = load(toy, part)
    kept = set(transforms.fixed_subset(labels, 0.4, 7).tolist())
    rest = [place for place in range(60) if place not in kept]
    assert data.held_out.labels.tolist() == labels[rest].tolist()
    assert torch.equal(data.held_out.images, clean.train.images[rest])
    assert clean.held_out is None
    assert load(toy, DataPart(fraction=0.4, transforms="paper")).held_out is None


def test_inputs_of_other_images_are_normalised_alike(toy):
    scaled = to_record("toy", arrays(), scale=51.0, mean=MEAN, std=STD)
    data = load(scaled)
    found = inputs(scaled.arrays["test_images"].values, data.pixels, "cpu")
    assert torch.equal(found, data.test.images)


def test_the_device_is_that_asked_for(toy):
    data = load(toy, DataPart(pixel_noise=0.1), device="meta")
    for split in (data.train, data.test):
        assert split.images.device.type == split.labels.device.type == "meta"


def test_a_damaged_or_foreign_record_is_refused(toy, tmp_path):
    lacking = to_record("toy", arrays())
    del lacking.arrays["test_labels"]
    with pytest.raises(UserError, match="lacks 'test_labels'"):
        load(lacking)
    store.write(tmp_path / "metric.h5", store.Record("metric"))
    with pytest.raises(UserError, match="holds 'metric', not 'dataset'"):
        load(tmp_path / "metric.h5")
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "gone.h5")


def test_names_and_files(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"has not been converted here .*results/data/cifar10\.h5"):
        open_data("cifar10")
    store.write(paths.dataset("cifar10"), toy)
    assert torch.equal(open_data("cifar10").train.images, load(toy).train.images)
    assert open_data(paths.dataset("cifar10")).classes == 5
    with pytest.raises(UserError, match=r"unknown data 'digit' .*did you mean 'digits'"):
        open_data("digit")
    with pytest.raises(UserError, match="unknown data 'taxonomy_results'"):
        open_data("taxonomy_results")


def test_an_npz_of_floats(tmp_path):
    given = arrays(channels=1)
    for key in ("train_images", "test_images"):
        given[key] = given[key][..., 0] / 255
    np.savez(tmp_path / "own.npz", **given)
    data = open_data(str(tmp_path / "own.npz"))
    assert (data.name, data.classes, data.channels, data.image_size) == ("own", 5, 1, 6)
    assert data.train.images.mean().item() == pytest.approx(0, abs=1e-5)
    expected = (given["test_images"] - given["train_images"].mean()) / given["train_images"].std()
    assert np.allclose(data.test.images[:, 0].numpy(), expected, atol=1e-5)


OWN = """
import numpy as np, torch
from lossatlas import Task
from lossatlas.data.tensors import Split, TensorData
rng = np.random.default_rng(0)
arrays = {
    "x_train": rng.integers(0, 256, (9, 4, 4), dtype=np.uint8), "y_train": np.arange(9) % 3,
    "x_test": rng.integers(0, 256, (6, 4, 4), dtype=np.uint8), "y_test": np.arange(6) % 3,
}
split = Split(torch.zeros(4, 1, 3, 3), torch.tensor([0, 1, 1, 0]))
tensors = TensorData("mine", split, split, 2)
def make(): return tensors
def fail(): raise RuntimeError("no luck")
nothing = 3
class Squares(Task):
    def per_example(self, outputs, targets):
        return (outputs - torch.eye(outputs.shape[1])[targets]).square().sum(1)
def bad(images=split.images, labels=split.labels):
    return TensorData("bad", split, Split(images, labels), 2)
def bad_shape(): return bad(images=torch.zeros(4, 1, 3, 2))
def bad_count(): return bad(labels=torch.zeros(3, dtype=torch.int64))
def bad_type(): return bad(images=torch.zeros(4, 1, 3, 3, dtype=torch.float64))
def bad_range(): return bad(labels=torch.tensor([0, 1, 2, 0]))
def bad_empty(): return bad(images=torch.zeros(0, 1, 3, 3), labels=torch.zeros(0).long())
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_data_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_data_of_a_test"
    sys.modules.pop("own_data_of_a_test", None)


def test_a_users_object(own):
    data = open_data(f"{own}:arrays")
    assert (data.classes, data.train.images.shape) == (3, (9, 1, 4, 4))
    for name in ("tensors", "make"):
        data = open_data(f"{own}:{name}")
        assert (data.name, data.classes, data.train.labels.tolist()) == ("mine", 2, [0, 1, 1, 0])


@pytest.mark.parametrize("transforms", ["fixed", "paper"])
def test_images_have_the_task_that_is_asked_for(toy, own, transforms):
    """Training, test and held-out images: a built-in data set with a loss of one's own, too."""
    part = DataPart(task=f"{own}:Squares", fraction=0.5, transforms=transforms)
    found = load(toy, part)
    splits = [split for split in (found.train, found.test, found.held_out) if split is not None]
    assert len(splits) == (3 if transforms == "fixed" else 2)
    assert {split.task.name for split in splits} == {f"{own}:Squares"}
    assert {split.task.name for split in (load(toy).train, load(toy).test)} == {"classification"}


def test_a_task_beside_that_of_a_users_object_is_refused(own):
    with pytest.raises(UserError, match=":make: a TensorData has its own task, 'classification'"):
        open_data(f"{own}:make", task=f"{own}:Squares")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fail", ":fail' fails: RuntimeError: no luck"),
        ("nothing", ":nothing: gives a int"),
        ("mak", "has no 'mak' .*did you mean 'make'"),
        ("bad_shape", r"bad_shape, test: images have shape \(4, 1, 3, 2\)"),
        ("bad_empty", r"images have shape \(0, 1, 3, 3\)"),
        ("bad_count", r"labels have shape \(3,\) for 4 images"),
        ("bad_type", "images are torch.float64"),
        ("bad_range", "labels run from 0 to 2 .*0 to 1"),
    ],
)
def test_a_users_object_that_is_no_data(own, name, message):
    with pytest.raises(UserError, match=message):
        open_data(f"{own}:{name}")


def test_a_module_that_does_not_import():
    with pytest.raises(UserError, match="data: no module named 'no_such_module_at_all'"):
        open_data("no_such_module_at_all:thing")


def test_loading_imports_nothing_heavy(toy, tmp_path):
    """Jobs load converted data: torchvision, scikit-learn and torch's compiler stay out."""
    store.write(tmp_path / "toy.h5", toy)
    code = """
import sys
from lossatlas.data.loading import load
from lossatlas.spec.parts import DataPart
load(sys.argv[1], DataPart(fraction=0.5, label_noise=0.1, pixel_noise=0.1))
load(sys.argv[1], DataPart(fraction=0.5, label_noise=0.1, transforms="paper"))
heavy = {"torchvision", "sklearn", "scipy", "pooch", "requests", "pandas", "torch._dynamo", "sympy"}
sys.exit(", ".join(heavy & set(sys.modules)) or 0)
"""
    library = Path(paths.LIBRARY).parent
    command = [sys.executable, "-c", code, str(tmp_path / "toy.h5")]
    done = subprocess.run(command, cwd=library, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
