"""Claims about diffusion: borders, cells and windows that count, and where they are made."""

import numpy as np
import pandas as pd
import pytest

import planted
from lossatlas.claims import diffusion, statements, verdicts
from lossatlas.claims.conditions import About, about
from lossatlas.claims.found import evidence
from lossatlas.figures import Tables

KNOWN = {
    "classes": 10,
    "label_noise": [0.0, 1.0],
    "pixel_noise": [0.0],
    "momentum": [0.0],
    "rate": "constant",
    "fit": [10, 100],
}


def rows(tables: dict[str, Tables], **known: object) -> pd.DataFrame:
    table = verdicts.claims("diffusion", {"e": tables}, {"e": KNOWN | known})
    return table.set_index("claim")


def one(claim: str, tables: dict[str, Tables], known: About | None = None) -> statements.Judged:
    (said,) = (c for c in diffusion.CLAIMS if c.name == claim)
    facts = known or about(KNOWN)
    return statements.judge(said, facts, lambda: evidence(tables, facts, frozenset(), "e"))


def changed(which: str, change, claim: str = "") -> dict[str, Tables]:
    tables = planted.diffusion("yes", claim)
    both = {"scalars": tables["diffusion"].scalars, "series": tables["diffusion"].series}
    both[which] = change(both[which])
    return {**tables, "diffusion": Tables(**both)}


def holds(found: statements.Judged) -> bool:
    assert found.finding is not None, found.reason
    assert found.test is not None
    return found.finding.holds and found.test.p <= 0.05


@pytest.mark.parametrize("kind", ["yes", "no"])
@pytest.mark.parametrize("claim", ["C1", "C2", "C4", "C5", "C8", "C9", "C10", "C11", "C12", "C15"])
def test_sizes_are_where_they_are_said_to_be(
    claim: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted, "SCALE", 0.02)
    assert holds(one(claim, planted.diffusion(kind, claim))) == (kind == "yes")


def test_every_cell_of_the_largest_load_counts() -> None:
    """One cell of three that says otherwise is a no; one of a smaller load is not looked at."""

    def spoil(depth: int):
        def change(table: pd.DataFrame) -> pd.DataFrame:
            at = (table["depth"] == depth) & (table["metric"] == "exponent_first")
            at &= (table["batch_size"] == (64 if depth == 56 else 32)) & (table["label_noise"] == 0)
            return table.assign(value=table["value"].where(~at, 0.9))

        return changed("scalars", change)

    assert not holds(one("C1", spoil(56)))
    assert holds(one("C1", spoil(14)))
    text = one("C1", spoil(56)).finding
    assert text is not None
    assert "0.9 at learning_rate 0.1, batch_size 64" in text.observed


def test_replicas_are_the_units_not_cells() -> None:
    found = one("C1", planted.diffusion("yes", "", replicas=3))
    assert found.test is not None
    assert (found.test.units, found.test.least) == (3, 1 / 8)
    row = rows(planted.diffusion("yes", "", replicas=3)).loc["C1"]
    assert row["holds"] == "not testable"
    assert "3 replicas: p can be no smaller than 0.12" in row["observed"]


@pytest.mark.parametrize("claim", ["C1", "C2", "C3", "C8", "C9", "C10", "C12", "C15"])
def test_one_window_is_not_compared_with_itself(claim: str) -> None:
    def first(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["series"] != "exponent") | (table["x"] == 0)]

    found = one(claim, changed("series", first))
    assert found.finding is None
    assert found.reason.startswith("1 window has exponents; it takes ")


def test_short_windows_have_no_local_exponents_and_stop_no_other_claim() -> None:
    """Windows of 40 points ended all claims in "zero-size array to reduction operation"."""

    def short(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["series"] != "local_exponent") | (table["x"] < 10)]

    found = rows(changed("series", short))
    assert found.loc["C7", "holds"] == "not testable"
    assert "no local exponent" in found.loc["C7", "observed"]
    assert found.loc["C8", "holds"] == "yes"


def test_numbers_that_did_not_converge_are_left_out_and_told() -> None:
    def rough(table: pd.DataFrame) -> pd.DataFrame:
        at = (table["metric"] == "exponent_first") & (table["replica"] == 2)
        return table.assign(status=table["status"].where(~at, "unconverged"))

    found = one("C1", changed("scalars", rough))
    assert found.test is not None
    assert found.test.units == planted.PAIRS - 1
    assert found.finding is not None
    assert "3 runs are left out, which diverged or whose numbers" in found.finding.observed
    whole = changed("scalars", lambda t: t.assign(status="unconverged"))
    assert one("C1", whole).reason == "no exponent_first: unconverged"


@pytest.mark.parametrize(
    ("known", "claims", "reason"),
    [
        ({"fit": [5, 50]}, ("C1", "C2", "C4", "C5", "C15"), "were fitted over lags 5 to 50"),
        ({"momentum": [0.9]}, ("C1", "C8", "C15"), "momentum is 0.9"),
        ({"rate": "cosine"}, ("C1", "C8", "C15"), "the learning rate is cosine"),
        ({"label_noise": [1.0]}, ("C1", "C2", "C8", "C12"), "100% of the labels are drawn anew"),
        ({"label_noise": [0.0]}, ("C15",), "at most 0% of the labels are drawn anew"),
    ],
)
def test_where_the_paper_does_not_claim_it(known: dict, claims: tuple, reason: str) -> None:
    for claim in claims:
        found = one(claim, planted.diffusion("yes", claim), about(KNOWN | known))
        assert found.finding is None
        assert reason in found.reason
    if "fit" in known:
        assert one("C8", planted.diffusion("yes", ""), about(KNOWN | known)).finding is not None


def test_small_rates_are_those_of_the_paper() -> None:
    def faster(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(learning_rate=table["learning_rate"].replace(0.01, 0.02))

    assert one("C4", changed("scalars", faster, "C4")).reason == (
        "the smallest learning rate is 0.02, above 0.01"
    )


def test_experiments_that_share_cells_confirm_nothing_of_each_other() -> None:
    tables = planted.diffusion("yes", "")
    both = verdicts.claims("diffusion", {"a": tables, "b": tables}, {"a": KNOWN, "b": KNOWN})
    second = both[(both["experiment"] == "b") & (both["claim"] == "C1")].iloc[0]
    assert second["observed"] == "all its cells are cells of a, which is judged"


def test_controls_stand_beside_the_claim() -> None:
    found = one("C1", planted.diffusion("yes", "")).finding
    assert found is not None
    assert "without drift 1.10; smallest load 1.3" in found.observed
    convex = changed("scalars", lambda t: t.assign(depth=t["depth"].replace(14, 0)))
    found = one("C1", convex).finding
    assert found is not None
    assert "a convex loss 1.3" in found.observed


@pytest.mark.parametrize(("flat", "expected"), [(0.985, True), (1.015, True), (1.025, False)])
def test_flat_surfaces_diffuse_normally(flat: float, expected: bool) -> None:
    tables = planted.diffusion("yes", "")
    toy = tables["toy_walkers"].scalars
    at = toy["metric"] == "flat early_short"
    toy = toy.assign(value=toy["value"].where(~at, flat))
    found = one("C13", {"toy_walkers": Tables(toy, tables["toy_walkers"].series)})
    assert holds(found) == expected


def test_walkers_on_rough_surfaces_have_five_surfaces() -> None:
    found = one("C13", planted.diffusion("yes", ""))
    assert found.test is not None
    assert found.test.units == 5
    bare = planted.diffusion("yes", "")["toy_walkers"]
    bare = Tables(bare.scalars.assign(stderr=np.nan), bare.series)
    assert "has no standard error" in one("C13", {"toy_walkers": bare}).reason


def test_all_fifteen_reach_the_table() -> None:
    table = verdicts.claims("diffusion", {"e": planted.diffusion("yes", "")}, {"e": KNOWN})
    assert table["claim"].tolist() == [f"C{n}" for n in range(1, 16)]
