"""Simplexes of a small vision transformer: LayerNorm, and layers that share their weights."""

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.data.convert import convert
from lossatlas.data.loading import load
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.simplex import Simplex
from lossatlas.models.vit import ViT
from lossatlas.simplex import measure, measure_espro
from lossatlas.spec.parts import DataPart, Recipe
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from parts import frame

torch.set_num_threads(1)
SETTINGS = {"epochs": 6, "batch_size": 64, "learning_rate": 0.05, "samples": 2}


class Shared(ViT):
    """Both layers are one module."""

    def __init__(self) -> None:
        super().__init__(10, 1, 8, width=6, depth=2, heads=2)
        self.layers = nn.Sequential(self.layers[0], self.layers[0])


@pytest.fixture(scope="module")
def networks() -> Networks:
    data = load(convert("digits"), DataPart(source="digits", fraction=0.4))
    recipe = Recipe(epochs=20, batch_size=64, learning_rate=0.1)
    trained = Engine(Shared, recipe, [0, 1], data.train).train()
    params, buffers = trained.checkpoints["final"]
    return Networks(trained.functional, params, buffers, [0, 1], data, epochs=20)


def test_connector_between_transformers(networks: Networks) -> None:
    settings = Simplex(connectors=1, points=8, places=7, raster=5, **SETTINGS)
    record = measure.measure(networks, settings)
    shared = sum(p.numel() for p in Shared().parameters())
    assert sum(s.numel() for s in networks.functional.shapes.values()) == shared
    modes = [s.value for s in record.scalars if s.name == "mode_loss"]
    straight, path = (record.scalar(f"{w}_loss_max").value for w in ("segment", "path"))
    assert max(modes) < 0.5
    assert path < 0.5 * straight
    assert len(frame(record, "plane", plane="w0 w1 c0")) == 25


def test_ensembles_of_transformers(networks: Networks) -> None:
    settings = Espro(vertices=1, draws=4, components=2, cycles=0, severities=[0.3], **SETTINGS)
    record = measure_espro.measure(networks, settings)
    found = frame(record, "ensembles")
    assert np.isfinite(found["nll"]).all()
    assert (found["nll"] <= found["member_nll"] + 1e-12).all()
    assert record.arrays["simplex1_test_log_probs"].values.shape == (2, 4, 360, 10)
    drift = record.arrays["simplex1_test_log_probs"].values.std(axis=1).mean()
    assert drift > 0  # samples of one simplex are different networks
