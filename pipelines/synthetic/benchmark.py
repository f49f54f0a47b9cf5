"""The built-in benchmark: its list of videos, and their frames written as a face dataset."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import feather

from pipelines.blocks import Blocks, Job, share
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
    read_card,
)
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.processes import stand_alone, threads
from pipelines.streams import stream
from pipelines.sums import Damaged
from pipelines.synthetic.domains import PAD_DOMAINS
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.synthetic.videos import VideoPlan, shoot

# Raise it with every change of a picture's bytes, so that fingerprints of artefacts made from them change too.
GENERATOR_VERSION = 1
# With fewer faces, starting processes takes longer than it saves.
_FACES_WORTH_HELPERS = 1500
# Drawing processes at most, by default.
_MOST_WORKERS = 8
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


def _draw(settings: SyntheticSettings, out: Path, shown: bool) -> None:
    """Draw the blocks of videos that no other process draws; the last to finish puts the dataset together."""
    videos = plan_videos(settings)
    parts = [videos[start : start + _VIDEOS_A_BLOCK] for start in range(0, len(videos), _VIDEOS_A_BLOCK)]
    blocks = Blocks(out, len(parts), benchmark_fingerprint(settings))

    def make(block: int) -> None:
        _store(_encoded(parts[block], settings), _part(blocks, block))

    def finish() -> None:
        records = [record for block in range(len(parts)) for record in _stored(_part(blocks, block))]
        write_atomically(out, lambda folder: _write(records, folder, _card(settings, records)))

    share([Job(blocks, make, finish, sum(video.frames for video in videos))], "Rendering faces", "face", shown)


def _encoded(videos: list[VideoPlan], settings: SyntheticSettings) -> list[dict[str, Any]]:
    """The records of some videos, pictures as PNG bytes."""
    pictures, records = render_faces(videos, settings.seed, settings.size)
    for picture, record in zip(pictures, records, strict=True):
        stored = io.BytesIO()
        Image.fromarray(picture).save(stored, "PNG", compress_level=4)
        record["image"] = {"bytes": stored.getvalue(), "path": None}
    return records


def _part(blocks: Blocks, block: int) -> Path:
    return blocks.folder / f"{block:05d}.arrow"


def _store(records: list[dict[str, Any]], part: Path) -> None:
    table = pa.Table.from_pylist(records)
    write_atomically(part, lambda path: feather.write_feather(table, path, compression="uncompressed"))
    write_text(part.with_suffix(".sha256"), file_sha256(part))


def _stored(part: Path) -> list[dict[str, Any]]:
    whole = part.with_suffix(".sha256")
    if whole.is_file() and whole.read_bytes() != file_sha256(part).encode():  # earlier versions wrote none
        raise Damaged(part, f"Remove {part.parent} and run the command again.")
    return list(feather.read_table(part, memory_map=False).to_pylist())


def build(settings: SyntheticSettings, out: Path, workers: int | None = None) -> Path:
    """Write the benchmark as a face dataset; a complete one of the same settings is kept, an unfinished one resumed.

    Every process that calls it draws its share.

    Args:
        settings: what to make.
        out: folder of the dataset; exists only when complete.
        workers: drawing processes; default: one per core of this process, 8 at most. The bytes do not depend on it.
            With more than one, a script that calls this needs `if __name__ == "__main__":`.

    Returns:
        `out`.

    Raises:
        AgfasError: `out` holds something else.
    """
    if _finished(out, benchmark_fingerprint(settings)):
        return out
    with suppress(OSError):
        out.rmdir()  # an empty folder; what a process beside this one has finished stays
    faces = sum(video.frames for video in plan_videos(settings))
    helpers = 0 if faces < _FACES_WORTH_HELPERS else (workers or min(threads(), _MOST_WORKERS)) - 1
    # Spawned rather than forked: a fork after PyTorch has started its threads may hang.
    with ProcessPoolExecutor(max(1, helpers), get_context("spawn"), stand_alone) as pool:
        begun = [pool.submit(_draw, settings, out, False) for _ in range(helpers)]
        try:
            _draw(settings, out, True)
        except BaseException:
            for helper in active_children():
                helper.terminate()
            raise
        for one in begun:
            one.result()
    return out


def _finished(out: Path, identity: str) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / CARD_NAME).is_file():
        raise AgfasError(f"{out} exists and is not a benchmark. Give another folder, or remove this one.")
    found = read_card(out).get("fingerprint")
    if found != identity:
        raise AgfasError(
            f"{out} holds a benchmark of other settings (fingerprint {found}, these give {identity}). "
            "Give another folder, remove this one, or use the settings in its card."
        )
    return True


def _write(records: list[dict[str, Any]], folder: Path, card: dict[str, Any]) -> None:
    from datasets import Dataset

    columns = {name: [record[name] for record in records] for name in COLUMNS}
    Dataset.from_dict(columns, features=face_features()).save_to_disk(str(folder))
    (folder / CARD_NAME).write_text(json.dumps(card, indent=2), encoding="utf-8")
    write_sums(folder)


def _card(settings: SyntheticSettings, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "fingerprint": benchmark_fingerprint(settings),
        "kind": "synthetic",
        "generator_version": GENERATOR_VERSION,
        "settings": settings.model_dump(mode="json"),
        "faces": len(records),
        "counts": _counts(records),
    }


def _counts(records: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    """Number of faces by domain, attack type and split."""
    counter = Counter((record["domain"], record["attack_type"], record["split"]) for record in records)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (domain, kind, split), number in sorted(counter.items()):
        counts.setdefault(domain, {}).setdefault(kind, {})[split] = number
    return counts
