"""The X-ray of a request, for development: its statements, its connection, its calls to the model, its waits.

>>> app = create_app(url, xray=True)

Each response then has a header ``X-Request-Id``, and ``GET /xray/{id}`` tells its user what happened meanwhile. Without
``xray`` nothing listens, no route is added and no header sent.
"""

from fastapi import FastAPI

from course_lib.service.xray.router import router
from course_lib.service.xray.watching import Watched, XRay

__all__ = ["XRay", "add_xray"]


def add_xray(app: FastAPI) -> XRay:
    """Around the whole of ``app``, with its routes. It begins with the lifespan, by ``XRay.watching``."""
    app.state.xray = xray = XRay()
    app.add_middleware(Watched, xray=xray)
    app.include_router(router)
    return xray
