"""Error rates by demographic group, for datasets that record age, sex or ethnicity."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from pipelines.data.records import GROUP_COLUMNS
from pipelines.evaluation.groups import SMALLEST, Differential, age_group, differentials
from pipelines.evaluation.scores import ScoreTable
from pipelines.report.cells import MISSING, Cell, Row, Table, percent, span
from pipelines.report.contents import Data, Group, Study, Target, targets_of


def group_tables(study: Study) -> list[Table]:
    """Rates of every demographic group and the largest gap, a table per target and recorded factor."""
    if study.data is None:
        return []
    tables = []
    for factor in GROUP_COLUMNS:
        if group_of := _groups_by_video(study.data, factor):
            tables += [_table(study, target, factor, group_of) for target in targets_of(study, one_class=True)]
    return [table for table in tables if table is not None]


def _groups_by_video(data: Data, factor: str) -> dict[str, str]:
    """The demographic group of each `domain/video` that has a record of the factor."""
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
    for group in study.rows:
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
    """Rates of the group's first finished seed."""
    trial = group.first_finished
    numbers = trial.numbers(target.fold, rule, target.domain) if trial else None
    table = trial.test_scores(target.fold, rule, target.domain) if trial else None
    if numbers is None or table is None:
        return ()
    groups = _of_persons(table, np.array([group_of.get(key, "") for key in table.key.tolist()]), factor)
    return differentials(table, numbers["threshold"], groups)


def _of_persons(table: ScoreTable, groups: np.ndarray, factor: str) -> np.ndarray:
    """One group for each person: one whose videos fall into several age bands gets that of most of them.

    A person with two sexes or ethnicities is an error of the dataset, which `differentials` reports.
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
    return Cell(percent(rate.rate), f"{span(rate.low, rate.high)} {rate.videos} videos, {rate.subjects} persons{few}")


def _gap_cell(differential: Differential) -> Cell:
    gap = differential.gap
    if gap is None:
        return Cell(MISSING, "fewer than two groups are large enough")
    ratio = "" if gap.ratio is None else f", {gap.ratio:.1f} times"
    words = f"{span(gap.low, gap.high)} {gap.worst} over {gap.best}{ratio}, p = {gap.p:.3g}"
    return Cell(percent(gap.gap), words, "worse" if gap.p < 0.05 else "")


def _made(found: list[Differential], rule: str) -> tuple[tuple[str, str], ...]:
    unknown = max(differential.unknown for differential in found)
    made = [
        ("Cells", "error rate of a group in per cent, its 95 % interval, videos and persons; the interval counts"
         " persons, since videos of one person are not independent"),
        ("Largest difference", "differential performance (ISO/IEC 19795-10): the rate of the worst group minus that of"
         " the best; p by a permutation test over persons"),
        ("Too few", f"groups of fewer than {SMALLEST} persons are shown but not compared"),
        ("Rules", f"{rule}; the first finished seed. APCER pools all attack types here"),
    ]  # fmt: skip
    if unknown:
        made.append(("Not recorded", f"{unknown} videos of persons without a record are left out"))
    if all(differential.measure == "BPCER" for differential in found):
        made.append(("Live faces only", "without attacks there is no APCER by group"))
    return tuple(made)


def _by_age(name: str) -> tuple[int, str]:
    """Sort key: age groups by age, others by name."""
    head = name.split("-")[0].rstrip("+")
    return (int(head) if head.isdecimal() else 0, name)
