"""Links of the notebooks and of the texts beside them: on a code host, in JupyterLab, and in the learner's copies."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt

from course_lib.notebooks import Workspace
from course_lib.notebooks.reading import at_work
from course_lib.settings import REPOSITORY

NOTEBOOKS = sorted(
    path for folder in ("notebooks", "exercises", "solutions") for path in (REPOSITORY / folder).rglob("*.ipynb")
)
TEXTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "notebooks").glob("*.md")])
CELL = "cell-id="


class Link(NamedTuple):
    text: str
    target: str


def links(markdown: str) -> Iterator[Link]:
    """Links and pictures, in order; what stands in code is none."""
    for block in MarkdownIt("commonmark").enable("table").parse(markdown):
        words, target = "", ""
        for token in block.children or ():
            if token.type == "link_open":
                words, target = "", str(token.attrs["href"])
            elif token.type == "link_close":
                yield Link(words, target)
            elif token.type == "image":
                yield Link(token.content, str(token.attrs["src"]))
            words += token.content


@cache
def cells(path: Path) -> dict[str, str]:
    """Markdown cells and code cells of a notebook: their sources, those of code empty."""
    return {
        cell["id"]: "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    }


def text_of(path: Path) -> str:
    return "\n\n".join(cells(path).values()) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")


def headings(markdown: str) -> set[str]:
    """The anchors that code hosts make of headings: small letters, blanks as hyphens, no other signs."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def wrong(path: Path, link: Link) -> str:
    """What is wrong with a link of the file at ``path``; nothing where it leads somewhere."""
    place, _, fragment = link.target.partition("#")
    if re.match(r"(https|mailto):", link.target):
        return ""
    there = Path(posixpath.normpath(path.parent / place)) if place else path
    if not there.is_relative_to(REPOSITORY) or not there.exists():
        return "is not there"
    if not fragment:
        return ""
    if there.suffix == ".ipynb":
        found = fragment.startswith(CELL) and fragment.removeprefix(CELL) in cells(there)
        return "" if found else "has no such cell"
    return "" if fragment in headings(text_of(there)) else "has no such heading"


@pytest.mark.parametrize("path", [*NOTEBOOKS, *TEXTS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_of_the_repository_and_to_a_place_in_it(path: Path) -> None:
    found = {link.target: complaint for link in links(text_of(path)) if (complaint := wrong(path, link))}
    assert found == {}


def test_a_broken_link_is_found() -> None:
    lesson = REPOSITORY / "notebooks" / "02_n_plus_one.ipynb"
    text = "`[a](none.md)` [a](none.ipynb) [b](#cell-id=none) [c](#s1) ![d](none.png) | [e](../README.md#none)"
    assert [wrong(lesson, link) for link in links(text)] == [
        "is not there", "has no such cell", "has no such cell", "is not there", "has no such heading",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_link_to_a_cell_is_the_number_of_its_section(path: Path) -> None:
    """A code host may know no cells; the number says where to look."""
    section = {}
    number = ""
    for id, source in cells(path).items():
        heading = re.match(r"## (\d+) · ", source)
        number = heading[1] if heading else number
        section[id] = number
    found = [link for link in links(text_of(path)) if link.target.startswith(f"#{CELL}")]
    assert [link for link in found if section[link.target.removeprefix(f"#{CELL}")] != link.text] == []


def test_links_lead_on_from_the_learners_copies(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    for path in workspace.prepare():
        for link in links(at_work(text_of(path))):
            place = link.target.partition("#")[0]
            assert "://" in place or (path.parent / place).exists(), f"{path}: {link}"
