"""What several processes do to one store at once; imports little, so that they start quickly."""

from __future__ import annotations

import sys
from pathlib import Path

from partc.ir.cost import Cost
from partc.measure.store import CostStore

COST = Cost(0.001, 0.0001, 40, "measured", "2026-01-01T00:00:00+00:00")


def write_forty(path: Path, first: int) -> None:
    for i in range(first, first + 40):
        store = CostStore(path)
        store.add({f"k{i}": COST})
        assert store.find([f"k{i}"])
        assert store.notice == ""


def open_and_count(path: Path, count: int) -> None:
    store = CostStore(path)
    assert store.notice == ""
    assert len(store.entries()) == count


def use_damaged(path: Path, number: int) -> None:
    store = CostStore(path)
    store.add({f"mine {number}": COST})
    assert "cannot be kept" not in store.notice


def write_for_ever(path: Path) -> None:
    """Says after each cost that it is kept."""
    store = CostStore(path)
    for i in range(1_000_000):
        store.add({f"k{i}": COST})
        sys.stdout.write(f"{i}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
