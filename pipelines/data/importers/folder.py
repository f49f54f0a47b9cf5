"""Your own pictures and videos: in folders of the classes (importer `folder`), or live faces only (`live`).

    SOURCE/bonafide/[SUBJECT/]FILE        folder
    SOURCE/attack/[SUBJECT/]FILE
    SOURCE/[ANYTHING/]FILE                live, such as All-Age-Faces

Our own layout. An attack in the folder of a subject shows that subject. The folders of the classes may have other
common names: live, real, genuine; spoof, fake, print, replay; ... (`words.MEANINGS`). For UTKFace, whose file names
say age, sex and ethnicity, use `utkface`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipelines.data.formats import SUFFIXES, VIDEO_SUFFIXES, is_of_the_system, is_video
from pipelines.data.importers.labels import Given, meanings
from pipelines.data.importers.source import SourceFace, files_in, media_in, names_below
from pipelines.data.importers.words import SPLIT_WORDS, meaning, plain
from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.spelling import one_form

TITLE = "your own pictures and videos"
CITATION = ""
LICENCE = "That of the pictures; ask the people in them."
VERIFIED = "Our own layout; used on real pictures."
READS = "the folders of the classes"

# Without subjects, runs of this many neighbouring pictures stay together: they may be frames of one video.
_RUN = 40


def find(source: Path, domain: str, *, bonafide: Given = None, live: Given = None) -> list[SourceFace]:
    """Subjects are the folders below the classes. Without such folders a video, or a run of pictures, is a subject.

    Args:
        source: the folder of the class folders.
        domain: as in `face_features`.
        bonafide, live: see `labels.meanings`.

    Raises:
        AgfasError: a class has no folder, or a folder has pictures of a class that its name does not say.
    """
    media = _by_class(source)
    if (bonafide, live) == (None, None) and not any(map(meaning, media)):
        there = f" There are: {', '.join(list(media)[:10])}." if media else ""
        raise AgfasError(
            f"{source} needs the folders bonafide/ and attack/; bonafide/ is missing.{there} Rename them, or say which"
            " are bona fide with --option bonafide=FOLDER; for live faces alone use --importer live."
        )
    kinds = meanings({name: f"{source / name}" for name in media}, bonafide, live, f"the folders of {source}")
    _check_both(source, kinds)
    faces = []
    # Bona fide first, then attacks: the order in which faces are found.
    for name, kind in sorted(kinds.items(), key=lambda item: (item[1] != NO_ATTACK, item[0])):
        paths = sorted(media[name], key=_natural)
        for place, (path, own) in enumerate(zip(paths, names_below(source / name, paths), strict=True)):
            below = path.relative_to(source / name).parts[:-1]
            known = bool(below)
            if is_video(path):
                video, frame = f"{name}-{own}", 0
            else:
                run = f"{name}-run-{place // _RUN:04d}"
                video, frame = f"{name}-{'-'.join(below)}" if known else run, place
            subject = below[0] if known else video
            faces.append(SourceFace(path, domain, kind, subject, video, frame, subject_known=known))
    return faces


def _by_class(source: Path) -> dict[str, list[Path]]:
    """The pictures and videos below every folder of the source that has some.

    Raises:
        AgfasError: no such folder, a folder called as a class without any, or folders called as splits.
    """
    try:
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise AgfasError(f"{source} cannot be read as a folder ({error.strerror}).") from error
    splits = [name for name in names if plain(name) in SPLIT_WORDS]
    if splits and not any(meaning(name) for name in names):
        raise AgfasError(
            f"{source} needs the folders bonafide/ and attack/, and has folders of splits"
            f" ({', '.join(sorted(splits))}). For SPLIT/CLASS/FILE use --importer hf."
        )
    found = {}
    for name in sorted(name for name in names if not is_of_the_system(name)):
        known = meaning(name) is not None
        found[name] = media_in(source / name) if known else files_in(source / name, SUFFIXES + VIDEO_SUFFIXES)
    return {name: paths for name, paths in found.items() if paths}


def _check_both(source: Path, kinds: dict[str, str]) -> None:
    sides = {kind == NO_ATTACK for kind in kinds.values()}
    missing = [name for name, live in (("bonafide", True), ("attack", False)) if live not in sides]
    if missing:
        alone = " For live faces alone use --importer live." if missing == ["attack"] else ""
        raise AgfasError(f"{source} needs the folders bonafide/ and attack/; {missing[0]}/ is missing.{alone}")


def find_live(source: Path, domain: str) -> list[SourceFace]:
    """Live faces without identities: every picture or video is its own subject.

    Raises:
        AgfasError: no such folder, or neither a picture nor a video in it.
    """
    paths = media_in(source, expected="pictures or videos of live faces, in folders of any names")
    return [
        SourceFace(path, domain, NO_ATTACK, name, name, subject_known=False)
        for path, name in zip(paths, names_below(source, paths), strict=True)
    ]


def _natural(path: Path) -> list[int | str]:
    """Sorts names of one folder by the numbers in them: 9 before 10."""
    parts = re.findall(r"\d+|\D+", one_form(str(path)))
    return [int(part) if part.isdecimal() else part for part in parts]
