"""Tasks in a config: what does not fit is refused in one line; data of any task as a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lossatlas as la
from lossatlas import plugins, tasks
from lossatlas.claims import conditions
from lossatlas.custom import measure_custom
from lossatlas.data import own
from lossatlas.data.examples import to_record
from lossatlas.data.loading import load
from lossatlas.data.tensors import Named, Split
from lossatlas.errors import UserError
from lossatlas.metrics.hessian import Hessian
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.outputs import check_outputs
from lossatlas.spec import config, told
from lossatlas.spec.parts import DataPart, Recipe
from lossatlas.training.batches import batches, by_tokens
from lossatlas.training.optimisers import optimiser_of

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(30, 3))
CLASSES = DRAW.integers(0, 4, 30)
TOKENS = DRAW.integers(0, 5, (30, 6))


def arrays(inputs: Any = ROWS, targets: Any = CLASSES, **more: Any) -> dict[str, Any]:
    found = {"train_inputs": inputs, "test_inputs": inputs}
    if targets is not None:
        found |= {"train_targets": targets, "test_targets": targets}
    return {**found, **more}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "rows": arrays(),
        "values": arrays(targets=DRAW.normal(size=(30, 2))),
        "tokens": arrays(TOKENS, None),
        "tagged": arrays(TOKENS, TOKENS),
        "signals": arrays(DRAW.normal(size=(30, 2, 9))),
        "oblong": arrays(DRAW.normal(size=(30, 2, 4, 6))),
        "named": {
            **{f"{split}_inputs.{name}": TOKENS for split in ("train", "test") for name in "ab"},
            **{f"{split}_targets": CLASSES for split in ("train", "test")},
        },
    }
    for name, content in files.items():
        np.savez(tmp_path / f"{name}.npz", **content)
    return tmp_path


def read(source: str, model: dict[str, Any] | None = None, **changes: Any) -> config.Config:
    """Read a config with one experiment on a source."""
    data = {"source": source, **changes.pop("data", {})}
    experiment = {
        "dataset": "d",
        "model": "m",
        "recipe": "r",
        "metrics": ["performance"],
        "seeds": 2,
    }
    return config.load(
        {
            "datasets": {"d": data},
            "models": {"m": model or {"builder": "mlp"}},
            "recipes": {"r": {"batch_size": 10, **changes.pop("recipe", {})}},
            "experiments": {"e": {**experiment, **changes}},
        }
    )


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("values.npz", {}, "'classification' needs targets that are classes"),
        (
            "rows.npz",
            {"data": {"task": "regression"}},
            "'regression' needs targets that are numbers",
        ),
        ("tokens.npz", {}, "'classification' needs targets that are one class per example"),
        ("rows.npz", {"data": {"task": "language_model"}}, "needs targets that are sequences"),
        ("digits", {"data": {"task": "regression"}}, "'regression' needs targets that are numbers"),
        ("rows.npz", {"data": {"task": "regresion"}}, "did you mean 'regression'"),
        ("rows.npz", {"data": {"task": "nowhere:Task"}}, "no module named 'nowhere'"),
        ("rows.npz", {"data": {"pixel_noise": 0.1}}, "'pixel_noise' is for images with labels"),
        ("rows.npz", {"data": {"transforms": "paper"}}, "'transforms' is for images with labels"),
        (
            "values.npz",
            {"data": {"task": "regression", "label_noise": 0.1}},
            "'label_noise' is for one class per example",
        ),
        (
            "values.npz",
            {"data": {"task": "multi_label"}},
            "'multi_label' needs targets that are all 0 or 1",
        ),
        (
            "values.npz",
            {"data": {"task": "regression"}, "recipe": {"label_smoothing": 0.1}},
            "'label_smoothing' needs classes, and 'regression' has none",
        ),
        (
            "values.npz",
            {
                "data": {"task": "regression"},
                "recipe": {"early_stop": {"after": 0, "epochs": 1, "accuracy": 100, "stop": True}},
            },
            "'early_stop.accuracy' needs errors, and the task 'regression' counts none",
        ),
        ("rows.npz", {"recipe": {"batch_tokens": 100}}, "'batch_tokens' counts tokens"),
        (
            "rows.npz",
            {"recipe": {"augment": {"flip": True}}},
            "'augment' is for images with labels",
        ),
        ("rows.npz", {"recipe": {"optimiser": "adamm"}}, "sgd, adam, adamw, or 'package.module"),
        (
            "rows.npz",
            {"recipe": {"optimiser": "adam", "record": {"length": 5}}},
            "'record' follows the steps of plain SGD: leave out 'optimiser'",
        ),
        ("rows.npz", {"model": {"builder": "resnet18"}}, "'resnet18' does not take rows"),
        ("oblong.npz", {"model": {"builder": "vgg16"}}, "does not take images that are not square"),
        ("named.npz", {}, "'mlp' does not take inputs by name"),
        (
            "tagged.npz",
            {"data": {"task": "token_classification"}},
            "'mlp' does not take tokens",
        ),
        (
            "values.npz",
            {
                "data": {"task": "regression", "fraction": 0.5},
                "metrics": ["espro"],
            },
            "'espro' needs one class per example, and the task is 'regression'",
        ),
        (
            "rows.npz",
            {"data": {"fraction": 0.5}, "metrics": ["espro"]},
            "'espro' needs images with labels",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, source: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        read(source, **changes)
    assert message in str(error.value).replace("\n", " ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("rows.npz", {}),
        ("signals.npz", {}),
        ("oblong.npz", {"model": {"builder": "resnet18", "width": 2}}),
        ("values.npz", {"data": {"task": "regression", "fraction": 0.5}}),
    ],
)
def test_what_fits_has_a_size_and_a_cost(
    folder: Path, source: str, changes: dict[str, Any]
) -> None:
    made = read(source, **changes)
    (cell,) = made.cells("e")
    assert cell.data.source.startswith(Path(source).stem)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (arrays(targets=CLASSES[:20]), "has 30 examples"),
        (arrays(targets=CLASSES - 5), "has a class -5"),
        (arrays(targets=np.full(30, -100)), "has a class -100"),
        (
            arrays(targets=TOKENS[:, :, None] * np.ones((1, 1, 2), int)),
            "classes are (N,), or (N, L)",
        ),
        (arrays(ROWS + 1j), "has type complex128"),
        (arrays(np.where(ROWS > 2, np.nan, np.inf)), "holds NaN or infinity"),
        (arrays(np.zeros((0, 3))), "has shape (0, 3)"),
        (arrays(targets=None), "has no 'train_targets'"),
        (arrays(test_inputs=ROWS[:, :2]), "that of the test split (2,)"),
        (arrays(test_targets=np.float64(CLASSES)), "that of the test split"),
        (arrays({"a b": TOKENS}), "'train_inputs.a b' is no name of an input"),
        (arrays(classes=2), "'classes' is 2, and targets run to"),
        ({"train_inputs": ROWS, "train_targets": CLASSES}, "has no 'test_inputs'"),
        (arrays(np.array([["a"]] * 30)), "has type <U1"),
    ],
)
def test_arrays_that_are_no_examples(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        to_record("mine", given)
    assert message in str(error.value)


def test_types_and_shapes_of_examples() -> None:
    found = load(to_record("t", arrays(TOKENS, None)), DataPart(task="language_model"))
    assert found.train.images.dtype == found.train.labels.dtype == torch.int64
    assert torch.equal(found.train.tensor[:, 1:], found.train.labels[:, :-1])
    assert found.shape["vocabulary"] == 5
    named = load(to_record("n", arrays({"a": ROWS, "b": TOKENS})))
    assert isinstance(named.train.images, Named)
    assert named.train.images.tensors["a"].dtype == torch.float32
    signals = load(to_record("s", arrays(np.zeros((30, 2, 9)))))
    assert signals.image_size == (9,)
    half = load(to_record("h", arrays(targets=ROWS)), DataPart(task="regression", fraction=0.4))
    assert (len(half.train), len(half.held_out or ())) == (12, 18)
    labels = torch.tensor(ROWS[:, 0]).float()[:, None]
    found = load(to_record("v", arrays(targets=ROWS[:, 0])), DataPart(task="regression"))
    assert torch.equal(found.train.labels, labels)


def test_a_tensor_or_an_array_says_the_same() -> None:
    digests = {
        own.content(own.record_of(arrays(kind(ROWS), kind(CLASSES)), "x"))
        for kind in (np.asarray, torch.as_tensor)
    }
    assert len(digests) == 1


class Broken(la.Task):
    """Not differentiable, not per example, or not finite, as it is told."""

    name = "broken"
    values = True
    fault = ""

    def per_example(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = (outputs - targets).flatten(1).sum(1)
        return {"mean": each.mean(), "constant": each.detach(), "": each}[self.fault]


@pytest.mark.parametrize(
    ("fault", "message"),
    [("mean", "per_example returns a Tensor ()"), ("constant", "the loss has no gradient")],
)
def test_a_loss_that_is_none(fault: str, message: str) -> None:
    task = Broken()
    task.fault = fault
    network = nn.Linear(3, 2)
    split = Split(torch.randn(4, 3), torch.randn(4, 2), task=task)
    with pytest.raises(UserError, match="task broken") as error:
        check_outputs(Functional(network), *state_of(network), split, 2, train=True)
    assert message in str(error.value)


class Miscounted(la.Task):
    """Errors that are counted per value, and targets that are not."""

    name = "miscounted"
    values = True
    scored = True

    def per_example(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).square().sum(1)

    def wrong(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return ((outputs - targets).abs() > 1e-9).sum(1)


def test_more_errors_than_targets_are_refused() -> None:
    network = nn.Linear(3, 2)
    split = Split(torch.randn(4, 3), torch.randn(4, 2), task=Miscounted())
    with pytest.raises(UserError, match="wrong counts more errors than there are targets"):
        check_outputs(Functional(network), *state_of(network), split, 2, train=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("unit = 'nats'", "defines no 'per_example' (def per_example(self, outputs, targets))"),
        ("scored = True\n    def per_example(self, o, t): return o", "defines no 'wrong'"),
    ],
)
def test_a_task_that_lacks_its_functions(folder: Path, body: str, message: str) -> None:
    name = f"lacking_{len(body)}"
    text = f"import lossatlas as la\n\n\nclass Mine(la.Task):\n    {body}\n"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(UserError) as error:
        read("values.npz", data={"task": f"{name}:Mine"})
    assert message in str(error.value)


class Still(la.Optimiser):
    """Returns what it should have changed."""

    def step(self, params: torch.Tensor, gradient: torch.Tensor, rate: float) -> None:
        _ = params - rate * gradient


def test_an_optimiser_that_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "load", lambda *_: Still)
    with pytest.raises(UserError, match="'mine:Still' moves no parameter"):
        optimiser_of(Recipe(optimiser="mine:Still"), torch.zeros(1, 5))


@pytest.mark.parametrize("draws", ["taxonomy_phases", "taxonomy_phase_diagram"])
def test_figures_of_accuracies_need_a_task_that_counts_errors(folder: Path, draws: str) -> None:
    raw = read("values.npz", data={"task": "regression"}).model_dump()
    raw["datasets"]["d"]["source"] = "values.npz"
    raw["figures"] = {"map": {"draws": draws, "experiment": "e"}}
    with pytest.raises(UserError, match="the task 'regression' counts none"):
        config.load(raw)


def test_outputs_that_would_be_broadcast_are_refused() -> None:
    network = nn.Linear(3, 1)
    split = Split(torch.randn(4, 3), torch.randn(4, 2), task=tasks.find("regression"))
    with pytest.raises(UserError, match=r"targets have shape \(2, 2\)"):
        check_outputs(Functional(network), *state_of(network), split, 2, train=True)


def test_batches_of_tokens() -> None:
    lengths = torch.tensor([3, 1, 4, 2, 5, 2])
    labels = torch.where(torch.arange(5) < lengths[:, None], 1, tasks.IGNORED)
    split = Split(torch.ones(6, 5).long(), labels, task=tasks.find("language_model"))
    found = by_tokens(split, torch.arange(6), 6)
    assert [one.tolist() for one in found] == [[0, 1], [2, 3], [4], [5]]
    drawn = list(batches(split, [3], 0, Recipe(batch_tokens=6)))
    assert sorted(torch.cat(drawn, 1)[0].tolist()) == list(range(6))
    assert all(int(lengths[one[0]].sum()) <= 6 for one in drawn)
    with pytest.raises(UserError, match="an example has 5 tokens, and a batch 4"):
        by_tokens(split, torch.arange(6), 4)


def test_a_task_is_a_part_of_the_cell_and_the_default_is_none() -> None:
    plain = config.load(
        {
            "datasets": {"digits": {}},
            "models": {"mlp": {}},
            "recipes": {"r": {}},
            "experiments": {"e": {"dataset": "digits", "model": "mlp", "recipe": "r"}},
        }
    )
    (cell,) = plain.cells("e")
    assert "task" not in cell.spec["data"]
    assert cell.task is tasks.CLASSIFICATION


@pytest.mark.parametrize(
    ("data", "recipe", "reason"),
    [
        ({}, {"decay_epochs": [5]}, ""),
        ({}, {"decay_epochs": [5], "optimiser": "adam"}, "the optimiser is adam"),
        (
            {},
            {"inverse_sqrt": True, "warmup_steps": 3},
            "the learning rate is falling as",
        ),
        ({"source": "values.npz", "task": "regression"}, {}, "the task is regression"),
    ],
)
def test_claims_are_made_for_classification_by_sgd(
    folder: Path, data: dict[str, Any], recipe: dict[str, Any], reason: str
) -> None:
    made = read(data.get("source", "digits"), data=data, recipe={"epochs": 10, **recipe})
    raw = made.model_dump() | {"datasets": {"d": {"source": "digits", **data}}}
    raw["metrics"] = {}
    measured = ["performance", "hessian", "connectivity", "cka", "distance"]
    grid = {"load": {"width": [2, 4]}, "temperature": {"batch_size": [5, 10]}}
    raw["experiments"]["e"] |= {"metrics": measured, **grid}
    known = conditions.about(told.about(config.load(raw), "taxonomy")["e"])
    assert conditions.RELEASED.lacks(known).startswith(reason)
    assert bool(conditions.RELEASED.lacks(known)) is bool(reason)


def test_checkpoints_of_another_task_on_the_command_line(folder: Path) -> None:
    """Least squares of a linear network have the Hessian 2 X^T X / n; classes are refused."""
    targets = DRAW.normal(size=30)
    np.savez(folder / "line.npz", **arrays(targets=targets))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    state = {f"layers.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, folder / "line.pt")
    given = (["line.pt"], "mlp", {"depth": 0}, "line.npz")
    record = measure_custom(Hessian(density_probes=0, samples=100), *given, "regression")
    x = np.hstack([ROWS, np.ones((30, 1))])
    top = np.linalg.eigvalsh(2 * x.T @ x / 30)[-1]
    (row,) = (one for one in record.scalars if one.name == "hessian_eigenvalue")
    assert row.value == pytest.approx(top, rel=1e-4)
    assert row.unit == "squared"
    with pytest.raises(UserError, match="'classification' needs targets that are classes"):
        measure_custom(Hessian(), *given)
    with pytest.raises(UserError, match="'regression' needs targets that are numbers"):
        measure_custom(Hessian(), *given[:3], "rows.npz", "regression")
