"""The transfers of a solution, as the runtime carries them out."""

from __future__ import annotations

from collections.abc import Iterable

from partc.ir.plan import Transfer
from partc.ir.topology import Topology
from partc.optimizer import Transfer as Moved
from partc.passes.lower.routes import HostTree


def transfers_of(moved: Iterable[Moved], topology: Topology, root: str) -> tuple[Transfer, ...]:
    """One transfer for each tensor and hop.

    Hosts that are joined send each other tensors directly; between others a tensor takes the
    shortest way, in the same codec on every hop.

    Args:
        root: where requests start.
    """
    tree = HostTree.of(topology, root)
    found: dict[tuple[str, str, str], Transfer] = {}
    for each in moved:
        for sender, receiver in tree.way(each.source, each.destination):
            transfer = Transfer(
                tensor=each.tensor,
                sender=sender,
                receiver=receiver,
                size_bytes=round(each.bytes),
                predicted_s=each.seconds,
                codec=each.codec,
            )
            found.setdefault((each.tensor, sender, receiver), transfer)
    return tuple(found.values())
