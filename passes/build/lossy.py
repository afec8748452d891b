"""The partitioned program as it will really run: every transfer encoded and decoded."""

from __future__ import annotations

from collections.abc import Mapping

from partc.codecs import NONE, decode, encode, is_lossy
from partc.errors import PassError
from partc.ir.plan import Transfer
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.targets.protocol import RunSettings
from partc.targets.reference import open_reference
from partc.targets.registry import load_target


def loses_something(program: Program) -> bool:
    """Whether the plan sends any tensor in fewer bits."""
    return program.plan is not None and any(is_lossy(t.codec) for t in program.plan.transfers)


def run_with_codecs(
    program: Program, topology: Topology, feeds: Mapping[str, Array]
) -> dict[str, Array]:
    """The outputs where they are wanted, after all transfers of the plan."""
    if program.plan is None or program.segments is None:
        raise PassError("segments and a plan are needed")
    hosts = _Hosts(program.plan.transfers)
    for name, array in feeds.items():
        hosts.put(topology.input_home(name), name, array)
    for segment in program.segments:
        if segment.model is None:
            raise PassError(f"segment {segment.id!r} has no model")
        host = topology.hosts[segment.host]
        settings = RunSettings(host.threads, load_target(host.target).optimization)
        with open_reference(segment.model, settings) as runner:
            given = {name: hosts.get(segment.host, name) for name in segment.inputs}
            for name, array in runner.run(given).items():
                hosts.put(segment.host, name, array)
    return {name: hosts.get(topology.output_home(name), name) for name in program.outputs}


class _Hosts:
    """Which host holds which tensor, and how the others come by it."""

    def __init__(self, transfers: tuple[Transfer, ...]) -> None:
        self._held: dict[tuple[str, str], Array] = {}
        self._arriving = {(t.receiver, t.tensor): t for t in transfers}

    def put(self, host: str, tensor: str, array: Array) -> None:
        self._held[host, tensor] = array

    def get(self, host: str, tensor: str) -> Array:
        if (host, tensor) not in self._held:
            transfer = self._arriving.get((host, tensor))
            if transfer is None:
                raise PassError(f"no transfer brings {tensor!r} to host {host!r}", host=host)
            array = self.get(transfer.sender, tensor)
            if transfer.codec != NONE:
                data, used = encode(array, transfer.codec)
                array = decode(data, used, array.dtype.name, array.shape)
            self._held[host, tensor] = array
        return self._held[host, tensor]
