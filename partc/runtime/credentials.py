"""Who a machine is to others, and whom it trusts: certificates, keys and a token in one folder.

=====================  ===========================================================================
``ca.pem``             the authority that all machines of a deployment trust
``ca.key``             its key, where it was made; only needed to make more certificates
``server.pem, .key``   shown by agents and hosts to those who call them
``client.pem, .key``   shown by those who call
``token``              a secret that callers send besides
=====================  ===========================================================================

A server asks callers for whatever its folder holds: a certificate of its authority where
``ca.pem`` is there, the token where ``token`` is there.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path

from partc.errors import UsageError
from partc.ir.address import is_loopback

VARIABLE = "PARTC_CREDENTIALS"
NONE = "none"
AUTHORITY, AUTHORITY_KEY, TOKEN = "ca.pem", "ca.key", "token"
SERVER, CLIENT = "server", "client"

_SHORTEST_TOKEN = 16
_LARGEST_FILE_BYTES = 1 << 20
_MAKE = "make credentials with partc agent --init"


@dataclass(frozen=True)
class KeyPair:
    """A certificate, with those that vouch for it, and its key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Credentials:
    """What one folder holds.

    Attributes:
        authority: certificate of the authority, PEM.
        token: the shared secret.
        everywhere: they were asked for, and so hold for loopback too.
    """

    folder: Path
    authority: bytes | None
    server: KeyPair | None
    client: KeyPair | None
    token: str | None
    everywhere: bool = True

    @classmethod
    def load(cls, folder: Path, everywhere: bool = True) -> Credentials:
        """Read and check a folder.

        Raises:
            UsageError: it is missing or empty, a file is not what its name says, has expired, or
                can be read by others.
        """
        if not folder.is_dir():
            raise UsageError(f"credentials folder {folder} does not exist; {_MAKE}")
        authority = _certificate(folder / AUTHORITY)
        server, client = _pair(folder, SERVER), _pair(folder, CLIENT)
        token = _token(folder / TOKEN)
        if authority is None and server is None and token is None:
            raise UsageError(f"credentials folder {folder} holds no credentials; {_MAKE}")
        return cls(folder, authority, server, client, token, everywhere)

    def covers(self, address: str) -> bool:
        """Whether connections to ``address`` use them."""
        return self.everywhere or not is_loopback(address)

    def can_serve(self) -> None:
        """Check that a server can ask callers who they are.

        Raises:
            UsageError: a file is missing for that.
        """
        if self.server is None:
            raise UsageError(
                f"credentials folder {self.folder} has no {SERVER}.pem and {SERVER}.key, which a "
                f"server shows to its callers; {_MAKE}"
            )
        if self.authority is None and self.token is None:
            raise UsageError(
                f"credentials folder {self.folder} has neither {AUTHORITY} nor {TOKEN}, so anybody "
                f"could call; {_MAKE}"
            )

    def can_call(self) -> None:
        """Check that a server can be recognised.

        Raises:
            UsageError: a file is missing for that.
        """
        if self.authority is None:
            raise UsageError(
                f"credentials folder {self.folder} has no {AUTHORITY}, by which servers are "
                "recognised; copy it from where partc agent --init made it"
            )


def default_folder() -> Path:
    """Where ``partc agent --init`` writes, and where they are looked for at last."""
    return user_config_path("partc") / "credentials"


def find_credentials(given: Path | None, addresses: Iterable[str] = ()) -> Credentials | None:
    """The credentials to use: those given, ``$PARTC_CREDENTIALS``, or those of the default folder.

    The default folder counts only where one of ``addresses`` is not of this machine. ``none``
    in place of a folder means that connections are open.

    Raises:
        UsageError: the folder is not usable.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        return None if str(named) == NONE else Credentials.load(named.expanduser())
    default = default_folder()
    if all(is_loopback(address) for address in addresses) or not default.is_dir():
        return None
    return Credentials.load(default, everywhere=False)


def _pair(folder: Path, name: str) -> KeyPair | None:
    certificate = _certificate(folder / f"{name}.pem")
    key_path = folder / f"{name}.key"
    key = _secret(key_path)
    if certificate is None or key is None:
        return None
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key_path} is not a key in PEM without a password; {_MAKE}") from error
    shown = x509.load_pem_x509_certificate(certificate).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != shown.public_bytes(*form):
        raise UsageError(f"{key_path} is not the key of {name}.pem beside it; {_MAKE}")
    return KeyPair(certificate, key)


def _certificate(path: Path) -> bytes | None:
    data = _read(path)
    if data is None:
        return None
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise UsageError(f"{path} is not a certificate in PEM; {_MAKE}") from error
    now = datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise UsageError(
            f"certificate {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; make a new "
            "one with partc agent --init --force"
        )
    if now < certificate.not_valid_before_utc:
        raise UsageError(
            f"certificate {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} only, "
            f"and this machine's clock says {now:%Y-%m-%d}; set the clock"
        )
    return data


def _token(path: Path) -> str | None:
    data = _secret(path)
    if data is None:
        return None
    text = data.decode("ascii", "replace").strip()
    if len(text) < _SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(
            f"{path} is not a token: at least {_SHORTEST_TOKEN} printable characters without "
            f"blanks; {_MAKE}"
        )
    return text


def _secret(path: Path) -> bytes | None:
    data = _read(path)
    if data is None:
        return None
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UsageError(
            f"{path} can be read or written by others (mode {mode:04o}); call chmod 600 {path}, "
            "and make a new one if somebody else may have seen it"
        )
    return data


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST_FILE_BYTES:
        raise UsageError(f"{path} is too large for what it should be; {_MAKE}")
    return data
