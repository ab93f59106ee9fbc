"""Pages to read before anything is installed, made from the executed notebooks."""

from course_lib.site.building import build_site

__all__ = ["build_site"]
