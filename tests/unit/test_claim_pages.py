"""Verdicts in the pages of the papers are those of a table of claims, and nothing else changes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lossatlas.claims import pages
from lossatlas.claims.statements import COLUMNS
from lossatlas.errors import UserError
from lossatlas.paths import PROJECT


def claims() -> pd.DataFrame:
    """Return a row for each experiment of the default atlas, and one more claim."""
    rows = []
    for paper, columns in pages.PAGES.values():
        for experiments in columns.values():
            for experiment in experiments:
                rows.append(dict.fromkeys(COLUMNS, np.nan))
                rows[-1] |= {"paper": paper, "claim": "C10", "experiment": experiment}
                rows[-1] |= {"statement": "A says B.", "condition": "any", "expected": "|x| > 1"}
                rows[-1] |= {"threshold": "none", "observed": f"of {experiment}", "holds": "yes"}
    rows.append({**rows[-1], "claim": "C2", "effect": 0.12345, "low": 0.1, "high": 0.2})
    rows[-1] |= {"p_holm": 0.01234, "holds": "no"}
    return pd.DataFrame(rows, columns=COLUMNS)


def test_tables_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "claims.csv"
    claims().to_csv(file, index=False)
    for name in pages.PAGES:
        text = "# Title\n<!-- claims -->\n| old |\n<!-- end -->\nThe rest.\n"
        (tmp_path / f"{name}.md").write_text(text)
    written = pages.write(file, tmp_path)
    assert [page.stem for page in written] == list(pages.PAGES)
    lines = (tmp_path / "diffusion.md").read_text().splitlines()
    assert lines[:2] == ["# Title", "<!-- claims -->"]
    assert lines[-2:] == ["<!-- end -->", "The rest."]
    assert lines[2].startswith("| claim | it says | where | default atlas | two batch sizes |")
    says = "A says B. Checked: \\|x\\| > 1. Sizes: none."
    verdict = "no: of diffusion_labels (effect 0.123, 95% 0.1 to 0.2; p = 0.012)"
    assert lines[4] == f"| C2 | {says} | any |  |  | {verdict} |"  # in the order of numbers
    assert lines[5].startswith(f"| C10 | {says} | any | yes: of diffusion | yes: of")


def test_pages_have_a_place_for_them() -> None:
    for name in pages.PAGES:
        text = (PROJECT / "docs" / f"{name}.md").read_text("utf-8")
        assert text.count(pages.BEGIN) == 1, name
        assert pages.END in text.partition(pages.BEGIN)[2], name


def test_other_tables_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "claims.csv"
    with pytest.raises(UserError, match=r"no such file \(snakemake claims\)"):
        pages.write(file, tmp_path)
    some = claims()
    some[some["experiment"] != "simplex"].to_csv(file, index=False)
    with pytest.raises(UserError, match="has no claims of 'simplex'"):
        pages.write(file, tmp_path)
