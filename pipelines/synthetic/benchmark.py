"""The built-in benchmark: its list of videos, and their frames written as a face dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.intact import write_sums
from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import (
    ATTACK,
    BONAFIDE,
    CARD_NAME,
    COLUMNS,
    NO_ATTACK,
    face_features,
    face_key,
)
from pipelines.fingerprint import fingerprint
from pipelines.streams import stream
from pipelines.synthetic.domains import PAD_DOMAINS
from pipelines.synthetic.drawing import Drawing, Record, counted, draw, encoded
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.synthetic.videos import VideoPlan, shoot

# Raise it with every change of a picture's bytes, so that fingerprints of artefacts made from them change too.
GENERATOR_VERSION = 1
# Videos drawn and written at once, which is what a kill can cost each process.
_VIDEOS_A_BLOCK = 16


def benchmark_fingerprint(settings: SyntheticSettings) -> str:
    """Fingerprint of everything that decides the bytes of a benchmark: its settings and `GENERATOR_VERSION`."""
    return fingerprint({"generator": GENERATOR_VERSION, "settings": settings.model_dump(mode="json")})


def plan_videos(settings: SyntheticSettings) -> list[VideoPlan]:
    """Every video of the benchmark in the order of the dataset: the domains, then the corpus."""
    videos: list[VideoPlan] = []
    for domain in settings.domains:
        subjects = [f"{domain}{number:03d}" for number in range(settings.subjects)]
        splits = _splits(settings.seed, domain, subjects, (0.6, 0.2))
        for subject in subjects:
            videos += _subject_videos(settings, domain, subject, splits[subject])
    people = [f"{CORPUS}{number:04d}" for number in range(settings.corpus_subjects)]
    splits = _splits(settings.seed, CORPUS, people, (0.9, 0.1))
    for subject in people:
        names = (f"{subject}-live-{number}" for number in range(settings.corpus_images))
        videos += [VideoPlan(CORPUS, subject, name, NO_ATTACK, splits[subject], 1) for name in names]
    return videos


def _splits(seed: int, domain: str, subjects: list[str], shares: tuple[float, float]) -> dict[str, str]:
    """The split of every subject, at random: `shares` are for train and dev, test takes the rest."""
    order = stream(seed, domain, "splits").permutation(len(subjects))
    train = round(shares[0] * len(subjects))
    dev = train + round(shares[1] * len(subjects))
    names = ["train" if rank < train else "dev" if rank < dev else "test" for rank in range(len(subjects))]
    return {subjects[index]: names[rank] for rank, index in enumerate(order)}


def _subject_videos(settings: SyntheticSettings, domain: str, subject: str, split: str) -> Iterator[VideoPlan]:
    for number in range(settings.live_videos):
        yield VideoPlan(domain, subject, f"{subject}-live-{number}", NO_ATTACK, split, settings.frames)
    mix = PAD_DOMAINS[domain].mix
    rng = stream(settings.seed, domain, subject, "attack kinds")
    kinds = rng.choice(list(mix), size=settings.attack_videos, p=list(mix.values()))
    for number, kind in enumerate(kinds):
        yield VideoPlan(domain, subject, f"{subject}-{kind}-{number}", str(kind), split, settings.frames)


def render_faces(videos: Iterable[VideoPlan], seed: int, size: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Render videos in memory.

    Args:
        videos: of `plan_videos`.
        seed: of the benchmark.
        size: side of the crops in pixels.

    Returns:
        (n, size, size, 3) uint8 RGB, and per face the columns of a face dataset except `image`.
    """
    pictures, records = [], []
    for video in videos:
        frames, landmarks = shoot(video, seed, size)
        pictures.append(frames)
        records += [_record(video, frame, points) for frame, points in enumerate(landmarks)]
    return np.concatenate(pictures), records


def _record(video: VideoPlan, frame: int, landmarks: np.ndarray) -> dict[str, Any]:
    return {
        "key": face_key(video.domain, video.subject, video.name, frame),
        "label": BONAFIDE if video.attack_type == NO_ATTACK else ATTACK,
        "attack_type": video.attack_type,
        "domain": video.domain,
        "subject": video.subject,
        "video": video.name,
        "frame": frame,
        "split": video.split,
        "landmarks": landmarks.tolist(),
    }


class _Benchmark(Drawing):
    kind, what = "synthetic", "benchmark"

    def __init__(self, settings: SyntheticSettings, out: Path) -> None:
        self.settings, self.out, self.identity = settings, out, benchmark_fingerprint(settings)
        videos = plan_videos(settings)
        self._parts = [videos[start : start + _VIDEOS_A_BLOCK] for start in range(0, len(videos), _VIDEOS_A_BLOCK)]

    def faces(self) -> list[int]:
        return [sum(video.frames for video in part) for part in self._parts]

    def block(self, number: int) -> list[Record]:
        pictures, records = render_faces(self._parts[number], self.settings.seed, self.settings.size)
        for picture, record in zip(pictures, records, strict=True):
            record["image"] = encoded(picture)
        return records

    def write(self, blocks: Iterator[list[Record]], folder: Path) -> None:
        from datasets import Dataset

        records = [record for block in blocks for record in block]
        columns = {name: [record[name] for record in records] for name in COLUMNS}
        Dataset.from_dict(columns, features=face_features()).save_to_disk(str(folder))
        (folder / CARD_NAME).write_text(json.dumps(_card(self.settings, records), indent=2), encoding="utf-8")
        write_sums(folder)


def build(settings: SyntheticSettings, out: Path, workers: int | None = None) -> Path:
    """Write the benchmark as a face dataset; a complete one of the same settings is kept, an unfinished one resumed.

    Args:
        settings: what to make.
        out: folder of the dataset; exists only when complete.
        workers: as of `draw`.

    Returns:
        `out`.

    Raises:
        AgfasError: `out` holds something else.
    """
    return draw(_Benchmark(settings, out), workers)


def _card(settings: SyntheticSettings, records: list[Record]) -> dict[str, Any]:
    return {
        "fingerprint": benchmark_fingerprint(settings),
        "kind": _Benchmark.kind,
        "generator_version": GENERATOR_VERSION,
        "settings": settings.model_dump(mode="json"),
        "faces": len(records),
        "counts": counted(records),
    }
