"""Links as the repository has them, made to lead on the site."""

from __future__ import annotations

import posixpath
import re

from course_lib.site.pages import Page, pages, places

CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
CELL = "cell-id="
"""Begins the fragment by which JupyterLab finds a cell."""
HIDDEN = "\ue000{}\ue001"


def on_the_site(source: str, page: Page) -> str:
    """The Markdown of a page with links to what the site has. A link to any other file is left as its text.

    What stands in code stays as it is.
    """
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match[0])
        return HIDDEN.format(len(kept) - 1)

    led = LINK.sub(lambda match: _led(match, page), CODE.sub(hide, source))
    return re.sub(HIDDEN.format(r"(\d+)"), lambda match: kept[int(match[1])], led)


def _led(match: re.Match[str], page: Page) -> str:
    path, _, fragment = match["target"].partition("#")
    if re.match(r"[a-z]+:", path) or (not path and not fragment.startswith(CELL)):
        return match[0]
    name = posixpath.normpath(posixpath.join(posixpath.dirname(_repository_name(page)), path)) if path else page.name
    place = places().get(name)
    if place is None:
        return match["text"]
    if fragment.startswith(CELL):
        there = next(other for other in pages() if other.name == place)
        return f"[{match['text']}](#{there.label(fragment.removeprefix(CELL))})"
    if place.startswith("#"):
        return f"[{match['text']}]({place})"
    target = posixpath.relpath(place, posixpath.dirname(page.name) or ".")
    return f"[{match['text']}]({target}{f'#{fragment}' if fragment else ''})"


def _repository_name(page: Page) -> str:
    return "README.md" if page.name == "index.md" else page.name
