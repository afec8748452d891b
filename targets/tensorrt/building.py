"""Builds an engine. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.log import make_logger, sentence
from partc.targets.tensorrt.timings import use_timings
from partc.targets.tensorrt.value_shapes import value_shapes

Progress = Callable[[str, float | None], None]


def build_engine(
    library: Library,
    model: Path,
    recipe: EngineRecipe,
    *,
    capability: str | None,
    timing_cache: bytes,
    detailed: bool,
    progress: Progress | None,
) -> tuple[bytes, bytes]:
    """The engine and the timing cache after it.

    Precision is what the ONNX says: the network is strongly typed, and TF32 is off, so that an
    engine computes in float32 what the model computes in float32.

    Args:
        capability: the compute capability to build for; None for the GPU that is here.
        detailed: keep in the engine which ops each layer is made of.

    Raises:
        UnbuildableError: the model cannot be built.
        TargetError: the recipe cannot be followed.
    """
    trt = library.load()
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        texts = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise UnbuildableError(
            f"{library.title} cannot read the segment: {sentence(texts or logger.errors)}"
        )
    config = builder.create_builder_config()
    configure(trt, library, config, recipe, capability)
    config.profiling_verbosity = (
        trt.ProfilingVerbosity.DETAILED if detailed else trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    )
    if any(-1 in network.get_input(i).shape for i in range(network.num_inputs)):
        config.add_optimization_profile(_profile(library, builder, network, recipe))
    _refuse_value_shapes(library, network, recipe, model)
    if library.flavour == "tensorrt":
        use_timings(config, timing_cache)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnbuildableError(
            f"{library.title} cannot build the segment: {sentence(logger.errors)}"
        )
    timings = b""
    if library.flavour == "tensorrt":
        cache = config.get_timing_cache()
        timings = bytes(cache.serialize()) if cache is not None else b""
    return bytes(plan), timings


def configure(
    trt: Any, library: Library, config: Any, recipe: EngineRecipe, capability: str | None
) -> None:
    """Put a recipe into a builder's configuration.

    Raises:
        TargetError: the library cannot do what the recipe or the capability asks for.
    """
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = recipe.optimization_level
    if recipe.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib << 20)
    if recipe.hardware_compatibility == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if recipe.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if recipe.dla_core is not None:
        if library.flavour != "tensorrt":
            # It would take the settings and leave all to the GPU without a word.
            raise TargetError(
                f"{library.title} runs on no deep learning accelerator; leave dla_core out of "
                "[hosts.NAME.engine]"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if capability is not None:
        if capability not in library.capabilities:
            raise TargetError(
                f"{library.title} cannot build for compute capability {capability} from elsewhere"
            )
        name = "SM" + capability.replace(".", "")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _profile(library: Library, builder: Any, network: Any, recipe: EngineRecipe) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if tensor.is_shape_tensor:
            raise UnbuildableError(
                f"input {tensor.name!r} decides shapes, which engines take only from the host; "
                "pin the op that reads it to another host, or fix the dimensions with --shape"
            )
        if -1 not in tensor.shape:
            continue
        if tensor.name not in recipe.shapes:
            raise TargetError(
                f"the recipe names no shapes for input {tensor.name!r}, which is open"
            )
        wanted = recipe.shapes[tensor.name]
        profile.set_shape(tensor.name, tuple(wanted.min), tuple(wanted.opt), tuple(wanted.max))
    return profile


def _refuse_value_shapes(library: Library, network: Any, recipe: EngineRecipe, model: Path) -> None:
    """Outputs that have open dimensions even where the inputs have none; before minutes of building
    that nobody could use.

    Raises:
        UnbuildableError: names them, and the ops behind them.
    """
    if not _open_outputs(network):
        return
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    written = {tensor.name: tuple(tensor.shape) for tensor in inputs if -1 in tensor.shape}
    for tensor in inputs:
        if tensor.name in written:
            tensor.shape = tuple(recipe.shapes[tensor.name].opt)
    outputs = _open_outputs(network)
    for tensor in inputs:
        if tensor.name in written:
            tensor.shape = written[tensor.name]
    if not outputs:
        return
    graph = onnx.load(model, load_external_data=False)
    behind = value_shapes(graph).behind(outputs) or {
        node.name: node.op_type for node in graph.graph.node if set(node.output) & set(outputs)
    }
    raise UnbuildableError(
        f"{library.title} cannot build the segment: the shape of output {outputs[0]!r} depends on "
        f"values, because of {', '.join(f'{op} ({kind})' for op, kind in behind.items())}, and "
        "engines of partc cannot give out such tensors"
    )


def _open_outputs(network: Any) -> list[str]:
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return [tensor.name for tensor in outputs if -1 in tensor.shape]


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes on the outermost phase, which is what people can follow."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = max(num_steps, 1)
                progress(phase_name, 0.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                progress(phase_name, min(1.0, (step + 1) / self.steps[phase_name]))
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.steps:
                progress(phase_name, 1.0)

    return Monitor()
