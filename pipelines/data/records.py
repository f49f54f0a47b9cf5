"""What a face dataset is: a Hugging Face `Dataset` of face records.

A record is one aligned face crop with everything that splitting, training and judging need to know of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from datasets import Dataset, Features

    from pipelines.data.intact import CheckedTable

ATTACK, BONAFIDE = 0, 1
LABEL_NAMES = ["attack", "bonafide"]
NO_ATTACK = "none"
SPLITS = ("train", "dev", "test")
COLUMNS = ("key", "image", "label", "attack_type", "domain", "subject", "video", "frame", "split", "landmarks")
GROUP_COLUMNS = ("age", "sex", "ethnicity")
"""What a dataset may record of its persons; `agfas prepare` keeps it, a face dataset need not have it.

Age in years, -1 if it is not recorded; sex and ethnicity in the dataset's own words, empty if they are not recorded.
"""
FRAME_RULE = "frame_rule"
"""Optional column: the rules of `frames.sampled_frames` that a frame was kept for, separated by spaces."""
PICTURE_COLUMNS = ("picture", "box", "points")
"""Where the crop comes from, for networks with a crop of their own; a face dataset need not have them.

picture: the whole picture or frame, upright: the file's own bytes if it is upright, else a lossless PNG; null unless
`agfas prepare --keep-picture`. box: (4,) left, top, width, height of the face, and points: (5, 2) its landmarks in the
order of `landmarks`, both in pixels of the upright picture; null if no face detector ran.
"""
CARD_NAME = "face_dataset.json"


def face_features() -> Features:
    """The typed columns of a face dataset, one aligned face a row.

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
    from datasets import Array2D, ClassLabel, Features, Image, Value

    typed = {
        "image": Image(),
        "label": ClassLabel(names=LABEL_NAMES),
        "frame": Value("int32"),
        "landmarks": Array2D((5, 2), "float32"),
    }
    return Features({name: typed.get(name, Value("string")) for name in COLUMNS})


def picture_features() -> Features:
    """The types of `PICTURE_COLUMNS`."""
    from datasets import Array2D, Features, Image, Sequence, Value

    types = (Image(), Sequence(Value("float32"), length=4), Array2D((5, 2), "float32"))
    return Features(dict(zip(PICTURE_COLUMNS, types, strict=True)))


def face_key(domain: str, subject: str, video: str, frame: int) -> str:
    """The record's key: `domain/subject/video/frame`."""
    return f"{domain}/{subject}/{video}/{frame:03d}"


def load_faces(folder: str | Path) -> Dataset:
    """Open a face dataset with its images, memory-mapped. Where no image is needed, `read_columns` is quicker.

    Raises:
        AgfasError: the folder is missing, is not a dataset, is not what was written, lacks columns, or holds no face.
    """
    from pipelines.data.intact import check_all

    folder = Path(folder)
    with _explained(folder):
        check_all(folder)
        faces = open_saved(folder)
    _check_table(folder, faces.column_names, len(faces))
    return faces


def open_saved(folder: Path) -> Dataset:
    """What `Dataset.save_to_disk` wrote, memory-mapped.

    As `datasets.load_from_disk`, which takes `::` in a path for two addresses.
    """
    from datasets import Dataset, DatasetInfo
    from datasets.table import MemoryMappedTable, concat_tables

    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    tables = [MemoryMappedTable.from_file(str(folder / file["filename"])) for file in state["_data_files"]]
    return Dataset(concat_tables(tables), info=DatasetInfo.from_dict(info), fingerprint=state["_fingerprint"])


def read_columns(folder: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read columns of a face dataset without importing `datasets` or torch.

    Args:
        folder: of the dataset.
        names: columns to read.
        optional: columns to read if the dataset has them.

    Returns:
        (N,) arrays by column name: text as objects, labels as int64.

    Raises:
        AgfasError: as `load_faces`, or the dataset lacks one of `names`.
    """
    table = open_table(folder)
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise AgfasError(f"{folder} lacks the columns {', '.join(missing)}. Create it again with `agfas prepare`.")
    found = [*names, *(name for name in optional if name in table.column_names)]
    return {name: _as_array(table.column(name)) for name in found}


def _as_array(column: pyarrow.ChunkedArray) -> np.ndarray:
    import numpy as np
    import pyarrow.types as types

    # `to_numpy` would import pandas, which takes longer than reading a small dataset.
    number = types.is_integer(column.type) or types.is_floating(column.type)
    return np.asarray(column.to_pylist(), dtype=column.type.to_pandas_dtype() if number else object)


def open_table(folder: Path, with_pictures: bool = False) -> pyarrow.Table:
    """The Arrow table of a face dataset, memory-mapped, without importing `datasets` or torch.

    Args:
        folder: of the dataset.
        with_pictures: compare the pictures' bytes with their checksums as well, which reads all of them.

    Raises:
        AgfasError: as `load_faces`.
    """
    opened = checked_table(folder)
    if with_pictures:
        opened.check_pictures()
    return opened.table


def checked_table(folder: Path) -> CheckedTable:
    """`open_table` with its checksums, to read single pictures."""
    from pipelines.data.intact import CheckedTable, check_file

    with _explained(folder):
        check_file(folder, "state.json")
        files = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        opened = CheckedTable(folder, [file["filename"] for file in files])
    _check_table(folder, opened.table.column_names, len(opened.table))
    return opened


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    _check_folder(folder)
    try:
        yield
    except AgfasError:
        raise
    except Exception as error:  # Arrow, datasets and json each raise their own errors on foreign files
        raise AgfasError(f"{folder} is not a readable face dataset ({error}). Create it again.") from error


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    there = "it is a file" if folder.exists() else "there is no such folder"
    raise AgfasError(
        f"No face dataset at {folder}: {there}. Create one from your pictures with `agfas prepare SOURCE --out OUT`, or"
        " from drawn faces with `agfas synth OUT`."
    )


def write_state(folder: Path, names: Sequence[str], features: Features, content: str) -> None:
    """Write what `datasets.load_from_disk` reads beside the Arrow files `names`.

    `Dataset.save_to_disk` would put the time into the fingerprint, so that equal datasets would differ.
    """
    from datasets import DatasetInfo
    from datasets.utils.py_utils import asdict

    # As its `write_to_directory`, which takes `::` in a path for two addresses.
    (folder / "dataset_info.json").write_text(json.dumps(asdict(DatasetInfo(features=features))), encoding="utf-8")
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": content,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "state.json", state)


def _check_table(folder: Path, columns: Sequence[str], faces: int) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise AgfasError(f"{folder} lacks the columns {', '.join(missing)} of a face dataset. Create it again.")
    if faces == 0:
        raise AgfasError(f"{folder} holds no face. Check what it was made from.")


COLLECTED = "the terms of whoever collected them"


def licence_of_faces(card: Mapping[str, Any]) -> str:
    """The terms of a face dataset by its card: those of its importer, or that nobody stated any."""
    return "Apache-2.0" if card.get("kind") == "synthetic" else str(card.get("licence") or COLLECTED)


def read_card(folder: Path) -> dict[str, Any]:
    """What a face dataset says of itself: `fingerprint`, settings, counts."""
    path = folder / CARD_NAME
    _check_folder(folder)
    if not path.is_file():
        begun = any((folder / name).exists() for name in (".work", "state.json"))
        raise AgfasError(
            f"{folder} has no {CARD_NAME}, so it is unfinished. Run the command that makes it again."
            if begun
            else f"{folder} is no face dataset: it has no {CARD_NAME}. Give the folder of `--out`."
        )
    from pipelines.data.intact import check_file

    check_file(folder, CARD_NAME)
    return dict(read_json(path))
