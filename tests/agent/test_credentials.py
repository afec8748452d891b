"""Credentials: how they are made, found and checked."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from partc.agent.authority import make_credentials
from partc.errors import UsageError
from partc.runtime.credentials import Credentials, find_credentials


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "credentials"
    make_credentials(folder, ["camera.lan", "192.168.0.7"])
    return folder


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
        (target / path.name).chmod(0o600)
    return target


def test_secrets_are_for_their_owner_alone(made: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "ca.key", "server.key", "client.key", "token",
    }  # fmt: skip
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_certificates_are_for_their_purpose_and_names(made: Path) -> None:
    server = x509.load_pem_x509_certificate((made / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "camera.lan" in names.get_values_for_type(x509.DNSName)
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {
        "192.168.0.7", "127.0.0.1", "::1",
    }  # fmt: skip
    client = x509.load_pem_x509_certificate((made / "client.pem").read_bytes())
    purpose = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    authority = x509.load_pem_x509_certificate((made / "ca.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    client.verify_directly_issued_by(authority)


def test_another_machine_by_the_same_authority(made: Path, tmp_path: Path) -> None:
    make_credentials(tmp_path / "other", ["other"], by=made)
    one, other = Credentials.load(made), Credentials.load(tmp_path / "other")
    assert (one.authority, one.token) == (other.authority, other.token)
    assert one.server != other.server
    assert not (tmp_path / "other" / "ca.key").exists()
    with pytest.raises(UsageError, match=r"ca\.key"):
        make_credentials(tmp_path / "third", by=tmp_path / "other")


def test_nothing_is_overwritten_unasked(made: Path, tmp_path: Path) -> None:
    before = (made / "token").read_bytes()
    with pytest.raises(UsageError, match="--force"):
        make_credentials(made)
    assert (made / "token").read_bytes() == before
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        make_credentials(tmp_path, force=True)
    again = copy(made, tmp_path / "again")
    make_credentials(again, force=True)
    assert (again / "token").read_bytes() != before


@pytest.mark.parametrize("name", ["", "a b", "*", "300.1.1.1", "http://a", "::zz"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name"):
        make_credentials(tmp_path / "c", [name])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("token", b"short\n", "not a token"),
        ("token", b"\xff" * 40, "not a token"),
        ("ca.pem", b"hello", "not a certificate"),
        ("server.pem", b"", "not a certificate"),
        ("client.key", b"-----BEGIN", "not a key"),
        ("ca.pem", b"a" * (2 << 20), "too large"),
    ],
)
def test_files_that_are_not_what_they_should_be(
    name: str, content: bytes, part: str, made: Path, tmp_path: Path
) -> None:
    folder = copy(made, tmp_path / "c")
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=part) as caught:
        Credentials.load(folder)
    assert name in str(caught.value)


def test_a_key_that_belongs_to_another_certificate(made: Path, tmp_path: Path) -> None:
    folder = copy(made, tmp_path / "c")
    (folder / "server.key").write_bytes((made / "client.key").read_bytes())
    with pytest.raises(UsageError, match=r"not the key of server\.pem"):
        Credentials.load(folder)


@pytest.mark.parametrize("name", ["token", "server.key", "client.key"])
def test_a_secret_that_others_can_read(name: str, made: Path, tmp_path: Path) -> None:
    folder = copy(made, tmp_path / "c")
    (folder / name).chmod(0o644)
    with pytest.raises(UsageError, match=f"{name}.*chmod 600"):
        Credentials.load(folder)


def test_an_expired_certificate(tmp_path: Path) -> None:
    make_credentials(tmp_path / "c", days=0)
    with pytest.raises(UsageError, match="expired on"):
        Credentials.load(tmp_path / "c")


def test_a_certificate_of_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import partc.agent.authority as authority

    with monkeypatch.context() as patch:
        patch.setattr(authority, "_CLOCK_TOLERANCE", datetime.timedelta(days=-10))
        make_credentials(tmp_path / "c")
    with pytest.raises(UsageError, match="set the clock"):
        Credentials.load(tmp_path / "c")


def test_where_credentials_are_looked_for(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARTC_CREDENTIALS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert find_credentials(None, ["camera.lan:1"]) is None
    (tmp_path / "config" / "partc").mkdir(parents=True)
    copy(made, tmp_path / "config" / "partc" / "credentials")
    found = find_credentials(None, ["camera.lan:1"])
    assert found is not None and found.covers("camera.lan:1") and not found.covers("127.0.0.1:1")
    assert find_credentials(None, ["127.0.0.1:1"]) is None
    monkeypatch.setenv("PARTC_CREDENTIALS", str(made))
    found = find_credentials(None, ["127.0.0.1:1"])
    assert found is not None and found.folder == made and found.covers("127.0.0.1:1")
    assert find_credentials(Path("none"), ["camera.lan:1"]) is None
    with pytest.raises(UsageError, match="does not exist"):
        find_credentials(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no credentials"):
        find_credentials(tmp_path / "empty")
