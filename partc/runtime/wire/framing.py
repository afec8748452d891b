"""Large tensors in and out of protobuf messages with one copy instead of three.

A message's fields may stand in any order and may be put together from pieces, so the small ones
are left to the protobuf library and the raw tensor contents are spliced in and cut out here.
What goes over the wire is an ordinary message that any client or server understands.
"""

from __future__ import annotations

from collections.abc import Sequence

from partc.errors import RequestError

Buffer = bytes | memoryview

REQUEST_RAW_FIELD = 7
RESPONSE_RAW_FIELD = 6

MAX_HEADER_BYTES = 4 << 20
MAX_FIELDS = 4096

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5

_ALIGNMENT = 16
_PADDING_FIELD = 15  # of no message here; who does not know a field passes over it
_LEAST_PADDING_BYTES = 2


def length_delimited(field: int, payload_bytes: int) -> bytes:
    """The tag and length that stand before a field's payload."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(payload_bytes)


def join(header: bytes, raw_field: int, raws: Sequence[Buffer]) -> bytes:
    """A serialised message: the small fields, then each raw content."""
    return b"".join(pieces(header, raw_field, raws))


def pieces(header: bytes, raw_field: int, raws: Sequence[Buffer], offset: int = 0) -> list[Buffer]:
    """The parts of a serialised message, not joined yet.

    Raw contents are aligned, so that who reads the message needs no copy of them.

    Args:
        offset: bytes that stand before the message.
    """
    parts: list[Buffer] = [header]
    position = offset + len(header)
    for raw in raws:
        before = length_delimited(raw_field, len(raw))
        before = _padding(position + len(before)) + before
        parts += (before, raw)
        position += len(before) + len(raw)
    return parts


def nested(field: int, header: bytes, raw_field: int, raws: Sequence[Buffer]) -> list[Buffer]:
    """`pieces` of a message that is itself one field of another."""
    offset = 0
    while True:
        parts = pieces(header, raw_field, raws, offset)
        before = length_delimited(field, sum(map(len, parts)))
        if len(before) <= offset:
            return [before, *parts]
        offset = len(before)


def split(message: Buffer, raw_field: int) -> tuple[bytes, list[memoryview]]:
    """The small fields of a serialised message, and its raw contents without a copy.

    Raises:
        RequestError: it is not a message, or its small fields are not small.
    """
    view = memoryview(message)
    small: list[memoryview] = []
    raws: list[memoryview] = []
    position = fields = 0
    while position < len(view):
        fields += 1
        if fields > MAX_FIELDS:
            raise RequestError(f"the message has more than {MAX_FIELDS} fields")
        start = position
        tag, position = _read_varint(view, position)
        position, payload_start = _field_end(view, position, tag & 7)
        if tag == raw_field << 3 | _LENGTH_DELIMITED:
            raws.append(view[payload_start:position])
        else:
            small.append(view[start:position])
    if sum(map(len, small)) > MAX_HEADER_BYTES:
        raise RequestError(
            f"the message has more than {MAX_HEADER_BYTES} bytes besides raw tensor contents; "
            "send large tensors as raw contents"
        )
    return b"".join(small), raws


def nested_field(message: Buffer, field: int) -> tuple[bytes, memoryview]:
    """The small fields of a message, and the payload of its one large sub-message."""
    view = memoryview(message)
    small, nested = split(view, field)
    return small, nested[0] if nested else view[:0]


def _padding(position: int) -> bytes:
    """A field without meaning, so that what begins at ``position`` is aligned behind it."""
    missing = -position % _ALIGNMENT
    if not missing:
        return b""
    if missing < _LEAST_PADDING_BYTES:
        missing += _ALIGNMENT
    zeros = bytes(missing - _LEAST_PADDING_BYTES)
    return length_delimited(_PADDING_FIELD, len(zeros)) + zeros


def _field_end(view: memoryview, position: int, wire_type: int) -> tuple[int, int]:
    if wire_type == _VARINT:
        return _read_varint(view, position)[1], position
    if wire_type == _LENGTH_DELIMITED:
        length, position = _read_varint(view, position)
        end = position + length
    elif wire_type == _FIXED64:
        end = position + 8
    elif wire_type == _FIXED32:
        end = position + 4
    else:
        raise RequestError("the message is not a protobuf message")
    if end > len(view):
        raise RequestError("the message ends within a field")
    return end, position


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise RequestError("the message ends within a number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise RequestError("the message is not a protobuf message")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
