"""Folds that test several domains, told for each: tables, and heat maps of who was trained on what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.data.protocols import protocol_folds
from pipelines.report.cells import MISSING, Cell, Row, Table
from pipelines.report.contents import Group, Study
from pipelines.report.heatmap import HeatMap
from pipelines.report.made import how_made
from pipelines.report.targets import Target, numbers_of, targets_of, values_of

_METRICS = (("HTER", "hter"), ("AUC", "auc"), ("APCER", "apcer"), ("BPCER", "bpcer"), ("ACER", "acer"))


def domain_tables(study: Study) -> list[Table]:
    """A table per fold that tests several domains: a row for every group and domain, under the honest rules."""
    tables = []
    for fold in study.folds:
        targets = [t for t in targets_of(study, one_class=True) if t.fold == fold and t.domain]
        rows = [_row(study, group, target) for target in targets for group in _ordered(study)]
        if rows:
            made = [
                pair for pair in how_made(study, study.honest) if pair[0] not in ("Intervals", "Its origin", "Videos")
            ]
            made.append(("Domains", f"each is judged as if it were the only target: {_counts(study, targets)}"))
            columns = tuple(name for name, _ in _METRICS)
            tables.append(Table(f"{fold}: by tested domain", columns, tuple(rows), tuple(made), "tested on, by"))
    return tables


def matrix_figures(study: Study) -> list[tuple[str, str]]:
    """(name, SVG) of heat maps of HTER: trained on by tested on for each group, or groups by tested domain."""
    targets = [target for target in targets_of(study) if target.domain]
    folds = [fold for fold in study.folds if any(target.fold == fold for target in targets)]
    columns = sorted({target.domain for target in targets})
    if not targets:
        return []
    if len(folds) == 1:
        groups = [group for group in _ordered(study) if group.finished]
        values = [[_mean(group, Target(folds[0], name), study.honest) for name in columns] for group in groups]
        names = [group.name for group in groups]
        return [("", HeatMap(f"HTER (%), {folds[0]}", names, columns, values, (), "tested on", "").svg())]
    sources = _sources(study)
    names = [", ".join(sources.get(fold, (fold,))) for fold in folds]
    figures = []
    for group in _ordered(study):
        values = [[_mean(group, Target(fold, name), study.honest) for name in columns] for fold in folds]
        within = [
            (row, columns.index(name))
            for row, fold in enumerate(folds)
            for name in sources.get(fold, ())
            if name in columns
        ]
        if any(value is not None for row in values for value in row):
            chart = HeatMap(f"HTER (%), {group.name}", names, columns, values, within, "tested on", "trained on")
            figures.append((group.name, chart.svg()))
    return figures


def within_and_across(study: Study) -> Table | None:
    """Mean HTER within the trained domains and across to others; None where a study has not both."""
    sources = _sources(study)
    targets = [target for target in targets_of(study) if target.domain]
    within = [target for target in targets if target.domain in sources.get(target.fold, ())]
    across = [target for target in targets if target not in within]
    if not within or not across:
        return None
    rows = []
    for group in _ordered(study):
        means = [_over(group, part, study.honest) for part in (within, across)]
        loss = [other - one for one, other in zip(*means, strict=True)]
        rows.append(Row(group.name, tuple(_cell(v) for v in (*means, loss)), _note(group), group.number))
    made = (
        ("Within", f"mean over {len(within)} tests on held-out `test` records of a domain that was learnt from"),
        ("Across", f"mean over {len(across)} tests on all records of a domain that was not"),
        ("Rules", study.honest),
    )
    return Table("HTER within and across domains", ("within", "across", "lost by crossing"), tuple(rows), made)


def _row(study: Study, group: Group, target: Target) -> Row:
    cells = [_cell(list(values_of(group, target, study.honest, metric).values())) for _, metric in _METRICS]
    return Row(f"{target.domain}, {group.name}", tuple(cells), _note(group), group.number)


def _cell(values: Sequence[float]) -> Cell:
    if not len(values):
        return Cell(MISSING)
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return Cell(f"{100 * np.mean(values) + 0.0:.1f}{spread}")


def _mean(group: Group, target: Target, rule: str) -> float | None:
    values = list(values_of(group, target, rule, "hter").values())
    return float(np.mean(values)) if values else None


def _over(group: Group, targets: Sequence[Target], rule: str) -> list[float]:
    """Mean HTER over targets by seed, of the seeds that have all of them."""
    found = [values_of(group, target, rule, "hter") for target in targets]
    seeds = sorted(set.intersection(*(set(values) for values in found)))
    return [float(np.mean([values[seed] for values in found])) for seed in seeds]


def _sources(study: Study) -> dict[str, tuple[str, ...]]:
    if study.data is None:
        return {}
    protocol = study.trials[0].planned.experiment.protocol
    return {fold.name: fold.train_domains for fold in protocol_folds(protocol, study.data.columns)}


def _counts(study: Study, targets: Sequence[Target]) -> str:
    counts = []
    for target in targets:
        judged = next((found for t in study.trials if (found := t.domains(target.fold).get(target.domain))), None)
        if judged:
            counts.append(f"{target.domain} {judged['videos']['bonafide']} live, {judged['videos']['attack']} attacks")
    single = [
        t.domain for t in targets if all("apcer" not in (numbers_of(x, t, study.honest) or {}) for x in study.trials)
    ]
    lacking = f". {', '.join(single)} lacks one class, so it has one error rate only" if single else ""
    return "; ".join(counts) + lacking


def _ordered(study: Study) -> list[Group]:
    return [*study.methods, *study.controls]


def _note(group: Group) -> str:
    return "control" if group.is_control else ""
