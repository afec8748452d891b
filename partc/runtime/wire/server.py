"""The gRPC server of a host."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from partc.errors import UsageError
from partc.runtime.models import HostedModels
from partc.runtime.wire.client import SERVICE
from partc.runtime.wire.options import checked_listen_address, server_options
from partc.runtime.wire.service import InferenceService

MAX_CONCURRENT_CALLS = 64
"""Streams and unary calls together; more are refused at once, with RESOURCE_EXHAUSTED."""


class GrpcServer:
    """Serves the models of a host from construction until `stop`.

    Attributes:
        address: where it listens, with the port that was chosen for port 0.

    Raises:
        UsageError: the address cannot be listened on, or would let other machines in.
    """

    def __init__(
        self,
        models: HostedModels,
        host: str,
        listen: str,
        *,
        max_message_bytes: int,
        allow_remote: bool = False,
    ) -> None:
        checked_listen_address(listen, allow_remote=allow_remote)
        self._models = models
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_CALLS, thread_name_prefix="partc-call")
        self._server = grpc.server(
            self._threads,
            options=server_options(max_message_bytes),
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        self._server.add_generic_rpc_handlers((InferenceService(models, host).handler(),))
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {listen}; is another server running there?"
            ) from error
        self.address = f"{listen.rpartition(':')[0]}:{port}"
        self._server.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float) -> None:
        """Accept no more, let calls under way finish for up to ``grace_s``, then disconnect."""
        self._health.enter_graceful_shutdown()
        end_s = time.monotonic() + grace_s
        while self._models.executor.held.calls_under_way and time.monotonic() < end_s:
            time.sleep(0.01)
        self._server.stop(0.05).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)
