"""What it costs the answer to encode one tensor: measured, and only where a plan asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import onnx

from partc.codecs import decode, encode, is_lossy
from partc.ir.program import Array, Program
from partc.measure.loss import output_loss
from partc.passes import surgery
from partc.passes.contract import Progress, no_progress
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.targets.reference import open_reference


class LossMeter:
    """Runs the rest of the model from an encoded and decoded tensor on.

    Compression loses nothing, so ``int8`` and ``int8+zstd`` share one measurement.
    """

    def __init__(self, program: Program, seed: int, progress: Progress = no_progress) -> None:
        self._program = program
        self._progress = progress
        self._extractor = surgery.Extractor(program.model)
        self._feeds = sample_feeds(program, seed)
        self._expected: dict[str, Array] = {}
        self._losses: dict[tuple[str, str], float] = {}

    @property
    def count(self) -> int:
        """How many losses were measured."""
        return len(self._losses)

    def known(self, tensor: str, codec: str) -> float | None:
        """The loss, where it was measured or there can be none."""
        return self._losses.get((tensor, codec.split("+")[0])) if is_lossy(codec) else 0.0

    def learn(self, used: Iterable[tuple[str, str]]) -> bool:
        """Measure the losses that plans rest on; whether there were any unknown ones.

        Args:
            used: tensors and the codecs that plans give them.
        """
        assert self._program.codecs is not None
        unknown = [tensor for tensor, codec in used if self.known(tensor, codec) is None]
        for tensor in dict.fromkeys(unknown):
            self._progress(f"measuring the loss of encoding {tensor}", None)
            self.measure(tensor, list(self._program.codecs.ratios[tensor]))
        return bool(unknown)

    def measure(self, tensor: str, codecs: list[str]) -> None:
        """Find the losses of one tensor, for all lossy ``codecs`` at once."""
        quantisers = list(dict.fromkeys(codec.split("+")[0] for codec in codecs if is_lossy(codec)))
        array = self._activation(tensor)
        tail = self._tail(tensor)
        with open_reference(tail) if tail.graph.output else nullcontext() as runner:
            for quantiser in quantisers:
                data, used = encode(array, quantiser)
                back = decode(data, used, array.dtype.name, array.shape)
                outputs = runner.run({**self._feeds, tensor: back}) if runner else {}
                if tensor in self._program.outputs:
                    outputs[tensor] = back
                expected = {name: self._expected[name] for name in outputs}
                self._losses[tensor, quantiser] = output_loss(outputs, expected)

    def _activation(self, tensor: str) -> Array:
        if tensor in self._feeds and self._expected:
            return self._feeds[tensor]
        info = self._program.tensor(tensor)
        model = self._program.model
        if tensor not in self._feeds:
            model = surgery.with_outputs(model, [value_info(tensor, info)])
        with open_reference(model) as runner:
            outputs = runner.run(self._feeds)
        self._expected = {name: outputs[name] for name in self._program.outputs}
        return outputs[tensor] if tensor not in self._feeds else self._feeds[tensor]

    def _tail(self, tensor: str) -> onnx.ModelProto:
        """The model with ``tensor`` as an input in place of what computes it."""
        program = self._program
        needed: dict[str, None] = {}
        read: set[str] = set()
        stack = [name for name in program.outputs if name != tensor]
        while stack:
            name = stack.pop()
            producer = program.producer.get(name)
            if name == tensor or producer is None:
                read.add(name)
                continue
            if producer.name not in needed:
                needed[producer.name] = None
                stack.extend(producer.inputs)
        outputs = [name for name in program.outputs if name in program.producer]
        return self._extractor.extract(
            needed,
            [value_info(name, program.tensor(name)) for name in sorted(read)],
            [value_info(name, program.tensor(name)) for name in outputs if name != tensor],
            "tail",
        )
