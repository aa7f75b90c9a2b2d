"""The site: these pages, the figures of the default atlas if it was run, and the API.

`make docs` writes it to `docs/_site/`. A link that leads nowhere, or to a heading that is not
there, ends the build.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from lossatlas import __version__
from lossatlas.spec.figures import FIGURES

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PICTURES = PROJECT / "results" / "figures"

project = "Loss Atlas"
author = "The authors of Loss Atlas"
version = release = __version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_site"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # an ellipsis in an example
html_theme = "furo"
html_title = f"Loss Atlas {__version__}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True

# Pages whose text lies elsewhere in the project, because readers look for it there.
ELSEWHERE = {
    "config": "config/README.md",
    "contributing": "CONTRIBUTING.md",
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
    "examples": "examples/README.md",
    "datasets_table": "resources/README.md",
    "benchmarks": "benchmarks/README.md",
}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)#\s]*)(#[^)\s]*)?\)")


def _site_path(target: Path) -> str | None:
    """Return the page, from `docs`, that shows a file of the project, if one does."""
    for page, source in ELSEWHERE.items():
        if target == PROJECT / source:
            return f"{page}.md"
    if target == PROJECT / "README.md":
        return "index.md"
    if target.suffix == ".md" and target.is_relative_to(HERE):
        return str(target.relative_to(HERE))
    return None


def _relinked(text: str, source: Path) -> str:
    """Lead links to the pages of the site; those to other files of the project become their paths.

    Raises:
        FileNotFoundError: If a link leads to no file.
    """

    def replace(match: re.Match[str]) -> str:
        words, path, anchor = match[1], match[2], match[3] or ""
        target = (source.parent / path).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{source.relative_to(PROJECT)}: no file {path}")
        page = _site_path(target)
        if page:
            return f"[{words}]({page}{anchor})"
        shown = f"`{target.relative_to(PROJECT)}`"
        return words if words.strip() == shown else f"{words} ({shown})"

    return _LINK.sub(replace, text)


def _gallery() -> str:
    """Return a section for each figure: its caption, and its picture if that was drawn."""
    sections = []
    for name, drawing in FIGURES.items():
        picture = PICTURES / f"{name}.png"
        lines = [f"### `{name}`", "", f"```sh\nsnakemake {name}\n```", ""]
        if picture.is_file():
            shown = os.path.relpath(picture, HERE)
            lines += [f"```{{image}} {shown}\n:alt: {drawing.about}\n:width: 100%\n```", ""]
        lines += [f"```{{eval-rst}}\n{drawing.caption}\n```", ""]
        sections.append("\n".join(lines))
    note = "`make`, then `make docs` again, puts the pictures here.\n\n"
    return "\n## Gallery\n\n" + note * (not PICTURES.is_dir()) + "\n".join(sections)


def _read(app: Any, page: str, content: list[str]) -> None:
    """Change the text of a page before it is parsed."""
    source = HERE / f"{page}.md"
    if page in ELSEWHERE:
        source = PROJECT / ELSEWHERE[page]
        app.env.note_dependency(str(source))
        content[0] = source.read_text(encoding="utf-8")
    content[0] = _relinked(content[0], source)
    if page == "figures":
        content[0] += _gallery()


def _mathml(self: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    written = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{written}</div>' if block else written)
    raise nodes.SkipNode


def _examples(*given: Any) -> None:
    """Mark indented examples and formulas of docstrings as code."""
    lines: list[str] = given[-1]
    for i, line in enumerate(lines[:-2]):
        follows = not lines[i + 1].strip() and lines[i + 2].startswith("    ")
        begins = bool(line.strip()) and not line.startswith((" ", "..")) and not line.endswith("::")
        if begins and follows:
            lines[i] = f"{line}:" if line.endswith(":") else f"{line} ::"
    for i, line in enumerate(lines):
        if not line.startswith("    "):  # a modulus, and no substitution of reST; not within code
            lines[i] = re.sub(r"(`+[^`]*`+)|\|", lambda found: found[1] or r"\|", line)


def setup(app: Any) -> None:
    """Tell Sphinx of the above."""
    app.connect("autodoc-process-docstring", _examples)
    app.connect("source-read", _read)
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
