"""Writes verdicts into the pages of the papers: `python -m lossatlas.claims.pages`.

Run it in the folder of a finished default atlas. The tables of `docs/*.md` stand between
`<!-- claims -->` and `<!-- end -->`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.files import atomic

Columns = Mapping[str, Sequence[str]]  # heading -> experiments, the first that has the claim

# Page -> paper of the claims, columns of its table.
PAGES: dict[str, tuple[str, Columns]] = {
    "taxonomy": (
        "Yang et al. 2021",
        {"published results": ["taxonomy_reference"], "default atlas": ["taxonomy"]},
    ),
    "simplex": ("Benton et al. 2021", {"default atlas": ["simplex", "studies"]}),
    "diffusion": (
        "Chen et al. 2022",
        {
            "default atlas": ["diffusion", "studies"],
            "two batch sizes": ["diffusion_batch"],
            "random labels": ["diffusion_labels"],
        },
    ),
}
BEGIN, END = "<!-- claims -->\n", "<!-- end -->"


def table(claims: pd.DataFrame, columns: Columns) -> str:
    """Return verdicts as a table in Markdown.

    Args:
        claims: Rows of one paper in `results/tables/claims.csv`.
        columns: Of the table.
    """
    head = ["claim", "it says", "where", *columns]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    names = sorted(claims["claim"].unique(), key=lambda name: int(name[1:]))
    for name in names:
        rows = claims[claims["claim"] == name].set_index("experiment")
        first = rows.iloc[0]
        says = f"{first['statement']} Checked: {first['expected']}. Sizes: {first['threshold']}."
        cells = [name, says, first["condition"]]
        for experiments in columns.values():
            there = [one for one in experiments if one in rows.index]
            cells.append(_verdict(rows.loc[there[0]]) if there else "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _verdict(row: pd.Series) -> str:
    """Return a verdict, what was observed, and the effect where it has an interval."""
    numbers = []
    if pd.notna(row["low"]):
        between = f"95% {row['low']:.3g} to {row['high']:.3g}"
        numbers.append(f"effect {row['effect']:.3g}, {between}")
    if pd.notna(row["p_holm"]):
        numbers.append(f"p = {row['p_holm']:.2g}")
    told = f" ({'; '.join(numbers)})" if numbers else ""
    return f"{row['holds']}: {row['observed']}{told}"


def write(file: Path, folder: Path) -> list[Path]:
    """Write the tables into the pages of a folder.

    Args:
        file: `claims.csv` of a default atlas.
        folder: With a page per paper.

    Returns:
        The pages.

    Raises:
        UserError: If the file is not there, or lacks an experiment of the default atlas.
    """
    if not file.is_file():
        raise UserError("no such file", where=str(file), fix="snakemake claims")
    claims = pd.read_csv(file)
    needed = {one for _, columns in PAGES.values() for some in columns.values() for one in some}
    if missing := needed - set(claims["experiment"]):
        what = f"has no claims of '{min(missing)}'"
        raise UserError(what, where=str(file), fix="give that of the default atlas")
    written = []
    for name, (paper, columns) in PAGES.items():
        page = folder / f"{name}.md"
        before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        made = table(claims[claims["paper"] == paper], columns)
        text = f"{before}{mark}{made}{END}{rest.partition(END)[2]}"
        with atomic(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(page)
    return written


if __name__ == "__main__":
    try:
        for page in write(Path(paths.claims()), paths.PROJECT / "docs"):
            print(f"{page}: written")
    except UserError as error:
        sys.exit(str(error))
