"""Plans: shared cells, blocks of replicas, what status and plan print, and cost."""

import io
import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lossatlas import entry, paths, prune, report, store
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.simplex import Simplex
from lossatlas.metrics.simplex_volume import SimplexVolume
from lossatlas.spec import config
from lossatlas.spec.cells import Cell
from lossatlas.spec.cost import paths_bytes, vertices_bytes, weights_bytes
from lossatlas.spec.parts import DataPart, ModelPart, Recipe, Recording
from lossatlas.spec.plan import Plan, PlannedCell, block_name, block_seeds, make_plan, partition

TWO = yaml.safe_load("""
datasets: {digits: }
models: {resnet18: }
recipes: {short: {epochs: 2}}
experiments:
  a: {dataset: digits, model: resnet18, recipe: short, load: {width: [2, 4]}, seeds: 2,
      metrics: [performance], together: 2}
  b: {dataset: digits, model: resnet18, recipe: short, load: {width: [4, 64]}, seeds: [1, 2, 3],
      metrics: [cka], together: 3}
""")


def nothing(_: str) -> list[str]:
    return []


def test_cells_are_shared() -> None:
    plan = make_plan(config.load(TWO), nothing)
    assert len(plan.cells) == 3
    shared = plan.experiments["a"][1]
    assert shared == plan.experiments["b"][0]
    assert plan.cells[shared].seeds == [0, 1, 2, 3]
    assert plan.cells[shared].metrics == ["performance", "cka"]
    assert plan.cells[shared].blocks == {"0-2": [0, 1, 2], "3": [3]}
    turned = {**TWO, "experiments": dict(reversed(TWO["experiments"].items()))}
    again = make_plan(config.load(turned), nothing).cells[shared]
    assert again.blocks == {"0-2": [0, 1, 2], "3": [3]}  # the most that any of them lets together


def test_wide_networks_train_alone() -> None:
    plan = make_plan(config.load(TWO), nothing)
    assert list(plan.cells[plan.experiments["b"][1]].blocks) == ["1", "2", "3"]


def test_more_seeds_keep_what_is_trained() -> None:
    assert partition([0, 1, 2, 3, 4], 3, ["0-2"]) == {"0-2": [0, 1, 2], "3-4": [3, 4]}
    assert partition([0, 1, 2, 3], 3, ["0-2", "3"]) == {"0-2": [0, 1, 2], "3": [3]}
    assert partition([0, 1], 3, ["0-4"]) == {"0-4": [0, 1, 2, 3, 4]}
    assert partition([0], 1, ["7", "junk", "2-1", ""]) == {"0": [0]}
    overlap = partition([0, 1, 2, 3], 3, ["0-2", "2-3"])  # the second is left alone
    assert overlap == {"0-2": [0, 1, 2], "3": [3]}


def test_blocks_of_seeds_with_gaps_have_names_that_files_can_have() -> None:
    seeds = list(range(0, 400, 2))
    blocks = partition(seeds, 100, [])
    assert max(map(len, blocks)) <= 100
    assert [seed for block in blocks.values() for seed in block] == seeds
    assert list(partition(list(range(500)), 500, [])) == ["0-499"]


@settings(deadline=None)  # for machines with other work
@given(st.sets(st.integers(0, 40), min_size=1), st.integers(1, 5), st.sets(st.integers(0, 40)))
def test_blocks_hold_every_seed_once(seeds: set[int], together: int, trained: set[int]) -> None:
    existing = [block_name(sorted(trained))] if trained else []
    blocks = partition(sorted(seeds), together, existing)
    held = [seed for block in blocks.values() for seed in block]
    assert len(held) == len(set(held))
    assert seeds <= set(held)
    for name, block in blocks.items():
        assert block_seeds(name) == block
        assert name in existing or len(block) <= together


@pytest.mark.parametrize(
    "name", ["", "a", "0-", "1-0", "0_0", "01", "2_1", "../0", "0 1", "0-99999999999999"]
)
def test_names_that_are_no_blocks(name: str) -> None:
    assert block_seeds(name) == []


def printed(function, plan) -> str:
    stream = io.StringIO()
    function(plan, Console(file=stream, width=140))
    return stream.getvalue()


def test_plan_counts() -> None:
    text = printed(report.plan, make_plan(config.load(TWO), nothing))
    rows = [re.split(" {2,}", line.strip()) for line in text.splitlines()]
    cells = {row[0]: row[1:4] for row in rows}
    assert cells["a"] == ["2", "6", "6"]  # the shared cell has 4 replicas in 2 blocks, 2 metrics
    assert cells["all, shared cells once"] == ["3", "9", "10"]


def test_status_tells_done_missing_failed_and_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(config.load(TWO), nothing)
    first, second = plan.experiments["a"]
    store.write(paths.weights(first, "0-1"), store.Record("any"))
    scalars = [
        store.Scalar("final_train_loss", 0.5, 0),
        store.Scalar("final_train_loss", float("nan"), 1, status="diverged"),
    ]
    store.write(paths.history(first, "0-1"), store.Record("training", scalars))
    log = Path(paths.log("performance", second))
    log.parent.mkdir(parents=True)
    log.write_text("begin\nlossatlas: x.h5: truncated (delete it)\n")
    stopped = Path(paths.log("performance", first))  # no failure: it goes on
    stopped.write_text(f"begin\nlossatlas: {entry._INTERRUPTED}\n")
    for block in plan.cells[second].blocks:
        warned = Path(paths.log("train", f"{second}.{block}"))
        warned.parent.mkdir(exist_ok=True)
        warned.write_text("lossatlas: told to leave; state saved, run the same command again\n")
    text = printed(report.status, plan)
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:7]]
        for line in text.splitlines()
        if line.startswith("│")
    }
    assert rows["replicas trained"] == ["0", "7", "0", "0", "7"]  # the rows of b come last
    assert "failed: " in text
    assert "x.h5: truncated (delete it)" in text
    only_a = text.split("b: 2 cells")[0]
    assert "│ replicas trained   │    2 │       4 │      0 │        1 │  6 │" in only_a
    assert "│ cells: performance │    0 │       1 │      1 │        0 │  2 │" in only_a


def test_status_tells_of_claims_whose_check_has_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = Path(paths.claims_of("simplex"))
    table.parent.mkdir(parents=True)
    said = "the check failed: ZeroDivisionError: by zero (simplex_checks.py, line 9)"
    lines = ["paper,claim,experiment,observed", f'B,C2,one,"{said}"', "B,C3,one,few connectors"]
    table.write_text("\n".join(lines) + "\n")
    plan = make_plan(config.load(TWO), nothing)
    text = " ".join(printed(report.status, plan).split())
    assert f"failed: {table}: claim C2 on 'one': {said}" in text
    assert "C3" not in text
    assert "C2" not in printed(lambda p, c: report.status(p, c, stale={str(table)}), plan)


def test_disk_of_vertices() -> None:
    """Every vertex is a file of P float32 numbers."""
    chosen = [
        (Simplex(connectors=3), 3),
        (Simplex(connectors=3, repeats=2), 6),
        (Simplex(complex=[["w0", "c0"], ["w1", "c0", "c1"]]), 2),
        (SimplexVolume(connectors=4, regularisations=[0.0, 0.1]), 3 * 2 * 4),
        (SimplexVolume(connectors=4, regularisations=[0.1], repeats=2), 3 * 4 * 2),
        (Espro(vertices=2), 2 * 5),
        (Cka(), 0),
    ]
    cell = Cell(DataPart(source="digits"), ModelPart(builder="mlp", width=4, depth=1), Recipe())
    planned = PlannedCell(cell, seeds=[0, 1, 2, 3, 4])
    for asked, count in chosen:
        assert vertices_bytes(planned, asked) == count * 4 * (64 * 4 + 4 + 4 * 10 + 10)


def test_longest_and_largest_jobs_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(config.load(TWO), nothing)
    weights = paths.weights(plan.experiments["a"][0], "0-1")
    Path(weights).parent.mkdir(parents=True)
    Path(weights).touch()
    Path(paths.history(plan.experiments["a"][0], "0-1")).touch()

    def told(stale: frozenset[str]) -> tuple[list[str], list[str]]:
        console = Console(file=io.StringIO(), width=200)
        report.plan(plan, console, stale=stale)
        lines = console.file.getvalue().splitlines()
        return next(row for line in lines if (row := line.split())[:1] == ["a"]), lines

    row, lines = told(frozenset())
    # Blocks 0-1, 0-2 and 3; performance of one cell, performance and cka of the other.
    assert row[3:5] == ["6", "5"]
    wide = plan.experiments["b"][1]
    longest = next(line for line in lines if line.startswith("Longest job on one CPU core: "))
    assert f"training of {wide}, about" in longest
    assert any(line.startswith("Largest job: ") for line in lines)
    assert told(frozenset({weights}))[0][3:5] == ["6", "6"]


def test_jobs_beyond_the_walltime_say_how_often_they_go_on() -> None:
    console = Console(file=io.StringIO(), width=200)
    report.plan(make_plan(config.load({**TWO, "walltime": 1e-3}), nothing), console)
    assert "beyond `walltime` (0.001 h): it saves itself, and goes on" in console.file.getvalue()


def test_disk_of_recorded_paths() -> None:
    """What is planned is what the recorder makes; a Gram matrix is symmetric, and half is zeros."""
    from lossatlas import models
    from lossatlas.training.recorder import Recorder

    recipe = Recipe(epochs=2, batch_size=64, record=Recording(length=30, stride=5))
    part = ModelPart(builder="mlp", width=4, depth=1)
    cell = Cell(DataPart(source="digits"), part, recipe)
    module = models.build("mlp", part.arguments, num_classes=10, in_channels=1, image_size=8)
    sizes = [p.numel() for p in module.parameters()]
    steps = recipe.steps(1438)
    flat = torch.zeros(1, sum(sizes))
    recorder = Recorder(recipe.record, steps, 2, flat, {}, sizes, resumes=False)
    for _ in range(steps):
        recorder.step(flat, flat, torch.zeros(1))
    recorder.finish(flat)
    made = recorder.arrays(recipe, [0.1, 0.1])
    gram = made["path_gram"].values.nbytes
    size = 3 * (sum(array.values.nbytes for array in made.values()) - gram / 2)
    planned = PlannedCell(cell, seeds=[0, 1, 2])
    assert size < paths_bytes(planned) < 1.2 * size
    console = Console(file=io.StringIO(), width=200)
    plan = Plan(config.load(TWO), {cell.id: planned}, {"e": [cell.id]})
    report.plan(plan, console)
    both = prune.size_in_words(paths_bytes(planned) + (weights_bytes(planned) or 0))
    assert both in console.file.getvalue()
    plain = Cell(cell.data, cell.model, Recipe())
    assert paths_bytes(PlannedCell(plain, seeds=[0])) == 0
