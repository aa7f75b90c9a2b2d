"""Documents that are written from the types must not drift."""

import pytest

from lossatlas import paths
from lossatlas.spec import document
from lossatlas.spec.figures import FIGURES
from lossatlas.spec.metrics import KINDS, PRODUCES

FIX = "run: python -m lossatlas.spec.document"


def test_config_readme_is_current() -> None:
    assert document.README.read_text(encoding="utf-8") == document.markdown(), FIX


def test_schema_is_current() -> None:
    assert document.SCHEMA.read_text(encoding="utf-8") == document.schema_text(), FIX


def test_every_key_is_explained() -> None:
    assert "| None |" not in document.markdown()


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_has_a_rule_and_a_caption(name: str) -> None:
    rules = "".join(path.read_text() for path in (paths.PROJECT / "rules").glob("figures_*.smk"))
    assert f"rule {name}:\n" in rules
    assert paths.caption(name).is_file()


def test_every_metric_says_what_it_produces() -> None:
    assert KINDS.keys() == PRODUCES.keys()
