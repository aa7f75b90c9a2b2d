import figure_tables as ft
import matplotlib
import pandas as pd
import pytest
from PIL import Image

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, style
from lossatlas.figures.diagram import phase_diagram
from lossatlas.figures.draw import draw, resolve, save, whole_page
from lossatlas.spec.figures import FIGURES, Figure
from lossatlas.tables import collect

CELLS = ft.product([2, 4], [16, 64])
PAPERS = ("taxonomy", "simplex", "diffusion")
AXES = {"load": "width", "temperature": "batch_size"}


@pytest.fixture
def inputs(tmp_path):
    table = ft.scalars(CELLS, diverged={(2, 16): (0,)})
    parts = {"a": table["metric"].isin(ft.PER_REPLICA), "b": table["metric"].isin(ft.PER_PAIR)}
    for name, part in parts.items():
        collect.write(tmp_path / f"{name}.csv", table[part])
    collect.write(tmp_path / "c.csv", ft.series(CELLS))
    return {"scalars": [tmp_path / "a.csv", tmp_path / "b.csv"], "series": [tmp_path / "c.csv"]}


def outputs(folder):
    return {extension: folder / f"figure.{extension}" for extension in ("png", "pdf", "csv")}


@pytest.mark.parametrize("name", ["taxonomy_phase_diagram", "taxonomy_phases", "taxonomy_curves"])
def test_equal_inputs_make_equal_bytes(inputs, tmp_path, name, monkeypatch):
    first, second = outputs(tmp_path / "1"), outputs(tmp_path / "2")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    draw(Figure(draws=name, dpi=60), **inputs, **AXES, outputs=first)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "pdf.fonttype": 3}):
        draw(Figure(draws=name, dpi=60), **inputs, **AXES, outputs=second)
    for extension, path in first.items():
        assert path.read_bytes() == second[extension].read_bytes()


def test_files_are_what_they_are_called(inputs, tmp_path):
    files = outputs(tmp_path)
    draw(Figure(draws="taxonomy_phases", dpi=100), **inputs, **AXES, outputs=files)
    with Image.open(files["png"]) as image:
        assert image.width == pytest.approx(style.PAGE / 25.4 * 100, abs=1)
        assert "matplotlib" not in str(image.info).lower()
    text = files["pdf"].read_bytes()
    assert text.startswith(b"%PDF")
    assert b"FontFile2" in text  # TrueType, which journals ask for
    assert b"CreationDate" not in text
    assert b"Matplotlib" not in text


def test_nothing_is_cut_off(inputs, tmp_path):
    table = pd.read_csv(inputs["scalars"][0])
    with style.sheet():
        figure = style.page(50)
        figure.subplots_adjust(0, 0.2, 0.9, 0.9)  # no room for what stands beside the axis
        figure.subplots().set_ylabel("loss")
    save(Drawn(figure, table), tmp_path / "figure.png", "png", 100, whole_page(figure))
    page = style.PAGE / 25.4 * 100
    with Image.open(tmp_path / "figure.png") as image:
        assert page + 20 < image.width < page + 80
        pixels = image.convert("L").load()
        assert all(pixels[0, y] > 250 for y in range(image.height))
        assert any(pixels[x, y] < 100 for x in range(20) for y in range(image.height))


def test_pages_have_an_end():
    figure = style.page(50)
    figure.text(300, 0.5, "far away")
    page = whole_page(figure)
    assert page is None or page.width <= 1.5 * style.PAGE / 25.4 + 0.1


def test_csv_holds_the_numbers_drawn(inputs, tmp_path):
    draw(
        Figure(draws="taxonomy_phase_diagram"),
        **inputs,
        **AXES,
        outputs={"csv": tmp_path / "n.csv"},
    )
    tables = ft.Tables(collect.concatenate(inputs["scalars"]), ft.no_series())
    expected = phase_diagram(tables, Figure(), "width", "batch_size").numbers
    found = pd.read_csv(tmp_path / "n.csv")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_every_built_in_figure_has_its_function():
    for name in FIGURES:
        assert callable(resolve(name))


def test_function_of_one_s_own():
    assert resolve("lossatlas.figures.diagram:phase_diagram") is phase_diagram


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("taxonomy_phase", "unknown figure"),
        ("no.such.module:draw", "no module named"),
        ("lossatlas.figures.diagram:nothing", "has no 'nothing'"),
    ],
)
def test_unknown_function(name, message):
    with pytest.raises(UserError, match=message):
        resolve(name)


def test_missing_and_empty_tables(inputs, tmp_path):
    chosen = Figure(draws="taxonomy_phases")
    with pytest.raises(UserError, match="no such file"):
        draw(chosen, scalars=["gone.csv"], series=[], **AXES, outputs={})
    with pytest.raises(UserError, match="no rows"):
        draw(chosen, scalars=[], series=[], **AXES, outputs={})
    collect.write(tmp_path / "empty.csv", ft.scalars(CELLS).head(0))
    with pytest.raises(UserError, match="no rows"):
        draw(chosen, scalars=[tmp_path / "empty.csv"], series=[], **AXES, outputs={})


def test_unknown_extension(tmp_path):
    with pytest.raises(ValueError, match="'svg'"):
        save(Drawn(style.page(10), pd.DataFrame()), tmp_path / "a.svg", "svg", 100)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    figure = style.page(10)
    monkeypatch.setattr(figure, "savefig", lambda *a, **k: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(UserError, match="cannot be written"):
        save(Drawn(figure, pd.DataFrame()), target, "png", 100)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_captions_are_named_like_the_figures():
    folder = paths.PROJECT / "workflow" / "report"
    captions = {path.stem for path in folder.glob("*_*.rst")}
    assert captions <= set(FIGURES)
    assert captions >= {
        name for name in FIGURES if name.startswith(("taxonomy", "simplex", "diff"))
    }
    assert (folder / "workflow.rst").exists()
    for name in captions:
        text = (folder / f"{name}.rst").read_text(encoding="utf-8")
        assert f"figures.{name}" in text
        if name.startswith("taxonomy"):
            assert "Yang et al. (2021)" in " ".join(text.split())
        assert len(text.split("\n\n")) == 1
