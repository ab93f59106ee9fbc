"""nbformat, imported in a tenth of its time: ``from course_lib.notebook_format import nbformat``.

The library of its schemas compiles a grammar of international addresses when it is imported, for which it takes one to
three seconds, and goes without where that grammar's package is missing. No field of a notebook is such an address.
"""

import sys

_GRAMMAR = "rfc3987_syntax"

_missing = sys.modules.setdefault(_GRAMMAR, None) is None  # type: ignore[arg-type]  # None says: not installed
try:
    import nbformat
finally:
    if _missing:
        del sys.modules[_GRAMMAR]  # who needs it imports it

__all__ = ["nbformat"]
