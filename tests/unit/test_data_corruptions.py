"""Archives of corrupted images in the format of CIFAR-10-C, made here."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from corrupted import served, write
from lossatlas import paths
from lossatlas.data import download
from lossatlas.data.corruptions import Corruptions
from lossatlas.data.tensors import Pixels, Split, TensorData
from lossatlas.errors import UserError
from lossatlas.simplex import shifts
from lossatlas.spec.catalogue import DataSource, corrupted_source, data_source

COUNT = 7
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 10, COUNT)


def arrays(size: int = 4, channels: int = 3) -> dict[str, np.ndarray]:
    """Return what the archive holds, as published: bytes, labels too, severity by severity."""
    shape = (5 * COUNT, size, size, channels)
    kinds = {kind: RANDOM.integers(0, 256, shape, dtype=np.uint8) for kind in ("snow", "fog")}
    return {**kinds, "labels": np.tile(LABELS, 5).astype(np.uint8)}


def data(size: int = 4, channels: int = 3) -> TensorData:
    images = torch.zeros(COUNT, channels, size, size)
    split = Split(images, torch.from_numpy(LABELS))
    pixels = Pixels(255.0, (0.5,) * channels, (0.25,) * channels)
    return TensorData("toy", split, split, 10, pixels=pixels)


def test_reads_each_kind_and_severity(tmp_path: Path) -> None:
    content = arrays()
    archive = Corruptions(write(tmp_path / "c.tar", content))
    assert archive.kinds == ["fog", "snow"]
    assert archive.labels.tolist() == LABELS.tolist()
    for kind in archive.kinds:
        whole = content[kind].reshape(5, COUNT, 4, 4, 3)
        for severity in range(1, 6):
            assert np.array_equal(archive.images(kind, severity), whole[severity - 1])


def test_the_row_of_the_table() -> None:
    row = corrupted_source("cifar10_c")
    assert (row.file, row.size) == ("CIFAR-10-C.tar", 2918471680)
    assert row.test == 19 * 5 * data_source("cifar10").test
    with pytest.raises(UserError, match="unknown data set 'cifar10_c'"):
        data_source("cifar10_c")
    with pytest.raises(UserError, match=r"unknown set of corrupted images 'cifar10_d'.*cifar10_c"):
        corrupted_source("cifar10_d")


def bad(change) -> dict[str, np.ndarray]:
    content = arrays()
    change(content)
    return content


BAD = [
    (lambda c: c.pop("labels"), "holds no labels.npy"),
    (lambda c: (c.pop("fog"), c.pop("snow")), "or no images beside it"),
    (lambda c: c.update(fog=np.array([{}] * 35, dtype=object)), "pickled objects"),
    (lambda c: c.update(fog=np.asfortranarray(c["fog"])), "columns first"),
    (lambda c: c.update(fog=c["fog"][:-1]), r"shape \(34, 4, 4, 3\) for 35 labels"),
    (lambda c: c.update(fog=c["fog"].astype(float)), "holds float64"),
    (lambda c: c.update(labels=c["labels"][:-1]), r"labels.npy has shape \(34,\)"),
    (lambda c: c["labels"].__setitem__(0, 11), "severities have different labels"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_bad_archives_are_one_line(tmp_path: Path, change, says: str) -> None:
    path = write(tmp_path / "c.tar", bad(change))
    with pytest.raises(UserError, match=says) as caught:
        Corruptions(path).images("fog", 1)
    assert "\n" not in str(caught.value)


def test_damaged_archives(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Corruptions(tmp_path / "gone.tar")
    path = write(tmp_path / "c.tar", arrays())
    whole = path.read_bytes()
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        Corruptions(path)
    path.write_bytes(whole[:2500])
    with pytest.raises(UserError):
        Corruptions(path)


def test_fetched_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server, over the table's checks, to inputs of networks."""
    content = arrays()
    body = write(tmp_path / "toy_c.tar", content).read_bytes()

    row = DataSource(
        name="toy_c",
        version="1",
        file="toy_c.tar",
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        mirrors=(),
        licence="none",
        train=0,
        test=10 * COUNT,
        classes=10,
        channels=3,
        image_size=4,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    monkeypatch.setattr(shifts, "corrupted_source", lambda _: row)
    with pytest.raises(UserError, match="no such file"):
        shifts.Shifts(data(), [], "toy_c")
    with served(tmp_path) as address:
        download.fetch(
            replace(row, mirrors=(f"{address}/toy_c.tar",)), Path(paths.download(row.file))
        )
    found = shifts.Shifts(data(), [0.5], "toy_c")
    assert found.severities == {"noise": [0.5], "fog": [1, 2, 3, 4, 5], "snow": [1, 2, 3, 4, 5]}
    third = list(found.images("snow"))[2].numpy()
    raw = content["snow"][2 * COUNT : 3 * COUNT].transpose(0, 3, 1, 2) / 255.0
    np.testing.assert_allclose(third, (raw - 0.5) / 0.25, atol=1e-6)
    other = data()
    moved = TensorData("toy", other.train, Split(other.test.images, other.test.labels + 1), 10)
    for wrong in (data(size=5), data(channels=1), moved):
        with pytest.raises(UserError, match="is not of the test images of 'toy'"):
            shifts.Shifts(wrong, [], "toy_c")
