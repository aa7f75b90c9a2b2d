"""Every claim can be yes, no and not testable, and is yes in 5% of draws of noise at most."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

import planted
from lossatlas.claims import diffusion, simplex, statements, statistics, taxonomy
from lossatlas.claims.conditions import About
from lossatlas.claims.found import Found
from lossatlas.claims.statements import Claim
from lossatlas.figures import Tables

SAID = {"taxonomy": taxonomy, "simplex": simplex, "diffusion": diffusion}
ALL = [(paper, claim.name) for paper, said in SAID.items() for claim in said.CLAIMS]
ABOUT = {
    "taxonomy": About(10, (0.0,), (0.0,), (0.9,), "decay"),
    "simplex": About(10),
    "diffusion": About(10, (0.0, 1.0), (0.0,), (0.0,), "constant", fit=(10, 100)),
}
DRAWS = {"taxonomy": 90, "simplex": 50, "diffusion": 40}


def evidence(paper: str, claim: str, kind: str, seed: int = 0) -> object:
    if paper == "taxonomy":
        return planted.taxonomy(kind, claim, seed)
    if paper == "simplex":
        return Found(simplex_tables(kind, seed), ABOUT[paper])
    return Found(planted.diffusion(kind, claim, seed), ABOUT[paper])


@cache
def simplex_tables(kind: str, seed: int) -> dict[str, Tables]:
    return planted.simplex(kind, seed)


def judged(paper: str, kind: str, seed: int = 0) -> dict[Claim, statements.Judged]:
    return {
        claim: statements.judge(
            claim, ABOUT[paper], lambda claim=claim: evidence(paper, claim.name, kind, seed)
        )
        for claim in SAID[paper].CLAIMS
    }


@cache
def verdicts(paper: str, kind: str, seed: int = 0) -> dict[str, dict]:
    rows = statements.rows("paper", "e", judged(paper, kind, seed))
    return {row[1]: dict(zip(statements.COLUMNS, row, strict=True)) for row in rows}


@pytest.mark.parametrize("kind", ["yes", "no"])
@pytest.mark.parametrize(("paper", "claim"), ALL)
def test_a_clear_effect(paper: str, claim: str, kind: str) -> None:
    """Also after the correction for all claims of the paper."""
    row = verdicts(paper, kind)[claim]
    assert row["holds"] == kind, row
    assert np.isfinite(row["effect"])
    if row["units"]:
        assert 0 < row["p"] <= row["p_holm"] <= 1
        assert row["units"] >= 5


@pytest.mark.parametrize(("paper", "claim"), ALL)
def test_nothing_measured_is_not_testable(paper: str, claim: str) -> None:
    (one,) = (c for c in SAID[paper].CLAIMS if c.name == claim)
    if paper == "taxonomy":
        whole = planted.taxonomy("yes", claim)
        empty = {name: np.full(v.shape, np.nan) for name, v in whole.whole.metrics.items()}
        bare = replace(whole.whole, metrics=empty, phase=np.full(v_shape(whole), ""))
        given: object = replace(whole, whole=bare, left_out=(bare, bare))
    else:
        full = evidence(paper, claim, "yes")
        assert isinstance(full, Found)
        parts = {k: Tables(t.scalars.iloc[:0], t.series.iloc[:0]) for k, t in full.kinds.items()}
        given = Found(parts, ABOUT[paper])
    found = statements.judge(one, ABOUT[paper], lambda: given)
    assert found.finding is None
    assert found.reason
    assert "check failed" not in found.reason, found.reason


def v_shape(grids: object) -> tuple[int, int]:
    return grids.whole.phase.shape  # type: ignore[attr-defined]


@cache
def noise(paper: str) -> dict[str, list[tuple[bool, bool]]]:
    """Return claim -> for each draw of noise whether it says yes: by itself, and corrected."""
    found: dict[str, list[tuple[bool, bool]]] = {c.name: [] for c in SAID[paper].CLAIMS}
    few = pytest.MonkeyPatch()
    few.setattr(statistics, "DRAWS", 399)
    few.setattr(statistics, "COUNTED", 600)
    for seed in range(1, DRAWS[paper] + 1):
        outcomes = judged(paper, "noise", seed)
        rows = statements.rows("p", "e", outcomes)
        for row, (claim, one) in zip(rows, outcomes.items(), strict=True):
            assert one.finding is not None, (claim.name, one.reason)
            alone = one.test is None or one.test.p <= statistics.LEVEL
            found[claim.name].append((one.finding.holds and alone, row[-1] == "yes"))
    few.undo()
    simplex_tables.cache_clear()
    return found


@pytest.mark.parametrize(("paper", "claim"), ALL)
def test_noise_says_yes_in_a_twentieth_of_draws_at_most(paper: str, claim: str) -> None:
    """By itself as often as an exact test may, give or take the draws; corrected far less."""
    alone, corrected = np.array(noise(paper)[claim]).mean(axis=0) * DRAWS[paper]
    assert alone <= stats.binom.ppf(0.999, DRAWS[paper], statistics.LEVEL)
    assert corrected <= statistics.LEVEL * DRAWS[paper]


@pytest.mark.parametrize("paper", list(SAID))
def test_the_correction_is_for_all_claims_of_a_paper(paper: str) -> None:
    """Draws of noise in which any claim says yes: too many by themselves, few corrected."""
    every = np.array(list(noise(paper).values()))  # claims, draws, (alone, corrected)
    alone, corrected = every.any(axis=0).mean(axis=0)
    assert corrected <= 0.08
    assert alone > corrected
