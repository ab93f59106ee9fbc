"""Waiting for sockets: epoll itself where there is one, since ``selectors`` costs as much as a message's reading."""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Iterator
from typing import Protocol

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Ready(Protocol):
    """Whoever waits for a socket."""

    def ready(self, mask: int) -> None:
        """The system can go on with what ``mask`` says."""


class Poller:
    """By ``selectors``, on every system."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, sock: socket.socket, mask: int, who: Ready) -> None:
        self._selector.register(sock, mask, who)

    def modify(self, sock: socket.socket, mask: int, who: Ready) -> None:
        self._selector.modify(sock, mask, who)

    def unregister(self, sock: socket.socket) -> None:
        """Raises KeyError if it is not registered."""
        self._selector.unregister(sock)

    def wait(self) -> Iterator[tuple[Ready, int]]:
        """Who can go on, and with what."""
        for key, mask in self._selector.select():
            yield key.data, mask


if hasattr(select, "epoll"):

    class EpollPoller(Poller):
        """The same on Linux. A socket that hung up, or failed, can be read: that tells."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._waiting: dict[int, Ready] = {}

        def register(self, sock: socket.socket, mask: int, who: Ready) -> None:
            self._epoll.register(sock, _of_epoll(mask))
            self._waiting[sock.fileno()] = who

        def modify(self, sock: socket.socket, mask: int, who: Ready) -> None:
            self._epoll.modify(sock, _of_epoll(mask))
            self._waiting[sock.fileno()] = who

        def unregister(self, sock: socket.socket) -> None:
            del self._waiting[sock.fileno()]
            self._epoll.unregister(sock)

        def wait(self) -> Iterator[tuple[Ready, int]]:
            for handle, events in self._epoll.poll():
                if who := self._waiting.get(handle):  # unless one that was ready before it has ended it
                    yield who, (WRITE if events & ~select.EPOLLIN else 0) | (READ if events & ~select.EPOLLOUT else 0)


def new_poller() -> Poller:
    """The best that there is here."""
    return EpollPoller() if hasattr(select, "epoll") else Poller()


def _of_epoll(mask: int) -> int:
    return (select.EPOLLIN if mask & READ else 0) | (select.EPOLLOUT if mask & WRITE else 0)
