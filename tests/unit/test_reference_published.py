"""The shipped table of the authors' numbers: what is read, refused, written and compared."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import published
from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.reference import taxonomy_published
from lossatlas.reference.taxonomy_published import COLUMNS, QUANTITIES, compare, read, write


def changed(tmp_path, change):
    """A copy of the shipped table, changed by a function of its lines."""
    lines = Path(paths.published()).read_text().splitlines()
    path = tmp_path / "table.csv"
    path.write_text("\n".join(change(lines)) + "\n")
    return path


def field(line, column, text):
    """Replace one field of one line."""

    def change(lines):
        fields = lines[line - 1].split(",")
        fields[column] = text
        return [*lines[: line - 1], ",".join(fields), *lines[line:]]

    return change


def refusal(path):
    with pytest.raises(UserError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert error.value.where.startswith(str(path))
    assert error.value.fix == "restore the file from the repository"
    return str(error.value).removeprefix(str(path))


def test_every_quantity_has_its_columns():
    assert len(COLUMNS) == len(set(COLUMNS)) == 2 + 6 * 5 + 2 * 20 + 10 + 4 * 5
    assert COLUMNS[:3] == ["batch_size", "width", "train_loss.0"]
    assert {"cka_biased_output.3.1", "l2_distance.3.4", "curve_test_loss.4"} <= set(COLUMNS)
    assert not {"cka_biased_output.1.1", "l2_distance.4.3"} & set(COLUMNS)
    assert {name.partition(".")[0] for name in COLUMNS[2:]} == set(QUANTITIES)


def test_the_shipped_table_says_where_it_comes_from_and_is_small():
    text = Path(paths.published()).read_text()
    about = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for part in (taxonomy_published.SOURCE, taxonomy_published.COMMIT, published.NAME, "MIT"):
        assert part in about
    row = next(
        line
        for line in (paths.DATASETS_TABLE).read_text().splitlines()
        if line.startswith("taxonomy_results\t")
    ).split("\t")
    assert f"{row[2]}, sha256 {row[4]}" in about
    assert taxonomy_published.COMMIT.startswith(row[1])
    assert f"/{taxonomy_published.COMMIT}/" in row[5]
    assert len(text) < 300_000


def test_the_order_of_rows_does_not_matter(tmp_path):
    path = changed(tmp_path, lambda lines: [*lines[:6], *reversed(lines[6:])])
    pd.testing.assert_frame_equal(read(path), published.numbers())


def test_an_empty_field_is_a_missing_number(tmp_path):
    found = read(changed(tmp_path, field(7, 2, "")))
    assert math.isnan(found["train_loss.0"][0])
    assert found["train_loss.1"][0] == published.numbers()["train_loss.1"][0]


def test_numbers_survive_writing_and_reading(tmp_path):
    """Those with nine digits exactly, whatever their size."""
    numbers = published.numbers().copy()
    numbers.loc[0, ["train_loss.0", "train_loss.1"]] = -1.23456789e-30, 9.87654321e20
    (tmp_path / "archive").write_bytes(b"x")
    write(tmp_path / "table.csv", numbers, tmp_path / "archive")
    pd.testing.assert_frame_equal(read(tmp_path / "table.csv"), numbers, check_exact=True)
    assert np.isnan(numbers["test_accuracy.0"]).sum() == 28


def test_a_missing_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.csv")


def test_an_unreadable_file(tmp_path):
    assert "not readable" in refusal(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert "not readable" in refusal(tmp_path / "bytes")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (lambda names: ["size", *names[1:]], "column 1 of the header is 'size', not 'batch_size'"),
        (lambda names: [*names[:3], *names[2:]], "column 4 of the header is 'train_loss.0'"),
        (lambda names: names[:-1], "the header has 101 columns, not 102"),
        (lambda names: [*names, "more"], "the header has 103 columns, not 102"),
    ],
)
def test_a_wrong_header(tmp_path, header, message):
    def change(lines):
        return [*lines[:5], ",".join(header(lines[5].split(","))), *lines[6:]]

    said = refusal(changed(tmp_path, change))
    assert said.startswith(", line 6: ")
    assert message in said


def test_no_header(tmp_path):
    assert "column 1 of the header is ''" in refusal(changed(tmp_path, lambda lines: []))
    said = refusal(changed(tmp_path, lambda lines: [*lines[:5], *lines[6:]]))
    assert "column 1 of the header is '16', not 'batch_size'" in said


@pytest.mark.parametrize("change", [lambda row: row + ",1", lambda row: row.rpartition(",")[0]])
def test_a_wrong_number_of_columns(tmp_path, change):
    said = refusal(changed(tmp_path, lambda lines: [*lines[:8], change(lines[8]), *lines[9:]]))
    assert said.startswith((", line 9: 103 columns, not 102", ", line 9: 101 columns, not 102"))


@pytest.mark.parametrize(
    "text", ["x", "nan", "inf", "1_0", " 1", "1,", "0x1", "٣", "--1", "1e999", '"1"']
)
def test_what_is_no_number(tmp_path, text):
    path = changed(tmp_path, field(8, 3, text))
    if "," in text:
        assert "103 columns" in refusal(path)
    else:
        said = f", line 8: column train_loss.1 has '{text}', which is no number"
        assert refusal(path).startswith(said)


def test_a_missing_cell(tmp_path):
    said = refusal(changed(tmp_path, lambda lines: [*lines[:10], *lines[11:]]))
    assert said.startswith(": batch size 32, width 1 is missing")
    said = refusal(changed(tmp_path, lambda lines: lines[:6]))
    assert said.startswith(": batch size 16, width 1 is missing")


def test_a_repeated_cell(tmp_path):
    said = refusal(changed(tmp_path, lambda lines: [*lines, lines[10]]))
    assert said.startswith(", line 217: batch size 32, width 1 is there twice")


@pytest.mark.parametrize("text", ["17", "016", "16.0", ""])
def test_an_unknown_cell(tmp_path, text):
    said = refusal(changed(tmp_path, field(7, 0, text)))
    assert said.startswith(f", line 7: no cell has batch size {text}, width 1")


def test_comparison_says_where_tables_differ_first(tmp_path):
    shipped = Path(paths.published())
    same = changed(tmp_path, list)
    assert compare(same, shipped).startswith("equal: ")
    for change, said in (
        (field(9, 4, "2"), "line 9 (batch size 24, width 1), column train_loss.2: '2' made, '1."),
        (lambda lines: lines[:-1], "line 216: '' made, '1024,128,"),
        (lambda lines: [*lines[:2], "# archive: other", *lines[3:]], "line 3: '# archive: other'"),
        (lambda lines: [*lines, "more"], "line 217: 'more' made, '' shipped"),
    ):
        with pytest.raises(UserError, match=r"differs from .* first in ") as error:
            compare(changed(tmp_path, change), shipped)
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        compare(same, tmp_path / "none.csv")
