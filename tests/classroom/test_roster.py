"""A roster is read whole, or refused with the line and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.classroom.naming import check_slug, pool_names
from course_lib.classroom.roster import Learner, read_roster
from course_lib.errors import CourseError


def roster(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "roster.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "Ada Lovelace\nÁdám Nagy\n",
        "name\nAda Lovelace\n\n  \nÁdám Nagy\n\n",
        "\ufeffname\r\nAda Lovelace\r\nÁdám Nagy\r\n",
        "E-Mail;Name\nada@x.org;Ada Lovelace\nadam@x.org;Ádám Nagy\n",
        "name,login\nAda Lovelace,\nÁdám Nagy,ADAM_NAGY\n",
        "name\tlogin\nAda Lovelace\t\nÁdám Nagy\tadam_nagy\n",
        '"name"\n"Ada Lovelace"\n"Ádám Nagy"',
        "name\nAda Lovelace\nÁdám Nagy\n".encode("utf-16"),
        "NAME,,\nAda Lovelace,,\n,,\nÁdám Nagy,,\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: str | bytes) -> None:
    assert read_roster(roster(tmp_path, content)) == [
        Learner("Ada Lovelace", "ada_lovelace"), Learner("Ádám Nagy", "adam_nagy"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "login"),
    [
        ("Łukasz Żółć", "lukasz_zolc"), ("Søren Ægir", "soren_aegir"), ("Müller-Groß", "muller_gross"),
        ("O’Neil, Pat", "o_neil_pat"), ("Anna 1", "anna1"), ("Zoë  van  der  Meer", "zoe_van_der_meer"),
        ("Maximiliane Theodora von und zu Hohenstein", "maximiliane_theodora_von_und_z"), ("İpek Işık", "ipek_isik"),
    ],
)  # fmt: skip
def test_a_login_is_made_of_a_name(tmp_path: Path, name: str, login: str) -> None:
    assert read_roster(roster(tmp_path, f'name\n"{name}"\n')) == [Learner(name, login)]


@pytest.mark.parametrize(
    ("content", "sentence", "mend"),
    [
        ("name\nAda\nBruno\nAda\n", "Ada stands on line 2 and again on line 4", "Remove one of them"),
        ("name\nAda\nADA\n", "line 2 and line 3 both give the login ada", "column login"),
        ("name,login\nAda,a\nBruno,a\n", "line 2 and line 3 both give the login a", "another one"),
        ("name\nAda\n=HYPERLINK(1)\n", "Line 3 begins a cell with =", "the name itself"),
        ("name\n+1\n", "Line 2 begins a cell with +", "the name itself"),
        ("name\n@SUM(A1)\n", "Line 2 begins a cell with @", "the name itself"),
        ("name,login\nAda,-1\n", "Line 2 begins a cell with -", "the name itself"),
        ("name\n李雷\n", "line 2 gives no login", "column login"),
        ("name\nИван\n", "line 2 gives no login", "column login"),
        ("name\n123\n", "line 2 gives no login", "column login"),
        ("name,login\n李雷,li-lei\n", "login on line 2 cannot be part", "a to z"),
        ("name,login\nAnna,anna_1\n", "login on line 2 cannot be part", "a to z"),
        (f"name,login\nAnna,{'a' * 31}\n", "login on line 2 cannot be part", "at most 30"),
        ('name\n"Ada\nLovelace"\n', "line 2 has a line break", "one line"),
        ("name\nA\u202eda\n", "line 2 has a line break or another sign", "one line"),
        (f"name\n{'x' * 81}\n", "more than 80 letters", "shorter"),
        ("name\nAda\nLovelace, Ada\n", "Line 3 has 2 cells, and the first line 1", "between quotes"),
        ("Ada,ada@x.org\n", "none of them says which column has the names", "name,login"),
        ("name,login\n,ada\n", "Line 2 has no name", "remove the line"),
        ("name,name\nAda,Bruno\n", "column name twice", "Leave one"),
        ('name\nAda\n"Bruno\n', "is no CSV", "a quote too many"),
        ("name\nAda\nJos\xe9\n".encode("latin-1"), "Line 3 of", "CSV UTF-8"),
        (b"name\nA\0da\n", "is no text", "CSV UTF-8"),
        (b"PK\x03\x04\xff\xfe\x00", "not UTF-8", "CSV UTF-8"),
        ("", "names no learner", "one name on each line"),
        ("name\n\n", "names no learner", "one name on each line"),
        ("name\n" + "".join(f"{a}{b}{c}\n" for a in "abcdefghijk" for b in "abcdefghij" for c in "abcdefghij"),
         "names 1100 learners", "several"),
        (b"x" * 1_000_001, "larger than a megabyte", "one line for each"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, sentence: str, mend: str) -> None:
    with pytest.raises(CourseError) as caught:
        read_roster(roster(tmp_path, content))
    assert sentence in caught.value.sentence and mend in caught.value.mend, str(caught.value)


def test_five_hundred_rows(tmp_path: Path) -> None:
    letters = "abcdefghij"
    names = [f"{a}{b}{c} Learner" for a in letters for b in letters for c in letters[:5]]
    learners = read_roster(roster(tmp_path, "name;login\n" + "".join(f"{name};\n" for name in names)))
    assert [learner.name for learner in learners] == names


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="cannot be read"):
        read_roster(tmp_path / "none.csv")
    with pytest.raises(CourseError, match="cannot be read"):
        read_roster(tmp_path)


@pytest.mark.parametrize("slug", ["", "A", "1a", "a-b", "a b", "x" * 25, "pg", "pg_x", "course", "lesson_02", 'a"b'])
def test_a_slug_that_cannot_be(slug: str) -> None:
    with pytest.raises(CourseError, match="class"):
        check_slug(slug)


def test_no_name_is_longer_than_postgresql_keeps() -> None:
    assert max(map(len, pool_names(f"{'s' * 24}_{'l' * 30}"))) <= 63
    assert check_slug("lessons") == "lessons" and check_slug("pgcourse") == "pgcourse"
