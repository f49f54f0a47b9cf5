"""The finished dataset: typed features, and its files put together from the tasks' without holding them in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.prepare.tasks import TaskFiles, task_schema
from pipelines.data.records import face_features
from pipelines.errors import AgfasError
from pipelines.files import write_json
from pipelines.fingerprint import canonical_json

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features

_BYTES_A_FILE = 500_000_000
# Of a task's records, what the finished dataset does not hold.
_SIGNATURE = ("hash", "thumbnail")
_LIGHT = (
    *("key", "label", "attack_type", "domain", "subject", "video", "split", "source", "quality", "subject_known"),
    *_SIGNATURE,
)


def prepared_features() -> Features:
    """The columns of a prepared dataset: those of a face dataset, and where each face came from.

    source: path below SOURCE, or `column[row]` of a Hugging Face dataset. source_frame: of the video, -1 for a
    picture. box: left, top, width, height, and source_landmarks: both in pixels of the source. detector: `none` for
    pictures that were crops already, whose landmarks, score and pose are NaN. pose: yaw, pitch, roll in degrees.
    quality: in [0, 1]. mask: 255 face, 0 not, empty where no parser ran. age: years, -1 unknown; sex, ethnicity: as
    the source records them, empty where it does not. subject_known: whether `subject` is a person.
    """
    from datasets import Array2D, Features, Image, Sequence, Value

    return Features(
        {
            **face_features(),
            "source": Value("string"),
            "source_frame": Value("int32"),
            "box": Sequence(Value("float32"), length=4),
            "source_landmarks": Array2D((5, 2), "float32"),
            "detector": Value("string"),
            "detector_score": Value("float32"),
            "pose": Sequence(Value("float32"), length=3),
            "quality": Value("float32"),
            "mask": Image(),
            "age": Value("int32"),
            "sex": Value("string"),
            "ethnicity": Value("string"),
            "subject_known": Value("bool"),
        }
    )


@dataclass(frozen=True)
class TaskRecords:
    """The records of all tasks, in their order.

    Attributes:
        files: where they lie.
        tasks: how many tasks there are.
    """

    files: TaskFiles
    tasks: int

    def columns(self) -> dict[str, list[Any]]:
        """The small columns by name: (N,) each, `hash` and `thumbnail` of each picture among them.

        Raises:
            AgfasError: two faces of one key.
        """
        columns: dict[str, list[Any]] = {name: [] for name in _LIGHT}
        for table in self.tables():
            for name in _LIGHT:
                columns[name] += table.column(name).to_pylist()
        _check_distinct(columns["key"])
        return columns

    def tables(self) -> Iterator[pyarrow.Table]:
        """The records of one task after another, mapped from disk."""
        import pyarrow as pa

        for number in range(self.tasks):
            with pa.memory_map(str(self.files.records(number))) as source:
                yield pa.ipc.open_stream(source).read_all()

    def groups(self) -> list[int]:
        """How many tasks each file of the dataset takes, about half a gigabyte each."""
        groups, size = [0], 0
        for number in range(self.tasks):
            if size and size + self.files.outcome(number)["bytes"] > _BYTES_A_FILE:
                groups, size = [*groups, 0], 0
            groups[-1] += 1
            size += self.files.outcome(number)["bytes"]
        return groups


def write_dataset(records: TaskRecords, splits: Sequence[str], keep: np.ndarray, folder: Path) -> str:
    """Write the Arrow files of a Hugging Face dataset, a task at a time.

    Args:
        records: of all tasks.
        splits: (N,) names, in place of those that the records were made with.
        keep: (N,) bool, which of them the dataset holds.
        folder: of the dataset.

    Returns:
        The fingerprint of its content: 16 hexadecimal digits over every column of every face, pictures as stored.
    """
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    schema = prepared_features().arrow_schema
    groups = records.groups()
    names = [f"data-{number:05d}-of-{len(groups):05d}.arrow" for number in range(len(groups))]
    tables, digest, start = records.tables(), hashlib.sha256(), 0
    place = task_schema().get_field_index("split")
    for name, count in zip(names, groups, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for _ in range(count):
                table = next(tables)
                stop = start + len(table)
                table = table.set_column(place, "split", pa.array(splits[start:stop], pa.string()))
                part = table.filter(pa.array(keep[start:stop]))
                start = stop
                if len(part):
                    _digest(digest, part)
                    writer.write_batch(_typed(part, schema))
    content = digest.hexdigest()[:16]
    _write_state(folder, names, content)
    return content


def _typed(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Plain columns as the dataset's types, in one batch."""
    import pyarrow as pa

    arrays = []
    for column in schema:
        values = table.column(column.name).combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
        if isinstance(column.type, pa.ExtensionType):
            values = pa.ExtensionArray.from_storage(column.type, values.cast(column.type.storage_type))
        elif pa.types.is_struct(column.type):
            paths = pa.nulls(len(values), pa.string())
            values = pa.StructArray.from_arrays([values, paths], ["bytes", "path"], mask=values.is_null())
        else:
            values = values.cast(column.type)
        arrays.append(values)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _digest(digest: Any, table: pyarrow.Table) -> None:
    for row in table.drop_columns(list(_SIGNATURE)).to_pylist():
        pictures = [row.pop("image"), row.pop("mask") or b""]
        digest.update(canonical_json([row, [len(picture) for picture in pictures]]).encode())
        for picture in pictures:
            digest.update(picture)


def _write_state(folder: Path, names: list[str], content: str) -> None:
    """What `datasets.load_from_disk` reads beside the Arrow files; written here, since `save_to_disk` would put the
    time of writing into its fingerprint."""
    from datasets import DatasetInfo

    DatasetInfo(features=prepared_features()).write_to_directory(str(folder))
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


def _check_distinct(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise AgfasError(f"Two faces are both {key}. Give their files other names, or leave out --all-faces.")
        seen.add(key)
