"""Export of a finished cue store, and import of an exported one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pipelines.cues.description import encode_keys
from pipelines.cues.exchange.card import CARD_NAME, CARD_TAG, card_of
from pipelines.cues.exchange.format import (
    LISTING_NAME,
    Arrays,
    ExportedShard,
    FacesFacts,
    Listing,
    read_keys,
    read_origin,
    read_shard,
    write_shard,
)
from pipelines.cues.layout import encode
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD, CueStore
from pipelines.data.records import CARD_NAME as FACES_NAME
from pipelines.data.records import licence_of_faces, read_card
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.hub import ANYHOW, Access, fetch, repository
from pipelines.progress import track

DATA_NAME = "data"


def export_cues(store: Path, out: Path, faces: Path | None = None) -> Listing:
    """Write a finished store as parquet files with a dataset card. An interrupted export is made again.

    The checksum of every shard is verified.

    Args:
        store: folder of a cue store.
        out: folder to write; it must be empty or hold an export of this store.
        faces: their dataset, whose title and licence the card states. Default: it is looked for in the store's run.

    Raises:
        AgfasError: no cue store, an unfinished or a damaged one, faces of another dataset, or `out` holds something
            else, or cannot be written.
    """
    shards = CueStore.open(store).shards
    _check_finished(shards)
    described = _facts(shards, faces)
    _check_target(out, shards)
    (out / LISTING_NAME).unlink(missing_ok=True)
    exported = tuple(_export(shards, task, out) for task in track(range(shards.tasks), "export", unit="shard"))
    keys = _keys_sha256(shards.keys)
    listing = Listing(shards.identity, len(shards), shards.shard_size, keys, exported, described)
    write_text(out / CARD_NAME, card_of(listing))
    listing.write(out)
    return listing


def _facts(shards: ShardStore, faces: Path | None) -> FacesFacts | None:
    """What the dataset of the cues says of itself; None if it is not found."""
    for folder in [faces] if faces is not None else sorted(shards.folder.parents[1].glob("faces/*")):
        if not (folder / FACES_NAME).is_file() and faces is None:
            continue
        card = read_card(folder)
        if str(shards.identity["dataset"]).startswith(f"{card['fingerprint']}-"):
            drawn = card.get("kind") == "synthetic"
            title = "the built-in synthetic benchmark" if drawn else str(card.get("title") or folder.name)
            return FacesFacts(title, licence_of_faces(card))
    if faces is not None:
        raise AgfasError(f"{faces} is not the dataset that {shards.folder} was made of. Give that one as --faces.")
    return None


def _check_finished(shards: ShardStore) -> None:
    unfinished = shards.unfinished()
    if unfinished:
        raise AgfasError(
            f"{shards.folder} is not finished: {len(unfinished)} of {shards.tasks} shards are missing. Finish it with"
            " `agfas cues`, then export."
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
        raise AgfasError(f"{out} holds something else than an export of this store: {strange[0]}. Give another folder.")


def _is_ours(name: str, path: Path, expected: set[str]) -> bool:
    if name == CARD_NAME:
        return CARD_TAG in path.read_text(encoding="utf-8", errors="replace")
    # Hidden files belong to git, the hub, or an interrupted export.
    return name in (LISTING_NAME, DATA_NAME, *expected) or path.name.startswith(".")


def shard_name(task: int, tasks: int) -> str:
    """A shard's file, relative to the exported folder."""
    return f"{DATA_NAME}/cues-{task:05d}-of-{tasks:05d}.parquet"


def _export(shards: ShardStore, task: int, out: Path) -> ExportedShard:
    entry = shards.entry(task)
    if shards.verify_checksums([task]):
        raise AgfasError(
            f"shard {task} of {shards.folder} has a wrong checksum and was revoked. Run `agfas cues` again, which"
            " makes it again, then export."
        )
    rows = shards.task_rows(task)
    keys = shards.keys[rows.start : rows.stop]
    arrays = {name: shards.view(task, name)[:] for name in (RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD)}
    path = out / shard_name(task, shards.tasks)
    write_atomically(path, lambda temporary: write_shard(temporary, keys, arrays, shards.identity, task))
    return ExportedShard(task, shard_name(task, shards.tasks), file_sha256(path), entry.sha256, dict(entry.made))


def _keys_sha256(keys: list[str]) -> str:
    return hashlib.sha256(encode_keys(keys)).hexdigest()


def import_cues(folder: Path, root: Path) -> Path:
    """Make the store that was exported to `folder`, in `root`; an interrupted import resumes.

    Args:
        folder: written by `export_cues`.
        root: folder of stores; the store's name in it is the fingerprint of its identity.

    Returns:
        The store's folder. Its shards, keys and description equal the original's byte for byte.

    Raises:
        AgfasError: a file is missing, was changed, or belongs to another store; or `root` holds a store of this
            identity with other bytes, or cannot be written.
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
        _import(folder, shard, listing, store)
    return store.folder


def local_parcel(given: str | Path, revision: str | None = None, access: Access = ANYHOW) -> Path:
    """The folder of an export, fetched if it is the name of a dataset of the hub: `USER/NAME`, with @REVISION or not.

    Raises:
        AgfasError: the hub does not give it, or it holds something else.
    """
    place = repository(given, revision, "dataset")
    if place is None:
        return Path(given)
    folder = fetch(place, [LISTING_NAME, CARD_NAME], access)
    if not (folder / LISTING_NAME).is_file():
        raise AgfasError(f"{place} of the hub has no {LISTING_NAME}, so it is not an export of `agfas export-cues`.")
    files = [shard.file for shard in Listing.read(folder).shards]
    return fetch(replace(place, revision=folder.name), files, access)


def check_parcel(folder: Path) -> Listing:
    """What an export holds, after every file was compared with its checksum.

    Raises:
        AgfasError: a file is missing, was changed, or belongs to another store.
    """
    listing = Listing.read(folder)
    _check_files(folder, listing)
    for shard in listing.shards:
        _check_unchanged(folder / shard.file, shard)
    return listing


def _check_files(folder: Path, listing: Listing) -> None:
    missing = [shard.file for shard in listing.shards if not (folder / shard.file).is_file()]
    tasks = [shard.task for shard in listing.shards]
    if missing or len(tasks) != listing.tasks or tasks != list(range(len(tasks))):
        first = f", {missing[0]} among them" if missing else ""
        lacking = len(missing) or listing.tasks - len(listing.shards)
        raise AgfasError(f"{folder} is only part of an export: {lacking} of {listing.tasks} files are missing{first}.")
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


def _import(folder: Path, shard: ExportedShard, listing: Listing, store: ShardStore) -> None:
    if not store.finished(shard.task):
        store.write(shard.task, _arrays(folder / shard.file, shard, listing), shard.made)
    if store.entry(shard.task).sha256 != shard.shard_sha256:
        raise AgfasError(
            f"shard {shard.task} of {store.folder} exists and differs from the exported one, as it may if another"
            " machine made it. Import into another folder."
        )


def _check_unchanged(path: Path, shard: ExportedShard) -> None:
    if file_sha256(path) != shard.sha256:
        raise AgfasError(f"{path} was changed after it was exported: its checksum differs. Fetch or export it again.")


def _arrays(path: Path, shard: ExportedShard, listing: Listing) -> Arrays:
    _check_unchanged(path, shard)
    arrays = read_shard(path, listing.rows(shard), listing.identity["image_size"])
    digest = hashlib.sha256()
    for piece in encode(arrays):
        digest.update(piece)
    if digest.hexdigest() != shard.shard_sha256:
        raise AgfasError(f"{path} does not hold the cues that were exported. Fetch or export it again.")
    return arrays
