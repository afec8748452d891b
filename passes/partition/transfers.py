"""The transfers of a solution, as the runtime carries them out."""

from __future__ import annotations

from collections.abc import Iterable

from partc.ir.plan import Transfer
from partc.ir.topology import Topology
from partc.optimizer import Transfer as Moved


def transfers_of(moved: Iterable[Moved], topology: Topology, root: str) -> tuple[Transfer, ...]:
    """One transfer for each tensor and hop.

    On a bus every other host talks to ``root`` alone, so what passes between two of them is two
    transfers in the same codec.
    """
    found: dict[tuple[str, str, str], Transfer] = {}
    for each in moved:
        hops = [(each.source, each.destination)]
        if topology.bus and root not in hops[0]:
            hops = [(each.source, root), (root, each.destination)]
        for sender, receiver in hops:
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
