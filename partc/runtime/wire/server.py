"""The server of a host: gRPC for everybody, behind a door that serves other hosts' lines itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from partc.errors import UsageError
from partc.runtime.credentials import Credentials
from partc.runtime.models import Models
from partc.runtime.transport import FailureKind
from partc.runtime.wire.client import SERVICE
from partc.runtime.wire.door import Door
from partc.runtime.wire.messages import encode_stream_failure
from partc.runtime.wire.options import checked_listen_address, server_options
from partc.runtime.wire.security import TokenInterceptor, server_credentials
from partc.runtime.wire.service import InferenceService

MAX_CONNECTED_CALLS = 512
"""Streams, most of them idle, and unary calls together; more are refused at once, with
RESOURCE_EXHAUSTED. Each has a thread. How many are worked on at once is the models' limit."""

_INNER = "127.0.0.1:0"


class GrpcServer:
    """Serves the models of a host from construction until `stop`.

    Args:
        credentials: by which callers and server know each other.
        handlers: of further services at the same address.
        ready: whether requests for models can be answered from the start.

    Attributes:
        address: where it listens, with the port that was chosen for port 0.

    Raises:
        UsageError: the address cannot be listened on, or would let other machines in.
    """

    def __init__(
        self,
        models: Models,
        host: str,
        listen: str,
        *,
        max_message_bytes: int,
        allow_remote: bool = False,
        credentials: Credentials | None = None,
        handlers: Sequence[Any] = (),
        ready: bool = True,
    ) -> None:
        checked_listen_address(listen, allow_remote=allow_remote or credentials is not None)
        self._models = models
        self._threads = ThreadPoolExecutor(MAX_CONNECTED_CALLS, thread_name_prefix="partc-call")
        self._server = grpc.server(
            self._threads,
            options=server_options(max_message_bytes),
            maximum_concurrent_rpcs=MAX_CONNECTED_CALLS,
            interceptors=_interceptors(credentials),
        )
        service = InferenceService(models, host)
        self._server.add_generic_rpc_handlers((service.handler(), *handlers))
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        inner = self._listen_behind_the_door(credentials)
        try:
            self._door = Door(
                listen,
                inner,
                service.answer,
                refusal=_too_large,
                max_message_bytes=max_message_bytes,
                credentials=credentials,
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {listen}; is another server running there?"
            ) from error
        self.address = self._door.address
        self._server.start()
        self.set_ready(ready)

    def _listen_behind_the_door(self, credentials: Credentials | None) -> str:
        """Where gRPC gets the connections that the door passes on."""
        if credentials is None:
            port = self._server.add_insecure_port(_INNER)
        else:
            port = self._server.add_secure_port(_INNER, server_credentials(credentials))
        return f"{_INNER.rpartition(':')[0]}:{port}"

    def set_ready(self, ready: bool) -> None:
        """Say to those who ask whether requests for models can be answered."""
        states = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            self._health.set(name, states.SERVING if ready else states.NOT_SERVING)

    def stop(self, grace_s: float) -> None:
        """Accept no more, let calls under way finish for up to ``grace_s``, then disconnect."""
        self._health.enter_graceful_shutdown()
        end_s = time.monotonic() + grace_s
        while self._models.calls_under_way and time.monotonic() < end_s:
            time.sleep(0.01)
        self._door.close()
        self._server.stop(0.05).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _too_large(reason: str) -> bytes:
    return encode_stream_failure(("", ""), FailureKind.BUSY, reason)


def _interceptors(credentials: Credentials | None) -> tuple[Any, ...]:
    if credentials is None or credentials.token is None:
        return ()
    return (TokenInterceptor(credentials.token),)
