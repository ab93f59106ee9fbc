"""TLS on the way to a server that asks for it, with the files that the address names or libpq's defaults."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from course_lib.instruments.network.relay.end import End
from course_lib.instruments.network.relay.poller import Poller

VERIFYING = ("verify-ca", "verify-full")
VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1, "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}  # fmt: skip


def context_for(options: Mapping[str, str]) -> ssl.SSLContext:
    """What libpq does with these options (https://www.postgresql.org/docs/18/libpq-ssl.html).

    Raises:
        OSError: a file cannot be read or is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    mode, authority = options["sslmode"], _file(options, "sslrootcert", "root.crt")
    if mode in VERIFYING or (mode == "require" and authority):
        if authority:
            context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = mode == "verify-full"
        if revoked := _file(options, "sslcrl", "root.crl"):
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN
    if certificate := _file(options, "sslcert", "postgresql.crt"):
        context.load_cert_chain(certificate, _file(options, "sslkey", "postgresql.key") or None, lambda: "")
    context.minimum_version = VERSIONS[options.get("ssl_min_protocol_version", "TLSv1.2")]
    if highest := options.get("ssl_max_protocol_version"):
        context.maximum_version = VERSIONS[highest]
    context.set_alpn_protocols(["postgresql"])
    return context


def _file(options: Mapping[str, str], name: str, default: str) -> str:
    """The file named, or libpq's default if there is one."""
    path = options.get(name) or str(Path("~/.postgresql").expanduser() / default)
    return path if name in options or os.path.exists(path) else ""  # noqa: PTH110


class SecureEnd(End):
    """An end whose bytes are encrypted. What is sent before ``secured`` is called waits."""

    def __init__(
        self, poller: Poller, sock: socket.socket, lost: Callable[[], object],
        context: ssl.SSLContext, name: str | None, secured: Callable[[], object], refused: Callable[[str], object],
    ) -> None:  # fmt: skip
        super().__init__(poller, sock, lost)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._secured: Callable[[], object] | None = secured
        self._refused = refused
        self._shake_hands()

    def send(self, data: bytes) -> None:
        if not self.closed and not self._closing:
            self._tls.write(data)
            super().send(self._outgoing.read())

    def _receive(self) -> None:
        plain, self.received = self.received, self._incoming.write
        try:
            super()._receive()
        finally:
            if self.received == self._incoming.write:
                self.received = plain
        if self.closed:
            return
        if self._secured is not None:
            self._shake_hands()
        if self._secured is None:
            self._decrypt()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            super().send(self._outgoing.read())
            return
        except ssl.SSLError as error:
            super().send(self._outgoing.read())  # says why
            self._refused(getattr(error, "verify_message", "") or error.reason or str(error))
            return
        super().send(self._outgoing.read())
        secured, self._secured = self._secured, None
        assert secured is not None
        secured()

    def _decrypt(self) -> None:
        while not self.closed:
            try:
                data = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                if answer := self._outgoing.read():  # of a renegotiation
                    super().send(answer)
                return
            except ssl.SSLError:
                data = b""
            if not data:
                self._lose()
                return
            self.received(data)
