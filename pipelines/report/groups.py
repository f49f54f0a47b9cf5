"""Error rates by demographic group, for datasets that record age, sex or ethnicity."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from pipelines.data.records import GROUP_COLUMNS
from pipelines.evaluation.groups import SMALLEST, Differential, age_group, differentials
from pipelines.evaluation.scores import ScoreTable
from pipelines.report.cells import MISSING, Cell, Row, Table
from pipelines.report.contents import Data, Group, Study
from pipelines.report.targets import Target, numbers_of, scores_of, targets_of


def group_tables(study: Study) -> list[Table]:
    """A table per target and demographic factor that its records hold: rates of every group, and the largest gap."""
    if study.data is None:
        return []
    tables = []
    for factor in GROUP_COLUMNS:
        group_of = _groups_by_video(study.data, factor)
        if group_of:
            for target in targets_of(study, one_class=True):
                table = _table(study, target, factor, group_of)
                if table is not None:
                    tables.append(table)
    return tables


def _groups_by_video(data: Data, factor: str) -> dict[str, str]:
    """`domain/video` to the group of its person; only videos of whom the factor is recorded."""
    if factor not in data.columns:
        return {}
    values = data.columns[factor]
    videos = [f"{d}/{v}" for d, v in zip(data.columns["domain"], data.columns["video"], strict=True)]
    if factor != "age":
        return {video: value for video, value in zip(videos, values, strict=True) if value}
    ages: dict[str, list[int]] = defaultdict(list)
    for video, age in zip(videos, values, strict=True):
        if age >= 0:
            ages[video].append(age)
    return {video: age_group(round(float(np.mean(found)))) for video, found in ages.items()}


def _table(study: Study, target: Target, factor: str, group_of: dict[str, str]) -> Table | None:
    columns: list[str] = []
    found: list[Differential] = []
    for group in (*study.methods, *study.controls):
        for differential in _of_group(group, target, study.honest, factor, group_of):
            columns.append(f"{differential.measure} {group.name}")
            found.append(differential)
    if not found:
        return None
    names = sorted({rate.group for differential in found for rate in differential.rates}, key=_by_age)
    rows = [Row(name, tuple(_rate_cell(differential, name) for differential in found)) for name in names]
    rows.append(Row("largest difference", tuple(_gap_cell(differential) for differential in found)))
    return Table(f"{target.name}: by {factor}", tuple(columns), tuple(rows), _made(found, study.honest), factor)


def _of_group(
    group: Group, target: Target, rule: str, factor: str, group_of: dict[str, str]
) -> tuple[Differential, ...]:
    """Of the group's first finished seed."""
    trial = next((trial for trial in group.trials if trial.finished), None)
    numbers = numbers_of(trial, target, rule) if trial else None
    table = scores_of(trial, target, rule) if trial else None
    if numbers is None or table is None:
        return ()
    groups = _of_persons(table, np.array([group_of.get(key, "") for key in table.key.tolist()]), factor)
    return differentials(table, numbers["threshold"], groups)


def _of_persons(table: ScoreTable, groups: np.ndarray, factor: str) -> np.ndarray:
    """One group for each person: who crosses an age band between two videos stays in that of most of their videos.

    A person with two sexes or ethnicities is left to `differentials`, which refuses and names them.
    """
    if factor != "age":
        return groups
    people = np.char.add(np.char.add(table.domain, "/"), table.subject)
    one = groups.copy()
    for person in np.unique(people):
        rows = np.flatnonzero((people == person) & (groups != ""))
        names, counts = np.unique(groups[rows], return_counts=True)
        if len(names):
            one[rows] = names[counts.argmax()]
    return one


def _rate_cell(differential: Differential, name: str) -> Cell:
    rate = next((rate for rate in differential.rates if rate.group == name), None)
    if rate is None:
        return Cell(MISSING)
    few = "" if rate.enough else ", too few"
    ends = f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    return Cell(f"{100 * rate.rate:.1f}", f"{ends} {rate.videos} videos, {rate.subjects} persons{few}")


def _gap_cell(differential: Differential) -> Cell:
    gap = differential.gap
    if gap is None:
        return Cell(MISSING, "fewer than two groups are large enough")
    ratio = "" if gap.ratio is None else f", {gap.ratio:.1f} times"
    words = f"[{100 * gap.low:.1f}, {100 * gap.high:.1f}] {gap.worst} over {gap.best}{ratio}, p = {gap.p:.3g}"
    return Cell(f"{100 * gap.gap:.1f}", words, "worse" if gap.p < 0.05 else "")


def _made(found: list[Differential], rule: str) -> tuple[tuple[str, str], ...]:
    unknown = max(differential.unknown for differential in found)
    made = [
        ("Cells", "share of wrong decisions on a group's presentations in per cent, its 95 % interval, videos and"
         " persons; the intervals count persons, since videos of one are not independent"),
        ("Largest difference", "differential performance in the sense of ISO/IEC 19795-10: the rate of the worst group"
         " minus that of the best; p is the share of random deals of persons to groups with one as large"),
        ("Too few", f"groups of fewer than {SMALLEST} persons are shown and not compared"),
        ("Rules", f"{rule}; the first finished seed. APCER pools all kinds of attack here"),
    ]  # fmt: skip
    if unknown:
        made.append(("Not recorded", f"{unknown} videos are of persons of whom it is not recorded, and are left out"))
    if all(differential.measure == "BPCER" for differential in found):
        made.append(("Live faces only", "without attacks, nothing can be said of APCER by group"))
    return tuple(made)


def _by_age(name: str) -> tuple[int, str]:
    """Age groups by age, others by name."""
    head = name.split("-")[0].rstrip("+")
    return (int(head) if head.isdecimal() else 0, name)
