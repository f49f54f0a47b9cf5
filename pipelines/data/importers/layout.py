"""The layout of a dataset as its authors distribute it: folders and names, and what to say where they differ."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.importers.source import SUFFIXES, VIDEO_SUFFIXES, files_in, place_below
from pipelines.errors import AgfasError

# Archives are often unpacked into a folder or two of their own names.
_DEPTH = 2
_NAMED = 3


@dataclass(frozen=True)
class Layout:
    """Where the files of a dataset lie and what they are called.

    Attributes:
        title: the dataset's name, for messages.
        folders: its uppermost folders, of which at least one is there; none where the files lie anywhere.
        pattern: matches a sample's path below the root, with forward slashes; its groups say what the sample is.
        example: such a path.
        extras: matches files that the dataset documents and that are no samples.
        suffixes: the endings of its samples' names.
    """

    title: str
    folders: tuple[str, ...]
    pattern: re.Pattern[str]
    example: str
    extras: re.Pattern[str] | None = None
    suffixes: tuple[str, ...] = SUFFIXES + VIDEO_SUFFIXES

    def roots(self, source: Path) -> list[Path]:
        """The nearest folders that hold an uppermost folder: `source` itself, or ones in it."""
        level = [source] if source.is_dir() else []
        for _ in range(_DEPTH + 1):
            found = [place for place in level if any((place / name).is_dir() for name in self.folders)]
            if found:
                return found
            level = [child for place in level for child in _children(place)]
        return []

    def root(self, source: Path) -> Path:
        """The folder that holds the uppermost folders; `source` itself where the files lie anywhere.

        Raises:
            AgfasError: there is none, or more than one.
        """
        found = self.roots(source) if self.folders else [source]
        if len(found) > 1:
            raise AgfasError(f"{source} holds {self.title} more than once: {_some(found)}. Give one of them.")
        if not found:
            raise AgfasError(
                f"No {self.title} at {source}: none of {', '.join(f'{name}/' for name in self.folders)} is in it."
                f" Expected: {self.example}. Give the folder that holds it."
            )
        return found[0]

    def files(self, source: Path) -> list[tuple[Path, re.Match[str]]]:
        """Every sample and what its path says.

        Raises:
            AgfasError: no such folder, no sample, or files that are not called as in this dataset.
        """
        return self.match(self.root(source))

    def match(self, root: Path) -> list[tuple[Path, re.Match[str]]]:
        """Every sample below a root that is known; errors as of `files`."""
        places = [root / name for name in self.folders if (root / name).is_dir()] if self.folders else [root]
        matched, strange = [], []
        for path in (path for place in places for path in files_in(place, self.suffixes)):
            below = place_below(root, path)
            if match := self.pattern.fullmatch(below):
                matched.append((path, match))
            elif self.extras is None or not self.extras.fullmatch(below):
                strange.append(path)
        if strange:
            raise self.not_so_called(strange)
        if not matched:
            raise AgfasError(f"No pictures or videos of {self.title} in {root}. Expected: {self.example}.")
        return matched

    def not_so_called(self, paths: list[Path]) -> AgfasError:
        """The error that names the first of the files whose names this dataset does not have."""
        are = "file is" if len(paths) == 1 else "files are"
        return AgfasError(
            f"{len(paths)} {are} not called as in {self.title} ({self.example}): {_some(paths)}. Move what is not of"
            " the dataset elsewhere, or import it with another importer (`folder`, `csv`)."
        )


def last_number(name: str) -> int:
    """The last number in a name, such as the frame in `frame_0012`; 0 where there is none."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else 0


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:  # a folder beside the dataset that cannot be read is no reason to stop
        return []


def _some(paths: Iterable[Path]) -> str:
    """The first paths and how many more there are."""
    every = [str(path) for path in paths]
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
