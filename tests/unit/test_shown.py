"""Which tables figures and claims are made from: the wiring of the workflow."""

import pytest
import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec import told
from lossatlas.spec.config import Config, load
from lossatlas.spec.figures import Thresholds
from lossatlas.spec.parts import Recipe
from lossatlas.spec.shown import Shown, claim_tables, everything_of, tables_told

GRID = {"load": {"width": [1, 2]}, "temperature": {"batch_size": [16, 64]}}
BASE = {"dataset": "digits", "recipe": "short", "seeds": 2}
ALL = ["performance", "hessian", "connectivity", "cka", "distance"]


def config(experiments: dict, figures: dict, metrics: dict | None = None) -> Config:
    return load(
        {
            "datasets": {"digits": None},
            "models": {"resnet18": None, "mlp": None},
            "recipes": {"short": {"epochs": 1}},
            "experiments": {name: {**BASE, **part} for name, part in experiments.items()},
            "metrics": metrics or {},
            "figures": figures,
        }
    )


@pytest.fixture
def grid() -> Config:
    one = {"model": "resnet18", **GRID, "metrics": ["hessian_paper", *ALL]}
    two = {"model": "mlp", "metrics": ["performance"]}
    figures = {
        "taxonomy_spectra": None,
        "mine": {"draws": "taxonomy_spectra", "metrics": {"hessian": "hessian"}},
        "taxonomy_phases": None,
        "taxonomy_reference_phases": None,
        "simplex_two_spirals": None,
    }
    paper = {"hessian_paper": {"kind": "hessian", "mode": "paper"}}
    return config({"grid": one, "other": two}, figures, paper)


def test_tables_of_figures(grid: Config) -> None:
    """The first metric of a kind, unless the config names one."""
    first, mine = Shown(grid, "taxonomy_spectra"), Shown(grid, "mine")
    assert first.tables("scalars") == [paths.metric_table("grid", "hessian_paper")]
    assert first.tables("series") == [paths.series_table("grid", "hessian_paper")]
    assert mine.tables("series") == [paths.series_table("grid", "hessian")]
    assert [mine.axis("load"), mine.axis("temperature")] == ["width", "batch_size"]
    assert (first.paper, mine.paper) == ("taxonomy", "taxonomy")


def test_all_that_an_experiment_lacks_is_told_at_once() -> None:
    one = {
        "e": {"model": "mlp", "load": {"width": [2]}, "metrics": ["performance", "connectivity"]}
    }
    says = r"'e' measures no 'hessian', 'cka' \(add them to experiments\.e\.metrics\)"
    with pytest.raises(UserError, match=says):
        config(one, {"taxonomy_phases": None})
    one["e"]["metrics"] += ["hessian", "cka"]
    asked = config(one, {})
    says = r"experiments\.e: the figure 'taxonomy_phases' needs a temperature axis \(add"
    with pytest.raises(UserError, match=says):
        config(one, {"taxonomy_phases": None})
    with pytest.raises(UserError, match=says):  # a target that the config does not name
        Shown(asked, "taxonomy_phases").tables("scalars")
    one["e"]["temperature"] = {"batch_size": [64]}
    assert Shown(config(one, {"taxonomy_phases": None}), "taxonomy_phases").tables("series") == []


def test_what_stands_in_the_place_of_an_experiment(grid: Config) -> None:
    published, study = Shown(grid, "taxonomy_reference_phases"), Shown(grid, "simplex_two_spirals")
    assert published.tables("scalars")[0] == "results/tables/taxonomy_reference/performance.csv"
    assert [published.axis("load"), published.axis("temperature")] == ["width", "batch_size"]
    assert study.tables("series") == ["results/tables/studies/two_spirals.series.csv"]
    assert [study.axis("load"), study.axis("temperature")] == ["", ""]
    unlisted = Shown(grid, "taxonomy_curves")  # can be asked for all the same
    assert unlisted.tables("scalars") == [paths.metric_table("grid", "connectivity")]


def test_a_metric_that_is_not_measured(grid: Config) -> None:
    """Of a figure that is asked for and stands in no config; `load` looks at those that do."""
    says = r"figures\.simplex_planes: experiment 'grid' measures no 'simplex' \(add it"
    with pytest.raises(UserError, match=says):
        Shown(grid, "simplex_planes").tables("series")


def test_tables_that_tell_of_claims(grid: Config) -> None:
    """Of experiments over axes of claims that measure all, and of the published results."""
    told = tables_told(grid, "taxonomy")
    assert list(told) == ["grid", "taxonomy_reference"]
    assert told["grid"][1] == paths.metric_table("grid", "hessian_paper")
    assert claim_tables(grid, "taxonomy") == [*told["grid"], *told["taxonomy_reference"]]
    both = [
        "results/tables/studies/two_spirals.csv",
        "results/tables/studies/two_spirals.series.csv",
    ]
    assert tables_told(grid, "simplex") == {"studies": {"two_spirals": both}}
    assert claim_tables(grid, "simplex") == both
    assert tables_told(grid, "diffusion") == {}


@pytest.mark.parametrize(
    ("axes", "tells"),
    [
        ({"load": {"width": [2]}, "temperature": {"weight_decay": [0.1, 0]}}, True),
        ({"load": {"data_fraction": [0.5, 1]}}, True),
        ({"load": {"label_noise": [0, 1]}, "temperature": {"learning_rate": [0.1]}}, True),
        ({"load": {"width": [2, 4]}}, False),
        ({}, False),
    ],
)
def test_axes_of_which_claims_speak(axes: dict, tells: bool) -> None:
    one = {"model": "resnet18", **axes, "metrics": ALL}
    assert bool(tables_told(config({"e": one}, {}), "taxonomy")) == tells


def test_what_claims_know_besides_tables(grid: Config) -> None:
    """Data set, recipe and settings of each experiment that tells."""
    facts = told.about(grid, "taxonomy")
    recipe = Recipe(epochs=1).model_dump(exclude_defaults=True)
    assert list(facts) == ["grid", "taxonomy_reference"]
    assert facts["grid"] == {
        "classes": 10,
        "task": "classification",
        "optimiser": "sgd",
        "label_noise": [0.0],
        "pixel_noise": [0.0],
        "momentum": [0.9],
        "rate": "constant",
        "axes": {"width": [1, 2], "batch_size": [16, 64]},
        "data": {"source": "digits"},
        "model": {"builder": "resnet18"},
        "recipe": {k: v for k, v in recipe.items() if k != "batch_size"},
        "thresholds": Thresholds().model_dump(),
    }
    assert facts["taxonomy_reference"]["rate"] == "decay"
    assert told.about(grid, "simplex") == {"studies": {}}


def test_what_claims_know_of_recipes_and_settings() -> None:
    """Thresholds of the figure that shows the experiment, rules of the rate, lags of the fit."""
    raw = {
        "datasets": {"noisy": {"source": "digits", "label_noise": 0.1}},
        "models": {"resnet18": None, "mlp": None},
        "recipes": {
            "decay": {"epochs": 4, "decay_epochs": [2]},
            "scaled": {"epochs": 4, "rate_per_batch": 128},
            "walk": {"epochs": 2, "momentum": 0, "record": {"length": 20, "stride": 20}},
        },
        "experiments": {
            "one": {**BASE, "dataset": "noisy", "model": "resnet18", **GRID, "metrics": ALL},
            "two": {"dataset": "noisy", "model": "resnet18", **GRID, "metrics": ALL, "seeds": 2},
            "path": {"dataset": "noisy", "model": "mlp", "seeds": 2, "metrics": ["diffusion"]},
        },
        "metrics": {"diffusion": {"fit": [2, 5]}},
        "figures": {
            "taxonomy_phases": {"experiment": "two", "thresholds": {"cka": 0.5}},
            "mine": {"draws": "taxonomy_phases", "experiment": "one", "thresholds": {"cka": 0.6}},
        },
    }
    for name, recipe in (("one", "decay"), ("two", "scaled"), ("path", "walk")):
        raw["experiments"][name]["recipe"] = recipe
    given = load(raw)
    facts = told.about(given, "taxonomy")
    assert [facts[name]["thresholds"]["cka"] for name in ("one", "two")] == [0.6, 0.5]
    assert facts["one"]["rate"] == "decay"
    assert facts["two"]["rate"] == "constant, scaled by the batch size"
    assert facts["one"]["label_noise"] == [0.1]
    path = told.about(given, "diffusion")["path"]
    assert (path["fit"], path["momentum"]) == ([2, 5], [0.0])


def test_everything_of_a_paper(grid: Config) -> None:
    files = everything_of(grid, "simplex")
    assert files[0] == "results/figures/simplex_two_spirals.png"
    assert files[-1] == paths.claims_of("simplex")
    assert everything_of(grid, "diffusion") == []
    assert len(everything_of(grid, "taxonomy")) == 3 * 4 + 1


def test_walks_are_told_by_kind() -> None:
    mlp = {
        "model": "mlp",
        "seeds": 10,
        "metrics": ["simplex_volume", "connectivity", "performance"],
    }
    told = tables_told(config({"one": mlp}, {}), "simplex")
    tables = {
        kind: [paths.metric_table("one", kind), paths.series_table("one", kind)]
        for kind in ("simplex_volume", "connectivity")
    }
    assert told == {"one": tables}


def test_the_default_atlas_tells_of_all_papers() -> None:
    whole = load(yaml.safe_load((paths.PROJECT / "config.yaml").read_text()))
    told = {paper: tables_told(whole, paper) for paper in ("taxonomy", "simplex", "diffusion")}
    assert list(told["taxonomy"]) == ["taxonomy", "taxonomy_reference"]
    assert list(told["simplex"]) == ["simplex", "studies"]
    assert list(told["simplex"]["studies"]) == ["two_spirals", "sampling_bias"]
    walks = ["diffusion", "diffusion_batch", "diffusion_labels", "studies"]
    assert list(told["diffusion"]) == walks
