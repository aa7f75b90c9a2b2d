"""Networks trained elsewhere: which files are found, what cells they make, what is refused."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lossatlas import contents, paths
from lossatlas.errors import UserError
from lossatlas.spec import config
from lossatlas.spec.cells import ADOPTED_ID, TRAINED_ID, Cell, from_spec
from lossatlas.spec.config import Config
from lossatlas.spec.cost import LAPTOP, training_hours
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.spec.plan import Plan, make_plan
from lossatlas.spec.sizes import parameter_count

PATTERN = "runs/width={width}/batch={batch_size}/seed={seed}.pt"
GRID = [(w, b, s) for w in (4, 16) for b in (16, 64) for s in (0, 1)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of a grid of 2 x 2 cells of two replicas; nothing looks inside yet."""
    monkeypatch.chdir(tmp_path)
    for width, batch, seed in GRID:
        write(f"runs/width={width}/batch={batch}/seed={seed}.pt", f"{width} {batch} {seed}")
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def raw(checkpoints: Any = PATTERN, **more: Any) -> dict[str, Any]:
    own = {"dataset": "digits", "model": "mlp", "metrics": ["performance", "cka"], **more}
    return {
        "datasets": {"digits": None},
        "models": {"mlp": {"depth": 1}},
        "experiments": {"mine": {"checkpoints": checkpoints, **own}},
    }


def load(checkpoints: Any = PATTERN, **more: Any) -> Config:
    return config.load(raw(checkpoints, **more))


def plan(*given: Any, **more: Any) -> Plan:
    return make_plan(load(*given, **more), lambda _: [])


def refused(*given: Any, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        plan(*given, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pattern_makes_a_grid() -> None:
    found = load()
    one = found.experiments["mine"]
    assert one.load == {"width": [4, 16]}
    assert one.temperature == {"batch_size": [16, 64]}
    assert one.seed_list == [0, 1]
    assert found.missing == []
    made = make_plan(found, lambda _: [])
    assert [made.cells[i].cell.axis("width") for i in made.experiments["mine"]] == [4, 4, 16, 16]
    assert found.grid("mine")[1] == {"width": 4, "batch_size": 64}
    for planned in made.cells.values():
        width, batch = planned.cell.axis("width"), planned.cell.axis("batch_size")
        files = {s: f"runs/width={width}/batch={batch}/seed={s}.pt" for s in (0, 1)}
        assert {seed: file.path for seed, file in planned.files.items()} == files
        assert planned.blocks == {"0": [0], "1": [1]}
        assert training_hours(planned, LAPTOP) == 0
        assert parameter_count(planned.cell) == 65 * width + 10 * (width + 1)


def test_what_is_not_known_stands_in_no_specification() -> None:
    cell = next(iter(plan().cells.values())).cell
    assert cell.spec["recipe"] == {"batch_size": 16}
    assert cell.spec["origin"] == "elsewhere"
    assert cell.axis("learning_rate") is None
    assert cell.epochs == 0
    assert from_spec(cell.spec) == cell
    assert from_spec(cell.spec).id == cell.id
    named = {**raw(recipe="theirs"), "recipes": {"theirs": {"epochs": 7, "momentum": 0.9}}}
    known = next(iter(make_plan(config.load(named), lambda _: []).cells.values())).cell
    assert known.spec["recipe"] == {"epochs": 7, "batch_size": 16, "momentum": 0.9}
    assert known.epochs == 7


def test_ids_tell_where_a_cell_was_trained() -> None:
    import re

    adopted = next(iter(plan(origin="from_ben").cells))
    data = DataPart(source="digits", label_noise=0.1)
    trained = Cell(data, ModelPart(builder="mlp", width=3), Recipe(learning_rate=1e-7)).id
    assert ".from-ben-" in adopted
    for cell, fits, other in ((adopted, ADOPTED_ID, TRAINED_ID), (trained, TRAINED_ID, ADOPTED_ID)):
        assert re.fullmatch(fits, cell)
        assert not re.fullmatch(other, cell)


def test_listed_values_choose() -> None:
    found = load(load={"width": [16]}, seeds=[1], metrics=[])
    assert found.grid("mine") == [{"width": 16, "batch_size": b} for b in (16, 64)]
    assert found.experiments["mine"].seed_list == [1]
    assert "no file has the seeds and values" in refused(load={"width": [5]})


def test_a_table_makes_the_same_cells() -> None:
    rows = [f"{w}\t{b}.0\tx\truns/width={w}/batch={b}/seed={s}.pt\t{s}" for w, b, s in GRID]
    write("runs.tsv", "\n".join(["width\tbatch_size\taccuracy\tfile\tseed", *rows]))
    assert plan("runs.tsv").cells == plan().cells
    write("runs.csv", "file,seed,width,batch_size\n./runs/width=4/batch=16/seed=0.pt,3,4,16\n")
    (planned,) = plan("runs.csv", metrics=["performance"]).cells.values()
    assert planned.seeds == [3]


def test_patterns_with_other_words_and_numbers() -> None:
    write("other/at_1/w8_lr1e-3_w8.s07.safetensors", "a")
    write("other/at_2/w8_lr0.5_w8.s7.safetensors", "b")
    write("other/at_3/w8_lr0.5_w9.s8.safetensors", "c")  # two numbers of one word differ
    found = load(
        "./other//at_*/w{width}_lr{learning_rate}_w{width}.s{seed}.safetensors", metrics=[]
    )
    assert found.experiments["mine"].axes == {"width": [8], "learning_rate": [0.001, 0.5]}
    assert found.experiments["mine"].seed_list == [7]


def test_missing_files_are_told() -> None:
    shutil.rmtree("runs/width=16/batch=64")
    os.unlink("runs/width=4/batch=16/seed=0.pt")
    found = load()
    assert found.missing == [
        "mine: no checkpoint of 1 of 4 cells: width=16 batch_size=64",
        "mine: fewer replicas in 1 cells: width=4 batch_size=16 (seed 0)",
    ]
    made = make_plan(found, lambda _: [])
    assert [planned.seeds for planned in made.cells.values()] == [[1], [0, 1], [0, 1]]
    assert len(found.grid("mine")) == 3


def test_a_replica_is_the_content_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SETTLED", -1e9)  # what was read is kept at once

    def seen() -> dict[str, list[str]]:
        cells = plan().cells
        return {key: [f.sha256 for f in one.files.values()] for key, one in cells.items()}

    before = seen()
    for path in Path("runs").rglob("*.pt"):
        os.utime(path, (1e9, 1e9))
    assert seen() == before
    shutil.copytree("runs", "moved")
    moved = plan(PATTERN.replace("runs", "moved")).cells
    assert {key: [f.sha256 for f in one.files.values()] for key, one in moved.items()} == before
    file = "runs/width=4/batch=16/seed=1.pt"
    about = os.stat(file)
    write(file, "4 16 X")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))  # size and time as they were
    changed = [key for key, now in seen().items() if now != before[key]]
    assert len(changed) == 1


def test_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SETTLED", -1e9)
    files = sorted(map(str, Path("runs").rglob("*.pt")))
    first = contents.digests(files, "here")
    assert paths.FILES.exists()
    monkeypatch.setattr(contents, "_sha256", lambda path: f"read {path}")
    assert contents.digests(files, "here") == first
    write(files[0], "another")
    assert contents.digests(files, "here") == {**first, files[0]: f"read {files[0]}"}
    paths.FILES.write_text("[damaged")
    assert contents.digests(files, "here")[files[1]] == f"read {files[1]}"


def test_a_file_that_may_change_within_a_tick_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = "runs/width=4/batch=16/seed=1.pt"
    contents.digests([file], "here")
    monkeypatch.setattr(contents, "_sha256", lambda _: "again")
    assert contents.digests([file], "here") == {file: "again"}


def test_links_are_followed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("disk")
    shutil.move("runs", folder)
    Path("runs").symlink_to(folder / "runs")
    assert len(plan().cells) == 4


def test_experiments_share_cells_of_equal_files() -> None:
    two = raw()
    two["experiments"]["few"] = {**two["experiments"]["mine"], "load": {"width": [4]}}
    made = make_plan(config.load(two), lambda _: [])
    assert len(made.cells) == 4
    write("others/width=4/batch=16/seed=0.pt", "by someone else")
    pattern = PATTERN.replace("runs", "others")
    two["experiments"]["few"] = {**two["experiments"]["mine"], "checkpoints": pattern}
    two["experiments"]["few"]["metrics"] = ["performance"]
    with pytest.raises(UserError, match="give one of the two another 'origin' than 'elsewhere'"):
        make_plan(config.load(two), lambda _: [])
    two["experiments"]["few"]["origin"] = "someone"
    assert len(make_plan(config.load(two), lambda _: []).cells) == 5


def test_trained_cells_stay_as_they_were() -> None:
    cell = Cell(DataPart(source="digits"), ModelPart(builder="mlp"), Recipe(batch_size=16))
    assert set(cell.spec) == {"version", "data", "model", "recipe"}
    assert cell.id == "digits-mlp-b16-cf1f71e6"


TABLE = "file,seed,width,batch_size\n"
FILE = "runs/width=4/batch=16/seed=0.pt"
BAD = [
    ({"checkpoints": "nowhere/{width}/{seed}.pt"}, "no file is called 'nowhere/{width}/{seed}.pt'"),
    ({"checkpoints": "nowhere/{width}/{seed}.pt"}, "there is no folder '"),
    ({"checkpoints": "runs/w={width}/s={seed}.pt"}, "each {word} stands for one number"),
    ({"checkpoints": "runs/width={width}/batch={batch_size}/a.pt"}, "has no {seed}, so it does"),
    (
        {"checkpoints": PATTERN.replace("{width}", "{widht}")},
        "unknown axis 'widht' (did you mean 'w",
    ),
    ({"checkpoints": PATTERN.replace("{width}", "{model.}")}, "unknown axis 'model.'"),
    ({"checkpoints": PATTERN.replace("{width}", "{model.depht}")}, "'mlp' has no argument 'depht'"),
    ({"checkpoints": PATTERN.replace("{width}", "{width")}, "braces do not match"),
    ({"checkpoints": "runs/{width}{batch_size}/{seed}.pt"}, "two numbers with nothing between"),
    (
        {"checkpoints": PATTERN.replace("width={width}", "*")},
        "two files for one replica: 'runs/wid",
    ),
    ({"load": {"depth": [1]}}, "no file has a value on the axis 'depth' (write '{depth}' into"),
    ({"checkpoints": "gone.csv"}, "gone.csv: cannot be read: No such file"),
    ({"table": "seed,width\n"}, "t.csv: has no column 'file' (its columns are seed, width;"),
    ({"table": "file,width\n"}, "t.csv: has no column 'seed'"),
    ({"table": ""}, "its columns are none"),
    ({"table": TABLE}, "t.csv: has no rows"),
    ({"table": f"{TABLE}{FILE},x,4,16\n"}, "t.csv, line 2: seed is 'x'"),
    ({"table": f"{TABLE}{FILE},0,wide,16\n"}, "line 2: width is 'wide', and an axis has numbers"),
    ({"table": f"{TABLE}{FILE},0\n"}, "line 2: width is ''"),
    ({"table": f"{TABLE}gone.pt,0,4,16\n"}, "line 2: no such file 'gone.pt'"),
    ({"table": f"{TABLE}{FILE},0,4,16\n{FILE},0,4.0,16\n"}, "(line 2) and '"),
    ({"recipe": "none"}, "no 'none' in recipes"),
    ({"origin": "a b"}, "experiments.mine.origin: 'a b' cannot be a name"),
    ({"checkpoints": "", "origin": "ben"}, "says where checkpoints come from, and there are none"),
    ({"checkpoints": ""}, "experiments.mine.recipe: is missing"),
    ({"metrics": ["diffusion"]}, "'diffusion' needs the path of training, and checkpoints are"),
    ({"metrics": ["hessian_path"]}, "'hessian_path' needs the path of training"),
    ({"metrics": ["espro"]}, "'espro' counts the epochs of training, and they are not known"),
    ({"seeds": [0]}, "'cka' compares replicas, and there is one seed"),
]


@pytest.mark.parametrize(("given", "text"), BAD)
def test_mistakes_are_one_line(given: dict[str, Any], text: str) -> None:
    given = dict(given)
    if (table := given.pop("table", None)) is not None:
        write("t.csv", table)
        given["checkpoints"] = "t.csv"
    assert text in refused(given.pop("checkpoints", PATTERN), **given)


def test_a_pipe_is_not_waited_for() -> None:
    os.unlink(FILE)
    os.mkfifo(FILE)
    assert f"'{FILE}' is no regular file" in refused()


def test_a_folder_and_a_link_to_nothing() -> None:
    os.unlink(FILE)
    Path(FILE).symlink_to("gone")
    assert f"'{FILE}' cannot be read: No such file" in refused()
    os.unlink(FILE)
    os.mkdir(FILE)
    assert f"'{FILE}' is no regular file" in refused()


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        ({"record": {"length": 10}}, "record"),
        ({"checkpoints": ["best"]}, "checkpoints"),
        ({"early_stop": {}}, "early_stop"),
    ],
)
def test_a_recipe_cannot_ask_for_more_than_weights(recipe: dict[str, Any], key: str) -> None:
    given = {**raw(recipe="theirs"), "recipes": {"theirs": recipe}}
    with pytest.raises(UserError, match=f"recipes.theirs: '{key}' says what training keeps"):
        config.load(given)


def test_a_file_holds_one_network() -> None:
    given = {**raw(metrics=["best"]), "metrics": {"best": {"kind": "cka", "checkpoint": "best"}}}
    with pytest.raises(
        UserError, match=r"metrics\.best: checkpoint is 'best', and a file holds one"
    ):
        config.load(given)
