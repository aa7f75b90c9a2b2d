"""Metrics under variants: panels, rank correlations, marks; from planted tables."""

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest

from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.figures.ablations import ablations
from lossatlas.spec.figures import Figure

SMALL = ft.product([2, 4, 8], [16, 64, 256])
PAPER = ft.product(
    [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128],
    [16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024],
)


def whole(cells=SMALL, variants=(("cka_raw", "cka", -1.0), ("cubic", "mode_connectivity", 2.0))):
    """The whole table of an experiment: variants are the first's numbers times a factor."""
    first = ft.scalars(cells, replicas=3)
    others = [
        first[first["metric"] == scalar].assign(
            metric=f"{name}.{scalar}", value=lambda rows, by=factor: by * rows["value"]
        )
        for name, scalar, factor in variants
    ]
    return pd.concat([first, *others], ignore_index=True)


def drawn(rows):
    return ablations(Tables(rows, ft.no_series()), Figure(), "width", "batch_size")


def panels(figure):
    return {
        axes.get_title("left").split("$  ")[-1]: axes
        for axes in figure.axes
        if axes.get_title("left")
    }


def test_a_row_of_panels_for_each_metric_that_is_measured_in_several_ways():
    figure, numbers = drawn(whole())
    assert list(panels(figure)) == [
        "Mode connectivity",
        "cubic\nρ = 1.00 (9 cells)",
        "CKA similarity",
        "cka raw\nρ = −1.00 (9 cells)",
    ]
    rows = numbers.groupby(["quantity", "variant"], sort=False)
    assert [key for key, _ in rows] == [
        ("mode_connectivity", "first"),
        ("mode_connectivity", "cubic"),
        ("cka", "first"),
        ("cka", "cka_raw"),
    ]
    for _, part in rows:
        assert len(part) == len(SMALL)
    first, raw = (rows.get_group(("cka", name)).reset_index() for name in ("first", "cka_raw"))
    np.testing.assert_allclose(raw["value"], -first["value"])
    np.testing.assert_allclose(raw["stderr"], first["stderr"])
    assert raw["rho"].tolist() == pytest.approx([-1] * len(SMALL))


def test_rank_correlation_by_hand():
    """Ranks 1, 2, 3 against 2, 1, 3: 1 - 6 (1 + 1) / (3 x 8) = 0.5; absent cells do not count."""
    cells = ft.product([2, 4, 8, 16], [16])
    rows = whole(cells, [("raw", "cka", 1.0)])
    other = {2: 5.0, 4: 1.0, 8: 9.0, 16: np.nan}
    raw = rows["metric"] == "raw.cka"
    rows.loc[raw, "value"] = rows.loc[raw, "width"].map(other)
    rows.loc[raw & rows["value"].isna(), "status"] = "undefined"
    figure, numbers = drawn(rows)
    part = numbers[numbers["variant"] == "raw"]
    assert part["rho"].tolist() == pytest.approx([0.5] * len(cells))
    assert set(part["rho_cells"]) == {3}
    assert len(ft.named(panels(figure)["raw\nρ = 0.50 (3 cells)"], "cross")) == 1


def test_all_panels_of_a_metric_share_one_scale():
    figure, numbers = drawn(whole(variants=[("raw", "cka", 3.0)]))
    meshes = [ft.named(axes, "tiles")[0] for axes in panels(figure).values()]
    limits = {(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes}
    assert limits == {(numbers["value"].min(), numbers["value"].max())}


def test_many_variants_go_on_in_the_next_line_and_nothing_overlaps():
    names = [(f"variant_{k}", "mode_connectivity", 1.0 + k) for k in range(5)]
    figure, _ = drawn(whole(PAPER, [*names, ("raw", "cka", 1.0)]))
    shown = panels(figure)
    assert len(shown) == 8
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[k + 1 :])
    labelled = [axes.get_xlabel() != "" for axes in shown.values()]
    assert labelled == [False, False, True, True, False, False, True, True]  # the lowest ones
    assert any(ft.named(axes, "dots") for axes in shown.values())


def test_a_single_cell_has_no_rank_correlation():
    figure, numbers = drawn(whole([(4, 64)], [("raw", "cka", 1.0)]))
    assert "raw\nρ = ? (1 cells)" in panels(figure)
    assert numbers.loc[numbers["variant"] == "raw", "rho"].isna().all()


def test_diverged_and_unconverged_numbers_are_marked():
    rows = whole()
    raw = (rows["metric"] == "cka_raw.cka") & (rows["width"] == 2) & (rows["batch_size"] == 16)
    rows.loc[raw, ["value", "status"]] = [np.nan, "diverged"]
    rough = (rows["metric"] == "cubic.mode_connectivity") & (rows["width"] == 4)
    rows.loc[rough, "status"] = "unconverged"
    figure, _ = drawn(rows)
    found = {name.partition("\n")[0]: axes for name, axes in panels(figure).items()}
    assert len(ft.named(found["cka raw"], "diverged")) == 1
    assert len(ft.named(found["cubic"], "unconverged")) == 3
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"replicas diverged", "some numbers did not converge"} <= words


def test_nothing_in_two_ways():
    with pytest.raises(UserError, match="nothing is measured in two ways") as caught:
        drawn(ft.scalars(SMALL))
    assert "cka_raw" in caught.value.fix
