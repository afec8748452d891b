"""What an agent answers is taken for hostile until it was checked."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.agent.messages import (
    Job,
    JobEvent,
    NodeDescription,
    Offer,
    answer_to_plain,
    printable,
    read_detection,
    read_groups,
    read_measurement,
    read_profile,
    read_rows,
    read_unsupported,
    sampling_of,
    sampling_to_plain,
    settings_of,
    settings_to_plain,
)
from partc.errors import RequestError
from partc.targets.protocol import Profile, RunSettings, Sampling

NODES = ("a", "b", "c")
GOOD = answer_to_plain(Profile(op_s={"a": (0.1, 0.2), "b": (0.0, 0.1)}, whole_s=(0.3, 0.4)))

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["value", "op_s", "whole_s", "x", "a"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def test_a_good_answer() -> None:
    profile = read_profile(GOOD, NODES)
    assert profile.op_s["a"] == (0.1, 0.2) and profile.whole_s == (0.3, 0.4)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"op_s": {"evil": [0.1, 0.1]}}, "node 'evil'"),
        ({"op_s": {"\x1b[2Jevil": [0.1, 0.1]}}, r"node '\[2Jevil'"),
        ({"op_s": {"a": [0.1]}}, "fewer times"),
        ({"op_s": {"a": [0.1, -1.0]}}, "took -1"),
        ({"whole_s": [0.1, 1e300]}, "took 1e"),
        ({"whole_s": []}, "no run"),
        ({"whole_s": "x"}, "malformed"),
        ({"whole_s": None}, "malformed"),
    ],
)
def test_profiles_that_cannot_be(change: dict[str, Any], part: str) -> None:
    with pytest.raises(RequestError, match=part):
        read_profile({**GOOD, **change}, NODES)


@given(any_json)
def test_any_answer_is_read_or_refused(data: Any) -> None:
    plain = data if isinstance(data, dict) else {"value": data}
    readers = (
        lambda: read_profile(plain, NODES),
        lambda: read_detection(plain),
        lambda: read_measurement(plain),
        lambda: read_unsupported(plain, NODES),
        lambda: read_groups(plain, NODES),
        lambda: read_rows(plain, 2),
    )
    for read in readers:
        with contextlib.suppress(RequestError):
            read()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for kind in (Job, JobEvent, NodeDescription, Offer):
        with pytest.raises(RequestError, match="malformed"):
            kind.read(data)


def test_a_message_nested_without_end() -> None:
    with pytest.raises(RequestError):
        Job.read(b'{"kind":' + b"[" * 100_000)


def test_a_node_in_two_kernels() -> None:
    with pytest.raises(RequestError, match="two kernels"):
        read_groups({"value": [["a", "b"], ["b", "c"]]}, NODES)
    assert read_groups({"value": [["a", "b"], ["c"]]}, NODES) == [("a", "b")]


def test_settings_travel_and_unknown_ones_are_refused() -> None:
    settings, sampling = RunSettings(threads=3, optimization="basic"), Sampling(repeats=7)
    job = Job(
        kind="profile", backend="x", settings=settings_to_plain(settings),
        sampling=sampling_to_plain(sampling),
    )  # fmt: skip
    assert settings_of(job) == settings and sampling_of(job) == sampling
    newer = job.model_copy(update={"settings": {**job.settings, "sparsity": "2:4"}})
    with pytest.raises(RequestError, match=r"'sparsity'.*same version"):
        settings_of(newer)
    for change, part in (({"repeats": 10**9}, "repeats"), ({"budget_s": 1e9}, "budget_s")):
        with pytest.raises(RequestError, match=part):
            sampling_of(job.model_copy(update={"sampling": {**job.sampling, **change}}))


def test_a_precision_travels_and_agents_from_before_still_understand_float32() -> None:
    assert "precision" not in settings_to_plain(RunSettings())
    plain = settings_to_plain(RunSettings(precision="int8"))
    job = Job(kind="profile", backend="x", settings=plain)
    assert settings_of(job).precision == "int8"
    with pytest.raises(RequestError, match="precision"):
        settings_of(job.model_copy(update={"settings": {**plain, "precision": "fp8"}}))


@given(st.text(max_size=2000))
def test_nothing_of_others_moves_the_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and len(shown) <= 600
