"""Kubernetes manifests with which KServe serves an exported repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from partc.bundle.reader import Bundle
from partc.errors import BundleError, UsageError

_SCHEMES = ("gs", "s3", "https", "hdfs", "pvc", "oci", "azure")
_UNUSUAL = re.compile(r"[^a-z0-9]+")


def kserve_manifest(bundle: Bundle, storage_uri: str, *, host: str | None = None) -> str:
    """An InferenceService as YAML (of the part that is JSON).

    KServe's own Triton runtime serves the repository that ``partc export --triton`` wrote, from
    where it was uploaded to.

    Args:
        storage_uri: where the repository can be fetched, as ``s3://bucket/folder``.
        host: the host whose segments were exported; None where all were.

    Raises:
        UsageError: ``storage_uri`` is none that KServe reads, or there is no such host.
    """
    parts = urlsplit(storage_uri)
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.path):
        raise UsageError(
            f"{storage_uri!r} is no address that KServe fetches models from; "
            f"use one that begins with {', '.join(f'{each}://' for each in _SCHEMES)}"
        )
    if host is not None:
        bundle.host(host)
    hosts = bundle.manifest.hosts
    chosen = [hosts[host]] if host is not None else list(hosts.values())
    label = f"{bundle.manifest.model.name}-{host}" if host else bundle.manifest.model.name
    model: dict[str, object] = {
        "modelFormat": {"name": "triton"},
        "protocolVersion": "v2",
        "storageUri": storage_uri,
    }
    if any(each.engines for each in chosen):
        model["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(label),
            "annotations": {"partc.bundle": bundle.identity},
        },
        "spec": {"predictor": {"model": model}},
    }
    return json.dumps(service, indent=2) + "\n"


def service_name(text: str) -> str:
    """A name that Kubernetes accepts: lower case, at most 63 characters."""
    name = _UNUSUAL.sub("-", text.lower()).strip("-")[:55].strip("-")
    return f"partc-{name}" if name else "partc-model"


def write_manifest(path: Path, text: str) -> None:
    """Write a new file.

    Raises:
        UsageError: it exists.
        BundleError: it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"output {path} exists; choose another name") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror or error}") from error
