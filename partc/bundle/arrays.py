"""Named arrays in an ``.npz`` file, never pickled."""

from __future__ import annotations

import zipfile
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
