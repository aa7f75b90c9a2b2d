"""Several configs in one project, and the commands that the documents give."""

import re
import shlex
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

import commands
from conftest import Elsewhere, Project
from lossatlas.paths import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def part_of_smoke(project: Project, name: str) -> None:
    """Make a second config: half of the cells, measured as before, in an experiment of one name."""
    content = yaml.safe_load((project.root / "config/smoke.yaml").read_text())
    content["experiments"]["smoke"]["load"] = {"width": [1]}
    content["figures"] = {"taxonomy_spectra": None, "taxonomy_reference_phases": None}
    (project.root / name).parent.mkdir(exist_ok=True)
    (project.root / name).write_text(yaml.safe_dump(content, sort_keys=False))


def test_two_configs_keep_what_is_theirs_and_share_cells(ready: Project) -> None:
    mine = files(ready.root / "results/smoke")
    assert {"tables/claims.csv", "figures/taxonomy_phases.png", "config.txt"} <= mine.keys()
    cells = files(ready.root / "results/cells")
    part_of_smoke(ready, "other.yaml")
    first, ready.config = ready.config, "other.yaml"
    only = {"figure": 2, "reference": 1}
    assert ready.jobs() == {"collect": 5, "verdicts": 3, "all_claims": 1, **only}
    ready.snakemake("--cores", "2", "all", "report")
    theirs = files(ready.root / "results/other")
    assert {"tables/claims.csv", "figures/taxonomy_spectra.png", "report.html"} <= theirs.keys()
    assert theirs["tables/claims.csv"] != mine["tables/claims.csv"]
    assert files(ready.root / "results/smoke") == mine
    assert files(ready.root / "results/cells") == cells
    assert ready.jobs() == {}
    ready.config = first
    assert ready.jobs() == {}


def test_two_files_of_one_name(ready: Project) -> None:
    part_of_smoke(ready, "mine/smoke.yaml")
    ready.config = "mine/smoke.yaml"
    printed = ready.snakemake("-n", ok=False)
    said = "mine/smoke.yaml: config/smoke.yaml has other contents and the same name, 'smoke' (add"
    assert any(said in line for line in printed.splitlines()), printed
    assert "Traceback" not in printed
    ready.configure(lambda c: c.update(name="mine"))
    assert "train_replicas" not in ready.jobs()
    assert "results/mine/figures/taxonomy_spectra.png" in ready.snakemake("-n")


def first_config() -> str:
    """Return the config that README.md shows."""
    text = (PROJECT / "README.md").read_text()
    whole = re.findall(r"^```yaml\n(datasets.*?)^```", text, re.MULTILINE | re.DOTALL)
    return next(block for block in whole if "\nexperiments:" in block)


def first_network() -> str:
    """Return the network that README.md shows."""
    text = (PROJECT / "README.md").read_text()
    (found,) = re.findall(r"^```python\n(.*?class Net.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


def shrink(path: Path) -> None:
    """Leave two values of each axis: the same targets, and a plan of seconds."""
    content = yaml.safe_load(path.read_text())
    for one in content["experiments"].values():
        for group in ("load", "temperature"):
            one[group] = {axis: values[:2] for axis, values in one.get(group, {}).items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_documented_commands(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read as it is meant, and what it asks for can be planned."""
    from snakemake.cli import parse_args

    (project.root / "mynet.py").write_text(first_network())
    for name in ("first.yaml", "theirs.yaml"):
        (project.root / name).write_text(first_config())
    shutil.copy(project.root / "config/smoke.yaml", project.root / "FILE")
    for path in (project.root / "config").glob("*.yaml"):
        if path.name != "config.yaml":  # the default atlas, as deployment tools find it
            shrink(path)
    monkeypatch.chdir(project.root)
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    found = {
        command
        for command, where in commands.documented().items()
        # of other folders, of messages, of a file that CONTRIBUTING.md lets one write, and of
        # another workflow, which has this one as a module
        if not where.startswith(("examples/", "workflow/", "CONTRIBUTING"))
        and not command.startswith("atlas_")
    }
    assert len(found) > 20
    for command in found:
        _, given = parse_args(shlex.split(command))
        if given.list_target_rules or given.unlock:
            continue
        configs = [str(file) for file in given.configfile or ["config.yaml"]]
        assert len(configs) == 1, command
        assert Path(configs[0]).is_file(), command
        targets = {str(target) for target in given.targets}
        profiles = given.profile or [""]
        asked[configs[0], profiles[-1]] |= targets or {"all"}
    for (project.config, profile), targets in asked.items():
        options = ["--profile", profile] if profile else []
        project.snakemake(*sorted(targets), "-n", "--quiet", "all", *options)


@pytest.mark.parametrize(
    "name",
    ["alignment", "dataset", "figure", "metric", "model", "refine", "stability", "task"],
)
def test_examples_make_their_tables(name: str, tmp_path: Path) -> None:
    """Also those that draw nothing, and those without the metrics that decide phases."""
    shutil.copytree(PROJECT / "examples" / name, tmp_path / name)
    example = Elsewhere(tmp_path / name, "config.yaml")
    content = yaml.safe_load((example.root / "config.yaml").read_text())
    wanted = example.jobs()
    assert wanted["train_replicas"] >= 1
    assert wanted["collect"] >= 1
    whole = example.jobs("metrics")
    least = sum(len(one["metrics"]) for one in content["experiments"].values())
    assert whole["collect"] >= (least if name != "refine" else 0)
