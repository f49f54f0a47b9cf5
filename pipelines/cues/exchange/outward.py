"""A finished cue store as a folder for the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.cues.description import encode_keys
from pipelines.cues.exchange.card import CARD_NAME, CARD_TAG, card_of
from pipelines.cues.exchange.listing import LISTING_NAME, ExportedShard, Listing
from pipelines.cues.exchange.parquet import write_shard
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD, CueStore
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.fingerprint import file_sha256
from pipelines.progress import track

DATA_NAME = "data"


def export_cues(store: Path, out: Path) -> Listing:
    """Write a finished store as parquet files with a dataset card. An export that was broken off is made again.

    Every shard's checksum is verified on the way.

    Args:
        store: folder of a cue store.
        out: folder to write; it may not hold anything but an export of this store.

    Raises:
        AgfasError: no cue store, an unfinished or a damaged one, `out` holds something else, or cannot be written.
    """
    shards = CueStore.open(store).shards
    _check_finished(shards)
    _check_target(out, shards)
    (out / LISTING_NAME).unlink(missing_ok=True)
    exported = tuple(_export(shards, task, out) for task in track(range(shards.tasks), "export", unit="shard"))
    listing = Listing(shards.identity, len(shards), shards.shard_size, _keys_sha256(shards.keys), exported)
    write_text(out / CARD_NAME, card_of(listing))
    listing.write(out)
    return listing


def _check_finished(shards: ShardStore) -> None:
    unfinished = shards.unfinished()
    if unfinished:
        raise AgfasError(
            f"{shards.folder} is not finished: {len(unfinished)} of {shards.tasks} shards are missing. Run the cue"
            " job to its end, then export."
        )


def _check_target(out: Path, shards: ShardStore) -> None:
    if out.exists() and not out.is_dir():
        raise AgfasError(f"{out} is a file. Give the export another folder.")
    if (out / LISTING_NAME).is_file() and Listing.read(out).store != shards.folder.name:
        raise AgfasError(f"{out} holds the export of another store, {Listing.read(out).store}. Give another folder.")
    expected = {shard_name(task, shards.tasks) for task in range(shards.tasks)}
    present = {path.relative_to(out).as_posix(): path for path in [*out.glob("*"), *out.glob(f"{DATA_NAME}/*")]}
    strange = sorted(name for name, path in present.items() if not _is_ours(name, path, expected))
    if strange:
        raise AgfasError(f"{out} holds other things than an export of this store: {strange[0]}. Give another folder.")


def _is_ours(name: str, path: Path, expected: set[str]) -> bool:
    if name == CARD_NAME:
        return CARD_TAG in path.read_text(encoding="utf-8", errors="replace")
    # Hidden files are git's, the hub's, and what an export that was broken off left.
    return name in (LISTING_NAME, DATA_NAME, *expected) or path.name.startswith(".")


def shard_name(task: int, tasks: int) -> str:
    """A shard's file, relative to the exported folder."""
    return f"{DATA_NAME}/cues-{task:05d}-of-{tasks:05d}.parquet"


def _export(shards: ShardStore, task: int, out: Path) -> ExportedShard:
    entry = shards.entry(task)
    if shards.verify_checksums([task]):
        raise AgfasError(
            f"shard {task} of {shards.folder} has a wrong checksum and is off the list now. Run the cue job again,"
            " which makes it anew, then export."
        )
    rows = shards.task_rows(task)
    keys = shards.keys[rows.start : rows.stop]
    arrays = {name: shards.view(task, name) for name in (RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD)}
    path = out / shard_name(task, shards.tasks)
    write_atomically(path, lambda temporary: write_shard(temporary, keys, arrays, shards.identity, task))
    return ExportedShard(task, shard_name(task, shards.tasks), file_sha256(path), entry.sha256, dict(entry.made))


def _keys_sha256(keys: list[str]) -> str:
    return hashlib.sha256(encode_keys(keys)).hexdigest()
