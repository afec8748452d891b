"""A bundle as a Triton model repository: a model for each segment, and one for the whole."""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partc.bundle.manifest import Artefact, HostEntry, SegmentEntry, TensorSpec
from partc.bundle.reader import Bundle
from partc.errors import BundleError, RequestError, UsageError
from partc.export.checking import CONFIG_NAME, VERSION, check_repository
from partc.runtime.wire.datatypes import datatype_of
from partc.runtime.wire.triton_config import config_text

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class TritonExport:
    """What was written.

    Attributes:
        models: names of the segments' models, in the order in which they run.
        ensemble: name of the model that is the whole; None where only one host was exported.
        notices: sentences for the user.
    """

    path: Path
    models: tuple[str, ...]
    ensemble: str | None
    notices: tuple[str, ...]


def export_triton(bundle: Bundle, output: Path, *, host: str | None = None) -> TritonExport:
    """Write the repository; the folder appears whole or not at all.

    Args:
        host: export its segments alone, without an ensemble; all segments if None.

    Raises:
        UsageError: ``output`` exists, or the bundle has no such host.
        BundleError: a file was changed, or a segment is nothing that Triton can hold.
    """
    if host is not None:
        bundle.host(host)
    if output.exists() or output.is_symlink():
        raise UsageError(f"output {output} exists; choose another name")
    bundle.check()
    staging = output.absolute().with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        staging.mkdir(parents=True)
        export = _Writer(bundle, staging, host).write(output)
        check_repository(staging)
        staging.rename(output)
    except OSError as error:
        raise BundleError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return export


class _Writer:
    def __init__(self, bundle: Bundle, folder: Path, host: str | None) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._folder = folder
        self._host = host
        self._prefix = _NAME.sub("_", self._manifest.model.name)[:64] or "model"
        self._notices: list[str] = []

    def write(self, output: Path) -> TritonExport:
        models: list[str] = []
        for segment in self._manifest.plan.segments:
            if self._host in (None, segment.host):
                self._write_segment(segment)
                models.append(self._name(segment))
        ensemble = None
        if self._host is None:
            ensemble = self._write_ensemble()
            if any(transfer.codec != "none" for transfer in self._manifest.plan.transfers):
                self._notices.append(
                    "codecs are left out: an ensemble runs in one server and sends nothing"
                )
        return TritonExport(output, tuple(models), ensemble, tuple(self._notices))

    def _name(self, segment: SegmentEntry) -> str:
        return f"{self._prefix}_{segment.id}"

    def _write_segment(self, segment: SegmentEntry) -> None:
        host = self._manifest.hosts[segment.host]
        folder = self._folder / self._name(segment)
        version = folder / VERSION
        version.mkdir(parents=True)
        config = {
            "name": self._name(segment),
            "max_batch_size": 0,
            "input": [self._tensor(name) for name in segment.inputs],
            "output": [self._tensor(name) for name in segment.outputs],
        }
        engines = self._copy_engines(segment, host, version)
        if engines:
            config |= {
                "platform": "tensorrt_plan",
                "backend": "tensorrt",
                "cc_model_filenames": engines,
                "default_model_filename": next(iter(engines.values())),
                "instance_group": [{"kind": "KIND_GPU", "count": 1}],
            }
        else:
            self._copy_onnx(host.artefacts[segment.id], version)
            config |= {
                "backend": "onnxruntime",
                "default_model_filename": "model.onnx",
                "instance_group": [{"kind": _kind(host, segment.id), "count": 1}],
                "parameters": {
                    "intra_op_thread_count": {"string_value": str(host.threads)},
                    "inter_op_thread_count": {"string_value": "1"},
                },
            }
            if _is_for_tensorrt(host, segment.id):
                # Triton's onnxruntime builds the engine itself, on the machine that it is on.
                accelerator = {"name": "tensorrt", "parameters": {"trt_engine_cache_enable": "1"}}
                config["optimization"] = {
                    "execution_accelerators": {"gpu_execution_accelerator": [accelerator]}
                }
        (folder / CONFIG_NAME).write_text(config_text(config), encoding="utf-8")

    def _copy_engines(
        self, segment: SegmentEntry, host: HostEntry, version: Path
    ) -> dict[str, str]:
        """Compute capability -> file, of engines that Triton can load."""
        entry = host.engines.get(segment.id)
        if entry is None or not entry.built:
            return {}
        if entry.recipe.flavour != "tensorrt":
            self._notices.append(
                f"segment {segment.id!r} goes as ONNX: Triton loads engines of TensorRT, not of "
                "TensorRT-RTX"
            )
            return {}
        found: dict[str, str] = {}
        for file in entry.built:
            capability = file.key.compute_capability
            name = f"model.sm{capability.replace('.', '')}.plan"
            shutil.copyfile(self._bundle.path / file.path, version / name)
            found[capability] = name
        return found

    def _copy_onnx(self, artefact: Artefact, version: Path) -> None:
        shutil.copyfile(self._bundle.path / artefact.path, version / "model.onnx")
        for data in artefact.data:
            shutil.copyfile(self._bundle.path / data, version / Path(data).name)

    def _write_ensemble(self) -> str:
        manifest = self._manifest
        made = {name for segment in manifest.plan.segments for name in segment.outputs}
        for spec in manifest.model.outputs:
            if spec.name not in made:
                raise BundleError(
                    f"output {spec.name!r} is an input handed on as it is, which no ensemble of "
                    "Triton can do; export the segments of one host with --host"
                )
        steps = [
            {
                "model_name": self._name(segment),
                "model_version": -1,
                "input_map": {name: name for name in segment.inputs},
                "output_map": {name: name for name in segment.outputs},
            }
            for segment in manifest.plan.segments
        ]
        config = {
            "name": self._prefix,
            "platform": "ensemble",
            "max_batch_size": 0,
            "input": [self._tensor(spec.name) for spec in manifest.model.inputs],
            "output": [self._tensor(spec.name) for spec in manifest.model.outputs],
            "ensemble_scheduling": {"step": steps},
        }
        folder = self._folder / self._prefix
        # Triton wants a version of an ensemble too, in which there is nothing.
        (folder / VERSION).mkdir(parents=True)
        (folder / CONFIG_NAME).write_text(config_text(config), encoding="utf-8")
        return self._prefix

    def _tensor(self, name: str) -> dict[str, Any]:
        return triton_tensor(self._manifest.tensors[name])


def triton_tensor(spec: TensorSpec) -> dict[str, Any]:
    """Name, type and dimensions as Triton writes them.

    Raises:
        BundleError: Triton has no such type, or the number of dimensions is unknown.
    """
    try:
        kind = datatype_of(spec.dtype)
    except RequestError as error:
        raise BundleError(f"tensor {spec.name!r}: {error}") from error
    if spec.shape is None:
        raise BundleError(
            f"tensor {spec.name!r} has an unknown number of dimensions, which Triton has to know"
        )
    tensor: dict[str, Any] = {
        "name": spec.name,
        "data_type": f"TYPE_{'STRING' if kind == 'BYTES' else kind}",
        "dims": [dim if isinstance(dim, int) and dim > 0 else -1 for dim in spec.shape],
    }
    if not spec.shape:  # Triton has no tensors without dimensions, but models may.
        tensor |= {"dims": [1], "reshape": {"shape": []}}
    return tensor


def _is_for_tensorrt(host: HostEntry, segment: str) -> bool:
    entry = host.engines.get(segment)
    return entry is not None and entry.recipe.flavour == "tensorrt"


def _kind(host: HostEntry, segment: str) -> str:
    return "KIND_GPU" if segment in host.engines else "KIND_CPU"
