"""Writes a plan with tiles as a plain ONNX program in which every tile is an op with a host.

A tile of op ``conv`` on host ``near`` is the node ``conv@near``. Rows of tensor ``t`` that are cut
off or put together for a host are the tensor ``t[4:9]@near``. Sending needs no op: a Slice on the
host that holds rows and a Concat on the host that reads them are a halo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import onnx

from partc.errors import PassError
from partc.ir.program import Array, Op, Program
from partc.ir.tensor import TensorInfo
from partc.ir.tiling import TensorPart, TileGroup
from partc.ir.topology import Topology
from partc.passes.tiling.bound import Binder, BoundGroup, BoundOp, Demand
from partc.passes.tiling.branches import Branching
from partc.passes.tiling.channels import InputChannels
from partc.passes.tiling.geometry import Tile
from partc.passes.tiling.margins import Held, held_rows, reads_all
from partc.passes.tiling.nodes import in_running_order, rename_reads, resized

Bound = BoundGroup | InputChannels | Branching


@dataclass(frozen=True)
class Piece:
    """Rows ``begin`` to ``end`` of a tensor, along ``axis``, that ``host`` holds as ``name``."""

    host: str
    name: str
    axis: int
    begin: int
    end: int


@dataclass
class Lowered:
    """The nodes of the rewritten program, with what else is known of each.

    Attributes:
        host_of: node -> host.
        block_of: node -> block; nodes of constants have none.
        shares: tile's block -> (block, share of its rows that are computed).
        moved_bytes: block that only cuts or puts together -> bytes that it copies.
        parts: tensor -> what it holds of a tensor of the program as it was.
        rows: (group, op, host) -> rows computed.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    host_of: dict[str, str] = field(default_factory=dict)
    block_of: dict[str, str] = field(default_factory=dict)
    shares: dict[str, tuple[str, float]] = field(default_factory=dict)
    moved_bytes: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    parts: dict[str, TensorPart] = field(default_factory=dict)
    rows: dict[tuple[int, str, str], tuple[int, int]] = field(default_factory=dict)


class Lowering:
    """Rewrites one program; groups must have been checked (`partc.passes.tiling.checking`)."""

    def __init__(self, program: Program, topology: Topology, binder: Binder) -> None:
        if program.plan is None:
            raise PassError("tiles need a plan; run partition before tile")
        self._program = program
        self._topology = topology
        self._placement = dict(program.plan.placement)
        self._binder = binder
        self._tiled_ops: set[str] = set()
        self._pieces: dict[str, list[Piece]] = {}
        self._whole_at: dict[str, str] = {}
        self._made: dict[tuple[str, ...], str] = {}
        self._names = {*program.producer, *program.inputs, *program.weights, *program.nodes}
        self._count = 0
        self.out = Lowered(tensors=dict(program.tensors))

    def run(self, groups: Sequence[tuple[TileGroup, Bound]]) -> Lowered:
        """All groups in the order in which they run, then what is left as it was."""
        for position, (group, bound) in enumerate(groups):
            if isinstance(bound, InputChannels):
                self._split_inputs(position, group, bound)
            elif isinstance(bound, Branching):
                self._share_branches(position, group, bound)
            else:
                self._tile(position, group, bound)
        for op in self._program.ops:
            if op.name not in self._tiled_ops:
                self._keep(op)
        for name in self._program.outputs:
            if name in self._pieces:
                self._give_output(name)
        self.out.nodes = in_running_order(self.out.nodes)
        return self.out

    # Tiles -----------------------------------------------------------------------------------

    def _tile(self, position: int, group: TileGroup, bound: BoundGroup) -> None:
        self._tiled_ops.update(each.op.name for each in bound.ops)
        pieces: list[Piece] = []
        for k, host in enumerate(group.hosts):
            begin, end = group.bounds[k], group.bounds[k + 1]
            self._tile_on(position, group, bound, k)
            name = f"{group.exit}@{host}"
            pieces.append(Piece(host, name, group.axis, begin, end))
        self._pieces[group.exit] = pieces
        self._whole_at[group.exit] = self._first_reader(group.exit)

    def _tile_on(self, position: int, group: TileGroup, bound: BoundGroup, k: int) -> None:
        host, begin, end = group.hosts[k], group.bounds[k], group.bounds[k + 1]
        demand = bound.demand(np.array(begin), np.array(end))
        kept = self._kept(group, bound, demand, host)
        entry = (int(demand.entry[0]), int(demand.entry[1]))
        if kept is not None:
            entry = kept.tensors[bound.entry]
        held: dict[str, tuple[str, int, int]] = {}
        for each in bound.ops:
            low, high = (int(value) for value in demand.ops[each.op.name])
            right = (low, high)
            if kept is not None:
                low, high = kept.tensors[each.outputs[0]]
            self.out.rows[position, each.op.name, host] = (low, high)
            block = self._program.block_of[each.op.name].name
            local = f"{block}@{host}"
            share = max((high - low) / each.geometry.rows, self.out.shares.get(local, ("", 0.0))[1])
            self.out.shares[local] = (block, share)
            writer = _TileWriter(self, each, host, local, low, high)
            takes_all = kept is not None and reads_all(each)
            for index, read in each.geometry.reads.items():
                rows = read.rows(low, high)
                name = each.node.input[index]
                if kept is not None and takes_all and not each.site.is_constant(name):
                    rows = kept.tensors[name]
                if each.site.is_constant(name):
                    source = self._cut_constant(name, read.axis, read.size, *rows, host)
                elif name in held:
                    # With its producer: two readers in one block and apart would wait in a circle.
                    made_in = self._program.block_of[self._program.producer[name].name].name
                    source = self._cut(
                        held[name], name, read.axis, *rows, host, f"{made_in}@{host}"
                    )
                    if kept is not None:  # rows of it may be wrong that nobody needs
                        self.out.parts.pop(source, None)
                else:
                    source = self._from_entry(name, host, read.axis, rows, entry)
                writer.read(index, source, rows)
            computed = each.geometry.rewrite(writer)
            wanted = (begin, end) if bound.exit in each.outputs else (low, high)
            writer.finish(computed, wanted, right)
            for name in each.outputs:
                held[name] = (f"{name}@{host}", low, high)

    def _kept(self, group: TileGroup, bound: BoundGroup, demand: Demand, host: str) -> Held | None:
        if group.margins == "cut":
            return None
        axis = bound.axes[bound.entry]
        pieces = self._pieces_of(bound.entry, axis)
        own = [(p.begin, p.end) for p in pieces if p.host == host and p.axis == axis]
        kept = held_rows(bound, demand, own[0] if own else None)
        return kept if kept is not None and (kept.pays or group.margins == "kept") else None

    def _from_entry(
        self, tensor: str, host: str, axis: int, rows: tuple[int, int], hull: tuple[int, int]
    ) -> str:
        """Rows of a group's entry: from what the host has itself if it can, else out of the rows
        that all ops of the host need together, so that nothing is sent twice."""
        for piece in self._pieces_of(tensor, axis):
            is_inside = piece.axis == axis and piece.begin <= rows[0] and rows[1] <= piece.end
            if piece.host == host and is_inside:
                return self._cut((piece.name, piece.begin, piece.end), tensor, axis, *rows, host)
        together = self.fetch(tensor, host, axis, *hull)
        return self._cut((together, *hull), tensor, axis, *rows, host)

    def _give_output(self, tensor: str) -> None:
        made = self.whole(tensor, self._whole_at[tensor])
        if made != tensor:  # one host made all of it
            name = self._unused(f"Identity_{tensor}")
            node = onnx.helper.make_node("Identity", [made], [tensor], name)
            self.add(node, self._pieces[tensor][0].host, None)

    # Rows of tensors -------------------------------------------------------------------------

    def fetch(self, tensor: str, host: str, axis: int, begin: int, end: int) -> str:
        """Name of a tensor that holds these rows: its reader ``host`` has it, or is sent it."""
        pieces = self._pieces_of(tensor, axis)
        if pieces[0].axis == axis:
            wanted = [p for p in pieces if p.begin < end and begin < p.end]
            parts = [
                self._cut(
                    (p.name, p.begin, p.end),
                    tensor,
                    axis,
                    max(begin, p.begin),
                    min(end, p.end),
                    p.host,
                )
                for p in wanted
            ]
        else:
            parts = [self._cut_across(p, tensor, axis, begin, end) for p in pieces]
        if len(parts) == 1:
            return parts[0]
        return self._put_together(tensor, parts, pieces[0].axis, host, axis, begin, end)

    def whole(self, tensor: str, host: str) -> str:
        """Name of a tensor that holds all rows."""
        pieces = self._pieces.get(tensor)
        if pieces is None:
            return tensor
        return self.fetch(tensor, host, pieces[0].axis, 0, pieces[-1].end)

    def _pieces_of(self, tensor: str, axis: int) -> list[Piece]:
        if tensor in self._pieces:
            return self._pieces[tensor]
        return [Piece(self._home(tensor), tensor, axis, 0, self._size(tensor, axis))]

    def _home(self, tensor: str) -> str:
        producer = self._program.producer.get(tensor)
        if producer is None:
            return self._topology.input_home(tensor)
        return self.out.host_of.get(producer.name) or self._placement[producer.name]

    def _size(self, tensor: str, axis: int) -> int:
        shape = self._program.tensor(tensor).planned_shape
        assert shape is not None
        return shape[axis]

    def _cut(
        self,
        source: tuple[str, int, int],
        tensor: str,
        axis: int,
        begin: int,
        end: int,
        host: str,
        block: str | None = None,
    ) -> str:
        """Rows of a tensor that ``host`` holds; by a Slice where it holds more."""
        name, low, high = source
        if (low, high) == (begin, end):
            return name
        key = ("cut", name, str(axis), str(begin), str(end), host)
        if key not in self._made:
            target = self._unused(f"{tensor}[{begin}:{end}]@{host}")
            self._made[key] = target
            self._describe(target, TensorPart(tensor, axis, begin, end))
            self.add(self.slice_node(name, target, axis, begin - low, end - low), host, block)
        return self._made[key]

    def _cut_across(self, piece: Piece, tensor: str, axis: int, begin: int, end: int) -> str:
        """A range along one axis out of a piece that was cut along another."""
        if (begin, end) == (0, self._size(tensor, axis)):
            return piece.name
        key = ("across", piece.name, str(axis), str(begin), str(end))
        if key not in self._made:
            target = self._unused(f"{piece.name}[{begin}:{end}]")
            self._made[key] = target
            held = self.out.tensors[piece.name]
            self.out.tensors[target] = resized(held, target, {axis: end - begin})
            self.add(self.slice_node(piece.name, target, axis, begin, end), piece.host, None)
        return self._made[key]

    def _put_together(
        self,
        tensor: str,
        parts: Sequence[str],
        joint: int,
        host: str,
        axis: int,
        begin: int,
        end: int,
    ) -> str:
        is_whole = (begin, end) == (0, self._size(tensor, axis))
        key = ("together", tensor, "" if is_whole else f"{axis} {begin} {end}", host)
        if key not in self._made:
            if is_whole and self._whole_at.get(tensor) == host:
                target = tensor
            else:
                target = self._unused(f"{tensor}[{begin}:{end}]@{host}")
            self._made[key] = target
            node = onnx.helper.make_node(
                "Concat", list(parts), [target], self._unused(f"Concat_{target}"), axis=joint
            )
            self._describe(target, TensorPart(tensor, axis, begin, end))
            self.add(node, host, None)
        return self._made[key]

    def slice_node(
        self, source: str, target: str, axis: int, begin: int, end: int
    ) -> onnx.NodeProto:
        """A Slice in the form that the model's opset has."""
        name = self._unused(f"Slice_{target}")
        if self._binder.opset < 10:
            return onnx.helper.make_node(
                "Slice", [source], [target], name, axes=[axis], starts=[begin], ends=[end]
            )
        values = [
            self.weight(np.array([value], np.int64), f"rows_{value}")
            for value in (begin, end, axis)
        ]
        return onnx.helper.make_node("Slice", [source, *values], [target], name)

    def _cut_constant(
        self, name: str, axis: int, size: int, begin: int, end: int, host: str
    ) -> str:
        """Rows of a weight, as a weight of its own so that a host need not have all of it."""
        if (begin, end) == (0, size):
            return name
        key = ("constant", name, str(axis), str(begin), str(end))
        if key in self._made:
            return self._made[key]
        target = self._unused(f"{name}[{begin}:{end}]")
        self._made[key] = target
        value = self._binder.value(name)
        if value is not None:
            own = np.ascontiguousarray(np.take(value, range(begin, end), axis=axis))
            self.out.weights[target] = onnx.numpy_helper.from_array(own, target)
        else:
            self.out.tensors[target] = resized(
                self._program.tensor(name), target, {axis: end - begin}
            )
            self.out.nodes.append(self.slice_node(name, target, axis, begin, end))
        return target

    # Input channels --------------------------------------------------------------------------

    def _split_inputs(self, position: int, group: TileGroup, layer: InputChannels) -> None:
        total = group.sum_at or group.hosts[0]
        op = layer.op
        block = self._program.block_of[op.name].name
        self._tiled_ops.add(op.name)
        parts: list[str] = []
        output = op.outputs[0]
        channels = group.bounds[-1]
        for k, host in enumerate(group.hosts):
            begin, end = group.bounds[k], group.bounds[k + 1]
            local = f"{block}@{host}"
            node = onnx.NodeProto()
            node.CopyFrom(self._program.nodes[op.name])
            node.name, node.output[0] = f"{op.name}@{host}", f"{output}@{host}"
            node.input[0] = self.fetch(group.entry, host, layer.entry_axis, begin, end)
            weight = node.input[layer.weight_index]
            node.input[layer.weight_index] = self._cut_constant(
                weight, layer.weight_axis, channels, begin, end, host
            )
            if k > 0:
                del node.input[layer.bias_index :]  # one host adds the bias
            self.add(node, host, local)
            self.out.tensors[node.output[0]] = replace(
                self._program.tensor(output), name=node.output[0]
            )
            self.out.shares[local] = (block, (end - begin) / channels)
            self.out.rows[position, op.name, host] = (begin, end)
            parts.append(node.output[0])
        add = onnx.helper.make_node("Sum", parts, [output], self._unused(f"Sum_{output}"))
        self.add(add, total, None)
        rest = {name for b in group.blocks for name in self._block_ops(b)} - {op.name}
        self._placement.update(dict.fromkeys(rest, total))
        self.out.host_of[op.name] = total
        if self._block_ops(block) != (op.name,):
            # What else the kernel did is now apart from the convolution; its time is unknown.
            self.out.shares[block] = (block, 0.0)

    def _block_ops(self, name: str) -> tuple[str, ...]:
        return next(b.ops for b in self._program.blocks or () if b.name == name)

    # Branches --------------------------------------------------------------------------------

    def _share_branches(self, position: int, group: TileGroup, found: Branching) -> None:
        self._tiled_ops.update(op.name for op in (*found.ops, found.join))
        for host in group.hosts:
            needed = found.needed(group.owners, host)
            names = {tensor: f"{tensor}@{host}" for op in found.ops for tensor in op.outputs}
            names[group.entry] = self.whole(group.entry, host)
            for op in found.ops:
                self.out.rows[position, op.name, host] = (0, int(op.name in needed))
                if op.name in needed:
                    self._run_whole(op, host, names)
        edges = zip(found.parts, group.owners, pairwise(found.bounds), strict=True)
        pieces = [Piece(host, f"{part}@{host}", group.axis, *edge) for part, host, edge in edges]
        for piece in pieces:
            self._describe(piece.name, TensorPart(group.exit, group.axis, piece.begin, piece.end))
        self._pieces[group.exit] = pieces
        self._whole_at[group.exit] = self._first_reader(group.exit)

    def _run_whole(self, op: Op, host: str, names: Mapping[str, str]) -> None:
        """A copy of an op for one of several hosts that may run it."""
        node = onnx.NodeProto()
        node.CopyFrom(self._program.nodes[op.name])
        node.name = f"{op.name}@{host}"
        rename_reads(node, names)
        for index, tensor in enumerate(node.output):
            node.output[index] = names.get(tensor, "")
            if not tensor:
                continue
            info = self._program.tensor(tensor)
            self.out.tensors[names[tensor]] = replace(info, name=names[tensor])
            fixed = {side: axis for axis, side in enumerate(info.shape or ())
                     if isinstance(side, int)}  # fmt: skip
            if fixed and info.can_cross:
                size = max(fixed)
                self._describe(names[tensor], TensorPart(tensor, fixed[size], 0, size))
        block = self._program.block_of[op.name].name
        self.out.shares[f"{block}@{host}"] = (block, 1.0)
        self.add(node, host, f"{block}@{host}")

    # What stays ------------------------------------------------------------------------------

    def _keep(self, op: Op) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(self._program.nodes[op.name])
        if op.is_constant:
            self.out.nodes.append(node)
            return
        host = self._placement[op.name]
        renamed = {name: self.whole(name, host) for name in op.inputs if name in self._pieces}
        rename_reads(node, {old: new for old, new in renamed.items() if old != new})
        self.out.nodes.append(node)
        self.out.host_of[op.name] = host
        self.out.block_of[op.name] = self._program.block_of[op.name].name

    def _first_reader(self, tensor: str) -> str:
        """Where the tensor keeps its name when it is whole again."""
        if tensor in self._program.outputs:
            return self._topology.output_home(tensor)
        for op in self._program.consumers.get(tensor, ()):
            if op.name in self._placement:
                return self._placement[op.name]
        return self._topology.first_host

    # Bookkeeping -----------------------------------------------------------------------------

    def add(self, node: onnx.NodeProto, host: str, block: str | None) -> None:
        """Keep a node. One without a block gets its own, which only moves data."""
        self.out.nodes.append(node)
        self.out.host_of[node.name] = host
        self.out.block_of[node.name] = block or node.name
        if block is None:
            target = self.out.tensors.get(node.output[0])
            size = target.size_bytes if target is not None and target.is_sized else 0
            self.out.moved_bytes[node.name] = float(size)

    def weight(self, value: Array, hint: str) -> str:
        """A weight with this value; equal ones are one."""
        key = ("weight", str(value.dtype), str(value.shape), value.tobytes().hex())
        if key not in self._made:
            name = self._unused(f"tile_{hint}")
            self._made[key] = name
            self.out.weights[name] = onnx.numpy_helper.from_array(
                np.asarray(value, order="C"), name
            )
        return self._made[key]

    def unused(self, wanted: str) -> str:
        """A name that nothing has yet."""
        return self._unused(wanted)

    def _unused(self, wanted: str) -> str:
        name = wanted
        while name in self._names:
            self._count += 1
            name = f"{wanted}.{self._count}"
        self._names.add(name)
        return name

    def _describe(self, name: str, part: TensorPart) -> None:
        whole = self._program.tensor(part.tensor)
        self.out.tensors[name] = resized(whole, name, {part.axis: part.end - part.begin})
        if name != part.tensor:
            self.out.parts[name] = part

    def describe_like(self, name: str, tensor: str, axis: int, rows: int) -> None:
        """Say that a new tensor differs from one of the program as it was in its rows alone."""
        self.out.tensors[name] = resized(self._program.tensor(tensor), name, {axis: rows})

    def describe(self, name: str, part: TensorPart) -> None:
        """Say what a new tensor holds of one of the program as it was."""
        self._describe(name, part)


class _TileWriter(Tile):
    """Collects the nodes of one op's tile, names them and puts them on their host."""

    def __init__(
        self, lowering: Lowering, bound: BoundOp, host: str, block: str, begin: int, end: int
    ) -> None:
        self.node = onnx.NodeProto()
        self.node.CopyFrom(bound.node)
        self.node.name = f"{bound.op.name}@{host}"
        self.begin, self.end = begin, end
        self._rows: dict[int, tuple[int, int]] = {}
        self.rows: Mapping[int, tuple[int, int]] = self._rows
        self._lowering, self._bound, self._host, self._block = lowering, bound, host, block
        self._nodes: list[onnx.NodeProto] = []
        for index, name in enumerate(self.node.output):
            self.node.output[index] = f"{name}@{host}" if name in bound.outputs else ""
        while self.node.output and not self.node.output[-1]:
            del self.node.output[-1]

    def read(self, index: int, source: str, rows: tuple[int, int]) -> None:
        """Let an input come from ``source``."""
        self.node.input[index] = source
        self._rows[index] = rows

    def emit(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if not copy.name:
            copy.name = self._lowering.unused(f"{self._bound.op.name}/{copy.op_type}@{self._host}")
        self._nodes.append(copy)

    def constant(self, value: Array, hint: str) -> str:
        return self._lowering.weight(value, hint)

    def temporary(self, hint: str, rows: int, like_input: int | None = None) -> str:
        name = self._lowering.unused(f"{self._bound.op.name}/{hint}@{self._host}")
        if like_input is None:
            model, axis = self._bound.outputs[0], self._bound.site.axis
        else:
            model = self._bound.node.input[like_input]
            axis = self._bound.geometry.reads[like_input].axis
        self._lowering.describe_like(name, model, axis, rows)
        return name

    def finish(
        self, computed: tuple[int, int], wanted: tuple[int, int], right: tuple[int, int]
    ) -> None:
        """Add the nodes; cut off rows that were computed beside those wanted.

        Args:
            right: the rows that equal the whole's.
        """
        axis = self._bound.site.axis
        for name in self._bound.outputs:
            target = f"{name}@{self._host}"
            self._describe(target, name, wanted, right)
            if computed != wanted:
                wider = self._lowering.unused(f"{name}[{computed[0]}:{computed[1]}]@{self._host}")
                self._describe(wider, name, computed, right)
                for node in self._nodes:
                    for index, output in enumerate(node.output):
                        if output == target:
                            node.output[index] = wider
                self._nodes.append(
                    self._lowering.slice_node(
                        wider,
                        target,
                        axis,
                        wanted[0] - computed[0],
                        wanted[1] - computed[0],
                    )
                )
        for node in self._nodes:
            self._lowering.add(node, self._host, self._block)

    def _describe(
        self, name: str, tensor: str, rows: tuple[int, int], right: tuple[int, int]
    ) -> None:
        axis = self._bound.site.axis
        if right[0] <= rows[0] and rows[1] <= right[1]:
            self._lowering.describe(name, TensorPart(tensor, axis, *rows))
        else:
            self._lowering.describe_like(name, tensor, axis, rows[1] - rows[0])
