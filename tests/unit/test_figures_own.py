"""Figures of a user's own: declared at the function, read without being run, drawn by a job."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import figure_tables as ft
import pandas as pd
import pytest

from lossatlas import paths, plugins
from lossatlas.errors import UserError
from lossatlas.figures.draw import draw
from lossatlas.spec import drawings
from lossatlas.spec.config import load
from lossatlas.spec.figures import FIGURES, Figure, drawing_of
from lossatlas.spec.shown import Shown

FILE = '''
import pathlib
import lossatlas as la
from lossatlas.figures import figure, style

pathlib.Path("mark").touch()
NAMES = ["performance"]

@la.figure(scalars=["performance", "two"], series=("connectivity",), category="mine")
def good(tables, chosen, load, temperature):
    """Accuracy of
    everything.

    It is high.

    Args:
        tables: All.
    """
    with style.sheet():
        return la.Drawn(style.page(20), tables.scalars)

@figure(series=["hessian"])
def bare(*_): return 3

@la.figure(scalars=["performance"])
def fails(*_): return 1 / 0

def undeclared(*_): ...

@la.figure
def nothing(*_): ...

@la.figure(scalars=NAMES)
def computed(*_): ...

@la.figure(scalars="performance")
def text(*_): ...
'''


WRONG = """
@la.figure(scalar=['a'])
def unknown(*_): ...

@la.figure(scalars=['a'], axes=['width'])
def axis(*_): ...
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plug_figures.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("plug_figures", None)


def config(draws: str, **more: object) -> dict:
    one = {"dataset": "digits", "model": "mlp", "recipe": "short", "seeds": 2}
    one["metrics"] = ["performance", "connectivity", "two"]
    one |= {"load": {"width": [2]}, "temperature": {"batch_size": [64]}}
    return {
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"short": {"epochs": 1}},
        "experiments": {"first": one},
        "metrics": {"two": {"kind": "performance"}},
        "figures": {"mine": {"draws": draws, **more}},
    }


def test_a_declaration_is_read_and_not_run(here: Path) -> None:
    shown = Shown(load(config("plug_figures:good")), "mine")
    drawing = shown.drawing
    assert (drawing.category, drawing.subcategory) == ("mine", "our atlas")
    assert drawing.about == "Accuracy of everything."
    assert shown.caption == "Accuracy of\neverything.\n\nIt is high."
    tables = [paths.metric_table("first", name) for name in ("performance", "two")]
    assert shown.tables("scalars") == tables
    assert shown.tables("series") == [paths.series_table("first", "connectivity")]
    assert shown.paper == ""
    assert drawing_of("plug_figures:bare").category == drawings.OWN
    assert not (here / "mark").exists()
    with pytest.raises(UserError, match=r"measures no 'hessian' \(add it to experiments\.first"):
        Shown(load(config("plug_figures:bare")), "mine").tables("series")


def test_captions_of_a_config(here: Path) -> None:
    shown = Shown(load(config("plug_figures:good", caption="Ours.")), "mine")
    assert shown.caption == "Ours."
    built_in = Shown(load(config("taxonomy_curves")), "mine")
    text = paths.caption("taxonomy_curves").read_text(encoding="utf-8")
    assert built_in.caption.startswith(text.rstrip())
    (about,) = built_in.caption.removeprefix(text.rstrip()).strip().splitlines()
    assert about.startswith("Experiment ``first``: ")
    assert about.endswith(" of each cell.")
    for text in (".. include:: /etc/passwd", "a\n\n.. |x| replace:: y", ".. raw:: html"):
        with pytest.raises(UserError, match="a caption has no directives"):
            load(config("plug_figures:good", caption=text))


@pytest.mark.parametrize(
    ("draws", "says"),
    [
        ("plug_figures:god", "plug_figures.py defines no function 'god' (did you mean 'good'?)"),
        ("plug_figures:undeclared", "'undeclared' does not say which tables it reads (put @la.fig"),
        ("plug_figures:nothing", "names no metric whose tables it reads (such as @la.fig"),
        ("plug_figures:computed", "'scalars' is NAMES (write out texts and lists of texts"),
        ("plug_figures:text", "'scalars' is 'performance' (give a list of texts)"),
        ("plug_wrong:axis", "no axis is called 'width' ('load', 'temperature' or both)"),
        ("plug_wrong:unknown", "@la.figure has no argument 'scalar' (did you mean 'scalars'?)"),
        ("plug_gone:draw", "no module named 'plug_gone'"),
        ("plug_broken:draw", "plug_broken.py is no Python"),
        ("subprocess:run", "'subprocess' is neither in this folder nor"),
        ("taxonomy_phase", "unknown figure 'taxonomy_phase' (did you mean 'taxonomy_phases'?"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(here: Path, draws: str, says: str) -> None:
    (here / "plug_broken.py").write_text("def draw(:\n")
    (here / "plug_wrong.py").write_text(WRONG)
    with pytest.raises(UserError) as caught:
        load(config(draws))
    assert says in str(caught.value)
    assert str(caught.value).startswith("figures.mine.draws: ")
    assert "\n" not in str(caught.value)
    assert not (here / "mark").exists()


def test_plug_ins_that_are_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.SWITCH, "off")
    assert Shown(load(config("plug_figures:good")), "mine").drawing.category == "mine"
    assert Shown(load(config("elsewhere:draw")), "mine").tables("scalars") == []
    assert not (here / "mark").exists()


@pytest.fixture
def tables(tmp_path: Path) -> dict:
    path = tmp_path / "performance.csv"
    ft.scalars({(1, 2): {"test_accuracy": 0.5}}).to_csv(path, index=False)
    return {"scalars": [path], "series": [], "load": "width", "temperature": "batch_size"}


def test_it_is_drawn(here: Path, tables: dict) -> None:
    outputs = {name: here / f"a.{name}" for name in ("png", "pdf", "csv")}
    draw(Figure(draws="plug_figures:good"), **tables, outputs=outputs)
    assert all(path.stat().st_size for path in outputs.values())
    pd.testing.assert_frame_equal(
        pd.read_csv(outputs["csv"]), pd.read_csv(tables["scalars"][0]), check_dtype=False
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bare", "plug_figures:bare: gives a int (return la.Drawn(figure, numbers): a matplotlib"),
        ("fails", "fails: ZeroDivisionError: division by zero (plug_figures.py, line "),
    ],
)
def test_what_fails_is_one_line(here: Path, tables: dict, name: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        draw(Figure(draws=f"plug_figures:{name}"), **tables, outputs={})
    assert says in str(caught.value)


def test_every_declaration_of_the_library_is_found() -> None:
    """`built_in` reads heads of functions by a pattern; here whole files are parsed."""
    found = {}
    for file in (paths.LIBRARY / "figures").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            for call in getattr(node, "decorator_list", []):
                if ast.unparse(call).startswith("la.figure("):
                    name = ast.literal_eval(call.args[0]) if call.args else node.name
                    found[name] = f"lossatlas.figures.{file.stem}:{node.name}"
    assert found == {name: drawing.target for name, drawing in FIGURES.items()}
    for name, drawing in FIGURES.items():
        if name.startswith(papers := ("taxonomy", "simplex", "diffusion")):
            assert drawing.category in papers, name
