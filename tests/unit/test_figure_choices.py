"""Which experiment and which metrics a figure may name."""

import copy
from typing import Any

import pytest
import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec.config import load

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
