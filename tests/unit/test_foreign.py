"""Checkpoints as people have them: read, or one line that names what stands in the way."""

import argparse
import datetime
import io
import json
import os
import pickle
import sys
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, state_of
from lossatlas.training.foreign import divide, read_state, unwrapped


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(self.a(x)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def read(net: nn.Module, held: object, folder: Path) -> dict[str, torch.Tensor]:
    file = str(folder / "a.pt")
    torch.save(held, file)
    functional = Functional(net)
    params, buffers = divide(functional, unwrapped(functional, read_state(file), file), file)
    return {**params, **buffers}


def ahead(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimiser(net: nn.Module) -> dict:
    step = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.ones(1, 4)).sum().backward()
    step.step()
    return step.state_dict()


@dataclass
class Settings:
    """A class of the script's own."""

    rate: float = 0.1


def in_main(thing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something be of the script that is run, as far as pickles know."""
    monkeypatch.setattr(thing, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], thing.__name__, thing, raising=False)


def timm(net: nn.Module, state: dict) -> dict:
    """What timm's saver writes: arguments as a Namespace, the best score as a number of NumPy."""
    about = {"arch": "net", "epoch": 3, "version": 2, "metric": np.float64(91.2)}
    args = argparse.Namespace(lr=0.1, where=Path("x"), when=datetime.date(2026, 1, 1))
    return {**about, "state_dict": state, "optimizer": optimiser(net), "args": args}


HELD = {
    "timm": timm,
    "timm's average": lambda n, s: {**timm(n, s), "state_dict": None, "state_dict_ema": s},
    "params": lambda _, s: {"params": s, "iteration": torch.tensor(3)},
    "a tensor beside": lambda _, s: {"epoch": torch.tensor(3), "state_dict": s},
    "NumPy arrays": lambda _, s: {"model": s, "losses": np.arange(3.0), "kept": {"x": np.ones(2)}},
    "a default dictionary": lambda _, s: {"net": s, "log": defaultdict(list, {"loss": [1.0]})},
    "a class of its own": lambda _, s: {"model": s, "settings": Settings()},
    "wrappers inside": lambda _, s: {
        f"module.{n.replace('.', '._orig_mod.')}": t for n, t in s.items()
    },
    "Lightning": lambda _, s: {
        "pytorch-lightning_version": "2.4",
        "state_dict": {**ahead("net._orig_mod.", s), "critic.w": torch.ones(2)},
        "hyper_parameters": {"lr": 0.1},
    },
    "mode connectivity": lambda n, s: {
        "epoch": 3,
        "model_state": s,
        "optimizer_state": optimiser(n),
    },
    "another key": lambda n, s: {"epoch": 3, "student": s, "optimizer": optimiser(n)},
    "nested": lambda _, s: {"checkpoint": {"state_dict": s}, "epoch": 1},
    "a criterion": lambda _, s: {
        "state_dict": {"criterion.weight": torch.ones(9), **ahead("model.", s)}
    },
    "a criterion after": lambda _, s: {**ahead("net.", s), "loss.weight": torch.ones(9)},
    "extra state": lambda _, s: {**s, "a._extra_state": None, "_extra_state": {"x": 1}},
    "extra tensors": lambda _, s: {**s, "a._extra_state": torch.ones(3)},
}


@pytest.mark.parametrize("shape", HELD)
def test_what_training_scripts_write(
    shape: str, net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_main(Settings, monkeypatch)
    found = read(net, HELD[shape](net, net.state_dict()), tmp_path)
    assert found.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(found[name], tensor)


def test_the_average_beside_the_weights_is_told_of(
    net: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    found = read(net, {"state_dict_ema": other, "state_dict": net.state_dict()}, tmp_path)
    assert torch.equal(found["a.weight"], net.a.weight)
    assert "under 'state_dict' are read, and not those under 'state_dict_ema'" in (
        capsys.readouterr().err
    )


def touch(path: Path) -> None:
    path.touch()


def test_stand_ins_run_nothing(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a name of a usual kind leads to nothing but a stand-in."""
    mark = tmp_path / "ran"
    in_main(touch, monkeypatch)

    class Touch:
        def __reduce__(self) -> tuple:
            return touch, (mark,)

    made = {"state_dict": net.state_dict(), "x": Touch()}
    pickle.loads(pickle.dumps(made["x"]))
    assert mark.exists()  # it would run
    mark.unlink()
    assert torch.equal(read(net, made, tmp_path)["a.weight"], net.a.weight)
    assert not mark.exists()


REFUSED = {
    "a function": (lambda s: {"state_dict": s, "f": os.path.join}, "posixpath.join"),
    "a module": (lambda s: {"state_dict": s, "f": nn.Linear(2, 2)}, "torch.nn.modules"),
    "two networks": (lambda s: {"g": s, "d": s}, "holds weights under 'g' and 'd'"),
    "two parts": (
        lambda s: {**ahead("teacher.", s), **ahead("student.", s)},
        "under 'student.' and 'teacher.'",
    ),
    "whole-number keys": (lambda s: dict(enumerate(s.values())), "the key 0, which is no name"),
    "a number inside": (lambda s: {**s, "epoch": 3}, "'epoch' is a int"),
    "no dictionary": (lambda s: list(s.values()), "holds no state dict, but a list"),
    "nothing": (lambda _: {"epoch": 3}, "no state dict under 'epoch'"),
    "int8": (lambda s: {k: (t * 9).to(torch.int8) for k, t in s.items()}, "holds torch.int8"),
    "complex": (lambda s: {k: torch.complex(t, t) for k, t in s.items()}, "torch.complex64"),
    "booleans": (lambda s: {k: t > 0 for k, t in s.items()}, "holds torch.bool"),
    "sparse": (lambda s: {k: t.to_sparse() for k, t in s.items()}, "is sparse"),
    "quantised": (
        lambda s: {k: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8) for k, t in s.items()},
        "is quantised",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", REFUSED)
def test_what_is_refused_names_its_cause(shape: str, net: nn.Module, tmp_path: Path) -> None:
    make, says = REFUSED[shape]
    with pytest.raises(UserError) as told:
        read(net, make(net.state_dict()), tmp_path)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_torchscript_is_called_so(net: nn.Module, tmp_path: Path) -> None:
    scripted = torch.jit.script(net)
    scripted.save(str(tmp_path / "s.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        read_state(str(tmp_path / "s.pt"))
    with pytest.raises(UserError, match="is TorchScript"):
        Functional(scripted)


def test_pruned_weights_are_multiplied_by_their_masks(net: nn.Module, tmp_path: Path) -> None:
    pruned = Net()
    prune.l1_unstructured(pruned.a, "weight", amount=0.5)
    found = read(net, pruned.state_dict(), tmp_path)
    assert torch.equal(found["a.weight"], pruned.a.weight)
    assert (found["a.weight"] == 0).sum() == 6
    with pytest.raises(UserError, match=r"is pruned .*prune\.remove"):
        Functional(pruned)


def test_extra_state_of_the_network_itself_is_not_left_out(tmp_path: Path) -> None:
    class Keeps(Net):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            raise AssertionError

    keeps = Keeps()
    with pytest.raises(UserError, match="keeps '_extra_state'"):
        read(keeps, keeps.state_dict(), tmp_path)


def test_a_counter_held_as_a_parameter_is_a_buffer(net: nn.Module) -> None:
    net.steps = nn.Parameter(torch.arange(4), requires_grad=False)
    functional = Functional(net)
    params, buffers = state_of(net)
    assert "steps" not in functional.shapes
    assert list(buffers) == ["steps"]
    x = torch.ones(2, 4)
    assert torch.equal(functional(params, buffers, x, train=False), net(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_trained_parameters_have_one_real_type(net: nn.Module, dtype: torch.dtype) -> None:
    net.w = nn.Parameter(torch.ones(3, dtype=dtype))
    with pytest.raises(UserError, match=r"trained parameters are .*32"):
        Functional(net)


def test_sparse_gradients_of_embeddings_become_dense() -> None:
    from lossatlas.curvature import hessian_of

    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.EmbeddingBag(7, 3, mode="sum"), nn.Tanh(), nn.Linear(3, 2))
        net = nn.Sequential(nn.Embedding(7, 3, sparse=sparse), nn.Flatten(), nn.Linear(6, 2))
        hessian = hessian_of(net, torch.tensor([[1, 2], [3, 3]]), torch.tensor([0, 1]))
        found.append(hessian(torch.linspace(0, 1, hessian.size)))
        assert net[0].sparse == sparse
    assert torch.equal(*found)


class Wrapped(nn.Module):
    """A network inside another, as Hugging Face's: a body and a head."""

    def __init__(self, *, head: bool = False) -> None:
        super().__init__()
        self.body = Net()
        if head:
            self.head = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_a_prefix_that_only_the_network_has(net: nn.Module, tmp_path: Path) -> None:
    found = read(Wrapped(), net.state_dict(), tmp_path)
    assert torch.equal(found["body.a.weight"], net.a.weight)
    with pytest.raises(UserError) as told:
        read(Wrapped(head=True), net.state_dict(), tmp_path)
    assert "lacks the parameters 'head.weight', 'head.bias' of 6 tensors" in str(told.value)


def test_a_prefix_that_only_the_file_has(net: nn.Module, tmp_path: Path) -> None:
    held = Wrapped(head=True)
    found = read(net, held.state_dict(), tmp_path)
    assert torch.equal(found["a.weight"], held.body.a.weight)


def test_other_weights_are_named_with_what_is_missing(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        read(net, {f"conv{k}.weight": torch.ones(2) for k in range(5)}, tmp_path)
    assert "lacks the parameters 'a.weight', 'a.bias', 'b.weight' and 1 more of 4" in str(
        told.value
    )
    assert "holds 'conv0.weight', 'conv1.weight', 'conv2.weight' and 2 more" in str(told.value)
    with pytest.raises(UserError, match="holds 'z', unknown to the network"):
        read(net, {**net.state_dict(), "z": torch.ones(2)}, tmp_path)


def sharded(state: dict, folder: Path) -> Path:
    """Write a state dict as Hugging Face does a large one."""
    names, files = list(state), ("model-1-of-2.safetensors", "model-2-of-2.safetensors")
    halves = {files[0]: names[:2], files[1]: names[2:]}
    for file, some in halves.items():
        save_file({name: state[name] for name in some}, folder / file)
    named = {name: file for file, some in halves.items() for name in some}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": named}))
    return index


def test_shards_and_folders(net: nn.Module, tmp_path: Path) -> None:
    index = sharded(net.state_dict(), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    for file in (index, tmp_path):
        found = read_state(str(file))
        assert found.keys() == net.state_dict().keys()
        assert all(torch.equal(found[name], t) for name, t in net.state_dict().items())
    one = tmp_path / "one"
    one.mkdir()
    with pytest.raises(UserError, match=r"holds no file of weights .* but nothing"):
        read_state(str(one))
    torch.save(net.state_dict(), one / "pytorch_model.bin")
    assert read_state(str(one)).keys() == net.state_dict().keys()
    torch.save(net.state_dict(), one / "b.bin")
    with pytest.raises(UserError, match=r"holds 2 files of weights, b\.bin, pytorch_model\.bin"):
        read_state(str(one))


def test_shards_that_are_not_whole(net: nn.Module, tmp_path: Path) -> None:
    index = sharded(net.state_dict(), tmp_path)
    (tmp_path / "model-2-of-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"'model-2-of-2\.safetensors' is not there, one of 2"):
        read_state(str(index))
    save_file({"x": torch.ones(1)}, tmp_path / "model-2-of-2.safetensors")
    with pytest.raises(UserError, match=r"lacks 'b\.weight', which the index says"):
        read_state(str(index))
    index.write_text(json.dumps({"weight_map": {"a.weight": "../other.safetensors"}}))
    with pytest.raises(UserError, match="which is no file beside it"):
        read_state(str(index))
    for text in ("[]", "{", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(UserError, match="is no index of shards"):
            read_state(str(index))


@pytest.mark.parametrize("text", ['{"weight_map": {"a": "self.index.json"}}', "[" * 100_000])
def test_an_index_that_leads_nowhere(text: str, tmp_path: Path) -> None:
    index = tmp_path / "self.index.json"
    index.write_text(text)
    with pytest.raises(UserError, match=r"is no index of shards|which is no file beside it"):
        read_state(str(index))


def test_a_shard_of_a_name_that_no_file_has(tmp_path: Path) -> None:
    index = tmp_path / "one.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a" * 300}}))
    with pytest.raises(UserError, match="is not there, one of 1 shards"):
        read_state(str(index))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.o = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.o.weight = self.e.weight


def test_tied_weights_that_differ() -> None:
    one = torch.ones(2, 2)
    params, _ = divide(Functional(Tied()), {"e.weight": one, "o.weight": one.clone()}, "a.pt")
    assert list(params) == ["e.weight"]
    with pytest.raises(UserError, match=r"'e\.weight' and 'o\.weight' are one parameter"):
        divide(Functional(Tied()), {"e.weight": one, "o.weight": 0 * one}, "a.pt")


def test_norms_of_older_files_counted_no_batches() -> None:
    module = nn.BatchNorm1d(2)
    state = {name: t + 1 for name, t in module.state_dict().items() if "num" not in name}
    _, buffers = divide(Functional(module), state, "a.pt")
    assert int(buffers["num_batches_tracked"]) == 0
    assert torch.equal(buffers["running_mean"], torch.ones(2))


def squeezed(tensors: dict[str, torch.Tensor]) -> bytes:
    """Return a file of `torch.save` whose parts are compressed."""
    plain, made = io.BytesIO(), io.BytesIO()
    torch.save(tensors, plain)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for name in read.namelist():
            out.writestr(name, read.read(name))
    return made.getvalue()


def saved(tensors: dict[str, torch.Tensor]) -> bytes:
    made = io.BytesIO()
    torch.save(tensors, made)
    return made.getvalue()


def no_files() -> dict[str, tuple[bytes, str]]:
    zeros = {"a": torch.zeros(10_000)}
    return {
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "page": (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        "empty": (b"", "is empty"),
        "cut": (saved(zeros)[:-300], "is cut off or damaged"),
        "bomb": (squeezed({"a": torch.zeros(1_000_000)}), r"holds 4,0\d\d,\d+ bytes in"),
        "meta": (saved({"a": torch.zeros(2, device="meta")}), "has a shape and no values"),
    }


@pytest.mark.parametrize("kind", ["lfs", "page", "empty", "cut", "bomb", "meta"])
def test_what_a_file_is_instead(kind: str, tmp_path: Path) -> None:
    content, says = no_files()[kind]
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_state(str(tmp_path / "a.pt"))


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.pt")
    assert torch.equal(read_state(str(tmp_path / "a.pt"))["a"], torch.ones(2))


def test_names_out_of_files_are_no_codes_of_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred\n" + "x" * 100_000: torch.ones(2)}, tmp_path / "a.pt")
    module = nn.Linear(2, 2)
    with pytest.raises(UserError) as told:
        divide(Functional(module), read_state(str(tmp_path / "a.pt")), "a.pt")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 2100
    assert r"\x1b[31mred" in str(told.value)
