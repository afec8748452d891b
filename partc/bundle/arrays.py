"""Named arrays in an ``.npz`` file, never pickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from partc.ir.program import Array


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names; an array of strings is stored as fixed-width text.

    ``numpy.savez`` takes names as keyword arguments, and so not ``file``.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            plain = array.astype(np.str_) if array.dtype.kind == "O" else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(plain), allow_pickle=False)


def read_npz(path: Path) -> dict[str, Array]:
    """What `write_npz` or ``numpy.savez`` wrote; text comes back as objects.

    Raises:
        ValueError: the file is no ``.npz`` of plain arrays, whatever else it is.
        OSError: it cannot be read.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it holds one array without a name")
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    # An archive may be damaged, encrypted, packed in an unknown way, or claim a huge shape.
    except (
        EOFError, KeyError, MemoryError, NotImplementedError, RuntimeError, TypeError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(str(error) or type(error).__name__) from error
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it holds files that are no arrays")
    return {n: a.astype(object) if a.dtype.kind in "US" else a for n, a in arrays.items()}
