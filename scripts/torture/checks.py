"""What must hold of the stores after any damage to the job."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from pipelines.cues.description import KEYS_NAME, STORE_NAME
from pipelines.cues.shards import MANIFEST_NAME, ShardStore
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256

Checksums = dict[str, str]
"""SHA-256 by name, relative to the root of the stores."""


def checksums(root: Path) -> Checksums:
    """Of everything that must equal a clean run's: keys, description and shards. Temporary files count as well."""
    files = [path for path in root.rglob("*") if path.is_file()]
    promised = [path for path in files if path.parent.name == "shards" or path.name in (KEYS_NAME, STORE_NAME)]
    return {path.relative_to(root).as_posix(): file_sha256(path) for path in sorted(promised)}


class Witness:
    """Checks the stores below one folder against those of a clean run.

    Attributes:
        listed: shards that were listed at the last check.
    """

    def __init__(self, root: Path, clean: Checksums) -> None:
        self.root = root
        self.clean = clean
        self.listed: set[str] = set()

    def look(self) -> list[str]:
        """Open every store and verify every listed shard's checksum; other processes may be writing.

        Returns:
            A sentence for each shard that is lost, listed twice, or listed although it is broken.
        """
        found: list[str] = []
        listed: set[str] = set()
        for folder in sorted(path.parent for path in self.root.glob(f"*/{STORE_NAME}")):
            try:
                listed |= self._look_at(ShardStore.open(folder), found)
            except AgfasError as error:
                found.append(f"a store does not open: {error}")
        found += [f"{name} was listed before and is not any more" for name in sorted(self.listed - listed)]
        self.listed |= listed
        return found

    def _look_at(self, store: ShardStore, found: list[str]) -> set[str]:
        listed = set()
        for task in range(store.tasks):
            if store.finished(task):
                entry = store.entry(task)
                name = f"{store.folder.name}/shards/{entry.file}"
                listed.add(name)
                if not file_sha256(self.root / name) == entry.sha256 == self.clean[name]:
                    found.append(f"{name} is trusted, but its bytes are not a clean run's")
        doubled = [task for task, times in listings(store.folder).items() if times > 1]
        found += [f"task {task} of {store.folder.name} is listed more than once" for task in doubled]
        return listed

    def look_at_the_end(self) -> list[str]:
        """The same when no process is writing: the files must also be those of a clean run, byte for byte."""
        found = self.look()
        present = checksums(self.root)
        found += [f"{name} is missing" for name in sorted(set(self.clean) - set(present))]
        found += [f"{name} was left over" for name in sorted(set(present) - set(self.clean))]
        both = sorted(set(present) & set(self.clean))
        found += [f"{name} differs from a clean run's" for name in both if present[name] != self.clean[name]]
        return found


def listings(folder: Path) -> Counter[int]:
    """How often each task is listed, minus how often it was revoked."""
    counts: Counter[int] = Counter()
    path = folder / MANIFEST_NAME
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # empty, or torn by a kill
        counts[int(values["task"])] += -1 if values.get("revoked") else 1
    return counts
