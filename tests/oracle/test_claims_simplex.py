"""Claims about simplexes: borders, what counts as a unit, and what is left out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import planted
from lossatlas.claims import simplex, statements, verdicts
from lossatlas.claims.conditions import About
from lossatlas.claims.found import Found
from lossatlas.figures import Tables
from lossatlas.tables import collect

KNOWN = {"e": {"classes": 10}}


def rows(tables: dict[str, Tables]) -> pd.DataFrame:
    return verdicts.claims("simplex", {"e": tables}, KNOWN).set_index("claim")


def changed(
    kind: str, which: str, change: Callable[[pd.DataFrame], pd.DataFrame], base: str = "yes"
) -> dict[str, Tables]:
    """The tables on which all claims hold, those of one kind changed."""
    tables = planted.simplex(base)
    both = {"scalars": tables[kind].scalars, "series": tables[kind].series}
    both[which] = change(both[which])
    return {**tables, kind: Tables(**both)}


@pytest.mark.parametrize(("kind", "holds"), [("yes", "yes"), ("no", "no")])
def test_sizes_are_where_they_are_said_to_be(
    kind: str, holds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just inside of each a claim holds, just outside it does not."""
    monkeypatch.setattr(planted, "SCALE", 0.02)
    assert set(rows(planted.simplex(kind))["holds"]) - {holds} <= (
        {"yes"} if kind == "no" else set()
    )


def test_four_of_five_and_those_four_alone_say_the_same() -> None:
    """One to four pairs were judged by each of them, five by a test."""
    four = rows(planted.simplex("yes", pairs=4))
    five = changed(
        "simplex",
        "scalars",
        lambda t: t.assign(
            value=t["value"].where((t["metric"] != "path_loss_max") | (t["replica"] != 0), 0.3)
        )[t["replica"] < 10],
    )
    for table in (four, rows(five)):
        assert table.loc["C2", "holds"] == "not testable"
        assert "p can be no smaller than" in table.loc["C2", "observed"]


def test_the_correction_says_how_many_complexes_are_missing() -> None:
    row = rows(planted.simplex("yes", pairs=5)).loc["C1"]
    assert row["p"] == 1 / 32
    assert row["holds"] == "not testable"
    assert "5 complexes: p can be no smaller than 0.031, and with 9 claims" in row["observed"]
    assert np.isfinite([row["effect"], row["low"], row["high"]]).all()


def test_untrained_modes_say_nothing() -> None:
    """They gave C2, C7 and C9 verdicts, from errors of 90 to 99%."""
    lost = rows(
        changed(
            "simplex",
            "scalars",
            lambda t: t.assign(value=t["value"].where(t["metric"] != "mode_loss", 2.3)),
        )
    )
    for claim in ("C1", "C2", "C4"):
        said = lost.loc[claim, "observed"]
        assert "all complexes are between modes that were not trained" in said
    one = changed(
        "simplex",
        "scalars",
        lambda t: t.assign(
            value=t["value"].where((t["metric"] != "mode_loss") | (t["replica"] != 3), 2.3)
        ),
    )
    row = rows(one).loc["C1"]
    assert row["units"] == planted.PAIRS - 1
    assert "1 complexes between modes that were not trained are left out" in row["observed"]
    bad = changed("espro", "series", lambda t: t.assign(error=95.0))
    assert "no mode was trained" in rows(bad).loc["C7", "observed"]
    bad = changed("simplex_volume", "series", lambda t: t.assign(train_accuracy=10.0))
    assert "not trained" in rows(bad).loc["C9", "observed"]


def test_connectors_that_were_not_grown_are_no_evidence() -> None:
    short = changed("simplex_volume", "series", lambda t: t[t["connectors"] < 11], "no")
    row = rows(short).loc["C3"]
    assert row["holds"] == "not testable"
    assert row["observed"] == "2 connectors; the paper's collapse is at 11"


def test_groups_that_share_replicas_are_no_pairs() -> None:
    """C6 of ten replicas has one group of eight; C5 and C12 drop groups that overlap."""
    ten = changed("espro", "series", lambda t: t[t["group"] < 10])
    row = rows(ten).loc["C6"]
    assert (row["holds"], row["units"]) == ("not testable", 2)
    spoiled = changed(
        "espro",
        "series",
        lambda t: t.assign(nll=t["nll"] + 9.0 * ((t["disjoint"] == 0) & (t["method"] == 2))),
    )
    assert rows(spoiled).loc["C5", "effect"] == rows(planted.simplex("yes")).loc["C5", "effect"]


def test_c11_compares_two_measurements() -> None:
    """The straight line has the curve's own ends: it is no other measurement."""
    alone = planted.simplex("yes")
    del alone["simplex"]
    assert rows(alone).loc["C11", "observed"] == "'simplex' was not measured"
    moved = changed("connectivity", "series", lambda t: t.assign(y=t["y"] + 1e-3))
    assert rows(moved).loc["C11", "holds"] == "no"


def test_images_as_they_are_do_not_count() -> None:
    """C12 is about shifted images."""
    worse = changed(
        "espro",
        "series",
        lambda t: t.assign(
            nll_scaled=t["nll_scaled"] + 10.0 * ((t["severity"] == 0) & (t["method"] == 2))
        ),
    )
    assert rows(worse).loc["C12", "holds"] == "yes"


def test_a_fault_of_a_check_is_told_and_stops_no_other_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(found: Found) -> statements.Finding:
        raise ZeroDivisionError("by zero")

    claims = list(simplex.CLAIMS)
    claims[1] = replace(claims[1], check=broken)
    monkeypatch.setattr(simplex, "CLAIMS", tuple(claims))
    table = rows(planted.simplex("yes"))
    assert table.loc["C2", "holds"] == "not testable"
    said = table.loc["C2", "observed"]
    assert said.startswith("the check failed: ZeroDivisionError: by zero (test_claims_simplex.py")
    assert set(table["holds"].drop("C2")) == {"yes"}


def test_table_of_a_paper() -> None:
    table = verdicts.claims("simplex", {"e": planted.simplex("yes")}, KNOWN)
    assert list(table["claim"]) == [c.name for c in simplex.CLAIMS]
    assert list(table.columns) == verdicts.COLUMNS
    only = {"sampling_bias": planted.simplex("yes")["sampling_bias"]}
    assert list(verdicts.claims("simplex", {"studies": only})["claim"]) == ["C10"]


def test_papers_together(tmp_path) -> None:
    one = verdicts.claims("simplex", {"e": planted.simplex("yes")}, KNOWN)
    other = verdicts.claims("diffusion", {})
    for name, table in (("one", one), ("other", other)):
        collect.write(tmp_path / name, table)
    collect.write(tmp_path / "both", verdicts.together([tmp_path / "one", tmp_path / "other"]))
    assert (tmp_path / "both").read_bytes() == (tmp_path / "one").read_bytes()
    assert (tmp_path / "other").read_text() == ",".join(verdicts.COLUMNS) + "\n"


def test_unknown_facts_refuse_nothing() -> None:
    assert About() == About(0, None, None, None, "", fit=None)
