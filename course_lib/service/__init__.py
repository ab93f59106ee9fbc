"""The product behind HTTP: the FastAPI app of lesson 08.

>>> app = create_app(url)

Each request is a few short transactions, and none of them waits for the language model. ``worker`` does what was
accepted; ``serving`` runs the app until it is told to stop.
"""

from course_lib.lazy import lazily

__all__ = ["create_app"]

__getattr__ = lazily(__name__, {"create_app": "app"})
