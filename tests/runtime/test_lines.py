"""Lines between hosts: what is sent arrives whole, and nobody's noise or silence harms others."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partc.agent.authority import make_credentials
from partc.bundle.reader import Bundle
from partc.ir.address import split_address
from partc.runtime.credentials import Credentials
from partc.runtime.device import open_bundle
from partc.runtime.models import ModelRequest
from partc.runtime.server import HostServer
from partc.runtime.transport import CallFailedError, CallRequest, FailureKind
from partc.runtime.wire import frames
from partc.runtime.wire.client import GrpcTransport
from partc.runtime.wire.messages import decode_stream_answer, encode_request
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"), plans.there_and_back())


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[HostServer]:
    with HostServer(bundle, "server", max_message_bytes=LIMIT) as running:
        yield running


@pytest.fixture
def line(server: HostServer) -> Iterator[socket.socket]:
    with connected(server) as opened:
        opened.sendall(frames.greeting(None))
        assert opened.recv(1) == frames.WELCOME
        yield opened


def connected(server: HostServer) -> socket.socket:
    return socket.create_connection(split_address(server.address), 20)


def question(**changes: Any) -> bytes:
    given = {"model": "s1", "request": "x", "tensors": {"t": plans.sample()["x"]}}
    return encode_request(ModelRequest(**{**given, **changes}))


def asked(line: socket.socket, message: bytes) -> Any:
    frames.write_message(line, [message])
    return decode_stream_answer(memoryview(frames.read_message(line, LIMIT)))


def request(call: str, bundle: Path, time_left_s: float = 20.0) -> CallRequest:
    tensors = {"t": plans.sample()["x"]}
    return CallRequest(call, "r", Bundle.open(bundle).identity, tensors, time_left_s)


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=200_000) | st.integers(0, 300_000).map(bytes),
    st.lists(st.integers(1, 100_000), max_size=4),
)
def test_a_message_arrives_whole_however_it_is_cut(message: bytes, sizes: list[int]) -> None:
    near, far = socket.socketpair()
    with near, far:
        whole = b"".join(frames.framed([message]))

        def send() -> None:
            left = whole
            for size in sizes:
                near.sendall(left[:size])
                left = left[size:]
            near.sendall(left)

        sender = threading.Thread(target=send)
        sender.start()
        assert frames.read_message(far, len(message)) == message
        sender.join()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.integers(0, 150_000).map(bytes), max_size=8),
    st.floats(0, 1),
)
def test_what_is_gone_already_is_not_sent_again(message: list[bytes], share: float) -> None:
    near, far = socket.socketpair()
    with near, far:
        whole = b"".join(frames.framed(message))
        assert len(whole) == frames.framed_bytes(message)
        gone = int(share * len(whole))
        sender = threading.Thread(target=frames.write_message, args=(near, message, gone))
        sender.start()
        assert frames.read_exactly(far, len(whole) - gone) == whole[gone:]
        sender.join()


def test_hosts_use_lines_and_need_no_grpc(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("gRPC was used")

    monkeypatch.setattr("partc.runtime.wire.client._Peer._start_by_grpc", never)
    with (
        HostServer(bundle, "server") as server,
        open_bundle(bundle, addresses={"server": server.address}) as device,
    ):
        feeds = plans.sample()
        for _ in range(3):
            answer = device.request(feeds)
            assert not answer.failures
            np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)


@pytest.mark.parametrize("prefer_lines", [True, False])
def test_large_tensors_go_both_ways(prefer_lines: bool, tmp_path: Path) -> None:
    """Larger than what the system takes at once: a line's thread sends the rest."""
    bundle = write_bundle(tmp_path, plans.there_and_back())
    x = np.random.default_rng(0).standard_normal((1 << 16, 64), np.float32)
    with HostServer(bundle, "server", max_message_bytes=1 << 27) as server:
        transport = GrpcTransport(
            {"server": server.address}, max_message_bytes=1 << 27, prefer_lines=prefer_lines
        )
        with open_bundle(bundle, transport=transport) as device:
            for _ in range(3):
                answer = device.request({"x": x})
                assert not answer.failures
                np.testing.assert_allclose(answer.outputs["y"], 36 * x, rtol=1e-5)


def test_a_line_that_was_cut_while_idle_is_replaced(bundle: Path) -> None:
    first = HostServer(bundle, "server")
    transport = GrpcTransport({"server": first.address}, max_message_bytes=LIMIT)
    assert transport.start("server", request("c1", bundle)).future.result(20)
    first.close(0.1)
    with HostServer(bundle, "server", first.address):
        assert transport.start("server", request("c1", bundle)).future.result(20)
    transport.close()


def test_answers_in_turn_on_one_line(line: socket.socket) -> None:
    for _ in range(3):
        answer = asked(line, question())
        (first, *_) = answer.tensors.values()
        assert first.shape == plans.sample()["x"].shape
    with pytest.raises(CallFailedError) as caught:
        asked(line, question(model="s9"))
    assert caught.value.kind is FailureKind.OTHER_BUNDLE
    assert asked(line, question()).model == "s1"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), max_size=6),
    st.integers(1, 100_000),
)
def test_messages_that_arrive_together_are_told_apart(
    sizes: list[tuple[int, bool]], piece: int
) -> None:
    near, far = socket.socketpair()
    with near, far:
        messages = [(bytes([n % 256]) * size, quiet) for n, (size, quiet) in enumerate(sizes)]
        whole = b"".join(b"".join(frames.framed([message], quiet)) for message, quiet in messages)

        def send() -> None:
            for start in range(0, len(whole), piece):
                near.sendall(whole[start : start + piece])

        sender = threading.Thread(target=send)
        sender.start()
        reader = frames.Reader(far)
        assert [(bytes(m), q) for m, q in (reader.message(1 << 20) for _ in messages)] == messages
        assert not reader.has_more
        sender.join()


def test_a_quiet_message_is_answered_only_if_it_is_refused(line: socket.socket) -> None:
    frames.write_message(line, [question()], is_quiet=True)
    frames.write_message(line, [question(model="s9")], is_quiet=True)
    refusal, is_quiet = frames.Reader(line).message(LIMIT)
    assert is_quiet
    with pytest.raises(CallFailedError) as caught:
        decode_stream_answer(memoryview(refusal))
    assert caught.value.kind is FailureKind.OTHER_BUNDLE
    assert asked(line, question()).model == "s1"


def test_what_was_refused_quietly_costs_no_later_request(server: HostServer, bundle: Path) -> None:
    transport = GrpcTransport({"server": server.address}, max_message_bytes=LIMIT)
    push = replace(request("c9", bundle), is_push=True)
    for _ in range(20):
        assert transport.start("server", push).future.result(20).received_bytes == 0
        assert transport.start("server", request("c1", bundle)).future.result(20).tensors
    transport.close()


def test_a_message_that_is_too_large_is_refused_in_a_sentence(line: socket.socket) -> None:
    line.sendall(struct.pack("!I", LIMIT + 1) + bytes(1000))
    with pytest.raises(CallFailedError, match=f"at most {LIMIT} are taken") as caught:
        decode_stream_answer(memoryview(frames.read_message(line, LIMIT)))
    assert caught.value.kind is FailureKind.BUSY


def test_a_message_that_no_line_carries(
    bundle: Path, server: HostServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "LARGEST_MESSAGE_BYTES", 100)
    transport = GrpcTransport({"server": server.address}, max_message_bytes=LIMIT)
    with pytest.raises(CallFailedError, match="larger than a line carries"):
        transport.start("server", request("c1", bundle)).future.result(20)
    transport.close()


def test_a_caller_hears_that_its_message_is_too_large(bundle: Path) -> None:
    with HostServer(bundle, "server", max_message_bytes=1 << 12) as server:
        transport = GrpcTransport({"server": server.address}, max_message_bytes=1 << 26)
        large = np.zeros((1 << 16, 64), np.float32)
        call = CallRequest("c1", "r", Bundle.open(bundle).identity, {"t": large}, 20.0)
        with pytest.raises(CallFailedError, match="at most 4096 are taken"):
            transport.start("server", call).future.result(20)
        transport.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"", b"p", b"partc-line/2\n\0\0", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n",
        bytes(50),
        frames.GREETING + b"\xff\xff" + bytes(10),
        frames.GREETING + b"\0\0",
        frames.GREETING + b"\0\0" + b"\0\0\0\5ab",
        frames.GREETING + b"\0\0" + b"\0\0\0\5abcde" + b"more",
        frames.GREETING + b"\0\0" + b"\0\0\0\0",
        frames.GREETING + b"\0\0" + b"\xff" * 200_000,
        b"\x16\x03\x01\x02\x00" + bytes(512),
    ],
)  # fmt: skip
def test_noise_harms_nobody_else(noise: bytes, server: HostServer, line: socket.socket) -> None:
    with connected(server) as other, contextlib.suppress(OSError):
        other.sendall(noise)
        other.shutdown(socket.SHUT_WR)
        other.settimeout(0.5)
        while other.recv(1 << 16):
            pass
    assert asked(line, question()).model == "s1"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"\xff\xff\xff\xff", FailureKind.ERROR),
        (b"\0\0\0\4nope", FailureKind.ERROR),
        (b"\0\0\0\4no", FailureKind.UNREACHABLE),
        (b"\0\0\0\1abcdef", FailureKind.ERROR),
        (b"", FailureKind.UNREACHABLE),
    ],
)
def test_an_answer_that_is_none(said: bytes, kind: FailureKind, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            caller, _ = listener.accept()
            with caller:
                assert frames.is_greeted(caller, None)
                caller.sendall(frames.WELCOME)
                frames.read_message(caller, LIMIT)
                caller.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        transport = GrpcTransport({"server": address}, max_message_bytes=LIMIT)
        error = transport.start("server", request("c1", bundle)).future.exception(20)
        thread.join()
        transport.close()
    assert isinstance(error, CallFailedError) and error.kind is kind


class TestWithCredentials:
    @pytest.fixture(scope="class")
    @classmethod
    def known(cls, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
        folder = tmp_path_factory.mktemp("credentials") / "c"
        make_credentials(folder, ["127.0.0.1"])
        return Credentials.load(folder)

    @pytest.fixture(scope="class")
    @classmethod
    def secured(cls, bundle: Path, known: Credentials) -> Iterator[HostServer]:
        with HostServer(bundle, "server", credentials=known, max_message_bytes=1 << 26) as running:
            yield running

    def calling(self, server: HostServer, credentials: Credentials | None) -> GrpcTransport:
        return GrpcTransport(
            {"server": server.address}, max_message_bytes=1 << 26, credentials=credentials
        )

    def failure(
        self, server: HostServer, credentials: Credentials | None, bundle: Path
    ) -> CallFailedError:
        transport = self.calling(server, credentials)
        error = transport.start("server", request("c1", bundle)).future.exception(20)
        transport.close()
        assert isinstance(error, CallFailedError)
        return error

    def test_lines_are_secured_too(
        self,
        secured: HostServer,
        known: Credentials,
        bundle: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delattr("partc.runtime.wire.client._Peer._start_by_grpc")
        x = np.random.default_rng(0).standard_normal((1 << 14, 64), np.float32)
        with open_bundle(bundle, transport=self.calling(secured, known)) as device:
            for feeds in (plans.sample(), {"x": x}, plans.sample()):
                answer = device.request(feeds)
                assert not answer.failures
                np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)

    def test_by_grpc_as_well(self, secured: HostServer, known: Credentials, bundle: Path) -> None:
        transport = GrpcTransport(
            {"server": secured.address},
            max_message_bytes=1 << 26,
            credentials=known,
            prefer_lines=False,
        )
        assert transport.start("server", request("c1", bundle)).future.result(20)
        transport.close()

    def test_without_credentials_nobody_comes_in(self, secured: HostServer, bundle: Path) -> None:
        assert self.failure(secured, None, bundle).kind is FailureKind.UNREACHABLE
        with connected(secured) as plain:
            plain.sendall(frames.greeting(None))
            with contextlib.suppress(OSError):
                assert frames.WELCOME not in plain.recv(1 << 16)

    def test_another_token_is_refused_by_name(
        self, secured: HostServer, known: Credentials, bundle: Path
    ) -> None:
        failure = self.failure(secured, replace(known, token="x" * 32), bundle)
        assert failure.kind is FailureKind.UNREACHABLE
        assert "asks for a token" in failure.reason

    def test_another_authority_is_refused(
        self, secured: HostServer, tmp_path: Path, bundle: Path
    ) -> None:
        make_credentials(tmp_path / "other", ["127.0.0.1"])
        others = Credentials.load(tmp_path / "other")
        assert self.failure(secured, others, bundle).kind is FailureKind.UNREACHABLE

    def test_a_caller_without_a_certificate_is_refused(
        self, secured: HostServer, known: Credentials, bundle: Path
    ) -> None:
        nameless = replace(known, client=None)
        assert self.failure(secured, nameless, bundle).kind is FailureKind.UNREACHABLE
