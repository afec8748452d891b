"""Pipelines as text: they round-trip, and every mistake is answered with what would be right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.passes import registry
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.partition.partition import Partition
from partc.pipeline import DEFAULT_PIPELINE, Pipeline
from tests.pipeline.toy_passes import NeedsAValue, Options


@pytest.fixture(autouse=True, scope="module")
def _toy_passes() -> Iterator[None]:
    known = {"options": Options, "needs-a-value": NeedsAValue}
    real = registry.load_pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "partc.pipeline_text.load_pass",
            lambda name: known[name] if name in known else real(name),
        )
        yield


numbers = st.floats(allow_nan=False)
options = st.builds(
    Options,
    number=numbers,
    count=st.integers(min_value=0),
    flag=st.booleans(),
    text=st.text(),
    choice=st.sampled_from(["one", "two", "two words"]),
    limit=st.none() | numbers,
    label=st.none() | st.text() | st.sampled_from(["none", "true", "a,b", "{}", '"', "\\", "1"]),
    level=st.none() | st.sampled_from([1, 2, 3]),
)


@given(st.lists(options, min_size=1, max_size=3))
def test_options_of_every_kind_round_trip(passes: list[Options]) -> None:
    pipeline = Pipeline(tuple(passes))
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert str(Pipeline.parse(str(pipeline))) == str(pipeline)


@given(
    repeats=st.integers(1, 1000),
    budget_s=st.floats(0.1, 1e6),
    gap=st.floats(0, 1, exclude_max=True),
    limit=st.none() | st.floats(0, 1e9, exclude_min=True),
    objective=st.sampled_from(["latency", "throughput", "energy"]),
)
def test_built_in_passes_round_trip(
    repeats: int, budget_s: float, gap: float, limit: float | None, objective: str
) -> None:
    pipeline = Pipeline.parse(DEFAULT_PIPELINE).with_option(
        "annotate-costs", repeats=repeats, budget_s=budget_s
    )
    pipeline = pipeline.with_option("partition", gap=gap, time_limit=limit, objective=objective)
    assert Pipeline.parse(str(pipeline)) == pipeline


def test_defaults_are_not_written() -> None:
    assert str(Pipeline.parse("partition{gap=0.0,objective=latency},split")) == "partition,split"
    assert str(Pipeline.parse(DEFAULT_PIPELINE)) == DEFAULT_PIPELINE


def test_space_and_dashes_are_free() -> None:
    assert Pipeline.parse(" annotate-costs { repeats = 3 , budget-s=2 } , partition ").passes == (
        AnnotateCosts(repeats=3, budget_s=2.0),
        Partition(),
    )


def test_with_option_leaves_the_first_pipeline_as_it_was() -> None:
    pipeline = Pipeline.parse("partition")
    pipeline.with_option("partition", gap=0.5)
    assert str(pipeline) == "partition"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "where a pass should be named"),
        ("partition,", "where a pass should be named"),
        (",partition", "at ',partition'"),
        ("partition split", "cannot be read"),
        ("partition{gap=0", "cannot be read"),
        ("fold-constant", "Did you mean 'fold-constants'"),
        ("partition{gpa=0}", "Did you mean 'gap'"),
        ("partition{objective=latancy}", "Did you mean 'latency'"),
        ("partition{gap}", "needs a value: gap=..."),
        ("partition{gap=}", "cannot be read"),
        ("partition{gap=0,gap=1}", "given twice"),
        ("partition{gap=small}", "it must be a number"),
        ("partition{gap=nan}", "it must be a number"),
        ('partition{gap="0"}', "cannot be given as text"),
        ("partition{monotone=yes}", "it must be true or false"),
        ("annotate-costs{repeats=2.5}", "it must be a whole number"),
        ("annotate-costs{repeats=none}", "it must be a whole number"),
        ("options{level=4}", "no value of option 'level'"),
        ("options{count=-1}", "count must not be -1"),
        ('options{text="a}', "cannot be read"),
        (r'options{text="\q"}', "is not a quoted text"),
        ("needs-a-value", "needs a value for option 'number'"),
    ],
)
def test_mistakes_are_answered(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline.parse(text)
    assert says in caught.value.message
    assert caught.value.exit_code == 2
