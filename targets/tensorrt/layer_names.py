"""From the names of an engine's layers back to the ops of the graph. Text alone, no TensorRT.

What the names of a profile or of the engine inspector look like:

=======================================================  ==========================================
``Conv_0 + Relu_1``, ``A || B``                          fused ops, sibling ops
``PWN(Sigmoid_2, Mul_3)``, ``PWN(PWN(a), PWN(b))``       pointwise ops in one kernel
``{ForeignNode[MatMul_4...Add_9]}``                      a region of another compiler (Myelin, DLA):
                                                         from the first op to the last
``__myl_MulAddRes_myl3_5``, ``/attn/MatMul_myl3_6``      a kernel of such a region
``Reformatting CopyNode for Input Tensor 0 to Conv_0``   a change of layout on behalf of Conv_0
``squeeze_after_A``, ``reshape_before_A``, ``A_12``      what the parser added to op A
``(Unnamed Layer* 12) [Shuffle]``                        a part without a name
=======================================================  ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["ops", "region", "reformat", "kernel", "unknown"]

_REFORMAT = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (?P<layer>.+)$")
_NETWORK = re.compile(r"^Reformatting CopyNode for Network (?:Input|Output) (?P<tensor>.+)$")
_WRAPPED = re.compile(r"^(?:PWN|PointWise|PWN_V2)\((?P<inner>.*)\)$")
_REGION = re.compile(r"^\{ForeignNode\[(?P<inner>.*)\]\}$")
_PROFILE = re.compile(r" \[profile \d+\]$")
_KERNEL = re.compile(r"_(?P<region>myl\d*)_\d+$")
_METADATA = re.compile(r"\[ONNX Layer: (.+?)\](?=\x1e|$)")
_BEFORE = (
    "squeeze_after_",
    "reshape_after_",
    "reshape_before_",
    "unsqueeze_node_after_",
    "copied_",
)
_AFTER = re.compile(r"(?:_output|_clone_\d+|_\d+|\s*\[Constant\])$")
_BETWEEN = re.compile(r"^shuffle_between_(?P<one>.+)_and_(?P<other>.+)$")
_OPENING, _CLOSING = "([{", ")]}"
_SEPARATORS = (" + ", " || ", ", ")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_/]")


@dataclass(frozen=True)
class LayerName:
    """What one name says.

    Attributes:
        ops: ops of the graph that the name holds, in its order, each once.
        spans: (first, last) of regions; an end that is no op of the graph is None.
        region: of a kernel, the compiler's own name of the region it belongs to; or empty.
    """

    text: str
    kind: Kind
    ops: tuple[str, ...] = ()
    spans: tuple[tuple[str | None, str | None], ...] = ()
    region: str = ""


class NameReader:
    """Reads names of an engine that was built from a graph.

    Args:
        ops: node names of the graph in topological order.
        tensors: tensor -> the op that a layer named after the tensor works for.
    """

    def __init__(self, ops: Sequence[str], tensors: Mapping[str, str] | None = None) -> None:
        self._position = {name: index for index, name in enumerate(ops)}
        self._tensors = dict(tensors or {})
        plain: dict[str, list[str]] = {}
        for name in self._position:
            plain.setdefault(_UNUSUAL.sub("_", name), []).append(name)
        self._plain = {key: names[0] for key, names in plain.items() if len(names) == 1}

    def read(self, text: str) -> LayerName:
        """What a layer's name says; a name that says nothing has kind ``unknown``."""
        bare = _PROFILE.sub("", text.strip())
        found = _Found()
        reformat = _REFORMAT.match(bare)
        network = _NETWORK.match(bare)
        if network is not None:
            self._atom(network["tensor"], found)
        else:
            self._walk(reformat["layer"] if reformat else bare, found)
        return LayerName(
            text=text,
            kind=self._kind(found, bool(reformat or network)),
            ops=tuple(found.ops),
            spans=tuple(found.spans),
            region=found.region,
        )

    @staticmethod
    def _kind(found: _Found, is_reformat: bool) -> Kind:
        if is_reformat:
            return "reformat"
        if found.spans:
            return "region"
        if found.ops:
            return "ops"
        return "kernel" if found.region else "unknown"

    def _walk(self, text: str, found: _Found) -> None:
        text = text.strip()
        if text in self._position:
            found.ops[text] = None
            return
        if (region := _REGION.match(text)) is not None:
            first, dots, last = _ends(region["inner"], self._position)
            found.spans.append((self._resolve(first), self._resolve(last if dots else first)))
            return
        for separator in _SEPARATORS:
            parts = list(_split(text, separator))
            if len(parts) > 1:
                for part in parts:
                    self._walk(part, found)
                return
        if (wrapped := _WRAPPED.match(text)) is not None:
            self._walk(wrapped["inner"], found)
            return
        self._atom(text, found)

    def _atom(self, text: str, found: _Found) -> None:
        kernel = _KERNEL.search(text)
        if kernel is not None and text not in self._position:
            found.region = kernel["region"]
            text = text[: kernel.start()]
        if (between := _BETWEEN.match(text)) is not None:
            for part in (between["one"], between["other"]):
                self._atom(part, found)
            return
        op = self._resolve(text)
        if op is not None:
            found.ops[op] = None

    def _resolve(self, text: str) -> str | None:
        """The op that a part of a name stands for."""
        text = text.strip()
        while True:
            for known in (self._by_name(text), self._tensors.get(text)):
                if known is not None:
                    return known
            shorter = _without_affix(text)
            if shorter == text:
                return None
            text = shorter

    def _by_name(self, text: str) -> str | None:
        return text if text in self._position else self._plain.get(_UNUSUAL.sub("_", text))

    def attribute(
        self, layers: Sequence[str], metadata: Mapping[str, str] | None = None
    ) -> list[tuple[str, ...]]:
        """For each layer of an engine the ops whose work it does.

        A named op counts for the layer that names it. The ops within a region are those between
        its ends that no layer names. A kernel without an op of its own gets the unnamed ops
        between the layers before and after it. A reformat works for the layer that it feeds. An
        empty tuple remains where nothing is known.

        Args:
            layers: in the order of the engine.
            metadata: layer -> the inspector's ``Metadata``, which names its ops outright.
        """
        names = [
            self._with_metadata(self.read(text), (metadata or {}).get(text)) for text in layers
        ]
        named = {op for name in names if name.kind != "reformat" for op in name.ops}
        ops_of: list[tuple[str, ...]] = []
        for name in names:
            spanned = [op for span in name.spans for op in self._between(*span, named)]
            ops_of.append(tuple(dict.fromkeys((*name.ops, *spanned))))
        claimed = named | {op for ops in ops_of for op in ops}
        gaps = dict(self._gaps(names, ops_of, claimed))
        return [gaps.get(index, ops) for index, ops in enumerate(ops_of)]

    def _with_metadata(self, name: LayerName, metadata: str | None) -> LayerName:
        told = [op for op in metadata_ops(metadata or "") if op in self._position]
        if not told or name.kind == "reformat":
            return name
        return LayerName(name.text, "ops", tuple(dict.fromkeys(told)), (), name.region)

    def _between(self, first: str | None, last: str | None, named: set[str]) -> Iterator[str]:
        if first is None and last is None:
            return
        low = self._position[first] if first is not None else 0
        high = self._position[last] if last is not None else len(self._position) - 1
        if low > high:
            low, high = high, low
        ends = {first, last}
        for op, position in self._position.items():
            if low <= position <= high and (op in ends or op not in named):
                yield op

    def _gaps(
        self, names: Sequence[LayerName], ops_of: Sequence[tuple[str, ...]], claimed: set[str]
    ) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Unnamed layers with what lies between their neighbours and is nobody's yet."""
        for index, name in enumerate(names):
            if ops_of[index] or name.kind == "reformat":
                continue
            before = [self._position[op] for ops in ops_of[:index] for op in ops]
            after = [self._position[op] for ops in ops_of[index + 1 :] for op in ops]
            low = max(before, default=-1)
            high = min((p for p in after if p > low), default=len(self._position))
            inside = tuple(
                op for op, p in self._position.items() if low < p < high and op not in claimed
            )
            yield index, inside


@dataclass
class _Found:
    ops: dict[str, None] = field(default_factory=dict)
    spans: list[tuple[str | None, str | None]] = field(default_factory=list)
    region: str = ""


def metadata_ops(text: str) -> tuple[str, ...]:
    r"""Node names in the inspector's ``Metadata``: ``[ONNX Layer: a]\x1e[ONNX Layer: b]``."""
    return tuple(_METADATA.findall(text))


def op_times(
    layers_s: Iterable[tuple[str, float]],
    ops_of: Sequence[tuple[str, ...]],
    work: Callable[[str], float] = lambda op: 1.0,
) -> tuple[dict[str, float], float]:
    """Seconds for each op, and seconds that belong to no op.

    A layer's time is shared among its ops in proportion to their ``work`` (operations, say),
    which is a guess wherever the layer spans several blocks.

    Args:
        layers_s: name and seconds of each layer.
        ops_of: of `NameReader.attribute` for the same layers.
    """
    times: dict[str, float] = {}
    nobody_s = 0.0
    for (_, seconds), ops in zip(layers_s, ops_of, strict=True):
        if not ops:
            nobody_s += seconds
            continue
        shares = [max(work(op), 0.0) for op in ops]
        total = sum(shares)
        for op, share in zip(ops, shares, strict=True):
            part = share / total if total > 0 else 1.0 / len(ops)
            times[op] = times.get(op, 0.0) + seconds * part
    return times, nobody_s


def _without_affix(text: str) -> str:
    for prefix in _BEFORE:
        if text.startswith(prefix):
            return text.removeprefix(prefix)
    return _AFTER.sub("", text)


def _split(text: str, separator: str) -> Iterator[str]:
    """Parts of ``text`` between separators that stand in no bracket."""
    depth, start, index = 0, 0, 0
    while index < len(text):
        character = text[index]
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth = max(0, depth - 1)
        elif depth == 0 and text.startswith(separator, index):
            yield text[start:index]
            index += len(separator)
            start = index
            continue
        index += 1
    yield text[start:]


def _ends(inner: str, known: Mapping[str, int]) -> tuple[str, str, str]:
    """First and last of a region; names may hold dots, so known names decide where to cut."""
    cuts = [match.start() for match in re.finditer(r"(?=\.\.\.)", inner)]
    for cut in cuts:
        if inner[:cut] in known or inner[cut + 3 :] in known:
            return inner[:cut], "...", inner[cut + 3 :]
    return inner.partition("...")
