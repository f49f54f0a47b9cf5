"""The list of finished shards, the only thing that readers trust.

A line is one JSON object. `{"task", "file", "sha256", "bytes", "count", ...}` lists a shard,
`{"task", "revoked": true}` removes it; the last line about a task counts. A line torn by a crash is not JSON and is
ignored, as is one that is not what was written, which its `check` says. Lines of earlier versions have none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.files import append_line
from pipelines.fingerprint import canonical_json, fingerprint


@dataclass(frozen=True)
class ShardEntry:
    """One finished shard.

    Attributes:
        task: its number.
        file: its name within the folder of shards.
        sha256: of the file, 64 hexadecimal digits.
        bytes: length of the file.
        count: rows that it holds.
        made: how it was made (batch shape), for verification; has no effect on reading.
        sums: checksums of its blocks, see `pipelines.cues.layout`; empty for shards of earlier versions.
    """

    task: int
    file: str
    sha256: str
    bytes: int
    count: int
    made: dict[str, Any] = field(default_factory=dict)
    sums: str = ""


class Manifest:
    """A manifest that is read incrementally."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[int, ShardEntry] = {}
        self._position = 0

    def refresh(self) -> set[int]:
        """Read the lines appended since the last call and return their tasks."""
        if not self.path.exists():
            return set()
        with self.path.open("rb") as stream:
            stream.seek(self._position)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        changed = {self._apply(line) for line in whole.split(b"\n") if line}
        return {task for task in changed if task is not None}

    def add(self, entry: ShardEntry) -> None:
        """List a shard; the next `refresh` reads it."""
        self._append(asdict(entry))

    def revoke(self, task: int) -> None:
        """Remove a shard from the list, so that it is made again; the next `refresh` reads it."""
        self._append({"task": task, "revoked": True})

    def _append(self, values: dict[str, Any]) -> None:
        append_line(self.path, canonical_json({**values, "check": fingerprint(values)}).encode())

    def _apply(self, line: bytes) -> int | None:
        try:
            values = json.loads(line)
            if values.pop("check", None) not in (None, fingerprint(values)):
                return None
            task = int(values["task"])
            if values.get("revoked"):
                self.entries.pop(task, None)
            else:
                self.entries[task] = ShardEntry(**values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        return task
