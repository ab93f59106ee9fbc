"""One connection's messages, read as they pass (https://www.postgresql.org/docs/18/protocol-message-formats.html).

Only heads are read: of a row or a parameter of 60 MB nothing is kept. A queue holds what the client asked for and the
server has not answered yet, in order, so that each answer finds its statement.
"""

from __future__ import annotations

import struct
from collections import deque
from time import monotonic

from course_lib.instruments.network.relay.pieces import is_begin, is_end, pieces_of
from course_lib.instruments.network.relay.record import Entry, Record

HEADER = struct.Struct(">BI").unpack_from  # kind, and the length of what follows the kind
PARSE, BIND, EXECUTE, QUERY, SYNC, FUNCTION = b"PBEQSF"
COPY_DATA, DATA_ROW, ROW_DESCRIPTION = b"dDT"
PARSED, BOUND, COMPLETE, EMPTY, SUSPENDED, ERROR, READY, COPY_IN, COPY_OUT = b"12CIsEZGH"
LONGEST_TEXT = 1 << 20  # bytes of SQL that are kept
NAMES = 1024  # bytes at the start of Bind and Execute in which the names stand
ASKED_HEADS = {PARSE: LONGEST_TEXT, QUERY: LONGEST_TEXT, BIND: NAMES, EXECUTE: NAMES, SYNC: 5, FUNCTION: 5}
ANSWERED_HEADS = {COMPLETE: NAMES, ERROR: LONGEST_TEXT, READY: 6}
IDLE = ord("I")
UNKNOWN = b"(a statement or portal that was not seen being made)"
Buffer = bytes | bytearray


class Portal:
    """A statement with its parameters, and the entry of its first Execute."""

    __slots__ = ("entry", "sql")

    def __init__(self, sql: bytes) -> None:
        self.sql = sql
        self.entry: Entry | None = None


class Asked:
    """Something that the server has yet to answer."""

    __slots__ = ("entry", "kind", "pieces", "sql")

    def __init__(self, kind: int, sql: bytes = b"", entry: Entry | None = None) -> None:
        self.kind = kind
        self.sql = sql
        self.entry = entry
        self.pieces: list[bytes] = []


class Stream:
    """Where in one direction's messages the bytes stand: what is to be skipped, or the start of a message."""

    __slots__ = ("need", "rest", "skip")

    def __init__(self) -> None:
        self.skip = self.need = 0
        self.rest = bytearray()

    def begin(self, data: bytes) -> tuple[Buffer, int] | None:
        """The bytes to read from, and the place where a message starts; None if none does yet."""
        if self.rest:
            self.rest += data
            if len(self.rest) < self.need:
                return None
            joined, self.rest = self.rest, bytearray()
            return joined, 0
        if self.skip >= len(data):
            self.skip -= len(data)
            return None
        start, self.skip = self.skip, 0
        return data, start

    def keep(self, buffer: Buffer, start: int, need: int) -> None:
        """The message at ``start`` can be read once there are ``need`` bytes of it."""
        self.rest, self.need = bytearray(buffer[start:]), need

    def end(self, buffer: Buffer, stop: int) -> None:
        """All messages that start in ``buffer`` are read; the last one ends, or the next begins, at ``stop``."""
        if stop > len(buffer):
            self.skip = stop - len(buffer)
        elif stop < len(buffer):
            self.keep(buffer, stop, 5)


class Conversation:
    """What one client and its server say to each other, from the end of the greeting on."""

    def __init__(self, record: Record, number: int) -> None:
        self._record = record
        self._number = number
        self._transaction: int | None = None
        self._queue: deque[Asked] = deque([Asked(SYNC)])  # the greeting ends like an answer
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, Portal] = {}
        self._last: Entry | None = None  # of the last Execute since the last Sync
        self._sent: Entry | None = None  # whoever sends rows of a COPY sends them to this one
        self._client, self._server = Stream(), Stream()

    # what the client says

    def asked(self, data: bytes) -> None:
        """The client's ``data`` are about to be passed on."""
        if (began := self._client.begin(data)) is None:
            return
        buffer, at = began
        end = len(buffer)
        while at + 5 <= end:
            kind, length = HEADER(buffer, at)
            if head := ASKED_HEADS.get(kind):
                need = min(length + 1, head)
                if at + need > end:
                    self._client.keep(buffer, at, need)
                    return
                self._hear(kind, bytes(buffer[at + 5 : at + need]))
            elif kind == COPY_DATA and self._sent is not None:
                self._sent.copied_bytes += length - 4
                self._record.changed(self._sent)
            at += length + 1
        self._client.end(buffer, at)

    def _hear(self, kind: int, body: bytes) -> None:
        if kind == EXECUTE:
            self._execute(self._portals.get(body[: body.index(0)]))
        elif kind == BIND:
            portal, name = body.split(b"\0", 2)[:2]
            sql = self._statements.get(name, UNKNOWN)
            self._portals[portal] = Portal(sql)
            self._queue.append(Asked(BIND, sql))
        elif kind == SYNC:
            self._last = None
            self._queue.append(Asked(SYNC))
        elif kind == PARSE:
            name, sql = body.split(b"\0", 2)[:2]
            self._statements[name] = sql
            self._queue.append(Asked(PARSE, sql))
        else:
            self._query(body.partition(b"\0")[0] if kind == QUERY else b"(function call)")

    def _query(self, sql: bytes) -> None:
        asked = Asked(QUERY, sql)
        asked.pieces = pieces_of(sql)
        asked.entry = self._begin(asked.pieces.pop(0) if asked.pieces else sql)
        self._queue.append(asked)
        self._last = None

    def _execute(self, portal: Portal | None) -> None:
        portal = portal or Portal(UNKNOWN)
        if portal.entry is not None:  # the next rows of a cursor
            entry = portal.entry
            again = True
        elif self._last is not None and self._last.sql == portal.sql:
            entry = self._last
            entry.sets += 1
            again = True
        else:
            entry = self._begin(portal.sql)
            again = False
        if again:
            entry.executes += 1
            entry.open += 1
            entry.ended = None
            self._record.changed(entry)
        portal.entry = self._last = self._sent = entry
        self._queue.append(Asked(EXECUTE, portal.sql, entry))

    def _begin(self, sql: bytes) -> Entry:
        transaction = None if self._queue and self._transaction is None else self._transaction
        self._sent = self._record.began(self._number, sql, transaction)
        return self._sent

    # what the server says

    def answered(self, data: bytes) -> None:
        """The server's ``data`` are about to be passed on."""
        if (began := self._server.begin(data)) is None:
            return
        buffer, at = began
        end = len(buffer)
        rows = size = 0
        while at + 5 <= end:
            kind, length = HEADER(buffer, at)
            if kind in (DATA_ROW, COPY_DATA):
                rows += 1
                size += length + 1
                at += length + 1
                continue
            if rows:
                self._bring(rows, size)
                rows = size = 0
            need = min(length + 1, ANSWERED_HEADS.get(kind, 5))
            if at + need > end:
                self._server.keep(buffer, at, need)
                return
            self._answer(kind, buffer, at + 5, at + need)
            at += length + 1
        if rows:
            self._bring(rows, size)
        self._server.end(buffer, at)

    def _answer(self, kind: int, buffer: Buffer, start: int, stop: int) -> None:
        if kind == READY:
            self._ready(buffer[start])
        elif kind == COMPLETE:
            self._complete(bytes(buffer[start : stop - 1]))
        elif kind in (PARSED, BOUND):
            if self._queue and self._queue[0].kind == (PARSE if kind == PARSED else BIND):
                self._queue.popleft()
        elif kind in (ROW_DESCRIPTION, COPY_OUT):
            if (entry := self._running()) is not None:
                entry.brings_rows = True
        elif kind == ERROR:
            self._fail(bytes(buffer[start:stop]))
        elif kind in (EMPTY, SUSPENDED):
            self._complete(b"")
        elif kind == COPY_IN and len(self._queue) > 1 and self._queue[1].kind == SYNC:
            del self._queue[1]  # the server overhears a Sync that comes before the copy's end

    def _running(self) -> Entry | None:
        """The entry that the server is answering."""
        if not self._queue:
            return None
        asked = self._queue[0]
        if asked.kind == QUERY and asked.entry is None:  # more statements than the text seemed to hold
            asked.entry = self._begin(asked.sql)
        return asked.entry

    def _bring(self, rows: int, size: int) -> None:
        if (entry := self._running()) is not None:
            entry.received += rows
            entry.answered_bytes += size
            entry.brings_rows = True
            self._record.changed(entry)

    def _complete(self, tag: bytes) -> None:
        if (entry := self._running()) is None:
            return
        asked = self._queue[0]
        if asked.kind == EXECUTE:
            self._queue.popleft()
        elif asked.kind != QUERY:
            return
        self._close(entry)
        if is_begin(tag):
            self._transaction = self._record.next_transaction()
        if entry.transaction is None:
            entry.transaction = self._transaction
        if is_end(tag, entry.sql):
            self._transaction = None
        count = tag.rpartition(b" ")[2]
        if count.isdigit():
            entry.changed += int(count)
            if tag.startswith(b"COPY") and entry.brings_rows:
                entry.received = int(count)  # a header and a trailer are no rows
        entry.tag = tag or entry.tag
        if asked.kind == QUERY:
            asked.entry = self._begin(asked.pieces.pop(0)) if asked.pieces else None

    def _close(self, entry: Entry) -> None:
        entry.open -= 1
        if entry.open == 0:
            entry.ended = monotonic()
        self._record.changed(entry)

    def _fail(self, body: bytes) -> None:
        code = next((field[1:] for field in body.split(b"\0") if field[:1] == b"C"), b"")
        if not self._queue or self._queue[0].kind == SYNC:  # it is about the connection
            return
        asked = self._queue.popleft()
        entry = asked.entry or self._meant(asked)
        if asked.kind == QUERY:
            asked.entry, asked.pieces = entry, []
            self._queue.appendleft(asked)  # until ReadyForQuery
        entry.sqlstate = code
        entry.ended = None if asked.kind == EXECUTE and entry.open > 1 else monotonic()
        entry.open -= 1
        self._record.changed(entry)

    def _meant(self, failed: Asked) -> Entry:
        """Of a Parse or Bind that failed: its Execute, if that was sent already, or an entry of its own."""
        for asked in self._queue:
            if asked.kind == SYNC or (asked.kind == EXECUTE and asked.sql != failed.sql):
                break
            if asked.kind == EXECUTE and asked.entry is not None:
                self._queue.remove(asked)
                return asked.entry
        return self._begin(failed.sql)

    def _ready(self, state: int) -> None:
        while self._queue:
            asked = self._queue.popleft()
            entry = asked.entry
            if asked.kind == EXECUTE and entry is not None:
                entry.skipped = not entry.sqlstate
                self._close(entry)
            if asked.kind == QUERY and entry is not None and entry.ended is None:
                entry.never_ran = entry.open > 0
                self._close(entry)
            if asked.kind in (SYNC, QUERY):
                break
        if state == IDLE:
            self._transaction = None
        elif self._transaction is None:
            self._transaction = self._record.next_transaction()

    def lost(self) -> None:
        """The connection is no more: nothing that waits for an answer gets one."""
        for asked in self._queue:
            if asked.entry is not None and asked.entry.open > 0:
                asked.entry.open = 1
                self._close(asked.entry)
        self._queue.clear()
        self._record.disconnected(self._number)
