"""The layout of a dataset as its authors distribute it: folders, file names, and how many videos a full copy has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.formats import SUFFIXES, VIDEO_SUFFIXES
from pipelines.data.importers.source import SourceFace, files_in, place_below
from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError

# Archives are often unpacked into one or two extra folders, so the top folders are searched this deep.
_DEPTH = 2
# Paths that an error message lists.
_LISTED = 3
HDF5_SUFFIXES = (".hdf5", ".h5")
# End of a path pattern for exported recordings: a video, or a numbered frame in a folder of the recording's name.
EXPORTED = r"(?:\.\w+|/[^/]*?(?P<frame>\d+)\.\w+)"


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps its files and how it names them.

    Attributes:
        title: name of the dataset, for messages.
        folders: its top folders, at least one of which must exist; empty if files may be anywhere.
        pattern: regular expression for the path of a sample below the root, with forward slashes. Its groups say what
            the sample is.
        example: a path that matches.
        extras: regular expression for documented files that are not samples; empty if there are none.
        colour_stream: for a dataset distributed as HDF5 (colour, depth and infrared of a recording in one file): where
            the colour frames are inside a file. They must be exported once, under the name of the recording, as
            `NAME.mp4` or as a folder `NAME` of pictures whose names end in the frame number. The HDF5 files may stay
            beside the export.
    """

    title: str
    folders: tuple[str, ...]
    pattern: str
    example: str
    extras: str = ""
    colour_stream: str = ""

    def roots(self, source: Path) -> list[Path]:
        """The nearest folders that hold one of the top folders: `source` itself, or folders inside it."""
        level = [source] if source.is_dir() else []
        for _ in range(_DEPTH + 1):
            found = [place for place in level if any((place / name).is_dir() for name in self.folders)]
            if found:
                return found
            level = [child for place in level for child in _children(place)]
        return []

    def root(self, source: Path) -> Path:
        """The folder that holds the top folders; `source` itself if files may be anywhere.

        Raises:
            AgfasError: there is none, or more than one.
        """
        found = self.roots(source) if self.folders else [source]
        if len(found) > 1:
            raise AgfasError(f"{source} holds {self.title} more than once: {_some(found)}. Give one of them.")
        if not found:
            raise AgfasError(
                f"No {self.title} at {source}: it contains none of {', '.join(f'{name}/' for name in self.folders)}."
                f" Expected: {self.example}. Give the folder that contains it."
            )
        return found[0]

    def files(self, source: Path) -> list[tuple[Path, re.Match[str]]]:
        """Every sample with the match of its path.

        Raises:
            AgfasError: no such folder, no sample, unexpected file names, or recordings that exist as HDF5 only.
        """
        return self.match(self.root(source))

    def match(self, root: Path) -> list[tuple[Path, re.Match[str]]]:
        """As `files`, for a root that is known."""
        places = [root / name for name in self.folders if (root / name).is_dir()] if self.folders else [root]
        if self.colour_stream:
            self._check_exported(places)
        # Datasets are numbered in ASCII: `\d` is no other digit that looks like a person's number.
        pattern, extras = re.compile(self.pattern, re.ASCII), re.compile(self.extras, re.ASCII)
        matched, strange = [], []
        for path in (path for place in places for path in files_in(place, SUFFIXES + VIDEO_SUFFIXES)):
            below = place_below(root, path)
            if match := pattern.fullmatch(below):
                matched.append((path, match))
            elif not extras.fullmatch(below):
                strange.append(path)
        if strange:
            raise self.not_so_called(strange)
        if not matched:
            raise AgfasError(f"No pictures or videos of {self.title} in {root}. Expected: {self.example}.")
        return matched

    def not_so_called(self, paths: list[Path]) -> AgfasError:
        """The error for files whose names do not exist in this dataset."""
        are = "file is" if len(paths) == 1 else "files are"
        return AgfasError(
            f"{len(paths)} {are} not called as in {self.title} ({self.example}): {_some(paths)}. Move files that are"
            " not part of the dataset elsewhere, or use another importer (`folder`, `csv`)."
        )

    def _check_exported(self, places: list[Path]) -> None:
        recordings = [path for place in places for path in files_in(place, HDF5_SUFFIXES)]
        beside = {folder: _exported(folder) for folder in {path.parent for path in recordings}}
        waiting = [path for path in recordings if path.stem not in beside[path.parent]]
        if waiting:
            raise AgfasError(
                f"{len(waiting)} of the recordings of {self.title} exist as HDF5 only; the first is {waiting[0]}."
                f" Export the colour stream of each ({self.colour_stream}) beside it, as a video {waiting[0].stem}.mp4"
                f" or as pictures {waiting[0].stem}/0000.png, {waiting[0].stem}/0001.png, ..., and try again."
            )


def _exported(folder: Path) -> frozenset[str]:
    return frozenset(os.path.splitext(name)[0] for name in os.listdir(folder) if not name.endswith(HDF5_SUFFIXES))


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:  # an unreadable folder beside the dataset is not an error
        return []


def _some(paths: Iterable[Path]) -> str:
    """The first paths, and the number of the others."""
    every = [str(path) for path in paths]
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


@dataclass(frozen=True)
class Expected:
    """A number of videos that a full copy of a dataset has.

    Attributes:
        label: 0 attack, 1 bona fide.
        videos: their number; in a dataset of single pictures, the number of pictures.
        splits: official splits that are counted together; empty for all.
        attack_type: count this type only; None for all.
        what: what is counted, in words for the user, if the other fields do not say it.
    """

    label: int
    videos: int
    splits: tuple[str, ...] = ()
    attack_type: str | None = None
    what: str = ""

    def counts(self, face: SourceFace) -> bool:
        """Whether this number includes a face."""
        return (
            face.label == self.label
            and (not self.splits or face.split in self.splits)
            and (self.attack_type is None or face.attack_type == self.attack_type)
        )


def expected(live: int, attack: int, *splits: str, what: str = "") -> tuple[Expected, Expected]:
    """The numbers of live and attack videos of a full copy, together in all `splits`."""
    return Expected(BONAFIDE, live, splits, what=what), Expected(ATTACK, attack, splits, what=what)


# `what` of the two datasets whose training and test videos the leave-one-out protocols count together.
TRAIN_AND_TEST = "training and test, as the leave-one-out protocols use them"


@dataclass(frozen=True)
class VideoCount:
    """An expected number, and the number of distinct videos found."""

    expected: Expected
    found: int

    @property
    def missing(self) -> int:
        """Videos of a full copy that were not found; 0 if there are more than expected."""
        return max(0, self.expected.videos - self.found)


def check_counts(faces: list[SourceFace], expected: tuple[Expected, ...]) -> list[VideoCount]:
    """One count for every expected number, in the same order.

    Args:
        faces: what an importer found, with the dataset's official splits: before subjects are dealt to new ones.
        expected: the importer's `EXPECTED`.
    """
    return [VideoCount(number, len({(f.domain, f.video) for f in faces if number.counts(f)})) for number in expected]
