"""Folds that test several domains, by domain: tables, and heat maps of tested over trained domains."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.data.protocols import protocol_folds
from pipelines.report.cells import Row, Table, rate_cell
from pipelines.report.charts import HeatMap
from pipelines.report.contents import Group, Study, Target, class_counts, mean_of, means_by_seed, targets_of, values_of
from pipelines.report.tables import how_made

_METRICS = (("HTER", "hter"), ("AUC", "auc"), ("APCER", "apcer"), ("BPCER", "bpcer"), ("ACER", "acer"))


def domain_tables(study: Study) -> list[Table]:
    """A table per fold that tests several domains, a row for every group and domain, under the honest rules."""
    tables = []
    for fold in study.folds:
        targets = [t for t in targets_of(study, one_class=True) if t.fold == fold and t.domain]
        rows = [_row(study, group, target) for target in targets for group in study.rows]
        if rows:
            made = [pair for pair in how_made(study, study.honest) if pair[0] not in ("Intervals", "Origin", "Videos")]
            made.append(("Domains", f"each is judged as if it were the only target: {_counts(study, targets)}"))
            columns = tuple(name for name, _ in _METRICS)
            tables.append(Table(f"{fold}: by tested domain", columns, tuple(rows), tuple(made), "tested on, by"))
    return tables


def matrix_figures(study: Study) -> list[tuple[str, str]]:
    """(name, SVG) of heat maps of HTER: trained by tested domain for each group, or groups by tested domain."""
    targets = [target for target in targets_of(study) if target.domain]
    folds = [fold for fold in study.folds if any(target.fold == fold for target in targets)]
    domains = sorted({target.domain for target in targets})
    groups = [group for group in study.rows if group.finished]

    def hters(group: Group, fold: str) -> list[float | None]:
        return [mean_of(group, [Target(fold, domain)], study.honest, "hter") for domain in domains]

    if len(folds) == 1:
        values, names = [hters(group, folds[0]) for group in groups], [group.name for group in groups]
        return [("", HeatMap(f"HTER (%), {folds[0]}", names, domains, values, (), "tested on", "").svg())]
    sources = _sources(study)
    names = [", ".join(sources.get(fold, (fold,))) for fold in folds]
    within = [(row, domains.index(name)) for row, fold in enumerate(folds) for name in sources.get(fold, ())
              if name in domains]  # fmt: skip
    figures = []
    for group in groups if folds else []:
        values = [hters(group, fold) for fold in folds]
        chart = HeatMap(f"HTER (%), {group.name}", names, domains, values, within, "tested on", "trained on")
        figures.append((group.name, chart.svg()))
    return figures


def within_and_across(study: Study) -> Table | None:
    """Mean HTER within the trained domains and across to others; None if a study lacks one of both."""
    sources = _sources(study)
    targets = [target for target in targets_of(study) if target.domain]
    within = [target for target in targets if target.domain in sources.get(target.fold, ())]
    across = [target for target in targets if target not in within]
    if not within or not across:
        return None
    rows = []
    for group in study.rows:
        inside, outside = (
            [hter for (hter,) in means_by_seed(group, part, study.honest, ["hter"])] for part in (within, across)
        )
        lost = [other - one for one, other in zip(inside, outside, strict=True)]
        cells = tuple(rate_cell(rates) for rates in (inside, outside, lost))
        rows.append(Row(group.name, cells, group.note, group.number))
    made = (
        ("Within", f"mean over {len(within)} tests on the held-out `test` records of a training domain"),
        ("Across", f"mean over {len(across)} tests on all records of another domain"),
        ("Rules", study.honest),
    )
    return Table("HTER within and across domains", ("within", "across", "lost by crossing"), tuple(rows), made)


def _row(study: Study, group: Group, target: Target) -> Row:
    cells = [rate_cell(list(values_of(group, target, study.honest, metric).values())) for _, metric in _METRICS]
    return Row(f"{target.domain}, {group.name}", tuple(cells), group.note, group.number)


def _sources(study: Study) -> dict[str, tuple[str, ...]]:
    if study.data is None:
        return {}
    protocol = study.trials[0].planned.experiment.protocol
    return {fold.name: fold.train_domains for fold in protocol_folds(protocol, study.data.columns)}


def _counts(study: Study, targets: Sequence[Target]) -> str:
    found = [(target.domain, class_counts(study.trials, target)) for target in targets]
    counts = [f"{domain} {videos[0]} live, {videos[1]} attacks" for domain, videos in found if videos]
    single = [
        t.domain
        for t in targets
        if all("apcer" not in (x.numbers(t.fold, study.honest, t.domain) or {}) for x in study.trials)
    ]
    lacking = f". {', '.join(single)} lacks one class, so it has one error rate only" if single else ""
    return "; ".join(counts) + lacking
