"""A small config, and copies of it with one value changed."""

import copy
from typing import Any

import yaml

SMALL = yaml.safe_load("""
datasets: {digits: }
models: {resnet18: }
recipes: {short: {epochs: 2}}
experiments:
  grid:
    dataset: digits
    model: resnet18
    recipe: short
    load: {width: [2, 4]}
    temperature: {batch_size: [16, 64]}
    seeds: 2
    metrics: [performance, cka]
figures: {taxonomy_reference_phases: }
""")


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SMALL)
    *parents, last = path.split(".")
    part = raw
    for key in parents:
        if part.get(key) is None:
            part[key] = {}
        part = part[key]
    part[last] = value
    return raw
