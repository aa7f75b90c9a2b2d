"""Metrics of the user's own: what they are given, what they may return, one line for mistakes."""

import importlib.metadata
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lossatlas import measuring, plugins
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.models.functional import flatten, state_of
from lossatlas.spec import config
from metric_cases import net, networks

torch.set_num_threads(1)
HEAD = "import lossatlas as la\n\n\nclass Mine(la.Metric):\n"
OUTPUTS = '    outputs = [la.Output("one", unit="m", doc="a number"), la.Output("two")]\n'
BOTH = HEAD + OUTPUTS


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module of the user's into the folder in which they start; return its metric."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry._plug_in.cache_clear()

    def write(text: str, name: str = "Mine"):
        (tmp_path / "own_metric.py").write_text(text)
        return registry.find(f"own_metric:{name}", "metrics.mine")

    yield write
    registry._plug_in.cache_clear()
    sys.modules.pop("own_metric", None)  # of a folder that is gone


def test_importing_the_library_stays_cheap() -> None:
    code = (
        "import sys; sys.path.insert(0, 'workflow'); import lossatlas; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pydantic', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_declarations_import_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'workflow'); from lossatlas.metrics import registry; "
        "registry.built_in(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_replica_as_a_metric_sees_it(own) -> None:
    """The example of the documentation, against torch alone."""
    metric = own(
        HEAD
        + '    """Norm."""\n    per = "replica"\n    samples: int = 20\n'
        + '    outputs = [la.Output("gradient_norm", unit="1", doc="norm")]\n'
        + "    def measure(self, net, data):\n"
        + "        return la.Value(net.gradient(data.train[: self.samples]).norm())\n"
    )
    given = networks()
    record = measuring.measure_networks(metric(samples=12), given)
    assert [row.replica for row in record.scalars] == [1, 4, 6]
    assert {row.unit for row in record.scalars} == {"1"}
    for row in record.scalars:
        module, split = net(row.replica), given.data.train
        loss = nn.functional.cross_entropy(module(split.images[:12]), split.labels[:12])
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        expected = torch.cat([g.flatten() for g in gradients]).norm().item()
        assert row.value == pytest.approx(expected, rel=1e-5)


def test_what_a_network_offers() -> None:
    from lossatlas.metrics.network import of_all

    given = networks()
    one, module, split = of_all(given)[4], net(4), given.data.train
    torch.testing.assert_close(one(split.images), module(split.images).detach())
    expected = nn.functional.cross_entropy(module(split.images), split.labels)
    assert one.loss(split).item() == pytest.approx(expected.item())
    assert torch.equal(one.flat, flatten(state_of(module)[0]))
    assert set(one.parameters) == dict(module.named_parameters()).keys()
    assert set(one.buffers) == dict(module.named_buffers()).keys()
    assert one.hessian(split).size == len(one.flat)
    assert one.features(split.images, ["output"])["output"].shape == (30, 2)
    assert len(split[:7]) == 7


def test_pairs_cells_and_curves(own) -> None:
    text = (
        "import lossatlas as la\nimport numpy as np\n\n\n"
        "class Apart(la.Metric):\n"
        '    per = "pair"\n    outputs = [la.Output("apart")]\n'
        "    def measure(self, one, other, data):\n"
        "        curve = la.Series('line', np.arange(3), np.arange(3), 't')\n"
        "        return {'apart': (one.flat - other.flat).norm()}, [curve]\n\n\n"
        "class Mean(la.Metric):\n"
        '    per = "cell"\n    outputs = [la.Output("mean_loss", unit="nats")]\n'
        "    def measure(self, nets, data):\n"
        "        losses = [float(net.loss(data.test)) for net in nets]\n"
        "        return la.Value(sum(losses) / len(losses), stderr=0.5)\n"
    )
    given = networks()
    apart = own(text, "Apart")
    record = measuring.measure_networks(apart(), given)
    pairs = [(1, 4), (1, 6), (4, 6)]
    assert [(row.replica, row.partner) for row in record.scalars] == pairs
    assert [(one.replica, one.partner) for one in record.series] == pairs
    record = measuring.measure_networks(registry.find("own_metric:Mean")(), given)
    (row,) = record.scalars
    assert (row.name, row.replica, row.stderr, row.unit) == ("mean_loss", None, 0.5, "nats")


def returning(text: str) -> str:
    return BOTH + f"    def measure(self, net, data):\n        {text}\n"


def test_numbers_and_their_status(own) -> None:
    text = 'return {"one": float("inf"), "two": la.Value(2, status="unconverged")}'
    record = measuring.measure_networks(own(returning(text))(), networks((3,)))
    one, two = record.scalars
    assert (math.isnan(one.value), one.status, one.unit) == (True, "undefined", "m")
    assert (two.value, two.status) == (2.0, "unconverged")


WRONG = [
    ("return 1.0", "measure returns one float for 2 outputs (return la.Value(number), or"),
    ("return None", "measure returns one NoneType for 2 outputs"),
    ('return {"one": 1}', "returns no 'two', which it declares"),
    ('return {"one": 1, "tow": 1}', "returns 'tow', which it does not declare (did you mean 'two'"),
    ('return {"one": "text", "two": 1}', "a str for 'one', which is no number"),
    ('return {"one": net.flat, "two": 1}', "of shape (29,) for 'one', which is no number"),
    ('return {"one": None, "two": 1}', "a NoneType for 'one', which is no number"),
    ('return {"one": la.Value(1, status="fine"), "two": 1}', "gives 'one' the status 'fine' ("),
    ('return {"one": 1, "two": 2}, [3]', "a tuple that is not (values, list of Series)"),
    ('raise ValueError("no luck")', "measure fails: ValueError: no luck (own_metric.py, line 7)"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_wrong_results_are_one_line(own, text: str, says: str) -> None:
    metric = own(returning(text))
    with pytest.raises(UserError) as caught:
        measuring.measure_networks(metric(), networks((3,)))
    assert str(caught.value).startswith("own_metric:Mine: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


MEASURE = "    def measure(self, net, data):\n        return 1\n"
BAD = [
    ("import nowhere\n", "'own_metric' does not import: ModuleNotFoundError: No module named"),
    ("class Mine:\n    pass\n", "'own_metric:Mine' is a type, not a subclass of Metric"),
    ("def Mine():\n    pass\n", "'own_metric:Mine' is a function, not a subclass of Metric"),
    ("Mien = 1\n", "'own_metric' has no 'Mine' (did you mean 'Mien'?)"),
    (HEAD + "    size = 3\n", "does not import: PydanticUserError: A non-annotated attribute"),
    (HEAD + MEASURE, "'own_metric:Mine' declares no output"),
    (HEAD + "    outputs = ['one']\n" + MEASURE, "has outputs that are no list of Output"),
    (BOTH, "'own_metric:Mine' defines no 'measure'"),
    (BOTH.replace("two", "one") + MEASURE, "declares the output 'one' twice"),
    (
        BOTH + "    per = 'image'\n" + MEASURE,
        "has per = 'image' (one of 'replica', 'pair', 'cell')",
    ),
    (BOTH.replace('("two")', '("two", per="pair")') + MEASURE, "and 'two' is of a pair"),
    (BOTH + "    files = ['gone.json']\n" + MEASURE, "gone.json: no such file (put it there, or"),
    (BOTH + "    costs_only = ['chunk']\n" + MEASURE, "has no setting 'chunk', which costs_only"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_bad_declarations_are_one_line(own, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        own(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_another_hides(own, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(BOTH + MEASURE)
    with pytest.raises(UserError, match=r"'json' is .*, and not the json\.py of this folder"):
        registry.find("json:Mine", "metrics.mine")


def test_names_that_a_module_imports_are_not_offered(own) -> None:
    with pytest.raises(UserError, match=r"'own_metric' has no 'Slope' \(valid: Mine, half\)"):
        own("import math\nfrom pathlib import Path\nhalf = 0.5\n" + BOTH + MEASURE, "Slope")


def test_metrics_that_are_not_declared(own, tmp_path: Path) -> None:
    own(BOTH + MEASURE)
    for name, says in (
        (
            "own_metric:Mine",
            r"'own_metric:Mine' \(declare it, metrics: {NAME: {kind: \"own_metric:M",
        ),
        ("steepness", r"'steepness' \(valid: .*; or declare yours: metrics: {NAME: {kind: \"mod"),
        (
            "results",
            r"experiments\.e\.metrics: metrics/results\.py defines no metric \(write a cla",
        ),
    ):
        with pytest.raises(UserError, match=says):
            config.load(asked({}, [name]))
    with pytest.raises(UserError, match=r"named 'own_metrc' \(did you mean 'own_metric'\?\)"):
        config.load(asked({"mine": {"kind": "own_metrc:Mine"}}, ["mine"]))


def asked(metrics: dict, names: list[str]) -> dict:
    return {
        "datasets": {"digits": None},
        "models": {"mlp": None},
        "recipes": {"short": {"epochs": 1}},
        "metrics": metrics,
        "experiments": {
            "e": {"dataset": "digits", "model": "mlp", "recipe": "short", "metrics": names}
        },
    }


def test_settings_are_checked_when_the_config_is_read(own) -> None:
    own(BOTH + "    samples: int = 3\n" + MEASURE)
    kind = {"kind": "own_metric:Mine"}
    loaded = config.load(asked({"mine": {**kind, "samples": 5}}, ["mine"]))
    assert loaded.metric("mine").samples == 5
    assert loaded.firsts("e") == {"own_metric:Mine": "mine"}
    for given, says in (
        ({"sample": 1}, r"metrics\.mine: unknown key 'sample' \(did you mean 'samples'\?\)"),
        ({"samples": "many"}, r"metrics\.mine\.samples: .*not 'many'"),
    ):
        with pytest.raises(UserError, match=says):
            config.load(asked({"mine": {**kind, **given}}, ["mine"]))


def test_names_that_collide(own, monkeypatch: pytest.MonkeyPatch) -> None:
    own(BOTH + MEASURE)
    with pytest.raises(UserError, match="'hessian' is a kind of metric, and this one is of"):
        config.load(asked({"hessian": {"kind": "own_metric:Mine"}}, []))
    point = importlib.metadata.EntryPoint("cka", "own_metric:Mine", registry.GROUP)
    other = importlib.metadata.EntryPoint("mine", "own_metric:Mine", registry.GROUP)
    monkeypatch.setattr(plugins, "_declared", lambda group: (point, other))
    with pytest.raises(UserError, match="'cka' is of the package own_metric and a built-in"):
        config.load(asked({"cka": {}}, []))
    assert registry.find("mine").__name__ == "Mine"


def test_an_output_of_two_metrics(own) -> None:
    text = BOTH + MEASURE + "\n\n" + BOTH.partition("\n\n\n")[2].replace("Mine", "Other") + MEASURE
    own(text)
    two = {"mine": {"kind": "own_metric:Mine"}, "other": {"kind": "own_metric:Other"}}
    says = r"experiments\.e\.metrics: 'mine' and 'other' both write 'one' \(rename"
    with pytest.raises(UserError, match=says):
        config.load(asked(two, ["mine", "other"]))
    again = {"mine": two["mine"], "more": two["mine"]}
    config.load(asked(again, ["mine", "more"]))  # of one kind, tables name them apart


def test_a_metric_by_the_command_line(own, tmp_path: Path, capsys, monkeypatch) -> None:
    import cli_cases
    from lossatlas.cli import main

    monkeypatch.delitem(sys.modules, "cli_net", raising=False)
    cli_cases.write_network(tmp_path)
    cli_cases.write_rest(tmp_path)
    own(
        BOTH
        + "    scale: float = 1.0\n"
        + MEASURE.replace("return 1", "return dict(one=self.scale, two=net.seed)")
    )
    rest = ["--checkpoint", "0.pt", "1.pt", "--model", "cli_net:Net", "--data", "data.npz"]
    assert main(["metric", "own_metric:Mine", *rest, "--set", "scale=4"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("one") == printed.count("two") == 2
    assert main(["metric", "own_metric:Nine", *rest]) == 1
    assert "'own_metric' has no 'Nine' (did you mean 'Mine'?)" in capsys.readouterr().err
