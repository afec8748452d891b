"""Triton's ``config.pbtxt``, by Triton's own message definition."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from partc.errors import BundleError


def config_text(config: dict[str, Any]) -> str:
    """Plain data as ``config.pbtxt``.

    Raises:
        BundleError: Triton has no such key, or another type for it.
    """
    try:
        message = json_format.ParseDict(config, pb.ModelConfig())
    except json_format.ParseError as error:
        raise BundleError(f"this is no configuration for Triton: {error}") from error
    return str(text_format.MessageToString(message))


def read_config(text: str) -> dict[str, Any]:
    """``config.pbtxt`` as plain data, with the names of the file.

    Raises:
        BundleError: Triton would not read it.
    """
    try:
        message = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise BundleError(f"Triton would not read this configuration: {error}") from error
    read: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return read
