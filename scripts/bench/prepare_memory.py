"""The memory that a job of many pictures takes: parent and workers, for a quarter of the pictures and for all of them.

Memory would grow if anything kept the pictures. The detector is therefore a stub that finds a face in the middle of
every picture at once, and the pictures are small and all different. Each job runs in a fresh process, which is watched
from outside.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from PIL import Image

from pipelines.data.detection import DetectedFace

_SIZE, _CROP = (80, 60), 64
# Seconds between two looks at the processes.
_PAUSE = 0.05
_FILES_A_FOLDER = 1000
_LANDMARKS = np.array([[30, 22], [50, 22], [40, 32], [33, 42], [47, 42]], dtype=np.float32)


class MiddleFace:
    """A face in the middle of every picture."""

    name = "middle"

    def fingerprint(self) -> dict[str, Any]:
        """It has no settings."""
        return {"detector": self.name}

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The same face for a picture of any content."""
        return [DetectedFace(np.array([20, 10, 40, 40], dtype=np.float32), _LANDMARKS.copy(), 1.0)]


def memory_benchmark(count: int = 50_000, workers: int = 2) -> list[dict[str, Any]]:
    """Prepare `count` pictures, and a quarter of them first.

    Returns:
        A row for the parent and one for the workers: the greatest resident memory of each job in MB (of the workers
        that of the largest), and how many bytes every further picture has added, beside the bytes that it would add if
        its crop were kept.
    """
    small = count // 4
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        few, many = peaks(root, small, workers), peaks(root, count, workers)
    return [
        {
            "benchmark": "prepare-memory",
            "process": role,
            f"peak_mb_of_{small}": round(few[role] / 1e6, 1),
            f"peak_mb_of_{count}": round(many[role] / 1e6, 1),
            "bytes_of_a_further_picture": round((many[role] - few[role]) / (count - small)),
            "bytes_of_a_crop": _CROP * _CROP * 3,
        }
        for role in few
    ]


def peaks(root: Path, count: int, workers: int) -> dict[str, int]:
    """The greatest resident memory in bytes of the parent, and of the worker that took most, in one job.

    Raises:
        RuntimeError: the job failed; its own process has said why.
    """
    pictures, out = root / "pictures", root / "out"
    for place in range(count):
        _draw(pictures / f"{place // _FILES_A_FOLDER:04d}" / f"{place:06d}.jpg", place)
    job = multiprocessing.get_context("spawn").Process(target=_prepare, args=(pictures, out, workers))
    job.start()
    assert job.pid is not None
    highest = {"parent": 0, "largest worker": 0}
    parent = psutil.Process(job.pid)
    while job.is_alive():
        with suppress(psutil.Error):  # a process that has just ended
            highest["parent"] = max(highest["parent"], parent.memory_info().rss)
            for child in parent.children():
                highest["largest worker"] = max(highest["largest worker"], child.memory_info().rss)
        time.sleep(_PAUSE)
    if job.exitcode:
        raise RuntimeError(f"the job of {count} pictures ended with code {job.exitcode}.")
    shutil.rmtree(out)
    return highest


def _draw(path: Path, seed: int) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(cv2.resize(coarse, _SIZE, interpolation=cv2.INTER_CUBIC)).save(path, quality=80)


def _prepare(pictures: Path, out: Path, workers: int) -> None:
    """The whole job; runs in a fresh process."""
    from pipelines.data.prepare.job import open_job, run_job
    from pipelines.data.prepare.settings import PrepareRecipe
    from pipelines.data.prepare.sources import find_sources
    from pipelines.progress import hide_bars

    hide_bars()
    recipe = PrepareRecipe(importer="live", domain="benchmark", size=_CROP, workers=workers)
    run_job(open_job(pictures, out, recipe, find_sources(pictures, recipe), MiddleFace))
