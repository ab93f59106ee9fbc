"""``openai_client``: the SDK's own client, pointed at the offline model or at a real server."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any, Unpack
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

import httpx2
import openai

from course_lib.settings import Settings, get_settings

from .behaving import BehavingTransport, BehavingTransportSync
from .behaviour import Behaviour, BehaviourOptions
from .names import OFFLINE_URL, OPENAI_URL, PLACEHOLDER_KEY
from .offline.transport import OfflineTransport

LIMITS = openai.DEFAULT_CONNECTION_LIMITS  # httpx's own allow 100 connections, the SDK's 1000

Kept = tuple[Settings, openai.AsyncOpenAI]
_kept_offline: Kept | None = None
_kept_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Kept] = WeakKeyDictionary()


def openai_client(**behaviour: Unpack[BehaviourOptions]) -> openai.AsyncOpenAI:
    """The SDK's ``AsyncOpenAI``; offline unless OPENAI_API_KEY or OPENAI_BASE_URL is set.

    Without arguments one client is built and kept: per process offline, per event loop with a real
    server, whose connections belong to a loop. With arguments each call builds its own:

    >>> client = openai_client(latency_ms=200, fail_first=2, status=429, retry_after_s=1)

    ``latency_ms``, ``token_delay_ms``, ``fail_first``, ``status``, ``retry_after_s``,
    ``retry_after_ms``, ``break_stream_after``, ``drop_embeddings``, ``reverse_embeddings``, ``say`` and
    ``finish`` are explained at ``Behaviour``. In front of a real server they work too: delays are added to its own,
    and failures are made up here without asking it (a proxy named in the environment is not used then).
    Raises ValueError or TypeError for a behaviour that makes no sense.
    """
    settings = get_settings()
    if behaviour:
        return _build(settings, Behaviour(**behaviour))
    return _kept_for_process(settings) if settings.offline else _kept_for_loop(settings)


def openai_client_sync(**behaviour: Unpack[BehaviourOptions]) -> openai.OpenAI:
    """The SDK's synchronous ``OpenAI`` with the same arguments; every call builds its own."""
    settings = get_settings()
    http_client = None
    if settings.offline or behaviour:
        transport: httpx2.BaseTransport = (
            OfflineTransport() if settings.offline else httpx2.HTTPTransport(limits=LIMITS)
        )
        if behaviour:
            transport = BehavingTransportSync(transport, Behaviour(**behaviour))
        http_client = openai.DefaultHttpx2Client(transport=transport, trust_env=not settings.offline)
    return openai.OpenAI(api_key=_key(settings), http_client=http_client, **_address(settings))


def _build(settings: Settings, behaviour: Behaviour | None = None) -> openai.AsyncOpenAI:
    http_client = None
    if settings.offline or behaviour:
        transport: httpx2.AsyncBaseTransport
        transport = OfflineTransport() if settings.offline else httpx2.AsyncHTTPTransport(limits=LIMITS)
        if behaviour:
            transport = BehavingTransport(transport, behaviour)
        http_client = openai.DefaultAsyncHttpx2Client(transport=transport, trust_env=not settings.offline)
    return openai.AsyncOpenAI(api_key=_key(settings), http_client=http_client, **_address(settings))


def _kept_for_process(settings: Settings) -> openai.AsyncOpenAI:
    global _kept_offline
    if not _usable(_kept_offline, settings):
        _kept_offline = (settings, _build(settings))
    assert _kept_offline is not None
    return _kept_offline[1]


def _kept_for_loop(settings: Settings) -> openai.AsyncOpenAI:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # no loop yet, so nobody can say which one the connections will belong to
        return _build(settings)
    if not _usable(_kept_by_loop.get(loop), settings):
        _kept_by_loop[loop] = (settings, _build(settings))
    return _kept_by_loop[loop][1]


def _usable(kept: Kept | None, settings: Settings) -> bool:
    """False once the settings were read again or somebody closed the client."""
    return kept is not None and kept[0] is settings and not kept[1].is_closed()


def _address(settings: Settings) -> dict[str, Any]:
    """The SDK's arguments for where it asks. An account or a query of the address is taken out of it.

    httpx writes the whole address into its log and its errors; the account goes into a header, as httpx would put it.
    """
    # always given: the SDK takes an empty OPENAI_BASE_URL from the environment at its word
    if settings.offline or settings.openai_base_url is None:
        return {"base_url": OFFLINE_URL if settings.offline else OPENAI_URL}
    parts = urlsplit(settings.openai_base_url.get_secret_value())
    account, at, place = parts.netloc.rpartition("@")
    address: dict[str, Any] = {"base_url": urlunsplit((parts.scheme, place, parts.path, "", ""))}
    if at:
        user, _, password = account.partition(":")
        basic = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        address["default_headers"] = {"Authorization": f"Basic {basic}"}
    if parts.query:
        address["default_query"] = dict(parse_qsl(parts.query))
    return address


def _key(settings: Settings) -> str:
    key = settings.openai_api_key
    return PLACEHOLDER_KEY if key is None else key.get_secret_value()
