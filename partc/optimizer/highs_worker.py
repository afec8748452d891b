"""The process that runs HiGHS so that it can be ended from outside.

Reads pickled requests from standard input and writes pickled progress and results to standard
output, each after its length in eight bytes. Only the parent process speaks to it.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from partc.optimizer.highs import run_highs

_PARENT_CHECK_S = 1.0


def read_message(stream: BinaryIO) -> Any:
    """One message, or None at the end of the stream."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    (size,) = struct.unpack("<q", header)
    return pickle.loads(stream.read(size))


def write_message(stream: BinaryIO, message: Any) -> None:
    """One message, flushed."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    left = memoryview(struct.pack("<q", len(body)) + body)
    while left:
        left = left[stream.write(left) :]
    stream.flush()


def _end_with(parent: int) -> None:
    """A parent that was killed cannot end this process, so look for it."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


def main() -> None:
    """Serve requests until the parent closes standard input."""
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while (request := read_message(requests)) is not None:

        def on_progress(
            values: npt.NDArray[np.float64] | None, objective: float, bound: float
        ) -> None:
            write_message(replies, ("progress", values, objective, bound))

        result = run_highs(on_progress=on_progress, **request)
        write_message(replies, ("result", result))


if __name__ == "__main__":
    main()
