"""Fine-tuning: replicas that start from a file of weights, on the real graph."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import Project
from lossatlas import models

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_fine_tuning(project: Project) -> None:
    shape = {"num_classes": 7, "in_channels": 1, "image_size": 8}
    network = models.build("mlp", {"width": 4, "depth": 2}, **shape)
    weights = {name: torch.randn_like(t) for name, t in network.state_dict().items()}
    file = project.root / "pretrained.safetensors"
    save_file(weights, file)

    def change(content: dict) -> None:
        content["models"] = {"mine": {"builder": "mlp", "width": 4, "depth": 2}}
        content["models"]["mine"]["start_from"] = file.name
        content["recipes"] = {"still": {"epochs": 1, "learning_rate": 1e-12}}
        one = {
            "dataset": next(iter(content["datasets"])),
            "model": "mine",
            "recipe": "still",
            "together": 2,
        }
        content["experiments"] = {"tuned": {**one, "seeds": 2, "metrics": ["performance"]}}
        content["figures"] = {}

    project.configure(change)
    project.snakemake("--cores", "1", "train")
    (first,) = trained(project)
    tensors = load_file(first)
    heads = [name for name, tensor in weights.items() if tensor.shape[:1] == (7,)]
    for seed in (0, 1):
        for name, expected in weights.items():
            (held,) = (t for key, t in tensors.items() if key.endswith(name) and f"/{seed}/" in key)
            assert (held.shape == expected.shape) == (name not in heads)
            if name not in heads:
                torch.testing.assert_close(held, expected)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"start_from: {digest}" in (first.parents[1] / "spec.yaml").read_text()

    assert project.jobs("train") == {}
    file.rename(project.root / "moved.safetensors")
    project.edit(project.config, file.name, "moved.safetensors")
    assert project.jobs("train") == {}  # known by its content
    save_file({name: t + 1 for name, t in weights.items()}, project.root / "moved.safetensors")
    assert project.jobs("train")["train_replicas"] == 1


def trained(project: Project) -> list[Path]:
    return sorted((project.root / "results/cells").glob("*/train/*.safetensors"))
