"""Archives as they are published: fetched, verified, converted; and what is refused."""

import gzip
import hashlib
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.io

import published_images as published
from corrupted import served
from lossatlas.data import download, readers
from lossatlas.data.arrays import NAMES
from lossatlas.data.convert import convert
from lossatlas.errors import UserError
from lossatlas.spec import catalogue
from lossatlas.spec.catalogue import data_sources, files_of


def values(record):
    return {key: array.values for key, array in record.arrays.items()}


def table(monkeypatch, folder, name, contents, **changes):
    """Make the datasets table describe files of this test; write them, and return their paths.

    Args:
        monkeypatch: Pytest's.
        folder: Where the files shall lie.
        name: The data set.
        contents: Bytes of its files, in the order of the row's parts.
        changes: What else the data set's row says.
    """
    rows, files = [], []
    for row, content in zip(files_of(data_sources()[name]), contents, strict=True):
        file = folder / row.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(replace(row, size=len(content), sha256=sha256, repacked=()))
        files.append(file)
    whole = rows[0] if rows[0].name == name else data_sources()[name]
    known = data_sources() | {row.name: row for row in rows} | {name: replace(whole, **changes)}
    monkeypatch.setattr(catalogue, "data_sources", lambda: known)
    return files


def refused(name, files, says):
    with pytest.raises(UserError, match=says) as caught:
        convert(name, *files)
    assert "\n" not in str(caught.value)
    assert caught.value.where
    assert caught.value.fix


def from_a_server(monkeypatch, tmp_path, name):
    """Fetch the files of a data set from a server on this machine; the first mirror has nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    fetched = []
    with served(tmp_path / "there") as address:
        for row in files_of(catalogue.data_source(name)):
            mirrors = (f"{address}/no/{row.file}", f"{address}/{row.file}")
            download.fetch(replace(row, mirrors=mirrors), tmp_path / "here" / row.file)
            fetched.append(tmp_path / "here" / row.file)
    return fetched


# --- SVHN -------------------------------------------------------------------------------------
def svhn(monkeypatch, folder, train=30, test=20, **changes):
    arrays = published.svhn(train), published.svhn(test)
    contents = [published.mat(one) for one in arrays]
    return table(monkeypatch, folder, "svhn", contents, train=train, test=test, **changes), arrays


def test_svhn_from_a_server_to_a_record(tmp_path, monkeypatch):
    _, (train, test) = svhn(monkeypatch, tmp_path / "there")
    record = convert("svhn", *from_a_server(monkeypatch, tmp_path, "svhn"))
    data = values(record)
    for split, there in (("train", train), ("test", test)):
        images, labels = data[f"{split}_images"], data[f"{split}_labels"]
        for i in range(len(images)):
            assert np.array_equal(images[i], there["X"][:, :, :, i])
            assert labels[i] == (0 if there["y"][i, 0] == 10 else there["y"][i, 0])
    assert sorted(set(data["train_labels"].tolist())) == list(range(10))
    assert record.settings["classes"] == 10
    unit = data["train_images"] / 255
    assert record.settings["mean"] == pytest.approx(unit.mean(axis=(0, 1, 2)))
    assert record.settings["std"] == pytest.approx(unit.std(axis=(0, 1, 2)))


def test_svhn_as_torchvision_reads_it(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    files, _ = svhn(monkeypatch, tmp_path)
    data = values(convert("svhn", *files))
    for split, file in zip(("train", "test"), files, strict=True):
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        monkeypatch.setitem(SVHN.split_list, split, ["", file.name, md5])
        there = SVHN(str(tmp_path), split)
        assert np.array_equal(there.data.transpose(0, 2, 3, 1), data[f"{split}_images"])
        assert np.array_equal(there.labels, data[f"{split}_labels"])


def test_svhn_written_by_scipy(tmp_path, monkeypatch):
    """A .mat file need not be compressed, nor its labels be bytes."""
    arrays = published.svhn(12)
    file = io.BytesIO()
    scipy.io.savemat(file, {**arrays, "y": arrays["y"].astype(np.int16), "note": {"a": 1}})
    contents = [file.getvalue(), published.mat(arrays)]
    files = table(monkeypatch, tmp_path, "svhn", contents, train=12, test=12)
    data = values(convert("svhn", *files))
    assert np.array_equal(data["train_images"], data["test_images"])
    assert np.array_equal(data["train_labels"], data["test_labels"])


def changed(**changes):
    return published.mat(published.svhn(12) | changes)


def of_level_7():
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF\r\n\x1a\n".ljust(512, b"\0")


BYTES = np.zeros((32, 32, 3, 12), np.uint8)
BAD_MAT = {
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>" * 20, "is no readable .mat"),
    "empty": (b"", "is no readable .mat file of level 5: .*truncated"),
    "level 7.3": (of_level_7(), "is no readable .mat file of level 5"),
    "cut off": (changed()[:-20], "is no readable .mat file of level 5"),
    "cut off within": (changed()[:9000], "has no array 'y', it holds X"),
    "other names": (published.mat({"Z": BYTES}), "has no array 'X', it holds Z"),
    "numbers": (changed(X=BYTES.astype(float)), "has shape .* and type double .*uint8"),
    "flat": (changed(X=BYTES.reshape(-1, 12)), r"has shape \(3072, 12\) and type uint8"),
    "few labels": (changed(y=np.ones((11, 1), np.uint8)), r"has shape \(11, 1\) .*\(12, 1\)"),
    "label 0": (changed(y=np.arange(12, dtype=np.uint8)[:, None] % 10), "has labels from 0 to 9"),
    "label 11": (changed(y=np.full((12, 1), 11, np.uint8)), "has labels from 11 to 11"),
    "oblong": (changed(X=BYTES[:, :30]), "32 x 30 pixels"),
    "small": (changed(X=BYTES[:30, :30]), "holds image_size = 30, the table says 32"),
    "grey": (changed(X=BYTES[:, :, :1]), "holds channels = 1, the table says 3"),
    "none": (changed(X=BYTES[..., :0], y=np.ones((0, 1), np.uint8)), r"shape \(0, 32, 32, 3\)"),
}


@pytest.mark.parametrize("which", BAD_MAT)
@pytest.mark.parametrize("split", [0, 1])
def test_bad_files_of_svhn_are_one_line(tmp_path, monkeypatch, which, split):
    content, says = BAD_MAT[which]
    contents = [content, content]
    if which not in ("oblong", "small", "grey"):  # of which both splits must be
        contents[1 - split] = changed()
    files = table(monkeypatch, tmp_path, "svhn", contents, train=12, test=12)
    refused("svhn", files, says)


# --- Fashion-MNIST ----------------------------------------------------------------------------
def fashion(count=30, test=20):
    images = published.RANDOM.integers(0, 256, (count + test, 28, 28), dtype=np.uint8)
    labels = (np.arange(count + test) % 10).astype(np.uint8)
    return images[:count], labels[:count], images[count:], labels[count:]


def test_fashion_mnist_from_a_server_to_a_record(tmp_path, monkeypatch):
    arrays = fashion()
    contents = [published.idx(one) for one in arrays]
    table(monkeypatch, tmp_path / "there", "fashion_mnist", contents, train=30, test=20)
    fetched = from_a_server(monkeypatch, tmp_path, "fashion_mnist")
    assert {file.parent.name for file in fetched} == {"fashion-mnist"}  # MNIST has the same names
    record = convert("fashion_mnist", *fetched)
    for key, array in zip(NAMES, arrays, strict=True):
        assert np.array_equal(values(record)[key].squeeze(), array)
    assert record.settings["mean"] == pytest.approx([(arrays[0] / 255).mean()])


def test_files_that_were_packed_anew_are_taken(tmp_path, monkeypatch):
    """Debian's have another header than the publisher's, and the same content."""
    row = data_sources()["fashion_mnist_test_labels"]
    ours, theirs = (gzip.compress(b"content", mtime=time) for time in (0, 1))
    assert ours != theirs
    sums = [hashlib.sha256(one).hexdigest() for one in (ours, theirs)]
    row = replace(row, size=len(ours) + 1, sha256=sums[0], repacked=(sums[1],), mirrors=())
    file = tmp_path / row.file
    file.parent.mkdir()
    file.write_bytes(theirs)
    download.fetch(row, tmp_path / "here", str(tmp_path))
    assert (tmp_path / "here").read_bytes() == theirs
    file.write_bytes(theirs + b"x")
    with pytest.raises(UserError, match=f"has sha256 .*, expected {sums[0]} or {sums[1]}"):
        download.fetch(row, tmp_path / "other", str(tmp_path))
    assert "repacked" not in catalogue.identity(row)  # it says nothing of the data


BAD_IDX = {
    "labels for images": (0, lambda a: a[1], r"train_images: has shape \(30,\)"),
    "images for labels": (3, lambda a: a[2], r"test_labels: has shape \(20, 28, 28\)"),
    "label 10": (1, lambda a: a[1] + 1, "fashion_mnist, train_labels: has a label 10, .* 10 clas"),
    "label 10 in the test": (3, lambda a: a[3] + 1, "test_labels: has a label 10, but the table"),
    "no test images": (2, lambda a: a[2][:0], r"test_images: has shape \(0, 28, 28\)"),
    "no training images": (0, lambda a: a[0][:0], r"train_images: has shape \(0, 28, 28\)"),
    "few labels": (1, lambda a: a[1][:-1], r"train_labels: has shape \(29,\) for 30 images"),
    "small": (2, lambda a: a[2][:, :14, :14], "test images 14 x 14"),
    "oblong": (0, lambda a: a[0][:, :14], "14 x 28 pixels"),
}


@pytest.mark.parametrize("which", BAD_IDX)
def test_bad_files_of_fashion_mnist_are_one_line(tmp_path, monkeypatch, which):
    place, change, says = BAD_IDX[which]
    arrays = list(fashion())
    arrays[place] = change(arrays)
    contents = [published.idx(one) for one in arrays]
    files = table(monkeypatch, tmp_path, "fashion_mnist", contents, train=30, test=20)
    refused("fashion_mnist", files, says)


def test_parts_of_another_kind(tmp_path, monkeypatch):
    contents = [published.idx(one) for one in fashion()]
    parts = data_sources()["fashion_mnist"].parts[:3]
    files = table(monkeypatch, tmp_path, "fashion_mnist", contents, parts=parts)
    refused("fashion_mnist", files[:3], "fashion_mnist, parts: no reader for its 3 files")


# --- CIFAR ------------------------------------------------------------------------------------
def cifar(monkeypatch, folder, classes, per_file, write=published.pickled):
    """Write an archive of CIFAR; return its path and batches."""
    batches = published.cifar_batches(classes, per_file)
    files = {name: write(content) for name, content in batches.items()}
    files |= {n: c for n, c in published.cifar_files(classes, batches).items() if "meta" in n}
    folder.mkdir(exist_ok=True)
    made = published.tar(folder / "made.tar.gz", files, published.CIFAR[classes][0])
    train = per_file * (len(batches) - 1)
    content, name = made.read_bytes(), f"cifar{classes}"
    (file,) = table(monkeypatch, folder, name, [content], train=train, test=per_file)
    return file, batches, files


@pytest.mark.parametrize(("classes", "per_file"), [(10, 20), (100, 200)])
def test_cifar_from_a_server_to_a_record(tmp_path, monkeypatch, classes, per_file):
    name = f"cifar{classes}"
    _, batches, _ = cifar(monkeypatch, tmp_path / "there", classes, per_file)
    record = convert(name, *from_a_server(monkeypatch, tmp_path, name))
    data = values(record)
    *train, test = batches
    key = "labels" if classes == 10 else "fine_labels"
    assert np.array_equal(data["train_images"], published.cifar_images(batches, train))
    assert np.array_equal(data["test_images"], published.cifar_images(batches, [test]))
    assert data["train_labels"].tolist() == [mark for one in train for mark in batches[one][key]]
    assert data["test_labels"].tolist() == batches[test][key]
    assert record.settings["classes"] == classes
    if classes == 10:
        assert record.settings["mean"] == [0.4914, 0.4822, 0.4465]
        assert record.settings["std"] == [0.2023, 0.1994, 0.2010]
    else:
        unit = data["train_images"] / 255
        assert record.settings["mean"] == pytest.approx(unit.mean(axis=(0, 1, 2)))
        assert record.settings["std"] == pytest.approx(unit.std(axis=(0, 1, 2)))


@pytest.mark.parametrize(("classes", "per_file"), [(10, 20), (100, 200)])
def test_cifar_as_torchvision_reads_it(tmp_path, monkeypatch, classes, per_file):
    """The same arrays, once torchvision is told the checksums of this archive's files."""
    from torchvision.datasets import CIFAR10, CIFAR100

    file, _, files = cifar(monkeypatch, tmp_path, classes, per_file)
    data = values(convert(f"cifar{classes}", file))
    reader = {10: CIFAR10, 100: CIFAR100}[classes]
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    for attribute in ("train_list", "test_list"):
        listed = [[name, sums[name]] for name, _ in getattr(reader, attribute)]
        monkeypatch.setattr(reader, attribute, listed)
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": sums[reader.meta["filename"]]})
    folder = tmp_path / published.CIFAR[classes][0]
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for split in ("train", "test"):
        there = reader(str(tmp_path), train=split == "train")
        assert np.array_equal(there.data, data[f"{split}_images"])
        assert there.targets == data[f"{split}_labels"].tolist()


def test_the_table_alone_says_which_archive_is_right(tmp_path, monkeypatch):
    """Pickles of Python 3, with other labels and bytes for keys: whoever lists it may have it."""

    def write(protocol):
        def one(batch):
            array = np.array(batch["labels"])
            return pickle.dumps({b"data": batch["data"], b"labels": array}, protocol=protocol)

        return one

    for protocol in (2, 4, 5):
        file, batches, _ = cifar(monkeypatch, tmp_path, 10, 20, write(protocol))
        data = values(convert("cifar10", file))
        assert np.array_equal(data["test_images"], published.cifar_images(batches, ["test_batch"]))
        assert data["test_labels"].tolist() == batches["test_batch"]["labels"]


def edited(change):
    """Return how a batch is written that was changed before."""

    def write(batch):
        batch = dict(batch)
        change(batch)
        return published.pickled(batch)

    return write


BAD_BATCH = {
    "no labels": (lambda b: b.pop("labels"), "has no 'data' and 'labels'"),
    "no images": (lambda b: b.pop("data"), "has no 'data' and 'labels'"),
    "square images": (
        lambda b: b.update(data=b["data"].reshape(-1, 3, 1024)),
        r"has shape \(20, 3, 1024\) and type uint8 \(images are \(N, 3072\)",
    ),
    "grey": (lambda b: b.update(data=b["data"][:, :1024]), r"has shape \(20, 1024\)"),
    "few labels": (lambda b: b["labels"].pop(), r"'labels': has shape \(19,\) for 20 images"),
    "a list of lists": (lambda b: b.update(labels=[[1], [1, 2]]), "'labels': is no array"),
    "texts": (lambda b: b.update(labels=["a"] * 20), "'labels': has type <U1"),
    "label 10": (lambda b: b.update(labels=[10] * 20), "has a label 10, but the table says 10"),
    "label -1": (lambda b: b.update(labels=[-1] * 20), "'labels': has a label -1"),
    "no images at all": (
        lambda b: b.update(labels=[], data=b["data"][:0]),
        r"data_batch_1, 'data': has shape \(0, 3072\)",
    ),
}


@pytest.mark.parametrize("which", BAD_BATCH)
def test_bad_batches_of_cifar_are_one_line(tmp_path, monkeypatch, which):
    change, says = BAD_BATCH[which]
    file, _, _ = cifar(monkeypatch, tmp_path, 10, 20, edited(change))
    refused("cifar10", [file], says)


def test_damaged_archives_of_cifar_are_one_line(tmp_path, monkeypatch):
    file, _, files = cifar(monkeypatch, tmp_path, 10, 20)
    whole = file.read_bytes()
    page = b"<html><body>Sign in</body></html>"
    for content in (page, whole[: len(whole) // 2], whole[:-2000], b"", gzip.compress(page)):
        table(monkeypatch, tmp_path, "cifar10", [content])
        refused("cifar10", [file], "cannot be unpacked")
    folder = published.CIFAR[10][0]
    del files["data_batch_3"]
    for left, inside in ((files, folder), (files, "cifar"), ({"escaped": b"x"}, "..")):
        made = published.tar(tmp_path / "made", left, inside).read_bytes()
        table(monkeypatch, tmp_path, "cifar10", [made])
        refused("cifar10", [file], "has no 'cifar-10-batches-py/data_batch_")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "made", "made.tar.gz"]
    files["data_batch_3"] = page
    made = published.tar(tmp_path / "made", files, folder).read_bytes()
    table(monkeypatch, tmp_path, "cifar10", [made])
    refused("cifar10", [file], "data_batch_3: not a readable pickle")


def test_pickles_in_an_archive_run_nothing(tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    file, _, _ = cifar(monkeypatch, tmp_path, 10, 2, lambda _: pickle.dumps(Evil(), protocol=2))
    refused("cifar10", [file], "data_batch_1: refused: it asks for '(io|__builtin__).open'")
    assert not (tmp_path / "ran").exists()


def test_other_archives_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "cifar.tar.gz"
    file.write_bytes(b"other")
    monkeypatch.setattr(readers, "cifar", lambda *_: pytest.fail("was read"))
    with pytest.raises(UserError, match=r"has sha256 .* expected 6d958be0"):
        convert("cifar10", file)


def test_a_web_page_in_place_of_an_archive(tmp_path):
    row = data_sources()["cifar10"]
    (tmp_path / row.file).write_bytes(b"\n<!doctype html><html>Sign in</html>")
    says = rf"{row.file}: has 36 bytes, expected 170498071: it is a web page"
    with pytest.raises(UserError, match=says):
        download.fetch(replace(row, mirrors=()), tmp_path / "out", str(tmp_path))
