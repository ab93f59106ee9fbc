"""What both text endpoints share: stable ids, server-sent events, parameters that are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .api_error import bad_request

CREATED = 1_735_689_600
"""Unix seconds of 2025-01-01T00:00:00Z: every answer carries the same moment, so that outputs repeat."""


def fingerprint(body: Mapping[str, Any]) -> str:
    """24 hexadecimal digits of the request: the same request has the same id, streamed or not."""
    asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def refuse_unsupported(body: Mapping[str, Any], harmless: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise HTTP 400 rather than ignore what the answerer cannot do."""
    for name, values in harmless.items():
        if body.get(name) not in values:
            raise bad_request(
                f"The offline answerer only quotes passages; it cannot honour '{name}'. "
                "Leave it out, or set OPENAI_API_KEY.",
                param=name,
            )


def token_limit(body: Mapping[str, Any], *names: str) -> int | None:
    """The first of these limits that is set, in tokens."""
    for name in names:
        limit = body.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or limit < 1:
            raise bad_request(f"Invalid '{name}': expected an integer of 1 or more, got {limit!r}.", name)
        return limit
    return None
