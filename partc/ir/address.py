"""``HOST:PORT``: where something listens."""

from __future__ import annotations

import ipaddress
import re

_LARGEST_PORT = 65535
_NAME = re.compile(r"^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?$")
_DOTTED_NUMBERS = re.compile(r"^[0-9.]+$")


def split_address(text: str) -> tuple[str, int]:
    """Name or number of the machine, without brackets, and the port.

    Raises:
        ValueError: one clause that says what is wrong with ``text``.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port:
        raise ValueError(f"address {text!r} is not HOST:PORT, such as 127.0.0.1:8500")
    if not (port.isascii() and port.isdigit()) or int(port) > _LARGEST_PORT:
        raise ValueError(f"address {text!r}: port {port!r} is not a number from 0 to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed or ":" in bare:
        if not bracketed or not _is_ip(bare, 6):
            raise ValueError(
                f"address {text!r}: an IPv6 address stands in brackets, such as [::1]:8500"
            )
        return bare, int(port)
    if _DOTTED_NUMBERS.match(bare):
        if not _is_ip(bare, 4):
            raise ValueError(f"address {text!r}: {bare!r} is not an IPv4 address")
    elif len(bare) > 253 or not _NAME.match(bare):
        raise ValueError(f"address {text!r}: {bare!r} is not a host name")
    return bare, int(port)


def checked_address(text: str) -> str:
    """``text`` when another machine can be called there: an address with a port that is not 0.

    Raises:
        ValueError: one clause that says what is wrong with it.
    """
    if split_address(text)[1] == 0:
        raise ValueError(f"address {text!r} has port 0, which nothing can be called at")
    return text


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches ``HOST:PORT``, or ``HOST``."""
    try:
        host = split_address(address)[0]
    except ValueError:
        host = address.removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
