"""Engines and session factories with the options the course recommends, migrations, and vectors in bulk."""

from course_lib.db.copying import copy_rows
from course_lib.db.engine import make_engine, make_session_factory
from course_lib.db.migrating import migrate
from course_lib.db.vectors import use_binary_vectors

__all__ = ["copy_rows", "make_engine", "make_session_factory", "migrate", "use_binary_vectors"]
