"""Vectors by the hash of their text, and an index that finds the passages with a text

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "embedding_cache",
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("embedding", VECTOR(256), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(content_hash) = 32", name=op.f("ck_embedding_cache_content_hash")),
        sa.CheckConstraint("embedding IS NOT NULL OR claimed_until IS NOT NULL", name=op.f("ck_embedding_cache_claim")),
        sa.PrimaryKeyConstraint("content_hash", "model", name="pk_embedding_cache"),
    )
    op.create_index(
        "ix_embedding_cache_claimed_until",
        "embedding_cache",
        ["claimed_until"],
        postgresql_where=sa.text("claimed_until IS NOT NULL"),
    )
    # for longer texts than a B-tree takes; writing to the passages waits while it is built, a second for 100,000
    op.create_index("ix_document_chunks_content", "document_chunks", ["content"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_index("ix_document_chunks_content", "document_chunks")
    op.drop_table("embedding_cache")
