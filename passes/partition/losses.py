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
        made = self._made_with(tensor)
        if not all(self._program.tensor(name).can_cross for name in made):
            # Made together with what no boundary holds: counts as lost, so it is not encoded.
            self._losses.update(dict.fromkeys(((tensor, each) for each in quantisers), 1.0))
            return
        feeds = self._feeds | self._activations(made)
        tail = self._tail(tensor, made)
        with open_reference(tail) if tail.graph.output else nullcontext() as runner:
            for quantiser in quantisers:
                data, used = encode(feeds[tensor], quantiser)
                back = decode(data, used, feeds[tensor].dtype.name, feeds[tensor].shape)
                outputs = runner.run(feeds | {tensor: back}) if runner else {}
                if tensor in self._program.outputs:
                    outputs[tensor] = back
                expected = {name: self._expected[name] for name in outputs}
                self._losses[tensor, quantiser] = output_loss(outputs, expected)

    def _made_with(self, tensor: str) -> tuple[str, ...]:
        """Every output of the op that makes it, which so are all known to the tail."""
        producer = self._program.producer.get(tensor)
        return (tensor,) if producer is None else producer.outputs

    def _activations(self, tensors: tuple[str, ...]) -> dict[str, Array]:
        wanted = [name for name in tensors if name not in self._feeds]
        if not wanted and self._expected:
            return {}
        extra = [value_info(name, self._program.tensor(name)) for name in wanted]
        with open_reference(surgery.with_outputs(self._program.model, extra)) as runner:
            outputs = runner.run(self._feeds)
        self._expected = {name: outputs[name] for name in self._program.outputs}
        return {name: outputs[name] for name in wanted}

    def _tail(self, tensor: str, given: tuple[str, ...]) -> onnx.ModelProto:
        """The model with the tensors ``given`` as inputs in place of what computes them."""
        program = self._program
        outputs = [n for n in program.outputs if n not in given and n in program.producer]
        needed: dict[str, None] = {}
        read: set[str] = set()
        stack = list(outputs)
        while stack:
            name = stack.pop()
            producer = program.producer.get(name)
            if name in given or producer is None:
                read.add(name)
                continue
            if producer.name not in needed:
                needed[producer.name] = None
                stack.extend(producer.inputs)
        return self._extractor.extract(
            needed,
            [value_info(name, program.tensor(name)) for name in sorted(read)],
            [
                value_info(name, program.tensor(name))
                for name in outputs
                if name in program.producer
            ],
            "tail",
        )
