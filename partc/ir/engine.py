"""Engines: what one is built with, and what it is bound to. Plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""TensorRT and TensorRT-RTX write different formats: neither reads the other's."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]

_CAPABILITY = re.compile(r"^[0-9]{1,2}\.[0-9]$")
_FIRST_AMPERE = (8, 0)


def _capability(text: str) -> str:
    if not _CAPABILITY.match(text):
        raise ValueError(f"{text!r} is no compute capability; write it as 8.9")
    return text


Dimension = Annotated[int, Field(ge=0, le=2**31 - 1)]
Capability = Annotated[str, AfterValidator(_capability)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShapeRange(_Strict):
    """Shapes that an engine accepts for one input; ``opt`` is the one it is tuned for."""

    min: list[Dimension]
    opt: list[Dimension]
    max: list[Dimension]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError("min, opt and max need the same number of dimensions")
        for low, middle, high in zip(self.min, self.opt, self.max, strict=True):
            if not low <= middle <= high:
                raise ValueError("each dimension needs min <= opt <= max")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether it is one shape."""
        return self.min == self.max


class BuildOptions(_Strict):
    """What decides how fast an engine is, besides what it computes and on which machine.

    Attributes:
        hardware_compatibility: ``ampere_plus`` makes engines that any GPU from Ampere on runs,
            slower.
        version_compatible: newer versions of TensorRT run the engine too, slower.
        dla_core: build for this deep learning accelerator of a Jetson; what it cannot do runs on
            the GPU.
        workspace_mib: memory for the builder's scratch tensors; all there is if not given.
        optimization_level: how long the builder searches, 0 to 5.
    """

    hardware_compatibility: Literal["none", "ampere_plus"] = "none"
    version_compatible: bool = False
    dla_core: Annotated[int, Field(ge=0, le=7)] | None = None
    workspace_mib: Annotated[int, Field(ge=1, le=2**20)] | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3

    @property
    def changed(self) -> str:
        """What is not as it is by default, in one line: ``dla_core=0,optimization_level=5``."""
        given = {name: getattr(self, name) for name in BuildOptions.model_fields}
        return ",".join(
            f"{name}={str(value).lower()}"
            for name, value in sorted(given.items())
            if value != BuildOptions.model_fields[name].default
        )


class EngineOptions(BuildOptions):
    """What a user may say about the engines of a host: ``[hosts.NAME.engine]``.

    Attributes:
        compute_capabilities: GPUs to build for ahead of time, as ``8.6``; TensorRT-RTX alone can.
        shapes: input tensor of a segment -> least and largest shape, where dimensions are open.
    """

    compute_capabilities: tuple[Capability, ...] | None = None
    shapes: dict[str, tuple[tuple[Dimension, ...], tuple[Dimension, ...]]] = {}

    @property
    def build(self) -> BuildOptions:
        """Those of them by which any segment is built, and measured."""
        return BuildOptions(**{name: getattr(self, name) for name in BuildOptions.model_fields})


class EngineRecipe(BuildOptions):
    """Everything that decides what an engine is, besides the segment and the machine.

    Precision is no part of it: it is written into the segment's ONNX, and so in its digest.
    """

    flavour: Flavour
    shapes: dict[str, ShapeRange] = {}

    @classmethod
    def of(
        cls, flavour: Flavour, options: BuildOptions, shapes: Mapping[str, ShapeRange] | None = None
    ) -> Self:
        """How to build what ``options`` ask for."""
        given = {name: getattr(options, name) for name in BuildOptions.model_fields}
        return cls(flavour=flavour, shapes=dict(shapes or {}), **given)

    @property
    def sha256(self) -> str:
        """Digest of the recipe."""
        return _digest(self)


class Gpu(_Strict):
    """A GPU with what builds or runs engines on it.

    Attributes:
        version: of TensorRT or TensorRT-RTX, in full, as ``10.3.0.30``.
        compute_capability: as ``8.7``.
        platform: as ``linux-x86_64``, and ``linux-aarch64-tegra`` for a Jetson.
        name: for people.
        dla_cores: deep learning accelerators.
    """

    flavour: Flavour
    version: str
    compute_capability: Capability
    platform: str
    name: str = ""
    memory_mib: Annotated[int, Field(ge=0)] = 0
    dla_cores: Annotated[int, Field(ge=0)] = 0


class EngineKey(_Strict):
    """What an engine is bound to."""

    flavour: Flavour
    version: Annotated[str, Field(max_length=64)]
    compute_capability: Capability
    platform: Annotated[str, Field(max_length=64)]
    segment_sha256: Sha256
    recipe_sha256: Sha256

    @property
    def digest(self) -> str:
        """A name for the engine's file."""
        return _digest(self)


class EngineFile(_Strict):
    """An engine that was built: its key, and the file with its digest.

    Attributes:
        build_s: how long building took, where that is known.
        built_by: the agent on whose node it was built; empty for the machine that compiled.
    """

    key: EngineKey
    path: str
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)]
    build_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    built_by: Annotated[str, Field(max_length=300)] = ""


class EngineEntry(_Strict):
    """How one segment becomes an engine, and the engines that the bundle brings.

    Attributes:
        segment_sha256: of the segment's ONNX with its weights.
        precision: in which the segment was written; for people.
        state: ``built`` where the bundle brings engines, ``build_on_target`` where it does not.
        reason: why it does not.
        source: files of the ONNX that the engine is built from, the model first, where that is
            not the one that runs without an engine.
        golden: files with inputs and outputs of the segment, on which an engine is tested.
    """

    recipe: EngineRecipe
    segment_sha256: Sha256
    precision: Precision = "fp32"
    state: Literal["built", "build_on_target"]
    reason: str = ""
    built: list[EngineFile] = []
    source: list[str] = []
    golden: Annotated[list[str], Field(max_length=2)] = []

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.state == "built") != bool(self.built):
            raise ValueError("an engine is built where files are named, and nowhere else")
        for each in self.built:
            if (
                each.key.segment_sha256 != self.segment_sha256
                or each.key.recipe_sha256 != self.recipe.sha256
                or each.key.flavour != self.recipe.flavour
            ):
                raise ValueError(f"engine {each.path!r} is of another segment or recipe")
        return self

    def key_for(self, gpu: Gpu) -> EngineKey:
        """Of the engine that would be built on ``gpu``."""
        return engine_key(self.recipe, self.segment_sha256, gpu)


def engine_key(recipe: EngineRecipe, segment_sha256: str, gpu: Gpu) -> EngineKey:
    """Of the engine that a segment becomes by ``recipe`` on ``gpu``."""
    return EngineKey(
        flavour=recipe.flavour,
        version=gpu.version,
        compute_capability=gpu.compute_capability,
        platform=gpu.platform,
        segment_sha256=segment_sha256,
        recipe_sha256=recipe.sha256,
    )


def source_digest(sha256s: Iterable[str]) -> str:
    """Of a segment, by the digests of its ONNX file and of the files with weights it refers to."""
    return hashlib.sha256(json.dumps(list(sha256s)).encode()).hexdigest()


def mismatch(key: EngineKey, entry: EngineEntry, gpu: Gpu) -> str:
    """Why an engine must not be loaded on ``gpu`` for a segment; empty if it may.

    An exact match is required of everything, except where the recipe asked for an engine that
    other GPUs or newer versions run as well.
    """
    recipe = entry.recipe
    if key.segment_sha256 != entry.segment_sha256:
        return "it was built from another version of the segment"
    if key.recipe_sha256 != recipe.sha256:
        return "it was built by another recipe"
    if key.flavour != gpu.flavour:
        return f"it is a {key.flavour} engine and this machine has {gpu.flavour}"
    if key.platform != gpu.platform:
        return f"it was built for {key.platform} and this is {gpu.platform}"
    if key.version != gpu.version and not (
        recipe.version_compatible
        and key.flavour == "tensorrt"
        and _numbers(key.version) < _numbers(gpu.version)
    ):
        older = "older" if _numbers(key.version) < _numbers(gpu.version) else "newer"
        return (
            f"it was built by the {older} version {key.version} and this machine has {gpu.version}"
        )
    if key.compute_capability != gpu.compute_capability and not (
        recipe.hardware_compatibility == "ampere_plus"
        and min(_numbers(key.compute_capability), _numbers(gpu.compute_capability)) >= _FIRST_AMPERE
    ):
        return (
            f"it was built for compute capability {key.compute_capability} and this GPU has "
            f"{gpu.compute_capability}"
        )
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _digest(data: BaseModel) -> str:
    text = json.dumps(data.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
