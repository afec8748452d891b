"""The CUDA driver, as much of it as running an engine takes.

The driver's library is on every machine with an NVIDIA GPU, a Jetson among them, so nothing else
has to be installed.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any

from partc.errors import MissingBackendError, TargetError

_LIBRARIES = ("libcuda.so.1", "libcuda.so", "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1")
_MAJOR, _MINOR = 75, 76
_NON_BLOCKING_STREAM = 1
_CAPTURE_THREAD_LOCAL = 1


class Cuda:
    """Device 0 with its primary context; every call raises TargetError where the driver fails."""

    def __init__(self) -> None:
        self._driver = _load()
        self._check("cuInit", c_uint(0))
        device = c_int()
        self._check("cuDeviceGet", byref(device), c_int(0))
        self._device = device
        context = c_void_p()
        self._check("cuDevicePrimaryCtxRetain", byref(context), device)
        self._context = context
        self.use()

    def use(self) -> None:
        """Make the device current in this thread, as every thread that calls has to."""
        self._check("cuCtxSetCurrent", self._context)

    def compute_capability(self) -> str:
        """As ``8.7``."""
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            value = c_int()
            self._check("cuDeviceGetAttribute", byref(value), c_int(attribute), self._device)
            numbers.append(value.value)
        return f"{numbers[0]}.{numbers[1]}"

    def name(self) -> str:
        """Of the device."""
        buffer = ctypes.create_string_buffer(256)
        self._check("cuDeviceGetName", buffer, c_int(len(buffer)), self._device)
        return buffer.value.decode(errors="replace")

    def memory_bytes(self) -> int:
        """Of the device."""
        size = c_size_t()
        self._check("cuDeviceTotalMem_v2", byref(size), self._device)
        return size.value

    def allocate(self, size_bytes: int) -> int:
        """Device memory."""
        pointer = c_void_p()
        self._check("cuMemAlloc_v2", byref(pointer), c_size_t(max(size_bytes, 1)))
        return pointer.value or 0

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._check("cuMemFree_v2", c_void_p(pointer))

    def allocate_pinned(self, size_bytes: int) -> int:
        """Host memory that copies can run from and to beside the host's own work."""
        pointer = c_void_p()
        self._check("cuMemHostAlloc", byref(pointer), c_size_t(max(size_bytes, 1)), c_uint(0))
        return pointer.value or 0

    def free_pinned(self, pointer: int) -> None:
        """Give pinned memory back."""
        self._check("cuMemFreeHost", c_void_p(pointer))

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        stream = c_void_p()
        self._check("cuStreamCreate", byref(stream), c_uint(_NON_BLOCKING_STREAM))
        return stream.value or 0

    def destroy_stream(self, stream: int) -> None:
        """Free a stream."""
        self._check("cuStreamDestroy_v2", c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        """Wait until everything in the stream is done."""
        self._check("cuStreamSynchronize", c_void_p(stream))

    def to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy in the order of the stream."""
        self._check(
            "cuMemcpyHtoDAsync_v2",
            c_void_p(target), c_void_p(source), c_size_t(size_bytes), c_void_p(stream),
        )  # fmt: skip

    def to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy in the order of the stream."""
        self._check(
            "cuMemcpyDtoHAsync_v2",
            c_void_p(target), c_void_p(source), c_size_t(size_bytes), c_void_p(stream),
        )  # fmt: skip

    def begin_capture(self, stream: int) -> None:
        """What follows in the stream is recorded and not run."""
        self._check("cuStreamBeginCapture_v2", c_void_p(stream), c_int(_CAPTURE_THREAD_LOCAL))

    def end_capture(self, stream: int) -> int:
        """An executable graph of what was recorded."""
        graph, executable = c_void_p(), c_void_p()
        self._check("cuStreamEndCapture", c_void_p(stream), byref(graph))
        try:
            self._check(
                "cuGraphInstantiateWithFlags", byref(executable), graph, ctypes.c_ulonglong(0)
            )
        finally:
            self._check("cuGraphDestroy", graph)
        return executable.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Run a graph in a stream."""
        self._check("cuGraphLaunch", c_void_p(graph), c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Free an executable graph."""
        self._check("cuGraphExecDestroy", c_void_p(graph))

    def close(self) -> None:
        """Release the device."""
        self._check("cuDevicePrimaryCtxRelease_v2", self._device)

    def _check(self, function: str, *arguments: Any) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status != 0:
            raise TargetError(f"the CUDA driver failed in {function}: {self._error(status)}")

    def _error(self, status: int) -> str:
        text = c_char_p()
        self._driver.cuGetErrorString(c_int(status), byref(text))
        return (text.value or b"unknown error").decode(errors="replace") + f" ({status})"


def _load() -> Any:
    reason = ""
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reason = reason or str(error)
    raise MissingBackendError(f"no NVIDIA driver is installed here ({reason})")
