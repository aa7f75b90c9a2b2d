"""The plan of the simplex paper: each claim can come out either way, and less would not do."""

import re
from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest
import yaml

import planned_simplex
from lossatlas import paths
from lossatlas.claims import simplex, verdicts
from lossatlas.claims.statistics import LEVEL
from lossatlas.figures import Tables
from lossatlas.spec import told
from lossatlas.spec.config import Config, load

RAW = (paths.PROJECT / "config/simplex.yaml").read_text()
IDENTITIES = {"C8", "C10", "C11"}  # without chance: one experiment is enough
PLACES = {  # claim -> experiment that decides it, units, smallest p that it can have
    "C1": ("vgg_cifar10", 7),
    "C2": ("vgg_cifar10", 7),
    "C3": ("vgg_cifar10", 7),
    "C4": ("vgg_cifar10", 7),
    "C5": ("vgg_cifar10_many", 8),
    "C6": ("vgg_cifar10_many", 6),
    "C7": ("vgg_cifar10_many", 24),
    "C9": ("vgg_cifar10", 7),
    "C12": ("vgg_cifar10", 7),
}


def plan(change: Callable[[dict], None] | None = None) -> Config:
    raw = yaml.safe_load(RAW)
    if change:
        change(raw)
    return load({**raw, "name": "simplex"})


def judged(config: Config, kind: str) -> pd.DataFrame:
    known = told.about(config, "simplex")
    found = verdicts.claims("simplex", planned_simplex.tables(config, kind), known)
    assert not found["observed"].str.startswith("the check failed").any(), found["observed"]
    return found.set_index(["claim", "experiment"])


@cache
def shipped(kind: str) -> pd.DataFrame:
    return judged(plan(), kind)


@pytest.mark.parametrize("kind", ["yes", "no"])
def test_each_claim_can_come_out(kind: str) -> None:
    found = shipped(kind)
    for claim in (one.name for one in simplex.CLAIMS):
        assert kind in set(found.loc[claim, "holds"]), found.loc[claim, "observed"].tolist()


@pytest.mark.parametrize("claim", PLACES)
def test_the_smallest_p_of_each_claim(claim: str) -> None:
    """All signs as claimed: p is 2 to the minus units, and stays below the level when corrected."""
    where, units = PLACES[claim]
    row = shipped("yes").loc[claim, where]
    assert row["units"] == units
    exact = pytest.approx(0.5**units) if units < 14 else pytest.approx(1e-4)  # 9,999 draws
    assert row["p"] == exact
    assert row["p"] <= row["p_holm"] <= LEVEL


def test_where_claims_are_decided() -> None:
    found = shipped("yes")
    able = found[found["holds"] != "not testable"].reset_index()
    places = {claim: set(rows["experiment"]) for claim, rows in able.groupby("claim")}
    others = {"vgg_cifar100", "preresnet_cifar10", "preresnet_cifar100", "vit_cifar100"}
    wide = {"C5": others, "C8": others}
    assert {claim: places[claim] - wide.get(claim, set()) for claim in PLACES} == {
        claim: {where} for claim, (where, _) in PLACES.items()
    }
    assert places["C8"] == {"vgg_cifar10_many", *others}
    assert places["C5"] == {"vgg_cifar10_many", *others}
    assert (places["C10"], places["C11"]) == ({"studies"}, {"vgg_cifar10"})
    sizes = [re.match(r"at (\d+) components", text)[1] for text in found.loc["C5", "observed"][:1]]
    assert sizes == ["6"]


def lower(metric: str, key: str, value: object) -> Callable[[dict], None]:
    def change(raw: dict) -> None:
        raw["metrics"][metric][key] = value

    return change


def seeds(experiment: str, count: int) -> Callable[[dict], None]:
    def change(raw: dict) -> None:
        raw["experiments"][experiment]["seeds"] = count

    return change


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (lower("complex", "repeats", 6), {"C1", "C2", "C4"}),
        (lower("simplex_volume", "repeats", 6), {"C3"}),
        (lower("simplex_volume", "connectors", 10), {"C3"}),
        (lower("espro", "replicas", 12), {"C12"}),
        (lower("espro_strength", "repeats", 6), {"C9"}),
        (lower("espro_strength", "regularisations", [0.0, 1e-6, 1e-3]), {"C9"}),
        (seeds("vgg_cifar10_many", 47), {"C6"}),
    ],
)
def test_less_would_not_do(change: Callable[[dict], None], lost: set[str]) -> None:
    found = judged(plan(change), "yes")
    able = set(found[found["holds"] == "yes"].reset_index()["claim"])
    assert {one.name for one in simplex.CLAIMS} - able == lost


@pytest.mark.parametrize("bad", [7, 2])
def test_simplexes_of_untrained_modes_say_nothing_of_c9(bad: int) -> None:
    tables = planned_simplex.tables(plan(), "yes")
    known = told.about(plan(), "simplex")
    own = tables["vgg_cifar10"]["espro_strength"]
    untrained = own.series["component"] < bad
    series = own.series.assign(error=own.series["error"].mask(untrained, 90.0))
    changed = {"espro_strength": Tables(own.scalars, series)}
    only = {"vgg_cifar10": {**tables["vgg_cifar10"], **changed}}
    found = verdicts.claims("simplex", only, known).set_index("claim").loc["C9"]
    if bad == 7:
        assert found["observed"] == "all simplexes grow from modes that were not trained"
    else:
        assert found["units"] == 5
        assert "2 simplexes of modes that were not trained are left out" in found["observed"]
