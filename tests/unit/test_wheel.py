"""The package as users install it: a wheel, alone, in an empty folder, with no checkout beside.

It is built as `python -m build` does, from the sdist that is built from the checkout, and installed
by pip. The commands run without `site`, so that no editable installation is on their path.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import lossatlas
from lossatlas import entries, fingerprint, paths
from lossatlas.installed import EXTRAS
from lossatlas.page.assets import LOOK
from lossatlas.spec.catalogue import data_sources
from lossatlas.spec.drawings import built_in

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

SOURCES = (  # of a checkout, without results and environments
    *("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"),
    *("CITATION.cff", "workflow", "resources"),
)
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('..'))"
ANSWERS = """
import json, runpy, sys
from pathlib import Path

import torch

import lossatlas as la
from lossatlas import cli, entries, fingerprint, models, paths, store
from lossatlas.custom import measure_custom
from lossatlas.data.convert import convert
from lossatlas.metrics import registry
from lossatlas.spec.catalogue import data_sources
from lossatlas.spec.config import load
from lossatlas.spec.drawings import built_in

files = ["0.pt", "1.pt", "2.pt"]
for file in files:
    net = models.build("mlp", {"width": 4}, num_classes=10, in_channels=1, image_size=8)
    torch.save(net.state_dict(), file)
settings = {"samples": 64, "eigenvalues": 2, "density_probes": 0}
given = (registry.find("hessian")(**settings), files[:1], "mlp", {"width": 4}, "digits")
store.write("api.h5", measure_custom(*given))
store.write("digits.h5", convert("digits"))
config = load({
    "datasets": {"digits": None}, "models": {"mlp": {"width": 4}}, "recipes": {"r": {"epochs": 1}},
    "experiments": {"e": {"dataset": "digits", "model": "mlp", "recipe": "r", "metrics": []}},
})
Path("spec.yaml").write_text(json.dumps(config.cells("e")[0].spec))
trained = cli.main(["train", "--spec", "spec.yaml", "--data", "digits.h5", "--out", "trained"])
sys.argv[1:] = ["plane", "--checkpoint", *files, "--model", "mlp", "--arg", "width=4"]
sys.argv += ["--data", "digits", "--points", "3", "--images", "64", "-o", "plane.h5", "plane.png"]
try:
    runpy.run_module("lossatlas", run_name="__main__")
except SystemExit as ended:
    plane = ended.code
print(json.dumps({
    "library": la.__file__,
    "version": la.__version__,
    "data": list(data_sources()),
    "published": Path(paths.published()).read_text().count("\\n"),
    "caption": {d.target: d.caption for d in built_in().values()},
    "codes": [fingerprint.code_of(*e) for e in (entries.COLLECT, entries.study("toy_walkers"))],
    "trained": trained,
    "plane": plane,
}))
"""


class Wheel:
    """The archives, and the folder into which the wheel is installed."""

    def __init__(self, root: Path) -> None:
        self.root, self.site, self.home = root, root / "site", root / "home"
        source = root / "checkout"
        source.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
        for name in SOURCES:
            if (found := paths.PROJECT / name).is_dir():
                shutil.copytree(found, source / name, ignore=ignored)
            else:
                shutil.copy2(found, source / name)
        self.sdist = root / build("build_sdist", source)
        with tarfile.open(self.sdist) as archive:
            archive.extractall(root, filter="data")
        shutil.rmtree(source)
        unpacked = root / self.sdist.name.removesuffix(".tar.gz")
        left = unpacked / "build/lib/lossatlas/gone.py"  # by the build of an older version
        left.parent.mkdir(parents=True)
        left.touch()
        self.file = root / build("build_wheel", unpacked)
        shutil.rmtree(unpacked)
        self.pip()
        self.home.mkdir()

    def pip(self, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        command += ["--no-deps", "--no-index", "--no-compile", "--target", str(self.site), *words]
        run([*command, str(self.file)], self.root)

    def python(self, *words: str, code: int = 0) -> subprocess.CompletedProcess:
        """Run with the wheel and its dependencies on the path, and nothing else."""
        packages = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        path = os.pathsep.join([str(self.site), *sorted(packages)])
        command = [sys.executable, "-S", *words]
        return run(command, self.home, code, PYTHONPATH=path, PYTHONSAFEPATH="1")

    def metadata(self) -> Message:
        (text,) = (self.site.glob("*.dist-info/METADATA"),)
        return Parser().parsestr(next(text).read_text(encoding="utf-8"))

    def state(self) -> dict[str, tuple[int, int]]:
        """What is installed; bytecode is Python's own matter."""
        files = [one for one in self.site.rglob("*") if one.is_file() and one.suffix != ".pyc"]
        return {str(one): (one.stat().st_size, one.stat().st_mtime_ns) for one in files}


def run(
    command: list[str], folder: Path, code: int = 0, **variables: str
) -> subprocess.CompletedProcess:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def build(hook: str, folder: Path) -> str:
    """Call the build backend, as it is installed here; return the name of what it makes."""
    return run([sys.executable, "-c", BUILD, hook], folder).stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wheel]:
    """The installed wheel, whose folders are read-only (which root does not notice)."""
    made = Wheel(tmp_path_factory.mktemp("wheel"))
    folders = [made.site, *(one for one in made.site.rglob("*") if one.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield made
    for folder in folders:
        folder.chmod(0o755)


def test_the_wheel_holds_the_library_and_what_it_reads(wheel: Wheel) -> None:
    names = {
        str(one.relative_to(paths.LIBRARY)): one
        for one in [*paths.LIBRARY.rglob("*.py"), paths.LIBRARY / "py.typed", *LOOK.iterdir()]
    }
    project = paths.PROJECT
    names |= {f"packed/resources/{one.name}": one for one in (project / "resources").iterdir()}
    for folder, pattern in (("report", "*.rst"), ("schemas", "*.json")):
        found = (project / "workflow" / folder).glob(pattern)
        names |= {f"packed/{folder}/{one.name}": one for one in found}
    names |= {f"packed/scripts/{one.name}": one for one in (project / "workflow").glob("*.py")}
    assert {"packed/resources/datasets.tsv", "packed/report/taxonomy_phases.rst"} < names.keys()
    with zipfile.ZipFile(wheel.file) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert inside == {f"lossatlas/{name}" for name in names}
        for name, file in names.items():
            assert archive.read(f"lossatlas/{name}") == file.read_bytes(), name
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    with tarfile.open(wheel.sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert tops == {*SOURCES, "PKG-INFO", "setup.cfg"}


def test_metadata(wheel: Wheel) -> None:
    about = wheel.metadata()
    assert about["Version"] == lossatlas.__version__
    assert (about["License-Expression"], about["Requires-Python"]) == ("MIT", ">=3.11")
    assert about["Author"] == "The Loss Atlas developers"
    needs = about.get_all("Requires-Dist", [])
    core = {re.match(r"[\w-]+", one)[0] for one in needs if "extra ==" not in one}
    assert core == {
        *("h5py", "matplotlib", "numpy", "pandas", "pydantic", "pyyaml", "rich", "safetensors"),
        *("scikit-learn", "scipy", "torch"),
    }
    for module, extra in EXTRAS.items():
        assert any(one.startswith(module) and f'extra == "{extra}"' in one for one in needs), module
    assert set(about.get_all("Provides-Extra", [])) == set(EXTRAS.values())


def test_an_old_python_is_refused_in_one_line(wheel: Wheel, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    command += ["--only-binary=:all:", "--no-deps", "--no-index", str(wheel.file)]
    done = run([*command, "--python-version", "3.10"], tmp_path, code=1)
    assert re.fullmatch(r"ERROR: .* a different Python: 3\.10\S* not in '>=3\.11'\n", done.stderr)
    run([*command, "--python-version", "3.11"], tmp_path)


def test_it_works_alone_in_an_empty_folder_and_writes_nothing_else(wheel: Wheel) -> None:
    before = wheel.state()
    (wheel.home / "answers.py").write_text(ANSWERS)
    printed = wheel.python("answers.py").stdout
    answers = json.loads(printed.splitlines()[-1])
    assert "inside_loss_max" in printed
    command = ["-m", "lossatlas", "metric", "hessian", "--checkpoint", "0.pt", "--model", "mlp"]
    command += ["--arg", "width=4", "--data", "digits", "--out", "hessian.h5"]
    command += ["--set", "samples=64", "eigenvalues=2", "density_probes=0"]
    assert "hessian_trace" in wheel.python(*command).stdout
    compared = wheel.python("-m", "lossatlas", "diff", "hessian.h5", "api.h5")
    assert compared.stdout == "equal (times and hosts left out)\n"
    compared = wheel.python("-m", "lossatlas", "diff", "hessian.h5", "plane.h5", code=1)
    assert "/@kind: hessian against plane" in compared.stdout

    assert Path(answers.pop("library")) == wheel.site / "lossatlas/__init__.py"
    assert answers == {
        "version": lossatlas.__version__,
        "data": list(data_sources()),
        "published": Path(paths.published()).read_text().count("\n"),
        "caption": {d.target: d.caption for d in built_in().values()},
        "codes": [fingerprint.code_of(*e) for e in (entries.COLLECT, entries.study("toy_walkers"))],
        "trained": 0,
        "plane": 0,
    }
    made = {"hessian.h5", "plane.h5", "plane.png", "api.h5", "digits.h5", "spec.yaml"}
    made |= {"0.pt", "1.pt", "2.pt", "answers.py", "trained.h5", "trained.safetensors"}
    assert {one.name for one in wheel.home.iterdir()} == made
    assert wheel.state() == before
