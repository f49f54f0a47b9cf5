"""What an importer finds, before any picture is opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import AgfasError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp", ".wmv")


@dataclass(frozen=True)
class SourceFace:
    """One picture that shows a face, or one video that shows it in every frame.

    Attributes:
        path: the file; for a row of a Hugging Face dataset, the dataset's folder or hub id.
        label: 0 attack, 1 bona fide.
        attack_type: `none` for bona fide.
        domain, subject, video: as in `FaceRecord`.
        frame: position of a picture within its video; 0 for a video file, whose frames are numbered when sampled.
        split: `train`, `dev` or `test`; empty until `with_splits` has dealt the subjects out.
        subject_known: whether `subject` is a person; False where it only stands for a video or a run of files, so that
            splits are disjoint in videos and not provably in persons.
        age: in years, -1 where it is not recorded.
        sex, ethnicity: as the dataset records them, empty where it does not.
        row, column: place of the picture in a Hugging Face dataset; -1 and empty for a file.
    """

    path: Path
    label: int
    attack_type: str
    domain: str
    subject: str
    video: str
    frame: int
    split: str = ""
    subject_known: bool = True
    age: int = -1
    sex: str = ""
    ethnicity: str = ""
    row: int = -1
    column: str = ""

    @property
    def is_video(self) -> bool:
        """Whether the file is a video, by its name."""
        return self.row < 0 and self.path.suffix.lower() in VIDEO_SUFFIXES


def pictures_in(folder: Path) -> list[Path]:
    """All picture files below a folder, by name; links are not followed.

    Raises:
        AgfasError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise AgfasError(f"No folder at {folder}.")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_symlink()]
    if not found:
        raise AgfasError(f"No pictures in {folder}: none of its files ends in {', '.join(SUFFIXES)}.")
    return sorted(found)


def with_splits(faces: list[SourceFace], shares: tuple[float, float] = (0.6, 0.2)) -> list[SourceFace]:
    """Deal the subjects of each domain out to train, dev and test, in the order of a hash of their names.

    Every split gets at least one subject where there are three or more. No subject is in two splits.
    """
    split: dict[tuple[str, str], str] = {}
    for domain in sorted({face.domain for face in faces}):
        subjects = sorted({face.subject for face in faces if face.domain == domain}, key=_order)
        train = max(1, round(shares[0] * len(subjects)))
        dev = max(1, round(shares[1] * len(subjects)))
        if train + dev >= len(subjects) >= 3:
            train = len(subjects) - dev - 1
        for rank, subject in enumerate(subjects):
            split[domain, subject] = "train" if rank < train else "dev" if rank < train + dev else "test"
    return [replace(face, split=split[face.domain, face.subject]) for face in faces]


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
