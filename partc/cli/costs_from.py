"""--costs-from: whose profile a file is, and whether it may stand for that host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from partc.imports.imported import ImportedCosts
    from partc.ir.topology import Host

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def costs_from_option(function: Decorated) -> Decorated:
    """The option; its parameter is ``costs_from``, a tuple of texts."""
    return click.option(
        "--costs-from", multiple=True, metavar="[HOST=]FILE",
        help="Take costs from a profile instead of measuring: of ONNX Runtime, trtexec "
             "(--exportProfile, and --exportLayerInfo beside it) or OpenVINO; may be repeated.",
    )(function)  # fmt: skip


def imports_of(
    options: Sequence[str], hosts: Mapping[str, Host], model: str | Path = "MODEL"
) -> dict[str, ImportedCosts]:
    """Host -> the profile that stands for it.

    Raises:
        UsageError: a file or a host is not usable, or the profile is of other settings.
        TargetError: a host's target is unknown.
    """
    if not options:
        return {}
    from partc.imports.fit import HostSettings, files_by_host, require_fit
    from partc.imports.reading import read
    from partc.targets.registry import load_target

    found: dict[str, ImportedCosts] = {}
    for name, files in files_by_host(options, hosts).items():
        host, target = hosts[name], load_target(hosts[name].target)
        found[name] = read(files)
        settings = HostSettings(name, host.target, target.backend, host.threads, target.provider)
        require_fit(found[name], settings, str(model))
    return found
