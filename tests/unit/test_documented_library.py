"""Commands of the library and blocks of Python in the documents run as they are written."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lossatlas import cli
from lossatlas.paths import PROJECT

README = (PROJECT / "README.md").read_text("utf-8")
(NET,) = re.findall(r"^```python\n(.*?class Net.*?)^```", README, re.MULTILINE | re.DOTALL)
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for block in re.findall(
            r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for command in re.findall(r"^lossatlas ((?:metric|plane) .*)", block, re.MULTILINE)
        if "--cell" not in command  # of the user's results: tests/unit/test_replicas.py
    }
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's: a network, three checkpoints, and data of the same shape."""
    (tmp_path / "mynet.py").write_text(NET)
    rng = np.random.default_rng(0)
    sizes = {"train": 40, "test": 20}
    images = {f"{part}_images": rng.random((n, 8, 8, 1), np.float32) for part, n in sizes.items()}
    labels = {f"{part}_labels": np.arange(n) % 10 for part, n in sizes.items()}
    np.savez(tmp_path / "mydata.npz", **images, **labels)
    space: dict = {}
    exec(NET, space)
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        torch.save(space["Net"](10, 1, 8).state_dict(), tmp_path / f"{name}.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mynet", raising=False)  # of the folder before
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(command)) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert printed.strip()
    for made in re.findall(r"\S+\.(?:h5|png)\b", command):
        assert (folder / made).stat().st_size > 0


def test_commands_are_found() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"metric", "plane"}
    assert len(COMMANDS) >= 4


def test_the_table_of_the_quick_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/tables/taxonomy/connectivity.csv")
    path.parent.mkdir(parents=True)
    rows = pd.DataFrame({"metric": "mode_connectivity", "width": [1, 1], "batch_size": 16})
    rows.assign(value=[-2.0, -4.0], status="ok").to_csv(path)
    exec(block("docs/start.md"), {})
    assert "-3.0" in capsys.readouterr().out


def test_the_intervals_of_how_sure_we_are() -> None:
    space = {"table": pd.DataFrame({"stderr": [0.5], "df": [2]})}
    exec(block("docs/uncertainty.md"), space)
    found = space["mean"]([91.2, 90.8, 91.9]).interval()
    assert found[0] < 91.3 < found[1]
    assert space["half_width"](0.5, 2, 0.95) == pytest.approx(0.5 * 4.3027, abs=1e-3)


def test_the_first_config_is_the_same_on_both_pages() -> None:
    page = (PROJECT / "docs/own.md").read_text("utf-8")
    first = re.findall(r"^```(?:python|yaml)\n.*?^```", README, re.MULTILINE | re.DOTALL)[:2]
    assert all(one in page for one in first)


def block(page: str) -> str:
    """Return the one block of Python of a page."""
    (found,) = re.findall(
        r"^```python\n(.*?)^```", (PROJECT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return found
