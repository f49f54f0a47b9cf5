"""The job behind `agfas prepare`: pictures and videos to a face dataset, resumable and deterministic.

    OUT/data-*.arrow, dataset_info.json, state.json    the dataset, as `datasets.load_from_disk` reads it
        face_dataset.json                              its card; written last, so its presence says that all is complete
        README.md, counts.json, leaks.json             card for people, counts, overlap of the splits
        refused.csv, noted.csv, left_out.csv, passed_over.csv    what the dataset lacks, and why
        sums.json                                      checksums of the files, see `pipelines.data.intact`
        .work/IDENTITY/                                finished tasks of an unfinished job; see `dataset.py`

IDENTITY is a hash of the recipe, the models, the versions of the packages and the state of the sources: the same
command resumes an unfinished job, and never uses tasks of another recipe.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipelines.claims import sole_writer
from pipelines.data.contents import UNREADABLE, content_hashes, files_below, stamp
from pipelines.data.detection import load_detector
from pipelines.data.importers.source import SourceFace, split_of
from pipelines.data.prepare.card import versions
from pipelines.data.prepare.cutter import Cutter, DetectorFactory
from pipelines.data.prepare.dataset import TaskFiles
from pipelines.data.prepare.names import printable, source_name
from pipelines.data.prepare.pool import Pool
from pipelines.data.prepare.result import assemble
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Sources, base_of, contents, listing
from pipelines.data.prepare.worker import begin_worker, expected_faces
from pipelines.data.records import CARD_NAME, read_card
from pipelines.errors import AgfasError
from pipelines.files import explained_errors
from pipelines.fingerprint import fingerprint
from pipelines.progress import bar

# Raise it with every change of a crop's bytes or of a record.
RECIPE_VERSION = 5
WORK = ".work"
# Faces of a task, which is what a kill can cost; a longer video is a task by itself.
FACES_A_TASK = 64
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Job:
    """One dataset to make.

    Attributes:
        source: SOURCE of the command.
        out: folder of the dataset.
        recipe: its settings.
        sources: what is read.
        models: fingerprints of face detector and parser.
        make_detector: called in every process.
    """

    source: Path
    out: Path
    recipe: PrepareRecipe
    sources: Sources
    models: dict[str, Any]
    make_detector: DetectorFactory

    @cached_property
    def held(self) -> dict[Path, str]:
        """What the files of the sources hold, or why they cannot be read, before the job begins."""
        return contents(self.sources.faces)

    def identity(self) -> str:
        """Hash of everything that decides the result."""
        return fingerprint(
            {
                "version": RECIPE_VERSION,
                "recipe": self.recipe.of_the_result(),
                "models": self.models,
                "versions": versions(),
                "sources": listing(self.sources.faces, self.held, self.source),
            }
        )

    def facts(self, identity: str) -> dict[str, Any]:
        """The job's part of the card."""
        return {
            "identity": identity,
            "recipe": self.recipe.of_the_result(),
            "recipe_hash": fingerprint([RECIPE_VERSION, self.recipe.of_the_result(), self.models]),
            "recipe_version": RECIPE_VERSION,
            "models": self.models,
            "source": self.source.resolve().name if self.source.exists() else str(self.source),
        }


def open_job(
    source: Path, out: Path, recipe: PrepareRecipe, sources: Sources, make_detector: DetectorFactory | None = None
) -> Job:
    """Check the output folder and load the models once, so that their errors appear before any work.

    Args:
        source: as given to `find_sources`.
        out: may hold an unfinished job, or the same dataset.
        recipe: settings.
        sources: of `find_sources`.
        make_detector: replaces the recipe's face detector; must be picklable.

    Raises:
        AgfasError: the output is inside the source or has a name that Arrow cannot write, or weights are missing.
    """
    if printable(str(out)) != str(out):
        raise AgfasError(f"The name of {printable(str(out))} holds bytes that are no text (UTF-8). Name another --out.")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise AgfasError(f"{out} is inside {source}, which is only read. Name a folder outside it with --out.")
    make = make_detector or partial(load_detector, recipe.face_detector, recipe.weights, **recipe.detector_options)
    return Job(source, out, recipe, sources, Cutter.load(recipe, make).fingerprint(), make)


def run_job(job: Job) -> dict[str, Any]:
    """Do the unfinished tasks, then put the dataset together.

    Returns:
        The card of the finished dataset.

    Raises:
        AgfasError: the output holds something else or another job is making it, the disk is full, or processes keep
            dying. Finished tasks are kept.
    """
    before, identity = _stamps(job), job.identity()
    with explained_errors(job.out), sole_writer(job.out):
        card = _finished(job.out, identity)
        if card is None:
            files = TaskFiles(job.out / WORK / identity)
            files.make_folders()
            tasks = cut_tasks(job.sources.faces, job.recipe)
            _make_tasks(job, files, tasks)
            if _stamps(job) != before or _can_be_read_now(job):
                shutil.rmtree(files.folder)
                raise AgfasError(f"Files of {job.source} were changed while they were read. Run the command again.")
            card = assemble(files, len(tasks), job.out, job.recipe, job.sources, job.facts(identity))
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    return card


def _stamps(job: Job) -> list[tuple[int, ...]]:
    faces, folder = job.sources.faces, split_of(job.source)[0]
    rows = files_below(folder) if folder.is_dir() and any(face.row >= 0 for face in faces) else []
    return [stamp(path) for path in (*rows, *(face.path for face in faces if face.row < 0))]


def _can_be_read_now(job: Job) -> bool:
    """Whether a file that could not be read before the job can be read after it: nobody knows what the job read."""
    closed = [path for path, content in job.held.items() if content.startswith(UNREADABLE)]
    return content_hashes(closed) != [job.held[path] for path in closed]


def _finished(out: Path, identity: str) -> dict[str, Any] | None:
    """The card, if the output is this dataset already; None if the job may write there."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise AgfasError(f"{out} is a {'link' if out.is_symlink() else 'file'}, not a folder. Name another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return None
    if (out / CARD_NAME).is_file():
        card = read_card(out)
        if card.get("identity") == identity:
            return card
        raise AgfasError(f"{out} holds a dataset of another recipe or other sources. Name another --out, or remove it.")
    if not (out / WORK).is_dir() or (out / WORK).is_symlink():
        raise AgfasError(f"{out} holds something else. Name another folder with --out, or empty it.")
    return None


def _make_tasks(job: Job, files: TaskFiles, tasks: list[list[SourceFace]]) -> None:
    missing = [(number, task) for number, task in enumerate(tasks) if not files.is_done(number)]
    done = len(job.sources.faces) - sum(len(task) for _, task in missing)
    base = base_of(job.source)
    setup = partial(begin_worker, job.recipe, job.make_detector, base, files.folder)
    workers = job.recipe.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    pool = Pool(setup, workers, lambda face: source_name(face, base))
    with bar(len(job.sources.faces), "prepare", initial=done, unit="source") as progress:
        for begun in pool.run(missing):
            progress.update(done + begun - progress.n)


def cut_tasks(faces: list[SourceFace], recipe: PrepareRecipe) -> list[list[SourceFace]]:
    """Consecutive sources with at most `FACES_A_TASK` expected faces, or one source with more."""
    tasks: list[list[SourceFace]] = []
    room = 0
    for face in faces:
        wanted = expected_faces(face, recipe)
        if wanted > room or not tasks:
            tasks.append([])
            room = max(FACES_A_TASK, wanted)
        tasks[-1].append(face)
        room -= wanted
    return tasks
