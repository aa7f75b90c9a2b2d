"""The files that CONTRIBUTING.md writes out: "All of `path`:", and a block of Python."""

import re
import textwrap

from lossatlas.paths import PROJECT

_BLOCK = re.compile(r"All of\s+`([\w/]+\.py)`:\n\n( *)```python\n(.*?)\n *```\n", re.DOTALL)


def files() -> dict[str, str]:
    """Return path -> text."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {path: textwrap.dedent(code) + "\n" for path, _, code in _BLOCK.findall(text)}
    assert len(found) == text.count("```python"), "a block of Python without 'All of `path`:'"
    return found
