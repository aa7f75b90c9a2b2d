"""Fingerprints: what changes them, what does not."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lossatlas import fingerprint
from lossatlas.errors import UserError

MODULES = {
    "__init__.py": "",
    "entry.py": '''
"""Doc."""
from lossatlas import tools
from lossatlas.tools import helper as h
from lossatlas.store import write

LIMIT = 3

def run(x):
    """Doc of run."""
    # a comment
    write(x)
    return h(x) + LIMIT + tools.other(x)

def unused():
    return 1
''',
    "tools.py": """
from lossatlas.deep import constant

def helper(x):
    return x * constant

def other(x):
    from lossatlas.lazy import late
    return late(x)

def never(x):
    return x
""",
    "deep.py": "constant = 2\nunrelated = 5\n",
    "lazy.py": "def late(x):\n    return x\n",
    "store.py": "def write(x):\n    pass\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(fingerprint, "LIBRARY", tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    for cached in (
        fingerprint._reached,
        fingerprint._definition,
        fingerprint._file,
        fingerprint._parsed,
        fingerprint._found,
        fingerprint._own_files,
        fingerprint._kept,
        fingerprint._sources,
    ):
        cached.cache_clear()


def digest() -> str:
    forget()
    return fingerprint.code_of("lossatlas.entry:run")


SAME = [
    ("entry.py", '"""Doc of run."""', '"""Another doc."""'),
    ("entry.py", "# a comment", "# another comment\n    # and one more"),
    ("entry.py", "return 1", "return 2"),
    ("entry.py", "return h(x)", "return  h( x )"),
    ("tools.py", "def never(x):\n    return x", "def never(x):\n    return 7"),
    ("deep.py", "unrelated = 5", "unrelated = 6"),
    ("store.py", "pass", "return None"),
]
OTHER = [
    ("entry.py", "LIMIT = 3", "LIMIT = 4"),
    ("entry.py", "+ LIMIT", "- LIMIT"),
    ("tools.py", "x * constant", "x + constant"),
    ("deep.py", "constant = 2", "constant = 3"),
    ("lazy.py", "return x", "return -x"),
]


@pytest.mark.parametrize(("file", "old", "new"), SAME)
def test_stays(package: Path, file: str, old: str, new: str) -> None:
    before = digest()
    edit(package / file, old, new)
    assert digest() == before


@pytest.mark.parametrize(("file", "old", "new"), OTHER)
def test_changes(package: Path, file: str, old: str, new: str) -> None:
    before = digest()
    edit(package / file, old, new)
    assert digest() != before


MORE = [  # beyond single assignments and functions
    ("TABLE = {}\nTABLE['a'] = 1\nTABLE['b'] = 2\n", "TABLE['a'] = 1", "TABLE['a'] = 3"),
    ("TABLE = {}\nTABLE['a'] = 1\nTABLE['b'] = 2\n", "= {}", "= {'c': 3}"),
    ("TABLE = 1\nTABLE += 2\n", "TABLE += 2", "TABLE += 3"),
    ("TABLE: int = 1\n", "= 1", "= 2"),
    ("TABLE, other = 1, 2\n", "= 1, 2", "= 3, 2"),
    ("class TABLE:\n    x = 1\n", "x = 1", "x = 2"),
    ("async def TABLE():\n    return 1\n", "return 1", "return 2"),
    ("from lossatlas.deep import constant as TABLE\n", "constant as", "unrelated as"),
    ("from lossatlas.tools import constant as TABLE\n", "", ""),  # deep.py is edited
]


@pytest.mark.parametrize(("text", "old", "new"), MORE)
def test_every_kind_of_definition_counts(package: Path, text: str, old: str, new: str) -> None:
    (package / "tables.py").write_text(text)
    edit(
        package / "entry.py",
        "return h(x)",
        "from lossatlas.tables import TABLE\n    return h(TABLE)",
    )
    before = digest()
    if old:
        edit(package / "tables.py", old, new)
    else:
        edit(package / "deep.py", "constant = 2", "constant = 3")
    assert digest() != before


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_users_module_counts_whole(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mynet.py").write_text(
        "def net():\n    return side()\n\ndef side():\n    return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    before = fingerprint.code_of("mynet:net")
    edit(tmp_path / "mynet.py", "return 1", "return 2")
    forget()
    assert fingerprint.code_of("mynet:net") != before


@pytest.mark.parametrize("edited", ["blocks.py", "net/__init__.py", "net/parts.py", "net/deep.py"])
def test_what_a_users_module_imports_counts_too(
    package: Path, working: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    files = {
        "blocks.py": "import torch\nimport gone\n",
        "beside.py": "",
        "net/__init__.py": "",
        "net/model.py": "import blocks\nfrom . import parts\n\ndef net():\n    return parts\n",
        "net/parts.py": "from .deep import value\n",
        "net/deep.py": "value = 0\n",
    }
    (working / "net").mkdir()
    for name, text in files.items():
        (working / name).write_text(text)
    monkeypatch.syspath_prepend(working)

    def now() -> str:
        forget()
        monkeypatch.delitem(sys.modules, "net", raising=False)
        return fingerprint.code_of("net.model:net")

    before = now()
    (working / "beside.py").write_text("value = 2\n")
    (working / edited).write_text(f"# a comment\n{files[edited]}")
    assert now() == before
    (working / edited).write_text(f"{files[edited]}added = 1\n")
    assert now() != before


def test_a_users_file_that_is_no_python(
    package: Path, working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (working / "mynet.py").write_text("import helper\n")
    (working / "helper.py").write_text("class Net:\n    def\n")
    monkeypatch.syspath_prepend(working)
    forget()
    with pytest.raises(UserError, match=r"helper\.py: is no Python: .*line 2"):
        fingerprint.code_of("mynet:Net")


def test_an_installed_model_counts_as_one_file(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "zoo.py").write_text("import keeper\n")
    (site / "keeper.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(site)
    forget()
    before = fingerprint.code_of("zoo:net")
    (site / "keeper.py").write_text("value = 2\n")
    forget()
    assert fingerprint.code_of("zoo:net") == before


def test_unknown_entry(package: Path) -> None:
    forget()
    with pytest.raises(ValueError, match="defines no 'gone'"):
        fingerprint.code_of("lossatlas.entry:gone")


@pytest.fixture
def working(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = package / "working"
    (folder / ".snakemake").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_digests_are_kept_while_no_source_changes(
    package: Path, working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digest()
    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "_code_of", lambda *_: "computed again")
        assert digest() == first
        (package / "deep.py").write_text("constant = 2  # a comment\n")
        assert digest() == "computed again"
    edit(package / "deep.py", "constant = 2", "constant = 3")
    assert digest() not in (first, "computed again")


def test_kept_digests_are_those_of_the_same_question(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without some modules, and as this version of Python prints code."""
    whole = digest()
    part = fingerprint.code_of("lossatlas.entry:run", without=("lossatlas.tools",))
    assert part != whole
    assert digest() == whole
    forget()
    assert fingerprint.code_of("lossatlas.entry:run", without=("lossatlas.tools",)) == part
    monkeypatch.setattr(fingerprint, "_code_of", lambda *_: "computed again")
    monkeypatch.setattr(fingerprint, "sys", SimpleNamespace(version_info=(3, 99, 0)))
    assert digest() == "computed again"


def test_kept_digests_follow_a_users_files(
    working: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie outside the package, whose sources are the same all the time."""
    own = tmp_path_factory.mktemp("own") / "kept_net.py"
    monkeypatch.syspath_prepend(own.parent)
    found = []
    for value in (1, 2, 1):
        own.write_text(f"def net():\n    return {value}\n")
        forget()
        found.append(fingerprint.code_of("kept_net:net"))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sources": 1}', "\x00"])
def test_a_damaged_store_of_digests_is_made_anew(working: Path, content: str) -> None:
    first = digest()
    (working / ".snakemake" / "lossatlas-codes.json").write_text(content)
    assert digest() == first


def test_digests_are_kept_only_beside_snakemakes_own_things(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package)
    digest()
    assert sorted(path.name for path in package.iterdir()) == sorted(MODULES)


def test_what_a_job_does_not_run_is_left_out(package: Path) -> None:
    forget()
    before = fingerprint.code_of("lossatlas.entry:run", without=("lossatlas.tools",))
    edit(package / "tools.py", "x * constant", "x + constant")
    edit(package / "__init__.py", "", "__version__ = '2'")
    forget()
    assert fingerprint.code_of("lossatlas.entry:run", without=("lossatlas.tools",)) == before


def test_training_reaches_what_decides_its_numbers_and_no_carrier() -> None:
    forget()
    reached = {
        (module, name)
        for module, name, _ in fingerprint._reached("lossatlas.training.engine:Engine")
    }
    assert ("lossatlas.models.functional", "Functional") in reached
    assert ("lossatlas.models.layout", "Layout") in reached
    assert ("lossatlas.training.seeds", "generator") in reached
    assert ("lossatlas.training.recorder", "Recorder") in reached
    modules = {module for module, _ in reached}
    assert not modules & {"lossatlas", "lossatlas.store", "lossatlas.training.state"}
    assert not any(module.startswith("lossatlas.spec") for module in modules)
