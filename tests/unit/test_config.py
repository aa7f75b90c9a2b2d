"""The config: what is refused and how it is said; cells and their ids."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.hessian import Hessian
from lossatlas.metrics.hessian_path import HessianPath
from lossatlas.spec import catalogue, config
from lossatlas.spec.plan import make_plan
from lossatlas.spec.shown import Shown
from small_config import SMALL, changed


@pytest.mark.parametrize(
    "text",
    [
        "class Net: ...",
        "from elsewhere import *",
        "import a as Net",
        "try:\n    Net = 1\nfinally: ...",
    ],
)
def test_a_model_that_its_file_may_define(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "config_net.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    raw = changed("models.own", {"builder": "config_net:Net"})
    config.load(raw)
    (tmp_path / "config_net.py").write_text("class Net:\n    def")
    with pytest.raises(UserError, match=r"models\.own: config_net\.py is no Python: .*line 2"):
        config.load(raw)


def test_small_config_loads() -> None:
    loaded = config.load(SMALL)
    assert len(loaded.cells("grid")) == 4
    assert loaded.datasets["digits"].source == "digits"
    assert loaded.metric("hessian").samples == 512


def shipped(name: str) -> config.Config:
    return config.load(yaml.safe_load((paths.PROJECT / name).read_text()))


@pytest.mark.parametrize("name", ["config.yaml", "config/smoke.yaml"])
def test_shipped_configs_load(name: str) -> None:
    shipped(name)


AUGMENTED = {"crop": 4, "flip": True}


def test_the_plan_of_the_taxonomy_paper_augments_nothing() -> None:
    plan = shipped("config/taxonomy.yaml")
    assert all(recipe.augment is None for recipe in plan.recipes.values())


def test_the_plan_of_the_taxonomy_paper_draws_all_that_it_runs() -> None:
    plan = shipped("config/taxonomy.yaml")
    assert {figure.experiment for figure in plan.figures.values()} - {""} == set(plan.experiments)


def test_the_plan_of_the_simplex_paper_draws_all_that_it_runs() -> None:
    plan = shipped("config/simplex.yaml")
    shown = {name: Shown(plan, name) for name in plan.figures}
    assert {one.experiment for one in shown.values()} - {"studies"} == set(plan.experiments)
    for one in shown.values():
        one.check()
        assert not one.style.experiment or one.style.experiment in plan.experiments
    drawn = {(s.experiment, s.metric(kind)) for s in shown.values() for kind in s.kinds}
    unseen = {"connectivity"}  # claim C11 alone reads it
    for name, experiment in plan.experiments.items():
        assert set(experiment.metrics) - unseen <= {metric for e, metric in drawn if e == name}


def test_the_plan_of_the_simplex_paper_has_its_setting() -> None:
    plan = shipped("config/simplex.yaml")
    base = plan.recipes["base"].model_dump(exclude_defaults=True)
    told = {"epochs": 300, "learning_rate": 0.05, "cosine": True, "augment": AUGMENTED}
    assert base == told | {"incomplete_batch": "keep"}
    transformer = plan.metric("espro_vit")
    assert isinstance(transformer, Espro)
    asked = (transformer.vertices, transformer.epochs, transformer.samples)
    assert asked == (5, 10, 1)
    for part in plan.datasets.values():
        assert (part.mean, part.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


BAD = [
    ("experimnts", {}, "config: unknown key 'experimnts' (did you mean 'experiments'?)"),
    ("recipes.short.epoch", 3, "recipes.short: unknown key 'epoch' (did you mean 'epochs'?)"),
    ("recipes.short.early_stop", {"aftr": 1}, "unknown key 'aftr' (did you mean 'after'?)"),
    ("experiments.grid.seed", 3, "experiments.grid: unknown key 'seed' (did you mean 'seeds'?)"),
    ("recipes.short.epochs", "many", "recipes.short.epochs: Input should be a valid integer"),
    ("recipes.short.epochs", 0, "recipes.short.epochs: Input should be greater than or equal to 1"),
    ("recipes.short.learning_rate", float("nan"), "recipes.short.learning_rate"),
    ("recipes.short.decay_epochs", [5, 3], "recipes.short.decay_epochs: must increase"),
    ("recipes.short", {"epochs": 8, "decay_epochs": [8]}, "'decay_epochs' has 8, and there are 8"),
    ("recipes.short.checkpoints", ["early"], "needs 'early_stop'"),
    ("recipes.short.early_stop", {"loss": 0.1, "tolerance": 1e-3}, "'tolerance' and 'loss'"),
    ("recipes.short.early_stop", {"accuracy": 101}, "less than or equal to 100"),
    ("experiments.grid.load", {"width": []}, "experiments.grid.load.width"),
    ("experiments.grid.load", {"width": [2, 2]}, "'width' repeats a value"),
    ("experiments.grid.load", {"width": [2, 2.0]}, "'width' repeats a value"),
    ("experiments.grid.load", {"widht": [2]}, "unknown axis 'widht' (did you mean 'width'?"),
    ("experiments.grid.load", {"depth": [2]}, "'resnet18' has no argument 'depth'"),
    (
        "experiments.grid.load",
        {"model.norm": ["full", "none"]},
        "experiments.grid.load: 'model.norm' has 'full', and an axis has numbers: make an exper",
    ),
    (
        "experiments.grid.load",
        {"model.width": [2], "width": [3]},
        "'model.width' and another axis both set model.width (leave one of them out)",
    ),
    (
        "experiments.grid.load",
        {"width": [0]},
        "width is 0 (a whole number from 1 up: the nearest is 1)",
    ),
    (
        "experiments.grid.load",
        {"width": [2.6]},
        "width is 2.6 (a whole number from 1 up: the neare",
    ),
    (
        "experiments.grid.temperature",
        {"batch_size": [0]},
        "experiments.grid: batch_size: Input should be greater",
    ),
    (
        "experiments.grid.temperature",
        {"batch_size": [2000]},
        "batch_size 2000 is more than the 1437",
    ),
    ("experiments.grid.seeds", [1, 1], "experiments.grid.seeds: must be different whole numbers"),
    ("experiments.grid.seeds", [], "experiments.grid.seeds"),
    ("experiments.grid.seeds", "three", "experiments.grid.seeds: Input should be a valid integer"),
    ("experiments.grid.seeds", [-1, 2], "must be different whole numbers, from 0 up"),
    ("experiments.grid.seeds", 1, "'cka' compares replicas, and there is one seed"),
    ("experiments.grid.model", "resnet", "no 'resnet' in models (did you mean 'resnet18'?)"),
    ("experiments.grid.dataset", "digit", "no 'digit' in datasets (did you mean 'digits'?)"),
    ("experiments.grid.metrics", ["cka", "cka"], "experiments.grid.metrics: repeats 'cka'"),
    ("experiments.grid.metrics", ["cke"], "unknown metric 'cke' (did you mean 'cka'?)"),
    ("models.resnet18", {"widht": 3}, "'resnet18' has no argument 'widht' (did you mean 'width'?)"),
    ("models.other", {"builder": "resnet19"}, "unknown model 'resnet19' (did you mean 'resnet18'?"),
    ("models.own", {"builder": "no_such_module:Net"}, "no module named 'no_such_module'"),
    (
        "models.own",
        {"builder": "fractions:Fraction"},
        "'fractions' is neither in this folder",
    ),
    ("models.own", {"builder": "os.path;x:Net"}, "is not 'package.module:object'"),
    ("datasets.mnits", None, "unknown data set 'mnits' (did you mean 'mnist'?, or"),
    ("datasets.digits", {"fraction": 0}, "datasets.digits.fraction"),
    ("datasets.digits", {"mean": [0.5]}, "'mean' and 'std' have one number per channel each"),
    ("datasets.digits", {"mean": [0.5], "std": [0]}, "datasets.digits.std"),
    ("datasets.digits", {"mean": [0, 0], "std": [1, 1]}, "mean: 2 numbers for 1 channels (one f"),
    ("recipes.short.augment", {}, "give 'crop', 'flip' or both"),
    ("recipes.short.augment", {"crp": 4}, "unknown key 'crp' (did you mean 'crop'?)"),
    ("recipes.short.augment", {"crop": 8}, "a crop of 8 pixels leaves nothing of images of 8"),
    ("datasets.digits", {"label_noise": 1.5}, "datasets.digits.label_noise"),
    (
        "metrics.hessian",
        {"sample": 9},
        "metrics.hessian: unknown key 'sample' (did you mean 'samples'?)",
    ),
    ("metrics.hessian", {"probes": 1}, "metrics.hessian.probes"),
    ("metrics.mine", {"kind": "hesian"}, "unknown metric 'hesian' (did you mean 'hessian'?"),
    ("metrics.connectivity", {"pairs": [[0, 0]]}, "different seeds"),
    (
        "metrics.connectivity",
        {"mode": "paper", "points": 9},
        "metrics.connectivity: mode 'paper' has 'points: 5'; leave 'points' out",
    ),
    ("figures.taxonomy_phase", None, "unknown figure 'taxonomy_phase'"),
    (
        "figures.taxonomy_phases",
        {"experiment": "gird"},
        "unknown experiment 'gird' (did you mean 'grid'?)",
    ),
    ("figures.taxonomy_phases", {"limit": "paper"}, "unknown key 'limit' (did you mean 'limits'?)"),
    ("experiments", {}, "experiments"),
    ("experiments", {"../../x": SMALL["experiments"]["grid"]}, "'../../x' cannot be a name"),
    ("models", {"; touch x": {"builder": "resnet18"}}, "'; touch x' cannot be a name"),
    ("recipes", None, "recipes"),
]


BAD_MODELS = [
    ({"builder": "resnet_cifar", "depth": 15}, "depth is 15 (6n + 2; the nearest is 14)"),
    ({"builder": "resnet_cifar", "depth": 14.5}, "depth is 14.5 (6n + 2; the nearest is 14)"),
    ({"builder": "preresnet", "depth": 50}, "9n + 2 from there on; the nearest is 47)"),
    ({"builder": "resnet_imagenet", "depth": 40}, "101, 152; the nearest is 34)"),
    ({"builder": "densenet", "depth": True}, "depth is True (one of 121, 161, 169, 201"),
    ({"builder": "mlp", "depth": -1}, "depth is -1 (0 or more; the nearest is 0)"),
    ({"builder": "fully_connected", "width": "many"}, "width is many (a whole number from 1 up)"),
    ({"builder": "resnet_cifar", "norm": "ful"}, "norm is \"ful\" (did you mean 'full'?)"),
    ({"builder": "resnet_cifar", "norm": 3}, "norm is 3 (valid: full, none, partial)"),
    ({"builder": "resnet_cifar", "shortcut": "no"}, 'shortcut is "no" (true or false)'),
    ({"builder": "resnet_cifar", "linear_std": -1}, "linear_std is -1 (a number from 0 up)"),
    ({"builder": "vit", "heads": 0}, "heads is 0 (a whole number from 1 up: the nearest is 1)"),
    ({"builder": "alexnet"}, "images of 8 pixels are too small for 'alexnet' (at least 28"),
]


@pytest.mark.parametrize(("model", "says"), BAD_MODELS)
def test_bad_networks_are_refused_before_anything_is_spent(model: dict, says: str) -> None:
    raw = changed("models.resnet18", model)
    raw["experiments"]["grid"]["load"] = {}
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("builder", "axis", "says"),
    [
        ("vit", {"model.heads": [0]}, "heads is 0 (a whole number from 1 up: the nearest is 1)"),
        ("vit", {"model.patch": [2, 2.5]}, "patch is 2.5 (a whole number from 1 up: the nea"),
        ("resnet_cifar", {"model.norm": [1]}, "norm is 1 (valid: full, none, partial)"),
        ("resnet_cifar", {"model.shortcut": [2]}, "shortcut is 2 (true or false)"),
        ("resnet_cifar", {"model.shortcut": [True, False]}, ""),
        ("resnet_cifar", {"model.linear_std": ["1e-3", 0.1]}, ""),
    ],
)
def test_axes_have_values_that_the_network_takes(builder: str, axis: dict, says: str) -> None:
    raw = changed("models.resnet18", {"builder": builder})
    raw["experiments"]["grid"]["load"] = axis
    if not says:
        assert len(config.load(raw).cells("grid")) == 4
        return
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert says in str(caught.value)


@pytest.mark.parametrize(("path", "value", "says"), BAD)
def test_bad_config_is_one_clear_line(path: str, value: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(changed(path, value))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ({"kind": "simplex", "modes": 3}, "connects 3 replicas, and there are 2 seeds"),
        ({"kind": "simplex", "repeats": 2}, "connects 4 replicas, and there are 2 seeds"),
        ({"kind": "simplex_volume", "repeats": 2}, "connects 4 replicas, and there are 2 seeds"),
        ({"kind": "espro"}, "held-out training images, and there are none (a fraction below 1)"),
        ({"kind": "espro", "draws": 0}, "metrics.mine.draws"),
        (
            {"kind": "espro", "components": 3},
            "metrics.mine.components: 'mine' takes 3 replicas, and there are 2 seeds (at most 2",
        ),
        ({"kind": "espro", "replicas": 3}, "metrics.mine.replicas: 'mine' takes 3 replicas"),
        (
            {"kind": "espro", "replicas": 1, "components": 2},
            "metrics.mine.components: 'mine' takes 2 replicas, and there are 1",
        ),
        (
            {"kind": "espro", "swag_epochs": 1},
            "metrics.mine.swag_epochs: must be 0 or at least 2: one epoch gives no covariance",
        ),
        (
            {"kind": "espro", "swag_epochs": 4, "swag_rank": 5},
            "metrics.mine.swag_rank: 5 deviations of 4 epochs (at most 4, or more 'swag_epochs')",
        ),
        ({"kind": "espro", "swag_rank": 1}, "metrics.mine.swag_rank"),
        ({"kind": "espro_strength", "repeats": 3}, "takes 3 replicas, and there are 2 seeds"),
        (
            {"kind": "simplex", "connectors": 2, "planes": [["w0", "w1", "c2"]]},
            "metrics.mine.planes: the complex has no vertex 'c2' (its vertices: w0, w1, c0, c1)",
        ),
        ({"kind": "espro", "components": 0}, "metrics.mine.components"),
        ({"kind": "simplex", "complex": "sharde"}, "metrics.mine.complex"),
        (
            {"kind": "simplex", "complex": [["w9", "c0"]]},
            "metrics.mine.complex: unknown mode 'w9' (replicas: w0, w1)",
        ),
        ({"kind": "simplex", "complex": [["w0", "c0", "c0"]]}, "repeats a vertex"),
    ],
)
def test_simplexes_need_seeds_and_held_out_images(metric: dict[str, Any], says: str) -> None:
    raw = changed("metrics.mine", metric)
    raw["experiments"]["grid"]["metrics"].append("mine")
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_of_the_table_of_data_have_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """They name files and targets."""
    table = catalogue.data_sources()
    monkeypatch.setitem(table, "my-data", table["digits"])
    raw = changed("datasets.digits", {"source": "my-data"})
    with pytest.raises(UserError, match=r"datasets\.digits: 'my-data' cannot be a name \(letters"):
        config.load(raw)


def test_corruptions_must_be_of_the_data_set() -> None:
    raw = changed("metrics.mine", {"kind": "espro", "corruptions": "cifar10_c"})
    raw["datasets"]["digits"] = {"source": "cifar10", "fraction": 0.9}
    raw["experiments"]["grid"]["metrics"].append("mine")
    assert make_plan(config.load(raw), lambda _: []).corruptions == {"cifar10_c"}
    assert make_plan(config.load(SMALL), lambda _: []).corruptions == set()
    for source in ("digits", "cifar100"):
        raw["datasets"]["digits"]["source"] = source
        says = f"'cifar10_c' does not hold the test images of '{source}'"
        with pytest.raises(UserError, match=says):
            config.load(raw)
    raw["metrics"]["mine"]["corruptions"] = "cifar_c"
    with pytest.raises(UserError, match=r"mine.corruptions: unknown set.*did you mean 'cifar10_c'"):
        config.load(raw)


def test_pairs_must_be_seeds() -> None:
    raw = changed("metrics.connectivity", {"pairs": [[0, 7]]})
    raw["experiments"]["grid"]["metrics"].append("connectivity")
    with pytest.raises(UserError, match="no seed 7"):
        config.load(raw)


def test_networks_for_grey_images_refuse_colours() -> None:
    raw = changed("models.resnet18", {"builder": "resnet_mnist"})
    raw["datasets"]["digits"] = {"source": "cifar10"}
    with pytest.raises(UserError, match="images of 3 channels are not for 'resnet_mnist'"):
        config.load(raw)


def test_a_batch_has_no_more_images_than_the_load_leaves() -> None:
    """The paper's way cuts a fraction of an image off, ours rounds: 0.7 x 1437 = 1005.9."""
    raw = changed("experiments.grid.temperature", {"batch_size": [1006]})
    raw["datasets"]["digits"] = {"fraction": 0.7}
    config.load(raw)
    raw["datasets"]["digits"]["transforms"] = "paper"
    with pytest.raises(UserError, match="batch_size 1006 is more than the 1005"):
        config.load(raw)


def test_mode_paper_has_the_papers_numbers() -> None:
    """Yang et al. (2021), their code: what its scripts set, where nothing else is asked for."""
    raw = changed("metrics", {"theirs": {"kind": "hessian", "mode": "paper", "probes": 7}})
    raw["metrics"]["cka"] = {"mode": "paper"}
    loaded = config.load(raw)
    theirs, cka = loaded.metric("theirs"), loaded.metric("cka")
    assert (theirs.samples, theirs.iterations, theirs.tolerance, theirs.probes) == (
        200,
        100,
        1e-3,
        7,
    )
    assert (cka.samples, cka.batch_size, cka.mixup_alpha, cka.layers[0]) == (
        768,
        128,
        16,
        "softmax",
    )
    curve = Connectivity(mode="paper")
    assert (curve.epochs, curve.batch_size, curve.learning_rate) == (50, 128, 0.01)
    assert (curve.start, curve.points, curve.pairs) == ("random", 5, "first")
    path = HessianPath(mode="paper")
    assert (path.iterations, path.tolerance) == (20, 1e-4)
    assert Hessian(**theirs.model_dump()) == theirs
    assert (Hessian().samples, Cka().samples) == (512, 640)


def test_figures_and_claims_show_the_first_metric_of_a_kind() -> None:
    raw = changed("metrics.theirs", {"kind": "hessian", "mode": "paper"})
    for metrics in (["theirs", "hessian", "cka"], ["hessian", "cka", "theirs"]):
        raw["experiments"]["grid"]["metrics"] = metrics
        assert config.load(raw).firsts("grid") == {"hessian": metrics[0], "cka": "cka"}
