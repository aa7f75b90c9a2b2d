"""What was measured: constants that are found again, hours that follow, files that do not hold."""

import io
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from lossatlas import calibrate, device, report
from lossatlas.errors import UserError
from lossatlas.spec import calibration, sizes
from lossatlas.spec.calibration import Calibration, Case, Row
from lossatlas.spec.config import load
from lossatlas.spec.cost import GPU, LAPTOP, job_hours, training_hours
from lossatlas.spec.plan import Plan, make_plan
from lossatlas.spec.sizes import images_of, multiplications, parameter_count
from small_config import SMALL, changed

PLANTED = [3e-3, 5e-4, 2e-8, 4e-11, 3e-9]
HERE = {"asked": "", "torch": "2.11.0", "threads": 1, "cpu": "a processor"}


def row(kind: calibration.Kind, seconds: float = 0.0, **given: Any) -> Row:
    one = {"group": "g", "replicas": 1, "images": 64, "parameters": 1000, "depth": 0.0}
    return Row(kind, seconds=seconds, **{**one, "multiplications": 50_000, **given})


def planned(raw: dict[str, Any] = SMALL) -> Plan:
    return make_plan(load({**raw, "name": "one"}), lambda _: [])


def measured(plan: Plan, seconds: float = 0.0) -> Calibration:
    """Return a calibration of a plan's networks whose passes take so long, and 1 s per 1e9 work."""
    rows = []
    for planned_ in plan.cells.values():
        cell = planned_.cell
        for kind in ("train", "gradient", "product", "evaluate"):
            for images in (16, 64, 1024):
                one = Row(
                    kind,
                    calibration.group_of(cell),
                    1,
                    images,
                    parameter_count(cell) or 0,
                    multiplications(cell) or 0,
                    0.0,
                    seconds + images * (multiplications(cell) or 0) / 1e9,
                )
                rows.append(one)
    return Calibration("a processor", "cpu", 1, "2.11.0", "2026-01-01 00:00 UTC", 1.5, rows)


def test_planted_constants_are_found() -> None:
    rows = [
        row("train", replicas=g, images=b, parameters=p, multiplications=w, depth=d)
        for g in (1, 3)
        for b in (16, 256)
        for p, w, d in ((3000, 9000, 2), (45_000, 150_000, 8), (180_000, 400_000, 20))
    ]
    told = [
        replace(one, seconds=math.fsum(a * x for a, x in zip(PLANTED, one.features(), strict=True)))
        for one in rows
    ]
    assert calibration.fit(told) == pytest.approx(PLANTED, rel=1e-6)


def test_noise_of_a_shared_machine_moves_them_little() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = [row("train", images=b, parameters=p, multiplications=50 * p)
            for b in (16, 64, 256) for p in (1000, 30_000, 900_000)]  # fmt: skip
    exact = [1e-3 + 1e-10 * one.features()[3] for one in rows]
    noisy = [
        replace(one, seconds=s * (1 + 0.2 * float(torch.rand((), generator=draw))))
        for one, s in zip(rows, exact, strict=True)
    ]
    found = calibration.fit(noisy)
    for one, s in zip(rows, exact, strict=True):
        got = math.fsum(a * x for a, x in zip(found, one.features(), strict=True))
        assert 0.9 < got / s < 1.4
    with pytest.raises(ValueError, match="nothing was measured"):
        calibration.fit([])


def test_hours_follow_from_what_was_measured() -> None:
    plan = planned()
    found = measured(plan, seconds=0.01)
    one = next(iter(plan.cells.values()))
    work = multiplications(one.cell) or 0
    batch = one.cell.recipe.batch_size
    steps = -(-images_of(one) // batch) * 2
    each = 0.01 + batch * work / 1e9
    assert training_hours(one, found) == pytest.approx(2 * (steps * each + 1.5) / 3600)
    metric = plan.config.metric("cka")
    passes = [(c, 0.01 + images * work / 1e9) for c, _, images in metric.passes(one)]
    seconds = sum(count * time for count, time in passes)
    assert job_hours(one, metric, found) == pytest.approx((seconds + 1.5) / 3600)


def test_beyond_what_was_measured_the_estimate_scales() -> None:
    plan = planned(changed("experiments.grid.load.width", [2, 4]))
    found = measured(plan)
    wide = planned(changed("experiments.grid.load.width", [2, 4, 128]))
    assert found.beyond(plan) == []
    assert found.beyond(wide) == ["resnet18 on digits"]
    one = list(wide.cells.values())[-1]
    work, size = multiplications(one.cell) or 0, parameter_count(one.cell) or 0
    assert size > 1e7
    nearest = max(found.rows, key=lambda row: row.work)
    known = LAPTOP.estimate(6 * nearest.work, nearest.parameters, 0)
    expected = nearest.seconds * LAPTOP.estimate(6 * 64 * work, size, 0) / known
    assert found.seconds(one, 6, 64) == pytest.approx(expected)
    assert "Beyond the networks that were measured" in printed(wide, measured=found, times="x")


def test_passes_of_other_operations_are_like_the_nearest() -> None:
    plan = planned()
    found, one = measured(plan), next(iter(plan.cells.values()))
    assert found.seconds(one, 8, 64) == pytest.approx(8 / 6 * (found.seconds(one, 6, 64) or 0))
    assert found.seconds(one, 20, 64) == pytest.approx(20 / 12 * (found.seconds(one, 12, 64) or 0))


def printed(plan: Plan, **given: Any) -> str:
    stream = io.StringIO()
    report.plan(plan, Console(file=stream, width=200), **given)
    return stream.getvalue()


def test_the_plan_says_what_its_hours_rest_on() -> None:
    plan = planned()
    text = printed(plan)
    assert "Times: estimated: no calibration (snakemake calibrate)" in text
    assert "CPU h and GPU h are alternatives" in text
    found = measured(plan, seconds=60.0)  # so that hours are many
    text = printed(plan, measured=found, times="measured on a processor, today")
    assert "Plan of one (hours of jobs on a processor)" in text
    assert "Times: measured on a processor, today" in text
    assert "CPU h" not in text
    hours = sum(report._hours(plan, cell, found) for cell in plan.cells.values())
    (line,) = [one for one in text.splitlines() if "all, shared cells once" in one]
    assert float(line.split()[-1].replace(",", "")) == pytest.approx(hours, rel=0.04)
    assert "Longest job on a processor" in text


def test_what_was_not_measured_is_estimated_and_told() -> None:
    found = measured(planned())
    other = planned({**SMALL, "models": {"resnet18": {"builder": "mlp", "width": 4}},
                     "experiments": {"grid": {**SMALL["experiments"]["grid"],
                                              "load": {"width": [2, 4]}}}})  # fmt: skip
    one = next(iter(other.cells.values()))
    assert found.seconds(one, 6, 16, 1) == LAPTOP.seconds(one, 6, 16, 1)
    on_gpu = replace(found, kind="cuda")
    assert on_gpu.seconds(one, 6, 16, 1) == GPU.seconds(one, 6, 16, 1)
    text = printed(other, measured=found, times="measured")
    assert "Not measured but estimated: mlp on digits (snakemake calibrate)" in text


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    found = measured(planned())
    path.write_text(found.text())
    assert calibration.read(path) == found
    held, told = calibration.find(path, **HERE)
    assert held == found
    assert told == "measured on a processor, 2026-01-01 00:00 UTC"
    assert calibration.find(tmp_path / "none.json", **HERE) == (None, calibration.NO_FILE)


def without(key: str) -> Any:
    return lambda found: found.pop(key)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda found: found.update(schema=0), "is of schema 0, and not 1"),
        (without("schema"), "is of schema None"),
        (without("rows"), "is damaged: KeyError"),
        (without("device"), "is damaged: TypeError"),
        (lambda found: found.update(rows=[]), "is damaged: ValueError: times are not positive"),
        (lambda found: found["rows"][0].update(seconds=-1.0), "times are not positive"),
        (lambda found: found["rows"][0].update(seconds="long"), "is damaged"),
        (lambda found: found["rows"][0].update(more=1), "is damaged: TypeError"),
        (lambda found: found.update(start=float("nan")), "times are not positive"),
    ],
)
def test_a_damaged_file_is_one_line_and_no_calibration(
    tmp_path: Path, damage: Any, says: str
) -> None:
    path = tmp_path / "calibration.json"
    content = json.loads(measured(planned()).text())
    damage(content)
    path.write_text(json.dumps(content))
    held, told = calibration.find(path, **HERE)
    assert held is None
    assert told.startswith(f"estimated: {path}: ")
    assert says in told
    assert "\n" not in told


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", '{"schema": 1, "rows": 3}'])
def test_what_is_no_calibration(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    held, told = calibration.find(path, **HERE)
    assert held is None
    assert "is damaged" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("here", "says"),
    [
        ({"asked": "cuda:0"}, "on a processor, and LOSSATLAS_DEVICE is cuda:0"),
        ({"torch": "2.12.0"}, "with torch 2.11.0, and this is 2.12.0"),
        ({"threads": 2}, "with 1 threads, and jobs have 2"),
        ({"cpu": "another"}, "on a processor, and this is another"),
        ({"asked": "cpu", "torch": "2.11.0+cpu", "cpu": ""}, ""),
        ({"torch": ""}, ""),
    ],
)
def test_a_calibration_of_another_place_does_not_hold(
    tmp_path: Path, here: dict[str, Any], says: str
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(measured(planned()).text())
    held, told = calibration.find(path, **{**HERE, **here})
    assert (held is None) == bool(says)
    assert says in told
    assert told.startswith("estimated: " if says else "measured on ")


def test_cases_are_the_ends_of_the_grid() -> None:
    raw = changed("experiments.grid.load.width", [1, 2, 4, 8, 16])
    cases = calibration.cases(planned(raw))
    trained = {(case.spec["model"]["width"], case.images) for case in cases if case.kind == "train"}
    assert trained == {(w, b) for w in (1, 4, 16) for b in (16, 64)}
    for kind in ("product", "evaluate", "gradient"):
        widths = {case.spec["model"]["width"] for case in cases if case.kind == kind}
        assert widths == {1, 16}
    assert len(cases) == len({json.dumps(asdict(case)) for case in cases})


def test_a_tiny_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    device.choose.cache_clear()
    monkeypatch.setenv("LOSSATLAS_DEVICE", "cpu")
    monkeypatch.setattr(calibrate, "start_seconds", lambda _: 0.5)
    monkeypatch.setattr(calibrate, "BLOCK", 1e-3)
    plan = planned(changed("models.resnet18", {"builder": "mlp", "depth": 1}))
    cases = [case for case in calibration.cases(plan) if case.spec["model"]["width"] == 2]
    found = calibrate.calibrate([asdict(case) for case in cases], plan, 1, warm=True)
    assert {one.kind for one in found.rows} == {"train", "gradient", "product", "evaluate"}
    assert all(0 < one.seconds < 10 and one.peak_bytes > 1e7 for one in found.rows)
    assert (found.kind, found.start) == ("cpu", 0.5 + calibrate.SHARE)
    assert calibration.fit(found.rows)
    device.choose.cache_clear()


def test_what_does_not_fit_into_memory_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> float:
        raise MemoryError

    monkeypatch.setattr(calibrate.Bench, "seconds", refuse)
    case = calibration.cases(planned())[0]
    assert calibrate._measured(calibrate.Bench(torch.device("cpu")), case) is None
    assert "not measured, out of memory: train of digits-resnet18-w2" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^calibrate: nothing could be measured \(see the log\)"):
        calibrate.calibrate([asdict(case)], planned(), 1, warm=True)


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels, image_size, hidden=8):
        pixels = in_channels * image_size**2
        super().__init__(nn.Flatten(), nn.Linear(pixels, hidden), nn.Linear(hidden, num_classes))
"""


def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Plan:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sizes, "_known", {})
    raw = changed("models.resnet18", {"builder": f"{name}:Net"})
    raw["experiments"]["grid"]["load"] = {"model.hidden": [8, 16]}
    return planned(raw)


def test_users_networks_are_counted_by_building_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = own(tmp_path, monkeypatch, "counted_net", NET)
    assert calibration.unknown(plan)
    assert "?: networks of your own" in printed(plan)
    counts = calibrate.count_own(plan)
    expected = {(64 * h + h + 10 * h + 10, 64 * h + 10 * h) for h in (8, 16)}
    assert set(counts.values()) == expected
    assert not calibration.unknown(plan)
    assert "?" not in printed(plan).replace("alternatives", "")
    monkeypatch.setattr(sizes, "_known", {})
    Calibration("a", "cpu", 1, "2", "x", 1.0, [], counts).use()
    assert not calibration.unknown(plan)


def test_a_network_that_cannot_be_built_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = NET.replace("pixels, hidden", "pixels + 1, hidden")
    plan = own(tmp_path, monkeypatch, "broken_net", broken)
    assert calibrate.count_own(plan) == {}
    said = capsys.readouterr().err.splitlines()
    assert said
    assert all(line.startswith("lossatlas: not counted: ") for line in said)
    assert "?: networks of your own" in printed(plan)


def test_the_start_of_a_job_is_timed() -> None:
    assert 0.001 < calibrate.start_seconds("pass") < 5
    assert Case("train", {}, 1, 1).threads == 1
