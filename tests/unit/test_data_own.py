"""Data of a user's own: an .npz or an object, described when a config is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lossatlas import paths, plugins
from lossatlas.data import describe, own
from lossatlas.errors import UserError
from lossatlas.spec import owndata
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.config import Config, load
from lossatlas.spec.plan import make_plan, parameter_count

MODULE = """
import numpy as np
print("made")
open("mark", "a").write("x")
def plain():
    return dict(np.load("mine.npz"))
def random():
    return {**plain(), "classes": np.random.default_rng().integers(3, 999)}
number = 3
def listed(): return [1]
def fails(): return 1 / 0
def ends():
    import os
    os._exit(3)
def objects(): return {**plain(), "train_images": object()}
def tensors():
    import torch
    return {key: torch.from_numpy(value) for key, value in plain().items() if value.ndim}
constant = {"train_images": 0}
"""


def arrays(train: int = 12, test: int = 6, classes: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (train + test, 4, 4), dtype=np.uint8)
    labels = np.arange(train + test) % classes
    return {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user starts, with their data."""
    np.savez(tmp_path / "mine.npz", **arrays())
    (tmp_path / "plug_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(owndata, "_known", {})
    monkeypatch.delenv(plugins.SWITCH, raising=False)
    yield tmp_path
    sys.modules.pop("plug_data", None)


def config(source: str, **part: object) -> Config:
    return load(
        {
            "datasets": {"mine": {"source": source, **part}},
            "models": {"mlp": {"width": 2}},
            "recipes": {"short": {"epochs": 1, "batch_size": 4}},
            "experiments": {"one": {"dataset": "mine", "model": "mlp", "recipe": "short"}},
        }
    )


def name_of(source: str) -> str:
    return config(source).datasets["mine"].source


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process."""
    monkeypatch.setattr(owndata, "_known", {})


def test_an_npz_needs_no_table(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = config("mine.npz")
    name = loaded.datasets["mine"].source
    assert name == f"mine_{own.file_content(here / 'mine.npz')[:8]}"
    row = data_source(name)
    assert (row.train, row.test, row.classes, row.channels, row.image_size) == (12, 6, 3, 1, 4)
    (cell,) = make_plan(loaded).cells.values()
    assert parameter_count(cell.cell) == 16 * 2 + 2 + 2 * 2 + 2 + 2 * 3 + 3
    assert cell.cell.spec["data"] == {"source": name}
    forget(monkeypatch)
    monkeypatch.setattr(subprocess, "run", None)
    assert name_of("mine.npz") == name  # kept on disk: nothing is looked at again
    with pytest.raises(UserError, match="batch_size 64 is more than the 12 training images"):
        load({**config("mine.npz").model_dump(), **SIXTY_FOUR})


SIXTY_FOUR = {
    "datasets": {"mine": {"source": "mine.npz"}},
    "recipes": {"short": {"epochs": 1, "batch_size": 64}},
}


def test_its_name_is_its_content(here: Path) -> None:
    first = name_of("mine.npz")
    os.utime("mine.npz", (1, 1))
    assert name_of("mine.npz") == first
    (here / "moved").mkdir()
    os.rename("mine.npz", "moved/mine.npz")
    assert name_of("moved/mine.npz") == first
    np.savez("mine.npz", **arrays(classes=2))
    second = name_of("mine.npz")
    assert second != first
    assert second.startswith("mine_")
    np.savez("1 - b.npz", **arrays())
    assert name_of("1 - b.npz").startswith("data_1_b_")


def test_an_npz_becomes_a_record(here: Path) -> None:
    np.savez("mine.npz", **arrays(), classes=5, mean=[0.5], std=[0.25])
    row = data_source(name_of("mine.npz"))
    assert row.classes == 5
    record = own.convert(row, Path("mine.npz"))
    assert record.settings == {"scale": 255.0, "mean": [0.5], "std": [0.25], "classes": 5}
    assert record.spec == {"name": row.name, "sha256": row.sha256}
    np.testing.assert_array_equal(
        record.arrays["train_images"].values[..., 0], arrays()["train_images"]
    )
    np.savez("mine.npz", **arrays())
    with pytest.raises(UserError, match=r"'mine\.npz' changed while Snakemake ran \(run the same"):
        own.convert(row, Path("mine.npz"))


@pytest.mark.parametrize("made", ["plain", "tensors"])
def test_an_object_gives_arrays(here: Path, monkeypatch: pytest.MonkeyPatch, made: str) -> None:
    name = name_of(f"plug_data:{made}")
    row = data_source(name)
    assert name == f"{made}_{row.sha256[:8]}"
    assert (row.train, row.test, row.classes, row.target) == (12, 6, 3, f"plug_data:{made}")
    assert "plug_data" not in sys.modules  # it ran in a process of its own, once
    assert (here / "mark").read_text() == "x"
    forget(monkeypatch)
    assert name_of(f"plug_data:{made}") == name
    assert (here / "mark").read_text() == "x"
    record = own.convert(row, None)
    assert own.content(record) == record.spec["sha256"] == row.sha256


def test_an_object_is_another_when_its_code_or_a_file_that_it_reads_is(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = name_of("plug_data:plain")
    np.savez("mine.npz", **arrays(classes=2))
    second = name_of("plug_data:plain")
    assert second != first
    np.savez("mine.npz", **arrays())
    assert name_of("plug_data:plain") == first
    from lossatlas import fingerprint

    text = MODULE.replace('dict(np.load("mine.npz"))', '{**np.load("mine.npz"), "classes": 9}')
    (here / "plug_data.py").write_text(text)
    for kept in vars(fingerprint).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()
    assert data_source(name_of("plug_data:plain")).classes == 9


def test_objects_that_give_other_arrays_each_time(here: Path) -> None:
    row = data_source(name_of("plug_data:random"))
    with pytest.raises(UserError, match=r"'plug_data:random' gives other arrays each time \(seed"):
        own.convert(row, None)


def test_files_that_count_as_read(here: Path) -> None:
    below = [here / "a.csv", here / "b.py", here / ".venv" / "c.txt"]
    (here / ".venv").mkdir()
    for path in below:
        path.touch()
    assert describe.data_files([*map(str, below), "/etc/passwd", str(here / "gone")]) == ["a.csv"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("plug_data:number", "'plug_data:number' gives a int (give a mapping with train_images"),
        ("plug_data:listed", "'plug_data:listed' gives a list"),
        ("plug_data:constant", "'plug_data:constant': has no 'train_labels'"),
        ("plug_data:fails", "fails: ZeroDivisionError: division by zero (plug_data.py, line "),
        ("plug_data:ends", "'plug_data:ends' ended Python with 3; it said: made (mend it"),
        ("plug_data:objects", "train_images: has shape () (images are (N, H, W)"),
        ("plug_data:plian", "plug_data.py has no 'plian' (did you mean 'plain'?)"),
        ("plug_gone:x", "no module named 'plug_gone'"),
        ("subprocess:run", "'subprocess' is neither in this folder"),
        ("gone.npz", "gone.npz: no such file (correct the path)"),
        ("digit", "unknown data set 'digit' (did you mean 'digits'?, or your own 'package.mod"),
        ("mine.np", "unknown data set 'mine.np'"),
    ],
)
def test_sources_that_are_none(
    here: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    if source != "plug_data:ends":
        in_this_process(monkeypatch)
    refused(source, says)


def refused(source: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        config(source)
    assert says in str(caught.value)
    assert str(caught.value).startswith("datasets.mine.source: ")
    assert "\n" not in str(caught.value)


BAD = [
    ({"train_images": None}, "mine.npz: has no 'train_images' (it must hold train_images, "),
    ({"test_images": np.zeros((6, 4, 4, 1, 1), np.uint8)}, "has shape (6, 4, 4, 1, 1)"),
    (
        {"train_images": np.zeros((12, 4, 5), np.uint8)},
        "4 x 5 pixels (give them as train_inputs",
    ),
    ({"train_images": np.zeros((12, 4, 4), np.int64)}, "has type int64 (give bytes (uint8) or"),
    ({"test_images": np.zeros((6, 5, 5), np.uint8)}, "images are 4 x 4 x 1 of uint8, test images"),
    ({"test_images": np.zeros((6, 4, 4))}, "4 x 4 x 1 of uint8, test images 4 x 4 x 1 of float32"),
    ({"train_labels": np.zeros(11, int)}, "has shape (11,) for 12 images (labels are (12,))"),
    ({"train_labels": np.zeros(12)}, "has type float64 (labels are integers from 0)"),
    ({"train_labels": np.full(12, -1)}, "has a label -1 (number the classes 0, 1, 2, ...)"),
    ({"test_labels": np.full(6, 3)}, "test_labels: has a label 3, but training labels end at 2"),
    ({"classes": 2}, "train_labels: has a label 2, but there are 2 classes"),
    ({"classes": 2.5}, "'classes' is array(2.5) (a whole number from 1 up)"),
    ({"mean": [0.1]}, "has one of 'mean' and 'std' (give both, or none)"),
    ({"mean": [0.1, 0.2], "std": [1.0, 1.0]}, "'mean' has 2 numbers for 1 channels"),
    ({"mean": [0.1], "std": [0.0]}, "'std' is not positive"),
    ({"mean": 0.1, "std": [1.0]}, "'mean' is array(0.1) (one number for each channel)"),
    (
        {"train_images": np.array([{}] * 12, dtype=object)},
        "'train_images' is pickled, and reading a pickle can run code",
    ),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_files_that_do_not_hold_what_they_should(
    here: Path, monkeypatch: pytest.MonkeyPatch, change: dict, says: str
) -> None:
    given = {**arrays(), **change}
    np.savez("mine.npz", **{key: value for key, value in given.items() if value is not None})
    in_this_process(monkeypatch)
    refused("mine.npz", says)


@pytest.mark.parametrize(
    ("split", "value", "says"),
    [
        ("train", 204, "up to 204 (floats are from 0 to 1: divide by 255, or store bytes)"),
        ("test", 1.01, "up to 1.01 (floats are from 0 to 1"),
        ("train", -1, "down to -1 (floats are from 0 to 1; 'mean' and 'std' normalise them)"),
    ],
)
def test_floats_that_are_no_pixels(split: str, value: float, says: str) -> None:
    given = arrays()
    for one in ("train", "test"):
        given[f"{one}_images"] = given[f"{one}_images"] / 255
    own.record_of(given, "mydata")
    given[f"{split}_images"][1, 2, 3] = value
    with pytest.raises(UserError) as caught:
        own.record_of(given, "mydata")
    assert f"mydata, {split}_images: values {says}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(40)])
def test_files_that_are_no_npz(here: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (here / "mine.npz").write_bytes(content)
    in_this_process(monkeypatch)
    refused("mine.npz", "not a readable .npz: ")


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe files here: each process of its own takes a second."""

    def asked(source: str, where: str) -> dict:
        try:
            if source.endswith(".npz"):
                own.describe_npz(Path(source))
            else:
                own.record_of(own.arrays_of(source, where), f"{where}: '{source}'")
        except UserError as error:
            return {"error": json.loads(json.dumps([error.what, error.where, error.fix]))}
        raise AssertionError(source)

    monkeypatch.setattr(owndata, "_asked", asked)


def test_images_are_looked_at_by_the_job(here: Path) -> None:
    images = np.full((12, 4, 4), np.nan)
    np.savez("mine.npz", **{**arrays(), "train_images": images, "test_images": images[:6]})
    row = data_source(name_of("mine.npz"))
    with pytest.raises(UserError, match="train_images: holds NaN or infinity"):
        own.convert(row, Path("mine.npz"))


def test_what_cannot_be_made_an_array() -> None:
    given = {**arrays(), "train_images": torch.zeros(12, 4, 4, requires_grad=True)}
    with pytest.raises(UserError, match=r"x: holds no arrays: RuntimeError.*\(give arrays of"):
        own.record_of(given, "x")


def test_plug_ins_that_are_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.SWITCH, "off")
    for source in ("plug_data:plain", "elsewhere:data"):
        loaded = config(source, mean=[0.5], std=[0.5])
        (cell,) = make_plan(loaded).cells.values()
        assert cell.cell.data.source.endswith("_unknown")
        assert parameter_count(cell.cell) is None
    assert name_of("mine.npz").startswith("mine_")  # of which nothing runs
    assert not (here / "mark").exists()
    monkeypatch.delenv(plugins.SWITCH)
    name = name_of("plug_data:plain")
    monkeypatch.setenv(plugins.SWITCH, "off")
    assert name_of("plug_data:plain") == name  # known from before


def test_nothing_can_be_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "DATA", Path("mine.npz/data.json"))
    assert name_of("mine.npz").startswith("mine_")
    monkeypatch.setattr(subprocess, "run", None)
    assert name_of("mine.npz").startswith("mine_")


def test_a_spec_is_trained_on_converted_data(here: Path) -> None:
    import yaml

    from lossatlas import store
    from lossatlas.cli import main
    from lossatlas.spec import catalogue

    loaded = config("mine.npz")
    (cell,) = make_plan(loaded).cells.values()
    store.write("data.h5", own.convert(data_source(cell.cell.data.source), Path("mine.npz")))
    (here / "spec.yaml").write_text(yaml.safe_dump(cell.cell.spec))
    catalogue._own.clear()
    assert main(["train", "--spec", "spec.yaml", "--data", "data.h5", "--out", "a"]) == 0
    assert (here / "a.safetensors").is_file()


def test_the_command_line_without_plug_ins(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lossatlas.cli import main

    monkeypatch.setenv(plugins.SWITCH, "")
    command = ["metric", "hessian", "--checkpoint", "0.pt", "--model", "mlp", "--no-plugins"]
    assert main([*command, "--data", "plug_data:plain"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("lossatlas: data: plug-ins are off, and 'plug_data:plain' is one")
    assert not (here / "mark").exists()
