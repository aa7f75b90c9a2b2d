"""The examples of docs/notebook.md run as they stand, each after the first."""

import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import lossatlas
from lossatlas.notebook.results import Number, Result
from lossatlas.paths import PROJECT

TEXT = (PROJECT / "docs" / "notebook.md").read_text(encoding="utf-8")
FIRST, *BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
TITLES = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)[: len(BLOCKS)]
FUNCTIONS = {
    *("align", "connect", "grow_simplex", "hessian", "msd", "plane", "read_checkpoint"),
    "similarity",
}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """Return what the first block defines."""
    names: dict[str, Any] = {}
    exec(FIRST, names)
    return names


@pytest.mark.parametrize("title", TITLES)
def test_an_example_runs(
    title: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = BLOCKS[TITLES.index(title)]
    assert len(block.splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    names = dict(given)
    with warnings.catch_warnings(), mpl.rc_context({"backend": "Agg"}):
        warnings.simplefilter("error")
        exec(block, names)
    plt.close("all")
    found = names.get("found")
    if found is not None:
        assert isinstance(found, Result)
        rows = found.to_pandas()
        assert (rows["status"] == "ok").all(), rows
        for name in re.findall(r'found\["(\w+)"\]', block):
            assert isinstance(found[name], Number)


def test_the_page_has_every_function() -> None:
    used = set(re.findall(r"lossatlas\.(\w+)\(", "".join(BLOCKS)))
    assert used == FUNCTIONS
    assert set(dir(lossatlas)) >= FUNCTIONS
    for name in FUNCTIONS:
        assert callable(getattr(lossatlas, name))
        assert getattr(lossatlas, name).__doc__
    assert len(TITLES) == len(BLOCKS) == len(set(TITLES))


def test_the_block_of_the_readme_runs(given: dict[str, Any]) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```python\n(import lossatlas\n.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    few = given["inputs"][:90], given["targets"][:90]
    about = {"inputs": few[0], "targets": few[1], "loader": [few]}
    models = {"model": given["one"], "model_a": given["one"], "model_b": given["two"]}
    names = {**about, **models}
    exec(block, names)
    assert names["found"]["hessian_trace"].status == "ok"
