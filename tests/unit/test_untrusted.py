"""What comes from others never runs code and never leaves the results folder.

Elsewhere: pickles of weights (test_cli), of the published results (test_unpickle), paths
in archives and objects in .npz files (test_data_convert), options of qsub (test_pbs).
"""

import copy
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lossatlas import custom
from lossatlas.errors import UserError
from lossatlas.paths import LIBRARY, PROJECT
from lossatlas.spec.cells import Cell
from lossatlas.spec.config import load
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.training import checkpoints

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
HOSTILE = [
    "; touch x",
    "../../x",
    "a/b",
    "$(touch x)",
    "`touch x`",
    "{cell}",
    "a b",
    "",
    "-rf",
    "x\n",
]
PARTS = {
    "datasets": {"source": "digits"},
    "models": {"builder": "resnet18"},
    "recipes": {"epochs": 1},
    "metrics": {"kind": "cka"},
    "experiments": SMOKE["experiments"]["smoke"],
    "figures": {"draws": "taxonomy_phases", "experiment": "smoke"},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("section", list(PARTS))
def test_names_that_are_no_names(section: str, name: str) -> None:
    """Names become paths, patterns and texts of Snakemake: letters, digits and _ alone."""
    config = copy.deepcopy(SMOKE)
    config[section][name] = PARTS[section]
    with pytest.raises(UserError, match="cannot be a name"):
        load(config)


@pytest.mark.parametrize("text", HOSTILE)
def test_values_do_not_leave_the_folder_of_cells(text: str) -> None:
    model = ModelPart(builder="mine.own:Net", width=text)
    cell = Cell(DataPart(source="digits"), model, Recipe())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", cell.id)


@pytest.mark.parametrize("text", ["../../x", "; touch x", "/etc/passwd"])
def test_sources_are_rows_of_the_table(text: str) -> None:
    config = copy.deepcopy(SMOKE)
    config["datasets"]["digits"] = {"source": text}
    with pytest.raises(UserError, match="unknown data set"):
        load(config)


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_weights_that_are_pickles(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "0.safetensors"
    path.write_bytes(pickle.dumps(Touch(mark)))
    pickle.loads(path.read_bytes())
    assert mark.exists()  # it is hostile
    mark.unlink()
    with pytest.raises(UserError, match="not a safetensors file"):
        custom.read_state(str(path))
    with pytest.raises(UserError, match="not a safetensors file"):
        checkpoints.read_weights([str(path)], [0], "final", "np", None)
    for suffix in (".pt", ".pth", ".bin"):
        path = path.rename(path.with_suffix(suffix))
        with pytest.raises(UserError, match="not a file of tensors"):
            custom.read_state(str(path))
    assert not mark.exists()


def test_data_with_objects(tmp_path: Path) -> None:
    from lossatlas.data.readers import npz

    mark = tmp_path / "mark"
    np.savez(tmp_path / "data.npz", train_images=np.array([Touch(mark)], dtype=object))
    with pytest.raises(UserError, match="not a readable"):
        npz(tmp_path / "data.npz")
    assert not mark.exists()


@pytest.mark.parametrize("named", [False, True])
def test_reading_a_config_runs_no_code_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """A module beside the user is found where the config names it, and run by jobs alone."""
    (tmp_path / "net_of_a_user.py").write_text("open('mark', 'w')\nNet = None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = copy.deepcopy(SMOKE)
    if named:
        config["models"]["mine"] = {"builder": "net_of_a_user:Net"}
    load(config)
    assert "net_of_a_user" not in sys.modules
    assert not (tmp_path / "mark").exists()


def test_no_value_of_a_config_reaches_a_shell() -> None:
    rules = [PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk")]
    assert len(rules) > 8
    for path in rules:
        assert not re.search(
            r"^\s*(shell|run|wrapper|notebook):", path.read_text(), re.MULTILINE
        ), path
    for path in [*LIBRARY.rglob("*.py"), *LIBRARY.parent.glob("*.py")]:
        found = re.search(
            r"os\.system|os\.popen|shell=True|yaml\.(unsafe_|full_)?load\(", path.read_text()
        )
        assert found is None, (path, found)
