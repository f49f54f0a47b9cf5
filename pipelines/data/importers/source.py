"""What an importer returns, and how it finds files: names only, no picture is opened."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.formats import SUFFIXES, VIDEO_SUFFIXES, is_of_the_system, is_video, kind_named
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.spelling import one_form


@dataclass(frozen=True)
class SourceFace:
    """One picture that shows a face, or one video that shows it in every frame.

    Attributes:
        path: the file; for a row of a Hugging Face dataset, the folder or hub id of the dataset.
        domain, subject, video: as in `face_features`; kept in one form of Unicode (NFC), whatever they are given in.
        attack_type: one of `words.ATTACK_TYPES`, or `none` for a bona fide face.
        frame: position of a picture within its video; 0 for a video file, whose frames are numbered when sampled.
        split: `train`, `dev` or `test`; empty if the dataset has no official split.
        subject_known: whether `subject` is a person. False if it only stands for a video or a run of files: the splits
            are then disjoint in videos, and not provably in persons.
        age: in years, -1 if not recorded.
        sex, ethnicity: in the words of the dataset, empty if not recorded.
        row, column: place of the picture in a Hugging Face dataset; -1 and empty for a file.
        content: what that dataset holds, a hash of its files; empty for a file.
    """

    path: Path
    domain: str
    attack_type: str
    subject: str
    video: str
    frame: int = 0
    split: str = ""
    subject_known: bool = True
    age: int = -1
    sex: str = ""
    ethnicity: str = ""
    row: int = -1
    column: str = ""
    content: str = ""

    def __post_init__(self) -> None:
        for name in ("domain", "subject", "video"):
            object.__setattr__(self, name, one_form(getattr(self, name)))

    @property
    def label(self) -> int:
        """0 attack, 1 bona fide."""
        return BONAFIDE if self.attack_type == NO_ATTACK else ATTACK

    @property
    def is_video(self) -> bool:
        """Whether the file name is that of a video."""
        return self.row < 0 and is_video(self.path)


def split_of(source: Path) -> tuple[Path, str]:
    """A source and the split behind its `@`; empty if it names none. An `@` in the name of a folder is no split."""
    place, sign, split = source.as_posix().rpartition("@")
    return (source, "") if source.exists() or not sign or "/" in split else (Path(place), split)


class LeftOut(UserWarning):
    """An entry below a source folder that was skipped: a link, an unreadable folder, a device.

    A job that lists what it refused records these with `warnings.catch_warnings`.

    Attributes:
        path: the entry.
        reason: the end of a sentence.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} was left out: {reason}")
        self.path = path
        self.reason = reason


def media_in(folder: Path, expected: str = "") -> list[Path]:
    """All picture and video files below a folder, sorted; see `files_in`.

    Args:
        folder: where to look.
        expected: what the folder should contain, for the error message.

    Raises:
        AgfasError: no such folder, or neither a picture nor a video in it.
    """
    found = files_in(folder, SUFFIXES + VIDEO_SUFFIXES)
    if not found:
        wanted = f" Expected: {expected}." if expected else ""
        raise AgfasError(
            f"No pictures or videos in {folder}: none of its files ends in"
            f" {', '.join(SUFFIXES + VIDEO_SUFFIXES)}.{_others(folder)}{wanted}"
        )
    return found


def _others(folder: Path) -> str:
    """The most frequent kind of picture or video in a folder that is not read, in one sentence; empty if none."""
    found = Counter(kind for path in files_in(folder, ("",)) if (kind := kind_named(path)) and kind.advice)
    if not found:
        return ""
    ((kind, number),) = found.most_common(1)
    return f" {number} of them: {kind.name}, which is not read. {kind.advice}"


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """All regular files below a folder whose names end in one of `suffixes`, sorted by folder and name.

    One walk that needs the directory listings only. Links are not followed, so that no loop traps the walk and nothing
    outside the folder is read. Links, unreadable folders and devices raise a `LeftOut` warning. What macOS adds to
    archives (`__MACOSX`, `._NAME`) is ignored.

    Raises:
        AgfasError: no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise AgfasError(f"No folder at {folder}.")
    try:
        waiting = _listing(str(folder))
    except OSError as error:
        raise AgfasError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    found = []
    while waiting:
        entry = waiting.pop()
        if entry.is_symlink():
            _leave_out(entry, "it is a link, and links are not followed. Put what it points to in its place")
        elif entry.is_dir():
            try:
                waiting += _listing(entry.path)
            except OSError as error:
                _leave_out(entry, f"the folder cannot be read ({error.strerror})")
        elif entry.name.lower().endswith(suffixes):
            if entry.is_file():
                found.append(Path(entry.path))
            else:
                _leave_out(entry, "it is neither a file nor a folder")
    return found


def _listing(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, last name first: `files_in` takes them from the end."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not is_of_the_system(entry.name)]
    return sorted(kept, key=lambda entry: entry.name, reverse=True)


def _leave_out(entry: os.DirEntry[str], reason: str) -> None:
    warnings.warn(LeftOut(Path(entry.path), reason), stacklevel=4)


def place_below(folder: Path, path: Path) -> str:
    """A path relative to a folder, with forward slashes; the whole path if it is not below the folder.

    Text only: `Path.relative_to` would take most of the time of a walk over 100,000 files.
    """
    return str(path).removeprefix(str(folder).rstrip(os.sep) + os.sep).replace(os.sep, "/")


def names_below(folder: Path, paths: list[Path]) -> list[str]:
    """A name for every file from its path below a folder: `a/b.png` is `a-b`, or `a-b.png` if two files would be `a-b`.

    Names are part of keys, so they contain no slash, and bytes that are not UTF-8 are spelled out.
    """
    places = [place_below(folder, path).lstrip("/").replace("/", "-") for path in paths]
    whole = [place.encode("utf-8", "backslashreplace").decode() for place in places]
    short = [name.rpartition(".")[0] or name for name in whole]
    taken = Counter(short)
    return [long if taken[name] > 1 else name for name, long in zip(short, whole, strict=True)]
