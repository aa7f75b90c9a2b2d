"""Which experiment and which metrics a figure may name."""

import copy
from typing import Any

import pytest
import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec.config import load
from lossatlas.spec.shown import Shown

SMOKE = yaml.safe_load((paths.PROJECT / "config/smoke.yaml").read_text())


def config(figure: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(SMOKE)
    raw["metrics"]["theirs"] = {"kind": "hessian", "mode": "paper"}
    raw["metrics"]["spare"] = {"kind": "hessian"}
    raw["experiments"]["smoke"]["metrics"].append("theirs")
    raw["experiments"]["plain"] = {**SMOKE["experiments"]["smoke"], "metrics": ["performance"]}
    raw["figures"] = {"mine": {"draws": "taxonomy_phases", "experiment": "smoke", **figure}}
    return raw


def test_a_metric_that_is_measured() -> None:
    load(config({"metrics": {"hessian": "theirs", "cka": "cka"}}))


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        ({"metrics": {"hesian": "theirs"}}, "unknown kind of metric 'hesian' (did you mean 'hes"),
        ({"metrics": {"distance": "distance"}}, "'taxonomy_phases' reads no 'distance' (valid: "),
        ({"metrics": {"simplex": "simplex"}}, "'taxonomy_phases' reads no 'simplex' (valid: cka,"),
        ({"metrics": {"hessian": "thiers"}}, "unknown metric 'thiers' (did you mean 'theirs'?)"),
        ({"metrics": {"cka": "hessian"}}, "figures.mine.metrics.cka: 'hessian' is of the kind"),
        ({"metrics": {"hessian": "spare"}}, "'smoke' measures no 'spare' (add it to experiments"),
        ({"experiment": "smok"}, "figures.mine.experiment: unknown experiment 'smok' (did you"),
        ({"experiment": "plain"}, "figures.mine: experiment 'plain' measures no 'hessian', 'con"),
        (
            {"draws": "taxonomy_reference_phases"},
            "figures.mine.experiment: 'taxonomy_reference_phases' draws published results, and no",
        ),
        (
            {"draws": "simplex_two_spirals", "experiment": "", "metrics": {"cka": "cka"}},
            "figures.mine.metrics: 'simplex_two_spirals' draws a study, and no experiment (leave",
        ),
    ],
)
def test_what_a_figure_cannot_show(figure: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(config(figure))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def two(figure: dict[str, Any], **other: Any) -> dict[str, Any]:
    raw = config({"draws": "taxonomy_decay_gain", **figure})
    own = {**SMOKE["experiments"]["smoke"], "load": {"width": [1, 2, 4]}}
    raw["experiments"]["second"] = {**own, **other}
    return raw


def test_a_figure_of_two_experiments_reads_the_tables_of_both() -> None:
    shown = Shown(load(two({"against": "second"})), "mine")
    assert shown.experiments == ["smoke", "second"]
    assert shown.tables("scalars") == [
        paths.metric_table(name, metric)
        for name in ("smoke", "second")
        for metric in ("performance", "connectivity")
    ]


@pytest.mark.parametrize(
    ("figure", "other", "says"),
    [
        ({}, {}, r"mine\.against: 'taxonomy_decay_gain' compares two experiments, and one is"),
        ({"against": "secnd"}, {}, r"no experiment 'secnd' \(did you mean 'second'"),
        ({"against": "smoke"}, {}, "is the experiment itself"),
        (
            {"against": "second"},
            {"load": {"data_fraction": [0.5, 1.0]}},
            r"'second' has the axes \['data_fraction', 'batch_size'\], and 'smoke' has",
        ),
        (
            {"against": "second"},
            {"metrics": ["performance"]},
            r"'second' measures no 'connectivity' \(add it to experiments\.second\.metrics",
        ),
        ({"against": "second", "draws": "taxonomy_phases"}, {}, "draws one experiment"),
    ],
)
def test_two_experiments_that_cannot_be_compared(
    figure: dict[str, Any], other: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        load(two(figure, **other))


def test_variants_are_read_from_the_whole_table() -> None:
    shown = Shown(load(config({"draws": "taxonomy_ablations"})), "mine")
    assert shown.tables("scalars") == [paths.table("smoke")]
    assert shown.tables("series") == []
    with pytest.raises(UserError, match=r"'plain' measures no two metrics of one kind \(add a var"):
        load(config({"draws": "taxonomy_ablations", "experiment": "plain"}))
