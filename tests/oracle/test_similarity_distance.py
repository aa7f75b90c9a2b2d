"""Distance of weights and predictions, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lossatlas
from lossatlas.metrics.distance import Distance
from lossatlas.similarity import distance, predictions

RANDOM = np.random.default_rng(0)


def weights(scale: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "conv": (scale * RANDOM.normal(size=(4, 3, 3, 3))).astype(np.float32),
        "norm": RANDOM.normal(size=4).astype(np.float32),
    }


def logits() -> np.ndarray:
    return RANDOM.normal(size=(30, 5)).astype(np.float32)


@pytest.mark.parametrize("module", ["", ".distance", ".predictions", ".rows"])
def test_imports_no_torch(module):
    code = (
        f"import sys, lossatlas.similarity{module}; "
        "sys.exit(any(m == 'torch' or m.startswith('torch.') for m in sys.modules))"
    )
    path = Path(lossatlas.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_lazy_exports():
    from lossatlas import similarity

    for name in similarity.__all__:
        assert callable(getattr(similarity, name)), name
    assert set(similarity.__all__) == set(similarity._HOMES) <= set(dir(similarity))
    with pytest.raises(AttributeError, match="no attribute 'ckaa'"):
        similarity.ckaa  # noqa: B018


def test_l2_is_the_norm_of_the_flat_difference():
    a, b = weights(), weights()
    flat = [np.concatenate([x.ravel() for x in one.values()]).astype(float) for one in (a, b)]
    expected = np.linalg.norm(flat[0] - flat[1])
    assert distance.l2_distance(a, b) == pytest.approx(expected, rel=1e-14)
    assert distance.l2_distance(b, a) == distance.l2_distance(a, b)
    mean_square = (flat[0] @ flat[0] + flat[1] @ flat[1]) / 2
    expected /= np.sqrt(mean_square)
    assert distance.normalised_distance(a, b) == pytest.approx(expected, rel=1e-14)


def test_l2_is_summed_in_float64():
    a = {"w": np.full(3, 1e25, np.float32)}  # squares overflow float32
    assert distance.l2_distance(a, {"w": np.zeros(3, np.float32)}) == pytest.approx(3**0.5 * 1e25)


def test_normalised_distance_of_known_angles():
    x, y = {"w": np.array([3.0, 0.0])}, {"w": np.array([0.0, 3.0])}
    assert distance.normalised_distance(x, x) == 0.0
    assert distance.normalised_distance(x, y) == pytest.approx(np.sqrt(2))
    assert distance.normalised_distance(x, {"w": -x["w"]}) == pytest.approx(2.0)
    assert np.isnan(distance.normalised_distance({"w": np.zeros(2)}, {"w": np.zeros(2)}))


def test_rows_of_every_pair():
    seeds = [7, 2, 4]
    w, z = {s: weights() for s in seeds}, {s: logits() for s in seeds}
    record = distance.measure(w, z, Distance())
    assert record.kind == "distance"
    pairs = {(s.replica, s.partner) for s in record.scalars}
    assert pairs == {(2, 4), (2, 7), (4, 7)}
    assert [s.name for s in record.scalars[:5]] == [one.name for one in Distance.outputs]
    assert len(record.scalars) == 15
    rows = {s.name: s for s in record.scalars if (s.replica, s.partner) == (4, 7)}
    tables = [predictions.log_softmax(z[s]) for s in (4, 7)]
    assert rows["l2_distance"].value == distance.l2_distance(w[4], w[7])
    assert rows["normalised_distance"].value == distance.normalised_distance(w[4], w[7])
    assert rows["js_divergence"].value == predictions.js_divergence(*tables)
    assert rows["disagreement"].value == predictions.disagreement(z[4], z[7])
    assert rows["logit_cosine"].value == predictions.logit_cosine(z[4], z[7])
    assert (rows["disagreement"].unit, rows["js_divergence"].unit) == ("percent", "nats")
    assert {s.status for s in record.scalars} == {"ok"}


def test_collapsed_and_broken_networks():
    dead = {"conv": np.zeros((4, 3, 3, 3)), "norm": np.zeros(4)}
    nan = {name: np.full_like(x, np.nan) for name, x in dead.items()}
    z = {0: np.zeros((30, 5)), 1: np.zeros((30, 5)), 2: np.full((30, 5), np.nan)}
    record = distance.measure({0: dead, 1: dead, 2: nan}, z, Distance())
    found = {(s.name, s.partner): s for s in record.scalars if s.replica == 0}
    assert (found["l2_distance", 1].value, found["l2_distance", 1].status) == (0.0, "ok")
    assert found["disagreement", 1].value == found["js_divergence", 1].value == 0.0
    for key in [("normalised_distance", 1), ("logit_cosine", 1)] + [
        (name, 2) for name in [one.name for one in Distance.outputs]
    ]:
        assert np.isnan(found[key].value), key
        assert found[key].status == "undefined"


def test_fewer_than_two_replicas_have_no_pairs():
    assert distance.measure({3: weights()}, {3: logits()}, Distance()).scalars == []
    assert distance.measure({}, {}, Distance()).scalars == []


def test_refuses_what_does_not_fit():
    a = weights()
    with pytest.raises(ValueError, match=r"parameters \['norm'\]"):
        distance.l2_distance(a, {"conv": a["conv"]})
    with pytest.raises(ValueError, match=r"'norm' has the shapes \(4,\) and \(1,\)"):
        distance.l2_distance(a, {**a, "norm": a["norm"][:1]})
    with pytest.raises(ValueError, match=r"seeds \[1\]"):
        distance.measure({0: a, 1: a}, {0: logits()}, Distance())
