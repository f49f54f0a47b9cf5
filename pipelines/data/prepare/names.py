"""Names of sources, subjects and videos: safe in keys and paths, printable, and distinct."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import plain
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.records import face_key
from pipelines.errors import AgfasError
from pipelines.spelling import alike_groups, one_form

_KEPT = "-_."
# Bytes of a domain's name: several stand in the name of a fold, which is a folder.
_LONGEST_DOMAIN = 100
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


# What fields of a person hold if the person is not known; also names of people.
_NA = ("nan", "none", "null", "na", "n/a", "unknown", "unk", "?", "-1", "anonymous", "undefined")
_SPELLED = ("domain", "subject", "attack_type", "sex", "ethnicity")


def settled_names(faces: list[SourceFace], recipe: PrepareRecipe, source: Path) -> list[SourceFace]:
    """The faces with the names that the recipe says are one, or unknown, made so.

    Raises:
        AgfasError: names that only their spelling distinguishes, or a subject called as if unknown, of which the recipe
            does not say what they are.
    """
    faces = _with_na_subjects(faces, recipe, source)
    for column in _SPELLED:
        faces = _with_one_spelling(faces, column, recipe, source)
    return _renumbered(faces) if recipe.alike == "one" else faces


def _with_na_subjects(faces: list[SourceFace], recipe: PrepareRecipe, source: Path) -> list[SourceFace]:
    called = [face for face in faces if face.subject_known and _is_na(face.subject)]
    if not called or recipe.na_subjects == "person":
        return faces
    if recipe.na_subjects is None:
        raise AgfasError(
            f"Is {called[0].subject!r} a person? {len(called)} sources have this subject, the first is"
            f" {source_name(called[0], source)}. Say --na-subjects person if it is a name, or --na-subjects unknown"
            " if it stands for persons who are not known."
        )
    return [
        replace(face, subject=face.video, subject_known=False) if face.subject_known and _is_na(face.subject) else face
        for face in faces
    ]


def _is_na(subject: str) -> bool:
    return subject.strip().casefold() in _NA or plain(subject) in _NA


def _with_one_spelling(faces: list[SourceFace], column: str, recipe: PrepareRecipe, source: Path) -> list[SourceFace]:
    """Ask about, keep or join the names of a column that are alike; those of subjects are looked at by domain."""
    held = [(face.domain if column == "subject" else "", getattr(face, column)) for face in faces]
    known = (name for name, face in zip(held, faces, strict=True) if face.subject_known or column != "subject")
    names: dict[str, set[str]] = defaultdict(set)
    for owner, name in set(known):
        names[owner].add(name)
    groups = [(owner, group) for owner in sorted(names) for group in alike_groups(names[owner])]
    if not groups or recipe.alike == "several":
        return faces
    if recipe.alike is None:
        owner, group = groups[0]
        shown = [f"{name!r} ({source_name(faces[held.index((owner, name))], source)})" for name in group[:3]]
        more = f", and of {len(groups) - 1} others," if len(groups) > 1 else ""
        raise AgfasError(
            f"Is this one {column.replace('_', ' ')} or several: {' and '.join(shown)}? The names{more} differ only in"
            " case, width, blanks or zeros. Say --alike one to make them one, or --alike several to keep them apart."
        )
    one = {(owner, name): group[0] for owner, group in groups for name in group}
    renamed: list[dict[str, Any]] = [{column: one[name]} if name in one else {} for name in held]
    return [replace(face, **change) if change else face for face, change in zip(faces, renamed, strict=True)]


def _renumbered(faces: list[SourceFace]) -> list[SourceFace]:
    """The pictures of a video numbered anew, if videos with equal numbers became one."""
    keys = Counter(_key(face) for face in faces if not face.is_video)
    twice = {key[:3] for key, count in keys.items() if count > 1}
    frames: Counter[tuple[str, ...]] = Counter()
    found = []
    for face in faces:
        place = _key(face)[:3]
        if place in twice and not face.is_video:
            face = replace(face, frame=frames[place])
            frames[place] += 1
        found.append(face)
    return found


def _key(face: SourceFace) -> tuple[str, str, str, int]:
    return face.domain, face.subject, face.video, face.frame


def check_keys(faces: list[SourceFace], all_faces: bool) -> None:
    """Check, before any work, that all records will have distinct keys and consistent videos.

    Raises:
        AgfasError: a domain with too long a name; two files with one key; a video of two subjects or of both labels;
            with `all_faces`, a video with the name that a further face of another video would get.
    """
    for domain in sorted({face.domain for face in faces}):
        if len(domain.encode()) > _LONGEST_DOMAIN:
            raise AgfasError(
                f"The name of the domain {domain[:40]}... has {len(domain.encode())} bytes; at most"
                f" {_LONGEST_DOMAIN} fit into names of folders. Give a shorter one with --domain."
            )
    _check_distinct(faces)
    _check_videos(faces)
    if all_faces:
        _check_face_suffixes(faces)


def _check_distinct(faces: list[SourceFace]) -> None:
    seen: dict[tuple[str, str, str, int], SourceFace] = {}
    films = {(face.domain, face.video): face for face in faces if face.is_video}
    for face in faces:
        key = _key(face)
        other = seen.setdefault(key, face)
        # A video file takes the keys of all its frames, so no picture may belong to the same video.
        twin = other if other is not face else films.get((face.domain, face.video), face)
        if twin is not face:
            forms = str(twin.path) != str(face.path) and one_form(str(twin.path)) == one_form(str(face.path))
            looks = " (two forms of one name in Unicode, which look the same)" if forms else ""
            raise AgfasError(
                f"{_where(twin)} and {_where(face)}{looks} both have the key {face_key(*key)}, which must be unique."
                " Remove or rename one of them, or give it another subject or video."
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
