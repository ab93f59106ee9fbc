"""What the pages of the site hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from course_lib.errors import CourseError
from course_lib.exercises.manifest import drills, manifest
from course_lib.interview.lookup import bank
from course_lib.site import building
from course_lib.site.building import build_site
from course_lib.site.checking import broken
from course_lib.site.leading import on_the_site
from course_lib.site.pages import Page, drill_books, exercises, front, lessons, pages

each_lesson = pytest.mark.parametrize("page", lessons(), ids=lambda page: page.source.stem)
each_book = pytest.mark.parametrize("page", [*exercises(), *drill_books()], ids=lambda page: page.document)


def page_of(site: Path, page: Page) -> LexborHTMLParser:
    return LexborHTMLParser((site / f"{page.document}.html").read_bytes())


def text(tree: LexborHTMLParser, selector: str) -> str:
    return " ".join(" ".join(node.text() for node in tree.css(selector)).split())


@each_lesson
def test_each_cell_of_a_lesson_has_an_anchor_of_its_name(site: Path, page: Page) -> None:
    anchors = {node.attributes["id"] for node in page_of(site, page).css("[id]")}
    cells = [cell["id"] for cell in json.loads(page.source.read_text(encoding="utf-8"))["cells"]]
    assert [cell for cell in cells if cell not in anchors] == []


@each_lesson
def test_the_contents_of_a_page_lead_to_those_anchors(site: Path, page: Page) -> None:
    """Not to anchors made of titles, which may change."""
    tree = page_of(site, page)
    sections = [f"#{node.attributes['id']}" for node in tree.css("article section section")]
    led = [node.attributes["href"] for node in tree.css("#pst-page-toc-nav a")]
    assert led == sections and "#s1" in led


@each_lesson
def test_each_output_stands_there_and_each_picture_has_words(site: Path, page: Page) -> None:
    tree = page_of(site, page)
    outputs = [o for c in json.loads(page.source.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", ())]
    pictures = tree.css("article img.course-picture")
    assert len(pictures) == sum("image/png" in output.get("data", {}) for output in outputs)
    assert [node.attributes["alt"] for node in pictures] == [
        output["metadata"]["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})
    ]
    shown = text(tree, "article .cell_output")
    for output in outputs:
        if output["output_type"] == "stream":
            assert " ".join("".join(output["text"]).split()) in shown


def test_a_lesson_is_followed_by_its_exercises_and_these_by_the_next(site: Path) -> None:
    place, seen = front().document, []
    while len(seen) < 2 * len(lessons()):
        tree = LexborHTMLParser((site / f"{place}.html").read_bytes())
        link = tree.css_first("a.right-next").attributes["href"]
        place = ((site / place).parent / link).resolve().relative_to(site.resolve()).with_suffix("").as_posix()
        seen.append(place)
    assert seen == [page.document for pair in zip(lessons(), exercises(), strict=True) for page in pair]


@each_book
def test_hints_and_solutions_are_there_and_folded(site: Path, page: Page) -> None:
    tree = page_of(site, page)
    whole = text(tree, "article")
    mine = [one for one in [*manifest(), *drills()] if page.source.match(one.book)]
    assert len(mine) > 2
    for one in mine:
        assert one.title in whole.replace("’", "'") or one.title in whole, "quotes are set in type"
    folds = tree.css("article details")
    assert len(folds) >= sum(len(one.hints) + 1 for one in mine) and not tree.css("article details[open]")
    for fold in folds:
        fold.decompose()
    assert "Hint 1" not in text(tree, "article") and "Right." not in text(tree, "article")
    assert not re.search(r"BEGIN SOLUTION|END SOLUTION", whole)


def test_the_stub_is_to_be_seen_and_the_solution_is_not(site: Path) -> None:
    tree = page_of(site, exercises()[2])
    assert text(tree, "article .cell_input").count("NotImplementedError") == 8
    solution = ".options(selectinload(Conversation.messages))"
    assert any(solution in pre.text() for pre in tree.css("#statement-2-1 details pre"))
    assert not any(solution in pre.text() for pre in tree.css(".cell_input pre"))


def test_a_drill_shows_the_code_as_it_was_found(site: Path) -> None:
    tree = page_of(site, drill_books()[0])
    first = tree.css_first("#statement-j1 .cell_input").text()
    assert "with_a_job = select(Job.document_id)" in first


def test_all_questions_are_there_with_the_cells_that_show_their_points(site: Path) -> None:
    tree = LexborHTMLParser((site / "questions.html").read_bytes())
    assert {question.id for question in bank()} <= {node.attributes["id"] for node in tree.css("[id]")}
    led = [node.attributes["href"] for node in tree.css("details a")]
    points = [point for question in bank() for point in question.points if not point.opinion]
    assert len([link for link in led if "#" in (link or "")]) == len(points) > 100


def test_every_page_asks_for_nothing_elsewhere_and_names_no_place_of_this_machine(site: Path) -> None:
    for page in pages():
        html = (site / f"{page.document}.html").read_text(encoding="utf-8")
        assert str(building.REPOSITORY) not in html and "course-site-" not in html


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<a href="none.html">x</a>', "a.html: none.html is not there"),
        ('<a href="b.html#none">x</a>', "a.html: b.html#none has no such place"),
        ('<a href="#none">x</a>', "a.html: #none has no such place"),
        ('<img src="none.png">', "a.html: none.png is not there"),
        ('<script src="https://example.org/x.js"></script>', "a.html: https://example.org/x.js is at another host"),
        ('<link href="//example.org/x.css">', "a.html: //example.org/x.css is at another host"),
        ('<a href="b.html#there">x</a><a href="https://example.org">y</a><a href="mailto:a@example.org">z</a>', ""),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, html: str, complaint: str) -> None:
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<p id="there">')
    assert broken(tmp_path) == ([complaint] if complaint else [])


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("[on](../exercises/02_n_plus_one.ipynb)", "[on](../exercises/02_n_plus_one.ipynb)"),
        ("[4](#cell-id=s4)", "[4](#1-02-s4)"),
        ("[4](03_transactions.ipynb#cell-id=s4)", "[4](#1-03-s4)"),
        ("[read](../README.md#start)", "[read](../index.md#start)"),
        ("[all](../Makefile) [of it](https://example.org/a_b)", "all [of it](https://example.org/a_b)"),
        ("`[4](#cell-id=s4)` [`x`](#cell-id=s1)", "`[4](#cell-id=s4)` [`x`](#1-02-s1)"),
        ("```\n[4](#cell-id=s4)\n```", "```\n[4](#cell-id=s4)\n```"),
        ("[J1](../exercises/interview/J1_the_translators_have_nothing_to_do.ipynb)", "[J1](#3-0-statement-j1)"),
    ],
)
def test_links_of_the_repository_lead_to_pages(there: str, here: str) -> None:
    assert on_the_site(there, lessons()[2]) == here


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sphinx writes one page."""

    def one_page(source: Path, built: Path, trees: Path) -> None:
        built.mkdir()
        (built / "index.html").write_text("new")

    monkeypatch.setattr(building, "stage", lambda source: None)
    monkeypatch.setattr(building, "_run_sphinx", one_page)


@pytest.mark.usefixtures("quick")
def test_a_build_takes_the_place_of_the_last_one_and_of_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    assert build_site(folder) == 1
    (folder / "index.html").write_text("old")
    assert build_site(folder) == 1 and (folder / "index.html").read_text() == "new"
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CourseError, match=r"notes.txt is none of the site's files"):
        build_site(folder)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("quick")
def test_a_list_of_files_that_names_others_is_not_believed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "written.json").write_text(json.dumps(["../outside.txt", str(outside), "written.json"]))
    assert build_site(tmp_path / "site") == 1
    assert outside.read_text() == "mine"


def test_without_its_packages_the_command_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "NEEDED", ("no_such_package",))
    with pytest.raises(CourseError, match="make site"):
        build_site(tmp_path / "site")
