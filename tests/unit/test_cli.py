"""The command line: a researcher's own checkpoint, differences, and one line for mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cli_cases
from lossatlas import models, paths, store
from lossatlas.cli import main
from lossatlas.differences import differences
from parts import frame

torch.set_num_threads(1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, two checkpoints in both formats, and data."""
    return cli_cases.enter(tmp_path, monkeypatch)


MODEL = ["--model", "cli_net:Net", "--data", "data.npz"]


@pytest.mark.parametrize(
    ("name", "settings", "scalar"),
    [
        ("performance", [], "test_accuracy"),
        ("hessian", ["samples=40", "density_probes=0"], "hessian_eigenvalue"),
        ("cka", ["samples=40", "batch_size=20"], "cka"),
        ("distance", [], "l2_distance"),
        ("connectivity", ["epochs=2", "points=3"], "mode_connectivity"),
    ],
)
def test_every_metric_runs(here: Path, name: str, settings: list[str], scalar: str) -> None:
    chosen = ["--set", *settings] if settings else []
    files = ["--checkpoint", "0.pt", "1.safetensors"]
    assert main(["metric", name, *files, *MODEL, *chosen, "--out", "o.h5"]) == 0
    record = store.read(here / "o.h5", name)
    values = [s.value for s in record.scalars if s.name == scalar]
    assert values
    assert np.isfinite(values).all()


def test_a_model_beside_the_user_is_found(here: Path) -> None:
    """As the installed command runs: Python itself does not look into the working folder."""
    command = [sys.executable, "-P", "-m", "lossatlas", "metric", "performance"]
    environment = {**os.environ, "PYTHONPATH": str(paths.LIBRARY.parent)}
    done = subprocess.run(
        [*command, "--checkpoint", "0.pt", *MODEL], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "test_accuracy" in done.stdout


def test_both_formats_hold_the_same(here: Path) -> None:
    for out, file in (("a.h5", "0.pt"), ("b.h5", "0.safetensors")):
        assert main(["metric", "performance", "--checkpoint", file, *MODEL, "--out", out]) == 0
    found = differences(here / "a.h5", here / "b.h5")
    assert [line.split(":")[0] for line in found] == ["/@provenance"]


WRAPPED = {
    "plain": (lambda state: state, "cli_net:Net"),
    "a dictionary": (lambda state: {"state_dict": state, "epoch": 3}, "cli_net:Net"),
    "DataParallel": (lambda state: {f"module.{k}": t for k, t in state.items()}, "cli_net:Net"),
    "compiled": (lambda state: {f"_orig_mod.{k}": t for k, t in state.items()}, "cli_net:Net"),
    "both": (lambda state: {f"module._orig_mod.{k}": t for k, t in state.items()}, "cli_net:Net"),
    "its own": (lambda state: {f"module.{k}": t for k, t in state.items()}, "cli_net:Holder"),
}


@pytest.mark.parametrize("shape", WRAPPED)
def test_checkpoints_of_wrapped_networks(here: Path, shape: str) -> None:
    wrap, model = WRAPPED[shape]
    torch.save(wrap(torch.load(here / "0.pt", weights_only=True)), here / "wrapped.pt")
    command = ["metric", "performance", "--data", "data.npz"]
    assert main([*command, "--checkpoint", "0.pt", *MODEL, "--out", "a.h5"]) == 0
    chosen = ["--checkpoint", "wrapped.pt", "--model", model]
    assert main([*command, *chosen, "--out", "b.h5"]) == 0
    found = differences(here / "a.h5", here / "b.h5")
    assert {line.split(":")[0] for line in found} <= {"/@provenance", "/@spec"}


def saved(here: Path, model: str, **arguments: object) -> torch.nn.Module:
    """Save a network of another seed as own.pt, and return it."""
    torch.manual_seed(7)
    shape = {"num_classes": 10, "in_channels": 1, "image_size": 8}
    net = models.build(model, arguments, **shape)
    torch.save(net.state_dict(), here / "own.pt")
    return net


def performance(here: Path, file: str, model: str = "cli_net:Net") -> dict[str, float]:
    command = ["metric", "performance", "--data", "data.npz", "--out", "o.h5"]
    assert main([*command, "--checkpoint", file, "--model", model]) == 0
    rows = store.read(here / "o.h5").scalars
    return {row.name: row.value for row in rows}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_checkpoints_of_another_precision(here: Path, dtype: torch.dtype) -> None:
    state = torch.load(here / "0.pt", weights_only=True)
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    torch.save(cast, here / "cast.pt")
    torch.save({n: t.to(state[n].dtype) for n, t in cast.items()}, here / "back.pt")
    assert performance(here, "cast.pt") == performance(here, "back.pt")


def test_an_average_of_weights(here: Path) -> None:
    """As torch.optim.swa_utils saves it."""
    state = torch.load(here / "0.pt", weights_only=True)
    count = {"n_averaged": torch.tensor(3)}
    torch.save(count | {f"module.{n}": t for n, t in state.items()}, here / "swa.pt")
    assert performance(here, "swa.pt") == performance(here, "0.pt")


def test_tied_tensors_under_any_name_and_buffers_of_no_file(here: Path) -> None:
    from safetensors.torch import save_model

    net = saved(here, "cli_net:Shapes")
    save_model(net, here / "once.safetensors")
    state = net.state_dict()
    assert "shift" not in state
    save_file({n: t.clone() for n, t in state.items() if n != "a.weight"}, here / "b.safetensors")
    expected = performance(here, "own.pt", "cli_net:Shapes")
    assert np.isfinite(list(expected.values())).all()
    for file in ("once.safetensors", "b.safetensors"):
        assert performance(here, file, "cli_net:Shapes") == expected


def test_repeated_options_add_up(here: Path) -> None:
    saved(here, "cli_net:Net", hidden=5)
    few = ["--set", "samples=9", "--set", "eigenvalues=2", "--set", "density_probes=0"]
    files = ["--checkpoint", "0.pt", "--checkpoint", "1.pt"]
    assert main(["metric", "hessian", *files, *MODEL, *few, "--out", "o.h5"]) == 0
    record = store.read(here / "o.h5")
    assert (record.settings["samples"], record.settings["eigenvalues"]) == (9, 2)
    assert record.arrays["seeds"].values.tolist() == [0, 1]
    both = ["--arg", "hidden=5", "--arg", "num_classes=10"]
    says_nothing = ["metric", "performance", "--checkpoint", "own.pt", *MODEL]
    assert main([*says_nothing, "--arg", "hidden=5"]) == 0
    assert main([*says_nothing, *both]) == 1  # the data say how many classes there are


HELD_OUT = """
import torch
from lossatlas.data.tensors import Split, TensorData


def splits():
    draw = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 1, 8, 8, generator=draw) for n in (40, 20, 10)]
    three = [Split(x, torch.arange(len(x)) % 10) for x in images]
    return TensorData("mine", *three[:2], 10, three[2])
"""


def test_ensembles_of_simplexes_on_ones_own_data(here: Path, capsys) -> None:
    (here / "cli_data.py").write_text(HELD_OUT)
    command = ["metric", "espro", "--checkpoint", "0.pt", "1.pt", "--model", "cli_net:Net"]
    small = ["--set", "epochs=1", "vertices=1", "draws=2", "cycles=0"]
    says(capsys, [*command, "--data", "data.npz", *small], "--data: no training images are held")
    assert main([*command, "--data", "cli_data:splits", *small, "--out", "o.h5"]) == 0
    assert store.read(here / "o.h5").scalar("mode_disagreement").status == "ok"


def test_ctrl_c(here: Path, capsys, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "read", stop)
    assert main(["show", "a.h5"]) == 130
    assert capsys.readouterr().err == "lossatlas: interrupted\n"


def test_values_equal_a_plain_evaluation(here: Path) -> None:
    assert main(["metric", "performance", "--checkpoint", "0.pt", *MODEL, "--out", "o.h5"]) == 0
    data = np.load(here / "data.npz")
    net = models.build("cli_net:Net", {}, num_classes=10, in_channels=1, image_size=8).eval()
    net.load_state_dict(torch.load(here / "0.pt", weights_only=True))
    train = data["train_images"] / 255
    images = torch.tensor((data["test_images"] / 255 - train.mean()) / train.std()).float()
    right = net(images.permute(0, 3, 1, 2)).argmax(1).numpy() == data["test_labels"]
    value = store.read(here / "o.h5").scalar("test_accuracy").value
    assert value == pytest.approx(100 * right.mean())


PLANE = ["plane", "--model", "cli_net:Net", "--data", "data.npz", "--points", "5"]


def third(here: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, here / "2.pt")


def test_plane_through_three_checkpoints(here: Path) -> None:
    torch.manual_seed(2)
    net = models.build("cli_net:Net", {}, num_classes=10, in_channels=1, image_size=8)
    third(here, net.state_dict())
    given = ["--checkpoint", "0.pt", "--checkpoint", "1.safetensors", "--checkpoint", "2.pt"]
    assert main([*PLANE, *given, "-o", "plane.h5", "plane.png"]) == 0
    record = store.read(here / "plane.h5", "plane")
    columns = frame(record, "plane", plane="w0 w1 w2")
    assert len(columns["loss"]) == 25
    # A corner is its checkpoint, with BatchNorm statistics of the training images.
    data = np.load(here / "data.npz")
    images = torch.from_numpy(data["train_images"]).permute(0, 3, 1, 2).float() / 255
    images = (images - images.mean()) / images.std(correction=0)
    net.norm.momentum = None
    net.norm.reset_running_stats()
    with torch.no_grad():
        net.train()(images)
        logits = net.eval()(images)
    labels = torch.from_numpy(data["train_labels"])
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    found = {s.replica: s.value for s in record.scalars if s.name == "corner_loss"}
    assert found[2] == pytest.approx(expected, rel=1e-5)
    assert sorted(found) == [0, 1, 2]
    inside = columns["inside"] > 0
    assert record.scalar("inside_loss_max").value == columns["loss"][inside].max()
    assert record.scalar("outside_loss_max").value == columns["loss"][~inside].max()
    assert (here / "plane.png").read_bytes()[:4] == b"\x89PNG"


def test_planes_that_do_not_exist(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = [torch.load(here / f"{seed}.pt", weights_only=True) for seed in (0, 1)]
    middle = {
        name: (one + states[1][name]) / 2 if one.is_floating_point() else one
        for name, one in states[0].items()
    }
    third(here, middle)
    three = ["--checkpoint", "0.pt", "1.pt", "2.pt"]
    for arguments, text in (
        ([*three, "-o", "a.h5"], "the three points lie on one line"),
        (["--checkpoint", "0.pt", "1.pt", "0.pt", "-o", "a.h5"], "lie on one line"),
        (["--checkpoint", "0.pt", "1.pt", "-o", "a.h5"], "three checkpoints; 2 given"),
        ([*three, "-o", "a.txt"], "'a.txt' is of no known format"),
        ([*three, "-o", "a.h5", "--points", "1"], "--points: 1 is too few"),
        ([*three, "-o", "a.h5", "--images", "0"], "--images: 0 is too few"),
    ):
        says(capsys, [*PLANE, *arguments], text)
    assert not (here / "a.h5").exists()


def says(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert text in printed, printed
    assert printed.startswith("lossatlas: ")
    assert printed.count("\n") == 1


HESSIAN = ["metric", "hessian", "--checkpoint", "0.pt"]
PAPER_CURVE = ["metric", "connectivity", "--checkpoint", "0.pt", *MODEL, "--set", "mode=paper"]
BAD = [
    (["metric", "hesian", "--checkpoint", "0.pt", *MODEL], "did you mean 'hessian'?"),
    (["metric", "cka", "--checkpoint", "0.pt", *MODEL], "'cka' compares checkpoints; 1 given"),
    (["metric", "hessian", "--checkpoint", "9.pt", *MODEL], "9.pt: no such file"),
    (["metric", "hessian", "--checkpoint", "cli_net.py", *MODEL], "not a file of tensors"),
    (
        [*HESSIAN, *MODEL, "--set", "sample=3"],
        "no setting 'sample' (did you mean 'samples'?)",
    ),
    ([*HESSIAN, *MODEL, "--set", "samples"], "not KEY=VALUE"),
    ([*HESSIAN, *MODEL, "--arg", "hidden=5"], "has shape"),
    ([*HESSIAN, *MODEL, "--arg", "hide=5"], "refuses its"),
    (
        [*HESSIAN, "--model", "cli_net:Ned", "--data", "data.npz"],
        "'cli_net' has no 'Ned' (did you mean 'Net'?)",
    ),
    (
        [*HESSIAN, "--model", "resnet", "--data", "data.npz"],
        "unknown model 'resnet' (did you mean 'resnet18'?",
    ),
    (
        [*HESSIAN, "--model", "nowhere:x", "--data", "data.npz"],
        "no module named 'nowhere'",
    ),
    (
        [*HESSIAN, "--model", "cli_net:number", "--data", "digits"],
        "cli_net:number: is a int, not a builder",
    ),
    (
        [*HESSIAN, "--model", "cli_net:broken", "--data", "digits"],
        "refuses its arguments: ValueError: no (cli_net.py, line ",
    ),
    (
        [*PAPER_CURVE, "bends=0"],
        "lossatlas: --set: bends: Input should be greater than or equal to 1",
    ),
    (
        [*PAPER_CURVE, "start=linear"],
        "lossatlas: --set: mode 'paper' has 'start: random'; leave 'start' out",
    ),
    (
        [
            "metric",
            "hessian",
            "--checkpoint",
            "0.pt",
            "--model",
            "cli_net:Pair",
            "--data",
            "data.npz",
        ],
        "model Pair: forward returns a tuple",
    ),
    (["diff", "gone.h5", "gone.h5"], "gone.h5: no such file"),
    (["show", "data.npz"], "data.npz: is no result (give an .h5 file"),
    (["diff", "0.pt", "1.pt"], "0.pt: is no result"),
    (["metric", "diffusion", "--checkpoint", "9.pt", *MODEL], "needs the path of training"),
    (["train", "--spec", "gone", "--data", "d.h5", "--out", "o"], "gone: cannot be read"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD)
def test_mistakes(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    says(capsys, arguments, text)


CELL = {"version": 1, "data": {"source": "digits"}, "model": {"builder": "mlp"}, "recipe": {}}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (None, "cell.yaml: is no cell's specification"),
        ([1], "cell.yaml: is no cell's specification"),
        ({"version": 1}, "cell.yaml: is no cell's specification: 'data'"),
        ({**CELL, "version": 7}, "specification of version 7, not 1"),
        ({**CELL, "data": {"fractoin": 1}}, "cell.yaml: fractoin: Extra inputs"),
        ({**CELL, "recipe": {"batch_size": 4000}}, "batch_size 4000 is more than the 1437"),
        ({**CELL, "model": {"builder": "resnet18", "width": 0}}, "width is 0"),
    ],
)
def test_a_spec_that_cannot_be_trained(
    here: Path, capsys: pytest.CaptureFixture[str], spec: object, text: str
) -> None:
    Path("cell.yaml").write_text(json.dumps(spec), encoding="utf-8")
    says(capsys, ["train", "--spec", "cell.yaml", "--data", "d.h5", "--out", "o"], text)


def test_a_pickle_that_executes_code_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {here}/executed",)

    (here / "hostile.pt").write_bytes(pickle.dumps({"weight": Hostile()}, 2))
    torch.save({"weight": Hostile()}, here / "hostile2.pt")
    for file in ("hostile.pt", "hostile2.pt"):
        says(capsys, ["metric", "hessian", "--checkpoint", file, *MODEL], "not a file of tensors")
    assert not (here / "executed").exists()


def test_diff_and_show(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a.h5", 1.0), ("b.h5", 2.0)):
        store.write(name, store.Record("cka", [store.Scalar("cka", value, 0, 1)]))
    assert main(["diff", "a.h5", "a.h5"]) == 0
    assert "equal" in capsys.readouterr().out
    assert main(["diff", "a.h5", "b.h5"]) == 1
    assert "/scalars value: 1 of 1 values differ, largest 1" in capsys.readouterr().out
    assert main(["show", "a.h5"]) == 0
    assert "cka" in capsys.readouterr().out
    parts = {
        "series": [store.Series("msd", np.ones(3), np.ones(3), "lag", 4, index={"window": 480})],
        "tables": [store.Table("plane", {"u": [1, 2], "loss": [0.5, 1]}, index={"plane": "w0 c0"})],
    }
    store.write("c.h5", store.Record("any", **parts))
    assert main(["show", "c.h5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "series msd window=480 4: 3 points over lag" in said
    assert "table plane plane=w0 c0: 2 rows of u, loss" in said
