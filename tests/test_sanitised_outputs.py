"""Stored outputs as a code host shows them: scripts, styles and most attributes are taken out of their HTML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import bleach
import nbformat
import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.notebook_files import LESSONS, code_cells

ALLOWED = [
    "h1", "h2", "h3", "h4", "h5", "h6", "br", "b", "i", "strong", "em", "a", "pre", "code", "img", "tt", "div", "ins",
    "del", "sup", "sub", "p", "ol", "ul", "table", "thead", "tbody", "tfoot", "blockquote", "dl", "dt", "dd", "kbd",
    "q", "samp", "var", "hr", "li", "tr", "td", "th", "s", "summary", "details", "caption", "figure", "figcaption",
    "abbr", "cite", "dfn", "mark", "small", "span", "time", "wbr",
]  # fmt: skip
"""As in GitHub's html-pipeline, SanitizationFilter::DEFAULT_CONFIG."""
ATTRIBUTES = {
    "*": ["align", "alt", "colspan", "height", "open", "rowspan", "title", "width"],
    "a": ["href"],
    "img": ["src"],
}
PROTOCOLS = ["http", "https", "mailto"]  # a picture inside an address is taken out
BLOCKS = re.compile(r"</?(?:br|p|div|pre|t[dhr]|details|summary|li)\b[^>]*>")

each_notebook = pytest.mark.parametrize("path", LESSONS, ids=lambda path: f"{path.parent.name}/{path.stem}")


def sanitised(html: str) -> str:
    return bleach.clean(html, ALLOWED, ATTRIBUTES, PROTOCOLS, strip=True)


def shown(html: str) -> str:
    """The text of a page; what stands in two blocks or two cells stands apart."""
    return LexborHTMLParser(BLOCKS.sub(r" \g<0> ", html)).text()


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def outputs(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where, output) of all that is stored."""
    notebook = nbformat.read(path, as_version=4)
    return [(cell.id, output) for cell in code_cells(notebook) for output in cell.outputs]


@each_notebook
def test_html_says_without_styles_what_the_plain_form_says(path: Path) -> None:
    for where, output in outputs(path):
        data = output.get("data", {})
        if "text/html" not in data:
            continue
        assert "<style" not in data["text/html"] and "<script" not in data["text/html"], where
        plain = data.get("text/markdown", data["text/plain"])
        missing = words(plain) - words(shown(sanitised(data["text/html"])))
        assert missing - words(" ".join(re.findall(r"</?\w+>", plain))) == set(), where


@each_notebook
def test_what_is_folded_stays_foldable(path: Path) -> None:
    for where, output in outputs(path):
        html = output.get("data", {}).get("text/html", "")
        assert sanitised(html).count("<summary>") == html.count("<summary"), where


@each_notebook
def test_a_picture_is_stored_as_one_and_told_in_words(path: Path) -> None:
    """A code host shows PNG, and takes a picture out of HTML."""
    for where, output in outputs(path):
        data = output.get("data", {})
        assert "<img" not in data.get("text/html", ""), where
        if "image/png" in data:
            assert len(words(output.metadata["image/png"]["alt"])) > 3, where
            assert "<" not in data["text/plain"][:1], f"{where}: no words, but the name of an object"


@each_notebook
def test_every_output_has_a_form_of_letters(path: Path) -> None:
    for where, output in outputs(path):
        data = output.get("data", {"text/plain": output.get("text") or output.get("traceback")})
        assert data["text/plain"], where


def test_what_only_a_style_or_an_attribute_says_is_missed() -> None:
    cells = '<td>one</td><td>two</td><td><i style="x" data-more="three">four</i></td>'
    html = f'<table><tr>{cells}</tr></table><img src="data:image/png;base64,AAAA">'
    assert words(shown(sanitised(html))) == {"one", "two", "four"}
    assert "data:" not in sanitised(html)
