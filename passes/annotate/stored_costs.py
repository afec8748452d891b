"""The costs of a program in the store: their keys, and words for people about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.measure.entries import About
from partc.measure.keys import CostKey
from partc.measure.signature import block_signature, ops_label
from partc.measure.store import CostStore
from partc.passes.annotate.block_costs import SEGMENT, WHOLE
from partc.targets.protocol import RunSettings


@dataclass(frozen=True)
class CostKeys:
    """Name (of a block, or `WHOLE` or `SEGMENT`) -> key, for one kind of host."""

    keys: Mapping[str, CostKey]
    about: Mapping[str, About]

    @classmethod
    def of(
        cls,
        program: Program,
        fingerprint: str,
        settings: RunSettings,
        pause_ms: float,
        power: str = "",
    ) -> CostKeys:
        """The keys of a program with blocks.

        Args:
            power: mode of the machine.
        """
        signatures = {block.name: block_signature(program, block) for block in program.blocks or ()}
        whole = hashlib.sha256("".join(signatures.values()).encode()).hexdigest()

        def key(kind: str, signature: str = "") -> CostKey:
            return CostKey(kind, signature, fingerprint, settings.key, pause_ms, power)

        keys = {name: key("block", signature) for name, signature in signatures.items()}
        about = {
            block.name: About(ops_label(program, block.ops), program.name)
            for block in program.blocks or ()
        }
        return cls(
            {**keys, WHOLE: key("whole", whole), SEGMENT: key("segment-fixed")},
            {**about, WHOLE: About("the whole model", program.name), SEGMENT: About()},
        )

    @property
    def texts(self) -> dict[str, str]:
        """Name -> key as the store has it."""
        return {name: str(key) for name, key in self.keys.items()}

    def find(self, store: CostStore, of_any_mode: bool = True) -> dict[str, Cost]:
        """What the store has of them; see `CostKey.texts`."""
        return find_costs(store, self.keys, of_any_mode)

    def add(self, store: CostStore, costs: Mapping[str, Cost]) -> None:
        """Keep costs; of blocks that are alike, the one in the middle."""
        texts = self.texts
        alike: dict[str, list[Cost]] = {}
        about: dict[str, About] = {}
        for name, cost in costs.items():
            alike.setdefault(texts[name], []).append(cost)
            about[texts[name]] = self.about[name]
        middle = {
            key: sorted(found, key=lambda cost: cost.median_s)[len(found) // 2]
            for key, found in alike.items()
        }
        store.add(middle, about)


def find_costs(
    store: CostStore, keys: Mapping[str, CostKey], of_any_mode: bool = True
) -> dict[str, Cost]:
    """Name -> cost, for each key that the store has in some form; see `CostKey.texts`."""
    texts = {name: key.texts(of_any_mode) for name, key in keys.items()}
    found = store.find(text for each in texts.values() for text in each)
    return {
        name: next(found[text] for text in each if text in found)
        for name, each in texts.items()
        if any(text in found for text in each)
    }
