"""A face dataset from folders of aligned pictures."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.data.images import read_picture
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import CARD_NAME, face_features, face_key
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_json
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.progress import bar

# Of the recipe: how a picture becomes a record.
RECIPE_VERSION = 1
_NOT_DETECTED = [[float("nan")] * 2] * 5


def pictures_fingerprint(faces: list[SourceFace], size: int) -> str:
    """What decides the dataset: every file's bytes and what it is, the size, the recipe."""
    rows = [[_key(face), face.label, face.attack_type, face.split, file_sha256(face.path)] for face in faces]
    return fingerprint({"recipe": RECIPE_VERSION, "size": size, "faces": sorted(rows)})


def import_pictures(faces: list[SourceFace], out: Path, size: int, max_refused: float = 0.01) -> None:
    """Write a face dataset of pictures that are aligned crops already.

    What cannot be read is left out and listed with its reason in `refused.csv`.

    Args:
        faces: what to read, with splits.
        out: folder of the dataset.
        size: side of the square crops; a picture that is not square is cut to its central square.
        max_refused: share of refused pictures above which nothing is written.

    Raises:
        AgfasError: two pictures of one key, too many refused ones, or no room.
    """
    doubled = [key for key, count in Counter(map(_key, faces)).items() if count > 1]
    if doubled:
        raise AgfasError(f"Two pictures are both {doubled[0]}; give them other names.")
    refused: list[tuple[str, str]] = []
    records = list(_records(faces, size, refused))
    if len(refused) > max_refused * len(faces):
        raise AgfasError(
            f"{len(refused)} of {len(faces)} pictures were refused, more than {max_refused:.0%}. The first:"
            f" {refused[0][1]}"
        )
    write_atomically(out, lambda folder: _save(records, refused, faces, size, folder))


def _records(faces: list[SourceFace], size: int, refused: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        encoded = pool.map(_encode, ((face.path, size) for face in faces), chunksize=32)
        with bar(len(faces), "read pictures", unit="picture") as progress:
            for face, (data, reason) in zip(faces, encoded, strict=True):
                progress.update(1)
                if data is None:
                    refused.append((str(face.path), reason))
                else:
                    yield _record(face, data)


def _encode(task: tuple[Path, int]) -> tuple[bytes | None, str]:
    """A worker's task: one picture as PNG bytes, or the reason why not."""
    path, size = task
    try:
        picture = read_picture(path)
    except AgfasError as error:
        return None, str(error)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    stream = io.BytesIO()
    square.resize((size, size), Image.Resampling.LANCZOS).save(stream, "PNG", compress_level=1)
    return stream.getvalue(), ""


def _record(face: SourceFace, data: bytes) -> dict[str, Any]:
    return {
        "key": _key(face),
        "image": {"bytes": data, "path": None},
        "label": face.label,
        "attack_type": face.attack_type,
        "domain": face.domain,
        "subject": face.subject,
        "video": face.video,
        "frame": face.frame,
        "split": face.split,
        "landmarks": _NOT_DETECTED,
    }


def _save(
    records: list[dict[str, Any]],
    refused: list[tuple[str, str]],
    faces: list[SourceFace],
    size: int,
    folder: Path,
) -> None:
    from datasets import Dataset

    Dataset.from_list(records, features=face_features()).save_to_disk(str(folder))
    with (folder / "refused.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "reason"), *refused])
    counts = Counter((r["domain"], "bonafide" if r["label"] else "attack", r["split"]) for r in records)
    card = {
        "fingerprint": pictures_fingerprint(faces, size),
        "size": size,
        "faces": len(records),
        "refused": len(refused),
        "counts": {"/".join(cell): count for cell, count in sorted(counts.items())},
    }
    write_json(folder / CARD_NAME, card)


def _key(face: SourceFace) -> str:
    return face_key(face.domain, face.subject, face.video, face.frame)
