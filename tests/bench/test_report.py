"""Tables: units, limits kept and broken, the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from course_lib.bench.report import Measurement, write_picture, write_report, write_table
from course_lib.instruments.pictures import card


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("seconds", 0.00321, "3.21 ms"),
        ("seconds", 0.321, "321 ms"),
        ("seconds", 32.1, "32.10 s"),
        ("rows/s", 73_900.4, "73,900 rows/s"),
        ("times", 1.5, "1.50 times"),
        ("times", 251.3, "251 times"),
        ("recall", 0.9512, "0.951"),
    ],
)
def test_units(unit: str, value: float, text: str) -> None:
    assert Measurement.of("x", [value], unit=unit).row[1] == text


def test_a_limit_is_kept_by_the_worst_run_or_broken() -> None:
    assert Measurement.of("x", [0.1, 0.3], 0.4).row[5] == "400 ms kept"
    assert Measurement.of("x", [0.1, 0.5], 0.4).row[5] == "400 ms BROKEN"
    assert Measurement.of("x", [0.1, 0.5]).row[5] == ""


def test_where_more_is_better_the_worst_is_the_least() -> None:
    rates = Measurement.of("x", [0.94, 0.91, 0.97], 0.9, unit="times", more_is_better=True)
    assert (rates.best, rates.worst) == (0.97, 0.91)
    assert rates.row[5] == "≥ 0.90 times kept"
    assert not Measurement.of("x", [0.94, 0.89], 0.9, unit="times", more_is_better=True).kept


def test_the_files(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report("some", "Some figures", [Measurement.of("one", [1, 2, 3], 4, "a note")])
    content = json.loads((results / "some.json").read_text())
    assert content["title"] == "Some figures"
    assert content["measurements"][0]["median"] == 2
    assert "| one | 2.00 s | 1.00 s | 3.00 s | 3 | 4.00 s kept | a note |" in (results / "some.md").read_text()
    assert "a note" in capsys.readouterr().out


def test_a_table_of_any_columns_with_lines_below(results: Path) -> None:
    write_table("any", "Anything", ["a", "b"], [["1", "[2]"]], {"numbers": [1, 2]}, ["Read it so."])
    text = (results / "any.md").read_text()
    assert text.startswith("# Anything\n")
    assert "| a | b |\n|---|---|\n| 1 | [2] |\n\nRead it so.\n" in text
    assert json.loads((results / "any.json").read_text())["numbers"] == [1, 2]


def test_a_picture(results: Path) -> None:
    write_picture("some", card(2, 1, "nothing")[0])
    assert (results / "some.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_may_be_written_without_a_word(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table("so_far", "So far", ["a"], [["1"]], {}, show=False)
    assert (results / "so_far.md").exists()
    assert capsys.readouterr().out == ""


def test_a_row_with_too_many_cells_is_refused() -> None:
    with pytest.raises(AssertionError, match="a cell for each column"):
        write_table("wide", "Too wide", ["a"], [["1", "2"]], {})
