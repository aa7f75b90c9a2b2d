"""The plans of the diffusion paper: its setting, its networks, and a figure of all that is run."""

import numpy as np
import pytest
from test_config import AUGMENTED, shipped
from test_diffusion_models import COUNTS

from lossatlas import paths
from lossatlas.spec import catalogue
from lossatlas.spec.shown import Shown, tables_told

DIFFUSION = ["config/diffusion.yaml", "config/diffusion_networks.yaml"]


@pytest.mark.parametrize("path", DIFFUSION)
def test_all_that_the_diffusion_paper_measures_is_shown(path: str) -> None:
    """Each experiment has a figure, and each of its metrics is read by one or by a claim."""
    plan = shipped(path)
    figures = [Shown(plan, name) for name in plan.figures]
    drawn = [one for one in figures if not one.drawing.study]
    assert {one.style.experiment for one in drawn} == set(plan.experiments)
    read = {(one.experiment, one.metric(kind)) for one in drawn for kind in one.kinds}
    told = tables_told(plan, "diffusion")
    read |= {(name, kind) for name, tables in told.items() for kind in tables}
    listed = {(name, m) for name, one in plan.experiments.items() for m in one.metrics}
    assert listed <= read


@pytest.mark.parametrize("path", DIFFUSION)
def test_the_page_of_the_diffusion_paper_names_all_targets(path: str) -> None:
    page = (paths.PROJECT / "docs/diffusion.md").read_text(encoding="utf-8")
    for name in shipped(path).figures:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("path", DIFFUSION)
def test_the_plan_of_the_diffusion_paper_has_its_setting(path: str) -> None:
    plan = shipped(path)
    for name, experiment in plan.experiments.items():
        recipe, data = plan.recipes[experiment.recipe], plan.datasets[experiment.dataset]
        assert (recipe.momentum, recipe.weight_decay, recipe.cosine) == (0, 0, False)
        assert (recipe.decay_epochs, recipe.incomplete_batch) == ([], "keep")
        coloured = data.source == "cifar10"
        assert (recipe.augment is not None) is coloured, name
        if coloured:
            assert recipe.augment.model_dump() == AUGMENTED
            assert np.allclose(np.array(data.mean) * 255, [125.3, 123.0, 113.9], atol=1e-4)
            assert np.allclose(np.array(data.std) * 255, [63.0, 62.1, 66.7], atol=1e-4)
        assert recipe.shuffle is (data.source != "gauss_paper")
    for name, model in plan.models.items():
        if "linear_std" in catalogue.NETWORKS[model.builder].arguments:
            assert model.arguments["linear_std"] == 0.001, name


def test_runs_of_the_diffusion_paper_are_as_long_as_its() -> None:
    plan = shipped("config/diffusion.yaml")
    steps = {
        name: plan.cells(name)[0].recipe.steps(50_000 if "mnist" not in name else 60_000)
        for name in ("depth", "epochs_5000", "epochs_10000", "mnist", "ratio_mnist")
    }
    assert steps == {
        "depth": 391 * 500,
        "epochs_5000": 49 * 5000,
        "epochs_10000": 49 * 10_000,
        "mnist": 59 * 500,
        "ratio_mnist": 469 * 500,
    }


def test_the_diffusion_paper_has_the_networks_of_the_authors_lists() -> None:
    """Depth, width, batch size, learning rate and shortcuts of all jobs that they list."""
    plan = shipped("config/diffusion.yaml")
    cells = [cell for name in plan.experiments for cell in plan.cells(name)]
    deep = [cell for cell in cells if cell.model.builder == "resnet_cifar"]
    found = {
        (c.axis("depth"), c.axis("width"), c.axis("model.shortcut"), c.recipe.batch_size,
         c.recipe.learning_rate)
        for c in deep
        if c.data.source == "cifar10" and c.axis("model.norm") == "full"
    }  # fmt: skip
    for shortcut in (True, False):
        grid = {(depth, 1, shortcut, 1024, 0.1) for depth in (14, 20, 56, 110)}
        assert grid | {(110, 1, shortcut, 256, 0.1)} <= found
        assert {(14, width, shortcut, 1024, 0.1) for width in (2, 4, 8)} <= found
    assert {(14, 1, True, 128, 1.0), (14, 1, True, 1024, 0.001)} <= found
    epochs = {cell.recipe.epochs for cell in deep}
    assert epochs == {500, 5000, 10_000}
    ratios = {
        (name, cell.recipe.learning_rate / cell.recipe.batch_size)
        for name in plan.experiments
        if name.startswith("ratio_")
        for cell in plan.cells(name)
    }
    of = {"ratio_no_norm", "ratio_bare_no_norm", "ratio_noise", "ratio_mnist"}
    assert ratios == {(name, rate / 128) for name in of for rate in (0.1, 0.15, 0.3, 0.5)}


def test_all_networks_of_the_authors_code_are_planned() -> None:
    """Those of the table of parameter counts (test_diffusion_models.py) are in one of the plans."""
    planned = {
        (cell.model.builder, cell.axis("depth"), cell.axis("width"), cell.axis("model.shortcut"))
        for path in DIFFUSION
        for plan in [shipped(path)]
        for name in plan.experiments
        for cell in plan.cells(name)
    }
    ours = {"densenet40", "vgg11"}  # of other papers
    for builder, arguments, _, _ in COUNTS:
        full = {**catalogue.NETWORKS[builder].arguments, **arguments}
        asked = tuple(full.get(key) for key in ("depth", "width", "shortcut"))
        assert builder in ours or (builder, *asked) in planned, (builder, arguments)


@pytest.mark.parametrize(
    ("figures", "depth", "batch", "length", "starts"),
    [
        (("fig2_msd", "fig3_trapping", "fig5_gradients", "s1_msd"), 14, 1024, 1000, (24, 23_000)),
        (("fig2_long",), 14, 512, 10_000, (5, 39_000)),
        (("fig2_5000",), 14, 1024, 1000, (25, 240_000)),
        (("s2_hessian",), 14, 128, 1000, (49, 192_000)),
    ],
)
def test_the_figures_of_the_diffusion_paper_show_its_network(
    figures: tuple[str, ...], depth: int, batch: int, length: int, starts: tuple[int, int]
) -> None:
    """ResNet-14 with shortcuts at the rate 0.1, and as many windows as the paper draws."""
    plan = shipped("config/diffusion.yaml")
    for figure in figures:
        (cell,) = plan.cells(plan.figures[f"diffusion_{figure}"].experiment)
        assert (cell.model.builder, cell.axis("depth"), cell.axis("model.shortcut")) == (
            "resnet_cifar",
            depth,
            True,
        )
        assert (cell.recipe.learning_rate, cell.recipe.batch_size) == (0.1, batch)
        windows = cell.recipe.record.windows(cell.recipe.steps(50_000))
        assert {end - first for first, end in windows} == {length}
        assert (len(windows), windows[-1][0]) == starts


def test_the_control_of_the_diffusion_paper_is_convex() -> None:
    plan = shipped("config/diffusion.yaml")
    cells = plan.cells(plan.figures["diffusion_controls"].experiment)
    assert min(cell.axis("depth") for cell in cells) == 0
    assert {cell.model.builder for cell in cells} == {"mlp"}
