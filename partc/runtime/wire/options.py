"""Settings of gRPC connections, the same on both ends, and addresses."""

from __future__ import annotations

from partc.errors import UsageError
from partc.ir.address import is_loopback, split_address

WINDOW_BYTES = 8 << 20
"""What one stream may send before the receiver answers: more than fits on the links meant here."""

KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 60_000
"""A ping waits behind the tensors on a slow link, so only a very late answer means that the other
end is gone. Deadlines find that sooner."""

Options = list[tuple[str, int]]


def channel_options(max_message_bytes: int) -> Options:
    """Of a client."""
    return [
        *_common(max_message_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_options(max_message_bytes: int) -> Options:
    """Of a server."""
    return [
        *_common(max_message_bytes),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]


def _common(max_message_bytes: int) -> Options:
    # With the default window of 64 KiB a 600 KB tensor takes ten round trips more.
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
    ]


def checked_listen_address(listen: str, *, allow_remote: bool) -> str:
    """``listen`` when it is ``HOST:PORT`` and safe to offer.

    Args:
        allow_remote: others than this machine may connect: they show who they are, or the
            network is trusted.

    Raises:
        UsageError: it is not an address, or others than this machine could connect.
    """
    try:
        split_address(listen)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not allow_remote and not is_loopback(listen):
        raise UsageError(
            f"address {listen!r} can be reached from other machines, and requests are not "
            "authenticated; listen on 127.0.0.1, give --credentials (partc agent --init makes "
            "them), or --allow-remote (allow_remote=True) where the network is trusted"
        )
    return listen
