"""The toy model as a study: noisy walkers on fractal, shuffled, convex and flat surfaces (Fig. 4).

Ensembles over surfaces and starts, in place of runs picked by eye. Early is steps 0 to 200, late
501 to 1000.
"""

from __future__ import annotations

import numpy as np

from lossatlas import uncertainty
from lossatlas.diffusion import roughness, surfaces
from lossatlas.diffusion.arrays import Array, log_lags
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.ensembles import Ensemble, ensemble
from lossatlas.diffusion.exponents import fit_exponent
from lossatlas.diffusion.recorded import seeded
from lossatlas.diffusion.walker import Field, Rules, walk
from lossatlas.store import Record, Scalar, Series, Table

SIDE, SURFACES, WALKERS, STEPS = 1025, 5, 60, 1000
SHOWN = 129  # nodes per side of a drawn surface
RANGES = {"early": ((1, 10), (10, 50)), "late": ((1, 10), (10, 100))}
RULES = {
    "": Rules(),
    "paper": Rules(mode="paper"),
    "small": Rules(eta=0.001, noise=0.0005),
    "redraw": Rules(wall="redraw"),
    "corner": Rules(start="corner"),
}
ON_CONE = ("", "paper", "small")
EDGES = np.linspace(-5, 5, 51)  # of gradients: Fig. 4c


def landscapes() -> dict[str, list[Array]]:
    """Return kind -> realisations of its surface."""
    fractal = [surfaces.diamond_square(SIDE, seeded("fractal", i)) for i in range(SURFACES)]
    return {
        "fractal": fractal,
        "shuffled": [surfaces.shuffled(z, seeded("shuffle", i)) for i, z in enumerate(fractal)],
        "cone": [surfaces.cone()],
        "quadratic": [surfaces.quadratic()],
        "gaussian": [surfaces.gaussian()],
        "flat": [surfaces.flat()],
    }


def study() -> Record:
    """Walk on every kind of surface; on a fractal by other rules, walls and starts as well.

    Returns:
        A record with scalars "<kind> <quantity>" (exponents of early and late windows at short and
        long lags, raw and without drift; shares of walkers stuck and of steps at the wall; box
        dimension and exponent of the structure function, means over the surfaces of a kind), series
        `msd` and `still_msd` (without drift) by `walkers` and `when`, `gradient_density` by
        `surface`, and for three kinds of surface the tables `surface` (x, y, height) and `path`
        (step, x, y).
    """
    record = Record("toy_walkers")
    found = landscapes()
    for kind, some in found.items():
        fields = {"fixed": Field(np.stack(some))}
        for suffix, rules in RULES.items():
            if suffix and not (kind == "fractal" or (kind == "cone" and suffix in ON_CONE)):
                continue
            name = f"{kind} {suffix}".strip()
            field = fields.get(rules.mode) or Field(np.stack(some), rules.mode)
            walkers = WALKERS * SURFACES // len(some)
            rng = seeded("walkers", name)
            _summarise(record, name, ensemble(field, rules, walkers=walkers, steps=STEPS, rng=rng))
        _gradients(record, kind, fields["fixed"])
    for kind in ("fractal", "shuffled"):
        boxes = [roughness.box_counting(z).dimension for z in found[kind]]
        slopes = [roughness.structure_function(z).local.mean() for z in found[kind]]
        for name, values in (("box_dimension", boxes), ("structure_exponent", slopes)):
            over = uncertainty.mean(values)
            row = Scalar(f"{kind} {name}", over.value, stderr=over.stderr, df=over.df)
            record.scalars.append(row)
    for kind in ("fractal", "shuffled", "cone"):
        _picture(record, kind, found[kind][0])
    return record


def _summarise(record: Record, name: str, found: Ensemble) -> None:
    for share in ("stuck", "discarded", "wall_share"):
        record.scalars.append(Scalar(f"{name} {share}", getattr(found, share)))
    for (when, ranges), raw, still in zip(
        RANGES.items(), found.msd, found.msd_without_drift, strict=True
    ):
        for prefix, curve in (("", raw), ("still_", still)):
            for lags, (low, high) in zip(("short", "long"), ranges, strict=True):
                fit = fit_exponent(curve, low, high)
                record.scalars.append(
                    Scalar(
                        f"{name} {prefix}{when}_{lags}",
                        fit.value,
                        stderr=fit.stderr,
                        df=fit.df,
                        status=fit.status,
                    )
                )
            record.series.append(_curve(f"{prefix}msd", curve, {"walkers": name, "when": when}))


def _curve(name: str, curve: Curve, index: dict[str, str]) -> Series:
    reliable = int(curve.x[curve.reliable].max())
    kept = log_lags(1, reliable) - 1
    x, y, stderr = (part[kept] for part in (curve.x, curve.y, curve.stderr))
    df = np.full(len(x), curve.df)
    return Series(name, x, y, "lag", index=index, stderr=stderr, df=df)


def _gradients(record: Record, kind: str, field: Field) -> None:
    """Write the density of the gradients (both components) that walkers meet."""
    rng, walkers = seeded("gradients met", kind), 20 * field.count
    met = walk(field, Rules(), walkers=walkers, steps=200, rng=rng, keep_gradients=True).gradients
    values = np.empty(0) if met is None else met.ravel()
    counts = np.histogram(values, EDGES)[0] / (len(values) * np.diff(EDGES))
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    of = {"surface": kind}
    record.series.append(Series("gradient_density", middle, counts, "gradient", index=of))


def _picture(record: Record, kind: str, surface: Array) -> None:
    """Write f = 10 - z on a coarse grid and one path across it."""
    every = (len(surface) - 1) // (SHOWN - 1)
    shown = 10 - surface[::every, ::every]
    places, index = np.linspace(-1, 1, len(shown)), {"surface": kind}
    x, y = np.meshgrid(places, places)
    nodes = {"x": x.ravel(), "y": y.ravel(), "height": shown.ravel()}
    record.tables.append(Table("surface", nodes, index=index))
    start = Rules(start=(-0.6, -0.5))
    path = walk(surface, start, walkers=1, steps=STEPS, rng=seeded("one path", kind)).positions
    steps = {"step": np.arange(STEPS + 1), "x": path[:, 0, 0], "y": path[:, 0, 1]}
    record.tables.append(Table("path", steps, index=index))
