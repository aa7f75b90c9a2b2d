"""One HTML file with everything that a config has drawn: figures, captions, claims."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lossatlas import __version__
from lossatlas.files import atomic

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
figure { margin: 2.5rem 0 } img { max-width: 100% } figcaption { color: #444; font-size: 0.9rem }
table { border-collapse: collapse; font-size: 0.85rem } td, th { padding: 0.3rem 0.6rem;
border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
.yes { color: #1b5e20 } .no { color: #b71c1c; font-weight: bold } .silent { color: #777 }
"""


NUMBERS = ("effect", "low", "high", "p", "p_holm")  # columns of claims


@dataclass(frozen=True)
class Shown:
    """A figure on the page."""

    name: str
    png: str
    caption: str


def write(path: str, figures: Sequence[Shown], claims: str, about: Mapping[str, str]) -> None:
    """Write the page: one file that needs no network and no other file.

    Args:
        path: The file.
        figures: In the order of the page.
        claims: Path of the claims table; '' for none.
        about: Title -> text, shown at the top.

    Raises:
        UserError: If the file cannot be written.
    """
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>Loss Atlas</title>"]
    parts.append(f"<style>{STYLE}</style><h1>Loss Atlas</h1>")
    rows = {**about, "version": __version__}
    parts += [f"<p>{html.escape(key)}: {html.escape(text)}</p>" for key, text in rows.items()]
    links = " · ".join(f'<a href="#{shown.name}">{shown.name}</a>' for shown in figures)
    parts.append(f'<p>{links} · <a href="#claims">claims</a></p>' if claims else f"<p>{links}</p>")
    parts += [_figure(shown) for shown in figures]
    if claims:
        parts.append(f'<h2 id="claims">Claims</h2>{_claims(claims)}')
    with atomic(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _figure(shown: Shown) -> str:
    image = base64.b64encode(Path(shown.png).read_bytes()).decode()
    paragraphs = shown.caption.replace("``", "").split("\n\n")
    caption = "".join(f"<p>{html.escape(text.strip())}</p>" for text in paragraphs)
    return (
        f'<figure id="{shown.name}"><h2>{shown.name}</h2>'
        f'<img alt="{shown.name}" src="data:image/png;base64,{image}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _claims(path: str) -> str:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = []
    for row in table.to_dict("records"):
        mark = row["holds"] if row["holds"] in {"yes", "no"} else "silent"
        shown = (_rounded(value) if name in NUMBERS else value for name, value in row.items())
        cells = "".join(f"<td>{html.escape(str(value))}</td>" for value in shown)
        rows.append(f'<tr class="{mark}">{cells}</tr>')
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _rounded(text: str) -> str:
    """Return a number with three digits, as it stands beside others."""
    return f"{float(text):.3g}" if text else ""
