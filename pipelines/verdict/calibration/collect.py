"""From live pictures, videos and datasets to the live faces of a calibration, as the detector will see others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from oanet.published import CROP
from pipelines.data.crop import CropRecipe
from pipelines.data.formats import is_video
from pipelines.data.leaks import signature
from pipelines.data.records import load_faces, read_card
from pipelines.data.video import frame_indices, read_chosen
from pipelines.errors import AgfasError
from pipelines.progress import track
from pipelines.verdict.calibration.captures import Capture, Captures
from pipelines.verdict.calibration.choice import Choice
from pipelines.verdict.calibration.people import LiveFaces, Looks, check_apart
from pipelines.verdict.crops import Crop, Cropper, GivenPicture, as_given, look_at
from pipelines.verdict.scorer import Embedded, Scorer, pixel_key

if TYPE_CHECKING:
    from datasets import Dataset

    from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
    from pipelines.verdict.settings import Sees

_LOOK = 64
"""Side of the crops that near-duplicates are looked for among."""
_REASONS = 3
"""So many reasons are said, the most frequent ones."""


@dataclass(frozen=True)
class LeftOut:
    """What shows no usable face.

    Attributes:
        reasons: of each such picture or video.
        of: number of all.
        groups: persons (or sessions) of whom nothing is left.
    """

    reasons: Sequence[str]
    of: int
    groups: Sequence[str]

    def lines(self) -> list[str]:
        """For the user: how many, the most frequent reasons, and who is lost; empty if nothing is."""
        if not self.reasons:
            return []
        often = Counter(self.reasons).most_common(_REASONS)
        rest = len(self.reasons) - sum(number for _, number in often)
        return [
            f"left out: {len(self.reasons)} of {self.of} live pictures and videos",
            *(f"  {number}: {reason}" for reason, number in often),
            *([f"  {rest}: for other reasons"] if rest else []),
            *([f"  no usable picture of: {', '.join(self.groups)}"] if self.groups else []),
        ]


@dataclass(frozen=True)
class Collected:
    """What a calibration is fitted to.

    Attributes:
        faces: all that were seen.
        left_out: what shows no usable face.
    """

    faces: LiveFaces
    left_out: LeftOut


def collect(detector: FaceAntiSpoofing, captures: Captures, choice: Choice) -> Collected:
    """See every live face.

    Args:
        detector: what will be calibrated.
        captures: of `find_captures`.
        choice: how.

    Raises:
        AgfasError: no face in any picture, one picture of two persons, or the dataset that the detector was trained on.
    """
    scorer = detector.scorer
    if not isinstance(scorer, Scorer):
        raise AgfasError(
            f"{detector.settings.label} is an exported model, which gives no features. Calibrate the model that it was"
            " made of, and export that."
        )
    cut: Iterator[list[tuple[Crop, np.ndarray]] | str]
    if captures.of_dataset:
        _check_unseen(detector, captures.source)
        dataset, detector = load_faces(captures.source), detector.as_prepared()
        aligned = detector.settings.sees == CROP
        cropper, column = detector.cropper(aligned), "image" if aligned else "picture"
        cut = (_of_rows(capture, cropper, dataset, column) for capture in captures.each)
    else:
        cropper, frames = detector.cropper(choice.aligned), choice.frames_of_video
        cut = (_of_file(capture, cropper, frames) for capture in captures.each)
    return _see(scorer, captures, cut, detector.batch_size, choice)


def _check_unseen(detector: FaceAntiSpoofing, dataset: Path) -> None:
    """Faces that a detector learnt from have better scores than others, so a threshold of theirs rejects the others."""
    if read_card(dataset).get("fingerprint") == detector.about().dataset_fingerprint:
        raise AgfasError(
            f"{detector.settings.label} was trained on {dataset}: its scores of faces that it learnt from say nothing"
            " of others. Give live faces that it has not seen."
        )


def _of_file(capture: Capture, cropper: Cropper, frames: int) -> list[tuple[Crop, np.ndarray]] | str:
    """The largest face of a picture, or of each frame of a video, with its picture; or why there is none."""
    path = capture.path
    assert path is not None
    if not is_video(path):
        return _cut([as_given(path)[0]], cropper)
    try:
        _, pictures = read_chosen(path, lambda count: frame_indices(count, frames))
    except AgfasError as error:
        return str(error)
    return _cut([GivenPicture("", pictures[index]) for index in sorted(pictures)], cropper)


def _of_rows(capture: Capture, cropper: Cropper, dataset: Dataset, column: str) -> list[tuple[Crop, np.ndarray]] | str:
    """The same of a dataset's rows."""
    pictures = [row.get(column) for row in dataset.select(capture.rows)]
    if None in pictures:
        raise AgfasError(
            "The detector sees more than the crop, and this dataset lacks whole pictures. Make it again with `agfas"
            " prepare --keep-picture`."
        )
    return _cut(as_given(pictures), cropper)


def _cut(pictures: Sequence[GivenPicture], cropper: Cropper) -> list[tuple[Crop, np.ndarray]] | str:
    looks = [look_at(picture, cropper, all_faces=False) for picture in pictures]
    found = [(look.crops[0], look.photo) for look in looks if look.crops and look.photo is not None]
    refused = next((look.refused for look in looks if look.refused), "no face was found")
    return found or refused


def _see(
    scorer: Scorer,
    captures: Captures,
    cut: Iterator[list[tuple[Crop, np.ndarray]] | str],
    batch_size: int,
    choice: Choice,
) -> Collected:
    sees, each = choice.sees, captures.each
    reasons: list[str] = []
    faces = _one_by_one(track(cut, "see live faces", total=len(each), unit="file"), reasons)
    parts, numbers, looks, keys = [], [], [], set()
    while batch := list(islice(faces, batch_size)):
        parts.append(_embed(scorer, [crop for _, crop, _ in batch], sees))
        numbers += [number for number, _, _ in batch]
        looks += [look for _, _, look in batch]
        keys |= {pixel_key(crop.pixels) for _, crop, _ in batch}
    if not parts:
        why = f": {Counter(reasons).most_common(1)[0][0].rstrip('.')}" if reasons else ""
        raise AgfasError(f"None of the {len(each)} live pictures shows a face that can be judged{why}.")
    kept, capture = np.unique(numbers, return_inverse=True)
    names, group = np.unique([captures.groups[number] for number in kept], return_inverse=True)
    hashes, thumbnails = zip(*looks, strict=True)
    places = [each[number].name for number in numbers]
    check_apart(group[capture], names.tolist(), places, Looks(np.array(hashes, np.uint64), np.stack(thumbnails)))
    odds, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("odds", "scores"))
    features = np.concatenate([part.features[sees] for part in parts])
    lost = sorted(set(captures.groups) - set(names.tolist()))
    return Collected(
        LiveFaces(odds, scores, features, capture, group, names.tolist(), len(keys), choice.one_person),
        LeftOut(reasons, len(each), lost),
    )


def _one_by_one(
    cut: Iterable[list[tuple[Crop, np.ndarray]] | str], reasons: list[str]
) -> Iterator[tuple[int, Crop, tuple[int, np.ndarray]]]:
    """The number of its capture, the crop and the signature of every face; of captures without any the reason."""
    for number, found in enumerate(cut):
        if isinstance(found, str):
            reasons.append(found)
            continue
        for crop, photo in found:
            yield number, crop, signature(_look(crop, photo))


def _embed(scorer: Scorer, crops: Sequence[Crop], sees: Sees) -> Embedded:
    masks = [crop.mask for crop in crops if crop.mask is not None]
    return scorer.embed(np.stack([crop.pixels for crop in crops]), np.stack(masks) if masks else None, (sees,))


def _look(crop: Crop, photo: np.ndarray) -> Image.Image:
    """The aligned face, by which copies are known whatever is around it."""
    if crop.face is None:
        return Image.fromarray(photo)
    try:
        return Image.fromarray(CropRecipe(_LOOK).align(photo, crop.face).picture)
    except AgfasError:  # a network that cuts by the box needs no landmarks
        return Image.fromarray(photo)
