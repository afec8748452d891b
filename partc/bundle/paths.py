"""Paths inside of a bundle."""

from __future__ import annotations

from pathlib import PurePosixPath


def safe_relative_path(path: str) -> bool:
    """Whether ``path`` stays inside the folder that it is relative to."""
    pure = PurePosixPath(path)
    return (
        bool(pure.parts)
        and not pure.is_absolute()
        and ".." not in pure.parts
        and "\\" not in path
        and "\0" not in path
        and str(pure) == path
    )
