"""Serves one host of a bundle to the others: ``python -m partc.runtime.server``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from partc.bundle.reader import Bundle
from partc.errors import PartcError, UsageError
from partc.ir.address import checked_address
from partc.runtime.cores import use_cores
from partc.runtime.credentials import Credentials
from partc.runtime.engine_segments import EngineTerms
from partc.runtime.held import HeldRequests
from partc.runtime.host import Host, message_limit_bytes
from partc.runtime.segments import Fallback

SWEEP_INTERVAL_S = 5.0
GRACE_S = 5.0


class HostServer:
    """One host of a bundle, ready and listening from construction until `close`.

    Args:
        listen: ``HOST:PORT``; port 0 takes a free one.
        addresses: where the hosts that this one calls listen; the manifest's addresses otherwise.
        allow_remote: listen on an address that other machines can reach, unauthenticated.
        credentials: by which callers and this host know each other, and this host and those
            that it calls.
        engines: on which terms engines are used.

    Attributes:
        address: where it listens.

    Raises:
        UsageError: unknown host, or an address that cannot be listened on.
        BundleError: the bundle, or a file that this host loads, is not usable.
        TargetError: a segment cannot be loaded here.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        host: str,
        listen: str = "127.0.0.1:0",
        *,
        addresses: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        fallback: Fallback = "preload",
        verify_files: bool = True,
        allow_remote: bool = False,
        max_message_bytes: int | None = None,
        credentials: Credentials | None = None,
        engines: EngineTerms | None = None,
    ) -> None:
        from partc.runtime.models import HostedModels
        from partc.runtime.wire.options import checked_listen_address
        from partc.runtime.wire.server import GrpcServer

        checked_listen_address(listen, allow_remote=allow_remote or credentials is not None)
        if credentials is not None:
            credentials.can_serve()
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._host = Host(
            opened,
            host,
            addresses=addresses,
            deadline_s=deadline_s,
            fallback=fallback,
            verify_files=verify_files,
            credentials=credentials,
            engines=engines,
        )
        shown = credentials if credentials is not None and credentials.covers(listen) else None
        try:
            self._server = GrpcServer(
                HostedModels(self._host.executor),
                host,
                listen,
                max_message_bytes=max_message_bytes or message_limit_bytes(opened.manifest),
                allow_remote=allow_remote,
                credentials=shown,
            )
        except BaseException:
            self._host.close()
            raise
        self.address = self._server.address
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="partc-sweep", daemon=True)
        self._sweeper.start()

    @property
    def held(self) -> HeldRequests:
        """What is kept of unfinished requests."""
        return self._host.executor.held

    def close(self, grace_s: float = GRACE_S) -> None:
        """Let calls under way finish, then stop."""
        self._stopping.set()
        self._server.stop(grace_s)
        self._host.close()

    def _sweep(self) -> None:
        while not self._stopping.wait(SWEEP_INTERVAL_S):
            self._host.executor.held.forget_old()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve(
    bundle: str | Path | Bundle,
    host: str,
    listen: str = "127.0.0.1:0",
    *,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    engines: EngineTerms | None = None,
    **options: Any,
) -> None:
    """Serve a host until SIGTERM, SIGINT or ``stop``; ``options`` are those of `HostServer`.

    A build of an engine is given up when it next says how far it is.

    Args:
        on_ready: called with the address once requests are accepted.
    """
    stopping = stop or threading.Event()
    terms = engines or EngineTerms()

    def progress(activity: str, fraction: float | None) -> None:
        if stopping.is_set():
            raise _StoppedError
        if terms.progress is not None:
            terms.progress(activity, fraction)

    with set_by_signals(stopping), suppress(_StoppedError):
        stoppable = replace(terms, progress=progress)
        with HostServer(bundle, host, listen, engines=stoppable, **options) as server:
            if on_ready is not None:
                on_ready(server.address)
            stopping.wait()


class _StoppedError(Exception):
    """The host is to stop before it is ready."""


@contextmanager
def set_by_signals(stopping: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``stopping``, and mean again what they did when this is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """Serve as a process of its own; the address is the one line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m partc.runtime.server")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", required=True, help="which host of the bundle this is")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="NAME=HOST:PORT",
        help="where a host listens that this one calls; may be repeated",
    )
    parser.add_argument("--deadline", type=float, metavar="SECONDS")
    parser.add_argument("--fallback", choices=["preload", "lazy", "none"], default="preload")
    parser.add_argument("--no-verify", action="store_true", help="do not check file digests")
    parser.add_argument("--allow-remote", action="store_true")
    parser.add_argument("--credentials", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--allow-engine-code",
        action="store_true",
        help="run machine code inside engines of the bundle, whose maker is trusted",
    )
    parser.add_argument("--cores", metavar="NUMBER,NUMBER", help="run on these alone")
    parser.add_argument(
        "--exit-with-input", action="store_true", help="stop when standard input ends"
    )
    given = parser.parse_args(arguments)
    show_log(logging.StreamHandler())
    if given.cores:
        use_cores(map(int, given.cores.split(",")))
    stop = threading.Event()
    if given.exit_with_input:
        threading.Thread(target=stop_after_input, args=(stop,), daemon=True).start()
    try:
        serve(
            given.bundle,
            given.host,
            given.listen,
            on_ready=_print_line,
            stop=stop,
            addresses=parse_addresses(given.address),
            deadline_s=given.deadline,
            fallback=given.fallback,
            verify_files=not given.no_verify,
            allow_remote=given.allow_remote,
            engines=EngineTerms(allow_code=given.allow_engine_code),
            credentials=Credentials.load(given.credentials) if given.credentials else None,
        )
    except PartcError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def show_log(handler: logging.Handler) -> None:
    """Show what a host says of itself, and not its warnings alone."""
    log = logging.getLogger("partc")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def parse_addresses(pairs: list[str]) -> dict[str, str]:
    """``NAME=HOST:PORT`` pairs as a mapping.

    Raises:
        UsageError: a pair is not of that form.
    """
    addresses: dict[str, str] = {}
    for pair in pairs:
        name, equals, address = pair.partition("=")
        if not (name and equals and address):
            raise UsageError(f"address {pair!r} is not NAME=HOST:PORT")
        if name in addresses:
            raise UsageError(f"two addresses are given for host {name!r}")
        try:
            addresses[name] = checked_address(address)
        except ValueError as error:
            raise UsageError(f"host {name!r}: {error}") from error
    return addresses


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def stop_after_input(stop: threading.Event) -> None:
    """Set ``stop`` when standard input ends, as it does when the parent process is gone."""
    # Not through sys.stdin: its lock, held in a daemon thread, would crash the interpreter's exit.
    while os.read(0, 1 << 16):
        pass
    stop.set()


if __name__ == "__main__":
    from partc.runtime.allocator import keep_large_blocks

    keep_large_blocks()
    sys.exit(main())
