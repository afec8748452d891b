"""Connections that are encrypted, and whose ends know each other."""

from __future__ import annotations

import hmac
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from partc.ir.address import split_address
from partc.runtime.credentials import CLIENT, SERVER, Credentials
from partc.runtime.wire.options import channel_options

NOT_ITS_TOKEN = (
    "it asks for a token, and the one it was shown is not its own; copy the token file of the "
    "same partc agent --init to both machines"
)
_HEADER = "authorization"
_DIAGNOSIS_TIMEOUT_S = 3.0


def open_channel(address: str, max_message_bytes: int, credentials: Credentials | None) -> Any:
    """A channel to ``address``, secured where ``credentials`` cover it.

    Raises:
        UsageError: the credentials lack what a caller needs.
    """
    options = channel_options(max_message_bytes)
    if credentials is None or not credentials.covers(address):
        return grpc.insecure_channel(address, options=options)
    credentials.can_call()
    client = credentials.client
    secured = grpc.ssl_channel_credentials(
        credentials.authority,
        private_key=client.key if client else None,
        certificate_chain=client.certificate if client else None,
    )
    if credentials.token is not None:
        # gRPC sends these over secured connections alone.
        caller = grpc.metadata_call_credentials(_TokenPlugin(credentials.token), "partc-token")
        secured = grpc.composite_channel_credentials(secured, caller)
    return grpc.secure_channel(address, secured, options=options)


def server_credentials(credentials: Credentials) -> Any:
    """For `grpc.Server.add_secure_port`: callers must show a certificate of the authority.

    Raises:
        UsageError: the credentials lack what a server needs.
    """
    credentials.can_serve()
    server = credentials.server
    assert server is not None
    return grpc.ssl_server_credentials(
        [(server.key, server.certificate)],
        root_certificates=credentials.authority,
        require_client_auth=credentials.authority is not None,
    )


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """What `open_channel` does, for connections that are not of gRPC.

    Raises:
        UsageError: the credentials lack what a caller needs.
    """
    credentials.can_call()
    assert credentials.authority is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
    if credentials.client is not None:
        context.load_cert_chain(*_files(credentials, CLIENT))
    return context


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """What `server_credentials` does, for connections that are not of gRPC.

    Raises:
        UsageError: the credentials lack what a server needs.
    """
    credentials.can_serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_files(credentials, SERVER))
    # They would arrive after the handshake, where an idle connection is to be silent.
    context.num_tickets = 0
    if credentials.authority is not None:
        context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _files(credentials: Credentials, name: str) -> tuple[Path, Path]:
    return credentials.folder / f"{name}.pem", credentials.folder / f"{name}.key"


class TokenInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls that do not carry the token."""

    def __init__(self, token: str) -> None:
        self._expected = _bearer(token).encode()
        self._refusal = grpc.stream_stream_rpc_method_handler(_refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Pass a call on, or answer it with UNAUTHENTICATED."""
        given = [value for key, value in details.invocation_metadata if key == _HEADER]
        shown = given[0] if given else ""
        shown_bytes = shown if isinstance(shown, bytes) else shown.encode("utf-8", "replace")
        if hmac.compare_digest(shown_bytes, self._expected):
            return continuation(details)
        return self._refusal


def why_unreachable(address: str, credentials: Credentials | None) -> str | None:
    """A clause that says why the two ends do not agree on a connection; None if it is not that.

    gRPC says little of what went wrong in a handshake, so it is made once more by hand.
    """
    if credentials is not None and not credentials.covers(address):
        credentials = None
    if credentials is not None:
        context = client_context(credentials)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = split_address(address)
    try:
        with (
            socket.create_connection((host, port), _DIAGNOSIS_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            if credentials is None:
                return f"{address} asks for credentials; give --credentials FOLDER"
            # A server that accepts this end's certificate sends its settings at once.
            if not wrapped.recv(1):
                return _of_own_certificate(address, credentials)
    except ssl.SSLCertVerificationError as error:
        return _of_certificate(address, error)
    except ssl.SSLError as error:
        return _of_handshake(address, error) if credentials else None
    except ConnectionResetError:
        if credentials is not None:
            return f"{address} closed the connection in the handshake; it may speak no TLS"
    except OSError:
        pass
    return None


def _of_certificate(address: str, error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message.rstrip(".")
    if "expired" in reason:
        return f"the certificate of {address} has expired; make a new one there"
    if "not yet valid" in reason:
        return f"the certificate of {address} is not valid yet; compare the clocks of both machines"
    if "mismatch" in reason or "not valid for" in reason:
        return (
            f"the certificate of {address} is for other names ({reason}); "
            "make one there with partc agent --init --name NAME"
        )
    return (
        f"the certificate of {address} is not of the authority that this machine trusts "
        f"({reason}); use the ca.pem of the same partc agent --init on both"
    )


def _of_own_certificate(address: str, credentials: Credentials) -> str:
    if credentials.client is None:
        return (
            f"{address} asks for a certificate, and {credentials.folder} has no client.pem with "
            "its client.key"
        )
    return (
        f"{address} does not accept this machine's certificate, client.pem of "
        f"{credentials.folder}; make one by the authority that it trusts"
    )


def _of_handshake(address: str, error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        return f"{address} speaks no TLS; serve it with --credentials, or give --credentials none"
    return f"the handshake with {address} failed: {reason}"


class _TokenPlugin(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._metadata = ((_HEADER, _bearer(token)),)

    def __call__(self, context: Any, callback: Any) -> None:
        callback(self._metadata, None)


def _bearer(token: str) -> str:
    return f"Bearer {token}"


def _refuse(messages: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, NOT_ITS_TOKEN)
