"""What agents said when they were last asked, kept beside the user's costs.

All of it is best effort: a file that is missing or damaged is as if nothing had been said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import onnx

from partc.agent.messages import read_groups, read_unsupported, settings_to_plain
from partc.agent.packing import pack
from partc.errors import PartcError, RequestError
from partc.targets.protocol import Detection, RunSettings

REMEMBERED_KINDS = ("unsupported", "fused-groups")
_MOST_ANSWERS = 500
_LARGEST_ANSWER_BYTES = 16 << 20

T = TypeVar("T")


class Remembered:
    """What each agent's node was, and what it answered on models.

    Args:
        path: a file for the nodes; answers lie in a folder of the same name beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.with_suffix("")
        data = _json(path)
        self._known = {
            str(key): str(value) for key, value in (data if isinstance(data, dict) else {}).items()
        }

    def fingerprint(self, address: str, backend: str, provider: str) -> str:
        """Of the node when it was last seen; empty if it never was."""
        return self._known.get(_key(address, backend, provider), "")

    def notice(
        self, name: str, address: str, backend: str, provider: str, detected: Detection
    ) -> str:
        """Take down what a node is; a sentence where it was another one before."""
        key = _key(address, backend, provider)
        before = self._known.get(key)
        self._known[key] = detected.fingerprint
        if before is None or before == detected.fingerprint:
            return ""
        return (
            f"{name} is another node than before: {before} then, {detected.fingerprint} "
            "now; costs that were measured then do not count, and are measured anew"
        )

    def save(self) -> None:
        """Without the file a change is not noticed, and nothing else."""
        _write(self._path, self._known)

    def keep(self, question: tuple[str, ...], answer: dict[str, Any]) -> None:
        """Take down an answer; the oldest ones go."""
        _write(self._file(question), answer)
        with contextlib.suppress(OSError):
            kept = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in kept[:-_MOST_ANSWERS]:
                file.unlink(missing_ok=True)

    def answer(self, question: tuple[str, ...]) -> dict[str, Any] | None:
        """What was answered."""
        found = _json(self._file(question))
        return found if isinstance(found, dict) else None

    def _file(self, question: tuple[str, ...]) -> Path:
        return self._folder / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()}.json"


def question(
    address: str, fingerprint: str, kind: str, graph: str, settings: dict[str, Any]
) -> tuple[str, ...]:
    """Names something that a node was asked.

    Args:
        graph: digest of the model's graph.
        settings: as they are sent.
    """
    return (address, fingerprint, kind, graph, json.dumps(settings, sort_keys=True))


@dataclass(frozen=True)
class NodeMemory:
    """The answers of one node, for `partc.targets.absent.AbsentMeter`."""

    remembered: Remembered
    address: str
    fingerprint: str

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str] | None:
        """Node name -> why the backend there cannot run it."""
        return self._recall("unsupported", model, None, read_unsupported)

    def fused_groups(
        self, model: onnx.ModelProto, settings: RunSettings
    ) -> list[tuple[str, ...]] | None:
        """Groups of nodes that the backend there runs as one kernel."""
        return self._recall("fused-groups", model, settings, read_groups)

    def _recall(
        self,
        kind: str,
        model: onnx.ModelProto,
        settings: RunSettings | None,
        read: Callable[[dict[str, Any], list[str]], T],
    ) -> T | None:
        plain = settings_to_plain(settings) if settings else {}
        try:
            graph = pack(model).digest
            asked = question(self.address, self.fingerprint, kind, graph, plain)
            answer = self.remembered.answer(asked)
            return (
                None if answer is None else read(answer, [node.name for node in model.graph.node])
            )
        except (PartcError, RequestError):
            return None


def _key(address: str, backend: str, provider: str) -> str:
    return "|".join(filter(None, (address, backend, provider)))


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_ANSWER_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _write(path: Path, data: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(data, indent=1), encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
