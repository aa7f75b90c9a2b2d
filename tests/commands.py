"""The commands that documents, captions, headers of configs and messages give."""

import re

from lossatlas.paths import PROJECT

_PLACES = (
    "*.md",
    "docs/*.md",
    "config/*",
    "results/README.md",
    "resources/*.md",
    "examples/**/README.md",
    "examples/**/*.yaml",
    "workflow/report/*.rst",
    "workflow/lossatlas/**/*.py",
)
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_IN_BLOCK = re.compile(r"^ *(?:\S*/)?snakemake\b ?(.*?)(?: +#.*)?$", re.MULTILINE)
_IN_TEXT = re.compile(r"[`'](?:\S*/)?snakemake\b ?([^`'\n]*)[`']")


def documented() -> dict[str, str]:
    """Return what follows `snakemake` in each command -> the first document that gives it.

    Commands with a place for one's own words, as <name> or {name}, are left out.
    """
    found: dict[str, str] = {}
    for place in _PLACES:
        for file in sorted(PROJECT.glob(place)):
            if not file.is_file():
                continue
            text = file.read_text(encoding="utf-8")
            blocks = "\n".join(_BLOCK.findall(text))
            for command in (*_IN_BLOCK.findall(blocks), *_IN_TEXT.findall(text)):
                if not re.search("[<{]", command):
                    found.setdefault(command.strip(), str(file.relative_to(PROJECT)))
    return found
