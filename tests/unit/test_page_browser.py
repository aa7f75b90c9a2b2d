"""The page in a browser: what it shows, what it answers, and that it asks for nothing."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import page_tables
import pytest
from scipy import stats

from lossatlas.page import contents, write
from lossatlas.spec.figures import Thresholds
from lossatlas.tables import collect
from lossatlas.tables.phases import labels

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium on this machine (Debian: apt-get install chromium)"
)
TILES = ".map svg .mark-rect path[aria-label*='cell:']"


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write.write(str(folder / "report.html"), page_tables.atlas(folder))
    return folder / "report.html"


class Page:
    """An open page, which must neither complain nor ask for anything."""

    def __init__(self, browser: "sync_api.Browser", file: Path, width: int, address: str) -> None:
        self.said: list[str] = []
        self.tab = browser.new_page(viewport={"width": width, "height": 900})
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda fault: self.said.append(str(fault)))
        self.tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.tab.on("request", lambda request: self._asked(request.url))
        self.tab.goto(f"{file.as_uri()}{address}")

    def _asked(self, url: str) -> None:
        if not re.match("file:.*/report.html|data:|blob:", url):
            self.said.append(url)

    def labels(self) -> dict[str, str]:
        """Return the phase of each cell as the map shows it."""
        self.tab.wait_for_selector(TILES)
        told = [tile.get_attribute("aria-label") for tile in self.tab.locator(TILES).all()]
        found = [re.search(r"cell: (\S+): ([IVAB-]*)", text) for text in told]
        return {one[1]: one[2] for one in found if one}

    def view(self, name: str) -> None:
        self.tab.get_by_role("button", name=name, exact=True).click()

    def close(self) -> None:
        self.tab.close()
        assert self.said == []


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for the page, which draws when it can."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(params=[1280, 390])
def page(browser, file, request) -> Iterator[Page]:
    opened = Page(browser, file, request.param, "")
    yield opened
    opened.close()


def test_the_map_shows_each_cell_and_fits(page, file):
    assert len(page.labels()) == 12
    assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_moved_slider_labels_as_the_library_does(page, file):
    table = collect.read(file.parent / "e-scalars.csv")
    summary = collect.cell_summary(table)
    before = page.labels()
    assert before == by_library(summary, Thresholds(rule="published"))
    slider = page.tab.locator("input[data-threshold=log_hessian_trace]")
    slider.evaluate("(it) => { it.value = 7; it.dispatchEvent(new Event('input')); }")
    limit = float(slider.input_value())
    wanted = by_library(summary, Thresholds(rule="published", log_hessian_trace=limit))
    assert wanted != before
    until(lambda: page.labels() == wanted)
    page.tab.get_by_role("button", name="back to the rule").click()
    until(lambda: page.labels() == before)


def by_library(summary, thresholds) -> dict[str, str]:
    found = labels(summary, thresholds)
    return dict(zip(found["cell"], found["phase"], strict=True))


def test_probabilities_after_a_move_are_those_of_student(page, file):
    """Flat and poorly connected, each by its own error, as if they were independent."""
    table = collect.cell_summary(collect.read(file.parent / "e-scalars.csv"))
    slider = page.tab.locator("input[data-threshold=log_hessian_trace]")
    slider.evaluate("(it) => { it.value = 6.6; it.dispatchEvent(new Event('input')); }")
    limits = {"log_hessian_trace": float(slider.input_value()), "mode_connectivity": -2.0}
    until(lambda: "by hand: log_hessian_trace" in page.tab.locator("#note").inner_text())
    shown = 0
    for tile in page.tab.locator(TILES).all():
        told = re.search(r"cell: (\S+): ([IV]+), (\d+)%", tile.get_attribute("aria-label"))
        if told is None:  # phase IV, which the CKA divides
            continue
        rows = table[table["cell"] == told[1]].set_index("metric")
        rows = rows.loc[list(limits), ["value", "stderr", "df"]]
        z = (np.array([*limits.values()]) - rows["value"]) / rows["stderr"]
        flat, poor = stats.t.cdf(z, rows["df"])
        shares = {"I": (1 - flat) * poor, "II": (1 - flat) * (1 - poor), "III": flat * poor}
        assert abs(float(told[3]) / 100 - shares[told[2]]) < 0.02, told[0]
        shown += 1
    assert shown >= 5


def test_a_click_shows_the_cell_and_shift_adds_one(page):
    page.tab.wait_for_selector(TILES)
    page.tab.locator(TILES).first.click(force=True)
    page.tab.wait_for_selector("#detail [data-series=train_loss] svg")
    first = page.tab.locator("#detail h3").first.inner_text()
    assert first in page.labels()
    page.tab.locator(TILES).nth(5).click(force=True, modifiers=["Shift"])
    page.tab.wait_for_selector("#detail h3:text-is('2 cells')")
    assert "cells=" in page.tab.url


def test_arrow_keys_choose_cells(page):
    page.tab.wait_for_selector(TILES)
    page.tab.locator(".map").focus()
    for key, cell in (("Right", "w1-b2"), ("Right", "w2-b2"), ("Up", "w2-b16")):
        page.tab.keyboard.press(f"Arrow{key}")
        page.tab.wait_for_selector(f"#detail h3:text-is('net-{cell}')")


def test_a_control_keeps_the_focus_and_back_goes_back(page):
    page.tab.wait_for_selector(TILES)
    chosen = page.tab.get_by_label("shown")
    chosen.focus()
    for _ in range(2):
        page.tab.keyboard.press("ArrowDown")
    until(lambda: "test_accuracy" not in page.tab.url and "metric=train_loss" in page.tab.url)
    page.tab.go_back()
    until(lambda: "metric=test_accuracy" in page.tab.url)
    until(lambda: chosen.input_value() == "test_accuracy")


def test_the_rule_holds_for_what_is_not_moved(browser, tmp_path):
    """Under the rule 'nulls' a cell is poorly connected below 0 by more than its own error."""
    asked = page_tables.asked(tmp_path, rule="nulls")
    found = contents.of_experiment(asked, {})
    write.write(str(tmp_path / "report.html"), page_tables.atlas(tmp_path, experiments=[found]))
    page = Page(browser, tmp_path / "report.html", 1280, "")
    before = page.labels()
    slider = page.tab.locator("input[data-threshold=cka]")
    slider.evaluate("(it) => { it.value = 5; it.dispatchEvent(new Event('input')); }")
    limit = float(slider.input_value())
    summary = collect.cell_summary(collect.read(asked.scalars[0]))
    wanted = by_library(summary, Thresholds(rule="nulls", cka=limit))
    assert wanted != before
    assert {cell for cell in wanted if wanted[cell] == "IV-A"} >= {
        cell for cell in before if before[cell].startswith("IV")
    }
    until(lambda: page.labels() == wanted)
    page.close()


def test_experiments_with_other_axes_are_not_compared(browser, tmp_path):
    """One with a further axis has several cells for each of the other's."""
    first = contents.of_experiment(page_tables.asked(tmp_path, "e"), {})
    other = contents.of_experiment(page_tables.asked(tmp_path, "f"), {})
    other["axes"].append("rate")
    again = [{**cell, "id": f"{cell['id']}-r"} for cell in other["cells"]]
    other["cells"] = [
        {**cell, "at": {**cell["at"], "rate": rate}}
        for rate, cells in ((0.1, other["cells"]), (0.2, again))
        for cell in cells
    ]
    for numbers in other["numbers"].values():
        for name in numbers:
            numbers[name] = numbers[name] * 2
    other["phases"] = None
    write.write(
        str(tmp_path / "report.html"), page_tables.atlas(tmp_path, experiments=[first, other])
    )
    page = Page(browser, tmp_path / "report.html", 1280, "#view=compare&exp=e&other=f")
    page.tab.wait_for_selector("text=these experiments have not the same axes")
    assert page.tab.locator("#main svg").count() == 0
    page.close()


def test_every_view(page):
    page.view("Scatter")
    page.tab.wait_for_selector("#main svg .mark-symbol path")
    assert page.tab.locator("#main svg .mark-symbol.layer_2_marks path").count() == 12
    page.view("Compare")  # cells of the same names: one and the same
    page.tab.wait_for_selector("#main svg .mark-rect path")
    assert "same" in page.tab.locator("#main svg").text_content()
    page.view("Claims")
    assert page.tab.locator(".card").count() == 3
    page.tab.get_by_label("verdict").select_option("no")
    assert page.tab.locator(".card").inner_text().count("<b>Low</b>") == 1
    page.view("Runs")
    assert page.tab.locator("tbody tr").count() == 2
    page.tab.get_by_label("filter").fill("DIVERGED")
    until(lambda: page.tab.locator("tbody tr").count() == 1)
    page.view("Figures")
    assert page.tab.locator("#figures").is_visible()


def test_runs_are_sorted_by_a_column(page):
    page.view("Runs")
    head = page.tab.get_by_role("button", name="replica", exact=True)
    first = page.tab.locator("tbody tr td:nth-child(2)").first
    head.click()
    assert first.inner_text() == "0"
    head.click()
    assert first.inner_text() == "1"


@pytest.mark.parametrize(
    "address", ["#view=map&exp=f&metric=cka&cells=%5B%22net-w8-b2%22%5D", "#view=nothing&cells=%7B"]
)
def test_an_address_is_a_view(browser, file, address):
    page = Page(browser, file, 1280, address)
    page.tab.wait_for_selector(TILES)
    if "exp=f" in address:
        assert page.tab.get_by_label("shown").input_value() == "cka"
        page.tab.wait_for_selector("#detail h3:text-is('net-w8-b2')")
    page.close()


def test_what_is_saved_is_what_is_shown(page):
    page.tab.wait_for_selector(TILES)
    with page.tab.expect_download() as saved:
        page.tab.locator("#main .tools button:text-is('CSV')").first.click()
    rows = Path(saved.value.path()).read_text().splitlines()
    assert len(rows) == 1 + 12
    assert rows[0].startswith("cell,width,batch_size,")
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.tab.expect_download() as saved:
            page.tab.locator(f"#main .tools button:text-is('{kind}')").first.click()
        assert Path(saved.value.path()).read_bytes().startswith(begins)


def test_layers_and_fitted_lines_of_a_cell(browser, file):
    """The matrix averages the pairs; the dashed line of an exponent lies on its curve."""
    curves = "&cells=%5B%22net-w8-b2%22%5D&curves=%5B%22msd%22%2C%22cka_layers%22%5D"
    page = Page(browser, file, 1280, f"#view=map&exp=e{curves}")
    page.tab.wait_for_selector("#detail [data-series=msd] svg .mark-line path")
    told = [
        tile.get_attribute("aria-label")
        for tile in page.tab.locator("#detail .mark-rect path").all()
    ]
    told = [text for text in told if text and text.startswith("layer")]
    assert len(told) == 9
    far = "layer of another replica: head; layer of one replica: stem; cka: 0.45"
    assert far in told  # (0.5 + 0.4) / 2
    assert page.tab.locator("#detail .chips button:text-is('msd_fit')").count() == 0
    dashes = page.tab.locator("#detail [data-series=msd] .mark-line path")
    kinds = {one.get_attribute("stroke-dasharray") for one in dashes.all()}
    assert (dashes.count(), len(kinds)) == (4, 2)
    for kind, begins in (("SVG", b"<svg"), ("CSV", b"cell,series,")):
        with page.tab.expect_download() as saved:
            page.tab.locator(f"#detail .tools button:text-is('{kind}')").first.click()
        assert Path(saved.value.path()).read_bytes().startswith(begins)
    page.close()


@pytest.mark.parametrize("case", ["evil", "diverged", "one cell", "no cells", "wide"])
def test_strange_experiments(browser, tmp_path, case):
    evil = "</script><img src=x onerror=alert(2)>\"'\U0001f600"
    grid = {"one cell": ((1,), (2,)), "wide": (tuple(range(1, 60)), tuple(range(2, 42)))}
    table = page_tables.scalars(*grid.get(case, ((1, 2), (2, 16))), replicas=2)
    if case == "evil":
        table = table.assign(cell=table["cell"] + evil, metric=table["metric"] + "<b>")
    elif case == "diverged":
        table = table.assign(value=float("nan"), status="diverged")
    elif case == "no cells":
        table = table.iloc[:0]
    path = page_tables.save(tmp_path, "t", table)
    found = contents.of_experiment(contents.Asked(evil, [path], []), {})
    write.write(str(tmp_path / "report.html"), page_tables.atlas(tmp_path, experiments=[found]))
    page = Page(browser, tmp_path / "report.html", 1280, "")
    page.tab.wait_for_selector("#main select")
    for view in ("Scatter", "Compare", "Map"):
        page.view(view)
        page.tab.wait_for_timeout(300)
    if case != "no cells":
        page.tab.wait_for_selector(TILES)
        assert page.tab.locator(TILES).count() == len(found["cells"])
    page.close()
