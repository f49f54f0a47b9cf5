"""One self-contained page: its styles are inline, its figures inline SVG, its pictures embedded PNG."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.errors import AgfasError
from pipelines.report import domains, facts, figures, groups, shapes, tables
from pipelines.report.cells import Table, to_markdown
from pipelines.report.contents import Gathered, Group, Study, Trial
from pipelines.report.differences import Comparison
from pipelines.report.embedding import FeatureMap, feature_map
from pipelines.report.pictures import PictureGrid, picture_grid
from pipelines.report.statistics import Statistics, study_statistics
from pipelines.report.svg import style_of
from pipelines.templates import data_uri, load_template

TEMPLATE = Path(__file__).with_name("page.html")
SYNTHETIC = (
    "The built-in benchmark is drawn by a program. Its numbers compare experiments of this page; they"
    " must never be set beside numbers of papers, which are measured on real recordings."
)


@dataclass(frozen=True)
class StudyPage:
    """The parts of the page that belong to one study; what could not be made is None or empty."""

    study: Study
    data: Table | None
    settings: Table
    overview: str | None
    honest: Table
    papers: Table
    rules: Table
    differences: Table | None
    attacks: Table | None
    attacks_by_fold: list[Table]
    legend: list[tuple[str, str]]
    roc: list[str]
    det: list[str]
    histograms: list[tuple[Group, list[str]]]
    grid: PictureGrid | None
    no_grid: str
    training: list[str] = field(default_factory=list)
    crossing: Table | None = None
    domains: list[Table] = field(default_factory=list)
    matrices: list[tuple[str, str]] = field(default_factory=list)
    classification: Table | None = None
    statistics: Statistics | None = None
    by_group: list[Table] = field(default_factory=list)
    no_groups: str = ""
    shapes: list[str] = field(default_factory=list)
    features: FeatureMap | None = None
    no_features: str = ""

    @property
    def in_words(self) -> list[Table]:
        """The tables that go into Markdown."""
        found = [
            self.data, self.settings, self.honest, self.crossing, *self.domains, self.classification, self.papers,
            self.rules, self.differences, self.attacks, *self.by_group,
        ]  # fmt: skip
        if self.statistics is not None:
            found += [self.statistics.summary, self.statistics.pairs]
        return [table for table in found if table is not None]


def study_page(gathered: Gathered, study: Study) -> StudyPage:
    """Make every table and figure of a study."""
    comparison, scores = Comparison(study), figures.Scores(study)
    grid, no_grid = _grid(study)
    features, no_features = _features(study)
    by_group, no_groups = _by_group(study)
    by_fold = [tables.attack_table(study, fold) for fold in study.folds]
    return StudyPage(
        study=study,
        data=None if study.data is None else facts.data_table(study.data),
        settings=facts.settings_table(study),
        overview=figures.overview_figure(study, comparison),
        honest=tables.leave_out_table(study, study.honest, f"Results under {study.honest}", comparison),
        papers=tables.leave_out_table(study, study.papers, f"The papers' rule: {study.papers}"),
        rules=tables.rule_table(study),
        differences=tables.difference_table(study, comparison),
        attacks=tables.attack_table(study),
        attacks_by_fold=[table for table in by_fold if table is not None],
        legend=[(group.name, style_of(group.number, group.is_control)) for group in study.groups],
        roc=figures.roc_figures(study, scores),
        det=figures.det_figures(study, scores),
        histograms=figures.histogram_figures(study, scores),
        grid=grid,
        no_grid=no_grid,
        training=figures.training_figures(gathered, study),
        crossing=domains.within_and_across(study),
        domains=domains.domain_tables(study),
        matrices=domains.matrix_figures(study),
        classification=tables.classification_table(study),
        statistics=study_statistics(study, comparison),
        by_group=by_group,
        no_groups=no_groups,
        shapes=[*shapes.radar_figures(study), *shapes.trade_off_figures(study)],
        features=features,
        no_features=no_features,
    )


def render(gathered: Gathered, pages: list[StudyPage]) -> str:
    """The page as HTML."""
    return load_template(TEMPLATE).render(
        png_uri=lambda picture: data_uri(Image.fromarray(picture), optimize=True),
        name=gathered.root.resolve().name,
        pages=pages,
        unfinished=unfinished(gathered),
        planned=len(gathered.trials),
        synthetic=SYNTHETIC if _is_synthetic(gathered) else "",
        generators=facts.generator_table(gathered),
        timings=facts.timing_table(gathered),
        environment=facts.environment_table(gathered),
        artefacts=facts.artefact_table(gathered),
    )


def markdown(gathered: Gathered, pages: list[StudyPage]) -> str:
    """The tables as Markdown."""
    parts = [f"# Results of {gathered.root.resolve().name}\n"]
    if _is_synthetic(gathered):
        parts.append(SYNTHETIC + "\n")
    for page in pages:
        parts.append(f"# {page.study.title}\n")
        parts += [to_markdown(table) for table in page.in_words]
        if page.statistics is not None and page.statistics.words:
            parts.append("## What the tests say\n")
            parts.append("\n".join(f"- {sentence}." for sentence in page.statistics.words) + "\n")
    parts += [to_markdown(t) for t in (facts.generator_table(gathered), facts.timing_table(gathered)) if t]
    waiting = unfinished(gathered)
    parts.append("## Unfinished experiments\n")
    parts.append("\n".join(f"- {trial.planned.title}: {trial.state}" for trial in waiting) or "None.")
    return "\n".join(parts) + "\n"


def unfinished(gathered: Gathered) -> list[Trial]:
    """What the plan names and is not trained and judged yet."""
    return [trial for trial in gathered.trials if not trial.finished]


def _grid(study: Study) -> tuple[PictureGrid | None, str]:
    try:
        return picture_grid(study), ""
    except (AgfasError, OSError, KeyError) as error:
        return None, f"No pictures: {error}"


def _features(study: Study) -> tuple[FeatureMap | None, str]:
    try:
        return feature_map(study), ""
    except (AgfasError, OSError, KeyError) as error:
        return None, f"No map of features: {error}"


def _by_group(study: Study) -> tuple[list[Table], str]:
    try:
        return groups.group_tables(study), ""
    except AgfasError as error:
        return [], f"No error rates by group: {error}"


def _is_synthetic(gathered: Gathered) -> bool:
    return any(_data_name(trial.planned.experiment) == "synthetic" for trial in gathered.trials)


def _data_name(experiment: Any) -> str:
    return str(experiment.data.name)
