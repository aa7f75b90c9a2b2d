"""The sweep of strengths against the ensembles of `espro`, and arithmetic on its predictions."""

import math

import numpy as np
import pytest
import torch
from test_simplex_ensembles import SETTINGS, networks

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.espro_strength import EsproStrength
from lossatlas.simplex import measure_espro, measure_strength
from lossatlas.simplex.complexes import grown as grown_from
from lossatlas.simplex.points import rows
from lossatlas.simplex.spro import grow
from lossatlas.simplex.strength import random_squared_edge, rule
from lossatlas.store import Record
from lossatlas.training.networks import Networks
from parts import frame

torch.set_num_threads(1)
STRENGTHS = [0.0, 1e-6, 0.5]
SWEEP = EsproStrength(learning_rate=0.05, regularisations=STRENGTHS, repeats=3, **SETTINGS)
__all__ = ["networks"]


@pytest.fixture(scope="module")
def swept(networks: Networks) -> Record:
    return measure_strength.measure(networks, SWEEP)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_at_one_strength_it_is_what_espro_measures(
    networks: Networks, swept: Record, mode: str
) -> None:
    own = Espro(
        mode=mode, regularisation=0.5, learning_rate=0.05, cycles=0, severities=[], **SETTINGS
    )
    p = np.exp(
        measure_espro.measure(networks, own)
        .arrays["simplex1_test_log_probs"]
        .values.astype(np.float64)
    ).mean(axis=1)[:3]
    labels = networks.data.test.labels.numpy()
    places = np.arange(len(labels))
    table = frame(swept, "strengths")
    way = {"fixed": 0, "paper": 1}[mode]
    found = table[(table["way"] == way) & (table["regularisation"] == 0.5)]
    assert found["component"].tolist() == networks.seeds[:3]
    wanted = [-np.log(one[places, labels]).mean() for one in p]
    np.testing.assert_allclose(found["nll"], wanted, rtol=1e-5)
    errors = [100 * np.mean(one.argmax(1) != labels) for one in p]
    np.testing.assert_allclose(found["error"], errors)
    both = p.mean(axis=0)
    mixed = frame(swept, "mixtures").query("way == @way and regularisation == 0.5").iloc[0]
    assert mixed["components"] == 3
    assert mixed["nll"] == pytest.approx(-np.log(both[places, labels]).mean(), rel=1e-5)
    told = [s.value for s in swept.scalars if s.name == f"nll_{mode}"]
    assert told == found["nll"].tolist()


def test_volumes_and_strengths(networks: Networks, swept: Record) -> None:
    """One vertex: its volume is its distance; the strength of mode 'paper' is the authors' rule."""
    table = frame(swept, "strengths")
    assert len(table) == 2 * len(STRENGTHS) * 3
    train = shuffled(networks.data.train, "simplex", 0)
    modes = rows(networks.params, networks.functional.shapes)
    asked = SWEEP.model_copy(update={"mode": "fixed", "regularisation": 0.5})
    plan, buffers = grown_from(1, 1), networks.one(1)[1]
    grown = grow(
        networks.functional, buffers, modes[1][None], train, plan, asked, None, ("espro", 1)
    )
    length = float((grown.vertices[1] - grown.vertices[0]).double().norm())
    row = table.query("way == 0 and regularisation == 0.5 and component == 1").iloc[0]
    assert row["log_volume"] == pytest.approx(math.log(length), rel=1e-6)
    edge = random_squared_edge(networks.functional.module)
    for strength in STRENGTHS[1:]:
        some = table.query("way == 1 and regularisation == @strength")
        np.testing.assert_allclose(some["strength"], rule(strength, edge, 1), rtol=1e-6)
    fixed = table[table["way"] == 0]
    assert fixed["strength"].tolist() == fixed["regularisation"].tolist()
    mean = fixed.groupby("regularisation")["log_volume"].mean()
    assert mean[0.5] > mean[0.0] + 0.5
    assert mean[1e-6] == pytest.approx(mean[0.0], abs=1e-3)


def test_a_simplex_that_diverges_has_no_row(networks: Networks) -> None:
    wild = SWEEP.model_copy(update={"learning_rate": 1e30, "regularisations": [0.0]})
    record = measure_strength.measure(networks, wild)
    assert not record.tables
    assert {(s.name, s.status) for s in record.scalars} == {
        ("nll_fixed", "diverged"),
        ("nll_paper", "diverged"),
    }
