"""A replica trained elsewhere becomes what training leaves; replicas of cells are read back."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lossatlas
from lossatlas import paths, store
from lossatlas.cli import main
from lossatlas.data.convert import convert
from lossatlas.errors import UserError
from lossatlas.measuring import measure_cell
from lossatlas.reading import Inputs
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.training import checkpoints
from lossatlas.training.adopt import adopt_replica
from lossatlas.training.job import train_block

torch.set_num_threads(1)

DATA = DataPart(source="digits", fraction=0.2)
CELL = Cell(DATA, ModelPart(builder="resnet18", width=1), Recipe(batch_size=16), "elsewhere")
MLP = Cell(DATA, ModelPart(builder="mlp", width=4, depth=1), Recipe(batch_size=16), "elsewhere")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSATLAS_DEVICE", "cpu")
    store.write(made(paths.dataset("digits")), convert("digits"))
    return tmp_path


def made(path: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return path


def network(cell: Cell = CELL, seed: int = 0, classes: int = 10) -> nn.Module:
    """A network that has seen some images, so that its statistics are no initial ones."""
    from lossatlas import models

    torch.manual_seed(seed)
    shape = {"num_classes": classes, "in_channels": 1, "image_size": 8}
    net = models.build(cell.model.builder, cell.model.arguments, **shape)
    net(torch.randn(32, 1, 8, 8))
    return net.eval()


def adopt(state: Any, cell: Cell = CELL, seed: int = 0, file: str = "a.pt", **more: Any) -> None:
    if state is not None:
        save_file(state, file) if file.endswith(".safetensors") else torch.save(state, file)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    given = {"file": file, "sha256": sha256, "dataset": paths.dataset("digits"), **more}
    weights, history = paths.weights(cell.id, str(seed)), paths.history(cell.id, str(seed))
    adopt_replica(cell.spec, seed, weights=weights, history=history, code="c", **given)


def refused(state: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        adopt(state, *given, **more)
    assert "\n" not in str(caught.value)
    assert not Path(paths.weights(CELL.id, "0")).exists()
    return str(caught.value)


def read(cell: Cell = CELL, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    files = [paths.weights(cell.id, str(seed))]
    return checkpoints.read_weights(files, [seed], "final", "pt", cell.digest)[seed]


def same(state: dict[str, Tensor], cell: Cell = CELL) -> bool:
    params, buffers = read(cell)
    both = {**params, **buffers}
    return both.keys() == state.keys() and all(torch.equal(both[n], t) for n, t in state.items())


def test_weights_are_those_of_the_file() -> None:
    state = network().state_dict()
    adopt({"epoch": 3, "model_state_dict": {f"module.{n}": t for n, t in state.items()}})
    assert same(state)  # running means and variances, too
    record = store.read(paths.history(CELL.id, "0"), "training")
    norm = sum(float((p.detach().double() ** 2).sum()) for p in network().parameters()) ** 0.5
    assert record.scalar("weight_norm").value == pytest.approx(norm, rel=1e-12)
    assert record.spec == CELL.spec
    sha256 = hashlib.sha256(Path("a.pt").read_bytes()).hexdigest()
    assert record.provenance["adopted"] == {"file": "a.pt", "sha256": sha256}
    assert Path(paths.cell_spec(CELL.id)).read_text().endswith("origin: elsewhere\n")
    adopt({n: t.clone() for n, t in state.items()}, file="b.safetensors")
    assert same(state)


def test_tensors_that_share_memory() -> None:
    state = network(MLP).state_dict()
    flat = torch.cat([t.flatten() for t in state.values()])
    views = dict(zip(state, flat.split([t.numel() for t in state.values()]), strict=True))
    adopt({name: t.view(state[name].shape) for name, t in views.items()}, MLP)
    assert same(state, MLP)
    state = network().state_dict()
    state["norm.bias"] = state["norm.running_mean"]
    adopt(state)
    assert same(state)


def test_numbers_are_those_of_plain_torch() -> None:
    """Loss and accuracy against the module itself, and against a trained cell's way of reading."""
    nets = {seed: network(CELL, seed) for seed in (0, 1)}
    for seed, net in nets.items():
        adopt(net.state_dict(), seed=seed)
    blocks = ("0", "1")
    weights = [paths.weights(CELL.id, block) for block in blocks]
    histories = [paths.history(CELL.id, block) for block in blocks]
    inputs = Inputs(weights, histories, paths.dataset("digits"))
    record = measure_cell("performance", {}, CELL.spec, [0, 1], inputs, "c")
    for seed, net in nets.items():
        one = lossatlas.load(CELL.id, seed)
        assert all(torch.equal(t, net.state_dict()[n]) for n, t in one.module.state_dict().items())
        with torch.no_grad():
            logits = net(one.data.test.images)
            assert torch.equal(one.module(one.data.test.images), logits)
            assert torch.equal(
                one.loss(logits, one.data.test.labels), cross_entropy(logits, one.data.test.labels)
            )
        found = {s.name: s.value for s in record.scalars if s.replica == seed}
        expected = float(cross_entropy(logits.double(), one.data.test.labels))
        assert found["test_loss"] == pytest.approx(expected, rel=1e-5)
        right = float((logits.argmax(1) == one.data.test.labels).double().mean())
        assert found["test_accuracy"] == pytest.approx(100 * right)
        assert len(one.data.train) == round(1437 * 0.2)


@pytest.mark.parametrize("name", ["stem.weight", "norm.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_have_diverged(name: str, value: float) -> None:
    state = network().state_dict()
    assert name in state, sorted(state)[:5]
    state[name].view(-1)[0] = value
    adopt(state)
    history = paths.history(CELL.id, "0")
    assert checkpoints.statuses([history]) == {0: "diverged"}
    assert store.read_about(history).status == "diverged"
    inputs = Inputs([paths.weights(CELL.id, "0")], [history], paths.dataset("digits"))
    record = measure_cell("performance", {}, CELL.spec, [0], inputs, "c")
    assert {s.status for s in record.scalars} == {"diverged"}
    assert lossatlas.load(CELL.id).status == "diverged"


def test_files_that_do_not_fit() -> None:
    state = network().state_dict()
    assert "a.pt: lacks the parameters 'stem.weight'" in refused({"x": torch.ones(1)})
    wide = network(Cell(DATA, ModelPart(builder="resnet18", width=2), Recipe(), "elsewhere"))
    assert "'stem.weight' has shape (2, 1, 3, 3), the model wants (1, 1, 3, 3)" in refused(
        wide.state_dict()
    )
    few = refused(network(classes=7).state_dict())
    assert "has shape (7, 8), the model wants (10, 8)" in few
    assert "unknown" in refused({**state, "more": torch.ones(1)})
    assert "a.pt: holds no state dict" in refused({"accuracy": 0.9})
    assert "a.pt: holds no state dict" in refused(torch.ones(3))
    Path("b.pt").write_text("not weights")
    assert "b.pt: not a file of tensors" in refused(None, file="b.pt")
    Path("b.safetensors").write_text("not weights")
    assert "b.safetensors: not a safetensors file" in refused(None, file="b.safetensors")
    whole = Path("a.pt")
    torch.save(state, whole)
    whole.write_bytes(whole.read_bytes()[:-2000])
    assert "a.pt: is cut off or damaged" in refused(None)


def test_files_that_vanish_or_change() -> None:
    torch.save(network().state_dict(), "a.pt")
    assert "a.pt: changed while Snakemake ran" in refused(None, sha256="0" * 64)
    with pytest.raises(UserError, match=r"gone\.pt: cannot be read: No such file"):
        adopt_replica(CELL.spec, 0, "gone.pt", "", paths.dataset("digits"), "w", "h", "c")


def test_a_model_without_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(".")
    Path("adopt_net.py").write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))\n"
    )
    cell = Cell(DATA, ModelPart(builder="adopt_net:make"), Recipe(), "elsewhere")
    state = {"1.weight": torch.ones(7, 64), "1.bias": torch.ones(7)}
    with pytest.raises(UserError, match="returns 7 logits, and there are 10 classes"):
        adopt(state, cell)


@pytest.fixture
def trained() -> Cell:
    """A cell of two replicas that were trained together here, two kinds of checkpoint each."""
    recipe = Recipe(epochs=2, batch_size=32, checkpoints=["final", "best"])
    cell = Cell(DATA, CELL.model, recipe)
    files = (paths.weights(cell.id, "0-1"), paths.history(cell.id, "0-1"))
    train_block(cell.spec, [0, 1], paths.dataset("digits"), *files, "c")
    return cell


def test_trained_replicas_are_loaded(trained: Cell) -> None:
    inputs = Inputs(
        [paths.weights(trained.id, "0-1")],
        [paths.history(trained.id, "0-1")],
        paths.dataset("digits"),
    )
    for kind in ("final", "best"):
        record = measure_cell(
            "performance", {"checkpoint": kind}, trained.spec, [0, 1], inputs, "c"
        )
        one = lossatlas.load(trained.id, 1, kind)
        with torch.no_grad():
            loss = one.loss(one.module(one.data.train.images), one.data.train.labels)
        (row,) = (s for s in record.scalars if s.name == "train_loss" and s.replica == 1)
        assert float(loss) == pytest.approx(row.value, rel=1e-5)
        assert (one.seed, one.status, one.spec) == (1, "ok", trained.spec)
    for path in (
        paths.cell(trained.id),
        paths.weights(trained.id, "0-1"),
        Path.cwd() / paths.cell_spec(trained.id),
    ):
        assert lossatlas.load(path, 1).spec == trained.spec


def test_what_cannot_be_loaded(trained: Cell) -> None:
    with pytest.raises(UserError, match=r"no cell 'nothing' .*valid: digits-resnet18"):
        lossatlas.load("nothing")
    with pytest.raises(UserError, match=r"no replica of seed 7 \(it has 0, 1\)"):
        lossatlas.load(trained.id, 7)
    with pytest.raises(UserError, match="holds no checkpoint 'early'"):
        lossatlas.load(trained.id, 1, "early")
    Path(paths.dataset("digits")).unlink()
    with pytest.raises(UserError, match="its data set is not there any more"):
        lossatlas.load(trained.id, 1)


def test_the_package_stays_light() -> None:
    code = "import lossatlas, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(paths.LIBRARY.parent)}
    )
    assert done.returncode == 0


def test_metrics_of_a_cell_from_the_command_line(
    trained: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(name: str, *more: str) -> store.Record:
        assert main(["metric", name, "--cell", trained.id, *more, "--out", "o.h5"]) == 0
        return store.read("o.h5", name)

    inputs = Inputs(
        [paths.weights(trained.id, "0-1")],
        [paths.history(trained.id, "0-1")],
        paths.dataset("digits"),
    )
    expected = measure_cell("performance", {}, trained.spec, [0, 1], inputs, "c")
    assert rows(measured("performance")) == rows(expected)
    store.write(made(paths.metric(trained.id, "performance")), expected)
    given = Inputs(inputs.weights, inputs.histories, "", paths.metric(trained.id, "performance"))
    distance = measure_cell("distance", {}, trained.spec, [0, 1], given, "c")
    values = [row.value for row in measured("distance").scalars]  # summed in another order
    assert values == pytest.approx([row.value for row in distance.scalars], rel=1e-12)
    few = ["--set", "samples=32", "density_probes=0"]
    one = measured("hessian", "--seed", "1", *few)
    assert {s.replica for s in one.scalars} == {1}
    assert one.spec == trained.spec
    assert not Path("results/state").exists() or not list(Path("results/state").glob("*hessian*"))


def rows(record: store.Record) -> list[str]:
    """Return all scalars in words: NaN is not equal to itself."""
    return list(map(repr, record.scalars))


COMMANDS = [
    (["--cell", "CELL", "--model", "mlp"], "--model is what --cell has already"),
    (["--cell", "CELL", "--checkpoint", "a.pt"], "--checkpoint is what --cell has already"),
    (["--checkpoint", "a.pt", "--data", "digits"], "--model is missing (give --checkpoint, --mod"),
    (["--model", "mlp", "--data", "digits"], "--checkpoint is missing"),
    (["--checkpoint", "a.pt", "--model", "mlp", "--data", "digits", "--seed", "1"], "--seed is of"),
    (["--cell", "CELL", "--seed", "4"], "no replica of seed 4 (it has 0, 1)"),
    (["--cell", "nothing"], "no cell 'nothing'"),
]


@pytest.mark.parametrize(("words", "says"), COMMANDS)
def test_commands_that_do_not_say_what_to_measure(
    trained: Cell, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    words = [trained.id if word == "CELL" else word for word in words]
    assert main(["metric", "performance", *words]) == 1
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


def test_one_replica_is_no_pair(trained: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metric", "cka", "--cell", trained.id, "--seed", "0"]) == 1
    assert "'cka' compares replicas; 1 given" in capsys.readouterr().err
    assert main(["metric", "diffusion", "--cell", trained.id]) == 1
    assert "holds no path of training" in capsys.readouterr().err


def test_a_cell_from_elsewhere_is_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text(json.dumps(CELL.spec))
    command = ["train", "--spec", "spec.yaml", "--data", paths.dataset("digits"), "--out", "o"]
    assert main(command) == 1
    assert "spec.yaml: was trained elsewhere, in a way that is not known" in capsys.readouterr().err
