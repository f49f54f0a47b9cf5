"""What there is, by domain, label, attack type and split, and what there should be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.data.importers.layout import Count
from pipelines.data.records import LABEL_NAMES, SPLITS

Columns = Mapping[str, Sequence[Any]]
_WORDS = {0: "attack", 1: "bona fide"}
_COLUMNS = ("domain", "label", "attack_type", *SPLITS, "faces", "videos", "subjects")


def count_faces(columns: Columns) -> list[dict[str, Any]]:
    """One row for every domain, label and attack type that there is, in that order.

    Args:
        columns: `domain`, `label`, `attack_type`, `split`, `subject`, `video`, (N,) each.

    Returns:
        Rows of `domain`, `label`, `attack_type`, the faces of each split, and `faces`, `videos`, `subjects`.
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
    """Faces by `domain/label/split`, as the cards of all face datasets have it."""
    rows = zip(columns["domain"], columns["label"], columns["split"], strict=True)
    counts = Counter(f"{domain}/{LABEL_NAMES[label]}/{split}" for domain, label, split in rows)
    return dict(sorted(counts.items()))


def as_text(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of `count_faces` as lines of aligned columns, numbers to the right."""
    if not rows:
        return ["(nothing)"]
    rows = [{name: row[name] for name in _COLUMNS} for row in rows]  # JSON sorts them
    cells_ = [list(rows[0]), *[[str(value) for value in row.values()] for row in rows]]
    widths = [max(len(line[place]) for line in cells_) for place in range(len(cells_[0]))]
    right = [isinstance(value, int) for value in rows[0].values()]
    return [
        "  ".join(
            text.rjust(width) if end else text.ljust(width)
            for text, width, end in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells_
    ]


def as_markdown(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of equal keys as a Markdown table."""
    if not rows:
        return ["(nothing)"]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[[str(value) for value in row.values()] for row in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def expectation(count: Count) -> str:
    """An expected number of videos and what there is, in words."""
    wanted = count.expected
    kind = f"{_WORDS[wanted.label]}{f' ({wanted.attack_type})' if wanted.attack_type else ''}"
    where = f" of {' and '.join(wanted.splits)}" if wanted.splits else ""
    note = f" [{wanted.what}]" if wanted.what else ""
    more = count.found - wanted.videos
    state = f"{count.missing} MISSING" if count.missing else f"{more} more than expected" if more else "complete"
    return f"{kind}{where}{note}: {count.found} of {wanted.videos} videos, {state}"


def expectations_as_json(counts: list[Count]) -> list[dict[str, Any]]:
    """For `counts.json`."""
    return [
        {
            "label": LABEL_NAMES[count.expected.label],
            "attack_type": count.expected.attack_type,
            "splits": list(count.expected.splits),
            "what": count.expected.what,
            "expected": count.expected.videos,
            "found": count.found,
            "missing": count.missing,
        }
        for count in counts
    ]
