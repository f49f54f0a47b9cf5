"""What a face dataset is: a Hugging Face `Dataset` of face records.

A record is one aligned face crop with everything that splitting, training and judging need to know of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pipelines.errors import AgfasError
from pipelines.files import read_json

if TYPE_CHECKING:
    from datasets import Dataset, Features

ATTACK, BONAFIDE = 0, 1
LABEL_NAMES = ["attack", "bonafide"]
NO_ATTACK = "none"
SPLITS = ("train", "dev", "test")
COLUMNS = (
    "key",
    "image",
    "label",
    "attack_type",
    "domain",
    "subject",
    "video",
    "frame",
    "split",
    "landmarks",
)
GROUP_COLUMNS = ("age", "sex", "ethnicity")
"""What a dataset may record of its persons; `agfas prepare` keeps it, a face dataset need not have it."""
CARD_NAME = "face_dataset.json"


class RecordedPerson(TypedDict, total=False):
    """What some datasets record of the person; the columns may be missing.

    Attributes:
        age: in years, -1 where it is not recorded.
        sex, ethnicity: in the dataset's own words, empty where they are not recorded.
    """

    age: int
    sex: str
    ethnicity: str


class FaceRecord(RecordedPerson):
    """One aligned face.

    Attributes:
        key: `domain/subject/video/frame`, unique and stable; the cue's noise is drawn from a stream keyed by it.
        image: RGB crop (PIL image on reading; anything the `Image` feature takes on writing).
        label: 0 attack, 1 bona fide.
        attack_type: `none` for bona fide, else the presentation attack instrument (`print`, `replay`, `mask`).
        domain: the dataset or camera; protocols leave whole domains out.
        subject: person, unique within the domain.
        video: capture, unique within the domain; scores of its frames are averaged.
        frame: position within the video, from 0.
        split: `train`, `dev` or `test`; no subject is in two.
        landmarks: (5, 2) x, y in pixels of the crop: left eye, right eye, nose, left and right mouth corner.
    """

    key: str
    image: Any
    label: int
    attack_type: str
    domain: str
    subject: str
    video: str
    frame: int
    split: str
    landmarks: list[list[float]]


def face_features() -> Features:
    """The typed columns of a face dataset."""
    from datasets import Array2D, ClassLabel, Features, Image, Value

    return Features(
        {
            "key": Value("string"),
            "image": Image(),
            "label": ClassLabel(names=LABEL_NAMES),
            "attack_type": Value("string"),
            "domain": Value("string"),
            "subject": Value("string"),
            "video": Value("string"),
            "frame": Value("int32"),
            "split": Value("string"),
            "landmarks": Array2D((5, 2), "float32"),
        }
    )


def face_key(domain: str, subject: str, video: str, frame: int) -> str:
    """The record's key: `domain/subject/video/frame`."""
    return f"{domain}/{subject}/{video}/{frame:03d}"


def load_faces(folder: Path) -> Dataset:
    """Open a face dataset from disk, memory-mapped.

    Raises:
        AgfasError: the folder is missing, is no dataset, has other columns, or holds no face.
    """
    from datasets import load_from_disk

    if not folder.is_dir():
        raise AgfasError(
            f"No face dataset at {folder}: the folder does not exist. Make one of your pictures with"
            " `agfas prepare SOURCE --out OUT`, or of drawn faces with `agfas synth OUT`."
        )
    try:
        faces = load_from_disk(str(folder))
    except Exception as error:
        raise AgfasError(f"{folder} is not a face dataset that can be read ({error}). Make it again.") from error
    missing = [name for name in COLUMNS if name not in faces.column_names]
    if missing:
        raise AgfasError(f"{folder} lacks the columns {', '.join(missing)} of a face dataset. Make it again.")
    if len(faces) == 0:
        raise AgfasError(f"{folder} holds no face. Check what it was made from.")
    return faces


def read_card(folder: Path) -> dict[str, Any]:
    """What a face dataset says of itself: `fingerprint`, settings, counts."""
    path = folder / CARD_NAME
    if not path.is_file():
        raise AgfasError(f"{folder} has no {CARD_NAME}, so it was not finished. Make it again.")
    return dict(read_json(path))
