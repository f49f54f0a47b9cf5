"""From what the user names to pictures and videos: files as they are, folders walked in the order of their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.data.importers.source import SUFFIXES, VIDEO_SUFFIXES


@dataclass(frozen=True)
class Medium:
    """One file to judge.

    Attributes:
        path: where it lies.
        name: below the folder that was named, with `/` between; the file's own name where it was named itself.
        refused: why it cannot be judged; empty where it can.
    """

    path: Path
    name: str
    refused: str = ""

    @property
    def is_video(self) -> bool:
        """By its name."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass
class Found:
    """All files to judge, and what was passed over.

    Attributes:
        media: in the order of the arguments, each folder's sorted by path.
        left_out: how many files of a folder were passed over, by the ending of their names.
        links: how many links were not followed.
    """

    media: list[Medium] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    links: int = 0

    def passed_over(self) -> str:
        """One sentence about what was not looked at; empty where that is nothing."""
        parts = []
        if self.left_out:
            endings = ", ".join(sorted(self.left_out))
            parts.append(
                f"{sum(self.left_out.values())} files that are neither pictures nor videos by name ({endings})"
            )
        if self.links:
            parts.append(f"{self.links} links, which are not followed")
        return f"left out: {' and '.join(parts)}" if parts else ""


def find_media(paths: Sequence[Path]) -> Found:
    """The files that paths name. A named file is judged whatever its name; in folders the ending decides.

    A folder that cannot be read, or holds nothing to judge, is a medium that is refused.
    """
    found = Found()
    for path in paths:
        if path.is_dir():
            _walk(path, found)
        else:
            found.media.append(Medium(path, path.name))
    return found


def _walk(top: Path, found: Found) -> None:
    before = len(found.media)
    unread: list[OSError] = []
    files = sorted(_files(top, found, unread))
    for path in files:
        if path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES):
            found.media.append(Medium(path, path.relative_to(top).as_posix()))
        else:
            found.left_out[path.suffix.lower() or "no ending"] += 1
    for error in unread:
        place = Path(str(error.filename))
        found.media.append(Medium(place, place.name, f"{place} cannot be read ({error.strerror})."))
    if len(found.media) == before:
        endings = ", ".join((*SUFFIXES, *VIDEO_SUFFIXES))
        reason = f"{top} holds no picture and no video: no file in it ends in {endings}."
        found.media.append(Medium(top, top.name, reason))


def _files(top: Path, found: Found, unread: list[OSError]) -> Iterator[Path]:
    for folder, names, files in os.walk(top, onerror=unread.append):
        # os.walk names links to folders, but does not go in.
        found.links += sum((Path(folder) / name).is_symlink() for name in names)
        for name in files:
            path = Path(folder) / name
            if path.is_symlink():
                found.links += 1
            else:
                yield path
