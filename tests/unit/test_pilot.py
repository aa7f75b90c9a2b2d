"""Pilots: two cells of each experiment, one epoch; what they took against what the run asks for."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from lossatlas import paths, pilot, report, store
from lossatlas.errors import UserError
from lossatlas.paths import PROJECT
from lossatlas.pilot import Step
from lossatlas.spec import needs
from lossatlas.spec.config import load
from lossatlas.spec.plan import Plan, make_plan
from small_config import SMALL

CONFIGS = sorted(PROJECT.glob("config/*.yaml"))
GRID = {
    **SMALL,
    "name": "one",
    "recipes": {"short": {"epochs": 20, "decay_epochs": [10], "warmup_steps": 5}},
    "experiments": {
        "grid": {
            **SMALL["experiments"]["grid"],
            "load": {"width": [8, 2, 4]},
            "metrics": ["performance", "cka", "connectivity", "hessian"],
        }
    },
}


def both(raw: dict[str, Any]) -> tuple[Plan, Plan]:
    """Return the plans of a config's pilot, and of the config."""
    small, whole = load({**raw, "pilot": True}), load(raw)
    return make_plan(small, lambda _: []), make_plan(whole, lambda _: [])


def test_two_cells_of_each_experiment_for_one_epoch() -> None:
    small, whole = both(GRID)
    chosen = [(c.cell.model.arguments["width"], c.cell.recipe.batch_size)
              for c in small.cells.values()]  # fmt: skip
    assert chosen == [(8, 16), (2, 64)]  # in the order of the grid; the dearest, the cheapest
    for one in small.cells.values():
        assert (one.cell.recipe.epochs, one.cell.recipe.decay_epochs) == (1, [])
        assert one.seeds == [0, 1]
        assert one.metrics == GRID["experiments"]["grid"]["metrics"]
    curves, asked = (plan.config.metric("connectivity").model_dump() for plan in (small, whole))
    assert curves == {**asked, "epochs": 1}
    assert small.config.metric("hessian") == whole.config.metric("hessian")
    assert small.config.figures == {}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_has_a_pilot(path: Path) -> None:
    raw = {**yaml.safe_load(path.read_text()), "name": "one"}
    small, whole = both(raw)
    assert small.experiments.keys() == whole.experiments.keys()
    for name, cells in small.experiments.items():
        assert len(cells) == min(2, len(whole.experiments[name]))
        assert small.config.experiments[name].metrics == whole.config.experiments[name].metrics
    for one, real in pilot._pairs(small, whole).values():
        assert one.cell.model == real.cell.model
        assert one.cell.data == real.cell.data
        assert one.cell.recipe.batch_size == real.cell.recipe.batch_size
        assert one.cell.recipe.epochs <= real.cell.recipe.epochs
    trained = [sum(len(c.seeds) * c.cell.recipe.epochs for c in plan.cells.values())
               for plan in (small, whole)]  # fmt: skip
    assert trained[0] < 0.2 * trained[1] or len(whole.cells) < 5


@pytest.mark.parametrize("word", ["maybe", 2, "1 epoch"])
def test_other_words_are_refused(word: Any) -> None:
    with pytest.raises(UserError, match=r"^pilot: .*true or false"):
        load({**GRID, "pilot": word})


def test_a_rehearsal_is_no_pilot() -> None:
    with pytest.raises(UserError, match=r"^rehearse: is a pilot as well \(choose one of the two\)"):
        load({**GRID, "pilot": True, "rehearse": True})
    with pytest.raises(UserError, match="'pilot' is taken in results/"):
        load({**GRID, "name": "pilot"})


@pytest.fixture
def piloting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    paths.use("one", pilot=True)
    yield
    paths.use(paths.DEFAULT)


def test_everything_but_data_lies_in_a_folder_of_its_own(piloting: None) -> None:
    own = [paths.cell("c"), paths.state("s"), paths.table("e"), paths.log("train", "c"),
           paths.calibration(), paths.accepted(), paths.lease("x")]  # fmt: skip
    assert all(path.startswith("results/pilot/") for path in own)
    assert paths.dataset("digits") == "results/data/digits.h5"
    assert paths.download("x.tar") == "results/downloads/x.tar"
    assert paths.rehearsing()  # what is drawn or tabulated says that it is no result


TIMES = {"seconds": 6.0, "peak_memory_bytes": 500e6}


def left(small: Plan, **times: Any) -> None:
    """Leave what a pilot's jobs write."""
    record = store.Record("any", times={**TIMES, **times})
    for cell, one in small.cells.items():
        for block in one.blocks:
            store.write(paths.history(cell, block), record)
        for name in one.metrics:
            store.write(paths.metric(cell, name), record)


RULES = dict.fromkeys(GRID["experiments"]["grid"]["metrics"], "metric")


def test_steps_are_worked_out_for_the_settings_of_the_run(piloting: None) -> None:
    small, whole = both(GRID)
    left(small)
    found = {(s.name, s.cell): s for s in pilot.steps(small, whole, RULES, {})}
    assert len(found) == 2 * 5
    cell = next(iter(small.cells))
    training = found["training", cell]
    assert training.minutes == pytest.approx(20 * 6 / 60)  # 20 epochs for one
    assert training.mb == pytest.approx(500)
    real = whole.cells[whole.experiments["grid"][0]]
    assert training.asked_mb == needs.training_mb(real, 1)
    assert training.asked_minutes == needs.training_minutes(real)
    assert found["performance", cell].minutes == pytest.approx(0.1)
    assert found["hessian", cell].minutes == pytest.approx(0.1)
    more = found["connectivity", cell].minutes / 0.1  # evaluations are as many as in the run
    assert 1.5 < more < whole.config.metric("connectivity").epochs
    assert all(step.verdict(24.0) == "fits" for step in found.values())
    assert pilot.report(list(found.values()), 24.0, Console(file=io.StringIO())) == []


def test_what_asks_for_too_little_is_one_line_each(piloting: None) -> None:
    small, whole = both(GRID)
    left(small, seconds=360.0, peak_memory_bytes=3e9)
    given = {"train_replicas": {"mem_mb": 4000}, "metric": {"runtime": 500}}
    found = pilot.steps(small, whole, RULES, given)
    stream = io.StringIO()
    lines = pilot.report(found, 24.0, Console(file=stream, width=120))
    cell = next(iter(small.cells))
    time = f"training of {cell} needs 2 h and asks for 30 min (set: --set-resources"
    assert f"{time} train_replicas:runtime=132)" in lines
    (size,) = [one for one in lines if one.startswith(f"performance of {cell}")]
    assert " needs 3 GB and asks for 2" in size
    assert size.endswith(" (set: --set-resources metric:mem_mb=3400)")
    assert len([one for one in lines if one.startswith("training")]) == 2  # memory was given
    assert len(lines) == 2 + 2 * 4
    assert stream.getvalue().count("asks for too little") == 10


def step(**given: Any) -> Step:
    one = {"name": "hessian", "cell": "c", "rule": "hessian", "seconds": 60.0, "peak_mb": 500.0}
    asks = {"minutes": 1.0, "mb": 500.0, "asked_minutes": 30, "asked_mb": 2000, "goes_on": True}
    return Step(**{**one, **asks, **given})


def test_what_is_longer_than_the_walltime_goes_on_or_is_refused() -> None:
    long = step(minutes=200.0, asked_minutes=60)
    assert long.verdict(1.0) == "goes on 3 times"
    assert list(long.lacks(1.0)) == []
    ((needed, fix),) = step(minutes=200.0, asked_minutes=60, goes_on=False).lacks(1.0)
    assert needed == "3.33 h and asks for 1 h"
    assert fix == "--config walltime=4, in a queue that gives it"


def test_a_time_that_is_not_known_is_no_time(piloting: None) -> None:
    """A metric that took up what an interrupted job had measured says nothing of its time."""
    small, whole = both(GRID)
    left(small, units=3, units_measured=1)
    found = pilot.steps(small, whole, RULES, {})
    measured = [one for one in found if one.name != "training"]
    assert all(math.isnan(one.minutes) and one.verdict(24.0) == "fits" for one in measured)


def test_a_record_that_is_missing_is_one_line(piloting: None) -> None:
    small, whole = both(GRID)
    with pytest.raises(UserError, match=r"^results/pilot/cells/.*: no such file"):
        pilot.steps(small, whole, RULES, {})


def test_plan_names_the_pilot() -> None:
    stream = io.StringIO()
    report.plan(both(GRID)[0], Console(file=stream, width=120))
    assert "Plan of the pilot of one" in stream.getvalue()
