"""A network that is added to the checkout as one file, through Snakemake."""

import pandas as pd
import pytest

from added_network import NEW
from conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_a_network_is_added_as_one_file(project: Project) -> None:
    file = "workflow/lossatlas/models/added.py"
    (project.root / file).write_text(NEW)

    def change(content: dict) -> None:
        one = content["experiments"]["smoke"]
        one.update(load={"data_fraction": [0.5, 1]}, temperature={"batch_size": [128]})
        one["metrics"] = ["performance"]
        content.update(models={"resnet18": {"builder": "added", "kind": "wide"}}, metrics={})
        content["figures"] = {}

    project.configure(change)
    table = "results/smoke/tables/smoke/performance.csv"
    project.snakemake("--cores", "1", table)
    assert (pd.read_csv(project.root / table)["status"] == "ok").all()
    assert project.jobs(table) == {}
    project.edit(file, "return counts.linear(", "return counts.linear(1 * ")
    project.edit(file, '"flat": 1', '"even": 1, "flat": 1')
    assert project.jobs(table) == {}, "what is declared decides no number"
    project.edit(file, "x.flatten(1)", "2 * x.flatten(1)")
    redone = {"train_replicas": 2, "performance": 2, "collect": 1}
    assert project.jobs(table) == redone
    project.configure(lambda c: c["models"]["resnet18"].update(kind="wild"))
    printed = project.snakemake("-n", table, ok=False)
    assert 'kind is "wild"' in printed
    assert "Traceback" not in printed
