"""The site is built without network: links lead somewhere, and no page asks another server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lossatlas.paths import PROJECT

pytestmark = pytest.mark.slow

SOURCES = (
    *("ARCHITECTURE.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "README.md"),
    *(
        "Snakefile",
        "benchmarks/README.md",
        "config",
        "docs",
        "examples",
        "resources",
        "results/README.md",
    ),
)
_FOREIGN = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=[\"'](?:https?:)?//")


def built(root: Path, *, ok: bool = True) -> str:
    """Build the site of a folder into its docs/_site; return what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "docs/_site"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "workflow"), "no_proxy": "*"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, and one picture as the default atlas would leave it."""
    root = tmp_path_factory.mktemp("site")
    for name in SOURCES:
        source, target = PROJECT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("_site", "__pycache__"))
        else:
            shutil.copy2(source, target)
    (root / "results/figures").mkdir()
    picture = PROJECT / "docs/taxonomy_phase_diagram.png"
    shutil.copy2(picture, root / "results/figures/taxonomy_curves.png")
    return root


def test_the_site(copy: Path) -> None:
    built(copy)
    pages = {path.name: path.read_text() for path in (copy / "docs/_site").glob("*.html")}
    assert {"index.html", "api.html", "config.html", "contributing.html"} <= pages.keys()
    for name, text in pages.items():
        assert not _FOREIGN.search(text), name
    assert re.search('<math [^>]*display="block"', pages["metrics.html"])
    assert "lossatlas.curvature.top_eigenvalues" in pages["api.html"]
    assert "taxonomy_curves.png" in pages["figures.html"]
    assert "snakemake simplex_volume" in re.sub("<[^>]*>", "", pages["figures.html"])
    assert "taxonomy_spectra.png" not in pages["figures.html"]
    # links of a page that lies elsewhere in the project
    assert 'href="architecture.html"' in pages["contributing.html"]

    for link, said in (("no.md", "no file no.md"), ("words.md#nothing", "nothing")):
        page = copy / "docs/words.md"
        kept = page.read_text()
        page.write_text(f"{kept}\n[there]({link})\n")
        printed = built(copy, ok=False)
        assert said in printed, printed
        page.write_text(kept)
