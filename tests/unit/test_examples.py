"""The examples in the docstrings of the packages run, and what packages list is there."""

import importlib
import re
import textwrap

import numpy as np
import pytest
import torch

from lossatlas.models.mlp import MLP

PACKAGES = ("connectivity", "curvature", "diffusion", "permutation", "similarity", "simplex")


def given() -> dict[str, object]:
    """Return what the examples call by name: two networks, data, features and a path."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(24, 1, 3, 3, generator=draw)
    labels = torch.randint(0, 3, (24,), generator=draw)
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(MLP(3, 1, 3, 4, 1).eval())
    rng = np.random.default_rng(0)
    return {
        "torch": torch,
        "numpy": np,
        "one": networks[0],
        "other": networks[1],
        "module": networks[0],
        "images": images,
        "labels": labels,
        "test_images": images[:9],
        "test_labels": labels[:9],
        "weights": np.cumsum(rng.normal(size=(500, 20)), axis=0),
        "features_of_one": torch.randn(24, 5, generator=draw),
        "features_of_another": torch.randn(24, 7, generator=draw),
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_example_runs(name: str) -> None:
    package = importlib.import_module(f"lossatlas.{name}")
    blocks = re.findall(r"(?:^    .*\n|^\n)+", package.__doc__, re.MULTILINE)
    code = textwrap.dedent("".join(block for block in blocks if block.strip()))
    code = re.sub(r"epochs=\d+", "epochs=1", code).replace('"head"', '"layers.3"')
    assert f"from lossatlas.{name} import" in code
    found = given()
    exec(code, found)
    if name == "diffusion":
        assert found["exponent"].value == pytest.approx(1, abs=0.3)  # a random walk
    if name == "simplex":
        assert found["loss"].shape == (21, 21)
        assert np.isfinite(found["volume"])


@pytest.mark.parametrize("name", PACKAGES)
def test_package_offers_what_it_lists(name: str) -> None:
    package = importlib.import_module(f"lossatlas.{name}")
    assert package.__all__ == sorted(package.__all__)
    for each in package.__all__:
        assert getattr(package, each).__doc__, each
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = package.no_such_thing
