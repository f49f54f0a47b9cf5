"""From live pictures, videos and datasets to the live faces of a calibration, as the detector will see others.

    SOURCE/PERSON/FILE...     every folder is one person; deeper folders are theirs
    LIST.csv                  as the importer `csv` reads it; its attacks are passed over
    a face dataset            of `agfas prepare`; its attacks are passed over

With one person alone, the folders and videos of SOURCE (or the videos of a list or dataset) are that person's sessions.
"""

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
from pipelines.data.importers.csv_file import find as find_listed
from pipelines.data.importers.source import media_in, place_below
from pipelines.data.importers.words import meaning
from pipelines.data.leaks import signature
from pipelines.data.records import BONAFIDE, CARD_NAME, NO_ATTACK, load_faces, read_card
from pipelines.data.video import frame_indices, read_chosen
from pipelines.errors import AgfasError
from pipelines.progress import track
from pipelines.spelling import one_form
from pipelines.verdict.calibration.people import LiveFaces, Looks, check_apart
from pipelines.verdict.crops import Crop, Cropper, GivenPicture, as_given, look_at
from pipelines.verdict.scorer import Embedded, Scorer, pixel_key

if TYPE_CHECKING:
    from datasets import Dataset

    from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
    from pipelines.verdict.settings import Sees

_LOOK = 64
"""Side of the crops that near-duplicates are looked for among."""


@dataclass(frozen=True)
class Capture:
    """One picture or video of a live person, or the frames that a dataset keeps of it.

    Attributes:
        name: for messages.
        person: empty if it is not known.
        session: of the person, if all captures are of one; empty if it is not known.
        path: of the file; None for rows of a dataset.
        rows: of the dataset.
    """

    name: str
    person: str
    session: str
    path: Path | None = None
    rows: Sequence[int] = ()


@dataclass(frozen=True)
class Collected:
    """What a calibration is fitted to.

    Attributes:
        faces: all that were seen.
        left_out: pictures and videos without a usable face, by the reason.
    """

    faces: LiveFaces
    left_out: Counter[str]


def collect(
    detector: FaceAntiSpoofing,
    source: Path,
    *,
    aligned: bool = False,
    one_person: bool = False,
    frames: int = 10,
    sees: Sees = "both",
) -> Collected:
    """See every live face of a source.

    Args:
        detector: what will be calibrated.
        source: see the module.
        aligned: the pictures are aligned, square crops.
        one_person: all are of one person, and each folder or video is a session.
        frames: of a video, evenly spaced in time.
        sees: what the features are of.

    Raises:
        AgfasError: no such source, no persons or sessions in it, no face in any picture, one picture of two persons,
            or the dataset that the detector was trained on.
    """
    scorer = detector.scorer
    if not isinstance(scorer, Scorer):
        raise AgfasError(
            f"{detector.settings.label} is an exported model, which gives no features. Calibrate the model that it was"
            " made of, and export that."
        )
    cut: Iterator[list[tuple[Crop, np.ndarray]] | str]
    if (source / CARD_NAME).is_file():
        _check_unseen(detector, source)
        dataset, detector = load_faces(source), detector.as_prepared()
        captures, aligned = _captures_of(dataset), detector.settings.sees == CROP
        cropper, column = detector.cropper(aligned), "image" if aligned else "picture"
        cut = (_of_rows(capture, cropper, dataset, column) for capture in captures)
    else:
        captures, cropper = _captures_in(source), detector.cropper(aligned)
        cut = (_of_file(capture, cropper, frames) for capture in captures)
    groups = _groups(captures, source, one_person)
    return _see(scorer, captures, groups, cut, detector.batch_size, sees, one_person)


def _check_unseen(detector: FaceAntiSpoofing, dataset: Path) -> None:
    """Faces that a detector learnt from have better scores than others, so a threshold of theirs rejects the others."""
    if read_card(dataset).get("fingerprint") == detector.about().dataset_fingerprint:
        raise AgfasError(
            f"{detector.settings.label} was trained on {dataset}: its scores of faces that it learnt from say nothing"
            " of others. Give live faces that it has not seen."
        )


def _captures_in(source: Path) -> list[Capture]:
    """The live pictures and videos of a folder or of a list."""
    if source.is_file():
        if source.suffix.lower() != ".csv":
            raise AgfasError(f"{source} is a file. Give a folder with a folder for each person, or a list (.csv).")
        return [
            Capture(str(face.path), face.subject if face.subject_known else "", face.video, face.path)
            for face in find_listed(source, "live")
            if face.attack_type == NO_ATTACK
        ]
    captures = []
    for path in media_in(source, expected="a folder for each person, with pictures or videos of them"):
        top, _, below = one_form(place_below(source, path)).partition("/")
        person = top if below else ""
        captures.append(Capture(str(path), person, person or (top if is_video(path) else ""), path))
    _check_classes(source, {capture.person for capture in captures})
    return captures


def _check_classes(source: Path, folders: set[str]) -> None:
    classes = {name: meaning(name) for name in sorted(folders) if meaning(name) is not None}
    live = [name for name, kind in classes.items() if kind == NO_ATTACK]
    if classes:
        raise AgfasError(
            f"{source} has folders of classes ({', '.join(classes)}), and here every folder is one live person. Give"
            f" {source / live[0] if live else 'a folder of live pictures alone'}."
        )


def _captures_of(dataset: Dataset) -> list[Capture]:
    """The live videos of a face dataset."""
    rows: dict[tuple[str, str, str], list[int]] = {}
    columns = (dataset["domain"][:], dataset["subject"][:], dataset["video"][:], dataset["label"][:])
    for row, (domain, subject, video, label) in enumerate(zip(*columns, strict=True)):
        if label == BONAFIDE:
            rows.setdefault((domain, subject, video), []).append(row)
    known = dataset["subject_known"][:] if "subject_known" in dataset.column_names else [True] * len(dataset)
    return [
        Capture("/".join(key), f"{key[0]}/{key[1]}" if known[found[0]] else "", f"{key[0]}/{key[2]}", rows=found)
        for key, found in rows.items()
    ]


def _groups(captures: Sequence[Capture], source: Path, one_person: bool) -> list[str]:
    """The person of each capture, or its session."""
    groups = [capture.session if one_person else capture.person for capture in captures]
    if not one_person and "" in groups:
        raise AgfasError(
            f"{captures[groups.index('')].name} is of no known person: put every person's pictures and videos into a"
            f" folder of their own below {source}. If all are of one person, say so with --one-person."
        )
    persons = sorted({capture.person for capture in captures if capture.person not in ("", capture.session)})
    if one_person and len(persons) > 1:
        raise AgfasError(f"{source} names {len(persons)} persons ({', '.join(persons[:3])}): leave --one-person out.")
    if "" in groups:
        raise AgfasError(
            f"{captures[groups.index('')].name} is of no known session: put the pictures of every session (another day,"
            f" another light) into a folder of their own below {source}."
        )
    return groups


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
    captures: Sequence[Capture],
    groups: Sequence[str],
    cut: Iterator[list[tuple[Crop, np.ndarray]] | str],
    batch_size: int,
    sees: Sees,
    one_person: bool,
) -> Collected:
    left_out: Counter[str] = Counter()
    faces = _one_by_one(track(cut, "see live faces", total=len(captures), unit="file"), left_out)
    parts, numbers, looks, keys = [], [], [], set()
    while batch := list(islice(faces, batch_size)):
        parts.append(_embed(scorer, [crop for _, crop, _ in batch], sees))
        numbers += [number for number, _, _ in batch]
        looks += [look for _, _, look in batch]
        keys |= {pixel_key(crop.pixels) for _, crop, _ in batch}
    if not parts:
        why = f": {left_out.most_common(1)[0][0].rstrip('.')}" if left_out else ""
        raise AgfasError(f"None of the {len(captures)} live pictures shows a face that can be judged{why}.")
    kept, capture = np.unique(numbers, return_inverse=True)
    names, group = np.unique([groups[number] for number in kept], return_inverse=True)
    hashes, thumbnails = zip(*looks, strict=True)
    places = [captures[number].name for number in numbers]
    check_apart(group[capture], names.tolist(), places, Looks(np.array(hashes, np.uint64), np.stack(thumbnails)))
    odds, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("odds", "scores"))
    features = np.concatenate([part.features[sees] for part in parts])
    return Collected(LiveFaces(odds, scores, features, capture, group, names.tolist(), len(keys), one_person), left_out)


def _one_by_one(
    cut: Iterable[list[tuple[Crop, np.ndarray]] | str], left_out: Counter[str]
) -> Iterator[tuple[int, Crop, tuple[int, np.ndarray]]]:
    """The number of its capture, the crop and the signature of every face; captures without any are counted."""
    for number, found in enumerate(cut):
        if isinstance(found, str):
            left_out[found] += 1
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
