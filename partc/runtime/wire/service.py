"""The methods of GRPCInferenceService that a host offers, and what each error becomes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from partc.bundle.manifest import TensorSpec
from partc.errors import PartcError
from partc.runtime.models import HostedModels, ModelAnswer, Models, blamed, explain
from partc.runtime.transport import CallFailedError, FailureKind, GivingUp
from partc.runtime.wire.client import SERVICE
from partc.runtime.wire.datatypes import datatype_of
from partc.runtime.wire.framing import Buffer
from partc.runtime.wire.messages import (
    decode_request,
    encode_answer,
    encode_stream_failure,
    request_label,
    stream_answer_pieces,
)

_STATUS_OF_KIND = {
    FailureKind.REFUSED: grpc.StatusCode.INVALID_ARGUMENT,
    FailureKind.OTHER_BUNDLE: grpc.StatusCode.NOT_FOUND,
    FailureKind.LOST_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    FailureKind.PEER: grpc.StatusCode.ABORTED,
    FailureKind.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FailureKind.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class InferenceService:
    """Answers requests for the models of one host."""

    def __init__(self, models: Models, host: str) -> None:
        self._models = models
        self._host = host

    def handler(self) -> grpc.GenericRpcHandler:
        """For `grpc.Server.add_generic_rpc_handlers`."""
        plain = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=request_type.FromString,
                response_serializer=_serialised,
            )
            for name, (method, request_type) in plain.items()
        }
        # Inference messages pass gRPC as they are; `messages` reads and makes them.
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._infer_stream)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _server_live(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=True)

    def _server_metadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(
            name=f"partc host {self._host}", version=partc_version(), extensions=[]
        )

    def _model_ready(self, request: Any, context: Any) -> Any:
        return pb.ModelReadyResponse(ready=request.name in self._models.names)

    def _model_metadata(self, request: Any, context: Any) -> Any:
        try:
            inputs, outputs = self._models.signature(request.name)
            return pb.ModelMetadataResponse(
                name=request.name,
                versions=["1"],
                platform=_platform(self._models, request.name),
                inputs=[_tensor_metadata(spec) for spec in inputs],
                outputs=[_tensor_metadata(spec) for spec in outputs],
            )
        except (CallFailedError, PartcError) as error:
            kind, sentence = explain(error)
            context.abort(status_of(kind), sentence)

    def answer(
        self, message: bytes | memoryview, giving_up: GivingUp, is_quiet: bool = False
    ) -> list[Buffer]:
        """The ModelStreamInferResponse to a ModelInferRequest, in pieces.

        Args:
            is_quiet: only a failure is answered; otherwise there is nothing to say.
        """
        try:
            found = self._answer(message, giving_up)
            return [] if is_quiet else stream_answer_pieces(found, self._models.pace)
        except Exception as error:
            label = request_label(message)
            return [encode_stream_failure(label, *explain(error), blamed(error))]

    def _infer(self, message: bytes, context: Any) -> bytes | None:
        try:
            answer = self._answer(message, _Caller(context).waits())
            return encode_answer(answer, self._models.pace)
        except Exception as error:
            kind, sentence = explain(error)
        context.abort(status_of(kind), sentence)
        return None

    def _answer(self, message: bytes | memoryview, giving_up: GivingUp) -> ModelAnswer:
        return self._models.answer(decode_request(message, self._models.pace, giving_up))

    def _infer_stream(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        caller = _Caller(context)
        for message in messages:
            yield b"".join(self.answer(message, caller.waits()))


class _Caller:
    """Whoever made a call of gRPC, which may bring many requests, one at a time."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._now: GivingUp | None = None
        context.add_callback(self._is_gone)

    def waits(self) -> GivingUp:
        """For the next request: says so when the caller is gone."""
        self._now = giving_up = GivingUp()
        if not self._context.is_active():
            giving_up.set()
        return giving_up

    def _is_gone(self) -> None:
        if self._now is not None:
            self._now.set()


def status_of(kind: FailureKind) -> grpc.StatusCode:
    """The gRPC status of a failure."""
    return _STATUS_OF_KIND.get(kind, grpc.StatusCode.INTERNAL)


def partc_version() -> str:
    """Of the installed package."""
    try:
        return version("partc")
    except PackageNotFoundError:
        return "unknown"


def _serialised(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _platform(models: Models, name: str) -> str:
    return models.platform(name) if isinstance(models, HostedModels) else "partc"


def _tensor_metadata(spec: TensorSpec) -> Any:
    shape = [-1] if spec.shape is None else [d if isinstance(d, int) else -1 for d in spec.shape]
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=datatype_of(spec.dtype), shape=shape
    )
