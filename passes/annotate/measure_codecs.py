"""measure-codecs: how small and how fast each codec makes each tensor that may be cut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.codecs import CODEC_NAMES, applies_to, decode, encode, is_lossy
from partc.errors import TopologyError
from partc.ir.codec_table import CodecCost, CodecFactor, CodecTable
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.passes import surgery
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.suggest import unknown_name
from partc.targets.meter import KnowsCodecs
from partc.targets.reference import open_reference

_SMALLEST_WORTH_BYTES = 256
_TENSORS_AT_ONCE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class MeasureCodecs(Pass):
    """Encodes and decodes the real activations of the sample with every codec allowed.

    Speeds are this machine's. A node with an agent tells how its own differ.

    Does nothing where the topology allows none. What a codec costs the answer is measured later,
    for the tensors that a plan would really encode (`partc.passes.partition.losses`).
    """

    name: ClassVar[str] = "measure-codecs"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("blocked", "typed")
    ensures: ClassVar[tuple[str, ...]] = ()

    def run(self, program: Program, context: Context) -> PassResult:
        """Measure sizes tensor by tensor, and speeds over all of them."""
        codecs = allowed_codecs(context.topology)
        if not codecs or len(context.topology.hosts) < 2:
            return PassResult(program, False)
        feeds = sample_feeds(program, context.seed)
        spent = {codec: [0.0, 0.0, 0.0] for codec in codecs}
        ratios: dict[str, dict[str, float]] = {}
        names = _candidates(program)
        for done, (name, array) in enumerate(_activations(program, names, feeds)):
            context.progress("measuring codecs", done / max(len(names), 1))
            ratios[name] = {
                codec: _ratio(array, codec, spent[codec])
                for codec in codecs
                if applies_to(codec, array.dtype.name)
            }
        costs = {
            codec: CodecCost(encode_s / size_bytes, decode_s / size_bytes)
            for codec, (encode_s, decode_s, size_bytes) in spent.items()
            if size_bytes
        }
        factors = _factors(context, tuple(costs))
        notices = tuple(
            f"host {name!r} encodes and decodes as fast as this machine, as far as is known: its "
            "agent was not asked"
            for name, host in context.topology.hosts.items()
            if host.agent is not None and name not in factors
        )
        if not program.sample and any(is_lossy(codec) for codec in codecs):
            notices += (
                "codecs are measured on random input; give real samples with --input for sizes "
                "and losses that hold",
            )
        measured = replace(
            program, codecs=CodecTable(costs, ratios, factors), notices=(*program.notices, *notices)
        )
        said = f"{len(codecs)} codecs on {len(ratios)} tensors"
        return PassResult(measured, True, (said, *notices))


def _factors(context: Context, codecs: tuple[str, ...]) -> Mapping[str, Mapping[str, CodecFactor]]:
    """Host -> codec -> how its node's speed differs from this machine's."""
    of_place: dict[str, Mapping[str, CodecFactor]] = {}
    found: dict[str, Mapping[str, CodecFactor]] = {}
    for name in context.topology.hosts:
        meter = context.meters.get(name)
        asked: object = meter  # not every meter can be asked that
        if meter is not None and isinstance(asked, KnowsCodecs) and codecs:
            if meter.where not in of_place:
                context.progress("asking how fast codecs are", None)
                of_place[meter.where] = asked.codec_factors(codecs)
            found[name] = of_place[meter.where]
    return found


def allowed_codecs(topology: Topology) -> tuple[str, ...]:
    """The codecs that the topology allows; lossy ones only with a loss budget.

    Raises:
        TopologyError: an unknown codec, or a lossy one without a budget.
    """
    budget = topology.constraints.loss_budget
    wanted = topology.constraints.codecs
    if wanted is None:
        return CODEC_NAMES if budget is not None else ()
    for codec in wanted:
        if codec not in CODEC_NAMES:
            raise TopologyError(
                f"[constraints] codecs: {unknown_name('codec', codec, CODEC_NAMES)}"
            )
        if is_lossy(codec) and budget is None:
            raise TopologyError(
                f"[constraints] codec {codec!r} loses some of the answer; say how much may be lost "
                "with loss_budget (or --loss-budget)"
            )
    return tuple(dict.fromkeys(wanted))


def _candidates(program: Program) -> list[str]:
    """Inputs and the tensors between blocks that are large enough to be worth it."""
    names = dict.fromkeys(program.inputs)
    for block in program.blocks or ():
        names.update(dict.fromkeys(block.outputs))
    return [
        name
        for name in names
        if program.tensor(name).is_sized
        and program.tensor(name).size_bytes >= _SMALLEST_WORTH_BYTES
    ]


def _activations(
    program: Program, names: list[str], feeds: dict[str, Array]
) -> Iterable[tuple[str, Array]]:
    for name in names:
        if name in feeds:
            yield name, feeds[name]
    inner = [name for name in names if name not in feeds]
    while inner:
        part: list[str] = []
        size_bytes = 0
        while inner and (not part or size_bytes < _TENSORS_AT_ONCE_BYTES):
            size_bytes += program.tensor(inner[0]).size_bytes
            part.append(inner.pop(0))
        model = surgery.with_outputs(
            program.model, [value_info(name, program.tensor(name)) for name in part]
        )
        with open_reference(model) as runner:
            outputs = runner.run(feeds)
        yield from ((name, outputs[name]) for name in part)


def _ratio(array: Array, codec: str, spent: list[float]) -> float:
    """Encoded bytes per byte; adds encoding seconds, decoding seconds and bytes to ``spent``."""
    started = time.perf_counter()
    data, used = encode(array, codec)
    encoded = time.perf_counter()
    decode(data, used, array.dtype.name, array.shape)
    spent[0] += encoded - started
    spent[1] += time.perf_counter() - encoded
    spent[2] += array.nbytes
    return len(data) / array.nbytes if array.nbytes else 1.0
