"""The files that the page is made of, and the library that draws its maps. No other imports."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

LOOK = Path(__file__).parent / "look"
_CHANGES = ("status", "--porcelain", "--untracked-files=no")
SCRIPTS = ("numbers", "elements", "charts", "map", "cells", "views", "main")


def digest() -> str:
    """Return a digest of what the page looks like, with the version of the library (vl-convert)."""
    parts = [file.name.encode() + file.read_bytes() for file in sorted(LOOK.glob("*.*"))]
    library = version("vl-convert-python").encode()
    return hashlib.sha256(b"".join([*parts, library])).hexdigest()[:16]


def style() -> str:
    """Return the style sheet."""
    return (LOOK / "atlas.css").read_text(encoding="utf-8")


def script() -> str:
    """Return the script of the page, in a scope of its own: the library's has many short names."""
    code = "\n".join((LOOK / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return in_element(f"(() => {{\n{code}\n}})();")


def vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed in one script (0.9 MB), which asks for nothing else."""
    from vl_convert import javascript_bundle

    names = ("vega", "vegaLite", "vegaEmbed")
    return in_element(javascript_bundle("".join(f"window.{name}={name};" for name in names)))


def commit(folder: Path) -> str:
    """Return the commit of a checkout, and whether it has changes; "" if git does not know it."""
    told = [_git(folder, *words) for words in (("rev-parse", "--show-toplevel", "HEAD"), _CHANGES)]
    lines = told[0].splitlines()
    if len(lines) != 2 or Path(lines[0]).resolve() != folder.resolve():  # of a project around it
        return ""
    return lines[1][:12] + (" with changes" if told[1] else "")


def _git(folder: Path, *words: str) -> str:
    command = [shutil.which("git") or "git", "-C", str(folder), *words]
    try:
        done = subprocess.run(  # noqa: S603 -- the words stand above
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def in_element(code: str) -> str:
    """Return JavaScript that cannot end the element in which it stands."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")
