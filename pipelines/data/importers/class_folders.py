"""Pictures in folders of their class, with or without folders of splits above, as `datasets` calls an image folder.

    SOURCE/[SPLIT/]CLASS/FILE

The files are read as they lie there: words in file names mean nothing, unlike for `load_dataset`, which takes them for
splits and leaves out the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.data.importers.labels import Given, meanings
from pipelines.data.importers.source import SUFFIXES, VIDEO_SUFFIXES, SourceFace, files_in, names_below
from pipelines.data.importers.words import SPLIT_WORDS, plain
from pipelines.errors import AgfasError, nearest

# What makes a folder one for `load_dataset`: tables, archives, and lists that describe the pictures beside them.
_TABLES = (".parquet", ".arrow", ".json", ".jsonl", ".csv", ".tsv", ".tar", ".zip", ".lance")
# Beside pictures these are notes, unless they are called so.
_METADATA = "metadata"
_SAVED = ("state.json", "dataset_dict.json", "dataset_info.json")


def is_one(source: Path) -> bool:
    """Whether a folder holds pictures, and no table that describes or contains pictures."""
    if not source.is_dir() or any((source / name).is_file() for name in _SAVED):
        return False
    tables = files_in(source, _TABLES)
    described = any(path.stem.lower() == _METADATA for path in tables)
    return not described and (not tables or bool(files_in(source, SUFFIXES)))


def find(source: Path, domain: str, split: str, bonafide: Given, live: Given) -> list[SourceFace]:
    """One face per picture or video, whose person is unknown; its class is the name of its folder.

    Args:
        source: the folder.
        domain: as in `face_features`.
        split: read this split alone, and deal its pictures out; empty: all.
        bonafide, live: see `labels.meanings`.

    Raises:
        AgfasError: no picture, a picture without a class, splits for some pictures only, or a label that is no word.
    """
    top = source / split if split else source
    paths = files_in(top, SUFFIXES + VIDEO_SUFFIXES)
    bare = [path for path in paths if path.parent == top]
    if not paths or bare:
        what = f"{len(bare)} of {len(paths)} files, the first is {bare[0]}, are in no folder" if bare else "no picture"
        raise AgfasError(f"{top} holds {what}. Expected: [SPLIT/]CLASS/FILE, for example train/live/1.png.")
    below = [path.relative_to(top).parts[:-1] for path in paths]
    places = {parts[-1]: str(path.parent) for path, parts in zip(paths, below, strict=True)}
    kinds = meanings(places, bonafide, live, f"the folders of {top}")
    splits = [_split(parts) for parts in below]
    without = [path for path, name in zip(paths, splits, strict=True) if not name]
    if 0 < len(without) < len(paths):
        first, *deeper = without[0].relative_to(top).parts[:-1]
        advice = _deal_out(source, first) if deeper else "Move them into the folder of a split."
        raise AgfasError(
            f"{len(without)} of {len(paths)} files are in no folder of a split, the first is {without[0]}. {advice}"
        )
    return [
        SourceFace(path, domain, kinds[parts[-1]], name, name, split=part if len(set(splits)) > 1 else "",
                   subject_known=False)
        for path, parts, name, part in zip(paths, below, names_below(top, paths), splits, strict=True)
    ]  # fmt: skip


def split_word(source: Path, name: str, column: str = "") -> str:
    """`train`, `dev` or `test` by a common word for it, which is in a column or names a part of the source.

    Raises:
        AgfasError: it is none.
    """
    if plain(name) not in SPLIT_WORDS:
        alone = f"To have all subjects dealt out, leave split_column={column} out." if column else ""
        raise AgfasError(
            f"{source}: {name!r} is no split; {nearest(plain(name), SPLIT_WORDS)} {alone or _deal_out(source, name)}"
        )
    return SPLIT_WORDS[plain(name)]


def _deal_out(source: Path, name: str) -> str:
    return f"To have the subjects of one part dealt out, import it alone: {source}@{name}."


def _split(parts: Sequence[str]) -> str:
    return SPLIT_WORDS.get(plain(parts[0]), "") if len(parts) > 1 else ""
