"""Standard errors of cells: means over replicas and pairs, ensembles, traces."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import torch

from intervals.coverage import Case
from lossatlas.curvature import hutchinson_paper, trace
from lossatlas.figures.simplex_ensembles import averages
from lossatlas.similarity.performance import add_ensemble
from lossatlas.simplex.ensembles import groups
from lossatlas.store import Array, Record, Scalar
from lossatlas.tables.collect import cell_summary, scalar_frame

HEAVY = "heavy tails (Student's t, 3 df)"


def summary_of(metric: str, quantity: str, numbers: np.ndarray, pairs: list | None = None) -> tuple:
    """Return value, stderr and df that tables have for cells (repeats) of numbers (repeats, n)."""
    who = pairs or [(replica, None) for replica in range(numbers.shape[1])]
    cells = {
        str(row): [Scalar(metric, float(v), *pair) for v, pair in zip(some, who, strict=True)]
        for row, some in enumerate(numbers)
    }
    table = scalar_frame("e", {cell: {"width": int(cell)} for cell in cells}, cells)
    found = cell_summary(table)
    found = found[found["metric"] == quantity]
    return tuple(found[name].to_numpy(float) for name in ("value", "stderr", "df"))


def replicas(draw, count, truth=0.0, metric="test_accuracy", quantity="test_accuracy"):
    """A case's function: the mean over replicas of independent numbers."""

    def run(random, repeats):
        return *summary_of(metric, quantity, draw(random, (repeats, count))), truth

    return run


def normal(random, shape):
    return random.normal(size=shape)


def heavy(random, shape):
    return random.standard_t(3, size=shape)


def skewed(random, shape):
    return np.exp(random.normal(size=shape)) - np.exp(0.5)


def of_pairs(draw, pairs, effect, noise):
    """A case's function: the mean over pairs of replica effects plus noise of the pairs."""
    count = 1 + max(max(pair) for pair in pairs)

    def run(random, repeats):
        a = effect * draw(random, (repeats, count))
        numbers = np.stack([a[:, i] + a[:, j] for i, j in pairs], axis=1)
        numbers += noise * draw(random, numbers.shape)
        return *summary_of("cka", "cka", numbers, pairs), 0.0

    return run


def of_distances(pairs, dimension):
    """A case's function: the mean distance of random vectors (2 million pairs tell the truth)."""
    count = 1 + max(max(pair) for pair in pairs)

    def run(random, repeats):
        points = random.normal(size=(repeats, count, dimension))
        gaps = [np.linalg.norm(points[:, i] - points[:, j], axis=-1) for i, j in pairs]
        apart = random.normal(size=(200_000, dimension)) * np.sqrt(2)
        truth = float(np.linalg.norm(apart, axis=-1).mean())
        return *summary_of("l2_distance", "l2_distance", np.stack(gaps, axis=1), pairs), truth

    return run


def log_trace(spread, count):
    """A case's function: the logarithm of the mean of log-normal traces."""

    def draw(random, shape):
        return np.exp(spread * random.normal(size=shape))

    return replicas(draw, count, spread**2 / 2, "hessian_trace", "log_hessian_trace")


class Dense:
    """A matrix as an operator."""

    def __init__(self, matrix):
        self.matrix, self.size, self.products = matrix, len(matrix), 0
        self.dtype, self.device = matrix.dtype, matrix.device

    def __call__(self, vector):
        self.products += 1
        return self.matrix @ vector


def spectrum(outliers, size=100):
    """A matrix with a bulk of both signs and a few large eigenvalues, as a trained network has."""
    random = torch.Generator().manual_seed(0)
    draw = {"dtype": torch.float64, "generator": random}
    basis = torch.linalg.qr(torch.randn(size, size, **draw))[0]
    values = 0.05 * torch.randn(size, **draw)
    values[: len(outliers)] += torch.tensor(outliers, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.T


NETWORK = (9, 6, 4, 3, 2, 1.5, 1, 0.7, 0.5)
ALIKE = (5, 5, 5, 5, 5, 5)  # more than a basis of four vectors holds


def of_trace(products, outliers=NETWORK, paper=False):
    """A case's function: the trace of a matrix from some products."""

    def run(_, repeats):
        matrix = spectrum(outliers)
        function = hutchinson_paper if paper else trace
        found = [
            function(Dense(matrix), products, generator=torch.Generator().manual_seed(seed))
            for seed in range(repeats)
        ]
        columns = [[getattr(one, name) for one in found] for name in ("value", "stderr", "df")]
        return *map(np.array, columns), matrix.trace().item()

    return run


def logits(random, shape, labels, tails):
    """Logits (..., N, 3) of networks that share what is hard, and differ in the rest."""
    noise = random.standard_t(3, size=shape) / np.sqrt(3) if tails else random.normal(size=shape)
    return 1.5 * noise + 2.0 * np.eye(3)[labels]


def of_ensemble(count, tails, measure):
    """A case's function: accuracy or NLL of the ensemble of replicas on a fixed test set."""

    def run(random, repeats):
        labels = random.integers(0, 3, size=60)
        offset = random.normal(size=(60, 3))
        rows = []
        for _ in range(repeats):
            skill = 1 + 0.3 * random.normal(size=(count, 1, 1))
            given = offset + skill * logits(random, (count, 60, 3), labels, tails)
            arrays = {"test_logits": Array(given, ("replica", "image", "class"))}
            arrays["test_labels"] = Array(labels, ("image",))
            found = add_ensemble(Record("performance", arrays=arrays))
            rows.append(found.scalar(f"ensemble_{measure}"))
        return tuple(np.array([getattr(r, k) for r in rows]) for k in ("value", "stderr", "df"))

    return run


def of_groups(count, size, tails):
    """A case's function: the mean NLL of overlapping ensembles, as figures draw it."""

    def run(random, repeats):
        found = []
        for _ in range(repeats):
            draw = random.standard_t(3, size=count) if tails else random.normal(size=count)
            skill = 1 + 0.1 * draw
            each = skill[:, None] + 0.5 * random.normal(size=(count, 50))
            rows = [
                {"method": 0, "components": size, "group": place}
                | {"nll": float(-np.log(np.exp(-each[chosen]).mean(axis=0)).mean())}
                for place, (chosen, _) in enumerate(groups(count, size))
            ]
            found.append(averages(pd.DataFrame(rows), "components", ["nll"]).iloc[0])
        return tuple(
            np.array([row[name] for row in found]) for name in ("nll", "nll_stderr", "nll_df")
        )

    return run


def cases() -> list[Case]:
    """Return all cases."""
    three, five, ten = (list(combinations(range(n), 2)) for n in (3, 5, 10))
    mean, pair = "mean over replicas", "mean over pairs"
    tail = "skewed numbers and three to five of them: no symmetric interval covers"
    alone = "three pairs cannot tell noise of pairs from that of replicas: all is put down to these"
    found = []
    for count in (3, 5):
        found += [
            Case(mean, f"{count} replicas, normal", replicas(normal, count), quick=True),
            Case(mean, f"{count} replicas, {HEAVY}", replicas(heavy, count), quick=True),
            Case(mean, f"{count} replicas, log-normal (s.d. 1)", replicas(skewed, count), why=tail),
            Case("log of the mean trace", f"{count} replicas, s.d. of the log 0.3",
                 log_trace(0.3, count), quick=True),
            Case("log of the mean trace", f"{count} replicas, s.d. of the log 1",
                 log_trace(1.0, count), why=tail),
        ]  # fmt: skip
    for pairs, count in ((three, 3), (five, 5), (ten, 10)):
        for draw, words in ((normal, "normal"), (heavy, HEAVY)):
            few = alone if count == 3 else ""
            head = f"{count} replicas, {words}, "
            found += [
                Case(pair, head + "effects of replicas alone", of_pairs(draw, pairs, 1, 0),
                     quick=count < 10),
                Case(pair, head + "as much noise of pairs", of_pairs(draw, pairs, 1, 1), why=few,
                     quick=count < 10),
                Case(pair, head + "noise of pairs alone", of_pairs(draw, pairs, 0, 1), why=few),
            ]  # fmt: skip
        data = f"{count} replicas, distances in 20 dimensions"
        found.append(Case(pair, data, of_distances(pairs, 20), why=alone if count == 3 else ""))
    chain = list(pairwise(range(5)))
    found += [
        Case(pair, "chain of 5 replicas, normal, effects alone", of_pairs(normal, chain, 1, 0)),
        Case(pair, "chain of 5 replicas, normal, as much noise", of_pairs(normal, chain, 1, 1)),
        Case("trace", "8 products (4 probes)", of_trace(8), quick=True),
        Case("trace", "8 products, six equal outliers", of_trace(8, ALIKE)),
        Case("trace", "40 products", of_trace(40)),
        Case("trace, mode paper", "up to 100 products", of_trace(100, paper=True),
             why="its rule stops where the mean happens to move little"),
    ]  # fmt: skip
    for count in (3, 5):
        for tails, words in ((False, "normal logits"), (True, "heavy tails")):
            for measure in ("accuracy", "nll"):
                name = f"ensemble_{measure}"
                run = of_ensemble(count, tails, measure)
                found.append(Case(name, f"{count} replicas, {words}", run))
    for count, size in ((3, 1), (3, 2), (5, 2), (5, 4), (10, 2), (10, 8)):
        for tails, words in ((False, "normal"), (True, HEAVY)):
            data = f"{size} of {count} replicas, {words}"
            found.append(Case("mean over ensembles", data, of_groups(count, size, tails)))
    return found
