"""Tables of an experiment as the page reads them, in files, with errors that are known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lossatlas.page import contents, write
from lossatlas.spec.figures import Thresholds
from lossatlas.tables import collect

AXES = ("width", "batch_size")
METRICS = {
    **dict.fromkeys(("train_loss", "test_accuracy", "hessian_trace", "chance_loss"), "replica"),
    **dict.fromkeys(("mode_connectivity", "cka"), "pair"),
}


def value(metric: str, width: int, batch: int, draw: np.random.Generator) -> float:
    """Numbers of which every phase occurs: wide is flat, small batches are well connected."""
    noise = draw.normal()
    if metric == "chance_loss":
        return math.log(10)
    if metric == "hessian_trace":
        return math.exp(9 - 1.2 * math.log2(width) + 0.3 * noise)
    if metric == "mode_connectivity":
        return 4 - 1.5 * math.log2(batch) + 2 * math.log2(width) / 3 + noise
    if metric == "cka":
        return min(0.99, 0.55 + 0.04 * width + 0.03 * noise)
    return {"train_loss": 0.5 / width, "test_accuracy": 60 + 3 * width}[metric] + 0.02 * noise


def scalars(widths: tuple[int, ...], batches: tuple[int, ...], replicas: int = 4) -> pd.DataFrame:
    draw, rows = np.random.default_rng(0), []
    pairs = [(a, b) for a in range(replicas) for b in range(a + 1, replicas)]
    who = {"replica": [(one, None) for one in range(replicas)], "pair": pairs}
    for width in widths:
        for batch in batches:
            for metric, per in METRICS.items():
                for a, b in who[per]:
                    number = value(metric, width, batch, draw)
                    place = ("e", f"net-w{width}-b{batch}", width, batch)
                    rows.append((*place, metric, a, b, number, math.nan, math.nan, "ok"))
    return frame(rows, collect.SCALAR)


def series(widths: tuple[int, ...], batches: tuple[int, ...]) -> pd.DataFrame:
    rows = []
    for width in widths:
        for batch in batches:
            place = ("e", f"net-w{width}-b{batch}", width, batch)
            for a, b in ((0, 1), (1, 2)):
                rows += [
                    (*place, "train_loss", a, b, "bezier", x, x * (1 - x) + a, 0.1, 3.0, "ok")
                    for x in (0.0, 0.25, 0.5, 0.75, 1.0)
                ]
    return frame(rows, ["series", *collect.SEEDS, "path", *collect.POINT, "status"])


def layered(widths: tuple[int, ...], batches: tuple[int, ...]) -> pd.DataFrame:
    """CKA of three layers: 1 - |i - j| / 4, less a tenth for the second of two pairs."""
    names = ("layer", "other_layer", "cka")
    rows = [
        ("e", f"net-w{w}-b{b}", w, b, "cka_layers", *pair, layer, other, cka, *4 * (None,), "ok")
        for w in widths
        for b in batches
        for less, pair in ((0, (0, 1)), (0.1, (0, 2)))
        for place, layer in enumerate(("stem", "block", "head"))
        for other in range(3)
        for cka in (1 - abs(place - other) / 4 - less,)
    ]
    return frame(rows, ["series", *collect.SEEDS, *names, *collect.POINT, "status"])


def walks(widths: tuple[int, ...], batches: tuple[int, ...]) -> pd.DataFrame:
    """MSD of two replicas, and the fitted line of each."""
    rows = [
        ("e", f"net-w{w}-b{b}", w, b, name, seed, None, 0, x, 3.0 * x**1.5, 0.1 * x, 3.0, "ok")
        for w in widths
        for b in batches
        for seed in range(2)
        for name, at in (("msd", range(1, 40)), ("msd_fit", (10, 30)))
        for x in map(float, at)
    ]
    return frame(rows, ["series", *collect.SEEDS, "window", *collect.POINT, "status"])


def frame(rows: list[tuple], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["experiment", "cell", *AXES, *columns])
    return table.astype(dict.fromkeys(collect.SEEDS, "Int64"))


def save(folder: Path, name: str, table: pd.DataFrame) -> str:
    path = folder / f"{name}.csv"
    collect.write(path, table)
    return str(path)


def asked(folder: Path, name: str = "e", **thresholds: object) -> contents.Asked:
    """Write the tables of an experiment of 4 x 3 cells."""
    grid = (1, 2, 4, 8), (2, 16, 128)
    return contents.Asked(
        name=name,
        scalars=[save(folder, f"{name}-scalars", scalars(*grid))],
        series=[
            save(folder, f"{name}-{one.__name__}", one(*grid)) for one in (series, layered, walks)
        ],
        thresholds=Thresholds(**(thresholds or {"rule": "published"})),
        command="snakemake",
    )


def claims(folder: Path) -> str:
    path = folder / "claims.csv"
    columns = "paper,claim,experiment,statement,condition,expected,threshold,observed,effect,low,"
    columns += "high,p,p_holm,units,holds"
    path.write_text(
        f"{columns}\n"
        "Yang et al. 2021,T1,e,Falls.,any,rho < 0,none,rho -1,-0.9,-1,-0.8,0.01,0.02,12,yes\n"
        "Yang et al. 2021,T2,e,Rises.,any,rho > 0,none,rho 0,,,,,,12,not testable\n"
        "Benton et al. 2021,C1,f,<b>Low</b>,any,low,none,high,1,0.5,1.5,0.4,0.9,5,no\n"
    )
    return str(path)


def atlas(folder: Path, **parts: object) -> write.Atlas:
    """Return a page of two experiments, three verdicts and two runs."""
    experiments = [contents.of_experiment(asked(folder, name), {}) for name in ("e", "f")]
    run = {"status": "ok", "train_loss": 0.1, "seconds": 2.0, "memory_mb": 300, "device": "cpu"}
    runs = [
        {"cell": "net-w1-b2", "replica": one, **run, "together": 2, "started": "", "file": "x"}
        for one in range(2)
    ]
    runs[1] |= {"status": "diverged", "train_loss": None}
    curve = {"series": "train_loss of training", "name": "replica 0", "of": 1}
    curve |= {"x": [1, 2, 3], "y": [1, 0.5, 0.2], "low": None, "high": None}
    picture = folder / "one.png"
    Image.new("RGB", (400, 100), "white").save(picture)
    given = {
        "config": "mine",
        "figures": [write.Shown("one", str(picture), "What is seen.")],
        "about": {"config": "mine"},
        "claims": claims(folder),
        "experiments": experiments,
        "runs": runs,
        "curves": {"net-w1-b2": [curve]},
    }
    return write.Atlas(**{**given, **parts})
