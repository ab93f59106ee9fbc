"""JupyterHub, without what importing it does to every session of this process.

Its ``jupyterhub.orm`` listens to SQLAlchemy's Session itself, and loads all relationships of whatever any session has
deleted. Each process of pytest imports every file of tests, so all tests would have that listener.
"""

from __future__ import annotations

from jupyterhub import orm
from sqlalchemy import event
from sqlalchemy.orm import Session

if event.contains(Session, "persistent_to_deleted", orm._notify_deleted_relationships):
    event.remove(Session, "persistent_to_deleted", orm._notify_deleted_relationships)
