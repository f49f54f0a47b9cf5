"""What an exported folder says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from pipelines.files import write_json
from pipelines.fingerprint import fingerprint

LISTING_NAME = "export.json"
_SCHEMA = 1


@dataclass(frozen=True)
class ExportedShard:
    """One parquet file.

    Attributes:
        task: number of the shard.
        file: its name, relative to the folder.
        sha256: of the parquet file.
        shard_sha256: of the store's shard.
        made: how it was made, as the store's manifest notes it.
    """

    task: int
    file: str
    sha256: str
    shard_sha256: str
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A whole export.

    Attributes:
        identity: everything that decides the store's bytes.
        count: number of cues.
        shard_size: of the store.
        keys_sha256: of the store's keys.
        shards: in order.
    """

    identity: dict[str, Any]
    count: int
    shard_size: int
    keys_sha256: str
    shards: tuple[ExportedShard, ...]

    @property
    def store(self) -> str:
        """Name of the store: its identity's fingerprint."""
        return fingerprint(self.identity)

    def write(self, folder: Path) -> None:
        """Write it; from then on the export is whole."""
        write_json(folder / LISTING_NAME, {"schema": _SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Listing:
        """Read it.

        Raises:
            AgfasError: there is none, as where an export was broken off, or it is damaged, or of another schema.
        """
        path = folder / LISTING_NAME
        if not path.is_file():
            raise AgfasError(
                f"{folder} is no whole export: it has no {LISTING_NAME}, which is written last."
                " Run `agfas export-cues` again, or fetch the whole folder."
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            schema = values.pop("schema")
            shards = tuple(ExportedShard(**shard) for shard in values.pop("shards"))
            listing = cls(**values, shards=shards)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AgfasError(f"{path} is damaged ({error}). Fetch it or export again.") from None
        if schema != _SCHEMA:
            raise AgfasError(f"{path} was written in schema {schema}; this version reads {_SCHEMA}. Export again.")
        return listing
