"""Whether every link of the built pages leads somewhere, and nothing is asked of another host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "form": "action"}


def broken(folder: Path) -> list[str]:
    """What is wrong with the links of the pages in ``folder``, one line each."""
    pages = {path.resolve(): LexborHTMLParser(path.read_bytes()) for path in pages_in(folder)}
    anchors = {path: _anchors(tree) for path, tree in pages.items()}
    return [
        f"{path.relative_to(folder.resolve())}: {target} {wrong}"
        for path, tree in pages.items()
        for target, fetched in _targets(tree)
        if (wrong := _wrong(path, target, fetched, anchors))
    ]


def pages_in(folder: Path) -> Iterator[Path]:
    """The pages of a built site; a theme keeps templates with the same ending among its own files."""
    yield from (path for path in sorted(folder.rglob("*.html")) if "_static" not in path.relative_to(folder).parts)


def _anchors(tree: LexborHTMLParser) -> set[str]:
    named = {node.attributes.get(name) for node in tree.css("[id], a[name]") for name in ("id", "name")}
    return {name for name in named if name}


def _targets(tree: LexborHTMLParser) -> Iterator[tuple[str, bool]]:
    """Where a page leads, and whether a browser goes there by itself."""
    for node in tree.css("a[href]"):
        yield _value(node, "href"), False
    for tag, name in FETCHED.items():
        for node in tree.css(f"{tag}[{name}]"):
            yield _value(node, name), True


def _value(node: LexborNode, name: str) -> str:
    return node.attributes[name] or ""


def _wrong(path: Path, target: str, fetched: bool, anchors: dict[Path, set[str]]) -> str:
    parts = urlsplit(target)
    if parts.scheme in {"data", "mailto"}:
        return ""
    if parts.scheme or parts.netloc:
        return "is at another host" if fetched else ""
    place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not place.is_file():
        return "is not there"
    missing = parts.fragment and place in anchors and unquote(parts.fragment) not in anchors[place]
    return "has no such place" if missing else ""
