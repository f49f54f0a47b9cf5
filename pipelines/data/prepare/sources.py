"""The sources of a job: found by an importer, checked, named, split and sorted; and how one of them is read."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pipelines.data.contents import content_hashes
from pipelines.data.formats import kind_beside, kind_named, why_unread
from pipelines.data.images import read_noted
from pipelines.data.importers import importer_module, load_importer
from pipelines.data.importers.layout import VideoCount, check_counts
from pipelines.data.importers.source import LeftOut, SourceFace, split_of
from pipelines.data.prepare.names import check_keys, path_below, settled_names, source_name, with_safe_names
from pipelines.data.prepare.settings import PrepareRecipe, check_options
from pipelines.data.splits import Group, assign_splits, evenly_spaced
from pipelines.errors import AgfasError

# Importers that read a list or a table, which names all its files itself.
_LISTED = ("csv", "hf")


@dataclass(frozen=True)
class Refusal:
    """One line of `refused.csv`.

    Attributes:
        path: name of the source, see `source_name`.
        frame: of a video; -1 if the whole source is refused.
        reason: one sentence.
        tried: what was searched before the refusal.
        lost: expected faces that are missing because of it.
        filtered: whether a limit of the recipe excluded a sound face, which `max_refused` does not count.
    """

    path: str
    frame: int
    reason: str
    tried: str
    lost: int = 1
    filtered: bool = False


@dataclass(frozen=True)
class Noted:
    """One line of `noted.csv`: a source that was read, but not all of it.

    Attributes:
        path: name of the source, see `source_name`.
        note: the end of a sentence.
    """

    path: str
    note: str


@dataclass(frozen=True)
class Sources:
    """Everything that a job reads.

    Attributes:
        faces: with safe names and splits, sorted by key and name.
        official: official split of each face; empty if the dataset has none.
        names: name of each face's source, see `source_name`.
        counts: expected and found numbers of videos.
        unreadable: folders and special files that cannot be read, pictures and videos of kinds that are not read, and
            those in places that an importer of our own layout does not read.
        passed_over: (path, reason) of files that the importer ignored.
        importer: its module, with the dataset's title, citation and licence.
        beyond_limit: number of sources that the recipe's `limit` leaves out.
    """

    faces: list[SourceFace]
    official: list[str]
    names: list[str]
    counts: list[VideoCount]
    unreadable: list[Refusal]
    passed_over: list[tuple[str, str]]
    importer: ModuleType
    beyond_limit: int = 0

    @property
    def missing(self) -> list[VideoCount]:
        """The numbers of videos that this copy falls short of."""
        return [count for count in self.counts if count.missing]


def base_of(source: Path) -> Path:
    """The folder that paths are relative to: the source without a split behind `@`, or the folder of the list."""
    return source.parent if source.is_file() else split_of(source)[0]


def find_sources(source: Path, recipe: PrepareRecipe) -> Sources:
    """Run the importer and check what it finds.

    Raises:
        AgfasError: no such source, another layout than the importer's, an unknown option, or keys that are not unique.
    """
    find = load_importer(recipe.importer)
    check_options(recipe, find)
    if recipe.importer != "hf" and not source.exists():
        raise AgfasError(f"There is nothing at {source}. Check the name of SOURCE.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOut)  # `_look_around` lists the same files
        found = find(source, recipe.domain or _domain_of(source), **recipe.options)
    if not found:
        raise AgfasError(f"The importer '{recipe.importer}' found no picture and no video in {source}.")
    module = importer_module(recipe.importer)
    base = base_of(source)
    walked = recipe.importer not in _LISTED or (recipe.importer == "hf" and all(face.row < 0 for face in found))
    unreadable, passed_over = _look_around(base, found, getattr(module, "READS", "")) if walked else ([], [])
    found = settled_names(found, recipe, base)
    faces = with_safe_names(found if recipe.limit is None else evenly_spaced(found, recipe.limit))
    check_keys(faces, recipe.all_faces)
    faces.sort(key=lambda face: (face.domain, face.subject, face.video, face.frame, source_name(face, base)))
    official, names = [face.split for face in faces], [source_name(face, base) for face in faces]
    faces = assign_splits(faces, **recipe.splits.assignment())
    counts = check_counts(found, getattr(module, "EXPECTED", ()))
    return Sources(faces, official, names, counts, unreadable, passed_over, module, len(found) - len(faces))


def title_of(importer: ModuleType) -> str:
    """The name of an importer's dataset."""
    return str(getattr(importer, "TITLE", importer.__name__))


def _domain_of(source: Path) -> str:
    if source.exists():
        return source.stem if source.is_file() else source.resolve().name
    return source.name.partition("@")[0]  # a hub id may name a split: OWNER/NAME@SPLIT


def assign_again(
    sources: Sources, recipe: PrepareRecipe, joined: Mapping[Group, Group]
) -> dict[tuple[str, str, str], str]:
    """New splits that keep subjects with near-duplicate pictures together.

    Args:
        sources: of `find_sources`.
        recipe: of the job.
        joined: the subject that stands for each joined one.

    Returns:
        The split by domain, subject and source name.
    """
    found = [replace(face, split=split) for face, split in zip(sources.faces, sources.official, strict=True)]
    faces = assign_splits(found, **recipe.splits.assignment(), joined=joined)
    return {(face.domain, face.subject, name): face.split for face, name in zip(faces, sources.names, strict=True)}


def contents(faces: list[SourceFace]) -> dict[Path, str]:
    """What the files of the sources hold, see `content_hashes`."""
    files = sorted({face.path for face in faces if face.row < 0})
    return dict(zip(files, content_hashes(files), strict=True))


def listing(faces: list[SourceFace], held: Mapping[Path, str], source: Path) -> list[list[Any]]:
    """What the result depends on of each source: its metadata, and what its file (`contents`) or its dataset holds."""
    return [
        [
            source_name(face, base_of(source)),
            face.content if face.row >= 0 else held[face.path],
            [face.label, face.attack_type, face.domain, face.subject, face.video, face.frame, face.split],
            [face.subject_known, face.age, face.sex, face.ethnicity],
        ]
        for face in faces
    ]


def _look_around(source: Path, faces: list[SourceFace], places: str) -> tuple[list[Refusal], list[tuple[str, str]]]:
    """What the importer did not take: pictures and videos that are refused, and files that are passed over.

    Links are not followed. `places` says where an importer of our own layout looks for all pictures; others leave out
    what their datasets do not count.
    """
    taken = {face.path for face in faces}
    seen: set[Path] = set()
    unreadable: list[Refusal] = []
    passed_over: list[tuple[str, str]] = []

    def refuse(path: Path, reason: str) -> None:
        unreadable.append(Refusal(path_below(path, source), -1, reason, "listing"))

    def unlisted(error: OSError) -> None:
        refuse(Path(error.filename or source), f"The folder cannot be read ({error.strerror}); its content is unknown.")

    for folder, folders, files in os.walk(source, onerror=unlisted):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for path in sorted(Path(folder, name) for name in [*links, *files]):
            if path in taken:
                seen.add(path)
                continue
            reason, ignored = _why_left(path, places)
            if reason:
                refuse(path, reason)
            else:
                passed_over.append((path_below(path, source), ignored))
    if gone := sorted(taken - seen):
        raise AgfasError(
            f"{len(gone)} of {len(taken)} files of {source} are gone since they were listed, the first is {gone[0]}."
            " Run again once nothing changes there."
        )
    return sorted(unreadable, key=lambda line: line.path), sorted(passed_over)


def _why_left(path: Path, places: str) -> tuple[str, str]:
    """Why a file that the importer did not take is refused; if it is not, why it is passed over."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "", "link, not followed"
    if not stat.S_ISREG(mode):
        return "It is not a regular file (a pipe, a socket or a device)." if kind_named(path) else "", "no regular file"
    kind, ending = kind_beside(path), path.suffix.lower() or "no suffix"
    if kind is None:
        return "", f"{ending}, ignored by the importer"
    if kind.advice or ending not in kind.suffixes:
        return f"It {why_unread(kind, path)}", ""
    if places:
        return f"It is {kind.name} outside {places}, where all pictures and videos are expected. Move it there.", ""
    return "", f"{ending}, in a place where the importer does not look"


def check_source(path: Path, source: Path) -> None:
    """Refuse, before it is opened, what could block, lead elsewhere or cannot be opened.

    Raises:
        AgfasError: no such file, a link or a file behind one, not a regular file, empty, or not readable.
    """
    if link := _link_on_the_way(path, source):
        raise AgfasError(f"{path} is reached through a link ({link.name}); links are not followed. Copy the file.")
    try:
        found = path.lstat()
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its name and permissions.") from error
    if not stat.S_ISREG(found.st_mode):
        raise AgfasError(f"{path} is not a regular file. Remove it.")
    if found.st_size == 0:
        raise AgfasError(f"{path} is empty (0 bytes). Export or copy it again.")
    if not os.access(path, os.R_OK):
        raise AgfasError(f"{path} cannot be read (Permission denied). Check its permissions.")


def _link_on_the_way(path: Path, source: Path) -> Path | None:
    """The first link between the source and a file; for a file elsewhere, the file if it is a link."""
    parents = [place for place in path.parents if place != source and place.is_relative_to(source)]
    return next((place for place in [*reversed(parents), path] if place.is_symlink()), None)


@dataclass(frozen=True)
class Still:
    """A picture that was read.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright.
        file: the bytes of its file if that can be kept as it is; None if it cannot, or was not asked for.
        note: what the file holds besides.
    """

    pixels: np.ndarray
    file: bytes | None
    note: str


def read_still(face: SourceFace, source: Path, scratch: Path, keep_file: bool = False) -> Still:
    """Read a picture file or a row of a Hugging Face dataset.

    Args:
        face: what to read.
        source: links below it are refused; links above it are the user's own.
        scratch: folder for the bytes of a row, so that they pass the checks of a file.
        keep_file: whether the bytes of the file are wanted.

    Raises:
        AgfasError: it cannot be read, with the reason.
    """
    if face.row < 0:
        check_source(face.path, source)
        return _read(face.path, keep_file)
    from pipelines.data.importers.hf import picture_bytes

    temporary = scratch / f"row-{os.getpid()}"
    try:
        temporary.write_bytes(picture_bytes(face))
        return _read(temporary, keep_file)
    except AgfasError as error:
        place = f"{face.path}, row {face.row} of {face.column},"
        raise AgfasError(str(error).replace(str(temporary), place)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, keep_file: bool) -> Still:
    found = read_noted(path)
    return Still(np.asarray(found.image), path.read_bytes() if keep_file and found.plain else None, found.note)
