"""Readers and conversion: digits, MNIST, noise, .npz files. Other archives: test_data_formats."""

import gzip
import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lossatlas import store
from lossatlas.data import convert as module
from lossatlas.data import readers
from lossatlas.data.arrays import NAMES, to_record
from lossatlas.data.convert import convert
from lossatlas.data.download import fetch
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import data_sources
from published_images import idx

RANDOM = np.random.default_rng(0)


def values(record):
    return {key: array.values for key, array in record.arrays.items()}


def row_for(monkeypatch, copied, archive, **changes):
    """Make the datasets table describe a file of this test."""
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    row = replace(data_sources()[copied], sha256=sha256, **changes)
    monkeypatch.setattr(module, "data_source", lambda name: row)


def test_digits_split():
    record = convert("digits")
    data = values(record)
    assert data["train_images"].shape == (1437, 8, 8, 1)
    assert data["test_images"].shape == (360, 8, 8, 1)
    train = [142, 145, 142, 146, 145, 146, 145, 143, 139, 144]
    test = [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert np.bincount(data["train_labels"]).tolist() == train
    assert np.bincount(data["test_labels"]).tolist() == test
    # the split is fixed for ever: these sums move with any image that changes sides
    weights = np.arange(1, 361)
    assert int(data["test_images"].sum(axis=(1, 2, 3)) @ weights) == 20527588
    assert int(data["test_labels"] @ weights) == 296857
    whole = np.concatenate([data["train_images"], data["test_images"]])
    assert int(whole.sum()) == 561718
    assert record.settings["scale"] == 16
    unit = data["train_images"] / 16
    assert record.settings["mean"] == pytest.approx([unit.mean()], rel=1e-12)
    assert record.settings["std"] == pytest.approx([unit.std()], rel=1e-12)
    assert record.settings["classes"] == 10


def test_digits_keep_the_order_of_the_file():
    from sklearn.datasets import load_digits

    whole = load_digits().images.astype(np.uint8)
    place = {image.tobytes(): i for i, image in enumerate(whole)}
    assert len(place) == len(whole)
    data = readers.digits()
    places = {
        split: [place[image.tobytes()] for image in data[f"{split}_images"]]
        for split in ("train", "test")
    }
    assert places["train"] == sorted(places["train"])
    assert places["test"] == sorted(places["test"])
    assert not set(places["train"]) & set(places["test"])


def test_a_record_survives_the_file(tmp_path):
    record = convert("digits")
    store.write(tmp_path / "digits.h5", record)
    again = store.read(tmp_path / "digits.h5", "dataset")
    assert all(np.array_equal(values(record)[key], values(again)[key]) for key in NAMES)
    assert again.settings == record.settings
    assert again.spec == record.spec
    assert again.arrays["train_images"].values.dtype == np.uint8
    assert again.arrays["train_images"].axes == ("image", "row", "column", "channel")


def mnist_files(folder, count=30, test=20):
    """The four files of MNIST, small, and what they hold."""
    images = RANDOM.integers(0, 256, (count + test, 28, 28), dtype=np.uint8)
    labels = (np.arange(count + test) % 10).astype(np.uint8)
    arrays = (images[:count], labels[:count], images[count:], labels[count:])
    rows = [data_sources()[part] for part in data_sources()["mnist"].parts]
    files = [folder / row.file for row in rows]
    for file, array in zip(files, arrays, strict=True):
        file.write_bytes(idx(array))
    rows = [
        replace(
            row,
            size=file.stat().st_size,
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for row, file in zip(rows, files, strict=True)
    ]
    return files, rows, dict(zip(NAMES, arrays, strict=True))


def test_mnist_from_a_server_to_a_record(tmp_path, monkeypatch):
    """The four IDX files are fetched from a mirror, verified, and read."""
    published, fetched = tmp_path / "published", tmp_path / "fetched"
    published.mkdir()
    _, rows, arrays = mnist_files(published)
    handler = partial(SimpleHTTPRequestHandler, directory=str(published))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        for row in rows:
            mirrors = (f"{address}/no/{row.file}", f"{address}/{row.file}")
            fetch(replace(row, mirrors=mirrors), fetched / row.file)
    finally:
        server.shutdown()
        server.server_close()
    monkeypatch.setattr(module, "files_of", lambda _: rows)
    row = replace(data_sources()["mnist"], train=30, test=20)
    monkeypatch.setattr(module, "data_source", lambda _: row)
    record = convert("mnist", *(fetched / row.file for row in rows))
    data = values(record)
    assert np.array_equal(data["train_images"][..., 0], arrays["train_images"])
    assert np.array_equal(data["test_images"][..., 0], arrays["test_images"])
    assert data["test_labels"].tolist() == arrays["test_labels"].tolist()
    assert data["train_labels"].dtype == np.int64
    assert (record.settings["mean"], record.settings["std"]) == ([0.1307], [0.3081])
    assert record.spec["sha256"].split() == [row.sha256 for row in rows]


def test_mnist_needs_all_its_files_and_the_right_ones(tmp_path, monkeypatch):
    files, rows, _ = mnist_files(tmp_path)
    monkeypatch.setattr(module, "files_of", lambda _: rows)
    with pytest.raises(UserError, match=r"there is no file 't10k-labels-idx1-ubyte\.gz'"):
        convert("mnist", *files[:3])
    files[1].write_bytes(idx(np.zeros(30, np.uint8)))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz: has sha256"):
        convert("mnist", *files)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no gzip", "cannot be unpacked: Not a gzipped file"),
        (gzip.compress(b""), "is no IDX file of bytes"),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\x01abcd"), "is no IDX file of bytes"),
        (gzip.compress(b"\0\0\x08\x00"), "is no IDX file of bytes"),
        (gzip.compress(b"\0\0\x08\x09" + b"\0\0\0\x01" * 9), "is no IDX file of bytes"),
        (gzip.compress(b"\0\0\x08\x02\0\0"), "cannot be unpacked"),
        (gzip.compress(b"\0\0\x08\x02" + b"\xff" * 8), "announces 18446744065119617025 bytes"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03ab"), "holds fewer bytes than the 3"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abcd"), "holds more bytes than the 3"),
        (idx(np.zeros(5000, np.uint8))[:-9], "cannot be unpacked"),
    ],
    ids=range(10),  # gzip notes the time, so that bytes make no names
)
def test_damaged_idx_files_are_refused(tmp_path, content, says):
    file = tmp_path / "images.gz"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        readers.idx(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        readers.idx(tmp_path / "gone.gz")


def noise_row(monkeypatch, name):
    row = replace(data_sources()[name], train=2000, test=300)
    monkeypatch.setattr(module, "data_source", lambda _: row)
    return convert(name)


def test_gauss_is_gaussian(monkeypatch):
    record = noise_row(monkeypatch, "gauss")
    data = values(record)
    assert data["train_images"].shape == (2000, 32, 32, 3)
    assert data["test_images"].shape == (300, 32, 32, 3)
    pixels = data["train_images"].astype(np.float64).ravel()
    count = len(pixels)
    assert abs(pixels.mean()) < 4 / np.sqrt(count)
    assert abs(pixels.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((pixels**4).mean() - 3) < 4 * np.sqrt(96 / count)
    assert not np.array_equal(data["train_images"][:300], data["test_images"])
    assert not np.array_equal(data["train_labels"][:300], data["test_labels"])
    assert sorted(set(data["train_labels"])) == list(range(10))
    assert record.settings["classes"] == 10
    assert (record.settings["mean"], record.settings["std"]) == ([0, 0, 0], [1, 1, 1])


def test_gauss_of_the_paper_is_uniform_and_lacks_a_class(monkeypatch):
    record = noise_row(monkeypatch, "gauss_paper")
    data = values(record)
    for split in ("train", "test"):
        pixels = data[f"{split}_images"].astype(np.float64)
        assert pixels.max() == 1
        assert pixels.min() >= 0
        assert abs(pixels.mean() - 0.5) < 4 / np.sqrt(12 * pixels.size)
        assert abs(pixels.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / pixels.size)
        assert sorted(set(data[f"{split}_labels"])) == list(range(9))
    assert record.settings["classes"] == 10
    assert record.settings["mean"] == [0.1307] * 3
    assert record.settings["std"] == [0.3081] * 3
    counts = np.bincount(data["train_labels"])
    assert ((counts - 2000 / 9) ** 2 / (2000 / 9)).sum() < 26  # 8 degrees of freedom
    again = values(noise_row(monkeypatch, "gauss_paper"))
    assert np.array_equal(again["train_images"], data["train_images"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("train", 31), ("test", 19), ("classes", 11), ("channels", 3), ("image_size", 32)],
)
def test_data_unlike_their_row_are_refused(tmp_path, monkeypatch, key, value):
    labels = np.arange(50) % 10
    images = np.zeros((50, 28, 28), np.uint8)
    file = tmp_path / "own.npz"
    np.savez(file, x_train=images[:30], y_train=labels[:30], x_test=images[30:], y_test=labels[30:])
    shape = {"train": 30, "test": 20, "channels": 1, "image_size": 28, "file": "own.npz"}
    row_for(monkeypatch, "cifar10", file, name="own", **(shape | {key: value}))
    with pytest.raises(UserError, match=f"own: holds {key} = .* the table says {value}"):
        convert("own", file)


def test_what_cannot_be_converted(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"there is no file 'cifar-10-python\.tar\.gz'"):
        convert("cifar10")
    with pytest.raises(UserError, match=r"there is no file '.*gone'"):
        convert("cifar10", tmp_path / "gone")
    with pytest.raises(UserError, match=r"unknown data set 'cifar11'.*did you mean 'cifar10'"):
        convert("cifar11")
    with pytest.raises(UserError, match="unknown data set 'taxonomy_results'"):
        convert("taxonomy_results")
    file = tmp_path / "own.zip"
    file.write_bytes(b"x")
    row_for(monkeypatch, "cifar10", file, name="own", file="own.zip")
    with pytest.raises(UserError, match=r"no reader for 'own\.zip'"):
        convert("own", file)


def test_npz_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        readers.npz(tmp_path / "gone.npz")
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        readers.npz(bad)
    np.savez(bad, train_images=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"not a readable \.npz: .*allow_pickle"):
        readers.npz(bad)
    np.savez(bad, train_images=np.zeros((1000, 8, 8)))
    bad.write_bytes(bad.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        readers.npz(bad)
    with bad.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="one bare array"):
        readers.npz(bad)


def good():
    images = RANDOM.integers(0, 256, (12, 5, 5, 2), dtype=np.uint8)
    labels = np.arange(12) % 3
    return {
        "train_images": images[:9],
        "train_labels": labels[:9],
        "test_images": images[9:],
        "test_labels": labels[9:],
    }


def nan_image():
    images = np.zeros((9, 5, 5, 2))
    images[1, 2, 3, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_images", None, "toy: has no 'train_images' .*train_labels, test_images"),
        ("train_images", np.zeros((9, 50), np.uint8), r"toy, train_images: has shape \(9, 50\)"),
        ("test_images", np.zeros((0, 5, 5, 2), np.uint8), r"test_images: has shape \(0, 5, 5, 2\)"),
        ("train_images", np.zeros((9, 5, 5, 2), int), "train_images: has type int64"),
        ("train_images", np.zeros((9, 5, 4, 2), np.uint8), "train_images: 5 x 4 pixels"),
        ("train_images", nan_image(), "train_images: holds NaN"),
        ("test_images", np.zeros((3, 6, 6, 2), np.uint8), "5 x 5 x 2 of uint8, test images 6 x 6"),
        ("test_images", np.zeros((3, 5, 5, 2)), "test images 5 x 5 x 2 of float32"),
        ("train_labels", np.arange(8), r"train_labels: has shape \(8,\) for 9 images"),
        ("train_labels", np.eye(9, dtype=int), r"train_labels: has shape \(9, 9\)"),
        ("test_labels", np.zeros(3), "test_labels: has type float64"),
        ("test_labels", np.array([0, -1, 2]), "test_labels: has a label -1"),
        ("test_labels", np.array([0, 3, 2]), "has a label 3, but training labels end at 2"),
    ],
)
def test_bad_arrays_are_refused(key, value, message):
    arrays = good() | {key: value}
    if value is None:
        del arrays[key]
    with pytest.raises(UserError, match=message) as caught:
        to_record("toy", arrays)
    assert "\n" not in str(caught.value)


def test_defaults_of_a_users_data():
    arrays = good()
    record = to_record("toy", arrays)
    unit = arrays["train_images"] / 255
    assert record.settings["scale"] == 255
    assert record.settings["classes"] == 3
    assert record.settings["mean"] == pytest.approx(unit.mean(axis=(0, 1, 2)))
    assert record.settings["std"] == pytest.approx(unit.std(axis=(0, 1, 2)))
    floats = {key: value / 4 if "images" in key else value for key, value in arrays.items()}
    floats["train_images"][..., 1] = floats["test_images"][..., 1] = 0.25
    record = to_record("toy", floats)
    assert record.settings["scale"] == 1
    assert record.settings["mean"][1] == 0.25
    assert record.settings["std"][1] == 1.0  # constant channel
    assert record.arrays["train_images"].values.dtype == np.float32


def test_reversed_and_readonly_arrays_are_taken():
    arrays = {key: value[::-1] for key, value in good().items()}
    for value in arrays.values():
        value.flags.writeable = False
    for key, value in values(to_record("toy", arrays)).items():
        assert np.array_equal(value, arrays[key])
        assert value.flags.writeable
        assert value.flags.c_contiguous
