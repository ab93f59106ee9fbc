"""Calls to the model, seen at the client's HTTP: with a real server as with the offline one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai

from course_lib.service.xray.record import Call, Record

CALL = "course_call"


@contextmanager
def record_calls(client: openai.AsyncOpenAI, record_of: Callable[[], Record | None]) -> Iterator[None]:
    """For the length of a block, note each call of ``client`` in the record of whoever makes it."""

    async def asked(request: httpx2.Request) -> None:
        record = record_of()
        if record is not None and CALL not in request.extensions:  # another app's X-ray may listen to this client
            what = request.url.path.removeprefix("/v1/")
            request.extensions[CALL] = (record, call := Call(what, record.now()))
            record.calls.append(call)

    async def answered(response: httpx2.Response) -> None:
        if (noted := response.request.extensions.get(CALL)) is None:
            return
        record, call = noted
        call.status = response.status_code
        if response.is_stream_consumed:  # it came whole
            call.first_byte = call.ended = record.now()
        else:
            response.stream = Heard(response.stream, record, call)

    hooks = client._client.event_hooks
    hooks["request"].append(asked)
    hooks["response"].append(answered)
    try:
        yield
    finally:
        hooks["request"].remove(asked)
        hooks["response"].remove(answered)


class Heard(httpx2.AsyncByteStream):
    """A response's body, and when it came."""

    def __init__(self, stream: Any, record: Record, call: Call) -> None:
        self._stream, self._record, self._call = stream, record, call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._stream:
            if self._call.first_byte is None:
                self._call.first_byte = self._record.now()
            yield block
        self._end()

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()

    @property
    def elapsed(self) -> Any:
        """What ``response.elapsed`` is read from."""
        return self._stream.elapsed

    def _end(self) -> None:
        if self._call.ended is None:
            self._call.ended = self._record.now()
