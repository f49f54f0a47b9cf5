"""`agfas detect`: pictures, videos and folders of them to a table, JSON, CSV and overlays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.progress import bar
from pipelines.verdict.answers import REFUSED, Verdict
from pipelines.verdict.media import Medium, find_media
from pipelines.verdict.printing import as_csv, as_json, as_table, count_refused

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

_Answer: TypeAlias = tuple[Medium, Verdict]


def open_detector(
    run: Path | None,
    model: Path | None,
    label: str | None = None,
    fold: str | None = None,
    face_detector: str | None = None,
    weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> FaceAntiSpoofing:
    """The detector of a run or of a saved folder.

    Raises:
        AgfasError: not exactly one of the two, or a choice that a saved folder does not have.
    """
    from pipelines.verdict import FaceAntiSpoofing

    if (run is None) == (model is None):
        raise AgfasError("Give either --run, an output folder, or --model, a folder of `agfas save-model`.")
    if run is not None:
        return FaceAntiSpoofing.from_run(
            run, label, fold, face_detector=face_detector, weights=weights, face_parser=parsing_weights
        )
    if label is not None or fold is not None:
        raise AgfasError("--label and --fold choose among the detectors of a run; a saved folder holds one alone.")
    assert model is not None
    return FaceAntiSpoofing.from_pretrained(
        model, face_detector=face_detector, weights=weights, face_parser=parsing_weights
    )


def run(
    paths: Sequence[Path],
    detector: FaceAntiSpoofing,
    *,
    aligned: bool = False,
    all_faces: bool = False,
    frames: int = 10,
    json: bool = False,
    csv: Path | None = None,
    save: Path | None = None,
) -> tuple[str, int]:
    """Judge every path.

    Args:
        paths: pictures, videos and folders.
        detector: of `open_detector`.
        aligned: take pictures for aligned crops.
        all_faces: judge every face.
        frames: of a video.
        json: answer in JSON instead of a table.
        csv: a file to write too.
        save: folder of the overlays.

    Returns:
        What to print, and how many paths were refused.

    Raises:
        AgfasError: a wrong option, or a file that cannot be written.
    """
    if frames < 1:
        raise AgfasError(f"--frames must be at least 1, not {frames}.")
    found = find_media(paths)
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
    passed_over = found.passed_over()
    if json:
        return as_json(verdicts, detector.settings, passed_over, overlays.written), count_refused(verdicts)
    extra = [text for text in (passed_over, overlays.in_words()) if text]
    return as_table(verdicts, detector.settings, extra), count_refused(verdicts)


class Overlays:
    """Writes an overlay for every answer, under names that follow from the paths alone.

    Args:
        folder: where to; None writes nothing.

    Attributes:
        written: overlay of every answer in turn; None where it has none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written: list[str | None] = []
        self._taken: set[Path] = set()

    def write(self, medium: Medium, verdict: Verdict) -> None:
        """Write the next one; none for what was refused."""
        from pipelines.verdict.overlay import draw_overlay

        if self.folder is None or verdict.verdict == REFUSED:
            self.written.append(None)
            return
        picture = draw_overlay(verdict)
        path = self._free(self.folder / f"{medium.name}.png")
        write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
        self.written.append(str(path))

    def in_words(self) -> str:
        """How many lie where; empty where none was wanted."""
        number = sum(path is not None for path in self.written)
        return "" if self.folder is None else f"overlays: {number} in {self.folder}"

    def _free(self, path: Path) -> Path:
        """The path, or one with a number where two folders hold files of one name."""
        candidate, number = path, 1
        while candidate in self._taken:
            number += 1
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        self._taken.add(candidate)
        return candidate


def _judged(media: Sequence[Medium], detector: FaceAntiSpoofing, frames: int, **options: bool) -> Iterator[_Answer]:
    """Every file with its verdict, in order; pictures that follow each other are judged in batches."""
    for kind, group in groupby(media, key=_kind):
        if kind == "picture":
            yield from _judged_pictures(list(group), detector, **options)
        elif kind == "video":
            yield from ((medium, detector.judge_video(medium.path, frames, **options)) for medium in group)
        else:
            yield from ((medium, detector.refusal(str(medium.path), medium.refused)) for medium in group)


def _judged_pictures(media: list[Medium], detector: FaceAntiSpoofing, **options: bool) -> Iterator[_Answer]:
    for start in range(0, len(media), detector.batch_size):
        part = media[start : start + detector.batch_size]
        yield from zip(part, detector([medium.path for medium in part], **options), strict=True)


def _kind(medium: Medium) -> str:
    if medium.refused:
        return "refused"
    return "video" if medium.is_video else "picture"
