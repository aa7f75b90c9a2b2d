"""What used to be accepted without a word, and changed numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cli_cases
from lossatlas import store
from lossatlas.cli import main
from lossatlas.connectivity import linear_barrier
from lossatlas.curvature import hessian_of
from lossatlas.data.tensors import Split
from lossatlas.diffusion import fit_power_law
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec import catalogue
from lossatlas.training.networks import Networks, not_estimated, tell_of_buffers


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return cli_cases.enter(tmp_path, monkeypatch)


def test_pixels_are_standardised_aloud_or_left_as_they_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cli_net

    command = ["metric", "performance", "--checkpoint", "0.pt", "--model", "cli_net:Net"]
    command += ["--data", "data.npz", "--out", "o.h5"]
    data = np.load(here / "data.npz")
    images, labels = data["train_images"] / 255, torch.from_numpy(data["train_labels"])
    net = cli_net.Net(10).eval()
    net.load_state_dict(torch.load("0.pt", weights_only=True))
    plain = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for option, x, says in (
        ([], (plain - images.mean()) / images.std(), f"standardised by mean {images.mean():.3g}"),
        (["--pixels", "unit"], plain, ""),
    ):
        assert main([*command, *option]) == 0
        loss = nn.functional.cross_entropy(net(x.float()), labels.long()).item()
        record = store.read("o.h5")
        assert record.scalar("train_loss").value == pytest.approx(loss, rel=1e-5)
        told = capsys.readouterr().err
        assert told.count("\n") == bool(says)
        assert says in told
    assert record.spec["mean"] == [0]
    assert record.spec["std"] == [1]


def test_a_network_that_draws_has_no_hessian() -> None:
    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(nn.functional.dropout(x, 0.5))

    with pytest.raises(UserError, match="two calls in evaluation mode give different outputs"):
        hessian_of(Draws(), torch.ones(6, 4), torch.zeros(6).long())
    hessian_of(
        nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), torch.ones(6, 4), torch.zeros(6).long()
    )


class Own(nn.Module):
    """BatchNorm written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("still", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.running_mean * self.still


def test_buffers_of_one_end_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    spectral = nn.utils.parametrizations.spectral_norm
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), Own(), spectral(nn.Linear(3, 2)))
        net[2].running_mean.add_(seed)
        net[1].running_mean.add_(seed)
        states.append(state_of(net))
    params, buffers = (stack(list(part)) for part in zip(*states, strict=True))
    data: object = None
    networks = Networks(Functional(net), params, buffers, [0, 1], data)  # type: ignore[arg-type]
    found = not_estimated(networks)
    assert found[0] == "2.running_mean"
    assert {name.rpartition(".")[2] for name in found[1:]} == {"_u", "_v"}
    tell_of_buffers(networks)
    assert "buffers 2.running_mean" in capsys.readouterr().err
    same = replace(networks, buffers={n: b[:1].expand(2, *b.shape[1:]) for n, b in buffers.items()})
    tell_of_buffers(same)
    assert not capsys.readouterr().err


def test_whole_numbers_are_no_continuous_power_law() -> None:
    draw = np.random.default_rng(0)
    counts = draw.zipf(2.5, 5000).astype(float)
    assert fit_power_law(counts, smallest=1.0).status == "undefined"
    assert fit_power_law(counts).status == "undefined"
    values = draw.pareto(1.5, 5000) + 1
    fit = fit_power_law(values, smallest=1.0)
    assert fit.status == "ok"
    assert fit.exponent == pytest.approx(2.5, abs=0.1)
    large = np.rint(1000 * values)
    assert fit_power_law(large, smallest=1000.0).status == "ok"


def test_an_output_per_pixel_has_no_barrier_of_images() -> None:
    net = nn.Conv2d(1, 3, 1)
    other = nn.Conv2d(1, 3, 1)
    images, labels = torch.randn(8, 1, 5, 5), torch.randint(3, (8, 5, 5))
    split = Split(images, labels)
    with pytest.raises(UserError, match=r"shape \(8, 3, 5, 5\).*not \(N, classes\)"):
        linear_barrier(Functional(net), state_of(net), state_of(other), split, split)


def test_two_data_sets_do_not_share_a_file() -> None:
    rows = catalogue.data_sources()
    one = next(row for row in rows.values() if row.file and row.sha256)
    twin = replace(one, name="twin", sha256="0" * 64)
    with pytest.raises(UserError, match=f"'{one.name}' and 'twin' are both '{one.file}'"):
        catalogue._check_files({one.name: one, "twin": twin})
    catalogue._check_files({one.name: one, "twin": replace(twin, sha256=one.sha256)})


def test_central_differences_are_a_setting(here: Path) -> None:
    (here / "hard_net.py").write_text(
        "from torch import nn\n\n\ndef Net(num_classes):\n"
        "    parts = nn.Flatten(), nn.Linear(64, 8), nn.Hardsigmoid(), nn.Linear(8, num_classes)\n"
        "    return nn.Sequential(*parts)\n"
    )
    import hard_net

    torch.save(hard_net.Net(10).state_dict(), "h.pt")
    command = ["metric", "hessian", "--checkpoint", "h.pt", "--model", "hard_net:Net"]
    few = ["samples=30", "iterations=10", "probes=3", "density_probes=0"]
    command += ["--data", "data.npz", "--out", "o.h5", "--set", *few]
    assert main(command) == 1
    assert main([*command, "differences=true"]) == 0
    assert np.isfinite(store.read("o.h5").scalar("hessian_eigenvalue").value)
