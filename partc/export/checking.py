"""Whether Triton could serve a model repository: what its own reader cannot tell from one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from partc.errors import BundleError
from partc.runtime.wire.triton_config import read_config

CONFIG_NAME, VERSION = "config.pbtxt", "1"

_TRITON_TYPES = {
    "BOOL": "TYPE_BOOL", "UINT8": "TYPE_UINT8", "UINT16": "TYPE_UINT16", "UINT32": "TYPE_UINT32",
    "UINT64": "TYPE_UINT64", "INT8": "TYPE_INT8", "INT16": "TYPE_INT16", "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64", "FLOAT16": "TYPE_FP16", "FLOAT": "TYPE_FP32", "DOUBLE": "TYPE_FP64",
    "STRING": "TYPE_STRING", "BFLOAT16": "TYPE_BF16",
}  # fmt: skip

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> Triton's type and dimensions."""


def check_repository(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every configuration, and hold them against each other and against the models' files.

    Returns:
        Model -> configuration.

    Raises:
        BundleError: the first thing that Triton would refuse, or run wrongly.
    """
    configs: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        file = path / CONFIG_NAME
        if not file.is_file():
            raise BundleError(f"model {path.name!r} of {folder} has no {CONFIG_NAME}")
        config = read_config(file.read_text(encoding="utf-8"))
        if config.get("name") != path.name:
            raise BundleError(f"model {path.name!r} calls itself {config.get('name')!r}")
        configs[path.name] = config
    for name, config in configs.items():
        if not (folder / name / VERSION).is_dir():
            raise BundleError(f"model {name!r} has no version {VERSION}")
        if "ensemble_scheduling" in config:
            _check_ensemble(name, config, configs)
        else:
            _check_files(folder / name, config)
    return configs


def tensors_of(config: Mapping[str, Any], side: str) -> Tensors:
    """Inputs or outputs of a configuration.

    Raises:
        BundleError: two have one name, or one has no dimensions.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in config.get(side, []):
        dims = tuple(int(dim) for dim in tensor.get("dims", []))
        where = f"model {config['name']!r}, {side} {tensor['name']!r}"
        if tensor["name"] in found:
            raise BundleError(f"{where} is there twice")
        if not dims or any(dim == 0 or dim < -1 for dim in dims):
            raise BundleError(f"{where} has dimensions {dims}, which Triton refuses")
        found[tensor["name"]] = (tensor.get("data_type", "TYPE_INVALID"), dims)
    return found


def _check_ensemble(
    name: str, config: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]
) -> None:
    known: dict[str, tuple[str, tuple[int, ...]]] = dict(tensors_of(config, "input"))
    for step in config["ensemble_scheduling"]["step"]:
        model = step["model_name"]
        if model not in configs:
            raise BundleError(
                f"ensemble {name!r} has a step of model {model!r}, which is not there"
            )
        inputs, outputs = (tensors_of(configs[model], side) for side in ("input", "output"))
        given, made = step.get("input_map", {}), step.get("output_map", {})
        if set(given) != set(inputs):
            missing = sorted(set(inputs) ^ set(given))[0]
            raise BundleError(f"ensemble {name!r} does not give {model!r} its input {missing!r}")
        for own, tensor in given.items():
            if tensor not in known:
                raise BundleError(f"ensemble {name!r}: nothing before {model!r} makes {tensor!r}")
            _check_fit(f"ensemble {name!r}, step {model!r}", tensor, known[tensor], inputs[own])
        for own, tensor in made.items():
            if own not in outputs:
                raise BundleError(f"ensemble {name!r}: {model!r} has no output {own!r}")
            if tensor in known:
                raise BundleError(f"ensemble {name!r} makes {tensor!r} twice")
            known[tensor] = outputs[own]
    for tensor, wanted in tensors_of(config, "output").items():
        if tensor not in known or tensor in tensors_of(config, "input"):
            raise BundleError(f"ensemble {name!r}: no step makes output {tensor!r}")
        _check_fit(f"ensemble {name!r}", tensor, known[tensor], wanted)


def _check_fit(
    where: str, tensor: str, made: tuple[str, tuple[int, ...]], wanted: tuple[str, tuple[int, ...]]
) -> None:
    if made[0] != wanted[0]:
        raise BundleError(f"{where}: {tensor!r} is {made[0]} and is read as {wanted[0]}")
    fits = len(made[1]) == len(wanted[1]) and all(
        -1 in (one, other) or one == other for one, other in zip(made[1], wanted[1], strict=True)
    )
    if not fits:
        raise BundleError(
            f"{where}: {tensor!r} has dimensions {made[1]} and is read as {wanted[1]}"
        )


def _check_files(folder: Path, config: Mapping[str, Any]) -> None:
    name = config["name"]
    files = [config.get("default_model_filename", "")]
    files += config.get("cc_model_filenames", {}).values()
    for file in files:
        if not file or not (folder / VERSION / file).is_file():
            raise BundleError(f"model {name!r} has no file {file!r}")
    if config.get("backend") != "onnxruntime":
        return
    graph = onnx.load(folder / VERSION / files[0], load_external_data=False).graph
    for weight in graph.initializer:
        for each in weight.external_data:
            if each.key == "location" and not (folder / VERSION / each.value).is_file():
                raise BundleError(f"model {name!r} lacks its weights {each.value!r}")
    weights = {weight.name for weight in graph.initializer}
    real = {
        "input": [value for value in graph.input if value.name not in weights],
        "output": list(graph.output),
    }
    for side, values in real.items():
        written = tensors_of(config, side)
        if set(written) != {value.name for value in values}:
            raise BundleError(f"model {name!r}: its {side}s are not those of its file")
        for value in values:
            _check_value(f"model {name!r}", value, written[value.name], config, side)


def _check_value(
    where: str,
    value: onnx.ValueInfoProto,
    written: tuple[str, tuple[int, ...]],
    config: Mapping[str, Any],
    side: str,
) -> None:
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    if _TRITON_TYPES.get(kind) != written[0]:
        raise BundleError(f"{where}: {value.name!r} is {kind} and is written as {written[0]}")
    if not value.type.tensor_type.HasField("shape"):
        return
    dims = [dim.dim_value if dim.dim_value > 0 else -1 for dim in value.type.tensor_type.shape.dim]
    reshaped = any(t["name"] == value.name and "reshape" in t for t in config[side])
    if tuple(dims) != (() if reshaped else written[1]):
        raise BundleError(f"{where}: {value.name!r} has dimensions {dims}, written as {written[1]}")
