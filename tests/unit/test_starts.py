"""Training from weights that something else has trained: what is taken, and what is refused."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lossatlas import entries, fingerprint, models
from lossatlas.errors import UserError
from lossatlas.spec import starts
from lossatlas.spec.cells import from_spec
from lossatlas.spec.config import load
from lossatlas.training.engine import initialise
from lossatlas.training.pretrained import starting_from


def vit(classes: int = 10, width: int = 8) -> nn.Module:
    """Build a small transformer of images."""
    shape = {"num_classes": classes, "in_channels": 1, "image_size": 8}
    return models.build("vit", {"width": width, "depth": 1, "heads": 2, "patch": 4}, **shape)


def saved(module: nn.Module, path: Path, **more: torch.Tensor) -> str:
    save_file({**module.state_dict(), **more}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def pretrained(tmp_path: Path) -> tuple[nn.Module, Path, str]:
    module, path = initialise(partial(vit, 100), 7), tmp_path / "vit.safetensors"
    return module, path, saved(module, path)


def test_all_but_the_head_is_taken(
    pretrained: tuple[nn.Module, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    module, path, digest = pretrained
    build = starting_from(vit, str(path), digest)
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["starts_from"] == digest
    one, two = (initialise(build, seed).state_dict() for seed in (0, 1))
    heads = [name for name, tensor in module.state_dict().items() if tensor.shape[:1] == (100,)]
    assert sorted(told["drawn"]) == sorted(heads)
    for name, tensor in module.state_dict().items():
        if name in heads:
            assert one[name].shape[0] == 10
            assert name.endswith("bias") or not torch.equal(one[name], two[name])  # of its seed
        else:
            assert torch.equal(one[name], tensor)
            assert torch.equal(two[name], tensor)


def test_names_of_frameworks_are_understood(tmp_path: Path) -> None:
    module, path = initialise(vit, 3), tmp_path / "last.pt"
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    build = starting_from(vit, str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    made = build().state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in module.state_dict().items())


def test_weights_of_another_network_are_refused(pretrained: tuple[nn.Module, Path, str]) -> None:
    _, path, digest = pretrained
    with pytest.raises(UserError, match="has no weights of this network's shape for '") as caught:
        starting_from(partial(vit, 10, 16), str(path), digest)
    assert "give weights of the network that the config builds" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_or_is_gone_is_refused(pretrained: tuple[nn.Module, Path, str]) -> None:
    _, path, digest = pretrained
    with pytest.raises(UserError, match="changed while Snakemake ran"):
        starting_from(vit, str(path), "0" * 64)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        starting_from(vit, str(path), digest)


def raw(start: str, **more: Any) -> dict[str, Any]:
    model = {"builder": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4, "start_from": start}
    one = {"dataset": "digits", "model": "vit", "recipe": "short", **more}
    return {
        "datasets": {"digits": {}},
        "models": {"vit": model},
        "recipes": {"short": {"epochs": 1}},
        "experiments": {"one": one},
    }


def test_a_cell_is_known_by_the_content(pretrained: tuple[nn.Module, Path, str]) -> None:
    _, path, digest = pretrained
    (cell,) = load(raw(str(path))).cells("one")
    assert cell.spec["model"]["start_from"] == digest
    assert from_spec(cell.spec) == cell
    assert starts.file_of(digest) == str(path)
    (folder,) = load(raw(str(path.parent))).cells("one")
    moved = path.rename(path.with_name("other.safetensors"))
    (again,) = load(raw(str(moved))).cells("one")
    (plain,) = load(raw("")).cells("one")
    assert cell.id == again.id == folder.id != plain.id
    assert "start_from" not in plain.spec["model"]
    saved(initialise(partial(vit, 100), 8), moved)
    (changed,) = load(raw(str(moved))).cells("one")
    assert changed.id != cell.id


def test_reading_of_weights_is_code_of_those_cells_alone(
    pretrained: tuple[nn.Module, Path, str],
) -> None:
    _, path, _ = pretrained
    (tuned,), (plain,) = (load(raw(start)).cells("one") for start in (str(path), ""))
    parts = [fingerprint.parts(entries.training(cell)) for cell in (tuned, plain)]
    reader = "lossatlas.training.foreign:unwrapped"
    assert [reader in some for some in parts] == [True, False]


def test_bad_starts_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models.vit.start_from: no such file 'none.pt'"):
        load(raw("none.pt"))
    with pytest.raises(UserError, match=r"has 0 files \*.safetensors"):
        load(raw(str(tmp_path)))
    saved(vit(), tmp_path / "a.safetensors")
    saved(vit(), tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"has 2 files \*.safetensors"):
        load(raw(str(tmp_path)))
    save_file({"w": torch.zeros(2)}, tmp_path / "w=1.s0.safetensors")
    pattern = str(tmp_path / "w={width}.s{seed}.safetensors")
    with pytest.raises(UserError, match="these networks were trained elsewhere"):
        load(raw(str(tmp_path / "a.safetensors"), checkpoints=pattern, load={"width": [1]}))
