"""Names from file systems and lists, made fit for keys and folders without two becoming one."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import NamedTuple

from pipelines.data.importers.source import SourceFace
from pipelines.data.records import face_key
from pipelines.errors import AgfasError

_KEPT = "-_."
_FACE_SUFFIX = re.compile(r"(.+)-face[1-9]\d*")


def safe_name(name: str) -> str:
    """`name` with everything but letters, digits, `-`, `_` and inner dots as %XX of its UTF-8 bytes.

    Different names stay different, since `%` itself is replaced; no result is empty, starts with a dot or holds a
    separator, so none can climb out of a folder.

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
    # A byte of a file's name that is no UTF-8 comes as a lone surrogate, which only `surrogatepass` encodes.
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def printable(text: str) -> str:
    """`text` in characters that can be written as UTF-8: other bytes of a file's name become `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def with_safe_names(faces: list[SourceFace]) -> list[SourceFace]:
    """The faces with safe domains, subjects and videos."""
    return [
        replace(face, domain=safe_name(face.domain), subject=safe_name(face.subject), video=safe_name(face.video))
        for face in faces
    ]


class Sample(NamedTuple):
    """One face's place: the parts of its key."""

    domain: str
    subject: str
    video: str
    frame: int


def check_keys(faces: list[SourceFace], all_faces: bool) -> None:
    """Refuse before any work what could not be told apart afterwards.

    Raises:
        AgfasError: two files of one key, a video of two subjects or of both labels, or with `all_faces` a video
            that is called as a further face of another one would be.
    """
    _check_distinct(faces)
    _check_videos(faces)
    if all_faces:
        _check_face_suffixes(faces)


def _check_distinct(faces: list[SourceFace]) -> None:
    seen: dict[Sample, SourceFace] = {}
    videos = {(face.domain, face.video): face for face in faces if face.is_video}
    for face in faces:
        key = Sample(face.domain, face.subject, face.video, face.frame)
        other = seen.setdefault(key, face)
        film = videos.get((face.domain, face.video), face)
        twin = other if other is not face else film
        if twin is not face:
            raise AgfasError(
                f"{_where(twin)} and {_where(face)} are both {face_key(*key)}: a dataset could not tell them apart."
                " Give one of them another name, or a subject or video of its own."
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
                f"Video '{video}' of domain '{domain}' is of the subjects '{first}' and '{second}'. A video's name is"
                " unique within its domain, since its frames' scores are averaged: put the subject into it."
            )
        if len(labels[domain, video]) > 1:
            raise AgfasError(
                f"Video '{video}' of domain '{domain}' is both bona fide and attack. A video has one label, since its"
                " frames' scores are averaged: give the two halves names of their own."
            )


def _check_face_suffixes(faces: list[SourceFace]) -> None:
    videos = {(face.domain, face.video) for face in faces}
    for domain, video in sorted(videos):
        match = _FACE_SUFFIX.fullmatch(video)
        if match and (domain, match[1]) in videos:
            raise AgfasError(
                f"'{video}' of domain '{domain}' is called as a further face of '{match[1]}' would be. Rename one of"
                " them, or leave out --all-faces."
            )


def _where(face: SourceFace) -> str:
    return f"{face.path} row {face.row}" if face.row >= 0 else str(face.path)
