"""Names: of configs and of their parts, and what the workflow has taken."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.spec import names
from lossatlas.spec.config import load
from lossatlas.spec.figures import FIGURES

SMOKE = yaml.safe_load((paths.PROJECT / "config/smoke.yaml").read_text())
EXPERIMENT = SMOKE["experiments"]["smoke"]
DRAWN = {"draws": "taxonomy_phases"}
CASE_27 = {
    **SMOKE,
    "experiments": {"taxonomy_reference": EXPERIMENT},
    "figures": {name: {"experiment": "taxonomy_reference"} for name in SMOKE["figures"]},
}


def refused(raw: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        load(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_part(section: str, name: str, part: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SMOKE)
    raw[section][name] = part
    return raw


def test_an_experiment_in_the_place_of_the_published_results() -> None:
    said = refused(CASE_27)
    assert said.startswith("experiments: the workflow itself has a 'taxonomy_reference', so")


@pytest.mark.parametrize(
    ("section", "name", "part"),
    [
        *(("experiments", name, EXPERIMENT) for name in ("studies", "claims", "Claims")),
        *(("metrics", name, {"kind": "cka"}) for name in ("all", "train", "claims", "report")),
        *(("metrics", name, {"kind": "cka"}) for name in ("collect", "study", "pbs", "Train")),
        *(("figures", name, DRAWN) for name in ("all", "train", "data", "hessian", "claims")),
        *(("figures", name, DRAWN) for name in ("report", "simplexes", "cka", "ALL")),
    ],
)
def test_names_of_the_workflow(section: str, name: str, part: Any) -> None:
    said = refused(with_part(section, name, part))
    assert said.startswith(f"{section}: the workflow itself has a '{name.lower()}', so '{name}'")


@pytest.mark.parametrize(
    ("section", "name", "part", "says"),
    [
        ("metrics", "hessian", {"kind": "cka"}, "metrics.hessian: 'hessian' is a kind of metric"),
        ("figures", "taxonomy_phases", {"draws": "taxonomy_spectra"}, "is a figure of its own"),
        ("experiments", "Smoke", EXPERIMENT, "'Smoke' and 'smoke' differ in case alone"),
        ("metrics", "Hessian", {"kind": "hessian"}, "'Hessian' and 'hessian' differ in case"),
        ("figures", "Taxonomy_phases", DRAWN, "'taxonomy_phases' differ in case alone"),
        ("experiments", "a" * 20, EXPERIMENT, "ends in 20 equal parts"),
        ("experiments", "x" + "ab_" * 20, EXPERIMENT, "ends in 20 equal parts"),
        ("figures", "q" * 30, DRAWN, "ends in 20 equal parts"),
        ("metrics", "m" * 20, {"kind": "cka"}, "ends in 20 equal parts"),
        ("experiments", "long_name" * 12, EXPERIMENT, "has 108 characters, and names files (at"),
        ("figures", "long_name" * 30, DRAWN, "has 270 characters"),
        ("metrics", "long_name" * 30, {"kind": "cka"}, "has 270 characters"),
    ],
)
def test_names_that_collide_or_cannot_be(section: str, name: str, part: Any, says: str) -> None:
    assert says in refused(with_part(section, name, part))


def test_what_the_rules_have_is_taken() -> None:
    """Rules, and folders of logs, but for those named by wildcards."""
    files = [paths.PROJECT / "Snakefile", *(paths.PROJECT / "rules").glob("*.smk")]
    text = "\n".join(file.read_text() for file in files)
    rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):", text, re.MULTILINE))
    rules |= set(re.findall(r" as (\w+) with:", text))
    assert rules - FIGURES.keys() <= names.TARGETS | registry.built_in().keys()
    assert rules >= names.TARGETS
    logs = set(re.findall(r'paths\.log\(\s*"(\w+)"', text))
    assert logs <= {*paths.OWN_LOGS, *paths.SHARED_LOGS}


def test_longest_names_are_names_of_files() -> None:
    longest = ("long_name" * 12)[: names.LONGEST]
    assert len(Path(paths.log("collect", f"{longest}.{longest}")).name.encode()) < 255
    raw = with_part("experiments", longest, EXPERIMENT)
    assert longest in load(raw).experiments


def test_every_config_of_the_project_has_names_that_are_free() -> None:
    for file in [paths.PROJECT / "config.yaml", *(paths.PROJECT / "config").glob("*.yaml")]:
        raw = yaml.safe_load(file.read_text())
        names.check(load({**raw, "name": names.name_of(raw, [file])}))


# --- names of whole configs -------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, **more: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"experiments": {}, **more}))
    return path


def test_name_of_a_config(folder: Path) -> None:
    """Its own, else that of the file with its experiments."""
    first, second = write(folder / "first.yaml"), write(folder / "a/second.yml")
    change = folder / "change.yaml"
    change.write_text("recipes: {}")
    assert names.name_of({}, [first]) == "first"
    assert names.name_of({"name": "mine"}, [first]) == "mine"
    assert names.name_of({}, [second, change]) == "second"
    assert names.name_of({}, [change, "first.yaml"]) == "first"
    assert names.name_of({}, [first, second]) == "first-second"
    assert names.name_of({}, [change]) == "change"  # the experiments came with --config
    with pytest.raises(UserError, match=r"name: is missing \(add --config name=<word>\)"):
        names.name_of({}, [])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "my config",
            "'my config' cannot be the name of a config (letters, digits, _, - and .; add",
        ),
        ("../x", "cannot be the name of a config"),
        ("{cell}", "cannot be the name of a config"),
        ("", "cannot be the name of a config"),
        (".snakemake", "cannot be the name of a config"),
        ("cells", "'cells' is taken in results/ (add 'name: my_cells' to the config)"),
        ("Tables", "'Tables' is taken in results/"),
        ("readme.md", "is taken in results/"),
        ("Config", "is taken in results/"),
        ("n" * 101, "has 101 characters"),
        ("ab" * 20, "ends in 20 equal parts"),
        (7, "name: Input should be a valid string"),
    ],
)
def test_bad_names_of_configs(name: Any, says: str) -> None:
    assert says in refused({**SMOKE, "name": name})


def test_results_of_a_config_lie_in_its_folder() -> None:
    try:
        paths.use("first")
        assert paths.figure("a", "png") == "results/first/figures/a.png"
        assert paths.metric_table("e", "cka") == "results/first/tables/e/cka.csv"
        assert paths.series_table("{experiment}", "x").startswith("results/first/tables/{exp")
        assert paths.table("e") == "results/first/tables/e.csv"
        assert paths.claims() == "results/first/tables/claims.csv"
        assert paths.claims_of("simplex") == "results/first/tables/claims/simplex.csv"
        assert paths.page() == "results/first/report.html"
        assert paths.log("figure", "a") == "results/first/logs/figure/a.log"
        assert paths.log("train", "a") == "results/logs/train/a.log"
        assert paths.log("{metric}", "{cell}") == "results/logs/{metric}/{cell}.log"
        assert paths.metric_table(paths.STUDIES, "x") == "results/tables/studies/x.csv"
        assert paths.metric("c", "cka") == "results/cells/c/metrics/cka.h5"
    finally:
        paths.use(paths.DEFAULT)
    assert paths.figure("a", "png") == "results/figures/a.png"
    assert paths.claims() == "results/tables/claims.csv"


def test_two_files_of_one_name(folder: Path) -> None:
    """The one whose results are here keeps them, as long as it is there and says other things."""
    one, other = write(folder / "a/first.yaml", seed=1), write(folder / "b/first.yaml", seed=2)
    names.check_origin("first", [other])
    names.remember("first", [one])
    names.check_origin("first", [one])
    with pytest.raises(UserError) as caught:
        names.check_origin("first", [other])
    assert str(caught.value) == (
        "b/first.yaml: a/first.yaml has other contents and the same name, 'first'"
        " (add 'name: <another>' to b/first.yaml)"
    )
    write(one, seed=2)
    names.check_origin("first", [other])  # a copy
    one.unlink()
    write(other, seed=3)
    names.check_origin("first", [other])  # it was moved


def test_a_file_called_as_the_default_one(folder: Path) -> None:
    write(folder / "config.yaml")
    other = write(folder / "mine/config.yaml", seed=2)
    names.check_origin("config", ["config.yaml"])
    names.remember("config", ["config.yaml"])
    assert not (folder / "results").exists()
    with pytest.raises(UserError, match=r"config\.yaml has other contents and the same name"):
        names.check_origin("config", [other])


def test_configs_that_differ_in_case(folder: Path) -> None:
    names.remember("First", [write(folder / "First.yaml")])
    with pytest.raises(UserError, match="'first' and 'First', which has results here, differ"):
        names.check_origin("first", [write(folder / "other/first.yaml")])


def test_where_nothing_can_be_written(folder: Path) -> None:
    (folder / "results").write_text("no folder")
    names.remember("first", [write(folder / "first.yaml")])
