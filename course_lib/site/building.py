"""The pages, built by Sphinx with MyST-NB: nothing is executed, and no other host is asked."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.settings import REPOSITORY
from course_lib.site.checking import broken, pages_in
from course_lib.site.staging import stage

SITE = REPOSITORY / "site"
"""Where ``course site`` builds; ignored by git."""
THEME = Path(__file__).parent / "theme"
NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton")
WRITTEN = "written.json"
"""Names the files of the last build, which the next one takes away."""
SHOWN = 5  # of what Sphinx complains about

CONFIGURATION: dict[str, Any] = {
    "project": "Databases for AI Engineers",
    "language": "en",
    "extensions": ["myst_nb", "sphinx_copybutton", "course_lib.site.anchors"],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "suppress_warnings": ["misc.highlighting_failure"],  # of a value that is left out by an ellipsis
    "myst_heading_anchors": 3,
    "html_theme": "sphinx_book_theme",
    "html_title": "Databases for AI Engineers",
    "html_static_path": [str(THEME / "static")],
    "html_favicon": str(THEME / "static" / "favicon.svg"),
    "html_css_files": ["course.css"],
    "html_js_files": [("course.js", {"defer": "defer"})],
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "html_context": {"default_mode": "auto"},
    "html_permalinks_icon": "#",
    "html_theme_options": {
        "use_download_button": False,
        "use_fullscreen_button": False,
        "home_page_in_toc": True,
        "search_bar_text": "Search",
        "toc_title": "On this page",
        "show_navbar_depth": 1,
        "navbar_persistent": [],  # there is a search field above the list of pages
    },
}


def build_site(folder: Path = SITE) -> int:
    """Build all pages into ``folder``. Returns how many there are.

    Raises:
        CourseError: the packages are not installed, a link leads nowhere, Sphinx complains, or in ``folder`` is what no
            build wrote.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise CourseError("The packages that build the site are not installed.", "Install them: make site")
    with tempfile.TemporaryDirectory(prefix="course-site-") as scratch:
        source, built = Path(scratch) / "source", Path(scratch) / "built"
        stage(source)
        _run_sphinx(source, built, Path(scratch) / "trees")
        if wrong := broken(built):
            raise CourseError("\n".join(["Links of the site lead nowhere:", *wrong[:SHOWN]]))
        _publish(built, folder)
        return sum(1 for _ in pages_in(built))


def _run_sphinx(source: Path, folder: Path, trees: Path) -> None:
    from sphinx.application import Sphinx

    warnings = io.StringIO()
    workers = min(os.cpu_count() or 1, 4)
    app = Sphinx(
        source, None, folder, trees, "html", CONFIGURATION, status=None, warning=warnings, parallel=workers,
    )  # fmt: skip
    app.build()
    said = warnings.getvalue().strip().splitlines()
    if said:
        raise CourseError("Sphinx complains:\n" + "\n".join(said[:SHOWN]))


def _publish(built: Path, folder: Path) -> None:
    """Put what was built in the place of what the last build wrote.

    Raises:
        CourseError: there is more.
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        for name in json.loads((folder / WRITTEN).read_text(encoding="utf-8")):
            place = (folder / name).resolve()
            if place.is_relative_to(folder.resolve()):
                place.unlink(missing_ok=True)
    left = [path for path in folder.rglob("*") if not path.is_dir()] if folder.exists() else []
    if left:
        raise CourseError(f"{left[0]} is none of the site's files.", f"Move it out of {folder}, then build again.")
    names = [str(path.relative_to(built)) for path in sorted(built.rglob("*")) if path.is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WRITTEN).write_text(json.dumps([*names, WRITTEN]), encoding="utf-8")  # first: a copy may be cut short
    shutil.copytree(built, folder, dirs_exist_ok=True)
