"""The job behind `agfas prepare`: anybody's pictures and videos to a face dataset, resumable and deterministic.

    OUT/data-*.arrow, dataset_info.json, state.json    the dataset, as `datasets.load_from_disk` reads it
        face_dataset.json                              what it is; its presence says that all is there
        README.md, counts.json, leaks.json             the card, what there is, what crosses a split
        refused.csv, left_out.csv, passed_over.csv     what is not in it, and why
        .work/IDENTITY/                                finished tasks while the job is not; see `tasks.py`

IDENTITY is a hash of the recipe, the models, the program's versions and the state of the sources, so that a job that
is run again goes on where it was, and never with what another recipe has left.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.card import versions
from pipelines.data.prepare.faces import Cutter, DetectorFactory
from pipelines.data.prepare.media import source_name
from pipelines.data.prepare.pool import Pool
from pipelines.data.prepare.result import assemble
from pipelines.data.prepare.settings import Recipe
from pipelines.data.prepare.sources import Sources, base_of, listing
from pipelines.data.prepare.tasks import TaskFiles, begin_worker, cut_tasks
from pipelines.data.records import CARD_NAME, read_card
from pipelines.errors import AgfasError
from pipelines.files import explained_errors
from pipelines.fingerprint import fingerprint
from pipelines.progress import bar

# Raise it with every change of a picture's bytes or of a record.
RECIPE_VERSION = 1
WORK = ".work"
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Job:
    """One dataset to make.

    Attributes:
        source: what the user named.
        out: folder of the dataset.
        recipe: how.
        sources: what is read.
        models: what detector and parser say of themselves.
        make_detector: makes one in every process.
    """

    source: Path
    out: Path
    recipe: Recipe
    sources: Sources
    models: dict[str, Any]
    make_detector: DetectorFactory

    @property
    def base(self) -> Path:
        """The folder that paths are relative to: that of the list, where the source is one."""
        return base_of(self.source)

    def identity(self) -> str:
        """Of everything that decides the result."""
        return fingerprint(
            {
                "version": RECIPE_VERSION,
                "recipe": self.recipe.of_the_result(),
                "models": self.models,
                "versions": versions(),
                "sources": listing(self.sources.faces, self.source),
            }
        )

    def facts(self, identity: str) -> dict[str, Any]:
        """What the card says of the job."""
        return {
            "identity": identity,
            "recipe": self.recipe.of_the_result(),
            "recipe_hash": fingerprint([RECIPE_VERSION, self.recipe.of_the_result(), self.models]),
            "recipe_version": RECIPE_VERSION,
            "models": self.models,
            "source": self.source.resolve().name if self.source.exists() else str(self.source),
        }


def open_job(
    source: Path, out: Path, recipe: Recipe, sources: Sources, make_detector: DetectorFactory | None = None
) -> Job:
    """Check the output folder and load the models once, so that what is wrong with them is said before any work.

    Args:
        source: as `find_sources` was given it.
        out: may hold an unfinished job, or the same dataset.
        recipe: how.
        sources: of `find_sources`.
        make_detector: in place of the recipe's detector; must be picklable.

    Raises:
        AgfasError: the output lies in the source, or weights are missing.
    """
    from pipelines.data.detection import load_detector

    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise AgfasError(f"{out} lies in {source}, which is only read. Name a folder outside it with --out.")
    make = make_detector or partial(load_detector, recipe.detector, recipe.weights, **recipe.detector_options)
    return Job(source, out, recipe, sources, Cutter.load(recipe, make).fingerprint(), make)


def run_job(job: Job) -> dict[str, Any]:
    """Make what is missing, and put the dataset together when every task is done.

    Returns:
        The card of the finished dataset.

    Raises:
        AgfasError: the output holds something else, the disk is full, or processes keep dying. What was finished is
            kept.
    """
    identity = job.identity()
    card = _finished(job.out, identity)
    with explained_errors(job.out):
        if card is None:
            files = TaskFiles(job.out / WORK / identity)
            files.make_folders()
            tasks = cut_tasks(job.sources.faces, job.recipe)
            _make_tasks(job, files, tasks)
            card = assemble(files, len(tasks), job.out, job.recipe, job.sources, job.facts(identity))
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    return card


def _finished(out: Path, identity: str) -> dict[str, Any] | None:
    """The card of a dataset that is this one; None where there is room for it."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise AgfasError(f"{out} is a {'link' if out.is_symlink() else 'file'}, not a folder. Name another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return None
    if (out / CARD_NAME).is_file():
        card = read_card(out)
        if card.get("identity") == identity:
            return card
        raise AgfasError(
            f"{out} holds a dataset of another recipe or of other sources. Name another --out, or remove it."
        )
    if not (out / WORK).is_dir() or (out / WORK).is_symlink():
        raise AgfasError(f"{out} holds something else. Name another folder with --out, or empty it.")
    return None


def _make_tasks(job: Job, files: TaskFiles, tasks: list[list[SourceFace]]) -> None:
    missing = [(number, task) for number, task in enumerate(tasks) if not files.is_done(number)]
    done = len(job.sources.faces) - sum(len(task) for _, task in missing)
    setup = partial(begin_worker, job.recipe, job.make_detector, job.base, files.folder)
    workers = job.recipe.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    pool = Pool(setup, workers, lambda face: source_name(face, job.base))
    with bar(len(job.sources.faces), "prepare", initial=done, unit="source") as progress:
        for state in pool.run(missing):
            progress.update(done + state.items - progress.n)
