"""What all tables share: naming of constraints, column types, keys and timestamps."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(AsyncAttrs, DeclarativeBase):
    """Constraints get predictable names, so that an error and a migration can name them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy declares it without ClassVar)
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }
    # fetch what the server computes (updated_at) with the UPDATE itself, instead of on a later, forbidden access
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


class Identified:
    """A UUID key made by the server, version 7: in order of creation, so new rows land side by side."""

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7(monotonic=True), sort_order=-1)


class Timestamped:
    """``created_at`` and ``updated_at``, aware, by the server's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now(), sort_order=2)
