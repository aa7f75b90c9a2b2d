"""Claims about simplexes: each holds on numbers made to fit, and fails on spoiled ones."""

import math
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lossatlas.claims import paired, simplex, statements, verdicts
from lossatlas.figures import Tables
from lossatlas.store import Scalar, Series, Table
from lossatlas.tables import collect


def tables(rows: list[Scalar], *found: Table) -> Tables:
    axes: dict = {"cell": {}}
    return Tables(
        collect.scalar_frame("e", axes, {"cell": rows}),
        collect.series_frame("e", axes, {"cell": list(found)}),
    )


def table(name: str, frame: object, **index: str) -> Table:
    assert isinstance(frame, pd.DataFrame)
    return Table(name, {str(key): frame[key].to_numpy() for key in frame}, index=index)


def complexes(count: int = 5, **spoiled: object) -> list[Scalar]:
    """Return the scalars of complexes between neighbouring replicas, some spoiled by name."""
    return [
        Scalar(name, spoiled[name][k] if isinstance(spoiled.get(name), list) else value, 2 * k)
        for k in range(count)
        for name, value in {**SCALARS, **spoiled}.items()
    ]


def disagreement(inside: float = 1.0, between: float = 3.0, replicas: int = 10) -> list[Scalar]:
    pairs = combinations(range(replicas), 2)
    return [
        *(Scalar("simplex_disagreement", inside, seed) for seed in range(replicas)),
        *(Scalar("mode_disagreement", between, *pair) for pair in pairs),
    ]


SCALARS = {
    "mode_loss": 0.01,
    "inside_loss": 0.02,
    "inside_loss_max": 0.05,
    "segment_loss_max": 1.0,
    "path_loss_max": 0.1,
    "inside_accuracy_min": 99.0,
}


def ensembles(gap: float = -0.01, noise: float = 0.001, excess: float = -0.1) -> pd.DataFrame:
    rows = []
    rng = np.random.default_rng(0)
    for method in (0, 1, 2):
        for size in range(1, 9):
            for group in range(12):
                nll = 0.3 / size + (gap if method == 2 else 0) + noise * rng.normal()
                rows.append(
                    {
                        "method": method,
                        "components": size,
                        "group": group,
                        "disjoint": float(group % size == 0 and group + size <= 12),
                        "nll": nll,
                        "member_nll": nll - excess,
                        "error": 8.0 / size - (3 if method == 2 else 0),
                    }
                )
    return pd.DataFrame(rows)


def corruption(gap: float = -0.01) -> pd.DataFrame:
    table = ensembles(gap)[lambda t: t["components"] == 2].drop(columns="member_nll")
    parts = [table.assign(severity=s, nll_scaled=table["nll"]) for s in (0.0, 0.1, 0.5)]
    return pd.concat(parts)


def volume(
    fixed: float = 1.1, paper: float = 0.5, small: float = 1.0, pairs: int = 5
) -> pd.DataFrame:
    rows = []
    ways = product(range(pairs), ((0, fixed), (1, 0.5), (2, paper)), (0.0, 1e-6, 0.05))
    for pair, (way, shrink), strength in ways:
        for k in range(1, 9):
            height = shrink ** (k - 2)
            log_volume = (k - 2) * math.log(0.01)
            rows.append(
                {
                    "pair": pair,
                    "way": way,
                    "regularisation": strength,
                    "connectors": k,
                    "simplex": 0,
                    "height": height,
                    "log_volume": log_volume,
                    "test_nll": {0.0: 1.0, 1e-6: small, 0.05: 1.3}[strength],
                }
            )
    return pd.DataFrame(rows)


def inside(points: int = 25) -> pd.DataFrame:
    return pd.DataFrame({"simplex": np.arange(2 * points) % 2, "train_loss": 0.02})


def bias(p: float = 0.5, wrong: float = 1e-30) -> pd.DataFrame:
    return pd.DataFrame(
        {"wrong": [0, 0, 1, 1], "p_chi_square": [p, 0.4, wrong, wrong], "p_kolmogorov": [0.3] * 4}
    )


def curves(gap: float = 0.0) -> Tables:
    t = np.linspace(0, 1, 3)
    series = [
        Series("train_loss", t, np.array(y), "t", 0, 1, index={"path": path})
        for path, y in (("bezier", [0.1 + gap, 0.2, 0.3]), ("linear", [0.1, 2.0, 0.3]))
    ]
    axes: dict = {"cell": {}}
    return Tables(
        collect.scalar_frame("e", axes, {"cell": []}),
        collect.series_frame("e", axes, {"cell": series}),
    )


def found(
    scalars: list[Scalar] | None = None, apart: list[Scalar] | None = None, **frames: object
) -> dict[str, Tables]:
    get: Callable = frames.get
    return {
        "simplex": tables(scalars or complexes(), table("inside", get("inside", inside()))),
        "simplex_volume": tables([], table("volume", get("volume", volume()))),
        "espro": tables(
            apart or disagreement(),
            table("ensembles", get("ensembles", ensembles())),
            table("corruption", get("corruption", corruption()), kind="noise"),
            *(table("corruption", t, kind=kind) for kind, t in get("kinds", {}).items()),
        ),
        "sampling_bias": tables([], table("tests", get("tests", bias()))),
        "connectivity": get("curves", curves()),
    }


def verdict(name: str, given: dict[str, Tables]) -> str:
    return row(name, given)[-1]


def row(name: str, given: dict[str, Tables]) -> tuple:
    claims = [claim for claim in simplex.CLAIMS if claim.name == name]
    (found,) = statements.rows({"e": given}, claims, simplex.PAPER)
    return found


@pytest.mark.parametrize("claim", [c.name for c in simplex.CLAIMS])
def test_holds_where_it_should(claim: str) -> None:
    given = found(volume=volume(fixed=0.5)) if claim == "C3" else found()
    assert verdict(claim, given) == "yes"


SPOILED = {
    "C1": found(complexes(inside_loss_max=0.3)),
    "C1 in two of five": found(complexes(inside_loss_max=[0.05, 0.3, 0.05, 0.05, 0.3])),
    "C1 in one of two": found(complexes(2, inside_loss_max=[0.05, 0.26])),
    "C2": found(complexes(path_loss_max=0.3)),
    "C2 by size": found(complexes(path_loss_max=[0.1, 0.1, 0.1, 0.1, 0.9])),
    "C3": found(),  # no collapse without the constant
    "C3 in some": found(volume=pd.concat([volume(0.5, pairs=3), volume().query("pair > 2")])),
    "C4": found(complexes(inside_accuracy_min=[99.0, 99.0, 97.9, 99.0, 99.0])),
    "C5": found(ensembles=ensembles(gap=0.0, noise=0.01)),
    "C6": found(ensembles=ensembles().assign(error=lambda t: 8.0 / t["components"])),
    "C7": found(apart=disagreement(3.5)),
    "C7 without any": found(apart=disagreement(0.0)),
    "C8": found(ensembles=ensembles(excess=0.01)),
    "C9": found(volume=volume(small=1.02)),
    "C10": found(tests=bias(p=1e-4)),
    "C11": found(curves=curves(1e-12)),
    "C12": found(corruption=corruption(0.01)),
    "C12 over all kinds": found(kinds={"fog": corruption(0.05), "snow": corruption(0.05)}),
}


@pytest.mark.parametrize("claim", list(SPOILED))
def test_fails_where_it_should(claim: str) -> None:
    assert verdict(claim.split()[0], SPOILED[claim]) == "no"


def test_too_little_is_not_testable() -> None:
    few = ensembles()[lambda t: t["group"] < 3]
    assert verdict("C5", found(ensembles=few)) == "not testable"
    short = volume()[lambda t: t["connectors"] < 3]
    assert verdict("C3", found(volume=short)) == "not testable"
    assert verdict("C1", found(complexes(segment_loss_max=math.nan))) == "not testable"
    assert verdict("C7", found(apart=disagreement(replicas=1))) == "not testable"
    sparse = found(inside=inside(24))
    assert verdict("C1", sparse) == verdict("C4", sparse) == "not testable"


def test_complexes_are_judged_by_a_paired_test() -> None:
    """With five or more by mean and Wilcoxon's test, with fewer by each."""
    values = [0.05, 0.05, 0.06, 0.05, 0.05, 0.05, 0.06, 0.3]  # one of eight misses the size
    many = row("C1", found(complexes(8, inside_loss_max=values)))
    p = stats.wilcoxon([v - 0.25 for v in values], alternative="less").pvalue
    assert p < paired.LEVEL
    assert many[-1] == "yes"
    assert f"7 of 8 complexes, p = {p:.3f}" in many[-3]
    assert many[-2] == pytest.approx(np.mean(values))
    few = row("C1", found(complexes(2)))
    assert few[-1] == "yes"
    assert "2 of 2 complexes, too few for a test" in few[-3]


def test_pairs_of_simplexes_share_no_replica() -> None:
    """Neighbours make a pair; a pair with a replica that is missing is left out."""
    rows = [one for one in disagreement() if 3 not in (one.replica, one.partner)]
    assert "4 of 4 pairs of modes" in row("C7", found(apart=rows))[-3]  # 0 1, 2 4, 5 6, 7 8
    wrong = [
        Scalar(one.name, 0.5, one.replica, one.partner)
        if (one.replica, one.partner) == (2, 3)
        else one
        for one in disagreement()
    ]
    assert "4 of 5 pairs of modes" in row("C7", found(apart=wrong))[-3]


def test_gaps() -> None:
    gaps = np.array([-1.0, -2.0, -3.0, -4.0, -5.0])
    assert paired.p_below(gaps) == pytest.approx(1 / 32)  # all signs alike, one of 2^5
    assert paired.below(gaps)
    assert not paired.below(-gaps)
    assert math.isnan(paired.p_below(gaps[:4]))
    assert paired.below(gaps[:4])
    assert not paired.below(np.array([-1.0, 0.1]))
    assert paired.p_below(np.zeros(6)) == 1
    assert not paired.below(np.zeros(6))
    assert paired.standard_error(gaps) == pytest.approx(math.sqrt(2.5 / 5))
    assert math.isnan(paired.standard_error(gaps[:1]))


def test_images_as_they_are_and_groups_that_overlap_do_not_count() -> None:
    """C12 is about shifted images; C5 and C12 about groups that share no replica."""
    table = corruption()
    clean = table["severity"] == 0
    worse = (table["method"] == 2) & (clean | (table["disjoint"] == 0))
    spoiled = table.assign(nll_scaled=table["nll_scaled"] + 10.0 * worse)
    assert verdict("C12", found(corruption=spoiled)) == "yes"
    table = ensembles()
    worse = (table["method"] == 2) & (table["disjoint"] == 0)
    spoiled = table.assign(nll=table["nll"] + 10.0 * worse)
    assert row("C5", found(ensembles=spoiled)) == row("C5", found())


def test_ways_of_different_length_are_not_compared() -> None:
    """A way whose connectors diverged early, or at once, says nothing about the last height."""
    table = volume(fixed=0.5)
    way, connectors = table["way"], table["connectors"]
    for lost in ((way == 0) & (connectors > 5), way == 0, way == 2):
        assert verdict("C3", found(volume=table[~lost])) == "not testable"
    flat = table.assign(height=table["height"].where(connectors != 2, 0.0))
    assert verdict("C3", found(volume=flat)) == "not testable"


def test_table_of_a_paper() -> None:
    table = verdicts.claims("simplex", {"e": found()})
    assert list(table["claim"]) == [c.name for c in simplex.CLAIMS]
    assert list(table.columns) == verdicts.COLUMNS
    only = {"sampling_bias": found()["sampling_bias"]}
    assert list(verdicts.claims("simplex", {"studies": only})["claim"]) == ["C10"]


def test_papers_together(tmp_path) -> None:
    one = verdicts.claims("simplex", {"e": found()})
    other = verdicts.claims("diffusion", {})
    for name, table in (("one", one), ("other", other)):
        collect.write(tmp_path / name, table)
    collect.write(tmp_path / "both", verdicts.together([tmp_path / "one", tmp_path / "other"]))
    assert (tmp_path / "both").read_bytes() == (tmp_path / "one").read_bytes()
    assert (tmp_path / "other").read_text() == ",".join(verdicts.COLUMNS) + "\n"
