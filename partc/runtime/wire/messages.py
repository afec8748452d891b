"""Requests and answers as messages of the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from partc.codecs import NONE, decode, encode
from partc.errors import RequestError
from partc.runtime.checking import dtype_name, shortened
from partc.runtime.models import ModelAnswer, ModelRequest
from partc.runtime.pacing import NATIVE, Pace
from partc.runtime.segments import numpy_dtype
from partc.runtime.transport import (
    CallFailedError,
    CallTime,
    FailureKind,
    GivingUp,
    PushTime,
    Report,
    SegmentTime,
)
from partc.runtime.wire import framing
from partc.runtime.wire.datatypes import datatype_of, dtype_of, element_count, from_raw, to_raw

Array = np.ndarray[Any, np.dtype[Any]]
Buffer = bytes | memoryview

_IDENTITY = "partc_bundle"
_REPORT = "partc_report"
_FAILURE = "partc_failure"
_BLAMED = "partc_failed_host"
_CODEC = "partc_codec"
_TIMEOUT_US = "timeout"

MAX_DECODED_BYTES = 256 << 20
"""A few compressed bytes could otherwise claim any amount of memory."""

_ERROR_FIELD, _ANSWER_FIELD = 1, 2

_CONTENTS_OF = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def encode_request(request: ModelRequest, pace: Pace = NATIVE) -> bytes:
    """A serialised ModelInferRequest; tensors are encoded at ``pace``."""
    return b"".join(request_pieces(request, pace))


def request_pieces(request: ModelRequest, pace: Pace = NATIVE) -> list[Buffer]:
    """The same in pieces, without a copy of tensors that travel as they are."""
    header = pb.ModelInferRequest(model_name=request.model, id=request.request)
    if request.identity:
        header.parameters[_IDENTITY].string_param = request.identity
    if request.time_left_s is not None:
        header.parameters[_TIMEOUT_US].int64_param = int(request.time_left_s * 1e6)
    for name in request.outputs:
        header.outputs.add(name=name)
    raws = [
        _add_tensor(header.inputs, name, array, request.codecs.get(name, NONE), pace)
        for name, array in request.tensors.items()
    ]
    return framing.pieces(header.SerializeToString(), framing.REQUEST_RAW_FIELD, raws)


def decode_request(
    message: Buffer, pace: Pace = NATIVE, giving_up: GivingUp | None = None
) -> ModelRequest:
    """What a ModelInferRequest asks for.

    Args:
        giving_up: says so when the caller no longer waits.

    Raises:
        RequestError: it is malformed.
    """
    header, raws = _parse(pb.ModelInferRequest, message, framing.REQUEST_RAW_FIELD)
    parameters = header.parameters
    timeout_us = parameters[_TIMEOUT_US].int64_param if _TIMEOUT_US in parameters else 0
    return ModelRequest(
        model=header.model_name,
        request=header.id,
        tensors=_tensors(header.inputs, raws, pace),
        outputs=tuple(output.name for output in header.outputs),
        identity=parameters[_IDENTITY].string_param if _IDENTITY in parameters else "",
        time_left_s=timeout_us / 1e6 if timeout_us > 0 else None,
        giving_up=giving_up,
    )


def request_label(message: Buffer) -> tuple[str, str]:
    """Model and id of a request, even a malformed one; empty where they are unreadable."""
    try:
        header, _ = _parse(pb.ModelInferRequest, message, framing.REQUEST_RAW_FIELD)
    except RequestError:
        return "", ""
    return header.model_name, header.id


def encode_answer(answer: ModelAnswer, pace: Pace = NATIVE) -> bytes:
    """A serialised ModelInferResponse."""
    return b"".join(framing.pieces(*_answer_parts(answer, pace)))


def encode_stream_answer(answer: ModelAnswer, pace: Pace = NATIVE) -> bytes:
    """A serialised ModelStreamInferResponse."""
    return b"".join(stream_answer_pieces(answer, pace))


def stream_answer_pieces(answer: ModelAnswer, pace: Pace = NATIVE) -> list[Buffer]:
    """The same in pieces, without a copy of tensors that travel as they are."""
    return framing.nested(_ANSWER_FIELD, *_answer_parts(answer, pace))


def encode_stream_failure(
    label: tuple[str, str], kind: FailureKind, sentence: str, blamed: str = ""
) -> bytes:
    """A serialised ModelStreamInferResponse that says why there is no answer."""
    response = pb.ModelStreamInferResponse(error_message=sentence)
    response.infer_response.model_name, response.infer_response.id = label
    response.infer_response.parameters[_FAILURE].string_param = kind.value
    if blamed:
        response.infer_response.parameters[_BLAMED].string_param = blamed
    return bytes(response.SerializeToString())


def decode_answer(message: Buffer, pace: Pace = NATIVE) -> ModelAnswer:
    """What a ModelInferResponse says.

    Raises:
        CallFailedError: it is not an answer.
    """
    try:
        header, raws = _parse(pb.ModelInferResponse, message, framing.RESPONSE_RAW_FIELD)
        tensors = _tensors(header.outputs, raws, pace)
        parameters = header.parameters
        report = _decode_report(parameters[_REPORT].string_param if _REPORT in parameters else "")
    except RequestError as error:
        raise CallFailedError(FailureKind.ERROR, f"its answer is malformed: {error}") from error
    return ModelAnswer(header.model_name, header.id, tensors, report)


def decode_stream_answer(message: Buffer, pace: Pace = NATIVE) -> ModelAnswer:
    """What a ModelStreamInferResponse says.

    Raises:
        CallFailedError: it is not an answer, or says why there is none.
    """
    blamed = ""
    try:
        rest, answer = framing.nested_field(message, _ANSWER_FIELD)
        failure = pb.ModelStreamInferResponse.FromString(rest).error_message
        if not failure:
            return decode_answer(answer, pace)
        header = pb.ModelInferResponse.FromString(bytes(answer))
        if _BLAMED in header.parameters:
            blamed = header.parameters[_BLAMED].string_param
        kind = FailureKind(header.parameters[_FAILURE].string_param)
    except (RequestError, DecodeError) as error:
        raise CallFailedError(FailureKind.ERROR, f"its answer is malformed: {error}") from error
    except ValueError:
        kind = FailureKind.ERROR
    raise CallFailedError(kind, failure, blamed or None)


def _parse(message_type: Any, message: Buffer, raw_field: int) -> tuple[Any, list[memoryview]]:
    header, raws = framing.split(message, raw_field)
    try:
        return message_type.FromString(header), raws
    except DecodeError as error:
        raise RequestError(f"the message is not a {message_type.DESCRIPTOR.name}") from error


def _answer_parts(answer: ModelAnswer, pace: Pace) -> tuple[bytes, int, list[Buffer]]:
    header = pb.ModelInferResponse(model_name=answer.model, model_version="1", id=answer.request)
    header.parameters[_REPORT].string_param = _encode_report(answer.report)
    raws = [
        _add_tensor(header.outputs, name, array, answer.codecs.get(name, NONE), pace)
        for name, array in answer.tensors.items()
    ]
    return header.SerializeToString(), framing.RESPONSE_RAW_FIELD, raws


def _add_tensor(fields: Any, name: str, array: Array, codec: str, pace: Pace) -> Buffer:
    field = fields.add(name=name, datatype=datatype_of(dtype_name(array)), shape=array.shape)
    if codec == NONE or array.nbytes > MAX_DECODED_BYTES:
        return to_raw(array)
    data, used = pace.run(lambda: encode(array, codec))
    if used != NONE:
        field.parameters[_CODEC].string_param = used
    return data


def _from_encoded(field: Any, shape: tuple[int, ...], raw: memoryview, pace: Pace) -> Array:
    dtype = dtype_of(field.datatype)
    size_bytes = element_count(field.name, shape) * numpy_dtype(dtype).itemsize
    if size_bytes > MAX_DECODED_BYTES:
        raise RequestError(
            f"input {shortened(field.name)!r} would take {size_bytes} bytes decoded; "
            f"at most {MAX_DECODED_BYTES} are, larger tensors travel as they are"
        )
    codec = field.parameters[_CODEC].string_param
    return pace.run(lambda: decode(bytes(raw), codec, dtype, shape))


def _tensors(fields: Any, raws: list[memoryview], pace: Pace) -> dict[str, Array]:
    if raws and len(raws) != len(fields):
        raise RequestError(
            f"the message has {len(fields)} tensors and {len(raws)} raw contents; "
            "give one for each, in the same order"
        )
    tensors: dict[str, Array] = {}
    for index, field in enumerate(fields):
        if field.name in tensors:
            raise RequestError(f"input {shortened(field.name)!r} is given twice")
        shape = tuple(field.shape)
        if raws and _CODEC in field.parameters:
            tensors[field.name] = _from_encoded(field, shape, raws[index], pace)
        elif raws:
            tensors[field.name] = from_raw(field.name, field.datatype, shape, raws[index])
        else:
            tensors[field.name] = _from_contents(field, shape)
    return tensors


def _from_contents(field: Any, shape: tuple[int, ...]) -> Array:
    dtype = numpy_dtype(dtype_of(field.datatype))
    if field.datatype not in _CONTENTS_OF:
        raise RequestError(
            f"input {shortened(field.name)!r} of datatype {field.datatype} "
            "must be given as raw contents"
        )
    values = getattr(field.contents, _CONTENTS_OF[field.datatype])
    if len(values) != element_count(field.name, shape):
        raise RequestError(
            f"input {shortened(field.name)!r} has shape {list(shape)} and {len(values)} elements"
        )
    try:
        if field.datatype == "BYTES":
            values = [value.decode() for value in values]
        return np.array(values, dtype=dtype).reshape(shape)
    except (OverflowError, UnicodeDecodeError) as error:
        raise RequestError(
            f"input {shortened(field.name)!r} holds a value that is no {field.datatype}: {error}"
        ) from error


def _encode_report(report: Report) -> str:
    return json.dumps(
        {
            "segments": [[t.segment, t.host, t.seconds] for t in report.segments],
            "calls": [
                [t.call, t.caller, t.host, t.seconds, t.sent_bytes, t.received_bytes]
                for t in report.calls
            ],
            "failures": report.failures,
            "pushes": [
                [t.push, t.sender, t.receiver, t.seconds, t.sent_bytes, t.received_bytes]
                for t in report.pushes
            ],
        }
    )


def _decode_report(text: str) -> Report:
    if not text:
        return Report()
    try:
        data: Mapping[str, Any] = json.loads(text)
        return Report(
            segments=[SegmentTime(str(s), str(h), float(t)) for s, h, t in data["segments"]],
            calls=[
                CallTime(str(c), str(f), str(h), float(t), int(out), int(back))
                for c, f, h, t, out, back in data["calls"]
            ],
            failures=[str(sentence) for sentence in data["failures"]],
            pushes=[
                PushTime(str(p), str(f), str(h), float(t), int(out), int(back))
                for p, f, h, t, out, back in data.get("pushes", ())
            ],
        )
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        raise RequestError(f"its report is not readable: {error}") from error
