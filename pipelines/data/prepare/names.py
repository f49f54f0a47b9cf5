"""Names of sources, subjects and videos: safe in keys and paths, printable, and distinct."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.source import SourceFace
from pipelines.data.records import face_key
from pipelines.errors import AgfasError

_KEPT = "-_."
_FACE_SUFFIX = re.compile(r"(.+)-face[1-9]\d*")


def safe_name(name: str) -> str:
    """Percent-encode everything but letters, digits, `-`, `_` and inner dots.

    The mapping is injective, since `%` itself is encoded. No result is empty, starts with a dot or has a separator, so
    none can leave its folder.

    Examples:
        >>> safe_name("../ann smith")
        '%2E.%2Fann%20smith'
    """
    if not name:
        return "%"
    return "".join(
        char if char.isalnum() or (char in _KEPT and (place or char != ".")) else _escaped(char)
        for place, char in enumerate(name)
    )


def _escaped(char: str) -> str:
    # Python reads bytes of a file name that are not UTF-8 as lone surrogates, which only `surrogatepass` encodes.
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def printable(text: str) -> str:
    """`text` that can be written as UTF-8: bytes of file names that are not UTF-8 become `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def source_name(face: SourceFace, source: Path) -> str:
    """A source's name in the dataset and in `refused.csv`: its path below `source`, or `column[row]`."""
    return f"{face.column}[{face.row}]" if face.row >= 0 else path_below(face.path, source)


def path_below(path: Path, folder: Path) -> str:
    """`path` relative to `folder`, if it is inside, printable and with slashes on every system."""
    return printable((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix())


def with_safe_names(faces: list[SourceFace]) -> list[SourceFace]:
    """The faces with safe domains, subjects and videos."""
    return [
        replace(face, domain=safe_name(face.domain), subject=safe_name(face.subject), video=safe_name(face.video))
        for face in faces
    ]


def check_keys(faces: list[SourceFace], all_faces: bool) -> None:
    """Check, before any work, that all records will have distinct keys and consistent videos.

    Raises:
        AgfasError: two files with one key; a video of two subjects or of both labels; with `all_faces`, a video with
            the name that a further face of another video would get.
    """
    _check_distinct(faces)
    _check_videos(faces)
    if all_faces:
        _check_face_suffixes(faces)


def _check_distinct(faces: list[SourceFace]) -> None:
    seen: dict[tuple[str, str, str, int], SourceFace] = {}
    films = {(face.domain, face.video): face for face in faces if face.is_video}
    for face in faces:
        key = (face.domain, face.subject, face.video, face.frame)
        other = seen.setdefault(key, face)
        # A video file takes the keys of all its frames, so no picture may belong to the same video.
        twin = other if other is not face else films.get((face.domain, face.video), face)
        if twin is not face:
            raise AgfasError(
                f"{_where(twin)} and {_where(face)} both have the key {face_key(*key)}, which must be unique. Rename"
                " one of them, or give it another subject or video."
            )


def _check_videos(faces: list[SourceFace]) -> None:
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    labels: dict[tuple[str, str], set[int]] = defaultdict(set)
    for face in faces:
        owners[face.domain, face.video].add(face.subject)
        labels[face.domain, face.video].add(face.label)
    for (domain, video), names in owners.items():
        if len(names) > 1:
            first, second = sorted(names)[:2]
            raise AgfasError(
                f"Video '{video}' of domain '{domain}' has the subjects '{first}' and '{second}'. Scores are averaged"
                " over a video, so its name must be unique within the domain: add the subject to it."
            )
        if len(labels[domain, video]) > 1:
            raise AgfasError(
                f"Video '{video}' of domain '{domain}' is both bona fide and attack. Scores are averaged over a video,"
                " so it must have one label: name the two parts differently."
            )


def _check_face_suffixes(faces: list[SourceFace]) -> None:
    videos = {(face.domain, face.video) for face in faces}
    for domain, video in sorted(videos):
        match = _FACE_SUFFIX.fullmatch(video)
        if match and (domain, match[1]) in videos:
            raise AgfasError(
                f"'{video}' of domain '{domain}' has the name that a further face of '{match[1]}' would get. Rename one"
                " of them, or leave out --all-faces."
            )


def _where(face: SourceFace) -> str:
    return f"{face.path} row {face.row}" if face.row >= 0 else str(face.path)
