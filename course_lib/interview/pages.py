"""Reports and sheets from the templates beside this module. Pages need no other file and no network."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape


def render(template: str, **content: Any) -> str:
    """A template filled in; what comes into a page is escaped."""
    return _environment().get_template(template).render(content)


def coded(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = [escape(part) for part in str(text).split("`")]
    whole = Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))
    return whole if len(parts) % 2 else escape(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("course_lib.interview"),
        autoescape=select_autoescape(("html",)), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["coded"] = coded
    return environment
