"""What an installed library lacks or must not do: one line each."""

import os
import sys
from pathlib import Path

import pytest
import torch

import cli_cases
import lossatlas
import parallel_corpus
from lossatlas import entry, installed, models, paths, plugins, reruns, store
from lossatlas.cli import main
from lossatlas.data import loading
from lossatlas.errors import UserError

WORKFLOW = "pip install 'lossatlas[workflow]'"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lack(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages be missing, though they may have been imported before."""
    for loaded in [one for one in sys.modules if one.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, loaded)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def project(folder: Path, version: str) -> None:
    """Write what a folder has that is a checkout."""
    library = folder / "workflow/lossatlas"
    library.mkdir(parents=True)
    text = (paths.LIBRARY / "__init__.py").read_text(encoding="utf-8")
    ours = f'__version__ = "{lossatlas.__version__}"'
    assert ours in text
    library.joinpath("__init__.py").write_text(text.replace(ours, f'__version__ = "{version}"'))
    folder.joinpath("Snakefile").write_text("")


def line(capsys: pytest.CaptureFixture[str]) -> str:
    (only,) = capsys.readouterr().err.splitlines()
    return only


def test_beside_a_project_of_another_version(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring says which of the two runs; accepting, which runs both, is refused."""
    project(empty, "9.1.0")
    here = f"lossatlas {lossatlas.__version__} of {paths.LIBRARY} runs; here is 9.1.0"
    fix = "(run the 'lossatlas' in this project's .venv/bin)"
    assert main(["schema"]) == 0
    assert line(capsys) == f"lossatlas: {here} {fix}"
    monkeypatch.setattr(reruns.subprocess, "run", lambda *_, **__: pytest.fail("it has run"))
    with pytest.raises(UserError, match=r"here is 9\.1\.0"):
        reruns.accept(reruns.Accept("why not"), [])


def test_beside_a_project_of_its_own_version(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project(empty, lossatlas.__version__)
    assert main(["schema"]) == 0
    assert capsys.readouterr().err == ""
    assert installed.snakefile() == Path("Snakefile")


def test_accepting_where_no_workflow_is(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.snakefile() == paths.PROJECT / "Snakefile"  # of this checkout
    monkeypatch.setattr(paths, "INSTALLED", True)
    assert main(["accept", "--reason", "it is"]) == 1
    assert line(capsys).startswith("lossatlas: no Snakefile here (start in a checkout")


def test_accepting_without_snakemake(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(empty, lossatlas.__version__)
    lack(monkeypatch, "snakemake")
    assert main(["accept", "--reason", "it is"]) == 1
    assert line(capsys) == f"lossatlas: Snakemake is not installed ({WORKFLOW})"


def test_a_target_of_the_workflow_is_no_command(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = "lossatlas: 'doctor' is a target of the workflow, not a command"
    assert main(["doctor"]) == 1
    assert line(capsys) == f"{what} (in a checkout: snakemake doctor)"
    lack(monkeypatch, "snakemake")
    assert main(["doctor"]) == 1
    assert line(capsys) == f"{what} ({WORKFLOW}, then in a checkout: snakemake doctor)"


def test_every_such_target_exists() -> None:
    rules = "".join(file.read_text() for file in (paths.PROJECT / "rules").glob("*.smk"))
    rules += (paths.PROJECT / "Snakefile").read_text()
    assert [name for name in installed.TARGETS if f"rule {name}:" not in rules] == []


@pytest.mark.parametrize("missing", ["sentencepiece", "sacrebleu"])
def test_a_command_without_its_extra(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Sentence pairs become text, and scores, by libraries of the extra 'text'."""
    from test_texts import TEST, TRAIN, converted

    parallel_corpus.write_files(empty, TRAIN, TEST)
    store.write("data.h5", converted())
    data = loading.open_data("data.h5", task="translation")
    example, size = data.train.images[:2], {"width": 8, "depth": 1, "heads": 2}
    net = models.build("translation_transformer", size, example=example, **data.shape)
    torch.save(net.state_dict(), "0.pt")
    command = ["metric", "performance", "--checkpoint", "0.pt"]
    command += ["--model", "translation_transformer", "--arg", "width=8", "depth=1", "heads=2"]
    command += ["--data", "data.h5", "--task", "translation"]
    capsys.readouterr()
    lack(monkeypatch, missing)
    assert main(command) == 1
    fix = "pip install 'lossatlas[text]'"
    assert line(capsys) == f"lossatlas: {missing} is not installed ({fix})"


def test_a_module_of_ones_own_without_its_extra(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "vision_net.py").write_text("from torchvision.models import resnet18\n")
    monkeypatch.syspath_prepend(empty)
    lack(monkeypatch, "torchvision")
    with pytest.raises(UserError, match=r"\(pip install 'lossatlas\[vision\]'\)$"):
        plugins.load("vision_net:resnet18", "--model")


def test_a_job_without_its_extra(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr(entry, "_leave", lambda message, _: told.append(message) or sys.exit(1))
    lack(monkeypatch, "pooch")
    monkeypatch.delitem(sys.modules, "lossatlas.data.download", raising=False)
    try:
        import lossatlas.data.download  # noqa: F401
    except ModuleNotFoundError as error:
        with pytest.raises(SystemExit):
            entry._fault(error, log="")
    assert told == [f"pooch is not installed ({WORKFLOW})"]


def test_what_no_extra_has_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError("No module named 'numpie'", name="numpie")
    assert installed.lacking(error) is None
    monkeypatch.setattr("lossatlas.cli._run", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(ModuleNotFoundError):
        main(["schema"])


def test_a_folder_without_rights_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_cases.enter(tmp_path, monkeypatch)
    (tmp_path / "locked").mkdir()
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "locked" not in str(path) and may(path, mode)
    )
    for loaded in ("plane_custom", "measure_custom"):
        monkeypatch.setattr(f"lossatlas.custom.{loaded}", lambda *_, **__: pytest.fail("it ran"))
    given = ["--model", "cli_net:Net", "--data", "data.npz", "--checkpoint", "0.pt"]
    for out in ("locked/o", "locked/deeper/still/o"):
        for command in (
            ["metric", "performance", *given, "--out", f"{out}.h5"],
            ["plane", *given, "1.pt", "2.pt", "-o", f"{out}.png"],
        ):
            assert main(command) == 1
            said = f"lossatlas: {tmp_path / 'locked'}: is not a folder that can be written to ("
            assert line(capsys).startswith(said)
