"""The work of a process: sources to records or refusals, whatever a file contains."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipelines.data.detection import DetectedFace, in_short
from pipelines.data.frames import expected_frames, sampled_frames
from pipelines.data.images import png_bytes
from pipelines.data.importers.source import SourceFace
from pipelines.data.leaks import signature
from pipelines.data.prepare.cutter import BeyondLimit, Cutter, DetectorFactory, FaceCrop, follow
from pipelines.data.prepare.dataset import Record, TaskFiles, write_records
from pipelines.data.prepare.names import printable, source_name
from pipelines.data.prepare.pool import Report, Task
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Noted, Refusal, check_source, read_still
from pipelines.data.records import FRAME_RULE, face_key
from pipelines.data.video import VideoFile, read_chosen
from pipelines.errors import AgfasError
from pipelines.files import is_of_the_disk, write_atomically

# Number of the frame, the frame, its faces.
_Seen = tuple[int, np.ndarray, list[DetectedFace]]
NOTHING_DETECTED = "none"
_FROM_SOURCE = ("label", "attack_type", "domain", "subject", "split", "age", "sex", "ethnicity", "subject_known")
# Neighbouring frames decoded at once while searching a missed face: bounds the memory of a long video.
_NEIGHBOURS_AT_ONCE = 8


def begin_worker(
    recipe: PrepareRecipe, make_detector: DetectorFactory, source: Path, folder: Path
) -> Callable[[Task, Report], None]:
    """Load the models of a process and return the function that does a task.

    Raises:
        AgfasError: weights that are missing or cannot be read.
    """
    import cv2

    from pipelines.progress import hide_bars

    hide_bars()
    # The pool runs one process per core.
    cv2.setNumThreads(1)
    files = TaskFiles(folder)
    worker = Worker(Cutter.load(recipe, make_detector), source, files.scratch)
    if torch := sys.modules.get("torch"):  # of a face detector or the parser
        torch.set_num_threads(1)
    return partial(_do, worker, files)


def _do(worker: Worker, files: TaskFiles, task: Task, report: Report) -> None:
    refused: list[Refusal] = []
    noted: list[Noted] = []
    records = _records(worker, task, report, refused, noted)
    write_atomically(files.records(task.number), lambda temporary: write_records(temporary, records))
    files.finish(task.number, {"refused": refused, "noted": noted})


def _records(
    worker: Worker, task: Task, report: Report, refused: list[Refusal], noted: list[Noted]
) -> Iterator[Record]:
    for place, face in enumerate(task.items):
        report(place)
        if place in task.fatal:
            refused.append(worker.refused(face, task.fatal[place], "processing"))
            continue
        for outcome in worker.process(face):
            if isinstance(outcome, Refusal):
                refused.append(outcome)
            elif isinstance(outcome, Noted):
                noted.append(outcome)
            else:
                yield outcome


class Place(NamedTuple):
    """Where in its source a face is.

    Attributes:
        frame: number of the record in the video.
        source_frame: index of the frame; -1 for a picture.
        person: from 0.
        rules: why the frame was kept, see `FRAME_RULE`.
    """

    frame: int
    source_frame: int
    person: int
    rules: str = ""


@dataclass
class Worker:
    """Turns sources into records.

    Attributes:
        cutter: finds and cuts the faces.
        source: the folder that paths are relative to.
        scratch: folder for the bytes of a dataset's row.
    """

    cutter: Cutter
    source: Path
    scratch: Path

    def process(self, face: SourceFace) -> Iterator[Record | Refusal | Noted]:
        """The records of a picture or of a video's frames, a refusal for each missing face, and what is to be noted."""
        try:
            yield from self._video(face) if face.is_video else self._still(face)
        except Exception as error:  # decoders and OpenCV raise anything on foreign bytes
            if is_of_the_disk(error):  # refused, the file would stay left out when the disk is well again
                raise AgfasError(
                    f"{face.path} cannot be read now: the disk, or the connection to it, fails."
                ) from error
            known = isinstance(error, AgfasError)
            yield self.refused(face, *((str(error), "reading") if known else (_unforeseen(error), "processing")))

    def refused(self, face: SourceFace, reason: str, tried: str) -> Refusal:
        """The refusal of a whole source."""
        lost = expected_faces(face, self.cutter.recipe)
        return Refusal(self._name(face), -1, self._relative(reason, face), tried, lost)

    def _name(self, face: SourceFace) -> str:
        return source_name(face, self.source)

    def _relative(self, reason: str, face: SourceFace) -> str:
        """A reason that names the file as the dataset does, not by its path on this machine."""
        return printable(reason.replace(str(face.path), self._name(face))) if face.row < 0 else printable(reason)

    def _noted(self, face: SourceFace, note: str) -> Iterator[Noted]:
        if note:
            yield Noted(self._name(face), note)

    def _still(self, face: SourceFace) -> Iterator[Record | Refusal | Noted]:
        still = read_still(face, self.source, self.scratch, self.cutter.recipe.keep_picture)
        yield from self._noted(face, still.note)
        found: Sequence[DetectedFace | None] = (
            [None] if self.cutter.detector is None else self.cutter.find(still.pixels)
        )
        if not found:
            yield Refusal(self._name(face), -1, self._nothing(), "the picture")
            return
        kept = self._kept(still.pixels, still.file)
        for person, one in enumerate(found):
            yield self._one(face, Place(face.frame, -1, person), still.pixels, one, kept)

    def _video(self, face: SourceFace) -> Iterator[Record | Refusal | Noted]:
        check_source(face.path, self.source)
        recipe = self.cutter.recipe
        video, frames = read_chosen(
            face.path,
            lambda count: [one.source_frame for one in sampled_frames(count, recipe.frames, recipe.frame_rule)],
        )
        yield from self._noted(face, video.note)
        samples = sampled_frames(video.count, recipe.frames, recipe.frame_rule)
        indices = [sample.source_frame for sample in samples]
        if self.cutter.detector is None:
            for index, number, rules in samples:
                picture = frames[index]
                yield self._one(face, Place(number, index, 0, rules), picture, None, self._kept(picture))
            return
        seen, missed = self._look(face, video, indices, frames)
        yield from missed
        persons = follow([(p, faces) for p, (_, _, faces) in seen.items()])
        for position, found in groupby(persons, itemgetter(0)):
            index, picture, _ = seen[position]
            _, number, rules = samples[position]
            kept = self._kept(picture)
            for _, person, one in found:
                yield self._one(face, Place(number, index, person, rules), picture, one, kept)

    def _look(
        self, face: SourceFace, video: VideoFile, indices: Sequence[int], frames: dict[int, np.ndarray]
    ) -> tuple[dict[int, _Seen], list[Refusal]]:
        """The faces of every sampled frame, or of its nearest neighbour with a face."""
        seen: dict[int, _Seen] = {}
        missed = []
        for position, index in enumerate(indices):
            picture = frames.pop(index)
            if faces := self.cutter.find(picture):
                seen[position] = index, picture, faces
                continue
            searched = [index]
            instead = self._neighbour(video, neighbours_of(position, indices, video.count), searched)
            if instead is not None:
                seen[position] = instead
            else:
                tried = f"frames {', '.join(map(str, searched))}"
                missed.append(Refusal(self._name(face), index, self._nothing(), tried))
        return seen, missed

    def _neighbour(self, video: VideoFile, candidates: list[int], searched: list[int]) -> _Seen | None:
        """The nearest frame with a face; the frames that were searched are added to `searched`."""
        for start in range(0, len(candidates), _NEIGHBOURS_AT_ONCE):
            piece = candidates[start : start + _NEIGHBOURS_AT_ONCE]
            try:
                frames = video.read(piece)
            except AgfasError:  # damaged between the sampled frames, which are kept
                continue
            for index in piece:
                searched.append(index)
                if faces := self.cutter.find(frames[index]):
                    return index, frames[index], faces
        return None

    def _kept(self, picture: np.ndarray, file: bytes | None = None) -> bytes | None:
        """What a record keeps of the whole picture: its own file, else a PNG of the pixels; None if not asked for."""
        return (file or png_bytes(picture)) if self.cutter.recipe.keep_picture else None

    def _nothing(self) -> str:
        least = self.cutter.recipe.min_score
        return f"No face was found{f' with a score of at least {least:g}' if least else ''}."

    def _one(
        self, face: SourceFace, place: Place, picture: np.ndarray, one: DetectedFace | None, kept: bytes | None
    ) -> Record | Refusal:
        try:
            crop = self.cutter.take(picture) if one is None else self.cutter.cut(picture, one)
        except Exception as error:
            known, filtered = isinstance(error, AgfasError), isinstance(error, BeyondLimit)
            reason = self._relative(str(error) if known else _unforeseen(error), face)
            tried = f"face {place.person}" if place.person else "the largest face"
            return Refusal(self._name(face), place.source_frame, reason, tried, filtered=filtered)
        detector = self.cutter.detector.name if self.cutter.detector else NOTHING_DETECTED
        return record(face, self._name(face), place, crop, detector, kept)


def expected_faces(face: SourceFace, recipe: PrepareRecipe) -> int:
    """Faces that a source should give: one for a picture, the sampled frames for a video of unknown length."""
    if not face.is_video:
        return 1
    return expected_frames(recipe.frames, recipe.frame_rule)


def neighbours_of(position: int, indices: Sequence[int], count: int) -> list[int]:
    """Frames to search for a face that a sampled frame misses, nearest first; of two equally near ones the earlier.

    The search reaches half of the distance to the next sampled frame on either side. The frame in the middle belongs
    to the earlier one, so that no frame replaces two. At the ends it reaches outwards as far as inwards; for a single
    sampled frame, half of the video.

    Args:
        position: of the sampled frame in `indices`.
        indices: sampled frames, rising.
        count: frames of the video.
    """
    index = indices[position]
    ahead = indices[position + 1] - index if position + 1 < len(indices) else None
    behind = index - indices[position - 1] if position > 0 else None
    forward = (ahead or behind or count) // 2
    backward = ((behind or (ahead or count) + 1) - 1) // 2
    places = range(max(0, index - backward), min(count, index + forward + 1))
    return sorted((place for place in places if place != index), key=lambda place: (abs(place - index), place))


def record(
    face: SourceFace, name: str, place: Place, crop: FaceCrop, detector: str, picture: bytes | None = None
) -> Record:
    """A row of the dataset, with the signature for finding near-duplicates.

    Further faces of a picture are other persons, whose scores must not be averaged with the first one's, so each gets
    its own video: `VIDEO-face1`, `VIDEO-face2`, ...
    """
    video = f"{face.video}-face{place.person}" if place.person else face.video
    code, thumbnail = signature(Image.fromarray(crop.picture))
    return {
        **{name: getattr(face, name) for name in _FROM_SOURCE},
        "key": face_key(face.domain, face.subject, video, place.frame),
        "image": png_bytes(crop.picture),
        "video": video,
        "frame": place.frame,
        "landmarks": crop.landmarks.tolist(),
        "source": name,
        "source_frame": place.source_frame,
        FRAME_RULE: place.rules,
        "picture": picture,
        "box": None if crop.face is None else crop.face.box.tolist(),
        "points": None if crop.face is None else crop.face.landmarks.tolist(),
        "detector": detector,
        "detector_score": float("nan") if crop.face is None else crop.face.score,
        "pose": list(crop.pose),
        "quality": crop.quality,
        "mask": None if crop.mask is None else png_bytes(crop.mask * np.uint8(255)),
        "hash": code,
        "thumbnail": thumbnail.tobytes(),
    }


def _unforeseen(error: Exception) -> str:
    return f"It could not be processed ({type(error).__name__}: {in_short(error)})."
