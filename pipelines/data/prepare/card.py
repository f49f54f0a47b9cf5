"""Descriptions of a prepared dataset: counts for the terminal and counts.json, README.md for people and the hub."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.data.importers.layout import VideoCount
from pipelines.data.records import LABEL_NAMES, SPLITS
from pipelines.processes import package_versions
from pipelines.templates import render_card, size_category

Columns = Mapping[str, Sequence[Any]]
_PACKAGES = ("agfas", "numpy", "pillow", "opencv-python", "av", "scipy", "datasets", "pyarrow")
_COUNTED = ("domain", "label", "attack_type", *SPLITS, "faces", "videos", "subjects")
_TEMPLATE = Path(__file__).with_name("card.md.j2")


def count_faces(columns: Columns) -> list[dict[str, Any]]:
    """Count faces by domain, label and attack type.

    Args:
        columns: `domain`, `label`, `attack_type`, `split`, `subject`, `video`, (N,) each.

    Returns:
        Sorted rows of `domain`, `label`, `attack_type`, the faces of each split, and `faces`, `videos`, `subjects`.
    """
    names = ("domain", "label", "attack_type", "split", "subject", "video")
    faces: dict[tuple, Counter] = defaultdict(Counter)
    videos: dict[tuple, set] = defaultdict(set)
    subjects: dict[tuple, set] = defaultdict(set)
    for domain, label, kind, split, subject, video in zip(*(columns[name] for name in names), strict=True):
        cell = (domain, label, kind)
        faces[cell][split] += 1
        videos[cell].add(video)
        subjects[cell].add(subject)
    return [
        {
            "domain": cell[0],
            "label": LABEL_NAMES[cell[1]],
            "attack_type": cell[2],
            **{split: faces[cell][split] for split in SPLITS},
            "faces": faces[cell].total(),
            "videos": len(videos[cell]),
            "subjects": len(subjects[cell]),
        }
        for cell in sorted(faces, key=lambda cell: (cell[0], -cell[1], cell[2]))
    ]


def cells(columns: Columns) -> dict[str, int]:
    """Faces by `domain/label/split`, as the cards of all face datasets have them."""
    rows = zip(columns["domain"], columns["label"], columns["split"], strict=True)
    counts = Counter(f"{domain}/{LABEL_NAMES[label]}/{split}" for domain, label, split in rows)
    return dict(sorted(counts.items()))


def as_text(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of `count_faces` as lines of aligned columns, numbers to the right."""
    if not rows:
        return ["(nothing)"]
    lines = [list(_COUNTED), *[[str(row[name]) for name in _COUNTED] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formats = [f"{'>' if isinstance(rows[0][n], int) else '<'}{w}" for n, w in zip(_COUNTED, widths, strict=True)]
    return ["  ".join(map(format, line, formats)).rstrip() for line in lines]


def expectation(count: VideoCount) -> str:
    """One line that compares an expected number of videos with the number found."""
    wanted = count.expected
    kind = f"{'bona fide' if wanted.label else 'attack'}{f' ({wanted.attack_type})' if wanted.attack_type else ''}"
    where = f" of {' and '.join(wanted.splits)}" if wanted.splits else ""
    note = f" [{wanted.what}]" if wanted.what else ""
    more = count.found - wanted.videos
    state = f"{count.missing} MISSING" if count.missing else f"{more} more than expected" if more else "complete"
    return f"{kind}{where}{note}: {count.found} of {wanted.videos} videos, {state}"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that read, measure and write pictures."""
    return {"python": platform.python_version(), **package_versions(_PACKAGES)}


def readme(card: dict[str, Any], rows: list[dict[str, Any]], expected: list[str], splits: list[str]) -> str:
    """The dataset card in the format of the Hugging Face hub.

    Args:
        card: content of `face_dataset.json`.
        rows: of `count_faces`.
        expected: sentences on missing videos.
        splits: sentences on the splits.
    """
    from huggingface_hub import DatasetCardData

    header = DatasetCardData(
        pretty_name=card["title"],
        license="other",
        license_name="see-below",
        task_categories=["image-classification"],
        tags=["face-anti-spoofing", "presentation-attack-detection", "face"],
        size_categories=[size_category(card["faces"])],
        configs=[{"config_name": "default", "data_files": "data-*.arrow"}],
    )
    settings = {**card["recipe"], **{name: value for name, value in card["models"].items() if value}}
    return render_card(
        _TEMPLATE,
        header,
        card=card,
        columns=_COUNTED,
        counts=[[row[name] for name in _COUNTED] for row in rows],
        expected=expected,
        splits=splits,
        settings=[[name, _shown(value)] for name, value in settings.items()],
    )


def _shown(value: Any) -> str:
    return "off" if value is None or value is False or value == {} else f"`{value}`"
