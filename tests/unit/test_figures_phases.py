import math

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest

from lossatlas.figures.phase_map import phases
from lossatlas.spec.figures import Figure, Thresholds
from lossatlas.tables.phases import PHASES, PROBABILITIES

CELLS = ft.product([2, 4, 8], [16, 64])
WANTED = {
    (2, 16): "I",
    (4, 16): "II",
    (8, 16): "II",
    (2, 64): "III",
    (4, 64): "IV-A",
    (8, 64): "IV-B",
}
NUMBERS = {"I": (7, -9, 0.4), "II": (6, 3, 0.8), "III": (4, -9, 0.8)}
NUMBERS |= {"IV-A": (4, 0, 0.6), "IV-B": (4, 0, 0.8)}
X = [math.log10(2) * k for k in (0.5, 1.5, 2.5, 3.5)]
Y = [math.log10(value) for value in (8, 32, 128)]


def values(wanted):
    found = {}
    for cell, phase in wanted.items():
        trace, connectivity, cka = NUMBERS[phase]
        found[("hessian_trace", cell)] = math.exp(trace)
        found[("mode_connectivity", cell)] = float(connectivity)
        found[("cka", cell)] = cka
    return found


def drawn(wanted=WANTED, style=None, **options):
    tables = ft.tables(list(wanted), values=values(wanted), **options)
    chosen = style or Figure(thresholds=Thresholds(rule="published"))
    return phases(tables, chosen, "width", "batch_size")


def segments(figure, name):
    """The line between tiles as a set of ((x, y), (x, y)), all strokes of it the same."""
    strokes = [
        {tuple(sorted(map(tuple, np.round(line, 6)))) for line in lines.get_segments()}
        for lines in ft.named(figure.axes[0], name)
    ]
    assert all(stroke == strokes[0] for stroke in strokes)
    return strokes[0]


def line(x0, y0, x1, y1):
    return tuple(sorted([(round(x0, 6), round(y0, 6)), (round(x1, 6), round(y1, 6))]))


def test_numbers():
    numbers = drawn().numbers
    assert list(numbers) == [
        *("load", "temperature", "phase", "probability", *PROBABILITIES, "probability_status"),
        *(
            "runner_up",
            "p_runner_up",
            "learned",
            "log_hessian_trace",
            "mode_connectivity",
            "cka",
            "test_accuracy",
            "status",
        ),
    ]
    assert len(numbers) == len(CELLS)
    for row in numbers.itertuples():
        cell = (row.load, row.temperature)
        assert row.phase == WANTED[cell]
        found = (row.log_hessian_trace, row.mode_connectivity, row.cka)
        assert found == pytest.approx(NUMBERS[WANTED[cell]])
        accuracy = np.mean([ft.number("test_accuracy", *cell, replica) for replica in (0, 1)])
        assert row.test_accuracy == pytest.approx(accuracy)


def test_tiles_and_labels_tell_the_phase():
    axes = drawn().figure.axes[0]
    (mesh,) = ft.named(axes, "tiles")
    expected = [[PHASES.index(WANTED[w, b]) for w in (2, 4, 8)] for b in (16, 64)]
    np.testing.assert_array_equal(mesh.get_array(), expected)
    labels = {}
    for text in axes.texts:
        if text.get_text() in PHASES:
            labels[tuple(np.round(text.xy, 6))] = text.get_text()
    for (w, b), phase in WANTED.items():
        place = (round(math.log10(w), 6), round(math.log10(b), 6))
        assert labels[place] == phase
    assert ft.height(axes, math.log10(16)) > ft.height(axes, math.log10(64))


def test_transitions_lie_between_exactly_the_right_cells():
    figure = drawn().figure
    assert segments(figure, "hessian") == {line(X[k], Y[1], X[k + 1], Y[1]) for k in range(3)}
    assert segments(figure, "connectivity") == {line(X[1], Y[k], X[1], Y[k + 1]) for k in range(2)}
    assert segments(figure, "crossover") == {line(X[2], Y[1], X[2], Y[2])}


def test_no_lines_within_a_phase():
    figure = drawn(dict.fromkeys(CELLS, "II")).figure
    for name in ("hessian", "connectivity", "crossover"):
        assert all(len(lines.get_segments()) == 0 for lines in ft.named(figure.axes[0], name))


def test_transitions_look_different():
    axes = drawn().figure.axes[0]
    solid, dashed = (ft.named(axes, name)[-1] for name in ("hessian", "connectivity"))
    assert solid.get_linestyle()[0][1] is None
    assert dashed.get_linestyle()[0][1] is not None


def test_thresholds_are_the_style_s_and_named_in_the_key():
    thresholds = Thresholds(log_hessian_trace=6.5, mode_connectivity=-10, cka=0.5)
    poor = Thresholds(log_hessian_trace=5, mode_connectivity=-5.5, cka=0.72)
    figure, numbers = drawn(style=Figure(thresholds=thresholds))
    found = numbers.set_index(["load", "temperature"])["phase"]
    assert found[2, 16] == "II"  # trace 7, connectivity -9
    assert found[4, 16] == "IV-B"
    assert found[4, 64] == "IV-B"
    text = " ".join(key_of(figure))
    assert "ln tr H = 6.5" in text
    assert "CKA" not in text  # no cells that it parts
    assert {"connectivity: −5.5 points", "crossover: CKA = 0.72"} <= {
        *key_of(drawn(style=Figure(thresholds=poor)).figure)
    }


def key_of(figure):
    """The words of the key."""
    legends = [child for child in figure.axes[1].get_children() if hasattr(child, "get_texts")]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def test_the_key_names_phases_and_transitions_that_there_are():
    words = key_of(drawn(dict.fromkeys(CELLS, "II")).figure)
    assert [w for w in words if w.split()[0] in PHASES] == ["II  sharp, connected"]
    assert not [w for w in words if "Hessian" in w or "connectivity" in w or "CKA" in w]
    words = key_of(drawn().figure)
    assert [w.split()[0] for w in words if w.split()[0] in PHASES] == list(PHASES)


SURE, TORN = (2, 16), (4, 16)


def unsure():
    """Two cells: replicas of one agree on all numbers, those of the other on no connectivity."""
    tables = ft.tables([SURE, TORN], replicas=4)
    rows = tables.scalars
    torn = rows["width"] == TORN[0]
    steps = rows.groupby(["metric", "width"]).cumcount() / 1000
    value = rows["metric"].map({"hessian_trace": 1000.0, "cka": 0.8, "mode_connectivity": 5.0})
    value = value.fillna(1.0) + steps
    spread = torn & (rows["metric"] == "mode_connectivity")
    low = np.resize([-7.0, -1.0, 2.0, 4.0, -6.0, -3.0], int(spread.sum()))
    value[spread] = low
    return type(tables)(rows.assign(value=value), tables.series)


def test_what_is_undecided_is_dotted_and_names_its_runner_up():
    style = Figure(thresholds=Thresholds(rule="published"))
    figure, numbers = phases(unsure(), style, "width", "batch_size")
    sure, torn = (numbers[numbers["load"] == cell[0]].iloc[0] for cell in (SURE, TORN))
    assert (sure["phase"], sure["runner_up"]) == ("II", "")
    assert {torn["phase"], torn["runner_up"]} == {"I", "II"}
    assert torn["p_runner_up"] == torn[f"p_{torn['runner_up']}"]
    assert torn["probability"] < 3 * torn["p_runner_up"]
    (dotted,) = ft.named(figure.axes[0], "undecided")
    assert dotted.get_x() == pytest.approx(math.log10(TORN[0]) - math.log10(2) / 2)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert f"or {torn['runner_up']} {torn['p_runner_up']:.2f}" in words
    assert "undecided: less than 3 to 1\nagainst the runner-up" in key_of(figure)


def test_bands_are_as_wide_as_it_is_probable_that_neighbours_differ():
    style = Figure(thresholds=Thresholds(rule="published"))
    figure, numbers = phases(unsure(), style, "width", "batch_size")
    torn = numbers[numbers["load"] == TORN[0]].iloc[0]
    (strips,) = ft.named(figure.axes[0], "band")
    assert strips.get_linewidths() == pytest.approx([7.0 * torn["p_I"]])
    (line_,) = (np.round(one, 6).tolist() for one in strips.get_segments())
    assert {x for x, _ in line_} == {X[1]} or {round(x, 5) for x, _ in line_} == {round(X[1], 5)}


def test_in_narrow_tiles_regions_are_named_once_and_runners_up_are_squares():
    cells = ft.product([2**k for k in range(8)], [16, 64])
    figure = drawn({cell: "II" if cell[0] < 9 else "IV-A" for cell in cells}).figure
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["II", "IV-A"]
    assert not ft.named(figure.axes[0], "runner-up")
    tables = ft.tables(cells, replicas=3)
    figure, numbers = phases(tables, Figure(), "width", "batch_size")
    torn = numbers["probability"] < 3 * numbers["p_runner_up"]
    assert torn.any()
    assert len(ft.named(figure.axes[0], "runner-up")) == torn.sum()


def test_cells_without_a_phase_part_nothing():
    wanted = {**WANTED}
    figure, numbers = drawn(wanted, diverged={(4, 16): (0, 1)})
    axes = figure.axes[0]
    row = numbers[(numbers["load"] == 4) & (numbers["temperature"] == 16)].iloc[0]
    assert (row["phase"], row["status"]) == ("", "diverged")
    assert len(ft.named(axes, "diverged")) == 1
    assert segments(figure, "connectivity") == {line(X[1], Y[1], X[1], Y[2])}
    assert line(X[1], Y[1], X[2], Y[1]) not in segments(figure, "hessian")


def test_large_grid_has_no_accuracies():
    cells = ft.product([2**k for k in range(8)], [16, 64])
    figure = drawn(dict.fromkeys(cells, "IV-A")).figure
    assert {text.get_text() for text in figure.axes[0].texts} == {"IV-A"}


def at_chance(lost):
    """Tables of two replicas, of which the cells `lost` have not learned."""
    tables = ft.tables(CELLS, values=values(WANTED))
    rows = tables.scalars
    loss = rows["metric"] == "train_loss"
    places = list(zip(rows["width"], rows["batch_size"], strict=True))
    high = np.array([place in lost for place in places])
    chance = rows[loss & (rows["replica"] == 0)].assign(
        metric="chance_loss", value=math.log(10), replica=None
    )
    rows = rows.assign(value=np.where(loss, np.where(high, 2.29, 0.1), rows["value"]))
    both = pd.concat([rows, chance.astype(rows.dtypes)], ignore_index=True)
    return type(tables)(both, tables.series)


@pytest.mark.parametrize("lost", [CELLS, CELLS[:2]])
def test_cells_at_chance_have_no_phase_and_the_figure_says_so(lost):
    figure, numbers = phases(at_chance(lost), Figure(), "width", "batch_size")
    assert (numbers["learned"] == "no").sum() == len(lost) == (numbers["phase"] == "").sum()
    words = [text.get_text() for text in figure.axes[0].texts]
    assert ("no cell has learned" in words) == (len(lost) == len(CELLS))
    assert len(ft.named(figure.axes[0], "unlearned")) == len(lost)


def test_tiles_are_paler_the_less_sure_their_phase_is():
    tables = ft.tables(CELLS, replicas=3)
    figure, numbers = phases(tables, Figure(), "width", "batch_size")
    (mesh,) = ft.named(figure.axes[0], "tiles")
    wide = numbers.pivot(index="temperature", columns="load", values="probability").to_numpy()
    assert np.isfinite(wide).all()
    np.testing.assert_allclose(mesh.get_alpha(), 0.25 + 0.75 * wide)
    assert f"p = {min(wide[0, 0], 0.99):.2f}" in [t.get_text() for t in figure.axes[0].texts]


def test_without_any_error_tiles_are_opaque_and_the_key_says_why():
    figure, numbers = drawn()  # equal numbers
    (mesh,) = ft.named(figure.axes[0], "tiles")
    assert numbers["probability"].isna().all()
    assert (np.ravel(mesh.get_alpha()) == 1).all()
    assert "p = ?" in [text.get_text() for text in figure.axes[0].texts]
    legends = [child for child in figure.axes[1].get_children() if hasattr(child, "get_texts")]
    words = [text.get_text() for legend in legends for text in legend.get_texts()]
    assert "no errors, hence no probabilities" in words
