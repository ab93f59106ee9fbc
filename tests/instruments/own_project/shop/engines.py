"""The app's engines and sessions, one of each kind."""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

ADDRESS = make_url(os.environ["DATABASE_URL"])
engine = create_engine(ADDRESS.set(drivername="postgresql+psycopg"))
async_engine = create_async_engine(ADDRESS)
NewSession = sessionmaker(engine)
NewAsyncSession = async_sessionmaker(async_engine, expire_on_commit=False)
