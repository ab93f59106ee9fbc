"""explain() shows how PostgreSQL runs a statement, and changes nothing."""

from __future__ import annotations

import html
import re
from uuid import UUID

import pytest
from sqlalchemy import URL, Engine, create_engine, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, joinedload

from course_lib.errors import CourseError
from course_lib.instruments import Plan, PlanNode, explain
from course_lib.models import Conversation, Document, DocumentChunk, Message, User

Sessions = async_sessionmaker[AsyncSession]
BY_EMAIL = select(User).where(User.email == "ada@example.org")
NEAREST = (
    select(DocumentChunk.content)
    .where(DocumentChunk.token_count > 5)
    .order_by(DocumentChunk.embedding.cosine_distance([0.1] * 256))
    .limit(5)
)


async def count(session: AsyncSession, model: type) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def test_a_scan_of_a_table_is_seen(engine: AsyncEngine) -> None:
    plan = await explain(engine, select(Message).where(Message.content == "?"))
    assert plan.node_types == ["Seq Scan"]
    assert plan.scans("messages")[0].type == "Seq Scan"
    assert plan.scans("users") == []
    assert not plan.uses_index()
    assert plan.node.filter == "(content = '?'::text)"
    assert str(plan) == "Seq Scan on messages\n    filter: content = '?'"


async def test_an_index_is_seen_by_name(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await explain(connection, BY_EMAIL)
    assert plan.uses_index()
    assert plan.uses_index("uq_users_email")
    assert not plan.uses_index("pk_users")
    assert str(plan) == "Index Scan using uq_users_email on users\n    condition: email = 'ada@example.org'"


async def test_a_join_of_the_orm_is_a_tree(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        plan = await explain(session, select(User).options(joinedload(User.documents)))
    assert [node.type for node in plan] == plan.node_types
    assert len(plan.node.children) == 2
    assert {node.relation for node in plan} >= {"users", "documents"}
    assert re.search(r"^├─ .*\n(.*\n)*└─ ", str(plan), re.MULTILINE)


async def test_nearest_vectors_without_and_with_an_index(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        plan = await explain(session, NEAREST, analyze=True)
        assert plan.node_types == ["Limit", "Sort", "Seq Scan"]
        assert "Sort  by embedding <=> '[…]'::vector · 5 rows" in str(plan)
        index = "CREATE INDEX nearest ON document_chunks USING hnsw (embedding vector_cosine_ops)"
        await session.execute(text(index))
        await session.execute(text("SET LOCAL enable_sort = off"))
        plan = await explain(session, NEAREST, analyze=True)
        assert plan.uses_index("nearest")
        assert plan.node_types == ["Limit", "Index Scan"]
        assert "order by: embedding <=> '[…]'::vector" in str(plan)
        assert plan.rows == 5


async def test_the_indexes_and_the_rows_a_filter_threw_away_are_told(engine: AsyncEngine) -> None:
    owner = select(Document.id).join(User).where(User.email == "ada@example.org", Document.title != "")
    async with engine.connect() as connection:
        await connection.execute(
            text("CREATE INDEX nearest ON document_chunks USING hnsw (embedding vector_cosine_ops)")
        )
        for setting in ("enable_sort", "enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        plan = await explain(connection, NEAREST.where(DocumentChunk.token_count % 3 == 0), analyze=True)
        joined = await explain(connection, owner)
    assert plan.indexes == ["nearest"]
    assert plan.rows_removed == plan.scans("document_chunks")[0].removed_by_filter
    assert (plan.rows_removed or 0) > 0
    assert "using nearest" in repr(plan.plot())
    [removed] = [t.get_text() for t in plan.plot().axes[0].texts if "removed" in t.get_text()]
    assert removed == f"5 rows · {plan.rows_removed} removed by filter"
    assert "using nearest" in [t.get_text() for t in plan.plot().axes[0].texts]
    assert sorted(joined.indexes) == sorted({node.index for node in joined if node.index})
    assert "uq_users_email" in joined.indexes
    assert joined.rows_removed is None


async def test_a_plan_without_index_names_none(engine: AsyncEngine) -> None:
    plan = await explain(engine, select(Message.id).where(Message.content == "?"), analyze=True)
    assert (plan.indexes, plan.rows_removed) == ([], plan.node.removed_by_filter)
    assert "using" not in repr(plan.plot())


async def test_an_analyzed_delete_deletes_nothing(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        before = await count(session, Message)
        await session.rollback()
        for target in (engine, session):
            plan = await explain(target, delete(Message), analyze=True)
            assert plan.scans("messages")[0].rows_actual == before > 0
            assert not session.in_transaction()
        assert await count(session, Message) == before


async def test_an_open_transaction_goes_on_and_keeps_its_work(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        session.add(User(email="new@example.org", name="New"))
        await session.flush()
        users = await count(session, User)
        await explain(session, delete(User), analyze=True)
        with pytest.raises(ProgrammingError):
            await explain(session, "SELECT nonsense FROM users")
        with pytest.raises(IntegrityError):
            await explain(session, insert(User).values(email="new@example.org", name="Twice"), analyze=True)
        assert await count(session, User) == users
        await session.commit()
    async with sessions() as session:
        assert await count(session, User) == users


async def test_objects_of_a_session_stay_loaded(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        user = (await session.scalars(BY_EMAIL)).one()
        await explain(session, BY_EMAIL, analyze=True)
        assert user.email == "ada@example.org"


async def test_a_connection_outside_a_transaction_is_left_so(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await explain(connection, update(User).values(tokens_used=0), analyze=True)
        assert not connection.in_transaction()


async def test_autocommit_is_refused_where_it_would_write(engine: AsyncEngine, sessions: Sessions) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(CourseError, match="AUTOCOMMIT"):
            await explain(connection, delete(Message), analyze=True)
        assert (await explain(connection, delete(Message))).node_types[0] == "ModifyTable"
    async with sessions() as session:
        assert await count(session, Message) > 0


async def test_text_and_strings_take_parameters(engine: AsyncEngine) -> None:
    sql = "SELECT id FROM users WHERE tokens_used > :least"
    for statement, parameters in (
        (sql, {"least": 7}),
        (text(sql), {"least": 7}),
        (text(sql).bindparams(least=7), None),
    ):
        plan = await explain(engine, statement, parameters)
        assert plan.node.filter == "(tokens_used > 7)"


@pytest.mark.parametrize(
    "statement",
    [
        insert(User).values(email="new@example.org", name="New"),
        insert(User).values([{"email": f"{n}@example.org", "name": "New"} for n in range(3)]).returning(User.id),
        update(User).where(User.name == "?").values(name="!"),
        select(DocumentChunk.embedding).limit(1),
        select(User).from_statement(text("SELECT * FROM users")),
        select(User.id).union(select(Document.id)),
        "(SELECT 1) -- why",
    ],
    ids=str,
)
async def test_both_drivers_give_the_same_plan(engine: AsyncEngine, sync_engine: Engine, statement: object) -> None:
    plan = await explain(engine, statement, analyze=True)  # type: ignore[call-overload]
    with Session(sync_engine) as session:
        for target in (sync_engine, session):
            assert str(explain(target, statement, analyze=True)) == str(plan)  # type: ignore[call-overload]


async def test_rows_are_counted_only_when_analyzed(engine: AsyncEngine) -> None:
    question = select(Message.id).where(Message.role == "user")
    planned, analyzed = await explain(engine, question), await explain(engine, question, analyze=True)
    async with engine.connect() as connection:
        roles = (await connection.scalars(select(Message.role))).all()
    users = roles.count("user")
    assert "rows" not in str(planned)
    assert (planned.milliseconds, planned.node.rows_actual, planned.analyzed) == (None, None, False)
    assert analyzed.rows == users
    assert analyzed.node.removed_by_filter == len(roles) - users
    assert f"removed by filter: {len(roles) - users} rows" in str(analyzed)
    assert (analyzed.milliseconds or 0) > 0
    assert analyzed.cost > 0


async def test_loops_are_added_up(engine: AsyncEngine) -> None:
    titles = select(func.count()).where(Document.user_id == User.id).scalar_subquery()
    plan = await explain(engine, select(User.id, titles), analyze=True)
    [inner] = plan.scans("documents")
    users = plan.node.rows_actual
    assert inner.loops == users
    assert inner.rows_actual == 40
    assert f"40 rows in {users} loops" in str(plan)


async def test_what_differs_between_runs_is_not_shown(engine: AsyncEngine) -> None:
    ids = [UUID(int=number) for number in range(5)]
    question = select(Message).where(Message.conversation_id.in_(ids), Message.created_at < func.now())
    shown = [str(await explain(engine, question, analyze=True)) for _ in range(2)]
    assert shown[0] == shown[1]
    assert "'{… ×5}'::uuid[]" in shown[0]
    assert not re.search(r"cost|time=|\bms\b|0000-", shown[0])


async def test_html_is_the_same_tree(engine: AsyncEngine) -> None:
    for question in (select(Message).where(Message.content < "<b>"), NEAREST, BY_EMAIL):
        plan = await explain(engine, question)
        markup = plan._repr_html_()
        assert "<b>" not in markup
        assert html.unescape(re.sub(r"<[^>]*>", "", markup)) == str(plan) == repr(plan)


async def test_options_of_explain_are_passed_on(engine: AsyncEngine) -> None:
    plan = await explain(engine, BY_EMAIL, analyze=True, buffers=True, timing=False, serialize="text")
    assert "Shared Hit Blocks" in plan.node.raw
    assert "Actual Total Time" not in plan.node.raw
    assert plan.node.milliseconds is None


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("WITH last AS MATERIALIZED (SELECT 1 AS n) SELECT * FROM last AS l", "CTE Scan on last l"),
        ("SELECT * FROM generate_series(1, 3) AS number", "Function Scan on generate_series number"),
        ("SELECT * FROM unnest(ARRAY[1, 2])", "Function Scan on unnest"),
        ("SELECT * FROM (SELECT n FROM generate_series(1, 9) n LIMIT 3) AS few WHERE n > 1", "Subquery Scan on few"),
        ("SELECT * FROM messages AS m", "Seq Scan on messages m"),
    ],
)
async def test_what_a_step_reads_has_a_name(engine: AsyncEngine, statement: str, line: str) -> None:
    plan = await explain(engine, statement)
    assert line in str(plan).replace("└─ ", "").replace("├─ ", "").splitlines()
    name = line.partition(" on ")[2]
    assert name in [written.get_text() for written in plan.plot().axes[0].texts]
    assert (plan.scans(name.split()[0]) != []) == ("messages" in line), "a CTE is no table"


async def test_what_creates_a_table_from_a_query_has_its_plan_and_creates_nothing(engine: AsyncEngine) -> None:
    for create in ("CREATE TABLE", "create temp table", "CREATE MATERIALIZED VIEW", "CREATE TABLE IF NOT EXISTS"):
        plan = await explain(engine, f"{create} copied AS SELECT id FROM messages WHERE seq > 2")
        assert plan.scans("messages")[0].filter == "(seq > 2)"
        assert not plan.analyzed
    await explain(engine, "CREATE TABLE copied AS SELECT id FROM messages", analyze=True)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT to_regclass('copied')")) is None


async def test_a_statement_that_a_rule_makes_two_has_both_plans(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE inbox (what text)"))
        await connection.execute(text("CREATE TABLE audit (what text)"))
        await connection.execute(
            text("CREATE RULE audited AS ON INSERT TO inbox DO ALSO INSERT INTO audit VALUES (new.what)")
        )
    for analyze in (False, True):
        plan = await explain(engine, "INSERT INTO inbox VALUES ('a')", analyze=analyze)
        assert str(plan).startswith("2 statements, by a rule\n├─ Insert on inbox\n")
        assert [node.relation for node in plan if node.type == "ModifyTable"] == ["inbox", "audit"]
        assert len(plan.plot().axes[0].patches) == len(plan.nodes) == 5
    assert plan.milliseconds is not None
    assert sum(node.own_milliseconds or 0 for node in plan) <= plan.milliseconds


async def test_a_statement_that_leaves_nothing_to_do_says_so(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE void (what text)"))
        await connection.execute(text("CREATE RULE nothing AS ON INSERT TO void DO INSTEAD NOTHING"))
    for statement in ("INSERT INTO void VALUES ('a')", "CREATE TABLE IF NOT EXISTS void AS SELECT 1"):
        with pytest.raises(CourseError, match="nothing to do") as caught:
            await explain(engine, statement)
        assert caught.value.mend


async def test_a_plan_is_drawn_with_a_box_per_node(engine: AsyncEngine) -> None:
    for analyze in (False, True):
        plan = await explain(engine, NEAREST, analyze=analyze)
        assert len(plan.plot().axes[0].patches) == len(plan.nodes)


def test_a_step_that_never_ran_says_so() -> None:
    raw = {"Node Type": "Seq Scan", "Relation Name": "users", "Plan Rows": 3, "Startup Cost": 0.0, "Total Cost": 1.0}
    plan = Plan.read({"Plan": raw | {"Actual Rows": 0.0, "Actual Loops": 0, "Actual Total Time": 0.0}})
    assert isinstance(plan.node, PlanNode)
    assert str(plan) == "Seq Scan on users · never run"


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("VACUUM users", "no plan for VACUUM"),
        (text("  -- first\n CREATE TABLE t ()"), "no plan for CREATE"),
        ("CREATE TABLE t (a int DEFAULT 1, b text) -- AS it was", "no plan for CREATE"),
        ("CREATE FUNCTION t() RETURNS int LANGUAGE sql AS 'SELECT 1'", "no plan for CREATE"),
        ("EXPLAIN SELECT 1", "EXPLAIN already"),
        ("", "no plan for an empty statement"),
        (7, "takes a statement, and int is none"),
        (User, "takes a statement, and .* is none"),
    ],
)
async def test_what_cannot_be_explained_is_refused(engine: AsyncEngine, statement: object, sentence: str) -> None:
    with pytest.raises(CourseError, match=sentence) as caught:
        await explain(engine, statement)  # type: ignore[call-overload]
    assert caught.value.mend


def test_what_is_no_session_is_refused(seeded_url: URL) -> None:
    with pytest.raises(CourseError, match="URL is none"):
        explain(seeded_url, "SELECT 1")  # type: ignore[call-overload]


def test_an_unknown_option_is_refused_by_name() -> None:
    engine = create_engine("postgresql+psycopg://nowhere")
    with pytest.raises(CourseError, match="no option 'colour'"):
        explain(engine, "SELECT 1", colour=True)
    with pytest.raises(CourseError, match="no value"):
        explain(engine, "SELECT 1", serialize="text) SELECT 1; --")


async def test_a_second_statement_in_a_string_does_not_survive(sync_engine: Engine) -> None:
    """psycopg sends a string without parameters as it is, both statements of it."""
    with pytest.raises(Exception):  # noqa: B017 (which error it is depends on the driver)
        explain(sync_engine, "SELECT 1; DELETE FROM messages", analyze=True).scans("messages")[0]
    with Session(sync_engine) as session:
        assert session.scalar(select(func.count()).select_from(Conversation)) == 200
        assert session.scalar(select(func.count()).select_from(Message)) > 0
