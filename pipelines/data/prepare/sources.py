"""What a job works on: what an importer finds, checked, named, split and sorted, and what is passed over."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.data.importers.layout import Count, check_counts
from pipelines.data.importers.source import SUFFIXES, VIDEO_SUFFIXES, LeftOut, SourceFace
from pipelines.data.prepare.media import source_name, state_of
from pipelines.data.prepare.names import check_keys, printable, with_safe_names
from pipelines.data.prepare.outcome import Refusal
from pipelines.data.prepare.settings import Recipe, check_options
from pipelines.data.splits import Group, assign_splits
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint

# Their source is a list or a dataset, which says itself what belongs to it.
_LISTED = ("csv", "hf")


@dataclass(frozen=True)
class Sources:
    """Everything that is to be read.

    Attributes:
        faces: with safe names and splits, sorted by key and name.
        official: the split that the dataset's own lists give each of them, empty where there is none.
        names: what each of them is called, as `source_name` says.
        counts: what the dataset should have, and what was found.
        unreadable: folders that could not be looked into, as lines of `refused.csv`.
        passed_over: (path, why) of files that the importer did not take.
        importer: its module: title, citation, licence, what it was checked against.
    """

    faces: list[SourceFace]
    official: list[str]
    names: list[str]
    counts: list[Count]
    unreadable: list[Refusal]
    passed_over: list[tuple[str, str]]
    importer: ModuleType

    @property
    def missing(self) -> list[Count]:
        """Numbers that the copy at hand falls short of."""
        return [count for count in self.counts if count.missing]


def base_of(source: Path) -> Path:
    """The folder that paths are relative to: the source itself, or the one that a list lies in."""
    return source.parent if source.is_file() else source


def find_sources(source: Path, recipe: Recipe) -> Sources:
    """Ask the importer and check what it says.

    Raises:
        AgfasError: no such source, not the importer's layout, unknown options, or sources that could not be told apart.
    """
    from pipelines.data.importers import importer_module, load_importer

    find = load_importer(recipe.importer)
    check_options(recipe, find)
    if recipe.importer != "hf" and not source.exists():
        raise AgfasError(f"There is nothing at {source}. Check the name of SOURCE.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOut)  # `_look_around` finds and lists the same
        found = find(source, recipe.domain or _domain_of(source), **recipe.options)
    if not found:
        raise AgfasError(f"The importer '{recipe.importer}' found no picture and no video in {source}.")
    module = importer_module(recipe.importer)
    counts = check_counts(found, getattr(module, "EXPECTED", ()))
    faces = with_safe_names(found)
    check_keys(faces, recipe.all_faces)
    base = base_of(source)
    faces.sort(key=lambda face: (face.domain, face.subject, face.video, face.frame, source_name(face, base)))
    official, names = [face.split for face in faces], [source_name(face, base) for face in faces]
    faces = assign_splits(faces, **recipe.splits.dealing())
    unreadable, passed_over = _look_around(source, faces) if recipe.importer not in _LISTED else ([], [])
    return Sources(faces, official, names, counts, unreadable, passed_over, module)


def deal_again(sources: Sources, recipe: Recipe, joined: Mapping[Group, Group]) -> dict[tuple[str, str, str], str]:
    """The splits when subjects are joined who were found, once the pictures were seen, to be nearly equal.

    Returns:
        The split by domain, subject and name of the source.
    """
    found = [replace(face, split=split) for face, split in zip(sources.faces, sources.official, strict=True)]
    dealt = assign_splits(found, **recipe.splits.dealing(), joined=joined)
    return {(face.domain, face.subject, name): face.split for face, name in zip(dealt, sources.names, strict=True)}


def listing(faces: list[SourceFace], source: Path) -> list[list[Any]]:
    """What the result depends on of each source: what it is, and for a file its size and time, for a row its dataset.

    The bytes of files are not read: a dataset of videos has hundreds of gigabytes.
    """
    datasets = {face.path for face in faces if face.row >= 0}
    states = {path: fingerprint(state_of(path)) for path in datasets}
    return [
        [
            source_name(face, base_of(source)),
            states[face.path] if face.row >= 0 else state_of(face.path),
            [face.label, face.attack_type, face.domain, face.subject, face.video, face.frame, face.split],
            [face.subject_known, face.age, face.sex, face.ethnicity],
        ]
        for face in faces
    ]


def summary_of_passed_over(passed_over: list[tuple[str, str]]) -> dict[str, int]:
    """How many files were passed over for each reason."""
    return dict(sorted(Counter(why for _, why in passed_over).items()))


def _domain_of(source: Path) -> str:
    if source.exists():
        return source.stem if source.is_file() else source.resolve().name
    return source.name.partition("@")[0]  # of a hub id, which may name a split


def _look_around(source: Path, faces: list[SourceFace]) -> tuple[list[Refusal], list[tuple[str, str]]]:
    """What holds no face though it seems to, and files that the importer did not take; links are not followed."""
    taken = {face.path for face in faces}
    unreadable: list[Refusal] = []
    passed_over: list[tuple[str, str]] = []

    def refuse(error: OSError) -> None:
        reason = f"The folder cannot be read ({error.strerror}); what lies in it is not known."
        unreadable.append(Refusal(_below(Path(error.filename or source), source), -1, reason, "listing"))

    for folder, folders, files in os.walk(source, onerror=refuse):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for path in sorted(Path(folder, name) for name in [*links, *files]):
            if path in taken:
                continue
            if _is_strange(path):
                reason = "It is no regular file (a pipe, a socket or a device)."
                unreadable.append(Refusal(_below(path, source), -1, reason, "listing"))
            else:
                passed_over.append((_below(path, source), _why(path)))
    return sorted(unreadable, key=lambda line: line.path), sorted(passed_over)


def _is_strange(path: Path) -> bool:
    mode = path.lstat().st_mode
    named_so = path.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES
    return named_so and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))


def _why(path: Path) -> str:
    if path.is_symlink():
        return "link, not followed"
    return f"{path.suffix.lower() or 'no ending'}, not taken by the importer"


def _below(path: Path, source: Path) -> str:
    return printable(path.relative_to(source).as_posix() if path.is_relative_to(source) else path.as_posix())
