"""Imports run downwards, in the order that ARCHITECTURE.md draws."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from lossatlas.paths import LIBRARY, PROJECT

# What runs upwards on purpose; ARCHITECTURE.md says why. Of a package: everything in it.
ALLOWED = {
    ("spec", "metrics"),
    ("metrics", "connectivity.pairs"),
    ("metrics", "simplex.complexes"),
    ("data", "training.seeds"),
    ("data", "entry"),  # a program of its own, which describes data
}


def ranks() -> dict[str, int]:
    """Return module or package -> its line in the drawing, from the top."""
    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawing = re.search(r"## Layers.*?```\n(.*?)```", text, re.DOTALL)
    assert drawing is not None
    lines = [re.split(r"\s{4,}", line)[0] for line in drawing[1].strip().splitlines()]
    return {name: place for place, line in enumerate(lines) for name in line.split()}


def home(file: Path) -> str:
    return file.stem if file.parent == LIBRARY else file.relative_to(LIBRARY).parts[0]


def imported(node: ast.AST) -> Iterator[str]:
    """Yield what a file imports from the library when it is imported itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("lossatlas"):
            for alias in child.names:
                yield f"{child.module}.{alias.name}".removeprefix("lossatlas.")
        elif isinstance(child, ast.Import):
            names = (alias.name for alias in child.names)
            yield from (n.removeprefix("lossatlas.") for n in names if n.startswith("lossatlas."))
        yield from imported(child)


def files() -> list[Path]:
    return [f for f in LIBRARY.rglob("*.py") if home(f) not in ("__init__", "__main__")]


def test_every_module_has_its_place() -> None:
    assert sorted({home(file) for file in files()} - ranks().keys()) == []


def test_imports_run_downwards() -> None:
    found, at = [], ranks()
    for file in files():
        mine = home(file)
        for name in imported(ast.parse(file.read_text(encoding="utf-8"))):
            other = name.partition(".")[0]
            upwards = other in at and at[other] < at[mine]
            if upwards and not any(mine == a and name.startswith(b) for a, b in ALLOWED):
                found.append(f"{file.relative_to(LIBRARY)} imports {name}")
    assert found == []
