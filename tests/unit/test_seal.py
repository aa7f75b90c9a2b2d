"""Checksums inside files: every flipped bit is found, whatever it hits."""

import random
import resource
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from lossatlas import seal, store
from lossatlas.errors import UserError
from lossatlas.training import checkpoints
from lossatlas.training.state import State

DIGEST = "ab" * 32


def record(path: Path) -> None:
    whole = store.Record(
        "hessian",
        [store.Scalar("trace", 3.5, 0), store.Scalar("trace", 4.5, 1)],
        [store.Series("density", np.arange(4), np.arange(4.0), "eigenvalue", 1)],
        {"probes": store.Array(np.ones((2, 3)), ("replica", "probe"))},
    )
    store.write(path, whole)


def weights(path: Path) -> None:
    kept = {"final": ({"w": torch.arange(6.0).view(2, 3)}, {})}
    network = SimpleNamespace(trainable=["w"])
    checkpoints.save(
        path, SimpleNamespace(seeds=[0, 1], checkpoints=kept, functional=network), DIGEST
    )


def read_weights(path: Path) -> dict:
    return checkpoints.read_weights([str(path)], [0, 1], "final", "np", DIGEST)


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


@settings(deadline=None)  # for machines with other work
@given(st.binary(max_size=200), st.binary(max_size=9000), st.data())
def test_every_flipped_bit_is_found(before: bytes, after: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(before + seal.BLANK.encode() + after)
        seal.close(path)
        content = path.read_bytes()
        assert seal.whole(path) is True
        place = data.draw(st.integers(0, len(content) - 1))
        path.write_bytes(flipped(content, place, data.draw(st.integers(0, 7))))
        assert seal.whole(path) is not True


@pytest.mark.parametrize(("write", "read"), [(record, store.read), (weights, read_weights)])
def test_no_flipped_bit_is_read(tmp_path: Path, write, read) -> None:
    """A hit on the seal's own mark leaves a file that looks as if it had none: refused as well."""
    path = tmp_path / "file"
    write(path)
    content = path.read_bytes()
    start = content.index(b"lossatlas-crc32=")
    chance = random.Random(1)
    for place in [*range(start, start + 24), *chance.sample(range(len(content)), 60)]:
        path.write_bytes(flipped(content, place, chance.randrange(8)))
        with pytest.raises(UserError) as caught:
            read(path)
        assert "delete it and run the same command again" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 7, 300, 600, -20])
@pytest.mark.parametrize(("write", "read"), [(record, store.read), (weights, read_weights)])
def test_truncated(tmp_path: Path, write, read, size: int) -> None:
    path = tmp_path / "file"
    write(path)
    path.write_bytes(path.read_bytes()[:size] if size < path.stat().st_size else b"")
    with pytest.raises(UserError, match="truncated"):
        read(path)


def large_record(path: Path) -> None:
    numbers = np.random.default_rng(1).standard_normal(20_000)
    series = [store.Series("a", np.arange(200), numbers[:200], "x", seed) for seed in range(20)]
    store.write(path, store.Record("x", [], series, {"a": store.Array(numbers, ("i",))}))


def large_weights(path: Path) -> None:
    kept = {"final": ({"w": torch.zeros(1, 90_000)}, {})}
    network = SimpleNamespace(trainable=["w"])
    checkpoints.save(path, SimpleNamespace(seeds=[0], checkpoints=kept, functional=network), DIGEST)


def large_state(path: Path) -> None:
    State(path, "work").save({"x": torch.zeros(90_000)}, {})


@pytest.mark.parametrize("write", [large_record, large_weights, large_state])
@pytest.mark.parametrize("room", [0, 5_000, 70_000, 150_000])
def test_a_disk_that_refuses_more_is_one_line(tmp_path: Path, write, room: int) -> None:
    """HDF5 took the process with it, and safetensors has errors of its own."""
    (tmp_path / "old").write_text("as it was")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            write(tmp_path / "old")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    says = "old: cannot be written: File too large (free some space"
    assert says in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "as it was"


def test_files_from_before_there_were_seals_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    record(path)
    path.write_bytes(path.read_bytes()[512:])  # an HDF5 file without its user block
    assert seal.whole(path) is None
    assert store.read(path).scalars[1].value == 4.5
    weights(tmp_path / "new")
    tensors = load((tmp_path / "new").read_bytes())
    save_file(tensors, tmp_path / "old", {"digest": DIGEST})
    assert read_weights(tmp_path / "old").keys() == {0, 1}


def test_a_record_is_an_ordinary_hdf5_file(tmp_path: Path) -> None:
    import h5py

    record(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["kind"] == "hessian"


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    for write in (record, weights):
        write(tmp_path / "a")
        write(tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_damaged_state_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "state"
    values = {"history": list(range(2000))}  # longer than what is searched for the seal
    State(path, "key").save({"x": torch.ones(50)}, values)
    content = path.read_bytes()
    found = State(path, "key").load(torch.device("cpu"))
    assert found is not None
    assert found[1] == values
    chance = random.Random(2)
    for place in chance.sample(range(len(content)), 60):
        path.write_bytes(flipped(content, place, chance.randrange(8)))
        assert State(path, "key").load(torch.device("cpu")) is None


def test_a_file_without_room_is_not_sealed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"no room")
    with pytest.raises(ValueError, match="no room"):
        seal.close(path)
    assert path.read_bytes() == b"no room"


@pytest.mark.parametrize("write", [record, weights])
def test_the_stamp_tells_contents_apart(tmp_path: Path, write) -> None:
    path = tmp_path / "file"
    write(path)
    first = seal.stamp(path)
    assert len(first) == 8
    path.write_bytes(path.read_bytes())
    assert seal.stamp(path) == first
    foreign = tmp_path / "foreign"  # without a seal
    foreign.write_bytes(b"some")
    assert seal.stamp(foreign) == f"{zlib.crc32(b'some'):08x}"
