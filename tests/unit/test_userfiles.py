"""The user's own files: which of them count, and that nothing of theirs runs."""

import sys
from pathlib import Path

import pytest

from lossatlas import fingerprint
from lossatlas.errors import UserError
from lossatlas.userfiles import user_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of Python; none of its modules may run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


IMPORTS = [
    "import far_helper",
    "import far_helper as h, json",
    "from far_helper import value",
    "from importlib import import_module\nh = import_module('far_helper')",
    "import importlib\ndef net():\n    return importlib.import_module('far_helper')",
    "h = __import__('far_helper')",
    "def net():\n    if True:\n        import far_helper",
    "try:\n    import far_helper\nexcept ImportError:\n    pass",
]


@pytest.mark.parametrize("text", IMPORTS)
def test_a_helper_in_another_folder_counts(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    far = tmp_path / "far"
    write(far, far_helper="value = 1\nimport far_deeper\n", far_deeper="", far_beside="")
    monkeypatch.syspath_prepend(far)
    write(here, own_near=text)
    found = user_files("own_near:net")
    assert set(found.modules) == {"own_near.py", "far_helper.py", "far_deeper.py"}
    assert not {"own_near", "far_helper"} & sys.modules.keys()
    before = fingerprint.parts(["own_near:net"])
    (far / "far_helper.py").write_text("value = 2\nimport far_deeper\n")
    after = fingerprint.parts(["own_near:net"])
    assert fingerprint.difference(before, after) == ["far_helper.py changed"]


def test_relative_imports_by_a_text(here: Path) -> None:
    text = "from importlib import import_module\nimport_module('.parts', __package__)\n"
    (here / "pack").mkdir()
    write(here / "pack", net=text, parts="", beside="")
    (here / "pack" / "__init__.py").write_text("")
    found = user_files("pack.net:Net")
    assert set(found.modules) == {"pack/__init__.py", "pack/net.py", "pack/parts.py"}


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nfor n in 'ab':\n    importlib.import_module(f'zoo.{n}')\n",
        "import pkgutil\nfor n in pkgutil.iter_modules(__path__):\n    __import__(n.name)\n",
    ],
)
def test_a_package_that_computes_its_imports_counts_whole(here: Path, text: str) -> None:
    (here / "zoo" / "deep").mkdir(parents=True)
    write(here / "zoo", a="", b="")
    (here / "zoo" / "__init__.py").write_text(text)
    (here / "zoo" / "deep" / "c.py").write_text("")
    assert set(user_files("zoo:make").modules) == {
        "zoo/__init__.py",
        "zoo/a.py",
        "zoo/b.py",
        "zoo/deep/c.py",
    }


DECLARE = [
    "LOSSATLAS_FILES = ['sizes.json', 'deep/more.bin']\n",
    "LOSSATLAS_FILES: list[str] = ['sizes.json', 'deep/more.bin']\nclass Net:\n    files = 1\n",
    "class Slope:\n    files = ('sizes.json', 'deep/more.bin')\n",
    "class Steep:\n    files = ['sizes.json', 'deep/more.bin']\nSlope = Steep()\n",
    "import declaring_too\n",
]


@pytest.mark.parametrize("text", DECLARE)
def test_declared_files_count(here: Path, text: str) -> None:
    (here / "deep").mkdir()
    (here / "sizes.json").write_text("[1, 2]")
    (here / "deep" / "more.bin").write_bytes(b"\0\1")
    (here / "undeclared.json").write_text("[1, 2]")
    write(here, declaring=text, declaring_too=DECLARE[0])
    before = fingerprint.parts(["declaring:Slope"])
    (here / "undeclared.json").write_text("[3]")
    assert fingerprint.parts(["declaring:Slope"]) == before
    (here / "sizes.json").write_text("[1, 3]")
    (here / "deep" / "more.bin").write_bytes(b"\0\2")
    after = fingerprint.parts(["declaring:Slope"])
    assert fingerprint.difference(before, after) == ["deep/more.bin changed", "sizes.json changed"]


def test_files_of_a_class_that_the_entry_does_not_name(here: Path) -> None:
    """Other libraries use the word as well."""
    write(here, other_files="class Data:\n    files = ['gone.bin']\nclass Net:\n    pass\n")
    assert user_files("other_files:Net").declared == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("LOSSATLAS_FILES = ['gone.json']\n", r"declares the file 'gone.json', which is not there"),
        ("LOSSATLAS_FILES = ['.']\n", r"declares the file '\.', which is not there"),
        ("LOSSATLAS_FILES = 'a.json'\n", r"line 1 declares files by something else than a list"),
        ("x = 1\nLOSSATLAS_FILES = [x]\n", r"line 2 declares files by something else than a list"),
        ("LOSSATLAS_FILES = [1]\n", r"line 1 declares files by something else than a list"),
        ("def\n", r"is no Python: "),
    ],
)
def test_declarations_that_cannot_be_followed(here: Path, text: str, says: str) -> None:
    write(here, wrong_files=text)
    with pytest.raises(UserError, match=rf"wrong_files\.py: {says}") as caught:
        fingerprint.parts(["wrong_files:Net"])
    assert "\n" not in str(caught.value)


def install(folder: Path, name: str, version: str, module: str) -> None:
    (folder / module).mkdir(parents=True, exist_ok=True)
    (folder / module / "__init__.py").write_text(f"version = {version!r}\nimport numpy\n")
    for old in folder.glob(f"{name}-*"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "top_level.txt").write_text(module)
    (about / "RECORD").write_text(f"{module}/__init__.py,,\n")


@pytest.mark.parametrize("module", ["other_zoo", "zoo_of_another_name"])
@pytest.mark.parametrize("target", ["{module}:Net", "own_zoo_user:Net"])
def test_installed_packages_count_by_their_version(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, target: str
) -> None:
    site = tmp_path / "site-packages"
    install(site, "other_zoo", "1.0", module)
    monkeypatch.syspath_prepend(site)
    write(here, own_zoo_user=f"import {module}, torch, json, sys\n")
    target = target.format(module=module)
    before = fingerprint.parts([target])
    (site / module / "__init__.py").write_text("changed = 1\n")
    assert fingerprint.parts([target]) == before
    install(site, "other_zoo", "1.1", module)
    after = fingerprint.parts([target])
    assert fingerprint.difference(before, after) == [f"{module} (installed) changed"]


def test_libraries_that_results_name_count_where_a_config_does() -> None:
    """Another torch starts no training by itself; a network of torchvision's is its code."""
    assert list(user_files("torchvision.models:resnet18").installed) == ["torchvision"]
    assert not user_files("torchvision.models:resnet18").modules


def test_what_a_users_file_takes_from_here_counts(here: Path) -> None:
    write(
        here,
        own_metric="import lossatlas.similarity as s\nfrom lossatlas.curvature import lanczos\n"
        "from lossatlas import gone\n"
        "def measure(x):\n    return s.cka(x), lanczos.run_lanczos, gone, gone.more\n",
    )
    found = fingerprint.parts(["own_metric:measure"])
    assert "lossatlas.similarity.alignment:cka" in found
    assert "lossatlas.curvature.lanczos:run_lanczos" in found


def test_a_module_that_is_not_there(here: Path) -> None:
    assert user_files("no_such_module:Net").modules == {}
