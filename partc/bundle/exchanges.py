"""What must hold of pushes and awaits, and that the hosts of a plan never wait in vain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from partc.ir.waiting import why_stuck
from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.bundle.manifest import CallEntry, ExchangeEntry, Manifest, PlanEntry


@dataclass(frozen=True)
class Push:
    """One message between two hosts beside the calls."""

    id: str
    sender: str
    receiver: str
    tensors: tuple[str, ...]


def pushes_of(plan: PlanEntry) -> tuple[Push, ...]:
    """Every push of a plan, by the steps that send."""
    return tuple(
        Push(step.push.id, call.host, step.push.peer, tuple(step.push.tensors))
        for call in plan.calls
        for step in call.steps
        if step.push is not None
    )


def exchange_ids(plan: PlanEntry) -> list[str]:
    """The ids of pushes, in order, repeated ones too."""
    return [push.id for push in pushes_of(plan)]


def check_exchanges(manifest: Manifest, plan: PlanEntry) -> None:
    """Check the pushes and awaits of a plan whose calls make sense.

    Raises:
        ValueError: with the first thing that is wrong.
    """
    pushed = {push.id: push for push in pushes_of(plan)}
    for push in pushed.values():
        _check_push(manifest, push)
    awaited: set[str] = set()
    for call, exchange in _awaits_of(plan):
        found = pushed.get(exchange.id)
        if found is None:
            raise ValueError(f"call {call.id!r} awaits {exchange.id!r}, which nothing pushes")
        if (found.sender, found.receiver) != (exchange.peer, call.host):
            raise ValueError(
                f"push {exchange.id!r} goes from {found.sender!r} to {found.receiver!r}, but is "
                f"awaited at {call.host!r} from {exchange.peer!r}"
            )
        if found.tensors != tuple(exchange.tensors):
            raise ValueError(f"push {exchange.id!r} brings other tensors than are awaited")
        if exchange.id in awaited:
            raise ValueError(f"push {exchange.id!r} is awaited twice")
        awaited.add(exchange.id)
    if unread := pushed.keys() - awaited:
        raise ValueError(f"push {sorted(unread)[0]!r} is awaited by no call")
    segments = {segment.id: segment for segment in plan.segments}
    if (reason := why_stuck(plan.calls, segments)) is not None:
        raise ValueError(f"a request would never end: {reason}")


def _awaits_of(plan: PlanEntry) -> Iterator[tuple[CallEntry, ExchangeEntry]]:
    for call in plan.calls:
        for step in call.steps:
            if step.awaits is not None:
                yield call, step.awaits


def _check_push(manifest: Manifest, push: Push) -> None:
    what = f"push {push.id!r}"
    if push.receiver not in manifest.hosts:
        raise ValueError(f"{what}: {unknown_name('host', push.receiver, manifest.hosts)}")
    if push.receiver == push.sender:
        raise ValueError(f"{what} goes to its own host")
    if not manifest.topology.are_joined(push.sender, push.receiver):
        raise ValueError(
            f"{what} goes from {push.sender!r} to {push.receiver!r}, which nothing joins"
        )
    if manifest.root in (push.sender, push.receiver):
        raise ValueError(f"{what} goes to or from the host where requests start, which calls")
    if not push.tensors or len(set(push.tensors)) != len(push.tensors):
        raise ValueError(f"{what} brings no tensor, or one twice")
    for tensor in push.tensors:
        if tensor not in manifest.tensors:
            raise ValueError(f"{what} names unknown tensor {tensor!r}")
