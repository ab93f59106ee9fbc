"""What the relay keeps of the statements and connections that pass, and what of it was not told yet."""

from __future__ import annotations

from time import monotonic

Told = tuple[
    int, int, int, float, float | None, int, int, bool, bytes, bytes, int, int, int, int, int | None, bool, bool
]
"""An entry as it crosses to the other process, see ``Entry.told``."""


class Entry:
    """One statement. Executes of the same SQL before one Sync are one entry with several sets of parameters."""

    __slots__ = (
        "answered_bytes", "brings_rows", "changed", "connection", "copied_bytes", "ended", "executes", "never_ran",
        "number", "open", "received", "sets", "skipped", "sql", "sqlstate", "started", "tag", "text", "transaction",
    )  # fmt: skip

    def __init__(self, number: int, connection: int, text: int, sql: bytes, transaction: int | None) -> None:
        self.number = number
        self.connection = connection
        self.text = text
        self.sql = sql
        self.transaction = transaction
        self.started = monotonic()
        self.ended: float | None = None
        self.received = self.changed = 0  # rows sent to the client; rows that the command tags name
        self.brings_rows = False
        self.tag = self.sqlstate = b""
        self.sets = self.executes = self.open = 1
        self.answered_bytes = self.copied_bytes = 0
        self.skipped = False  # an error before it in the same pipeline kept it from running
        self.never_ran = False  # a piece of a text that turned out to be no statement

    def told(self) -> Told:
        return (
            self.number, self.connection, self.text, self.started, self.ended, self.received, self.changed,
            self.brings_rows, self.tag, self.sqlstate, self.sets, self.executes, self.answered_bytes,
            self.copied_bytes, self.transaction, self.skipped, self.never_ran,
        )  # fmt: skip


class Record:
    """Everything that passed one door. Written before the bytes are passed on."""

    def __init__(self) -> None:
        self.bytes_sent = self.bytes_received = 0
        self.trouble = ""  # why the relay lost track, should it
        self._count = self._transactions = 0
        self._texts: dict[bytes, int] = {}
        self._connections: list[list[float | None]] = []  # opened, closed
        self._changed: dict[int, Entry] = {}
        self._changed_connections: set[int] = set()
        self._new_texts: list[bytes] = []
        self._untaken: tuple[int, dict[int, Entry], set[int], list[bytes]] = (0, {}, set(), [])

    def connected(self) -> int:
        """The number of a connection that opens now, from 1."""
        self._connections.append([monotonic(), None])
        self._changed_connections.add(len(self._connections))
        return len(self._connections)

    def disconnected(self, number: int) -> None:
        if self._connections[number - 1][1] is None:
            self._connections[number - 1][1] = monotonic()
            self._changed_connections.add(number)

    def began(self, connection: int, sql: bytes, transaction: int | None) -> Entry:
        """A new entry."""
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = len(self._texts)
            self._new_texts.append(sql)
        entry = Entry(self._count, connection, text, sql, transaction)
        self._changed[self._count] = entry
        self._count += 1
        return entry

    def changed(self, entry: Entry) -> None:
        self._changed[entry.number] = entry

    def next_transaction(self) -> int:
        self._transactions += 1
        return self._transactions

    def news(self, taken: int) -> tuple[object, ...]:
        """What happened since the last news that the other side has: ``taken`` is their number.

        News that got lost are told again.
        """
        number, entries, connections, texts = self._untaken
        if taken != number:
            self._changed = entries | self._changed
            self._changed_connections |= connections
            self._new_texts = texts + self._new_texts
        self._untaken = (number + 1, self._changed, self._changed_connections, self._new_texts)
        self._changed, self._changed_connections, self._new_texts = {}, set(), []
        _, entries, connections, texts = self._untaken
        return (
            number + 1,
            len(self._texts) - len(texts),
            texts,
            [entry.told() for entry in entries.values()],
            [(number, *self._connections[number - 1]) for number in connections],
            self.bytes_sent,
            self.bytes_received,
            self.trouble,
        )
