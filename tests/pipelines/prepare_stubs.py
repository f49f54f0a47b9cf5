"""Faces that a stub detector finds: red squares on a smooth ground, with landmarks where a face's would be.

The detector is a class of this module, so that a spawned process can make one.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from pipelines.data.detection import DetectedFace
from pipelines.data.prepare.dataset import TaskFiles, TaskRecords, write_records
from pipelines.errors import AgfasError

FACE = (230, 30, 30)
DEADLY = (30, 30, 230)
FAULTY = (30, 230, 230)
SMALL = {"size": 32, "workers": 1}


class SquareDetector:
    """Finds red squares; blue pictures kill the process, cyan ones raise what no one foresees."""

    name = "squares"

    def fingerprint(self) -> dict:
        return {"detector": self.name}

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        corner = picture[:4, :4].reshape(-1, 3).mean(axis=0)
        if np.abs(corner - DEADLY).max() < 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if np.abs(corner - FAULTY).max() < 20:
            raise ValueError("a matrix\nof the wrong shape")
        red = ((picture[..., 0] > 170) & (picture[..., 1] < 100) & (picture[..., 2] < 100)).astype(np.uint8)
        boxes = cv2.connectedComponentsWithStats(red)[2][1:]
        return sorted((face_at(*box[:4]) for box in boxes if box[4] > 60), key=lambda face: -face.area)


class BrokenDetector:
    """Weights that are not there."""

    def __init__(self) -> None:
        raise AgfasError("No weights at nowhere.onnx.")


class StoppingDetector(SquareDetector):
    """Stops once two tasks are finished, until the process that started this one is dead."""

    def __init__(self, out: Path) -> None:
        self.out, self.parent = out, os.getppid()

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        while len(markers(self.out)) >= 2 and os.getppid() == self.parent:
            time.sleep(0.01)
        return super().__call__(picture)


def markers(out: Path) -> list[Path]:
    """Of the finished tasks of an unfinished job."""
    return sorted(out.glob(".work/*/tasks/*.json"))


def face_at(left: int, top: int, width: int, height: int) -> DetectedFace:
    points = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
    landmarks = (points * (width, height) + (left, top)).astype(np.float32)
    return DetectedFace(np.array([left, top, width, height], np.float32), landmarks, 0.5 + min(width, 100) / 250)


def scene(*faces: tuple[int, int, int], seed: int = 0, size: tuple[int, int] = (160, 160), corner=None) -> np.ndarray:
    """(H, W, 3) uint8: a ground by `seed` with red squares at (left, top, side), each with a pattern by `seed`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 160, (6, 8, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    for left, top, side in faces:
        pattern = cv2.resize(rng.integers(0, 60, (5, 5), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
        square = np.clip(
            np.array(FACE) - [[[1, 0, 0]]] * pattern[..., None] * 0.8 + [[[0, 1, 1]]] * pattern[..., None], 0, 255
        )
        ground[top : top + side, left : left + side] = square
    if corner is not None:
        ground[:8, :8] = corner
    return ground


def save(path: Path, picture: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)
    return path


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def save_video(path: Path, frames: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt, track.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(track.encode())
    return path


def people(folder: Path, subjects: int = 6, pictures: int = 2) -> Path:
    """A `folder` source: every subject live and attacked, all pictures different."""
    for subject in range(subjects):
        for place, label in enumerate(("bonafide", "attack")):
            for number in range(pictures):
                seed = 100 * subject + 10 * place + number
                save(folder / label / f"s{subject}" / f"{number}.png", scene((40, 20, 70), seed=seed))
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(folder: Path) -> list[dict[str, str]]:
    with (folder / "refused.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def record(number: int, **other) -> dict:
    """A face of a task, of numbers that floats hold exactly."""
    points = [[float(number), 0.5 * place] for place in range(5)]
    return {
        **{"key": f"d/s/v/{number:03d}", "image": b"image%d" % number, "label": number % 2, "attack_type": "none"},
        **{"domain": "d", "subject": "s", "video": "v", "frame": number, "split": "train", "landmarks": points},
        **{
            "source": f"{number}.png",
            "source_frame": -1,
            "frame_rule": "",
            "picture": None,
            "box": [1.0, 2.0, 3.0, 4.0],
        },
        **{"points": points, "detector": "squares", "detector_score": 0.5, "pose": [1.0, 2.0, 3.0], "quality": 0.25},
        **{"mask": None, "age": -1, "sex": "", "ethnicity": "", "subject_known": True, "hash": 2**63 + number},
        **{"thumbnail": bytes([number]) * 256, **other},
    }


def finished(folder: Path, *tasks: list[dict], **lists) -> TaskRecords:
    """Finished tasks of a job, with their refusals and notes."""
    files = TaskFiles(folder)
    files.make_folders()
    for number, records in enumerate(tasks):
        write_records(files.records(number), records)
        files.finish(number, {"refused": [], "noted": [], **lists})
    return TaskRecords(files, len(tasks))


def prepare_until_killed(source: str, out: str) -> None:
    """What a process does that is going to be killed: small tasks, of which it finishes some."""
    from pipelines.data.prepare import job
    from pipelines.data.prepare.settings import PrepareRecipe
    from pipelines.stages.prepare import run

    job.FACES_A_TASK = 4
    run(
        Path(source),
        Path(out),
        PrepareRecipe(size=32, workers=2, max_refused=1, keep_picture=True),
        partial(StoppingDetector, Path(out)),
    )


if __name__ == "__main__":
    prepare_until_killed(*sys.argv[1:])
