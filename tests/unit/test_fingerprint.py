"""Fingerprints: what changes them, what does not."""

import ast
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossatlas import entries, fingerprint, paths
from lossatlas.carriers import CARRIERS
from lossatlas.errors import UserError
from lossatlas.paths import LIBRARY
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe

MODULES = {
    "__init__.py": "",
    "start.py": '''
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
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    library = tmp_path / "lossatlas"
    library.mkdir()
    for name, text in MODULES.items():
        (library / name).write_text(text)
    monkeypatch.setattr(fingerprint, "LIBRARY", library)
    monkeypatch.setattr(fingerprint, "SCRIPTS", library.parent)
    monkeypatch.chdir(library)
    yield library
    forget()


def forget() -> None:
    fingerprint._kept.cache_clear()
    fingerprint._sources.cache_clear()
    fingerprint._told.clear()


def digest() -> str:
    forget()
    return fingerprint.code_of("lossatlas.start:run")


SAME = [
    ("start.py", '"""Doc of run."""', '"""Another doc."""'),
    ("start.py", "# a comment", "# another comment\n    # and one more"),
    ("start.py", "return 1", "return 2"),
    ("start.py", "return h(x)", "return  h( x )"),
    ("tools.py", "def never(x):\n    return x", "def never(x):\n    return 7"),
    ("deep.py", "unrelated = 5", "unrelated = 6"),
    ("store.py", "pass", "return None"),
]
OTHER = [
    ("start.py", "LIMIT = 3", "LIMIT = 4"),
    ("start.py", "+ LIMIT", "- LIMIT"),
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
        package / "start.py",
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


def test_an_installed_file_without_a_version_counts_itself(
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
        fingerprint.code_of("lossatlas.start:gone")


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
        patched.setattr(fingerprint, "_digest", lambda *_: "computed again")
        assert digest() == first
        (package / "deep.py").write_text("constant = 2  # a comment\n")
        assert digest() == "computed again"
    edit(package / "deep.py", "constant = 2", "constant = 3")
    assert digest() not in (first, "computed again")


def test_kept_digests_are_those_of_the_same_question(working: Path) -> None:
    """With and without some modules."""
    whole = digest()
    part = fingerprint.code_of("lossatlas.start:run", "without:lossatlas.tools")
    assert part != whole
    assert digest() == whole
    forget()
    assert fingerprint.code_of("lossatlas.start:run", "without:lossatlas.tools") == part


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
    asked = ("lossatlas.start:run", "without:lossatlas.tools")
    forget()
    before = fingerprint.code_of(*asked)
    edit(package / "tools.py", "x * constant", "x + constant")
    edit(package / "__init__.py", "", "__version__ = '2'")
    forget()
    assert fingerprint.code_of(*asked) == before


def test_one_definition_of_a_module_can_be_left_out(package: Path) -> None:
    asked = ["lossatlas.start:run", "without:lossatlas.tools:other"]
    assert "lossatlas.lazy:late" not in fingerprint.parts(asked)
    forget()
    assert "lossatlas.lazy:late" in fingerprint.parts(asked[:1])


VALUES = [  # ways to reach a function of deep.py that are no call by its name
    "from lossatlas import deep\n\ndef run():\n    return {'a': deep}['a'].work()\n",
    "import lossatlas.deep\n\ndef run():\n    return lossatlas.deep.work()\n",
    "import lossatlas.deep as d\n\ndef run():\n    for m in [d]:\n        m.work()\n",
    "import lossatlas\n\ndef run():\n    return lossatlas.deep.work()\n",
    "from lossatlas import deep\n\ndef run():\n    pass\n\nrun.all = [deep]\n",
    "from importlib import import_module\n\ndef run():\n"
    "    return import_module('lossatlas.deep').work()\n",
    "def run():\n    from lossatlas.deep import work as w\n    return lambda: w()\n",
    "from lossatlas.deep import work\n\ndef run():\n    return [work for work in [1]], work()\n",
    "try:\n    from lossatlas.deep import work\nexcept ImportError:\n    work = None\n\n"
    "def run():\n    return work()\n",
    "from lossatlas.deep import work\n\nclass run:\n    def __call__(self, run):\n        work()\n",
    "from lossatlas.package import work\n\ndef run():\n    return work()\n",
    "from lossatlas import deep\n\ndef marked(f):\n    return f\n\n"
    "@marked\ndef run(x=deep.work):\n    pass\n",
]


@pytest.mark.parametrize("text", VALUES)
def test_functions_are_reached_however_they_are_named(package: Path, text: str) -> None:
    (package / "deep.py").write_text("def work():\n    return 1\n")
    (package / "package").mkdir()
    (package / "package" / "__init__.py").write_text(
        "from lossatlas.lazy import exported\n_HOMES = {'work': 'home'}\n"
        "__getattr__, __dir__ = exported(__name__, _HOMES)\n"
    )
    (package / "package" / "home.py").write_text("from lossatlas.deep import work\n")
    (package / "lazy.py").write_text("def exported(*_):\n    return 1, 2\n")
    (package / "start.py").write_text(text)
    assert "lossatlas.deep:work" in fingerprint.parts(["lossatlas.start:run"])


def test_a_name_of_a_parameter_reaches_no_function(package: Path) -> None:
    (package / "start.py").write_text(
        "from lossatlas.deep import constant\n\ndef run(constant):\n    return constant\n"
    )
    assert "lossatlas.deep:constant" not in fingerprint.parts(["lossatlas.start:run"])


def test_a_walk_does_not_end_in_silence(package: Path) -> None:
    (package / "start.py").write_text(
        "from lossatlas import deep\n\ndef run():\n    return deep.gone()\n"
    )
    with pytest.raises(ValueError, match=r"deep defines no 'gone', which lossatlas\.start uses"):
        fingerprint.parts(["lossatlas.start:run"])


@pytest.mark.parametrize("file", ["tools.py", "__init__.py"])
def test_statements_that_bind_no_name_count_for_their_module(package: Path, file: str) -> None:
    before = digest()
    (package / "never.py").write_text("import os\nos.environ.setdefault('A', '1')\n")
    assert digest() == before
    text = (package / file).read_text()
    (package / file).write_text(f"import os\n{text}\nos.environ.setdefault('A', '1')\n")
    assert digest() != before


def test_another_library_under_the_same_name(package: Path) -> None:
    text = (package / "deep.py").read_text()
    (package / "deep.py").write_text(f"from math import sin as f, cos\n{text}\nconstant = f(1)\n")
    before = digest()
    edit(package / "deep.py", "sin as f, cos", "sin as f, tan")
    assert digest() == before
    edit(package / "deep.py", "sin as f, tan", "tan as f")
    assert digest() != before


SECTION = """
from pydantic import BaseModel, Field, model_validator
from typing import ClassVar

class Base(BaseModel):
    shared: int = 1

    def inherited(self):
        return 1

class Part(Base):
    PAPER: ClassVar = {"rate": 1}
    rate: float = Field(0.1, gt=0, description="what it is")
    unused: int = 3

    @model_validator(mode="after")
    def _check(self):
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given):
        return {**cls.PAPER, **given}

    def steps(self):
        return 5

    def other(self):
        return 6
"""
READS = (
    "from lossatlas.{module} import Part\n\ndef run(part: Part):\n"
    "    return part.steps(), part.rate, part.inherited()\n"
)
MAKES = "from lossatlas.{module} import Part\n\ndef run():\n    return Part().rate\n"
SECTIONS = [  # module, code, old, new, whether it counts
    ("parts", READS, "return 5", "return 7", True),
    ("parts", READS, "return 1\n", "return 7\n", True),
    ("parts", READS, "return 6", "return 7", False),
    ("parts", READS, "return self", "return self or 1", False),
    ("parts", READS, "**given}", "**given, 'a': 1}", False),
    ("parts", READS, "    unused", "    new: int = 4\n    unused", False),
    ("parts", READS, "= 3", "= 4", False),
    ("parts", READS, "gt=0", "ge=0", False),
    ("parts", READS, "what it is", "what it was", False),
    ("parts", READS, "Field(0.1", "Field(0.2", False),
    ("spec.parts", READS, "Field(0.1", "Field(0.2", True),
    ("spec.parts", READS, "= 3", "= 4", False),
    ("parts", MAKES, "Field(0.1", "Field(0.2", True),
    ("parts", MAKES, "**given}", "**given, 'a': 1}", True),
    ("parts", MAKES, '"rate": 1', '"rate": 2', True),
    ("parts", MAKES, "return self", "return self or 1", False),
    ("parts", MAKES, "return 5", "return 7", False),
]


@pytest.mark.parametrize(("module", "code", "old", "new", "counts"), SECTIONS)
def test_what_counts_of_a_section_of_the_config(
    package: Path, module: str, code: str, old: str, new: str, counts: bool
) -> None:
    path = package.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(SECTION)
    (package / "start.py").write_text(code.format(module=module))
    before = digest()
    edit(path, old, new)
    assert (digest() != before) is counts


def test_a_script_counts_whole(package: Path) -> None:
    script = package.parent / "train.py"
    script.write_text(
        '"""Train."""\nfrom lossatlas.store import write\n\nwith write as s:\n'
        "    from lossatlas import tools\n    tools.helper(2)\n"
    )
    found = fingerprint.parts(["script:train"])
    assert {
        "workflow/train.py",
        "lossatlas.tools:helper",
        "lossatlas.deep:constant",
    } <= found.keys()
    before = fingerprint.code_of("script:train")
    for old, new, same in (("Train.", "We train.", True), ("helper(2)", "helper(3)", False)):
        edit(script, old, new)
        forget()
        assert (fingerprint.code_of("script:train") == before) is same
    with pytest.raises(ValueError, match=r"no script workflow/gone\.py"):
        fingerprint.parts(["script:gone"])


def test_every_carrier_is_there_and_has_a_reason() -> None:
    forget()
    library = fingerprint.Sources.read().library
    for name, reason in CARRIERS.items():
        module, _, definition = name.partition(":")
        whole = f"lossatlas.{module}" if module else "lossatlas"
        assert whole in library.sources, name
        assert not definition or definition in library.module(whole).definitions, name
        assert len(reason) > 20


def test_no_import_of_the_library_is_relative() -> None:
    """The walk would not follow it."""
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or not node.level, path
            assert not isinstance(node, ast.alias) or node.name != "*", path


def test_training_reaches_what_decides_its_numbers_and_no_carrier() -> None:
    forget()
    cell = Cell(DataPart(source="digits"), ModelPart(builder="resnet18"), Recipe(epochs=1))
    found = fingerprint.parts(entries.training(cell)).keys()
    assert found >= {
        "workflow/train.py",
        "lossatlas.data.loading:load",
        "lossatlas.models.functional:Functional",
        "lossatlas.models.resnet18:ResNet18",
        "lossatlas.models:build",
        "lossatlas.spec.parts:DataPart.kept",
        "lossatlas.spec.parts:Recipe.learning_rate",
        "lossatlas.spec.parts:Recipe.steps",
        "lossatlas.store:read",
        "lossatlas.training.schedules:learning_rate",
        "lossatlas.training.seeds:generator",
        "lossatlas:(statements)",
    }
    modules = {name.partition(":")[0] for name in found}
    assert not modules & {"lossatlas.seal", "lossatlas.training.state"}
    assert not found & {"lossatlas:__version__", "lossatlas.training.recorder:Recorder"}


def test_claims_are_reached_through_the_tables_that_hold_them() -> None:
    forget()
    found = fingerprint.parts(entries.claims("simplex"))
    assert "lossatlas.claims.simplex_checks:low_inside" in found
    assert "lossatlas.claims.taxonomy:CLAIMS" not in found
    assert "lossatlas.claims.variant_checks:more_data" not in found
    assert "lossatlas.claims.paired_checks:scaling_levels" in fingerprint.parts(
        entries.claims("taxonomy")
    )
    assert "lossatlas.claims.diffusion:CLAIMS" not in found
    assert "lossatlas.claims.diffusion:CLAIMS" in fingerprint.parts(entries.claims("diffusion"))


OLD, NEW = {"a:b": "1", "a:c": "2", "a:d": "3"}, {"a:b": "1", "a:c": "4", "a:e": "5"}


def test_which_definitions_changed() -> None:
    assert fingerprint.difference(OLD, NEW) == ["a:c changed", "a:d removed", "a:e added"]
    assert fingerprint.difference(OLD, OLD) == []


def test_what_a_digest_is_made_of_is_kept(working: Path) -> None:
    before = digest()
    fingerprint.keep_parts()
    assert fingerprint.parts_of(before) == fingerprint.parts(["lossatlas.start:run"])
    assert fingerprint.entries_of(before) == ("lossatlas.start:run",)
    edit(working.parent / "deep.py", "constant = 2", "constant = 3")
    after = digest()
    fingerprint.keep_parts()
    changed = fingerprint.difference(fingerprint.parts_of(before), fingerprint.parts_of(after))
    assert changed == ["lossatlas.deep:constant changed"]
    assert fingerprint.parts_of("0" * 16) == {}
    Path(paths.code(before)).write_text("{")
    assert fingerprint.entries_of(before) == ()


def test_a_folder_that_cannot_be_written_keeps_nothing(working: Path) -> None:
    Path("results").write_text("in the way")
    before = digest()
    fingerprint.keep_parts()
    assert fingerprint.parts_of(before) == {}


def test_a_job_checks_that_its_code_is_what_was_planned(working: Path) -> None:
    entry, deep = "lossatlas.start:run", working.parent / "deep.py"
    planned = digest()
    fingerprint.check([entry], planned)
    (working.parent / "other.py").write_text("new = 1\n")  # nothing is kept for these sources
    fingerprint.check([entry], planned)
    edit(deep, "constant = 2", "constant = 3")
    with pytest.raises(UserError, match=r"^the code changed while Snakemake ran \(run the same"):
        fingerprint.check([entry], planned)
    edit(deep, "constant = 3", "constant = 2")
    fingerprint.keep_parts()
    edit(deep, "constant = 2", "constant = 4")
    with pytest.raises(UserError, match=r"Snakemake ran: lossatlas\.deep:constant changed \(run"):
        fingerprint.check([entry], planned)


def test_a_forked_job_checks_what_was_imported_before(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edited, imported by the warm process, and put back before the job starts."""
    entry, deep = "lossatlas.start:run", working.parent / "deep.py"
    planned = digest()
    edit(deep, "constant = 2", "constant = 3")
    monkeypatch.setattr(fingerprint, "_imported", fingerprint.Sources.read())
    edit(deep, "constant = 3", "constant = 2")
    with pytest.raises(UserError, match="the code changed"):
        fingerprint.check([entry], planned)
    fingerprint.remember(fingerprint.Sources.read())
    fingerprint.check([entry], planned)


def test_a_job_checks_the_users_files(
    working: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "checked_net.py"
    own.write_text("LOSSATLAS_FILES = ['sizes.json']\nvalue = 1\n")
    (tmp_path / "sizes.json").write_text("[1]")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    planned = fingerprint.code_of("checked_net:value")
    fingerprint.keep_parts()
    fingerprint.check(["checked_net:value"], planned)
    for file, old, new in ((own, "value = 1", "value = 2"), (tmp_path / "sizes.json", "1", "2")):
        edit(file, old, new)
        with pytest.raises(UserError, match=rf"ran: {file.name} changed \(run the same command"):
            fingerprint.check(["checked_net:value"], planned)
        edit(file, new, old)
    fingerprint.check(["checked_net:value"], planned)


def test_checking_is_quick(working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is parsed where no byte changed."""
    monkeypatch.setattr(fingerprint, "LIBRARY", LIBRARY)
    monkeypatch.setattr(fingerprint, "SCRIPTS", LIBRARY.parent)
    forget()
    cell = Cell(DataPart(source="digits"), ModelPart(builder="mlp"), Recipe(epochs=1))
    asked = entries.training(cell)
    planned = fingerprint.code_of(*asked)
    fastest = 1.0
    for _ in range(5):
        begun = time.process_time()
        fingerprint.check(asked, planned)
        fastest = min(fastest, time.process_time() - begun)
    assert fastest < 0.06
