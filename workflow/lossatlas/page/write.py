"""The page: one HTML file with maps to explore, all figures, claims and runs of a config."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2
import pandas as pd
from docutils.core import publish_parts
from PIL import Image

from lossatlas import __version__
from lossatlas.errors import UserError
from lossatlas.figures.style import PHASE_COLOURS
from lossatlas.files import atomic
from lossatlas.page import assets

WIDTH = 1300  # pixels of a figure on the page, at most; whole ones lie beside it
_QUALITY = 82
_ADDRESS = re.compile(r' (?:href|src)="(?!https?://|#)[^"]*"')  # as javascript:


@dataclass(frozen=True)
class Shown:
    """A figure on the page; its caption is reStructuredText."""

    name: str
    png: str
    caption: str


@dataclass(frozen=True)
class Atlas:
    """What the page holds.

    Attributes:
        config: Its name.
        about: Title -> text, shown at the top.
        warning: That it is a rehearsal; "" if it is none.
        figures: In the order of the page.
        claims: Path of the claims table; "" for none.
        experiments: From `contents.of_experiment`.
        runs: Rows, from `runs.of_cells`.
        curves: Cell -> curves of training, from `runs.of_cells`.
    """

    config: str
    about: Mapping[str, str]
    warning: str = ""
    figures: Sequence[Shown] = ()
    claims: str = ""
    experiments: Sequence[Mapping[str, Any]] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Any] | None = None


def write(path: str, atlas: Atlas) -> None:
    """Write the page: one file that needs no network, and shows its maps without any other file.

    Raises:
        UserError: If the file cannot be written, or a figure is damaged.
    """
    content = {
        "experiments": atlas.experiments,
        "claims": _claims(atlas.claims) if atlas.claims else [],
        "runs": atlas.runs,
        "curves": atlas.curves or {},
        "colours": PHASE_COLOURS,
    }
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = _environment().get_template("atlas.html.j2")
    text = page.render(
        config=atlas.config,
        about={**atlas.about, "made": made, "version": __version__},
        warning=atlas.warning,
        figures=[_figure(shown) for shown in atlas.figures],
        data=packed(content),
        css=assets.style(),
        vega=assets.vega(),
        script=assets.script(),
    )
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def packed(content: Mapping[str, Any]) -> str:
    """Return JSON, compressed, in base64: the same text for the same content."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(assets.LOOK)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def _figure(shown: Shown) -> dict[str, Any]:
    stream = io.BytesIO()
    try:
        with Image.open(shown.png) as image:
            image.thumbnail((WIDTH, 10 * WIDTH))
            image.convert("RGB").save(stream, "webp", quality=_QUALITY, method=4)
    except (OSError, ValueError) as error:  # what Pillow raises for what is no image, or cut off
        fix = "delete it and run the same command"
        raise UserError("no whole picture", where=shown.png, fix=fix) from error
    picture = base64.b64encode(stream.getvalue()).decode()
    return {
        "name": shown.name,
        "image": f"data:image/webp;base64,{picture}",
        "caption": as_html(shown.caption),
    }


def as_html(caption: str) -> str:
    """Return reStructuredText as HTML that holds no markup, file or script of its author's."""
    settings = {
        "raw_enabled": False,
        "file_insertion_enabled": False,
        "report_level": 5,
        "halt_level": 6,
        "_disable_config": True,
        "math_output": "MathML",
    }
    parts = publish_parts(caption, writer="html5", settings_overrides=settings)
    return _ADDRESS.sub("", parts["body"])


def _claims(path: str) -> list[dict[str, Any]]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
