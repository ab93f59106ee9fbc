"""Answers to 9.7, a plan as a test: each function's body is a cell."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.instruments import explain
from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("9.7")


@ANSWERS.right
def a_fixture_and_the_nodes():
    @pytest.fixture
    async def conversation_id(engine):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title)
                       SELECT id, 'T' FROM u, generate_series(1, 60) RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            return await connection.scalar(text("SELECT min(id::text)::uuid FROM conversations"))

    async def test_plan(engine, newest, conversation_id):
        plan = await explain(engine, newest(conversation_id, 80))
        assert plan.node_types[0] == "Limit" and len(plan.nodes) == 2
        assert plan.nodes[1].type in ("Index Scan", "Index Only Scan") and plan.nodes[1].filter is None, str(plan)


@ANSWERS.right
def by_hand_in_json():
    async def test_plan(engine, newest):
        async with engine.begin() as connection:
            user = await connection.scalar(insert(User).values(email="x@example.org", name="X").returning(User.id))
            rows = [{"user_id": user, "title": "T"} for _ in range(40)]
            ids = (await connection.scalars(insert(Conversation).returning(Conversation.id), rows)).all()
            many = "INSERT INTO messages (conversation_id, seq, role, content) " \
                "SELECT c.id, n, 'user', repeat('x', 80) FROM conversations c, generate_series(1, 150) n"  # fmt: skip
            await connection.execute(text(many))
            await connection.execute(text("ANALYZE"))
        statement = newest(ids[7], 100).compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        async with engine.connect() as connection:
            answer = await connection.scalar(text(f"EXPLAIN (FORMAT JSON) {statement}".replace(":", r"\:")))
        plan = answer if isinstance(answer, str) else json.dumps(answer)
        for word in ("Seq Scan", '"Sort"', "Filter", "Incremental"):
            assert word not in plan, plan


@ANSWERS.right
def without_sequential_scans_on_few_rows():
    async def test_plan(sessions, newest):
        async with sessions.begin() as session:
            for number in range(3):
                messages = [Message(seq=seq, role="user", content="x") for seq in range(1, 40)]
                conversation = Conversation(title="T", messages=messages)
                session.add(User(email=f"{number}@example.org", name="X", conversations=[conversation]))
            await session.flush()
            await session.execute(text("ANALYZE messages"))
            for way in ("seqscan", "bitmapscan", "sort"):
                await session.execute(text(f"SET LOCAL enable_{way} = off"))
            plan = await explain(session, newest(conversation.id, 30))
        assert not plan.scans("messages")[0].filter and not any("Sort" in node.type for node in plan)


@ANSWERS.right
def rows_read_and_not_committed():
    async def test_plan(session, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title)
                       SELECT id, 'T' FROM u, generate_series(1, 80) RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        await session.execute(text(fill))
        await session.execute(text("ANALYZE messages"))
        id = await session.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(session, newest(id, 90), analyze=True)
        read = sum((node.rows_actual or 0) + (node.removed_by_filter or 0) for node in plan.scans("messages"))
        assert read <= 20, f"{read} rows read for a page of 20:\n{plan}"


@ANSWERS.wrong("never called")
def its_own_statement():
    async def test_plan(engine, newest):
        plan = await explain(engine, "SELECT * FROM messages WHERE seq < 10")
        assert plan.node_types


@ANSWERS.wrong("small table")
def forty_messages():
    async def test_plan(engine, newest):
        async with AsyncSession(engine, expire_on_commit=False) as session:
            messages = [Message(seq=seq, role="user", content="x") for seq in range(1, 40)]
            conversation = Conversation(title="T", messages=messages)
            session.add(User(email="few@example.org", name="X", conversations=[conversation]))
            await session.commit()
            await session.execute(text("ANALYZE messages"))
            plan = await explain(session, newest(conversation.id, 30))
        assert plan.uses_index("uq_messages_conversation_id_seq")


@ANSWERS.wrong("small table")
def nothing_at_all():
    from uuid import uuid4

    async def test_plan(engine, newest):
        plan = await explain(engine, newest(uuid4(), 30))
        assert plan.uses_index() and "Sort" not in plan.node_types and len(plan.nodes) == 2


@ANSWERS.wrong("not analyzed")
def no_analyze():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE messages SET (autovacuum_enabled = off)"))
            await connection.execute(text(fill))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        assert plan.nodes[-1].rows_estimated > 80


@ANSWERS.wrong("always fails")
def wants_an_index_only_scan():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        assert "Index Only Scan" in plan.node_types


@ANSWERS.wrong("by name")
def the_name_of_the_index():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        assert plan.indexes == ["uq_messages_conversation_id_seq"] and "Sort" not in plan.node_types


@ANSWERS.wrong("false alarm")
def wants_a_backward_scan_of_the_other_index():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        assert plan.nodes[-1].raw.get("Scan Direction") == "Forward" and "Sort" not in plan.node_types


@ANSWERS.wrong("sorted afterwards")
def no_sequential_scan():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        assert plan.uses_index() and not {"Seq Scan", "Sort"} & set(plan.node_types)


@ANSWERS.wrong("thrown away")
def no_sequential_scan_and_no_sort():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        async with engine.connect() as connection:
            await connection.execute(text("SET enable_seqscan = off"))
            plan = await explain(connection, newest(id, 101))
        assert plan.uses_index() and not {"Seq Scan", "Sort", "Incremental Sort"} & set(plan.node_types)


@ANSWERS.wrong("not an assertion")
def looks_up_the_index():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90))
        index = plan.indexes[0]
        assert index and not any("Sort" in node.type or node.filter for node in plan)


@ANSWERS.wrong("lives")
def counts_rows():
    async def test_plan(engine, newest):
        fill = """
            WITH u AS (INSERT INTO users (email, name) VALUES ('fill@example.org', 'Fill') RETURNING id),
                 c AS (INSERT INTO conversations (user_id, title) SELECT id, 'T' FROM u, generate_series(1, 60)
                       RETURNING id)
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT id, seq, 'user', 'some words' FROM c, generate_series(1, 100) AS seq
        """
        async with engine.begin() as connection:
            await connection.execute(text(fill))
            await connection.execute(text("ANALYZE messages"))
            id = await connection.scalar(text("SELECT id FROM conversations LIMIT 1"))
        plan = await explain(engine, newest(id, 90), analyze=True)
        assert plan.rows == 20
