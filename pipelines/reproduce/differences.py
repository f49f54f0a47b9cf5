"""Differences of HTER in units of one video's worth, so that a table's last digits are read for what they are."""

from __future__ import annotations

from pipelines.reproduce.sides import Entry, MadeTable
from pipelines.reproduce.values import Ours, one_video


def between_rules(entry: Entry, unit: str) -> float | None:
    """Ours under the honest rule minus ours under the papers', in videos."""
    return in_videos(minus(entry.honest, entry.papers), entry.videos, unit) if entry.counted else None


def from_paper(entry: Entry, unit: str) -> float | None:
    """Ours under the papers' rule minus the paper's number, in videos."""
    if entry.papers.mean is None or not entry.counted:
        return None
    return in_videos(entry.papers.mean - entry.printed.value, entry.videos, unit)


def paper_gain(table: MadeTable, entry: Entry) -> float | None:
    """The paper's number minus that of its reference row, in the paper's videos."""
    reference = table.reference(entry)
    if reference is None or not entry.counted:
        return None
    return in_videos(entry.printed.value - reference.printed.value, entry.paper_videos, table.printed.unit)


def our_gain(table: MadeTable, entry: Entry) -> float | None:
    """Ours under the honest rule minus our reference row, in our videos."""
    reference = table.reference(entry)
    if reference is None or not entry.counted:
        return None
    return in_videos(minus(entry.honest, reference.honest), entry.videos, table.printed.unit)


def in_videos(difference: float | None, counts: tuple[int, int] | None, unit: str) -> float | None:
    """A difference of HTER in units of one video's worth; None where either is unknown."""
    if difference is None or counts is None:
        return None
    points = difference if unit == "per cent" else 100 * difference
    return points / one_video(counts)


def minus(one: Ours, other: Ours) -> float | None:
    """Mean over the seeds that both have of the differences; None where they share none."""
    shared = sorted(set(one.by_seed) & set(other.by_seed))
    if not shared:
        return None
    return sum(one.by_seed[seed] - other.by_seed[seed] for seed in shared) / len(shared)
