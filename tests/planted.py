"""Tables in which every claim holds, in which every one fails, and in which there is only noise.

"yes" and "no" have clear effects with a little noise. "noise" lies on the border: each gap of a
claim is as likely above as below what is claimed.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd

from lossatlas.claims.grid import Grid, Grids
from lossatlas.figures import Tables
from lossatlas.tables.collect import SCALAR, SERIES

REPLICAS = 72  # of the ensembles: nine groups of eight
PAIRS = 9  # one more than 12 claims need
BATCHES = np.array([16, 32, 44, 64, 92, 128, 256, 724, 1024])
WIDTHS = np.array([2, 3, 4, 8, 16, 23, 45, 64, 91, 128])
SCALE = 1.0  # of all distances from a border
SIGN = {"yes": -1.0, "no": 1.0, "noise": 0.0}


class Draw:
    """Numbers on the claimed side of a border, on the other one, or around it."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.rng = kind, np.random.default_rng(seed)

    def gaps(self, size: float, count: int = 1) -> np.ndarray:
        """Return gaps (count,) of about a size: below 0 where the claim holds."""
        side, size = SIGN[self.kind], SCALE * size
        if not side:
            return size * self.rng.normal(size=count)
        return side * size * (1 + 0.1 * self.rng.uniform(size=count))

    def gap(self, size: float) -> float:
        return float(self.gaps(size)[0])


def frame(rows: list[dict], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    for name in columns:
        if name not in table:
            table[name] = np.nan
    return table[columns]


# --- simplexes --------------------------------------------------------------------------------
def simplex(kind: str, seed: int = 0, pairs: int = PAIRS) -> dict[str, Tables]:
    draw = Draw(kind, seed)
    return {
        "simplex": _tables(_complexes(draw, pairs), {"inside": _inside()}),
        "simplex_volume": _tables([], {"volume": _volume(draw, pairs)}),
        "espro": _tables(
            _disagreement(draw, pairs),
            {"ensembles": _ensembles(draw), "corruption": _corruption(draw)},
        ),
        "sampling_bias": _tables([], {"tests": _bias(draw)}),
        "connectivity": _curves(draw, pairs),
    }


def _tables(scalars: list[tuple], tables: dict[str, pd.DataFrame]) -> Tables:
    rows = [
        {"metric": name, "replica": a, "partner": b, "value": value, "status": "ok"}
        for name, value, a, b in scalars
    ]
    head = {"experiment": "e", "cell": "c"}
    parts = [table.assign(**head, series=name, status="ok") for name, table in tables.items()]
    joined = pd.concat(parts) if parts else pd.DataFrame(columns=["cell", "series"])
    inner = [c for c in joined if c not in (*head, *SERIES)]
    columns = [*head, *SERIES[:3], *inner, *SERIES[3:]]
    return Tables(
        frame([head | row for row in rows], [*head, *SCALAR])
        if rows
        else pd.DataFrame(columns=[*head, *SCALAR]),
        frame(joined.to_dict("records"), columns),
    )


def _complexes(draw: Draw, pairs: int) -> list[tuple]:
    rows: list[tuple] = []
    for k in range(pairs):
        rows += [("mode_loss", 0.01, replica, None) for replica in (2 * k, 2 * k + 1)]
        numbers = {
            "inside_loss": 0.02,
            "segment_loss_max": 1.0,
            "inside_loss_max": 0.25 + draw.gap(0.1),
            "path_loss_max": 0.2 + draw.gap(0.1),
            "inside_accuracy_min": 98 - draw.gap(0.5),
        }
        rows += [(name, value, 2 * k, None) for name, value in numbers.items()]
    return rows


def _inside() -> pd.DataFrame:
    return pd.DataFrame({"simplex": np.arange(50) % 2, "train_loss": 0.02})


def _volume(draw: Draw, pairs: int) -> pd.DataFrame:
    rows = []
    for pair in range(pairs):
        last = 0.5 + draw.gap(0.2)
        small, large = 1 + abs(0.01 + draw.gap(0.005)), 1 + abs(0.01 - draw.gap(0.005))
        strengths = ((0.0, 1.0), (1e-6, small), (0.05, large))
        rows += [
            {
                "pair": pair,
                "way": way,
                "regularisation": strength,
                "connectors": connectors,
                "simplex": 0,
                "height": last if connectors == 11 else 1.0,
                "log_volume": -float(connectors),
                "train_accuracy": 99.0,
                "test_nll": nll,
            }
            for way, (strength, nll), connectors in product((0, 1, 2), strengths, (1, 2, 11))
        ]
    return pd.DataFrame(rows)


def _disagreement(draw: Draw, pairs: int) -> list[tuple]:
    own = [("simplex_disagreement", 3 + draw.gap(1.0), seed, None) for seed in range(2 * pairs)]
    return own + [("mode_disagreement", 3.0, *pair) for pair in combinations(range(2 * pairs), 2)]


def _ensembles(draw: Draw) -> pd.DataFrame:
    rows = []
    for size in (1, 2, 3, 8):
        for group in range(0, REPLICAS, 1 if size < 3 else 8):
            nll, gap, excess = 0.3 / size, draw.gap(0.01), draw.gap(0.1)
            error = 8.0 if size == 1 else 4.0
            common = {"components": size, "group": group, "disjoint": float(group % size == 0)}
            common |= {"member_nll": nll - excess}
            rows.append({"method": 0, "nll": nll, "error": error, **common})
            theirs = {**common, "member_nll": nll + gap - excess}
            rows.append({"method": 2, "nll": nll + gap, "error": error + draw.gap(0.5), **theirs})
    return pd.DataFrame(rows)


def _corruption(draw: Draw) -> pd.DataFrame:
    table = _ensembles(draw)[lambda t: t["components"] == 2].drop(columns="member_nll")
    parts = [table.assign(severity=s, nll_scaled=table["nll"]) for s in (0.0, 0.1)]
    return pd.concat(parts).assign(kind="noise")


def _bias(draw: Draw) -> pd.DataFrame:
    p = {"yes": (0.5, 1e-9), "no": (1e-5, 1e-9), "noise": tuple(draw.rng.uniform(size=2))}
    right, wrong = p[draw.kind]
    rows = {"wrong": [0, 0, 1, 1], "p_chi_square": [right, 0.4, wrong, wrong]}
    return pd.DataFrame(rows | {"p_kolmogorov": [0.3] * 4})


def _curves(draw: Draw, pairs: int) -> Tables:
    far = {"yes": 1e-9, "no": 0.1, "noise": 0.1}[draw.kind]
    rows = [
        {"replica": 2 * k, "partner": 2 * k + 1, "x": x, "y": 0.01 + far * (1 + draw.rng.uniform())}
        for k in range(pairs)
        for x in (0.0, 1.0)
    ]
    head = {
        "experiment": "e",
        "cell": "c",
        "series": "train_loss",
        "path": "bezier",
        "status": "ok",
    }
    columns = ["experiment", "cell", *SERIES[:3], "path", *SERIES[3:]]
    scalars = pd.DataFrame(columns=["experiment", "cell", *SCALAR])
    return Tables(scalars, frame([head | row for row in rows], columns))


# --- diffusion --------------------------------------------------------------------------------
AXES = ["experiment", "cell", "depth", "model.shortcut", "learning_rate", "batch_size"]
AXES += ["label_noise"]
PLACES = [  # depth, shortcut, rate, batch size, label noise
    (14, 0.0, 0.1, 32, 0.0),
    (20, 0.0, 0.1, 32, 0.0),
    (56, 0.0, 0.1, 32, 0.0),
    (56, 0.0, 0.1, 64, 0.0),
    (56, 0.0, 0.01, 32, 0.0),
    (56, 0.0, 0.1, 32, 1.0),
]


ONE = (3,)  # the place of a claim about one cell
WHERE = {"C4": (3, 4), "C5": (2, 3), "C6": (0, 1, 2), "C15": (3, 5)}


def diffusion(kind: str, claim: str, seed: int = 0, replicas: int = PAIRS) -> dict[str, Tables]:
    """Return the tables of the paths that one claim looks at, and of the toy walkers.

    Claims that look at the same number have their borders at different places; the numbers that
    decide `claim` lie at the border of that one. Noise has no more cells than the claim needs.
    """
    draw = Draw(kind, seed)
    scalars, series = [], []
    places = [PLACES[k] for k in WHERE.get(claim, ONE)] if kind == "noise" else PLACES
    for replica in range(replicas):
        for place in places:
            head = dict(zip(AXES, ("e", "-".join(map(str, place)), *place), strict=True))
            who = head | {"replica": replica, "status": "ok"}
            numbers = _numbers(draw, claim, place)
            scalars += [who | {"metric": name, "value": v} for name, v in numbers.items()]
            for name, window, x, y in _lines(draw):
                rows = zip(x, y, strict=True)
                series += [
                    who | {"series": name, "window": window, "x": a, "y": b} for a, b in rows
                ]
    columns = [*AXES, *SERIES[:3], "window", *SERIES[3:]]
    return {
        "diffusion": Tables(frame(scalars, [*AXES, *SCALAR]), frame(series, columns)),
        "toy_walkers": _toy(draw),
    }


def _numbers(draw: Draw, claim: str, place: tuple) -> dict[str, float]:
    depth, _, rate, batch, _ = place
    slow = rate <= 0.01
    first = 1 - draw.gap(0.3)
    if claim == "C4" and slow:
        first = 1.8 - draw.gap(0.1)
    elif claim == "C5":
        first = 1.3 + (0.15 + draw.gap(0.1)) * (1 if batch == 64 else -1)
    elif claim == "C6":
        trend = {"yes": -0.01, "no": 0.01, "noise": 0.0}[draw.kind]
        first = 1.3 + trend * depth + 0.05 * draw.rng.normal()
    index = 1.0 - (draw.gap(0.7) if draw.kind != "noise" else draw.gap(0.5))
    return {
        "exponent_first": first,
        "exponent_last": 1.7 - draw.gap(0.1) if slow and claim == "C4" else 1 + draw.gap(0.3),
        "still_exponent_first": 1.1,
        "surrogate_exponent_last": 1.0,
        "msd_long_first": 9.0,
        "msd_long_last": 9.0 * float(np.exp(draw.gap(1.0))),
        "msl_exponent_first": -draw.gap(0.5),
        "msl_exponent_last": -draw.gap(0.3),
        "path_exponent_first": 1 - draw.gap(0.4),
        "stable_alpha_first": 1.0,
        "stable_alpha_last": index,
        "mixture_alpha_first": 1.0,
    }


def _lines(draw: Draw) -> list[tuple]:
    x = np.array([0.0, 700.0, 1400.0, 2100.0])
    fall = {"yes": -x, "no": x, "noise": 0 * x}[draw.kind]
    lags = np.geomspace(10, 300, 9)
    share = {"yes": 1.0, "no": 0.0, "noise": draw.rng.uniform()}[draw.kind]
    inside = np.where(draw.rng.uniform(size=9) < share, 1.0, 3.0)
    return [
        ("exponent", np.nan, x, 1.0 + fall / 4000 + 0.01 * draw.rng.normal(size=4)),
        ("moving_variance", np.nan, x, np.full(4, 0.005 + draw.gap(0.002))),
        ("local_exponent", 0, lags, inside),
    ]


def _toy(draw: Draw) -> Tables:
    t = draw.rng.standard_t(4) if draw.kind == "noise" else -SIGN[draw.kind] * 5
    s = draw.rng.standard_t(4) if draw.kind == "noise" else SIGN[draw.kind] * 5
    values = {
        "fractal late_short": 1 + 0.05 * s,
        "flat early_short": 1.0,
        "fractal early_long": 1 + 0.05 * t,
        "cone early_long": 1 - 0.05 * t,
        "fractal small early_long": 1.5,
        "cone small early_long": 1.9,
    }
    rows = [
        {"experiment": "studies", "cell": "toy_walkers", "metric": name, "value": value}
        | {"stderr": 0.05, "status": "ok"}
        for name, value in values.items()
    ]
    scalars = frame(rows, ["experiment", "cell", *SCALAR])
    return Tables(scalars, pd.DataFrame(columns=["experiment", "cell", *SERIES]))


# --- taxonomy ---------------------------------------------------------------------------------
PHASES = ["I", "II", "III", "IV-A", "IV-B"]
NAMES = (
    "train_loss",
    "test_accuracy",
    "log_hessian_trace",
    "log_hessian_eigenvalue",
    "mode_connectivity",
    "cka",
    "l2_distance",
)


def taxonomy(kind: str, claim: str, seed: int = 0) -> Grids:
    """Return grids of noise in which one claim holds, fails, or has nothing to it.

    Replicas can be left out, and change nothing but the last digits.
    """
    rng = np.random.default_rng(seed)
    shape = (len(BATCHES), len(WIDTHS))
    metrics = {name: rng.normal(size=shape) for name in NAMES}
    metrics["mode_connectivity"] *= 3
    metrics["train_loss"] -= 4
    phase = rng.choice(PHASES, size=shape)
    if kind != "noise":
        _plant(claim, -SIGN[kind], metrics, phase, rng)
    metrics["train_loss"] = np.exp(metrics["train_loss"])
    parts = tuple(
        Grid(BATCHES, WIDTHS, {n: v * (1 + 1e-9 * k) for n, v in metrics.items()}, phase)
        for k in range(1, 2 if kind == "noise" else 6)
    )
    return Grids(Grid(BATCHES, WIDTHS, metrics, phase), parts)


def _plant(  # noqa: C901
    claim: str, s: float, m: dict[str, np.ndarray], phase: np.ndarray, rng: np.random.Generator
) -> None:
    """Put what a claim says (s = 1), or the opposite (s = -1), into quantities over the grid.

    Losses are logarithms here.
    """
    b, w = np.log(BATCHES)[:, None], np.log(WIDTHS)[None, :]
    little = 0.05 * rng.normal(size=phase.shape)
    accuracy = m["test_accuracy"]
    if claim == "T1":
        m["train_loss"] = -s * w + little
    elif claim == "T2":
        m["mode_connectivity"] = s * w + little
    elif claim == "T3":
        m["mode_connectivity"] = s * (5 - (w - 3) ** 2) + little
    elif claim == "T4":
        m["mode_connectivity"] = -s * b + little
    elif claim == "T5":
        m["log_hessian_trace"] = -s * w + little
    elif claim == "T6":
        steps = np.arange(len(BATCHES))[:: -int(s)]
        below = np.arange(len(WIDTHS))[None, :] <= steps[:, None]
        m["log_hessian_trace"] = 3 * below + little
        m["train_loss"] = 3 * s * below + little
    elif claim == "T7":
        m["log_hessian_eigenvalue"] = s * m["log_hessian_trace"] + little
    elif claim == "T8":
        m["cka"] = s * (w - 2 * (b - 4.3) ** 2) + little
    elif claim == "T9":
        m["mode_connectivity"] = 4 - s * accuracy + little
        m["cka"], m["log_hessian_trace"] = s * accuracy + little, -s * accuracy + little
    elif claim == "T10":
        order = {"I": 0, "II": 1, "III": 1, "IV-A": 2, "IV-B": 3}
        m["test_accuracy"] = s * np.vectorize(order.get)(phase) + little
    elif claim == "T11":
        m["test_accuracy"] = s * np.isin(phase, ("IV-A", "IV-B")) + little
        m["cka"] = m["test_accuracy"] + little
    elif claim == "T12":
        best, worst = ("cka", "l2_distance")[:: int(s)]
        for name in NAMES[2:]:
            m[name] = accuracy + 0.7 * m[name] / np.std(m[name])
        m["train_loss"] = accuracy + 0.7 * m["train_loss"] / np.std(m["train_loss"]) - 10
        m[best], m[worst] = accuracy + 0.1 * little, rng.normal(size=phase.shape)
    elif claim == "T13":
        peak = np.linspace(6, 3, len(WIDTHS))[:: int(s)]
        m["test_accuracy"] = -((b - peak) ** 2)
    elif claim == "T14":
        m["test_accuracy"] = s * np.where(b > 6, -w, w) + little
    elif claim == "T15":
        for name in ("train_loss", "log_hessian_trace"):
            m[name] = s * m["mode_connectivity"] - 4 + little
