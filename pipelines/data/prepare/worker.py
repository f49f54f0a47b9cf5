"""One source to its records or refusals; never an exception for what a file holds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.data.importers.source import SourceFace
from pipelines.data.leaks import signature
from pipelines.data.prepare.faces import Cutter, follow
from pipelines.data.prepare.media import check_file, read_still, source_name
from pipelines.data.prepare.names import printable
from pipelines.data.prepare.outcome import BeyondLimit, Crop, Refusal
from pipelines.data.records import face_key
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from pipelines.data.detection.base import DetectedFace
    from pipelines.data.video import Video

    # Number of the frame, the frame, its faces.
    _Seen = tuple[int, np.ndarray, list[DetectedFace]]

Record = dict[str, Any]
NOTHING_DETECTED = "none"
# Frames of a missed face's neighbourhood decoded at once, so that a long video does not fill memory.
_NEIGHBOURS_AT_ONCE = 8


@dataclass
class Worker:
    """Turns sources into records.

    Attributes:
        cutter: finds and cuts the faces.
        source: the folder that was named, which paths are relative to.
        scratch: folder for a row's bytes.
    """

    cutter: Cutter
    source: Path
    scratch: Path

    def process(self, face: SourceFace) -> Iterator[Record | Refusal]:
        """The records of a picture or of a video's frames, and a refusal for each face that there is none of."""
        name = source_name(face, self.source)
        try:
            yield from self._video(face, name) if face.is_video else self._still(face, name)
        except AgfasError as error:
            yield self._refused(face, name, str(error), "reading")
        except Exception as error:  # decoders and OpenCV raise anything on a stranger's bytes
            yield self._refused(face, name, _unforeseen(error), "processing")

    def _refused(self, face: SourceFace, name: str, reason: str, tried: str) -> Refusal:
        lost = expected_faces(face, self.cutter.recipe.frames, self.cutter.recipe.frame_rule)
        return Refusal(name, -1, _relative(reason, face, name), tried, lost)

    def _still(self, face: SourceFace, name: str) -> Iterator[Record | Refusal]:
        picture = read_still(face, self.source, self.scratch)
        if self.cutter.detector is None:
            yield from self._one(face, name, face.frame, -1, 0, partial(self.cutter.take, picture))
            return
        found = self.cutter.find(picture)
        if not found:
            yield Refusal(name, -1, self._nothing(), "the picture")
        for person, one in enumerate(found):
            yield from self._one(face, name, face.frame, -1, person, partial(self.cutter.cut, picture, one))

    def _video(self, face: SourceFace, name: str) -> Iterator[Record | Refusal]:
        from pipelines.data.video import frame_indices, open_video

        check_file(face.path, self.source)
        recipe = self.cutter.recipe
        video = open_video(face.path)
        indices = frame_indices(video.count, recipe.frames, recipe.frame_rule)
        frames = video.read(indices)
        if self.cutter.detector is None:
            for position, index in enumerate(indices):
                yield from self._one(face, name, position, index, 0, partial(self.cutter.take, frames[index]))
            return
        seen, missed = self._look(video, indices, frames, name)
        yield from missed
        for position, person, one in follow([(p, faces) for p, (_, _, faces) in seen.items()]):
            index, picture, _ = seen[position]
            yield from self._one(face, name, position, index, person, partial(self.cutter.cut, picture, one))

    def _look(
        self, video: Video, indices: Sequence[int], frames: dict[int, np.ndarray], name: str
    ) -> tuple[dict[int, _Seen], list[Refusal]]:
        """The faces of every sampled frame, or of its nearest neighbour that shows one."""
        seen: dict[int, _Seen] = {}
        missed = []
        for position, index in enumerate(indices):
            picture = frames.pop(index)
            if faces := self.cutter.find(picture):
                seen[position] = index, picture, faces
                continue
            looked = [index]
            instead = self._neighbour(video, neighbours_of(position, indices, video.count), looked)
            if instead is None:
                missed.append(Refusal(name, index, self._nothing(), f"frames {', '.join(map(str, looked))}"))
            else:
                seen[position] = instead
        return seen, missed

    def _neighbour(self, video: Video, candidates: list[int], looked: list[int]) -> _Seen | None:
        """The nearest frame with a face; what was looked at on the way is added to `looked`."""
        for start in range(0, len(candidates), _NEIGHBOURS_AT_ONCE):
            piece = candidates[start : start + _NEIGHBOURS_AT_ONCE]
            try:
                frames = video.read(piece)
            except AgfasError:  # damaged between the sampled frames: those still count
                continue
            for index in piece:
                looked.append(index)
                if faces := self.cutter.find(frames[index]):
                    return index, frames[index], faces
        return None

    def _nothing(self) -> str:
        least = self.cutter.recipe.min_score
        return f"No face was found{f' with a score of at least {least:g}' if least else ''}."

    def _one(
        self, face: SourceFace, name: str, frame: int, source_frame: int, person: int, make: Callable[[], Crop]
    ) -> Iterator[Record | Refusal]:
        try:
            crop = make()
        except AgfasError as error:
            filtered = isinstance(error, BeyondLimit)
            yield Refusal(name, source_frame, _relative(str(error), face, name), _what(person), filtered=filtered)
        except Exception as error:
            yield Refusal(name, source_frame, _relative(_unforeseen(error), face, name), _what(person))
        else:
            detector = self.cutter.detector.name if self.cutter.detector else NOTHING_DETECTED
            yield record(face, name, frame, source_frame, person, crop, detector)


def expected_faces(face: SourceFace, frames: int, rule: str) -> int:
    """How many faces are asked for: one of a picture, the sampled frames of a video of unknown length."""
    if not face.is_video:
        return 1
    return {"released_train": 1, "released_test": 2}.get(rule, frames)


def neighbours_of(position: int, indices: Sequence[int], count: int) -> list[int]:
    """Where a face is looked for that a sampled frame misses: nearest first, the later of two equally near ones last.

    Up to half the distance to the next sampled frame on either side; the frame in the middle belongs to the earlier
    one, so that no frame stands in for two. The first and the last look as far outwards as inwards, and the only frame
    of a video half of the video to each side.

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
    steps = range(1, max(forward, backward) + 1)
    places = [place for step in steps for place in _beside(index, step, backward, forward)]
    return [place for place in places if 0 <= place < count]


def _beside(index: int, step: int, backward: int, forward: int) -> list[int]:
    before = [index - step] if step <= backward else []
    return before + ([index + step] if step <= forward else [])


def record(
    face: SourceFace, name: str, frame: int, source_frame: int, person: int, crop: Crop, detector: str
) -> Record:
    """A row of the dataset, with the signature that near-duplicates are found by; further faces of a picture are a
    video of their own, `VIDEO-face1` and on, since they are other persons whose scores must not be averaged."""
    video = f"{face.video}-face{person}" if person else face.video
    code, thumbnail = signature(Image.fromarray(crop.picture))
    return {
        "key": face_key(face.domain, face.subject, video, frame),
        "image": png(crop.picture),
        "label": face.label,
        "attack_type": face.attack_type,
        "domain": face.domain,
        "subject": face.subject,
        "video": video,
        "frame": frame,
        "split": face.split,
        "landmarks": crop.landmarks.tolist(),
        "source": name,
        "source_frame": source_frame,
        "box": crop.box.tolist(),
        "source_landmarks": crop.source_landmarks.tolist(),
        "detector": detector,
        "detector_score": crop.score,
        "pose": list(crop.pose),
        "quality": crop.quality,
        "mask": None if crop.mask is None else png(crop.mask * np.uint8(255)),
        "age": face.age,
        "sex": face.sex,
        "ethnicity": face.ethnicity,
        "subject_known": face.subject_known,
        "hash": code,
        "thumbnail": thumbnail.tobytes(),
    }


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _unforeseen(error: Exception) -> str:
    return f"It could not be processed ({type(error).__name__}: {' '.join(str(error).split())[:200]})."


def _what(person: int) -> str:
    return f"face {person}" if person else "the largest face"


def _relative(reason: str, face: SourceFace, name: str) -> str:
    """A reason that names the file as the dataset does, not by where it lies on this machine."""
    return printable(reason.replace(str(face.path), name)) if face.row < 0 else printable(reason)
