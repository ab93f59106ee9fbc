"""The text of an HTML page, its headings, lists and code as Markdown has them. Scripts are not run, and not kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

DEEPEST = 500
"""Elements within elements. Browsers stop there too: a parser looks through all open ones at each tag."""

_LEFT_OUT = {
    "head", "script", "style", "noscript", "template", "iframe", "object", "svg", "math", "canvas", "select", "button",
    "textarea", "-comment",
}  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "ul",
    *_HEADINGS,
}  # fmt: skip
_LINES = {"br", "li", "tr", "caption"}
_CLOSED_BY_THEMSELVES = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
    "p", "li", "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "option", "optgroup", "colgroup",
}  # fmt: skip
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_SPACE = re.compile(r"[ \t\r\n\f]+")


def html_text(source: str, name: str) -> tuple[str, str]:
    """The page's title and its text.

    Raises:
        CourseError: its elements stand too deep within one another.
    """
    from selectolax.lexbor import LexborHTMLParser

    _check_depth(source, name)
    tree = LexborHTMLParser(source)
    title = tree.css_first("title")
    page = _Page()
    if tree.body is not None:
        for node, entered in _walk(tree.body):
            (page.enter if entered else page.leave)(node)
    return "" if title is None else title.text(), page.text()


def _check_depth(source: str, name: str) -> None:
    depth = 0
    for match in _TAG.finditer(source):
        if match[2].lower() not in _CLOSED_BY_THEMSELVES:
            depth = max(0, depth - 1) if match[1] else depth + 1
            if depth > DEEPEST:
                raise CourseError(
                    f"{name} has more than {DEEPEST} elements within one another, or does not close them.",
                    "Save the page again from a browser, or as text.",
                )


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Each node as it is entered, and as it is left."""
    node: LexborNode = root
    while True:
        yield node, True
        inner = None if node.tag in _LEFT_OUT or "hidden" in (node.attributes or {}) else node.first_child
        if inner is not None:
            node = inner
            continue
        yield node, False
        while node.mem_id != root.mem_id and node.next is None:
            assert node.parent is not None
            node = node.parent
            yield node, False
        if node.mem_id == root.mem_id:
            return
        assert node.next is not None
        node = node.next


class _Page:
    """Text that is put together: white space as a browser shows it, and blank lines between blocks."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._breaks = 0  # of lines, before the next text
        self._space = False
        self._code = 0

    def enter(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "-text":
            self._add(node.text_content or "")
        elif tag in _BLOCKS or tag in _LINES:
            self._break(2 if tag in _BLOCKS else 1)
            if tag == "pre":
                self._put("```\n")
                self._code += 1
            elif tag in _HEADINGS:
                self._put(_HEADINGS[tag])
            elif tag == "li":
                self._put("- ")
        elif tag in ("td", "th"):
            self._space = True

    def leave(self, node: LexborNode) -> None:
        if node.tag == "pre":
            self._code -= 1
            self._put("```" if self._parts[-1].endswith("\n") else "\n```")
        if node.tag in _BLOCKS or node.tag in _LINES:
            self._break(2 if node.tag in _BLOCKS else 1)

    def text(self) -> str:
        return "".join(self._parts) + "\n" * bool(self._parts)

    def _break(self, lines: int) -> None:
        if not self._code:
            self._breaks, self._space = max(self._breaks, lines), False

    def _add(self, text: str) -> None:
        if self._code:
            self._parts.append(text)
            return
        shown = _SPACE.sub(" ", text)
        if shown.startswith(" "):
            self._space = True
        if shown.strip(" "):
            self._put(shown.strip(" "))
            self._space = shown.endswith(" ")

    def _put(self, text: str) -> None:
        if self._parts:
            begins = self._parts[-1].endswith((" ", "\n")) and not self._breaks
            self._parts.append("\n" * self._breaks or (" " if self._space and not begins else ""))
        self._parts.append(text)
        self._breaks, self._space = 0, False
