"""Accounts and their API keys."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import func, select, update

from course_lib.models import ApiKey, User
from course_lib.repositories import NotFound
from course_lib.repositories.rag import delete_user
from course_lib.repositories.users import hash_key
from course_lib.service import problems
from course_lib.service.dependencies import JSON, Caller, Running, Work
from course_lib.service.documented import ONCE, errors
from course_lib.service.idempotency import OnceOnly
from course_lib.service.problems import Refused
from course_lib.service.schemas import Account, Key, Keys, KeyWithSecret, NewAccount, NewKey, SignedUp
from course_lib.unit_of_work import UnitOfWork

router = APIRouter(tags=["accounts"])
FIRST_KEY = "first key"
MOST_KEYS = 10  # valid ones of an account


@router.post(
    "/accounts",
    status_code=201,
    dependencies=[JSON],
    responses=errors(problems.EMAIL_TAKEN, problems.TOO_MANY_AT_ONCE, body=True, public=True),
)
async def sign_up(new: NewAccount, work: Work, service: Running) -> SignedUp:
    """Make an account and its first key. Of several at once with one address, one gets it."""
    with service.requests.enter("sign-up"):
        user = await work.users.register(new.email, new.name)
        secret = await work.users.issue_key(user.id, FIRST_KEY)
    return SignedUp(account=Account.model_validate(user), key=await _with_secret(work, secret))


@router.get("/account", responses=errors())
async def account(caller: Caller, work: Work) -> Account:
    """Who the key belongs to, and how many tokens are left."""
    return Account.model_validate(await work.users.get(caller.id))


@router.delete("/account", status_code=204, responses=errors())
async def leave(caller: Caller, work: Work) -> None:
    """Delete the account with everything that belongs to it."""
    await delete_user(work.session, caller.id)


@router.get("/account/keys", responses=errors())
async def keys(caller: Caller, work: Work) -> Keys:
    """The keys of the account, revoked ones too, without their secrets."""
    found = await work.session.scalars(select(ApiKey).where(ApiKey.user_id == caller.id).order_by(ApiKey.id))
    return Keys(items=[Key.model_validate(key) for key in found])


@router.post(
    "/account/keys",
    status_code=201,
    dependencies=[JSON],
    responses=errors(*ONCE, problems.SHOWN_ONCE, problems.AS_MANY_AS_MAY_BE, body=True),
)
async def add_key(new: NewKey, caller: Caller, work: Work, once: OnceOnly) -> KeyWithSecret:
    """Make another key. Its secret is in this response, and nowhere else: asked again, there is no second time."""
    await once.claim(work.session, new.model_dump_json().encode())
    made = await _issue(work, caller.id, new.label)
    problem = Refused(problems.SHOWN_ONCE, "Revoke this key and make another.", key_id=str(made.id))
    await once.keep(work.session, problem.kind.status, problem.document(), {})
    return made


@router.post(
    "/account/keys/{key_id}/rotate", status_code=201, responses=errors(problems.NOT_FOUND, problems.AS_MANY_AS_MAY_BE)
)
async def rotate(key_id: UUID, caller: Caller, work: Work) -> KeyWithSecret:
    """Make a key in place of this one, which ends with the same commit."""
    label = await _revoke(work, caller.id, key_id)
    return await _issue(work, caller.id, label)


@router.delete("/account/keys/{key_id}", status_code=204, responses=errors(problems.NOT_FOUND))
async def revoke(key_id: UUID, caller: Caller, work: Work) -> Response:
    """From now on this key is nobody's."""
    await _revoke(work, caller.id, key_id)
    return Response(status_code=204)


async def _revoke(work: UnitOfWork, user_id: UUID, key_id: UUID) -> str:
    mine = (ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    statement = update(ApiKey).where(*mine).values(revoked_at=func.now()).returning(ApiKey.label)
    label = await work.session.scalar(statement)
    if label is None:
        raise NotFound(ApiKey, key_id)
    return label


async def _issue(work: UnitOfWork, user_id: UUID, label: str) -> KeyWithSecret:
    # one at a time for each account, or two at once would both be the tenth
    await work.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    valid = select(func.count()).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    if (await work.session.scalar(valid) or 0) >= MOST_KEYS:
        raise Refused(problems.AS_MANY_AS_MAY_BE, f"An account has at most {MOST_KEYS} valid keys: revoke one.")
    return await _with_secret(work, await work.users.issue_key(user_id, label))


async def _with_secret(work: UnitOfWork, secret: str) -> KeyWithSecret:
    row = (await work.session.scalars(select(ApiKey).where(ApiKey.key_hash == hash_key(secret)))).one()
    return KeyWithSecret(**Key.model_validate(row).model_dump(), secret=secret)
