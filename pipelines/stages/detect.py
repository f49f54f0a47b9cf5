"""`agfas detect` and `agfas save-model`: a trained detector used on files, and saved as one folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from oanet.published import publication, published_names
from pipelines.data.formats import SUFFIXES, VIDEO_SUFFIXES, is_video, kind_beside, why_unread
from pipelines.data.importers.source import is_of_the_system
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.progress import bar
from pipelines.spelling import one_form, short_name
from pipelines.verdict.answers import REFUSED, Verdict, as_csv, as_json, as_table, count_refused
from pipelines.verdict.anti_spoofing import FRAMES

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing


@dataclass(frozen=True)
class Place:
    """Where a detector comes from: a run, a saved folder, or its publisher.

    Attributes:
        run: output folder of a run.
        model: a folder of `agfas save-model` or `agfas export`, or its name on the hub.
        published: name of a published network.
        label, fold: choose among the detectors of a run.
    """

    run: Path | None = None
    model: Path | None = None
    published: str | None = None
    label: str | None = None
    fold: str | None = None


def open_detector(
    place: Place,
    face_detector: str | None = None,
    weights: Path | None = None,
    face_weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> FaceAntiSpoofing:
    """The detector of a run, of a saved folder, or as published.

    Raises:
        AgfasError: not exactly one of the three, or options of another one.
    """
    from pipelines.verdict import FaceAntiSpoofing

    if sum(given is not None for given in (place.run, place.model, place.published)) != 1:
        raise AgfasError(
            "Give either --run, an output folder; --model, a folder of `agfas save-model` or USER/NAME of the hub; or"
            f" --published, the name of a published network ({', '.join(published_names())}), with its files' folder as"
            " --weights."
        )
    if place.run is None and (place.label is not None or place.fold is not None):
        raise AgfasError("--label and --fold choose among the detectors of a run; here is only one.")
    if place.published is not None:
        return _open_published(place.published, face_detector, weights, face_weights, parsing_weights)
    if face_weights is not None:
        raise AgfasError("--face-weights goes with --published; here --weights are the face detector's.")
    if place.run is not None:
        return FaceAntiSpoofing.from_run(
            place.run, place.label, place.fold,
            face_detector=face_detector, weights=weights, face_parser=parsing_weights,
        )  # fmt: skip
    assert place.model is not None
    return FaceAntiSpoofing.from_pretrained(
        place.model, face_detector=face_detector, weights=weights, face_parser=parsing_weights
    )


def _open_published(
    name: str,
    face_detector: str | None,
    weights: Path | None,
    face_weights: Path | None,
    parsing_weights: Path | None,
) -> FaceAntiSpoofing:
    from pipelines.verdict import FaceAntiSpoofing

    try:
        known = publication(name)
    except ValueError as error:
        raise AgfasError(f"--published: {error}") from None
    if parsing_weights is not None:
        raise AgfasError("--parsing-weights goes with a detector whose cue is masked; a published network has no cue.")
    if weights is None:
        raise AgfasError(f"--published {name} needs --weights, the folder that holds {known.files}.")
    return FaceAntiSpoofing.from_published(name, weights, face_detector=face_detector, face_weights=face_weights)


def save_model(detector: FaceAntiSpoofing, out: Path) -> str:
    """Write a detector as one folder that needs nothing else; returns what to print.

    Raises:
        AgfasError: the folder holds something else, or cannot be written.
    """
    detector.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return f"{detector.settings.label}, {detector.settings.fold}: {out} ({size / 1e6:.1f} MB)"


def find(paths: Sequence[Path], frames: int | None = None) -> Found:
    """The files to judge, before a detector is opened for them.

    Args:
        paths: pictures, videos and folders.
        frames: of a video, as given.

    Raises:
        AgfasError: an invalid number of frames, or there is no file at all.
    """
    if frames is not None and frames < 1:
        raise AgfasError(f"--frames must be at least 1, not {frames}.")
    found = find_media(paths)
    if not any(medium.path.exists() and not medium.path.is_dir() for medium in found.media):
        first, *others = found.media
        more = f" The same holds of the {len(others)} other paths." if others else ""
        raise AgfasError(f"{first.refused or f'There is no file or folder at {first.path}.'}{more}")
    return found


def run(
    found: Found,
    detector: FaceAntiSpoofing,
    *,
    aligned: bool = False,
    all_faces: bool = False,
    frames: int | None = None,
    json: bool = False,
    csv: Path | None = None,
    save: Path | None = None,
) -> tuple[str, int]:
    """Judge every file.

    Args:
        found: of `find`.
        detector: of `open_detector`.
        aligned: use pictures as aligned crops.
        all_faces: judge every face.
        frames: number of frames of a video; None: as many as `FaceAntiSpoofing.judge_video` takes.
        json: answer in JSON instead of a table.
        csv: a CSV file to write too.
        save: folder of the overlays.

    Returns:
        What to print, and the number of refused paths.

    Raises:
        AgfasError: a file that cannot be written.
    """
    verdicts: list[Verdict] = []
    overlays = Overlays(save)
    options = {"aligned": aligned, "all_faces": all_faces, "panels": save is not None}
    with bar(len(found.media), "judge", unit="file", show=len(found.media) > 1) as progress:
        for medium, verdict in _judged(found.media, detector, frames, **options):
            overlays.write(medium, verdict)
            verdicts.append(verdict.without_pixels())
            progress.update(1)
    if csv is not None:
        write_text(csv, as_csv(verdicts))
    left_out, refused = found.left_out(), count_refused(verdicts)
    if json:
        return as_json(verdicts, detector.settings, left_out, overlays.written), refused
    return as_table(verdicts, detector.settings, [text for text in (left_out, overlays.summary()) if text]), refused


def _judged(
    media: Sequence[Medium], detector: FaceAntiSpoofing, frames: int | None, **options: bool
) -> Iterator[tuple[Medium, Verdict]]:
    """Every file with its verdict, in order; successive pictures are judged in batches."""
    for kind, group in groupby(media, key=lambda medium: medium.kind):
        if kind == "picture":
            yield from _judged_pictures(list(group), detector, **options)
        elif kind == "video":
            yield from ((medium, detector.judge_video(medium.path, frames or FRAMES, **options)) for medium in group)
        else:
            yield from ((medium, detector.refusal(str(medium.path), medium.refused)) for medium in group)


def _judged_pictures(
    media: list[Medium], detector: FaceAntiSpoofing, **options: bool
) -> Iterator[tuple[Medium, Verdict]]:
    for start in range(0, len(media), detector.batch_size):
        part = media[start : start + detector.batch_size]
        yield from zip(part, detector([medium.path for medium in part], **options), strict=True)


@dataclass(frozen=True)
class Medium:
    """One file to judge.

    Attributes:
        path: of the file.
        name: relative to the folder that the user named, with `/`; the file's own name if named itself.
        refused: why it cannot be judged; empty if it can.
    """

    path: Path
    name: str
    refused: str = ""

    @property
    def kind(self) -> str:
        """`picture`, `video` (by its name) or `refused`."""
        if self.refused:
            return "refused"
        return "video" if is_video(self.path) else "picture"


@dataclass
class Found:
    """The files to judge, and what was skipped.

    Attributes:
        media: in the order of the arguments, each folder's sorted by path.
        others: number of skipped files by the ending of their names.
        links: number of links that were not followed.
    """

    media: list[Medium] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    links: int = 0

    def left_out(self) -> str:
        """What was skipped, in one sentence; empty if nothing was."""
        parts = []
        if self.others:
            endings = ", ".join(sorted(self.others))
            parts.append(f"{sum(self.others.values())} files that are neither pictures nor videos by name ({endings})")
        if self.links:
            parts.append(f"{self.links} links, which are not followed")
        return f"left out: {' and '.join(parts)}" if parts else ""


def find_media(paths: Sequence[Path]) -> Found:
    """The files to judge. A named file is judged whatever its name; in folders the ending decides.

    A folder that cannot be read, or holds nothing to judge, becomes a refused medium.
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
    for path in sorted(_files(top, found, unread)):
        if is_of_the_system(path.name):
            continue
        if path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES):
            found.media.append(Medium(path, path.relative_to(top).as_posix()))
        elif kind := kind_beside(path):
            found.media.append(Medium(path, path.relative_to(top).as_posix(), f"{path} {why_unread(kind, path)}"))
        else:
            found.others[path.suffix.lower() or "no ending"] += 1
    for error in unread:
        place = Path(str(error.filename))
        found.media.append(Medium(place, place.name, f"{place} cannot be read ({error.strerror})."))
    if len(found.media) == before:
        endings = ", ".join((*SUFFIXES, *VIDEO_SUFFIXES))
        reason = f"{top} holds no picture and no video: no file in it ends in {endings}."
        found.media.append(Medium(top, top.name, reason))


def _files(top: Path, found: Found, unread: list[OSError]) -> Iterator[Path]:
    for folder, names, files in os.walk(top, onerror=unread.append):
        names[:] = [name for name in names if not is_of_the_system(name)]
        # os.walk lists links to folders, but does not follow them.
        found.links += sum((Path(folder) / name).is_symlink() for name in names)
        for name in files:
            path = Path(folder) / name
            if path.is_symlink():
                found.links += 1
            else:
                yield path


class Overlays:
    """Writes an overlay for every answer, with names that follow from the paths alone.

    Args:
        folder: of the overlays; None writes nothing.

    Attributes:
        written: path of each answer's overlay; None if it has none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written: list[str | None] = []
        self._taken: set[str] = set()

    def write(self, medium: Medium, verdict: Verdict) -> None:
        """Write the next answer's overlay; refused files have none."""
        from pipelines.verdict.overlay import draw_overlay

        if self.folder is None or verdict.verdict == REFUSED:
            self.written.append(None)
            return
        picture = draw_overlay(verdict)
        place = self.folder / medium.name
        path = self._free(place.with_name(f"{place.name}.png"))
        write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
        self.written.append(str(path))

    def summary(self) -> str:
        """The number of overlays and their folder; empty without a folder."""
        number = sum(path is not None for path in self.written)
        return "" if self.folder is None else f"overlays: {number} in {self.folder}"

    def _free(self, path: Path) -> Path:
        """The path, with a number appended if another overlay has it, as for two folders with files of one name."""
        candidate, number = path.with_name(short_name(path.name)), 1
        # Some file systems take names for one that differ in case or in their form of Unicode.
        while (known := one_form(str(candidate)).casefold()) in self._taken:
            number += 1
            candidate = path.with_name(short_name(f"{path.stem}-{number}{path.suffix}"))
        self._taken.add(known)
        return candidate
