"""Which ops of a segment a builder refuses: the search."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from partc.passes.emit.culprits import Culprit, culprits, names_one_of

UNITS = [("a",), ("b", "c"), ("d",), ("e",), ("f",)]


class Builder:
    """Refuses ops wherever they are, and some sets of ops where they are all there."""

    def __init__(self, *refused: Sequence[str], says: str = "no tactic") -> None:
        self.refused = [set(each) for each in refused]
        self.says = says
        self.trials = 0

    def __call__(self, ops: Sequence[str]) -> str:
        self.trials += 1
        return self.says if any(each <= set(ops) for each in self.refused) else ""


def blamed(found: list[Culprit]) -> list[tuple[str, ...]]:
    return [each.ops for each in found]


def test_what_the_builder_names_is_tried_first() -> None:
    builder = Builder("d", says="no tactic for d")
    assert culprits(UNITS, "no tactic for d", builder) == [Culprit(("d",), "no tactic for d")]
    assert builder.trials == 1


def test_a_name_that_has_nothing_to_do_with_it() -> None:
    builder = Builder("e")
    assert blamed(culprits(UNITS, "a tactic failed", builder)) == [("e",)]


def test_an_op_that_is_refused_beside_others_alone() -> None:
    said = "no room for d"
    builder = Builder("ad", "db", says=said)
    assert culprits(UNITS, said, builder) == [Culprit(("d",), said)]


def test_the_op_within_a_unit() -> None:
    assert blamed(culprits(UNITS, "no", Builder("c"))) == [("c",)]
    assert blamed(culprits([("b", "c")], "no", Builder("bc"))) == [("b", "c")]


def test_ops_that_cannot_be_built_together() -> None:
    """Nobody knows which of them: all that is left counts."""
    assert blamed(culprits(UNITS, "no", Builder("af"))) == [("a", "b", "c", "d", "e", "f")]


def test_no_more_builds_than_allowed() -> None:
    builder = Builder("a", "f")
    found = culprits(UNITS, "no", builder, most=1)
    assert builder.trials == 1
    assert {"a"} <= {op for each in found for op in each.ops}
    assert blamed(culprits(UNITS, "no", builder, most=0)) == [("a", "b", "c", "d", "e", "f")]


@given(st.data())
def test_every_op_that_is_refused_by_itself_is_found_and_no_other(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 24))
    ops = [f"op{i}" for i in range(count)]
    refused = data.draw(st.sets(st.sampled_from(ops), min_size=1))
    cuts = sorted(data.draw(st.sets(st.integers(1, count))) | {count})
    units = [
        tuple(ops[low:high]) for low, high in zip([0, *cuts[:-1]], cuts, strict=True) if high > low
    ]
    found = culprits(units, "no", Builder(*([each] for each in refused)), most=1000)
    unit_of = {op: unit for unit in units for op in unit}
    # One op of each unit is enough: its unit is placed as a whole.
    assert {unit_of[op] for each in found for op in each.ops} == {unit_of[op] for op in refused}
    assert all(set(each.ops) <= refused for each in found)


def test_a_name_within_a_longer_one_is_another() -> None:
    assert names_one_of("cannot compile 'conv_1'", ("conv_1",))
    assert names_one_of("{ForeignNode[conv_1...relu_2]}", ("relu_2",))
    assert not names_one_of("cannot compile conv_12", ("conv_1",))
    assert not names_one_of("cannot compile /block/conv_1", ("conv_1",))
    assert names_one_of("cannot compile /block/conv.1", ("/block/conv.1",))
