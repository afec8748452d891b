"""Files of named arrays, good and hostile."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from partc.bundle.arrays import read_npz, write_npz


def test_what_is_written_is_read(tmp_path: Path) -> None:
    arrays = {"file": np.arange(6.0).reshape(2, 3), "a/b": np.array(["x", "yy"], dtype=object)}
    write_npz(tmp_path / "a.npz", arrays)
    found = read_npz(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    assert (found["file"] == arrays["file"]).all()
    assert found["a/b"].dtype == object and list(found["a/b"]) == ["x", "yy"]


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def archive(entries: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, contents in entries.items():
            file.writestr(name, contents)
    return data.getvalue()


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"PK\x03\x04 no archive",
        b"PK\x05\x06",
        b"text",
        header("(2,)") + b"\0" * 16,
        archive({"x.npy": header("(1000000000000,)")}),
        archive({"x.npy": header("(-1,)")}),
        archive({"x.npy": b"\x93NUMPY"}),
        archive({"readme.txt": b"no array"}),
    ],
    ids=["empty", "cut", "end", "text", "one array", "huge", "negative", "no header", "no arrays"],
)
def test_what_is_no_archive_of_arrays(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"\w"):
        read_npz(path)


def test_every_flipped_byte_is_survived(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": np.arange(4.0)})
    data = (tmp_path / "a.npz").read_bytes()
    bad = tmp_path / "b.npz"
    for index in range(len(data)):
        bad.write_bytes(data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :])
        with contextlib.suppress(ValueError, OSError):
            read_npz(bad)
