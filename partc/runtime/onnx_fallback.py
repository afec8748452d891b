"""A segment's ONNX where it has no engine: by the first provider of ONNX Runtime that will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from partc.errors import BundleError, TargetError
from partc.targets.protocol import Backend, HasProviders, Runner, RunSettings

FALLBACK_BACKEND = "onnxruntime"
CPU = "CPUExecutionProvider"
GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
"""Tried in this order, and then the CPU."""


@dataclass(frozen=True)
class Refusal:
    """Why a provider was passed over.

    Attributes:
        is_absent: this onnxruntime was built without it, so it was not tried.
    """

    provider: str
    reason: str
    is_absent: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        return self.reason if self.provider in self.reason else f"{self.provider}: {self.reason}"


@dataclass(frozen=True)
class OnnxSegment:
    """A segment's ONNX, loaded.

    Attributes:
        provider: that runs it.
        refusals: of the providers that were to be had before.
    """

    runner: Runner
    provider: str
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class Expected:
    """The provider with which a segment's ONNX would be tried first; see `OnnxSegment`."""

    provider: str
    refusals: tuple[Refusal, ...]


def open_onnx(
    backend: Backend, model: Path, settings: RunSettings, check: Callable[[Runner], None]
) -> OnnxSegment:
    """Load a segment with the first provider that starts, takes it and passes ``check``.

    The CPU is not checked: what a provider is compared with comes from there.

    Args:
        check: raises `TargetError` or `BundleError` where a GPU is not to be trusted with it.

    Raises:
        TargetError: not even the CPU takes it; with what each of them said.
    """
    refusals: list[Refusal] = []
    for provider in GPU_PROVIDERS:
        if absent := _absent(backend, provider):
            refusals.append(absent)
            continue
        try:
            runner = _opened(backend, model, settings, provider)
            _checked(runner, check)
        except (TargetError, BundleError) as error:
            refusals.append(Refusal(provider, str(error)))
            continue
        return OnnxSegment(runner, provider, tuple(refusals))
    try:
        runner = _opened(backend, model, settings, "")
    except TargetError as error:
        said = [*refusals_told(refusals, all_of_them=False), Refusal(CPU, str(error)).sentence]
        raise TargetError(
            f"no provider of {FALLBACK_BACKEND} runs its ONNX: {'; '.join(said)}"
        ) from error
    return OnnxSegment(runner, CPU, tuple(refusals))


def expected_provider(backend: Backend) -> Expected:
    """The first provider that starts on this machine, found with a graph of one op."""
    refusals: list[Refusal] = []
    for provider in GPU_PROVIDERS:
        if absent := _absent(backend, provider):
            refusals.append(absent)
            continue
        try:
            _opened(backend, _smallest_model(), RunSettings(), provider).close()
        except TargetError as error:
            refusals.append(Refusal(provider, str(error)))
            continue
        return Expected(provider, tuple(refusals))
    return Expected(CPU, tuple(refusals))


def refusals_told(refusals: Sequence[Refusal], *, all_of_them: bool) -> list[str]:
    """Sentences for people.

    Args:
        all_of_them: where there is a GPU, it is worth saying how to get a provider for it.
    """
    return [each.sentence for each in refusals if all_of_them or not each.is_absent]


def _absent(backend: Backend, provider: str) -> Refusal | None:
    if not isinstance(backend, HasProviders):
        return None
    try:
        found = backend.detect_provider(provider)
    except TargetError as error:  # an onnxruntime that has not even heard of it
        return Refusal(provider, str(error), is_absent=True)
    return None if found.available else Refusal(provider, found.reason, is_absent=True)


def _opened(backend: Backend, model: Path | bytes, settings: RunSettings, provider: str) -> Runner:
    return backend.runner(model, replace(settings, provider=provider, provider_options=()))


def _checked(runner: Runner, check: Callable[[Runner], None]) -> None:
    try:
        check(runner)
    except BaseException:
        runner.close()
        raise


def _smallest_model() -> bytes:
    from onnx import parser

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) {y = Relu(x)}'
    serialised: bytes = parser.parse_model(text).SerializeToString()
    return serialised
