"""One source through the worker of `agfas prepare`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from prepare_stubs import SquareDetector

from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.cutter import Cutter
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.worker import Worker


def source_of(path: Path, video: str = "v") -> SourceFace:
    return SourceFace(path, "d", "none", "s", video, 3, "train")


def process(path: Path, face: SourceFace | None = None, root: Path | None = None, **recipe) -> list:
    cutter = Cutter.load(PrepareRecipe(size=64, **recipe), SquareDetector)
    worker = Worker(cutter, root or path.parent, path.parent)
    return list(worker.process(face or source_of(path)))


def stored(record: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record["image"])))
