"""CKA of all layers with all layers: which layers, and each number against that of the features."""

from __future__ import annotations

import pytest
import torch
from similarity_cells import cell, data, modules
from torch import Tensor, nn

from lossatlas import models, store
from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.cka import Cka
from lossatlas.page.matrices import of_layers
from lossatlas.similarity import cka, layers, measure_cka
from lossatlas.tables import collect

SETTINGS = Cka(samples=24, batch_size=8, layer_images=16)
NAMES = ["conv", "norm", "head"]


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_agrees_with_the_features_of_each_module(mode):
    members, of = modules(3), data()
    settings = SETTINGS.model_copy(update={"mode": mode})
    record = measure_cka.measure(cell(members, of, [4, 6, 9]), settings)
    _, images, _ = measure_cka.blended_images(of.train.images, settings)
    seen = []
    for member in members:
        with torch.no_grad():
            conv = member.conv(images[:16])
            norm = member.norm(conv)
            seen.append([conv, norm, member.head(norm.relu().flatten(1))])
    assert len(record.tables) == 3 * len(NAMES)
    for table in record.tables:
        one, other = (seen[[4, 6, 9].index(seed)] for seed in (table.replica, table.partner))
        mine = one[NAMES.index(str(table.index["layer"]))]
        wanted = [cka(mine, theirs, unbiased=mode == "fixed") for theirs in other]
        assert table.column("other_layer").tolist() == [0, 1, 2]
        assert table.column("cka") == pytest.approx(wanted, abs=1e-6)
    assert not measure_cka.measure(cell(members, of), FEWER).tables


FEWER = SETTINGS.model_copy(update={"layer_images": 3})


class Nested(nn.Module):
    """A list, a block that runs twice, activations, and a module that is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)])
        self.again = nn.Linear(4, 4)
        self.stem = nn.Linear(16, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.stem(x.flatten(1)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.again(x).relu())


@pytest.mark.parametrize(
    ("most", "names"),
    [
        (12, ["stem", "blocks.0.0", "blocks.1.0", "blocks.2.0", "again", "head"]),
        (4, ["stem", "blocks.1", "blocks.2", "head"]),
    ],
)
def test_layers_in_the_order_they_run(most, names):
    networks = cell([Nested(), Nested()], data())
    found = layers.layers_of(networks, data().train.images[:5], most)
    assert found == names
    assert not any(one._forward_hooks for one in networks.functional.module.modules())


@pytest.mark.parametrize("network", ["resnet18", "vgg16", "densenet", "vit", "mlp"])
def test_layers_of_networks_of_the_papers(network):
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    module = models.build(network, {} if network == "vit" else {"width": 2}, **shape).eval()
    images = torch.randn(5, 3, 32, 32)
    split = Split(images, torch.arange(5))
    found = layers.layers_of(cell([module], TensorData("noise", split, split, 10)), images)
    print(network, found)
    assert 2 < len(found) <= layers.MOST
    assert layers.layers_of(cell([module], TensorData("noise", split, split, 10)), images) == found


def test_layers_that_are_named_by_numbers(tmp_path):
    """Those of a `Sequential`: a table of text must not read them as numbers."""

    def build() -> nn.Module:
        inner = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), inner, nn.Linear(5, 3))

    record = measure_cka.measure(cell([build(), build()], data()), SETTINGS)
    names = ["[1]", "[2.0]", "[3]"]
    assert [table.index["layer"] for table in record.tables] == names
    store.write(tmp_path / "one.h5", record)
    read = store.read(tmp_path / "one.h5")
    table = collect.series_frame("e", {"c": {"width": 1}}, {"c": read.tables})
    collect.write(tmp_path / "one.csv", table)
    found = of_layers(collect.read(tmp_path / "one.csv"))
    assert found["c"][0]["layers"] == names


def test_a_network_without_modules_has_no_matrix():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    record = measure_cka.measure(cell([Bare(), Bare()], data()), SETTINGS)
    assert record.tables == []
    assert record.scalars
