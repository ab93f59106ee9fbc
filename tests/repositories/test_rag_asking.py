"""From a question to its stored turn: no connection while the model works, and an end that is kept however it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx2
import openai
import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.llm import openai_client
from course_lib.models import Conversation, Job, Message, User
from course_lib.repositories import NotFound, lasting
from course_lib.repositories.limits import KIND, LimitReached, reserve
from course_lib.repositories.rag import Embedding, Passage, StoredTurn, ask, prepare, stream_turn
from course_lib.repositories.rag import asking as asking_module
from course_lib.repositories.rag.answering import NOTHING
from course_lib.repositories.rag.prompt import build_prompt
from tests.repositories.passages import passage
from tests.repositories.watched import Mute, Watched, on

Sessions = async_sessionmaker[AsyncSession]
QUESTION = "How does a comet get its name?"


@pytest.fixture
async def two(seeded_url: Any) -> Any:
    """An engine with a pool of two connections and no more."""
    engine = make_engine(seeded_url, pool_size=2, max_overflow=0, pool_timeout=20)
    yield engine
    await engine.dispose()


async def state(sessions: Sessions, user: User) -> tuple[int, int, int]:
    """Tokens the user has used, reservations, and the user's messages."""
    async with sessions() as session:
        used = await session.scalar(select(User.tokens_used).where(User.id == user.id))
        held = await session.scalar(select(func.count()).where(Job.kind == KIND))
        mine = select(func.count(Message.id)).join(Message.conversation).where(Conversation.user_id == user.id)
        return used or 0, held or 0, await session.scalar(mine) or 0


async def limit_to(sessions: Sessions, user: User, left: int) -> None:
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.id == user.id).values(token_limit=User.tokens_used + left))


async def test_a_question_is_answered_from_the_users_documents_and_stored(sessions: Sessions, user: User) -> None:
    used, _, messages = await state(sessions, user)
    turn = await ask(sessions, user.id, None, QUESTION)
    cost = turn.question.token_count + turn.answer.token_count
    assert await state(sessions, user) == (used + cost, 0, messages + 2)
    assert turn.answer.status == "complete" and cost > 100
    document_ids = {UUID(source["document_id"]) for source in turn.answer.meta["sources"]}
    async with sessions() as session:
        owners = await session.scalars(text("SELECT DISTINCT user_id FROM documents WHERE id = ANY(:ids)"),
                                       {"ids": list(document_ids)})  # fmt: skip
        assert list(owners) == [user.id]
        conversation = await session.get_one(Conversation, turn.answer.conversation_id)
        assert (conversation.title, conversation.user_id) == (QUESTION, user.id)


async def test_the_second_question_has_the_first_as_its_history(sessions: Sessions, user: User) -> None:
    first = await ask(sessions, user.id, None, QUESTION)
    asked = await prepare(sessions, user.id, first.answer.conversation_id, "And who names it?")
    assert asked.prompt is not None
    assert [message["role"] for message in asked.prompt.messages] == ["system", "user", "assistant", "user"]


async def test_a_question_that_hangs_on_the_one_before_is_looked_up_with_it(sessions: Sessions, user: User) -> None:
    looked_up: list[str] = []

    async def search(session: AsyncSession, user_id: UUID, question: str, vector: Embedding) -> list[Passage]:
        looked_up.append(question)
        return [passage("It rains.", distance=1.2)] if question.startswith("And") else [passage("Nobody names it.")]

    first = await ask(sessions, user.id, None, QUESTION, search=search)
    turn = await ask(sessions, user.id, first.answer.conversation_id, "And who names it?", search=search)
    assert looked_up == [QUESTION, "And who names it?", f"{QUESTION}\nAnd who names it?"]
    assert turn.answer.meta["sources"][0]["quotation"] == "Nobody names it."
    looked_up.clear()
    await ask(sessions, user.id, first.answer.conversation_id, QUESTION, search=search)
    assert looked_up == [QUESTION], "one that stands alone is looked up alone"


async def test_no_connection_is_out_while_the_model_works(two: AsyncEngine, user: User) -> None:
    sessions = make_session_factory(two)
    model = Watched(look=two.pool.checkedout)  # type: ignore[attr-defined]
    turn = await ask(sessions, user.id, None, QUESTION, on(model))
    asked = await prepare(sessions, user.id, turn.answer.conversation_id, QUESTION, on(model))
    async with aclosing(stream_turn(sessions, asked, on(model))) as pieces:
        _ = [model.seen.append(two.pool.checkedout()) async for _ in pieces]  # type: ignore[attr-defined]
    assert model.requests == 4 and model.sent > 20
    assert set(model.seen) == {0}


async def test_twenty_answers_share_a_pool_of_two(two: AsyncEngine, user: User) -> None:
    sessions, model = make_session_factory(two), Watched(pause=0.3)
    turns = await asyncio.gather(*(ask(sessions, user.id, None, QUESTION, on(model)) for _ in range(20)))
    assert len({turn.answer.id for turn in turns}) == 20
    assert model.most > 2, "no more than two would be at the model, if each held a connection"
    assert two.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_twenty_questions_at_once_in_one_conversation_are_numbered_in_pairs(
    sessions: Sessions, user: User
) -> None:
    first = await ask(sessions, user.id, None, QUESTION)
    place = first.answer.conversation_id
    await asyncio.gather(*(ask(sessions, user.id, place, f"{QUESTION} ({number})") for number in range(20)))
    async with sessions() as session:
        rows = await session.execute(select(Message.seq, Message.role).where(Message.conversation_id == place)
                                     .order_by(Message.seq))  # fmt: skip
        assert [tuple(row) for row in rows] == [(n, ("assistant", "user")[n % 2]) for n in range(1, 43)]


async def test_nothing_near_costs_nothing_and_asks_no_model(sessions: Sessions, user: User) -> None:
    used, _, messages = await state(sessions, user)
    model = Watched()
    turn = await ask(sessions, user.id, None, QUESTION, on(model), search=found(passage("It rains.", distance=1.2)))
    assert (turn.answer.content, turn.answer.meta["sources"]) == (NOTHING, [])
    assert model.requests == 1, "for the question's vector"
    assert await state(sessions, user) == (used, 0, messages + 2)
    asked = await prepare(sessions, user.id, None, QUESTION, search=found())
    said, turn = [piece async for piece in stream_turn(sessions, asked)]
    assert said == NOTHING and isinstance(turn, StoredTurn)


async def test_who_has_not_the_tokens_for_any_answer_costs_no_embedding(sessions: Sessions, user: User) -> None:
    least = build_prompt(QUESTION, []).most_tokens
    await limit_to(sessions, user, least - 1)
    before, model = await state(sessions, user), Watched()
    with pytest.raises(LimitReached) as refused:
        await ask(sessions, user.id, None, QUESTION, on(model))
    assert (refused.value.wanted, refused.value.left) == (least, least - 1)
    assert model.requests == 0 and await state(sessions, user) == before

    await limit_to(sessions, user, least)
    with pytest.raises(LimitReached):  # when the passages are there, it is more
        await ask(sessions, user.id, None, QUESTION, on(model))
    assert model.requests == 1 and await state(sessions, user) == before


async def test_tokens_that_a_dead_process_held_are_not_missed_when_it_is_looked(sessions: Sessions, user: User) -> None:
    await limit_to(sessions, user, 10_000)
    async with sessions.begin() as session:
        held = await reserve(session, user.id, 9_999)
        await session.execute(update(Job).where(Job.id == held.id).values(run_after=func.now() - timedelta(seconds=1)))
    turn = await ask(sessions, user.id, None, QUESTION)
    assert turn.answer.status == "complete"


async def test_another_search_can_take_its_place(sessions: Sessions, user: User) -> None:
    turn = await ask(sessions, user.id, None, "Do dogs pay?", search=found(passage("Dogs travel free.")))
    assert turn.answer.meta["sources"][0]["quotation"] == "Dogs travel free."


async def test_fifty_at_once_stay_below_the_limit(sessions: Sessions, user: User) -> None:
    one = await prepare(sessions, user.id, None, QUESTION)
    assert one.prompt is not None and one.reservation is not None
    await asking_module.give_back(sessions, one.reservation)
    used, _, messages = await state(sessions, user)
    await limit_to(sessions, user, one.prompt.most_tokens * 3 + 100)
    ends = await asyncio.gather(*(ask(sessions, user.id, None, QUESTION) for _ in range(50)), return_exceptions=True)
    turns = [end for end in ends if isinstance(end, StoredTurn)]
    assert len(turns) >= 3 and len(turns) + sum(isinstance(end, LimitReached) for end in ends) == 50
    cost = sum(turn.question.token_count + turn.answer.token_count for turn in turns)
    assert await state(sessions, user) == (used + cost, 0, messages + 2 * len(turns))


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
        (400, openai.BadRequestError),
        (httpx2.ReadTimeout("too slow"), openai.APITimeoutError),
        (httpx2.ConnectError("not there"), openai.APIConnectionError),
    ],
)
async def test_a_model_that_does_not_answer_leaves_nothing_and_costs_nothing(
    trouble: int | Exception, error: type[Exception], sessions: Sessions, user: User
) -> None:
    before = await state(sessions, user)
    with pytest.raises(error):
        await ask(sessions, user.id, None, QUESTION, on(Mute(trouble)))
    assert await state(sessions, user) == before
    asked = await prepare(sessions, user.id, None, QUESTION)
    assert (await state(sessions, user))[1] == 1
    with pytest.raises(error):
        _ = [piece async for piece in stream_turn(sessions, asked, on(Mute(trouble)))]
    assert await state(sessions, user) == before


@pytest.mark.parametrize(
    ("behaviour", "ended", "content"),
    [
        ({"break_stream_after": 4}, "cut", None),
        ({"say": "a\0b \ud83d", "finish": "stop"}, "stop", "ab \ufffd"),
        ({"say": "", "finish": "content_filter"}, "content_filter", ""),
        ({"say": "", "finish": "stop"}, "empty", ""),
        ({"say": "so far", "finish": "length"}, "length", "so far"),
    ],
)
async def test_whatever_a_model_says_is_stored_as_it_was_streamed(
    behaviour: dict[str, Any], ended: str, content: str | None, sessions: Sessions, user: User
) -> None:
    used, _, messages = await state(sessions, user)
    asked = await prepare(sessions, user.id, None, QUESTION)
    *pieces, turn = [piece async for piece in stream_turn(sessions, asked, openai_client(**behaviour))]
    assert isinstance(turn, StoredTurn)
    assert turn.answer.content == "".join(str(piece) for piece in pieces)
    assert content is None or turn.answer.content == content
    assert (turn.answer.meta["ended"], turn.answer.status) == (ended, "complete" if ended == "stop" else "aborted")
    cost = turn.question.token_count + turn.answer.token_count
    assert await state(sessions, user) == (used + cost, 0, messages + 2)


async def leave_by_closing(stream: AsyncGenerator[Any, None], pieces: list[str]) -> None:
    async with aclosing(stream):
        async for piece in stream:
            pieces.append(piece)
            if len(pieces) == 3:
                break


async def leave_by_cancelling(stream: AsyncGenerator[Any, None], pieces: list[str]) -> None:
    third = asyncio.Event()
    task = asyncio.create_task(collect(stream, pieces, third))
    await third.wait()
    task.cancel()
    await asyncio.sleep(0.001)
    task.cancel()  # and again while it stores
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_scope(stream: AsyncGenerator[Any, None], pieces: list[str]) -> None:
    """As a client that leaves a server of Starlette's."""
    third = asyncio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(collect, stream, pieces, third)
        await third.wait()
        group.cancel_scope.cancel()


async def leave_by_timeout(stream: AsyncGenerator[Any, None], pieces: list[str]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async with aclosing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == 3:
                        limit.reschedule(asyncio.get_running_loop().time())


async def collect(stream: AsyncGenerator[Any, None], pieces: list[str], third: asyncio.Event) -> None:
    async with aclosing(stream):
        async for piece in stream:
            pieces.append(piece)
            if len(pieces) == 3:
                third.set()


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_cancelling, leave_by_scope, leave_by_timeout])
async def test_who_leaves_after_three_tokens_leaves_them_stored(
    leave: Any, sessions: Sessions, engine: AsyncEngine, user: User
) -> None:
    used, _, messages = await state(sessions, user)
    model, pieces = Watched(pause=0.02), list[str]()
    asked = await prepare(sessions, user.id, None, QUESTION)
    await leave(stream_turn(sessions, asked, on(model)), pieces)
    assert model.closed == 1 and model.sent < 12, "the model was stopped"
    async with sessions() as session:
        answer = await session.get_one(Message, asked.turn_id)
    assert answer.content.startswith("".join(pieces)) and len(answer.content) <= len("".join(pieces)) + 20
    assert (answer.status, answer.meta["ended"]) == ("aborted", "left")
    spent, held, stored = await state(sessions, user)
    assert (held, stored) == (0, messages + 2) and spent > used
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_who_is_cancelled_while_the_model_thinks_gets_the_tokens_back(sessions: Sessions, user: User) -> None:
    before, thinking = await state(sessions, user), asyncio.Event()
    model = Watched(pause=0.2, look=lambda: thinking.set() if model.requests == 2 else None)
    asking = asyncio.create_task(ask(sessions, user.id, None, QUESTION, on(model)))
    await thinking.wait()
    assert (await state(sessions, user))[1] == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await state(sessions, user) == before


async def test_the_same_turn_asked_again_is_not_asked_a_second_time(sessions: Sessions, user: User) -> None:
    turn_id = uuid4()
    first = await ask(sessions, user.id, None, QUESTION, turn_id=turn_id)
    before = await state(sessions, user)
    model = Watched()
    again = await ask(sessions, user.id, None, QUESTION, on(model), turn_id=turn_id)
    assert again.answer.id == first.answer.id == turn_id and model.requests == 0
    asked = await prepare(sessions, user.id, None, QUESTION, turn_id=turn_id)
    pieces = [piece async for piece in stream_turn(sessions, asked)]
    assert pieces[0] == first.answer.content
    assert await state(sessions, user) == before


async def test_the_same_turn_asked_ten_times_at_once_is_stored_and_charged_once(sessions: Sessions, user: User) -> None:
    turn_id = uuid4()
    used, _, messages = await state(sessions, user)
    turns = await asyncio.gather(*(ask(sessions, user.id, None, QUESTION, turn_id=turn_id) for _ in range(10)))
    cost = turns[0].question.token_count + turns[0].answer.token_count
    assert await state(sessions, user) == (used + cost, 0, messages + 2)


async def test_nobody_asks_in_anothers_conversation_or_gets_anothers_turn(sessions: Sessions, user: User) -> None:
    theirs = await ask(sessions, user.id, None, QUESTION)
    async with sessions() as session:
        ada = (await session.scalars(select(User).where(User.email == "ada@example.org"))).one()
    before, model = await state(sessions, ada), Watched()
    for place, turn_id in ((theirs.answer.conversation_id, None), (theirs.answer.conversation_id, theirs.answer.id)):
        with pytest.raises(NotFound):
            await ask(sessions, ada.id, place, QUESTION, on(model), turn_id=turn_id)
    assert model.requests == 0
    with pytest.raises(NotFound):
        await ask(sessions, ada.id, None, QUESTION, turn_id=theirs.answer.id)
    assert (await state(sessions, ada))[1:] == before[1:]


async def test_what_cannot_be_asked_costs_nothing(sessions: Sessions, engine: AsyncEngine, user: User) -> None:
    with QueryLog(engine) as log:
        for question in (" ", "a\0", "\ud83d", "word " * 5000):
            with pytest.raises(CourseError):
                await ask(sessions, user.id, None, question)
    assert log.count == 0


async def test_a_conversation_deleted_meanwhile_stores_nothing_and_the_call_is_paid(
    sessions: Sessions, user: User
) -> None:
    first = await ask(sessions, user.id, None, QUESTION)
    used, _, messages = await state(sessions, user)
    asked = await prepare(sessions, user.id, first.answer.conversation_id, QUESTION)
    async with sessions.begin() as session:
        await session.execute(delete(Conversation).where(Conversation.id == first.answer.conversation_id))
    with pytest.raises(NotFound):
        _ = [piece async for piece in stream_turn(sessions, asked)]
    spent, held, stored = await state(sessions, user)
    assert (held, stored) == (0, messages - 2) and spent > used


async def test_an_answer_survives_that_every_connection_is_lost_before_it_is_stored(
    sessions: Sessions, engine: AsyncEngine, user: User
) -> None:
    asked = await prepare(sessions, user.id, None, QUESTION)
    await lose_connections(sessions, engine)
    *_, turn = [piece async for piece in stream_turn(sessions, asked)]
    assert isinstance(turn, StoredTurn)
    assert (await state(sessions, user))[1] == 0


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(
    sessions: Sessions, engine: AsyncEngine, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, _, messages = await state(sessions, user)
    real, calls = asking_module.store_turn, 0

    async def lost_after_commit(session: AsyncSession, *arguments: Any) -> StoredTurn:
        nonlocal calls
        calls += 1
        stored = await real(session, *arguments)
        if calls == 1:
            await session.commit()
            raise ConnectionResetError
        return stored

    monkeypatch.setattr(asking_module, "store_turn", lost_after_commit)
    turn = await ask(sessions, user.id, None, QUESTION)
    cost = turn.question.token_count + turn.answer.token_count
    assert calls == 2 and await state(sessions, user) == (used + cost, 0, messages + 2)


async def test_what_will_not_pass_is_not_tried_again(sessions: Sessions) -> None:
    calls = 0

    async def wrong(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        await session.execute(text("SELECT 1 / 0"))

    with pytest.raises(Exception, match="division by zero"):
        await lasting.lasting(sessions, wrong)
    assert calls == 1


async def lose_connections(sessions: Sessions, engine: AsyncEngine) -> None:
    """End every connection of the pool from outside, where the pool does not notice."""
    other = make_engine(engine.url)
    mine = "pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"
    async with other.begin() as connection:
        await connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
    await other.dispose()


def found(*passages: Passage) -> Any:
    """A search that finds these."""

    async def search(session: AsyncSession, user_id: UUID, question: str, vector: Embedding) -> list[Passage]:
        return list(passages)

    return search
