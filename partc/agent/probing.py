"""Measures the link to an agent over the runtime's own protocol, on a connection of the runtime."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from partc.agent.link import LinkFound, measure_link
from partc.agent.messages import LinkRequest
from partc.agent.serving import LARGEST_LINK_BYTES, LINK_DATA, LINK_MODEL, LINK_WANTED
from partc.agent.terms import MessageTerms, measure_terms
from partc.errors import HostUnreachableError, TargetError
from partc.runtime.credentials import Credentials
from partc.runtime.transport import CallFailedError, CallRequest

if TYPE_CHECKING:
    from partc.agent.wire.client import AgentClient

_REPLY_BYTES = 16
_TIMEOUT_S = 30.0


def link_to(
    address: str,
    credentials: Credentials | None,
    budget_s: float,
    is_wanted: Callable[[], bool] = lambda: True,
) -> LinkFound:
    """The link from this machine to the agent at ``address``, with what each end does.

    Raises:
        PartcError: the agent cannot be asked, or does not answer.
    """
    from partc.agent.wire.client import AgentClient

    with AgentClient(address, credentials) as client:
        client.describe()
        terms = client.terms()
    there = MessageTerms(**terms.model_dump())
    return probe_link(
        address, credentials, budget_s, here=measure_terms(), there=there, is_wanted=is_wanted
    )


def probe_link(
    address: str,
    credentials: Credentials | None,
    budget_s: float,
    *,
    here: MessageTerms,
    there: MessageTerms,
    is_wanted: Callable[[], bool] = lambda: True,
) -> LinkFound:
    """Bandwidth, round trip and fixed cost between this machine and the agent at ``address``.

    Args:
        here, there: what each end does with a byte.
        is_wanted: whether somebody still waits for it.

    Raises:
        HostUnreachableError: the agent does not answer, or nobody waits any longer.
    """
    from partc.agent.wire.ping import Pinger
    from partc.runtime.wire.client import GrpcTransport

    transport = GrpcTransport(
        {"peer": address},
        max_message_bytes=2 * LARGEST_LINK_BYTES,
        credentials=credentials,
    )
    noise = np.random.default_rng(1).integers(0, 256, LARGEST_LINK_BYTES, dtype=np.uint8)

    def exchange(sent_bytes: int, wanted_bytes: int) -> float:
        if not is_wanted():
            raise HostUnreachableError("the measurement of the link was cancelled")
        tensors: dict[str, Any] = {
            LINK_DATA: noise[:sent_bytes],
            LINK_WANTED: np.array([wanted_bytes], np.int64),
        }
        request = CallRequest(LINK_MODEL, uuid.uuid4().hex, "", tensors, _TIMEOUT_S)
        started_s = time.perf_counter()
        pending = transport.start("peer", request)
        try:
            reply = pending.future.result(_TIMEOUT_S)
        except TimeoutError:
            pending.abandon()
            raise _failed(address, f"it did not answer in {_TIMEOUT_S:.0f} s") from None
        except CallFailedError as error:
            raise _failed(address, error.reason) from error
        took_s = time.perf_counter() - started_s
        if reply.tensors[LINK_DATA].nbytes != wanted_bytes:
            raise _failed(address, "it answers something else than was asked")
        return took_s

    try:
        reason = transport.probe("peer", _TIMEOUT_S / 3, patient=False)
        if reason is not None and "not ready" not in reason:  # an agent without a bundle will do
            raise _failed(address, reason)
        with Pinger(address, credentials) as pinger:
            return measure_link(
                up=lambda size: exchange(size, _REPLY_BYTES),
                down=lambda size: exchange(_REPLY_BYTES, size),
                ping=pinger.ping,
                handling_s_per_byte=(
                    here.write_s_per_byte + there.read_s_per_byte,
                    there.write_s_per_byte + here.read_s_per_byte,
                ),
                budget_s=budget_s,
            )
    except OSError as error:
        raise _failed(address, str(error.strerror or error)) from error
    finally:
        transport.close()


def _failed(address: str, reason: str) -> HostUnreachableError:
    return HostUnreachableError(f"the link to {address} cannot be measured: {reason}")


def link_between(
    sender: str, address: str, credentials: Credentials | None, budget_s: float, host: str = ""
) -> LinkFound:
    """The link from the node of the agent at ``sender`` to that of the agent at ``address``.

    Raises:
        TargetError: an agent cannot be asked, or answers nonsense.
    """
    from partc.agent.wire.client import AgentClient

    with AgentClient(sender, credentials, host) as client:
        client.describe()
        return link_of(client, address, budget_s)


def link_of(client: AgentClient, address: str, budget_s: float) -> LinkFound:
    """As `link_between`, of a node that is called already.

    Raises:
        TargetError: an agent cannot be asked, or answers nonsense.
    """
    plain = client.measure_link(LinkRequest(address=address, budget_s=budget_s))
    try:
        return _found.validate_json(json.dumps(plain))
    except ValueError as error:
        raise TargetError(f"{client.name} gives no usable answer of its link") from error


_found: TypeAdapter[LinkFound] = TypeAdapter(LinkFound)
