"""Anchors of cells, for Sphinx: they stay when a title changes."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LABEL = re.compile(r"\d-")
"""Begins the labels of cells and of questions, see ``course_lib.site.pages``."""
EARLY = 100  # before the tables of contents are collected, which take a section's first anchor


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, for an extension."""
    app.connect("doctree-read", anchor_cells, priority=EARLY)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def anchor_cells(app: Sphinx, tree: nodes.document) -> None:
    """In a section, the anchor of its cell comes before those that are made of the title, and is what a table of
    contents leads to. Before HTML it stands on its own, since HTML is passed on without the anchors it was given."""
    written = {id for name, id in tree.nameids.items() if id is not None and LABEL.match(name)}
    for section in tree.findall(nodes.section):
        section["ids"].sort(key=lambda id: id not in written)
    for raw in list(tree.findall(nodes.raw)):
        if raw["ids"]:
            raw.parent.insert(raw.parent.index(raw), nodes.target("", "", ids=raw["ids"]))
