"""The work cut into tasks that depend on nothing but the sources, and the file that each task leaves.

OUT/.work/IDENTITY/tasks/000000.arrow    records of a task, as they were made
                         000000.json     what was refused; exists only once the records are whole
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.faces import Cutter, DetectorFactory
from pipelines.data.prepare.media import source_name
from pipelines.data.prepare.outcome import Refusal
from pipelines.data.prepare.pool import Report, Task
from pipelines.data.prepare.settings import Recipe
from pipelines.data.prepare.worker import Record, Worker, expected_faces
from pipelines.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import pyarrow

# Faces of a task, which is what a kill can cost; a longer video is a task of its own.
FACES_A_TASK = 64
_RECORDS_AT_ONCE = 16


def cut_tasks(faces: list[SourceFace], recipe: Recipe) -> list[list[SourceFace]]:
    """Consecutive sources of `FACES_A_TASK` expected faces at most, or a single one of more."""
    tasks: list[list[SourceFace]] = []
    room = 0
    for face in faces:
        wanted = expected_faces(face, recipe.frames, recipe.frame_rule)
        if wanted > room or not tasks:
            tasks.append([])
            room = max(FACES_A_TASK, wanted)
        tasks[-1].append(face)
        room -= wanted
    return tasks


@dataclass(frozen=True)
class TaskFiles:
    """Where the tasks of a job lie.

    Attributes:
        folder: `OUT/.work/IDENTITY`.
    """

    folder: Path

    @property
    def scratch(self) -> Path:
        """For what a process needs for a moment."""
        return self.folder / "scratch"

    def records(self, number: int) -> Path:
        """The Arrow stream of a task's records."""
        return self.folder / "tasks" / f"{number:06d}.arrow"

    def marker(self, number: int) -> Path:
        """What says that the records are whole."""
        return self.folder / "tasks" / f"{number:06d}.json"

    def make_folders(self) -> None:
        """Before the first task."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.folder / "tasks").mkdir(exist_ok=True)

    def is_done(self, number: int) -> bool:
        """Whether a task's records are whole."""
        records = self.records(number)
        whole = self.marker(number).is_file() and records.is_file()
        return whole and records.stat().st_size == self.outcome(number)["bytes"]

    def outcome(self, number: int) -> dict[str, Any]:
        """The `bytes` of a finished task's records, and its `refused` lines."""
        return read_json(self.marker(number))

    def refusals(self, number: int) -> list[Refusal]:
        """What a finished task refused."""
        return [Refusal(**line) for line in self.outcome(number)["refused"]]


def begin_worker(
    recipe: Recipe, make_detector: DetectorFactory, source: Path, folder: Path
) -> Callable[[Task, Report], None]:
    """Set a process up: load the models, and return what does a task.

    Raises:
        AgfasError: weights that are missing or cannot be read.
    """
    import cv2

    from pipelines.progress import hide_bars

    hide_bars()
    cv2.setNumThreads(1)
    if recipe.parsing_weights is not None:
        import torch

        torch.set_num_threads(1)
    files = TaskFiles(folder)
    worker = Worker(Cutter.load(recipe, make_detector), source, files.scratch)
    return partial(_do, worker, files)


def _do(worker: Worker, files: TaskFiles, task: Task, report: Report) -> None:
    refused: list[Refusal] = []
    records = _records(worker, task, report, refused)
    path = files.records(task.number)
    write_atomically(path, lambda temporary: write_records(temporary, records))
    lines = [refusal.as_json() for refusal in refused]
    write_json(files.marker(task.number), {"bytes": path.stat().st_size, "refused": lines})


def _records(worker: Worker, task: Task, report: Report, refused: list[Refusal]) -> Iterator[Record]:
    for place, face in enumerate(task.items):
        report(place)
        if place in task.fatal:
            recipe = worker.cutter.recipe
            lost = expected_faces(face, recipe.frames, recipe.frame_rule)
            refused.append(Refusal(source_name(face, worker.source), -1, task.fatal[place], "processing", lost))
            continue
        for outcome in worker.process(face):
            if isinstance(outcome, Refusal):
                refused.append(outcome)
            else:
                yield outcome


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the Arrow stream of a task, a few records at a time."""
    import pyarrow as pa

    schema = task_schema()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        rows: list[Record] = []
        for row in records:
            rows.append(row)
            if len(rows) == _RECORDS_AT_ONCE:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                rows = []
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def task_schema() -> pyarrow.Schema:
    """Columns of a task's records: those of the dataset in Arrow's plain types, and the signature of the picture."""
    import pyarrow as pa

    points = pa.list_(pa.list_(pa.float32()))
    text, floats, whole = pa.string(), pa.list_(pa.float32()), pa.int32()
    return pa.schema(
        {
            "key": text,
            "image": pa.binary(),
            "label": pa.int64(),
            "attack_type": text,
            "domain": text,
            "subject": text,
            "video": text,
            "frame": whole,
            "split": text,
            "landmarks": points,
            "source": text,
            "source_frame": whole,
            "box": floats,
            "source_landmarks": points,
            "detector": text,
            "detector_score": pa.float32(),
            "pose": floats,
            "quality": pa.float32(),
            "mask": pa.binary(),
            "age": whole,
            "sex": text,
            "ethnicity": text,
            "subject_known": pa.bool_(),
            "hash": pa.uint64(),
            "thumbnail": pa.binary(),
        }
    )
