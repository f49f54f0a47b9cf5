"""An exported folder as a cue store again, with equal bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.cues.description import encode_keys
from pipelines.cues.exchange.listing import ExportedShard, Listing
from pipelines.cues.exchange.parquet import Arrays, read_keys, read_origin, read_shard
from pipelines.cues.layout import encode
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.progress import track


def import_cues(folder: Path, root: Path) -> Path:
    """Make the store that was exported to `folder`, below `root`; broken off and run again it goes on.

    Args:
        folder: what `export_cues` wrote, perhaps fetched from the hub.
        root: folder of stores; the store's name in it is the fingerprint of its identity.

    Returns:
        The store's folder. Its shards, keys and description equal the original's byte for byte.

    Raises:
        AgfasError: a file is missing, was changed, or belongs to another store; or below `root` there is already a
            store of this identity whose bytes differ; or `root` cannot be written.
    """
    listing = Listing.read(folder)
    _check_files(folder, listing)
    store = ShardStore.create_or_open(root, listing.identity, _keys(folder, listing), listing.shard_size)
    if store.shard_size != listing.shard_size:
        raise AgfasError(
            f"{store.folder} exists in shards of {store.shard_size}, the export has shards of {listing.shard_size}."
            " Import into another folder, or remove the store."
        )
    for shard in track(listing.shards, "import", unit="shard"):
        _import(folder, shard, store)
    return store.folder


def _check_files(folder: Path, listing: Listing) -> None:
    missing = [shard.file for shard in listing.shards if not (folder / shard.file).is_file()]
    expected = -(-listing.count // listing.shard_size)
    if missing or [shard.task for shard in listing.shards] != list(range(expected)):
        first = f", {missing[0]} among them" if missing else ""
        lacking = len(missing) or expected - len(listing.shards)
        raise AgfasError(f"{folder} is only part of an export: {lacking} of {expected} files are missing{first}.")
    for shard in listing.shards:
        identity, task = read_origin(folder / shard.file)
        if identity != listing.identity:
            raise AgfasError(
                f"{folder / shard.file} belongs to another store, {fingerprint(identity)}, not to {listing.store}."
                " Fetch or export this store alone."
            )
        if task != shard.task:
            raise AgfasError(f"{folder / shard.file} holds shard {task}, not {shard.task}: files were renamed.")


def _keys(folder: Path, listing: Listing) -> list[str]:
    keys = [key for shard in listing.shards for key in read_keys(folder / shard.file)]
    if hashlib.sha256(encode_keys(keys)).hexdigest() != listing.keys_sha256:
        raise AgfasError(f"the keys in {folder} are not those that were exported. Fetch or export it again.")
    return keys


def _import(folder: Path, shard: ExportedShard, store: ShardStore) -> None:
    if not store.finished(shard.task):
        store.write(shard.task, _unchanged(folder / shard.file, shard), shard.made)
    if store.entry(shard.task).sha256 != shard.shard_sha256:
        raise AgfasError(
            f"shard {shard.task} of {store.folder} was there already and differs from the exported one, as it may"
            " where another machine made it. Import into another folder."
        )


def _unchanged(path: Path, shard: ExportedShard) -> Arrays:
    if file_sha256(path) != shard.sha256:
        raise AgfasError(f"{path} was changed after it was exported: its checksum differs. Fetch or export it again.")
    arrays = read_shard(path)
    digest = hashlib.sha256()
    for piece in encode(arrays):
        digest.update(piece)
    if digest.hexdigest() != shard.shard_sha256:
        raise AgfasError(f"{path} does not hold the cues that were exported. Fetch or export it again.")
    return arrays
