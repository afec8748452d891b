"""Who may talk to whom: a host served with credentials, and devices that have others, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme

from partc.agent.authority import make_credentials
from partc.errors import UsageError
from partc.runtime.credentials import Credentials
from partc.runtime.device import open_bundle
from partc.runtime.server import HostServer
from tests.runtime import plans
from tests.runtime.handmade import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"), plans.two_hosts())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "credentials"
    make_credentials(folder)
    return folder


@pytest.fixture(scope="module")
def address(bundle: Path, made: Path) -> Iterator[str]:
    with HostServer(bundle, "server", credentials=Credentials.load(made)) as server:
        yield server.address


def failures(bundle: Path, address: str, credentials: Credentials | None) -> str:
    """What the device says of a request; it has the right answer in any case."""
    opened = open_bundle(bundle, addresses={"server": address}, credentials=credentials)
    with opened as device:
        feeds = plans.sample()
        answer = device.request(feeds)
        np.testing.assert_allclose(answer.outputs["y"], 6 * feeds["x"], rtol=1e-5)
        return " ".join(answer.failures)


def variant(made: Path, folder: Path, *without: str) -> Path:
    shutil.copytree(made, folder)
    for name in without:
        (folder / name).unlink()
    return folder


def test_both_ends_with_the_same_credentials(bundle: Path, made: Path, address: str) -> None:
    assert failures(bundle, address, Credentials.load(made)) == ""


def test_no_credentials(bundle: Path, address: str) -> None:
    assert "asks for credentials; give --credentials" in failures(bundle, address, None)


def test_a_wrong_token(bundle: Path, made: Path, address: str) -> None:
    wrong = replace(Credentials.load(made), token="x" * 40)
    assert "asks for a token" in failures(bundle, address, wrong)


def test_no_token(bundle: Path, made: Path, address: str, tmp_path: Path) -> None:
    folder = variant(made, tmp_path / "c", "token")
    assert "asks for a token" in failures(bundle, address, Credentials.load(folder))


def test_no_client_certificate(bundle: Path, made: Path, address: str, tmp_path: Path) -> None:
    folder = variant(made, tmp_path / "c", "client.pem")
    said = failures(bundle, address, Credentials.load(folder))
    assert "asks for a certificate, and" in said and "has no client.pem" in said


def test_an_authority_of_somebody_else(
    bundle: Path, made: Path, address: str, tmp_path: Path
) -> None:
    make_credentials(tmp_path / "other")
    said = failures(bundle, address, Credentials.load(tmp_path / "other"))
    assert "is not of the authority that this machine trusts" in said


def test_a_client_certificate_of_somebody_else(
    bundle: Path, made: Path, address: str, tmp_path: Path
) -> None:
    make_credentials(tmp_path / "other")
    folder = variant(made, tmp_path / "c")
    for name in ("client.pem", "client.key"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    assert "does not accept this machine's certificate" in failures(
        bundle, address, Credentials.load(folder)
    )


def test_a_servers_certificate_does_not_do_for_a_caller(
    bundle: Path, made: Path, address: str, tmp_path: Path
) -> None:
    folder = variant(made, tmp_path / "c")
    for kind in ("pem", "key"):
        shutil.copy(made / f"server.{kind}", folder / f"client.{kind}")
    assert "does not accept this machine's certificate" in failures(
        bundle, address, Credentials.load(folder)
    )


def served_by(folder: Path, authority: trustme.CA, certificate: trustme.LeafCert) -> Path:
    """Credentials of another maker than partc."""
    folder.mkdir()
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "server.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    (folder / "server.key").write_bytes(certificate.private_key_pem.bytes())
    client = authority.issue_cert("client")
    (folder / "client.pem").write_bytes(client.cert_chain_pems[0].bytes())
    (folder / "client.key").write_bytes(client.private_key_pem.bytes())
    for path in folder.glob("*.key"):
        path.chmod(0o600)
    return folder


def test_credentials_of_another_maker(bundle: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    folder = served_by(tmp_path / "c", authority, authority.issue_cert("127.0.0.1"))
    with HostServer(bundle, "server", credentials=Credentials.load(folder)) as server:
        assert failures(bundle, server.address, Credentials.load(folder)) == ""


def test_a_certificate_for_another_name(bundle: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    folder = served_by(tmp_path / "c", authority, authority.issue_cert("camera.lan"))
    with HostServer(bundle, "server", credentials=Credentials.load(folder)) as server:
        said = failures(bundle, server.address, Credentials.load(folder))
    assert "is for other names" in said and "--name" in said


def test_a_server_whose_certificate_expires_while_it_runs(bundle: Path, tmp_path: Path) -> None:
    import datetime

    authority = trustme.CA()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = authority.issue_cert("127.0.0.1", not_after=past)
    good = authority.issue_cert("127.0.0.1")
    loaded = Credentials.load(served_by(tmp_path / "c", authority, good))
    assert loaded.server is not None
    shown = replace(
        loaded,
        server=replace(
            loaded.server,
            certificate=expired.cert_chain_pems[0].bytes(),
            key=expired.private_key_pem.bytes(),
        ),
    )
    with HostServer(bundle, "server", credentials=shown) as server:
        assert "has expired" in failures(bundle, server.address, loaded)


def test_a_host_that_speaks_no_tls(bundle: Path, made: Path) -> None:
    with HostServer(bundle, "server") as server:
        assert "speaks no TLS" in failures(bundle, server.address, Credentials.load(made))


def test_other_machines_are_let_in_only_with_credentials(
    bundle: Path, made: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--credentials"):
        HostServer(bundle, "server", "0.0.0.0:0")
    with HostServer(bundle, "server", "0.0.0.0:0", credentials=Credentials.load(made)) as server:
        port = server.address.rpartition(":")[2]
        assert failures(bundle, f"127.0.0.1:{port}", Credentials.load(made)) == ""
    for without, part in ((("server.key",), "server"), (("ca.pem", "token"), "anybody")):
        folder = variant(made, tmp_path / without[0], *without)
        with pytest.raises(UsageError, match=part):
            HostServer(bundle, "server", "0.0.0.0:0", credentials=Credentials.load(folder))


def test_a_token_alone_will_do(bundle: Path, made: Path, tmp_path: Path) -> None:
    """A server without ca.pem asks for the token only."""
    serving = Credentials.load(variant(made, tmp_path / "server", "ca.pem", "ca.key"))
    calling = Credentials.load(variant(made, tmp_path / "client", "client.pem", "client.key"))
    with HostServer(bundle, "server", credentials=serving) as server:
        assert failures(bundle, server.address, calling) == ""
        said = failures(bundle, server.address, replace(calling, token=None))
        assert "asks for a token" in said


def test_a_token_is_never_sent_in_the_open(bundle: Path, made: Path) -> None:
    """gRPC itself refuses to send it; a server that speaks no TLS sees not a byte of it."""
    import socket
    import threading

    seen = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.5)
                try:
                    while chunk := connection.recv(4096):
                        seen.extend(chunk)
                except OSError:
                    pass

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    loaded = Credentials.load(made)
    assert loaded.token is not None
    failures(bundle, f"127.0.0.1:{listener.getsockname()[1]}", loaded)
    listener.close()
    assert seen
    assert loaded.token.encode() not in seen


def test_a_call_without_token_by_an_ordinary_client(made: Path, address: str) -> None:
    loaded = Credentials.load(made)
    assert loaded.client is not None
    secured = grpc.ssl_channel_credentials(
        loaded.authority, loaded.client.key, loaded.client.certificate
    )
    with grpc.secure_channel(address, secured) as channel:
        for method in ("ServerLive", "ModelInfer"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for value in ("Bearer ", "Basic x", "Bearer " + "x" * 5000, loaded.token or ""):
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10, metadata=(("authorization", value),))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
