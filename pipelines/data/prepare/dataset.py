"""What tasks leave on disk, and the dataset that is put together from it without holding it in memory.

OUT/.work/IDENTITY/tasks/000000.arrow    records of a task
                         000000.json     refusals and notes; written last: its presence says that the records are whole
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.prepare.sources import Noted, Refusal
from pipelines.data.records import (
    COLUMNS,
    FRAME_RULE,
    GROUP_COLUMNS,
    PICTURE_COLUMNS,
    face_features,
    picture_features,
    write_state,
)
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.fingerprint import canonical_json, file_sha256

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features

Record = dict[str, Any]
# Records written at once: this many, or fewer with as many bytes of pictures.
_RECORDS_AT_ONCE, _BYTES_AT_ONCE = 64, 32_000_000
_BYTES_A_FILE = 500_000_000
_SIGNATURE = ("hash", "thumbnail")
# The columns of a face dataset, then those that `prepared_features` adds, then the picture's signature.
_TASK_COLUMNS = (
    *COLUMNS,
    *("source", "source_frame", FRAME_RULE, *PICTURE_COLUMNS, "detector", "detector_score", "pose", "quality", "mask"),
    *GROUP_COLUMNS,
    *("subject_known", *_SIGNATURE),
)
# Arrow's plain types, which need no `datasets` in the worker processes; all other columns are strings.
_KINDS = {
    **dict.fromkeys(("image", "picture", "mask", "thumbnail"), "binary"),
    **dict.fromkeys(("frame", "source_frame", "age"), "int32"),
    **dict.fromkeys(("landmarks", "points"), "points"),
    **dict.fromkeys(("box", "pose"), "floats"),
    **dict.fromkeys(("detector_score", "quality"), "float32"),
    **{"label": "int64", "subject_known": "bool", "hash": "uint64"},
}
_IN_MEMORY = (
    *("key", "label", "attack_type", "domain", "subject", "video", "split", "source", "quality", "subject_known"),
    *_SIGNATURE,
)


def task_schema() -> pyarrow.Schema:
    """Columns of a task's records."""
    import pyarrow as pa

    lists = {"floats": pa.list_(pa.float32()), "points": pa.list_(pa.list_(pa.float32()))}
    kinds = ((name, _KINDS.get(name, "string")) for name in _TASK_COLUMNS)
    return pa.schema([(name, lists.get(kind) or pa.type_for_alias(kind)) for name, kind in kinds])


def prepared_features() -> Features:
    """Columns of a prepared dataset: those of a face dataset, and the origin of each face.

    source: path below SOURCE, or `column[row]` of a Hugging Face dataset. source_frame: of the video; -1 for pictures.
    frame_rule: why this frame of a video was kept; empty for pictures.
    picture, box, points: see `PICTURE_COLUMNS`. detector: `none` for pictures that were crops already; their landmarks,
    score and pose are NaN. pose: yaw, pitch, roll in degrees. quality: in [0, 1]. mask: 255 face, 0 background; empty
    without a parser. age: years; -1 unknown. sex, ethnicity: as the source records them; empty if unknown.
    subject_known: whether `subject` is a person.
    """
    from datasets import Features, Image, Sequence, Value

    typed = {
        **face_features(),
        **picture_features(),
        "pose": Sequence(Value("float32"), length=3),
        "mask": Image(),
    }
    return Features(
        {
            name: typed[name] if name in typed else Value(_KINDS.get(name, "string"))
            for name in _TASK_COLUMNS
            if name not in _SIGNATURE
        }
    )


@dataclass(frozen=True)
class TaskFiles:
    """Files of the tasks of a job.

    Attributes:
        folder: `OUT/.work/IDENTITY`.
    """

    folder: Path

    @property
    def scratch(self) -> Path:
        """Folder for temporary files of the workers."""
        return self.folder / "scratch"

    def records(self, number: int) -> Path:
        """The Arrow stream of a task's records."""
        return self.folder / "tasks" / f"{number:06d}.arrow"

    def marker(self, number: int) -> Path:
        """The file that says that the records are complete."""
        return self.folder / "tasks" / f"{number:06d}.json"

    def make_folders(self) -> None:
        """Create the folders of the job."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.folder / "tasks").mkdir(exist_ok=True)

    def finish(self, number: int, lists: Mapping[str, Sequence[Refusal | Noted]]) -> None:
        """Say that the records of a task are complete, with their checksum."""
        path, lines = self.records(number), {name: [asdict(one) for one in lists[name]] for name in lists}
        marker = {"bytes": path.stat().st_size, "sha256": file_sha256(path), **lines}
        write_json(self.marker(number), marker)

    def is_done(self, number: int) -> bool:
        """Whether a task is finished and its records are what was written."""
        records = self.records(number)
        if not (self.marker(number).is_file() and records.is_file()):
            return False
        try:
            marker = read_json(self.marker(number))
        except AgfasError:
            return False
        # Markers of earlier versions have no checksum.
        whole = marker.get("sha256")
        return records.stat().st_size == marker["bytes"] and whole in (None, file_sha256(records))

    def size(self, number: int) -> int:
        """Bytes of a finished task's records."""
        return int(read_json(self.marker(number))["bytes"])

    def notes(self, number: int) -> list[Noted]:
        """The lines of `noted.csv` of a finished task."""
        return [Noted(**line) for line in read_json(self.marker(number))["noted"]]

    def refusals(self, number: int) -> list[Refusal]:
        """Refusals of a finished task."""
        return [Refusal(**line) for line in read_json(self.marker(number))["refused"]]


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the Arrow stream of a task, a few records at a time."""
    import pyarrow as pa

    schema = task_schema()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for rows in _batches(records):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists that memory can hold, whatever pictures they keep."""
    rows: list[Record] = []
    size = 0
    for one in records:
        rows.append(one)
        size += sum(len(value) for value in one.values() if isinstance(value, bytes))
        if len(rows) == _RECORDS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


@dataclass(frozen=True)
class TaskRecords:
    """The records of all tasks, in order.

    Attributes:
        files: of the tasks.
        tasks: number of tasks.
    """

    files: TaskFiles
    tasks: int

    def columns(self) -> dict[str, list[Any]]:
        """The small columns by name, (N,) each, with `hash` and `thumbnail` of each picture.

        Raises:
            AgfasError: two faces with one key.
        """
        columns: dict[str, list[Any]] = {name: [] for name in _IN_MEMORY}
        for table in self.tables():
            for name in _IN_MEMORY:
                columns[name] += table.column(name).to_pylist()
        _check_distinct(columns["key"])
        return columns

    def tables(self) -> Iterator[pyarrow.Table]:
        """The memory-mapped records of one task after another."""
        import pyarrow as pa

        for number in range(self.tasks):
            with pa.memory_map(str(self.files.records(number))) as source:
                yield pa.ipc.open_stream(source).read_all()

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes]:
        """The stored crops of rows, which are in ascending order."""
        start, waiting = 0, iter(rows)
        row = next(waiting, None)
        for table in self.tables() if rows else ():
            column, stop = table.column("image"), start + len(table)
            while row is not None and row < stop:
                yield column[row - start].as_py()
                row = next(waiting, None)
            start = stop

    def groups(self) -> list[int]:
        """Number of tasks in each file of the dataset; a file has about 500 MB."""
        groups, total = [0], 0
        for number in range(self.tasks):
            size = self.files.size(number)
            if total and total + size > _BYTES_A_FILE:
                groups, total = [*groups, 0], 0
            groups[-1] += 1
            total += size
        return groups


def write_dataset(records: TaskRecords, splits: Sequence[str], keep: np.ndarray, folder: Path) -> str:
    """Write the Arrow files of a Hugging Face dataset, one batch of a task at a time.

    Args:
        records: of all tasks.
        splits: (N,) names that replace the splits in the records.
        keep: (N,) bool, which records enter the dataset.
        folder: of the dataset.

    Returns:
        Fingerprint of the content: 16 hexadecimal digits over every column of every face, pictures as stored.
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
            for batch in (batch for table in islice(tables, count) for batch in table.to_batches()):
                stop = start + len(batch)
                batch = batch.set_column(place, "split", pa.array(splits[start:stop], pa.string()))
                part = batch.filter(pa.array(keep[start:stop])).drop_columns(list(_SIGNATURE))
                start = stop
                if len(part):
                    _digest(digest, part)
                    writer.write_batch(_typed(part, schema))
    content = digest.hexdigest()[:16]
    write_state(folder, names, prepared_features(), content)
    return content


def _typed(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Plain columns as the types of the dataset."""
    import pyarrow as pa

    arrays = []
    for column in schema:
        values = batch.column(column.name)
        if isinstance(column.type, pa.ExtensionType):
            values = pa.ExtensionArray.from_storage(column.type, values.cast(column.type.storage_type))
        elif pa.types.is_struct(column.type):
            paths = pa.nulls(len(values), pa.string())
            values = pa.StructArray.from_arrays([values, paths], ["bytes", "path"], mask=values.is_null())
        else:
            values = values.cast(column.type)
        arrays.append(values)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _digest(digest: Any, batch: pyarrow.RecordBatch) -> None:
    for row in batch.to_pylist():
        pictures = [row.pop("image"), row.pop("mask") or b"", row.pop("picture") or b""]
        digest.update(canonical_json([row, [len(picture) for picture in pictures]]).encode())
        for picture in pictures:
            digest.update(picture)


def _check_distinct(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise AgfasError(f"Two faces have the key {key}. Rename one of their files, or leave out --all-faces.")
        seen.add(key)
