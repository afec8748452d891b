"""What tests of engines need: the packages where they are, and the reason where they are not."""

from __future__ import annotations

from functools import cache

import pytest

from partc.targets.tensorrt.detect import Machine, machine_of
from partc.targets.tensorrt.flavour import LIBRARIES


@cache
def machine(flavour: str) -> Machine:
    return machine_of(flavour)


def needs_builder(flavour: str = "tensorrt_rtx") -> pytest.MarkDecorator:
    """Skips where engines of a flavour cannot be built."""
    found = machine(flavour)
    can = bool(found.version) and (found.gpu is not None or LIBRARIES[flavour].capabilities)
    return pytest.mark.skipif(not can, reason=found.reason or "nothing is missing")


def needs_gpu(flavour: str) -> pytest.MarkDecorator:
    """Skips where engines of a flavour cannot run."""
    found = machine(flavour)
    return pytest.mark.skipif(found.gpu is None, reason=found.reason or "nothing is missing")
