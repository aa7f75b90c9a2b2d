"""Archives of results: what comes out is what went in, and nothing else is ever written."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossatlas import bundle, cli, paths
from lossatlas.errors import UserError
from lossatlas.spec import names

CONTENT = b"metric,value\n" * 50
FILES = {
    "results/cells/a-w2-1/metrics/cka.h5": CONTENT,
    "results/cells/a-w2-1/train/0.h5": CONTENT,
    "results/own/tables/.claims.csv.made": b"{}\n",
    "results/own/tables/claims.csv": b"",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def written(
    target: Path,
    files: dict[str, bytes],
    *,
    change: Callable[[dict[str, Any]], None] = lambda about: None,
    listed: dict[str, bytes] | None = None,
) -> str:
    """Write an archive by hand; `listed` are the contents that its list speaks of."""
    about: dict[str, Any] = {"schema": bundle.SCHEMA, "name": "own", "config": "{}", "accepted": {}}
    about["files"] = {
        file: [len(content), hashlib.sha256(content).hexdigest()]
        for file, content in (files if listed is None else listed).items()
    }
    change(about)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for file, content in files.items():
            out.writestr(file, content)
        out.writestr(bundle.MANIFEST, json.dumps(about))
    return str(target)


def everything(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_what_goes_in_comes_out(project: Path, tmp_path: Path) -> None:
    for file, content in FILES.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(content)
    weights = Path("results/cells/a-w2-1/train/0.safetensors")
    weights.write_bytes(b"w")
    half = Path("results/cells/a-w2-1/metrics/.cka.h5.host-1.abcdefgh/cka.h5")
    half.parent.mkdir()
    half.write_bytes(b"half")  # of a job at work
    paths.use("own")
    try:
        found = bundle.files_of(["a-w2-1"], weights=False)
        assert found == sorted(FILES)
        assert bundle.files_of(["a-w2-1"], weights=True) == sorted([*FILES, str(weights)])
    finally:
        paths.use(paths.DEFAULT)
    accepted = {"results/own/tables/claims.csv": {"code": "1"}, "results/elsewhere": {"code": "2"}}
    archives = [str(tmp_path / "one.zip"), str(tmp_path / "two.zip")]
    for archive in archives:
        bundle.pack(archive, found, "own", "name: own\n", accepted)
    one, two = (Path(archive).read_bytes() for archive in archives)
    assert one == two

    other = tmp_path / "other"
    other.mkdir()
    os.chdir(other)
    imported = bundle.unpack(archives[0])
    accepts = {"results/own/tables/claims.csv": {"code": "1"}}
    after = everything(other)
    assert json.loads(after.pop("results/accepted.json")) == accepts
    assert after == {**FILES, "own.yaml": b"name: own\n"}
    assert (sorted(imported.new), imported.same, imported.kept) == (sorted(FILES), [], [])
    assert imported.config == "own.yaml"
    again = bundle.unpack(archives[0])
    assert (again.new, sorted(again.same), again.config) == ([], sorted(FILES), "own.yaml")
    Path("own.yaml").write_text("name: other\n")
    assert "another own.yaml was there" in " ".join(bundle.told(bundle.unpack(archives[0])))


def test_what_is_there_stays(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = written(tmp_path / "a.zip", FILES)
    mine = project / "results/cells/a-w2-1/metrics/cka.h5"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (project / "own.yaml").symlink_to(tmp_path / "elsewhere")
    assert cli.main(["import", archive]) == 0
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()
    printed = capsys.readouterr().out
    assert "3 files of the config 'own' imported" in printed
    assert "1 files are there with another content, and were kept: results/cells/a-w2" in printed


def named(file: str) -> dict[str, bytes]:
    return {file: CONTENT}


BAD_NAMES = [
    "results/../../evil.csv",
    "/tmp/evil.csv",
    "evil.csv",
    "results/evil.csv/../x.csv",
    "results//cells/evil.csv",
    "results/./cells/evil.csv",
    "other/cells/evil.csv",
    "results/cells/evil.py",
    "results/cells/evil.html",
    "results/cells/a b/evil.csv",
    "results/.hidden/a/evil.csv",
    "results\\cells\\evil.csv",
    "results/cells/evil\x00.csv",
    f"results/cells/{'a' * 300}.csv",
    "results/" + "a/" * 300 + "evil.csv",
    "C:/results/cells/evil.csv",
    "Snakefile",
]


@pytest.mark.parametrize("file", BAD_NAMES)
def test_no_name_leads_elsewhere(file: str, project: Path, tmp_path: Path) -> None:
    archive = written(tmp_path / "a.zip", {"results/cells/a/ok.csv": CONTENT, **named(file)})
    with pytest.raises(UserError, match="is no archive of results"):
        bundle.unpack(archive)
    assert everything(project) == {}


def lacking(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda about: about.pop(key) and None


def told(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about.update(changes)


WRONG = [
    *(lacking(key) for key in ("schema", "files", "name", "config", "accepted")),
    *(told(schema=99), told(schema="x"), told(files=[1]), told(files={"results/a/b.csv": 3})),
    *(told(name="../own"), told(name=""), told(name="a" * 300), told(name=3), told(accepted=3)),
    *(told(config=config) for config in (3, None, "a: [\x00", "- 1")),
    told(accepted={"results/own/tables/claims.csv": 3}),
    told(files={"results/cells/not/there.csv": [1, "0"]}),
    told(files={file: [len(content) + 1, "0"] for file, content in FILES.items()}),
]


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_list(change: Callable[..., None], project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no archive of results"):
        bundle.unpack(written(tmp_path / "a.zip", FILES, change=change))
    assert everything(project) == {}


def test_a_file_that_is_not_what_the_list_says(project: Path, tmp_path: Path) -> None:
    listed = {**FILES, "results/cells/a-w2-1/metrics/cka.h5": b"x" * len(CONTENT)}
    with pytest.raises(UserError, match=r"cka\.h5 is not what its list says"):
        bundle.unpack(written(tmp_path / "a.zip", FILES, listed=listed))
    assert not Path("results/cells/a-w2-1/metrics/cka.h5").exists()


def test_files_that_no_list_names(project: Path, tmp_path: Path) -> None:
    archive = written(tmp_path / "a.zip", {**FILES, "results/cells/a/x.csv": b"1"}, listed=FILES)
    with pytest.raises(UserError, match="other files than its list names"):
        bundle.unpack(archive)
    assert everything(project) == {}


def test_an_encrypted_file(project: Path, tmp_path: Path) -> None:
    archive = Path(written(tmp_path / "a.zip", FILES))
    data = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    archive.write_bytes(data)
    with pytest.raises(UserError, match="is no archive of results"):
        bundle.unpack(str(archive))


def test_a_file_in_the_place_of_a_folder(project: Path, tmp_path: Path) -> None:
    Path("results").mkdir()
    Path("results/own").write_text("mine")
    with pytest.raises(UserError, match="results/own: is no folder"):
        bundle.unpack(written(tmp_path / "a.zip", FILES))
    assert everything(project) == {"results/own": b"mine"}


def test_more_than_the_disk_holds(project: Path, tmp_path: Path) -> None:
    files = {"results/cells/a/big.csv": CONTENT}
    archive = Path(written(tmp_path / "a.zip", files))
    size, huge = (n.to_bytes(4, "little") for n in (len(CONTENT), 2**31))
    data = archive.read_bytes()
    archive.write_bytes(data.replace(size, huge))  # in both headers of the file
    change = told(files={"results/cells/a/big.csv": [2**62, "0"]})
    with pytest.raises(UserError, match="is not as its list says"):
        bundle.unpack(written(tmp_path / "b.zip", files, change=change))
    with pytest.raises(UserError):
        bundle.unpack(str(archive))
    assert everything(project) == {}


@pytest.mark.parametrize("content", [b"", b"PK", os.urandom(200)])
def test_no_archive(content: bytes, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is no archive of results"):
        bundle.unpack(str(file))


@pytest.mark.parametrize("place", ["nothing.zip", "."])
def test_no_file(place: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", place]) == 1
    assert capsys.readouterr().err == f"lossatlas: {place}: there is no such file\n"


def test_an_archive_cut_off(project: Path, tmp_path: Path) -> None:
    archive = Path(written(tmp_path / "a.zip", FILES))
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(UserError, match="is no archive of results"):
        bundle.unpack(str(archive))


def test_targets_are_taken() -> None:
    assert {"export", "export_with_weights"} <= names.TARGETS
