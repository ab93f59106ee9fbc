"""``course site``."""

from __future__ import annotations

import time

import typer

from course_lib.site import build_site
from course_lib.site.building import SITE


def run_site() -> None:
    """Build the pages, and say where they begin.

    Raises:
        CourseError: as ``build_site``.
    """
    began = time.monotonic()
    count = build_site()
    typer.echo(f"{count} pages in {time.monotonic() - began:.0f} s. Open {SITE / 'index.html'}")
