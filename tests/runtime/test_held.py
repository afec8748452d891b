"""What a host keeps, with a clock that the test turns."""

from __future__ import annotations

import numpy as np
import pytest

from partc.runtime.held import HeldLimits, HeldRequests
from partc.runtime.transport import CallFailedError, FailureKind

KIB = np.zeros(1024, np.uint8)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def holding(**limits: float) -> tuple[HeldRequests, Clock]:
    clock = Clock()
    settings = {"requests": 3, "bytes": 10_000, "age_s": 60.0} | limits
    held = HeldRequests(
        dict.fromkeys("ab", frozenset("ab")),
        HeldLimits(int(settings["requests"]), int(settings["bytes"]), settings["age_s"]),
        clock,
    )
    return held, clock


def test_a_request_is_kept_between_its_calls_and_then_forgotten() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {"t": KIB}) as state:
        state.tensors["u"] = KIB
        assert held.calls_under_way == 1
    assert held.size_bytes == 2048
    with held.during_call("r", "b", {}) as state:
        assert set(state.tensors) == {"t", "u"}
    assert (len(held), held.size_bytes, held.calls_under_way) == (0, 0, 0)


def test_requests_do_not_see_each_other() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {"t": KIB}), held.during_call("q", "a", {}) as other:
        assert not other.tensors


def test_calls_of_one_request_may_overlap() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {"t": KIB}) as first:
        with held.during_call("r", "b", {"v": KIB}) as second:
            assert first is second
        assert set(first.tensors) == {"t", "v"}
    assert len(held) == 0


def test_requests_of_several_plans_end_with_their_own_calls() -> None:
    plans = {"a": frozenset("a"), "b": frozenset("bc"), "c": frozenset("bc")}
    held = HeldRequests(plans)
    with held.during_call("r", "a", {"t": KIB}):
        pass
    assert len(held) == 0
    with held.during_call("q", "b", {"t": KIB}):
        pass
    assert len(held) == 1
    with held.during_call("q", "c", {}):
        pass
    assert len(held) == 0


def test_a_call_that_fails_is_over() -> None:
    held, _ = holding()
    with pytest.raises(ZeroDivisionError), held.during_call("r", "a", {"t": KIB}):
        raise ZeroDivisionError
    assert held.calls_under_way == 0


def test_old_requests_are_forgotten() -> None:
    held, clock = holding()
    with held.during_call("r", "a", {"t": KIB}):
        pass
    clock.now_s = 59
    held.forget_old()
    assert len(held) == 1
    clock.now_s = 61
    held.forget_old()
    assert (len(held), held.size_bytes) == (0, 0)


def test_a_request_under_way_is_never_forgotten() -> None:
    held, clock = holding()
    with held.during_call("r", "a", {"t": KIB}) as state:
        clock.now_s = 1000
        held.forget_old()
        assert len(held) == 1
        assert "t" in state.tensors


def test_the_oldest_idle_request_gives_way_by_count() -> None:
    held, _ = holding()
    for name in ("r1", "r2", "r3"):
        with held.during_call(name, "a", {"t": KIB}):
            pass
    with held.during_call("r1", "a", {}):
        pass
    with held.during_call("r4", "a", {}):
        pass
    with held.during_call("r1", "b", {}) as state:
        assert "t" in state.tensors, "r2 was older"
    with held.during_call("r2", "b", {}) as state:
        assert not state.tensors


def test_the_oldest_idle_request_gives_way_by_bytes() -> None:
    held, _ = holding(requests=100)
    for index in range(20):
        with held.during_call(f"r{index}", "a", {"t": KIB}):
            pass
    assert held.size_bytes <= 10_000
    assert len(held) == 9


def test_produced_tensors_count_too() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {}) as state:
        state.tensors["large"] = np.zeros(20_000, np.uint8)
    assert (len(held), held.size_bytes) == (0, 0), "it does not fit, so it is not kept"


def test_without_room_a_request_is_turned_away() -> None:
    held, _ = holding(requests=1)
    with held.during_call("r", "a", {}):
        with pytest.raises(CallFailedError) as caught, held.during_call("q", "a", {}):
            pass
        assert caught.value.kind is FailureKind.BUSY
    held, _ = holding()
    with (
        pytest.raises(CallFailedError),
        held.during_call("r", "a", {"t": np.zeros(20_000, np.uint8)}),
    ):
        pass
    assert len(held) == 0


def test_text_counts_by_its_length() -> None:
    held, _ = holding()
    text = np.array(["x" * 1000, "y"], dtype=object)
    with held.during_call("r", "a", {"t": text}):
        assert held.size_bytes >= 1001


def test_what_is_pushed_before_the_call_waits_for_it() -> None:
    held, _ = holding()
    held.push("r", {"t": KIB})
    assert (len(held), held.size_bytes) == (1, 1024)
    with held.during_call("r", "a", {}) as state:
        assert set(state.tensors) == {"t"}


def test_what_is_pushed_during_the_call_wakes_it() -> None:
    held, _ = holding()
    woken: list[str] = []
    with held.during_call("r", "a", {}) as state:
        state.arrived.append(lambda: woken.append("now"))
        held.push("r", {"t": KIB})
        assert woken == ["now"]
        assert state.tensors["t"] is KIB


def test_the_first_copy_counts() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {}) as state:
        held.push("r", {"t": KIB})
        held.push("r", {"t": KIB + 1})
        assert not state.tensors["t"].any()
        assert held.size_bytes == 1024


def test_what_is_pushed_for_a_finished_request_is_dropped() -> None:
    held, _ = holding()
    with held.during_call("r", "a", {}), held.during_call("r", "b", {}):
        pass
    held.push("r", {"t": KIB})
    assert (len(held), held.size_bytes) == (0, 0)
    with held.during_call("r", "a", {}) as state:  # somebody uses the id again
        held.push("r", {"t": KIB})
        assert set(state.tensors) == {"t"}


def test_pushes_for_requests_that_do_not_exist_push_out_each_other_alone() -> None:
    held, _ = holding(requests=4)
    with held.during_call("kept", "a", {"t": KIB}):
        pass
    for number in range(50):
        held.push(f"made up {number}", {"t": KIB})
    assert len(held) == 3
    with held.during_call("kept", "b", {}) as state:
        assert set(state.tensors) == {"t"}


def test_pushes_for_requests_that_do_not_exist_take_a_share_of_the_bytes() -> None:
    held, _ = holding(requests=100, bytes=10 * 1024)
    for number in range(50):
        held.push(f"made up {number}", {"t": KIB})
    assert held.size_bytes == 5 * 1024
    with pytest.raises(CallFailedError, match="nobody has called for") as caught:
        held.push("large", {"t": np.zeros(6 * 1024, np.uint8)})
    assert caught.value.kind is FailureKind.BUSY


def test_pushes_that_nobody_calls_for_are_forgotten() -> None:
    held, clock = holding(age_s=60)
    held.push("r", {"t": KIB})
    clock.now_s = 61
    held.forget_old()
    assert (len(held), held.size_bytes) == (0, 0)


def test_a_push_to_a_called_request_counts_against_the_limit() -> None:
    held, _ = holding(bytes=2048)
    with held.during_call("r", "a", {"t": KIB}):
        held.push("r", {"u": KIB})
        with pytest.raises(CallFailedError) as caught:
            held.push("r", {"v": KIB})
    assert caught.value.kind is FailureKind.BUSY
