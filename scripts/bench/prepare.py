"""Pictures a second from files to a face dataset, by stage and as a whole job.

The pictures are JPEG files of 640 x 480 pixels, each with a drawn face of the built-in benchmark on a smooth ground.
How many of these a detector finds says nothing about photographs. Its time depends on the picture only in that it
searches turned copies when it is not sure, so the table gives how often.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipelines.data.detection import load_detector
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.cutter import Cutter, DetectorFactory
from pipelines.data.prepare.dataset import write_records
from pipelines.data.prepare.job import FACES_A_TASK, open_job, run_job
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import find_sources, read_still
from pipelines.data.prepare.worker import Place, record
from pipelines.data.records import load_faces
from pipelines.errors import AgfasError
from pipelines.files import write_atomically
from pipelines.progress import hide_bars
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from scripts.bench.turns import in_turns

_WIDTH, _HEIGHT, _FACE = 640, 480, 224
_STAGES = "stages together"
# YuNet's `sure`: below this score, turned copies are searched as well.
_SURE = 0.9


def prepare_benchmark(weights: Path | None = None, count: int = 256, repeats: int = 3) -> list[dict[str, Any]]:
    """Time the stages in one process, and whole jobs by one process and by two, in turns.

    Args:
        weights: YuNet's ONNX file.
        count: pictures, each of another face.
        repeats: turns of each contender.

    Returns:
        A row per stage and per contender: pictures a second, milliseconds per picture of wall-clock and of processor
        time, faces found and pictures refused. A job's time runs from its sources to the finished folder and includes
        the start of its processes. `equal`: all contenders made the same crops, byte for byte, and both jobs the same
        dataset.

    Raises:
        AgfasError: no weights, or others than YuNet's.
    """
    if weights is None:
        raise AgfasError("The benchmark `prepare` needs YuNet's ONNX file: name it with --weights yunet.onnx.")
    return benchmark_with(partial(load_detector, "yunet", weights), count, repeats)


def benchmark_with(make_detector: DetectorFactory, count: int, repeats: int) -> list[dict[str, Any]]:
    """`prepare_benchmark` with any detector; `make_detector` must be picklable."""
    make_detector()  # says what is wrong with its weights before anything is drawn
    hide_bars()
    with tempfile.TemporaryDirectory() as name:
        race = _Race(Path(name), make_detector, count)
        draw_pictures(race.pictures, count)
        contenders: list[Callable[[], None]] = [race.run_stages, partial(race.run_job, 1), partial(race.run_job, 2)]
        for contender in in_turns(contenders, repeats):
            contender()
        return race.rows()


def draw_pictures(folder: Path, count: int, size: tuple[int, int] = (_WIDTH, _HEIGHT), face: int = _FACE) -> None:
    """Write `count` JPEG files of `size` (width, height) with one drawn face each, live or attacked, anywhere on it."""
    folder.mkdir(parents=True)
    settings = SyntheticSettings(size=face, subjects=max(5, -(-count // 24)), frames=1, corpus_subjects=0)
    rng = np.random.default_rng(0)
    for place, video in enumerate(plan_videos(settings)[:count]):
        ground = cv2.resize(rng.integers(40, 216, (6, 8, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
        left, top = (int(rng.integers(side - face + 1)) for side in size)
        ground[top : top + face, left : left + face] = render_faces([video], settings.seed, face)[0][0]
        Image.fromarray(ground).save(folder / f"{place:05d}.jpg", quality=90)


class _Stopwatch:
    """Seconds on the clock and of the processor, children that have ended included, by name and turn.

    Attributes:
        turns: by name, of each turn (clock, processor).
    """

    def __init__(self) -> None:
        self.turns: dict[str, list[np.ndarray]] = {}
        self._turn: dict[str, np.ndarray] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add what the body takes to `name` in this turn."""
        start = _now()
        yield
        self._turn[name] = self._turn.get(name, 0) + _now() - start

    def end_turn(self, whole: str = "") -> None:
        """Put the turn away, and under `whole` the sum of its parts."""
        if whole:
            self._turn[whole] = sum(self._turn.values(), np.zeros(2))
        for name, spent in self._turn.items():
            self.turns.setdefault(name, []).append(spent)
        self._turn = {}


def _now() -> np.ndarray:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)])


@dataclass(frozen=True)
class _Made:
    """What a contender has made: digests of its crops and of its dataset (the stages write none), and how many."""

    crops: str
    dataset: str
    faces: int
    refused: int


class _Race:
    """The contenders, their times, and what they have made in their last turn.

    Args:
        root: a folder for the pictures, and for each dataset as long as it is looked at.
        make_detector: in every process.
        count: of pictures.
    """

    def __init__(self, root: Path, make_detector: DetectorFactory, count: int) -> None:
        self.root, self.make_detector, self.count = root, make_detector, count
        self.pictures = root / "pictures"
        self.watch = _Stopwatch()
        self.made: dict[str, _Made] = {}
        self.unsure = 0

    def run_job(self, workers: int) -> None:
        """The job as `agfas prepare` runs it."""
        recipe, out, name = _recipe(workers), self.root / "out", f"job, {workers} process{'es' * (workers > 1)}"
        with self.watch.time(name):
            sources = find_sources(self.pictures, recipe)
            card = run_job(open_job(self.pictures, out, recipe, sources, self.make_detector))
        self.watch.end_turn()
        table = load_faces(out).data.select(["source", "image"]).to_pylist()
        crops = {row["source"]: row["image"]["bytes"] for row in table}
        self.made[name] = _Made(_digest(crops), card["fingerprint"], card["faces"], card["refused_faces"])
        shutil.rmtree(out)

    def run_stages(self) -> None:
        """A worker's work without a pool, one stage after the other over the pictures of each task."""
        recipe = _recipe(1)
        sources, cutter = find_sources(self.pictures, recipe), Cutter.load(recipe, self.make_detector)
        threads, self.unsure = cv2.getNumThreads(), 0
        cv2.setNumThreads(1)  # as in a worker
        crops: dict[str, bytes] = {}
        for start in range(0, self.count, FACES_A_TASK):
            task = slice(start, start + FACES_A_TASK)
            crops |= self._run_task(cutter, sources.faces[task], sources.names[task])
        cv2.setNumThreads(threads)
        self.watch.end_turn(_STAGES)
        self.made[_STAGES] = _Made(_digest(crops), "", len(crops), self.count - len(crops))

    def _run_task(self, cutter: Cutter, faces: list[SourceFace], names: list[str]) -> dict[str, bytes]:
        time_of = self.watch.time
        with time_of("decode"):
            pictures = [read_still(face, self.pictures, self.root).pixels for face in faces]
        with time_of("detect"):
            found = [cutter.find(picture) for picture in pictures]
        seen = [(*parts[:3], parts[3][0]) for parts in zip(faces, names, pictures, found, strict=True) if parts[3]]
        with time_of("align, measure"):
            crops = [cutter.cut(picture, one) for _, _, picture, one in seen]
        with time_of("encode"):
            records = [record(*seen[place][:2], Place(0, -1, 0), crop, "benchmark") for place, crop in enumerate(crops)]
        with time_of("write"):
            write_atomically(self.root / "task.arrow", lambda path: write_records(path, records))
        self.unsure += sum(not one or one[0].score < _SURE for one in found)
        return {row["source"]: row["image"] for row in records}

    def rows(self) -> list[dict[str, Any]]:
        """See `prepare_benchmark`."""
        equal = len({one.crops for one in self.made.values()}) == 1
        equal &= len({one.dataset for one in self.made.values() if one.dataset}) == 1
        return [self._row(name, turns, equal) for name, turns in self.watch.turns.items()]

    def _row(self, name: str, turns: list[np.ndarray], equal: bool) -> dict[str, Any]:
        clock, processor = (statistics.median(float(turn[place]) for turn in turns) for place in (0, 1))
        made = self.made.get(name)
        counted = {"faces": made.faces, "refused": made.refused, "equal": equal} if made else {}
        return {
            "benchmark": "prepare",
            "contender": name,
            "pictures_per_second": round(self.count / clock, 1),
            "clock_ms": round(1000 * clock / self.count, 2),
            "processor_ms": round(1000 * processor / self.count, 2),
            "pictures": self.count,
            "looked_again": self.unsure,
            **counted,
            "repeats": len(turns),
        }


def _recipe(workers: int) -> PrepareRecipe:
    return PrepareRecipe(importer="live", domain="benchmark", workers=workers, max_refused=1)


def _digest(crops: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for source, data in sorted(crops.items()):
        digest.update(f"{source} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()
