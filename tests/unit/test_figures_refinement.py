"""Refinements in figures: cells that were not measured, and right labels against cells bought."""

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest

import lossatlas as la
from lossatlas.figures import Tables, phase_map
from lossatlas.figures.phase_map import phases
from lossatlas.figures.refinement import refinement
from lossatlas.spec.figures import Figure, Thresholds
from lossatlas.tables.phases import PROBABILITIES

CELLS = ft.product([2, 4, 8], [16, 64])
LEFT_OUT = (4, 64)


def left_out(phase: str, shares: list[float]) -> pd.DataFrame:
    row = ["e", f"c{LEFT_OUT}", *LEFT_OUT, phase, max(shares), *shares, 1.25]
    first = ["experiment", "cell", "width", "batch_size", "phase", "probability"]
    return pd.DataFrame([row], columns=[*first, *PROBABILITIES, "flat_limit"])


def tables(inferred: pd.DataFrame | None) -> Tables:
    measured = ft.tables([cell for cell in CELLS if cell != LEFT_OUT])
    return Tables(measured.scalars, measured.series, inferred)


def test_inferred_cells_are_framed_and_have_their_phase() -> None:
    shares = [0.1, 0.6, 0.1, 0.1, 0.1, 0.0]
    drawn = phases(tables(left_out("II", shares)), Figure(), "width", "batch_size")
    numbers = drawn.numbers.set_index(["load", "temperature"])
    assert numbers.loc[LEFT_OUT, "phase"] == "II"
    assert numbers.loc[LEFT_OUT, "probability"] == pytest.approx(0.6)
    assert numbers["measured"].to_dict() == {c: "no" if c == LEFT_OUT else "yes" for c in CELLS}
    patches = [one for one in drawn.figure.axes[0].patches if one.get_gid() == "inferred"]
    assert len(patches) == 1
    assert "inferred, not measured" in texts(drawn)


def test_the_median_is_that_of_all_cells() -> None:
    shares = [0.1, 0.6, 0.1, 0.1, 0.1, 0.0]
    scalars, inferred = tables(None).scalars, left_out("II", shares)
    found = phase_map._limits(scalars, Thresholds(), inferred)
    assert found.number("log_hessian_trace") == 1.25
    found = phase_map._limits(scalars, Thresholds(log_hessian_trace=3.0), inferred)
    assert found.number("log_hessian_trace") == 3.0


def test_inferred_cells_that_have_not_learned_or_cannot_be_told() -> None:
    for shares, learned, status in (
        ([0.1, 0.1, 0.0, 0.0, 0.0, 0.8], "no", "ok"),
        ([np.nan] * 6, "yes", "undefined"),
    ):
        drawn = phases(tables(left_out("", shares)), Figure(), "width", "batch_size")
        row = drawn.numbers.set_index(["load", "temperature"]).loc[LEFT_OUT]
        assert (row["phase"], row["learned"], row["status"]) == ("", learned, status)


def test_without_a_refinement_nothing_is_said_of_it() -> None:
    drawn = phases(ft.tables(CELLS), Figure(), "width", "batch_size")
    assert "measured" not in drawn.numbers
    assert "inferred, not measured" not in texts(drawn)


def texts(drawn: la.Drawn) -> list[str]:
    axes = drawn.figure.axes[1]
    legends = [one for one in axes.get_children() if hasattr(one, "get_texts")]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def test_labels_right_against_cells() -> None:
    rows = [
        ("studies", "refinement", "labels_right", "straight", "adaptive", 40, start, cells, share)
        for start, shift in ((0, 0.0), (1, 0.1))
        for cells, share in ((4, 0.5 + shift), (8, 0.7 + shift))
    ]
    columns = [
        "experiment",
        "cell",
        "series",
        "grid",
        "strategy",
        "size",
        "start",
        "cells",
        "share",
    ]
    series = pd.DataFrame(rows, columns=columns).astype({"size": "Int64", "cells": "Int64"})
    series.insert(3, "replica", pd.NA)
    series.insert(4, "partner", pd.NA)
    for name in ("x", "y", "stderr", "df"):
        series[name] = np.nan
    series["status"] = "ok"
    drawn = refinement(Tables(ft.tables(CELLS).scalars, series), Figure(), "", "")
    assert drawn.numbers["cells"].tolist() == [4, 5, 6, 7, 8]
    assert drawn.numbers["mean"].to_numpy() == pytest.approx([0.55, 0.55, 0.55, 0.55, 0.75])
    (line,) = [one for one in drawn.figure.axes[0].lines if len(one.get_xdata()) == 5]
    assert line.get_ydata() == pytest.approx([55, 55, 55, 55, 75])
