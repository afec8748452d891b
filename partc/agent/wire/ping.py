"""The round trip of an empty message, by HTTP/2's own ping.

gRPC's library answers it before any handler runs, so it holds what the link takes and nothing of
what a runtime does with a message.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from types import TracebackType
from typing import Self

from partc.ir.address import split_address
from partc.runtime.credentials import Credentials

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_BYTES = 9
_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1
_LARGEST_FRAME_BYTES = 1 << 20
_TIMEOUT_S = 10.0


class Pinger:
    """A connection of its own to a gRPC server; a context manager.

    Raises:
        OSError: the server cannot be reached, or answers something else than HTTP/2.
    """

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        host, port = split_address(address)
        plain = socket.create_connection((host, port), _TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket: socket.socket = plain
        try:
            if credentials is not None and credentials.covers(address):
                self._socket = _context(credentials).wrap_socket(plain, server_hostname=host)
            self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, b""))
            self.ping()  # The first one waits for the connection to be set up.
        except BaseException:
            self._socket.close()
            raise

    def ping(self) -> float:
        """Seconds of one round trip."""
        payload = os.urandom(8)
        started_s = time.perf_counter()
        self._socket.sendall(_frame(_PING, 0, payload))
        while True:
            kind, flags, received = self._read_frame()
            if kind == _PING and flags & _ACK and received == payload:
                return time.perf_counter() - started_s
            if kind == _SETTINGS and not flags & _ACK:
                self._socket.sendall(_frame(_SETTINGS, _ACK, b""))
            if kind == _GOAWAY:
                raise ConnectionResetError("the server ended the connection")

    def _read_frame(self) -> tuple[int, int, bytes]:
        header = self._read(_HEADER_BYTES)
        size = int.from_bytes(header[:3])
        if size > _LARGEST_FRAME_BYTES:
            raise ConnectionResetError("the server does not speak HTTP/2")
        return header[3], header[4], self._read(size)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            data += chunk
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def _context(credentials: Credentials) -> ssl.SSLContext:
    assert credentials.authority is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    if credentials.client is not None:
        context.load_cert_chain(
            credentials.folder / "client.pem", credentials.folder / "client.key"
        )
    return context


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + bytes(4) + payload
