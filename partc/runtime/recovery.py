"""What a host runs itself when a call to another host has failed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from partc.bundle.manifest import CallEntry, SegmentEntry
from partc.errors import HostUnreachableError
from partc.runtime.host_plan import HostPlan


class Recovery:
    """Plans the replacement of failed calls on one host.

    Args:
        can_run: whether the host has the file of a segment.
    """

    def __init__(self, plan: HostPlan, can_run: Callable[[str], bool]) -> None:
        self._plan = plan
        self._can_run = can_run

    def segments(self, call: CallEntry, at_hand: Collection[str], why: str) -> list[SegmentEntry]:
        """Segments that give the outputs of a failed call, in an order in which they can run.

        The called host may have kept tensors that it never sent back, so their producers are
        among them.

        Args:
            at_hand: the tensors that this host holds for the request.
            why: the sentence on the failure.

        Raises:
            HostUnreachableError: this host lacks a file or a tensor for it.
        """
        todo = self._needed(call, at_hand, why)
        present = set(at_hand)
        ordered: list[SegmentEntry] = []
        while todo:
            ready = next((s for s in todo if present.issuperset(s.inputs)), None)
            if ready is None:
                raise self._impossible(call, why, f"segment {todo[0].id!r} waits for itself")
            todo.remove(ready)
            ordered.append(ready)
            present.update(ready.outputs)
        return ordered

    def _needed(self, call: CallEntry, at_hand: Collection[str], why: str) -> list[SegmentEntry]:
        found: dict[str, SegmentEntry] = {}
        wanted = [name for name in call.outputs if name not in at_hand]
        while wanted:
            name = wanted.pop()
            segment = self._plan.producer(name, call.id)
            if segment is None:
                reason = f"host {self._plan.host!r} does not hold tensor {name!r}"
                raise self._impossible(call, why, reason)
            if not self._can_run(segment.id):
                reason = self._plan.entry.no_fallback_reason or (
                    f"host {self._plan.host!r} has no file for segment {segment.id!r}"
                )
                raise self._impossible(call, why, reason)
            if segment.id not in found:
                found[segment.id] = segment
                wanted += [need for need in segment.inputs if need not in at_hand]
        return list(found.values())

    def _impossible(self, call: CallEntry, why: str, reason: str) -> HostUnreachableError:
        return HostUnreachableError(
            f"{why} The request cannot be finished on {self._plan.host!r}: {reason}.",
            host=call.host,
        )
