"""Makes credentials: an authority of one's own, certificates by it, and a token."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import shutil
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from partc.errors import UsageError
from partc.ir.address import split_address
from partc.runtime.credentials import AUTHORITY, AUTHORITY_KEY, CLIENT, SERVER, TOKEN, Credentials

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")
DAYS = 825
_AUTHORITY_DAYS = 3650
_CLOCK_TOLERANCE = datetime.timedelta(hours=1)
_FILES = (
    AUTHORITY, AUTHORITY_KEY, TOKEN,
    *(f"{name}.{kind}" for name in (SERVER, CLIENT) for kind in ("pem", "key")),
)  # fmt: skip


def make_credentials(
    folder: Path,
    names: Sequence[str] = (),
    *,
    by: Path | None = None,
    days: int = DAYS,
    force: bool = False,
) -> tuple[str, ...]:
    """Write a folder of credentials, whole or not at all.

    Args:
        names: host names and numbers under which the machine is called; its own name if none.
        by: a folder with an authority's key, whose authority and token are used again, so that
            its machines and this one trust each other; a new authority is made if None.
        force: replace credentials that are there.

    Returns:
        Every name that the server's certificate is for.

    Raises:
        UsageError: there are some already, a name is none, or ``by`` has no key.
    """
    known = tuple(dict.fromkeys((*(names or (socket.gethostname(),)), *ALWAYS_NAMED)))
    for name in known:
        _checked_name(name)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; choose another name with --credentials")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UsageError(
            f"credentials folder {folder} is not empty; choose another one with --credentials, or "
            "replace what is there with --force"
        )
    if folder.is_dir() and (strange := {p.name for p in folder.iterdir()} - set(_FILES)):
        raise UsageError(
            f"credentials folder {folder} holds {sorted(strange)[0]!r}, which partc did not make; "
            "choose another folder with --credentials"
        )
    authority, key = _authority_of(by) if by is not None else _new_authority()
    token = _token_of(by) if by is not None else secrets.token_urlsafe(32)
    files = {AUTHORITY: _certificate_pem(authority), TOKEN: f"{token}\n".encode()}
    if by is None:
        files[AUTHORITY_KEY] = _key_pem(key)
    for name in (SERVER, CLIENT):
        own, own_key = _issued(authority, key, name, known, days)
        files |= {f"{name}.pem": _certificate_pem(own), f"{name}.key": _key_pem(own_key)}
    _write(folder, files)
    return known


def _checked_name(name: str) -> None:
    try:
        if ":" in name:
            ipaddress.ip_address(name)
        else:
            split_address(f"{name}:1")
    except ValueError:
        raise UsageError(f"--name {name!r} is neither a host name nor an IP address") from None


def _new_authority() -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509

    key = _new_key()
    name = f"partc authority {uuid.uuid4().hex[:8]}"
    builder = (
        _builder(name, key, _AUTHORITY_DAYS)
        .issuer_name(_subject(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return _signed(builder.add_extension(usage, critical=True), key, key), key


def _issued(
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    kind: str,
    names: Sequence[str],
    days: int,
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _new_key()
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if kind == SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(f"partc {kind} {names[0]}"[:64], key, days)
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    if kind == SERVER:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return _signed(builder, key, authority_key), key


def _builder(subject: str, key: EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_TOLERANCE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _subject(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(
    builder: x509.CertificateBuilder,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(signer, SHA256())


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_of(folder: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    authority = Credentials.load(folder).authority
    try:
        key = load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"--authority {folder} has no usable {AUTHORITY_KEY}; name the folder in which partc "
            "agent --init made the authority"
        ) from error
    if authority is None or not isinstance(key, EllipticCurvePrivateKey):
        raise UsageError(f"--authority {folder} has no authority made by partc agent --init")
    certificate = x509.load_pem_x509_certificate(authority)
    if certificate.public_key() != key.public_key():
        raise UsageError(f"{AUTHORITY_KEY} of {folder} is not the key of its {AUTHORITY}")
    return certificate, key


def _token_of(folder: Path) -> str:
    token = Credentials.load(folder).token
    if token is None:
        raise UsageError(f"--authority {folder} has no {TOKEN}; it must be shared by all machines")
    return token


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder = folder.absolute()
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir(mode=0o700)
        for name, data in files.items():
            mode = 0o644 if name.endswith(".pem") else 0o600
            opened = os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(opened, "wb") as file:
                file.write(data)
        if folder.is_dir():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        staging.rename(folder)
    except OSError as error:
        raise UsageError(
            f"credentials cannot be written to {folder}: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
