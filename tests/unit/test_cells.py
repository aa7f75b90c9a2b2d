"""Cells, their ids and axes, and what is known of their networks without torch."""

import copy
from typing import Any

import pytest

from lossatlas import models, plugins
from lossatlas.spec import catalogue, config
from lossatlas.spec.cells import Cell, canonical, from_spec
from lossatlas.spec.own import SHAPE
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from small_config import SMALL, changed


def cell(**recipe: Any) -> Cell:
    return Cell(DataPart(source="digits"), ModelPart(builder="resnet18", width=8), Recipe(**recipe))


def test_id_is_stable() -> None:
    """An id that changes makes every user train everything again."""
    assert cell(learning_rate=0.05, batch_size=64).id == "digits-resnet18-w8-b64-lr0.05-dce7ef5d"


def test_spelling_and_defaults_do_not_change_the_id() -> None:
    assert cell(learning_rate=1e-1).id == cell(learning_rate=0.10).id == cell().id
    assert cell(epochs=100).id == cell().id
    assert cell(epochs=101).id != cell().id
    raw = changed("experiments.grid.load", {"width": [64]})
    widths = config.load(raw).cells("grid")
    raw = copy.deepcopy(SMALL)
    del raw["experiments"]["grid"]["load"]
    assert [c.id for c in widths] == [c.id for c in config.load(raw).cells("grid")]


AXES = [
    ("load", "width", 3, lambda cell: cell.model.arguments["width"]),
    ("load", "data_fraction", 0.5, lambda cell: cell.data.fraction),
    ("load", "label_noise", 0.5, lambda cell: cell.data.label_noise),
    ("load", "pixel_noise", 0.5, lambda cell: cell.data.pixel_noise),
    ("temperature", "batch_size", 5, lambda cell: cell.recipe.batch_size),
    ("temperature", "learning_rate", 0.5, lambda cell: cell.recipe.learning_rate),
    ("temperature", "weight_decay", 0.5, lambda cell: cell.recipe.weight_decay),
]


@pytest.mark.parametrize(("kind", "axis", "value", "of"), AXES)
def test_an_axis_sets_what_it_names(kind: str, axis: str, value: float, of: Any) -> None:
    one, *_ = config.load(changed(f"experiments.grid.{kind}", {axis: [value]})).cells("grid")
    assert of(one) == one.axis(axis) == value


def test_every_value_counts() -> None:
    recipes = [{}, {"epochs": 7}, {"momentum": 0.5}, {"nesterov": True}, {"cosine": True}]
    recipes += [{"decay_epochs": [3]}, {"incomplete_batch": "keep"}, {"rate_per_batch": 64}]
    recipes += [{"checkpoints": ["best"]}, {"early_stop": {"stop": True}}]
    recipes += [{"early_stop": {"stop": True, "after": 3}}]
    assert len({cell(**r).id for r in recipes}) == len(recipes)


def test_spec_rebuilds_the_cell() -> None:
    one = cell(learning_rate=0.05, early_stop={"after": 2}, checkpoints=["early", "best"])
    assert from_spec(one.spec).id == one.id
    with pytest.raises(ValueError, match="version 0"):
        from_spec({**one.spec, "version": 0})


def test_canonical_numbers() -> None:
    """As they are written: 8.0 equals 8, and has another digest."""
    given = {"a": 8.0, "b": (1e-1, True, [4.0, -2.0]), "c": "8.0", "d": {"e": 2.0**60}}
    wanted = {"a": 8, "b": [0.1, True, [4, -2]], "c": "8.0", "d": {"e": 2.0**60}}
    assert repr(canonical(given)) == repr(wanted)
    assert canonical(True) is True


@pytest.mark.parametrize("name", list(catalogue.NETWORKS))
def test_catalogue_agrees_with_the_networks(name: str) -> None:
    """The catalogue repeats what the code says, because parsing must not import torch."""
    import inspect

    network = catalogue.NETWORKS[name]
    parameters = inspect.signature(plugins.load(network.target, "")).parameters
    own = {key: p.default for key, p in parameters.items() if key not in SHAPE}
    assert own == dict(network.arguments)
    if "square" not in network.inputs:
        return  # counted in the oracle tests of the network
    for classes, any_channels, least in ((10, 3, 32), (7, 1, 8), (10, 1, 9)):
        channels, size = network.channels or any_channels, max(least, network.smallest)
        size += name == "resnet_mnist" and size % 2
        arguments = {**network.arguments, "width": 5}
        shapes = {"num_classes": classes, "in_channels": channels, "image_size": size}
        module = models.build(name, arguments, **shapes)
        count = sum(p.numel() for p in module.parameters())
        assert network.cost(arguments, classes, channels, size)[0] == count


def test_multiplications_count_what_runs() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for name, network in catalogue.NETWORKS.items():
        if "square" not in network.inputs:
            continue
        arguments = {**network.arguments, "width": 3}
        channels, size = network.channels or 3, max(16, network.smallest)
        shape = {"in_channels": channels, "image_size": size}
        module = models.build(name, arguments, num_classes=10, **shape)
        module.eval()  # BatchNorm refuses to train on one value
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, channels, size, size))
        expected = counter.get_total_flops() / 2
        assert network.cost(arguments, 10, channels, size)[1] == expected
