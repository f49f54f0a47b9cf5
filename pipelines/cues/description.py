"""The description of a store: its identity, its keys and their division into tasks."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.claims import CLAIMS_NAME, Claims
from pipelines.errors import AgfasError
from pipelines.files import json_text, read_json, write_whole
from pipelines.fingerprint import fingerprint

SCHEMA = 1
STORE_NAME, KEYS_NAME = "store.json", "keys.txt"
_IS_NAME = re.compile(r"[0-9a-f]{16}").fullmatch


@dataclass(frozen=True)
class StoreStatus:
    """Progress of a store.

    Attributes:
        folder: the store.
        identity: everything that decides its bytes.
        tasks, finished_tasks: number of shards, and of those that are listed and present.
        rows, finished_rows: the same in rows.
        bytes: of the finished shards.
        damaged: listed tasks whose file is missing or has a wrong length; the next run makes them again.
    """

    folder: Path
    identity: dict[str, Any]
    tasks: int
    finished_tasks: int
    rows: int
    finished_rows: int
    bytes: int
    damaged: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether no task is left."""
        return self.finished_tasks == self.tasks

    def __str__(self) -> str:
        damaged = f", {len(self.damaged)} damaged" if self.damaged else ""
        return (
            f"{self.folder.name}: {self.finished_rows} of {self.rows} rows, {self.finished_tasks} of"
            f" {self.tasks} shards{damaged}, {self.bytes / 1e6:.1f} MB"
        )


def encode_keys(keys: list[str]) -> bytes:
    """The keys as lines of UTF-8, the last one without a line break.

    Raises:
        AgfasError: no key, a repeated or empty key, or a key with a line break.
    """
    if not keys:
        raise AgfasError("A store needs at least one key: the dataset is empty.")
    if len(set(keys)) != len(keys):
        raise AgfasError(f"Keys must be unique: {len(keys) - len(set(keys))} of {len(keys)} are repeated.")
    text = "\n".join(keys)
    if "" in keys or text.count("\n") != len(keys) - 1:
        raise AgfasError("A key is empty or holds a line break. Correct the keys of the dataset.")
    return text.encode()


def create(folder: Path, identity: dict[str, Any], keys: bytes, count: int, shard_size: int) -> None:
    """Create an empty store, unless another process has done so.

    Raises:
        AgfasError: a shard size below 1.
    """
    if shard_size < 1:
        raise AgfasError(f"shard_size must be at least 1, not {shard_size}.")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    claims = Claims(folder / CLAIMS_NAME)
    try:
        with claims.committing():
            if not (folder / STORE_NAME).is_file():
                _write(folder, identity, keys, count, shard_size)
    finally:
        claims.close()


def _write(folder: Path, identity: dict[str, Any], keys: bytes, count: int, shard_size: int) -> None:
    write_whole(folder / KEYS_NAME, [keys])
    description = {
        "schema": SCHEMA,
        "identity": identity,
        "count": count,
        "shard_size": shard_size,
        "keys_sha256": hashlib.sha256(keys).hexdigest(),
    }
    # Written last: a folder with store.json is a complete store.
    write_whole(folder / STORE_NAME, [json_text(description).encode()])


def restore_keys(folder: Path, keys: bytes) -> None:
    """Write keys.txt again if it is missing or damaged."""
    path = folder / KEYS_NAME
    if not path.is_file() or path.read_bytes() != keys:
        write_whole(path, [keys])


def read_description(folder: Path) -> dict[str, Any]:
    """The contents of store.json.

    Raises:
        AgfasError: there is none, or it is damaged, or of another schema.
    """
    path = folder / STORE_NAME
    if not path.is_file():
        raise AgfasError(f"{folder} is not a store: it has no {STORE_NAME}. Run the command that makes it.")
    try:
        description = read_json(path)
        named = fingerprint(description["identity"])
        sizes = description["count"], description["shard_size"]
        if min(sizes) < 1 or not isinstance(description["keys_sha256"], str):
            raise ValueError
    except (AgfasError, ValueError, KeyError, TypeError):
        raise AgfasError(
            f"{path} is damaged or not what was written. Remove this file and run the command that makes the store"
            " again: what is finished is kept."
        ) from None
    if named != folder.resolve().name and _IS_NAME(folder.resolve().name):
        raise AgfasError(
            f"{folder} holds the store {named}, whose name it does not have. Give it that name, or remove it and run"
            " the command that makes it."
        )
    if description.get("schema") != SCHEMA:
        raise AgfasError(
            f"{folder} was written in schema {description.get('schema')}; this version reads {SCHEMA}."
            " Remove the folder and make it again."
        )
    return description
