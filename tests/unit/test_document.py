"""Documents that are written from the types must not drift."""

import importlib
import inspect
import re

import pytest

from lossatlas import paths
from lossatlas.claims import diffusion, simplex, taxonomy, variants
from lossatlas.metrics import registry
from lossatlas.spec import document
from lossatlas.spec.figures import FIGURES

SAID = {"taxonomy": taxonomy, "simplex": simplex, "diffusion": diffusion}
FIX = "run: python -m lossatlas.spec.document"


def test_config_readme_is_current() -> None:
    assert document.README.read_text(encoding="utf-8") == document.markdown(), FIX


def test_schema_is_current() -> None:
    assert document.SCHEMA.read_text(encoding="utf-8") == document.schema_text(), FIX


def test_every_key_is_explained() -> None:
    assert "| None |" not in document.markdown()


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_has_a_sentence_and_a_caption(name: str) -> None:
    assert FIGURES[name].about.endswith(".")
    assert len(FIGURES[name].about) < 100
    if (file := paths.caption(name)).exists():
        assert FIGURES[name].caption == file.read_text(encoding="utf-8")
    else:  # the docstring
        assert FIGURES[name].about in " ".join(FIGURES[name].caption.split())


@pytest.mark.parametrize("kind", registry.built_in())
def test_every_metric_says_what_it_writes(kind: str) -> None:
    metric = registry.built_in()[kind]
    assert inspect.getdoc(metric)
    assert all(one.name and one.doc for one in metric.outputs)
    assert len({one.name for one in metric.outputs}) == len(metric.outputs)


@pytest.mark.parametrize("paper", list(SAID))
def test_page_of_a_paper_has_its_claims_and_figures(paper: str) -> None:
    page = (paths.PROJECT / "docs" / f"{paper}.md").read_text(encoding="utf-8")
    for claim in SAID[paper].CLAIMS:
        assert f"| {claim.name} | {claim.statement} Checked: " in page, claim.name
    for claim in variants.CLAIMS if paper == "taxonomy" else ():
        told = f"| {claim.name} | {claim.statement} Checked: {claim.expected}. Sizes: "
        line = f"{told}{claim.threshold}. | {claim.condition.words} |"
        assert line.replace("|mc|", r"\|mc\|") in page, line
    for name in FIGURES:
        assert name in page or not name.startswith(paper)
    for picture in re.findall(r"\]\(([^):]+)\)", page):
        assert (paths.PROJECT / "docs" / picture).is_file(), picture
    targets = set(re.findall(r"`snakemake (\w+)`", page))
    assert targets <= {*FIGURES, *SAID, "taxonomy_import"}


def test_pages_name_what_there_is() -> None:
    """Functions that a page names are there, in the package that it names or named last."""
    for paper in SAID:
        page = (paths.PROJECT / "docs" / f"{paper}.md").read_text(encoding="utf-8")
        for module, name in re.findall(r"`lossatlas\.(\w+)\.(\w+)`", page):
            package = importlib.import_module(f"lossatlas.{module}")
            if not hasattr(package, name):
                importlib.import_module(f"lossatlas.{module}.{name}")
