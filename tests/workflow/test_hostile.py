"""Hostile configs and targets, given to Snakemake itself."""

import pytest

from conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_tags_of_a_config_are_not_obeyed(project: Project) -> None:
    path = project.root / project.config
    tag = "mirror_dir: !!python/object/apply:os.system ['touch mark']\n"
    path.write_text(tag + path.read_text())
    printed = project.snakemake("-n", ok=False)
    assert "Config file is not valid" in printed
    assert not (project.root / "mark").exists()


def test_targets_that_are_no_names(project: Project) -> None:
    """Nor do files beside the Snakefile take the place of modules that the workflow imports."""
    (project.root / "h5py.py").write_text("open('mark', 'w').close()\n")
    cell = "digits-resnet18-f0.3-w1-84e3b97a"
    targets = [
        f"results/cells/{cell}/train/0-99999999999.safetensors",
        "results/cells/; touch mark/metrics/cka.h5",
        "results/cells/$(touch mark)/train/0.safetensors",
        "results/figures/; touch mark.png",
        "results/downloads/../../mark",
        "results/cells/../../metrics/cka.h5",
    ]
    for target in targets:
        printed = project.snakemake("--cores", "1", target, ok=False)
        assert "Traceback" not in printed
        known = ("MissingRule", "no cell", "no archive", "names no block", "there is no target")
        assert any(says in printed for says in known), printed
    assert not (project.root / "mark").exists()
    assert not (project.root / "results").exists()


def test_a_figure_whose_metric_is_not_measured(project: Project) -> None:
    printed = project.snakemake("-n", "simplex_planes", ok=False)
    assert printed.splitlines()[-1].startswith("figures.simplex_planes: experiment '")
    assert "measures no 'simplex' (add it to experiments." in printed
    assert "Traceback" not in printed
