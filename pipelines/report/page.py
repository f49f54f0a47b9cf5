"""The report: one self-contained HTML page, its tables as Markdown and its numbers as CSV.

The page's styles are inline, its figures inline SVG and its pictures embedded PNG files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from pipelines.errors import AgfasError
from pipelines.report import domains, facts, figures, groups, tables
from pipelines.report.cells import Table, to_markdown
from pipelines.report.comparison import Comparison, study_statistics
from pipelines.report.contents import Gathered, Group, Study, Trial
from pipelines.report.embedding import feature_map
from pipelines.report.pictures import picture_grid
from pipelines.sums import Damaged
from pipelines.templates import data_uri, load_template

TEMPLATE = Path(__file__).with_name("page.html")
SYNTHETIC = (
    "The built-in benchmark is drawn by a program. Its numbers compare the experiments of this page with each other and"
    " must not be compared with those of papers, which are measured on real recordings."
)

_CSV_COLUMNS = (
    "study", "experiment", "control", "axes", "seed", "fold", "domain", "rule", "honest", "step", "threshold",
    "threshold_origin", "hter", "hter_low", "hter_high", "auc", "auc_low", "auc_high", "eer", "apcer",
    "worst_attack", "bpcer", "acer", "acer_low", "acer_high", "bpcer_at_apcer_10", "bpcer_at_apcer_05",
    "tpr_at_fpr_01", "apcer_per_type", "positive", "accuracy", "precision", "recall", "f1", "tnr", "fpr", "pr_auc",
    "mcc", "kappa", "true_positives", "false_negatives", "true_negatives", "false_positives", "far",
    "bonafide_videos", "attack_videos", "state",
)  # fmt: skip


class StudyPage:
    """The tables and figures of one study; a part that it lacks is None or empty, or has its reason in `no_...`."""

    def __init__(self, gathered: Gathered, study: Study) -> None:
        comparison = Comparison(study)
        by_fold = [tables.attack_table(study, fold) for fold in study.folds]
        self.study = study
        self.data = None if study.data is None else facts.data_table(study.data)
        self.settings = facts.settings_table(study)
        self.overview = figures.overview_figure(study, comparison)
        self.honest = tables.leave_out_table(study, study.honest, f"Results under {study.honest}", comparison)
        self.papers = tables.leave_out_table(study, study.papers, f"The papers' rule: {study.papers}")
        self.rules = tables.rule_table(study)
        self.differences = tables.difference_table(study, comparison)
        self.statistics = study_statistics(study, comparison)
        self.attacks = tables.attack_table(study)
        self.attacks_by_fold = [table for table in by_fold if table is not None]
        self.classification = tables.classification_table(study)
        self.crossing = domains.within_and_across(study)
        self.domains = domains.domain_tables(study)
        self.matrices = domains.matrix_figures(study)
        self.by_group, self.no_groups = _or_reason(groups.group_tables, study, "No error rates by group")
        self.legend = [(group.name, group.style) for group in study.groups]
        self.roc, self.det = figures.roc_figures(study), figures.det_figures(study)
        self.histograms = figures.histogram_figures(study)
        self.shapes = [*figures.radar_figures(study), *figures.trade_off_figures(study)]
        self.few_videos = tables.warning_of(study)
        self.grid, self.no_grid = _or_reason(picture_grid, study, "No pictures")
        self.features, self.no_features = _or_reason(feature_map, study, "No map of features")
        self.training = figures.training_figures(gathered, study)

    @property
    def in_words(self) -> list[Table]:
        """The tables of results.md."""
        found = [
            self.data, self.settings, self.honest, self.crossing, *self.domains, self.classification, self.papers,
            self.rules, self.differences, self.attacks, *(self.by_group or []),
        ]  # fmt: skip
        if self.statistics is not None:
            found += [self.statistics.summary, self.statistics.pairs]
        return [table for table in found if table is not None]


def render(gathered: Gathered, pages: list[StudyPage]) -> str:
    """The page as HTML."""
    return load_template(TEMPLATE).render(
        png_uri=lambda picture: data_uri(Image.fromarray(picture), optimize=True),
        name=gathered.root.resolve().name,
        pages=pages,
        unfinished=gathered.unfinished,
        planned=len(gathered.trials),
        synthetic=SYNTHETIC if gathered.is_synthetic else "",
        generators=facts.generator_table(gathered),
        timings=facts.timing_table(gathered),
        environment=facts.environment_table(gathered),
        artefacts=facts.artefact_table(gathered),
    )


def markdown(gathered: Gathered, pages: list[StudyPage]) -> str:
    """The tables as Markdown."""
    parts = [f"# Results of {gathered.root.resolve().name}\n"]
    if gathered.is_synthetic:
        parts.append(SYNTHETIC + "\n")
    for page in pages:
        parts.append(f"# {page.study.title}\n")
        if page.few_videos:
            parts.append(f"**{page.few_videos}**\n")
        parts += [to_markdown(table) for table in page.in_words]
        if page.statistics is not None and page.statistics.words:
            parts.append("## What the tests say\n")
            parts.append("\n".join(f"- {sentence}." for sentence in page.statistics.words) + "\n")
    parts += [to_markdown(t) for t in (facts.generator_table(gathered), facts.timing_table(gathered)) if t]
    parts.append("## Unfinished experiments\n")
    parts.append("\n".join(f"- {trial.planned.title}: {trial.state}" for trial in gathered.unfinished) or "None.")
    return "\n".join(parts) + "\n"


Made = TypeVar("Made")


def _or_reason(make: Callable[[Study], Made], study: Study, what: str) -> tuple[Made | None, str]:
    """What `make` gives; or None, and a sentence that says why there is none.

    Raises:
        Damaged: a file is not what was written, which a line on a page would hide.
    """
    try:
        return make(study), ""
    except Damaged:
        raise
    except (AgfasError, OSError) as error:
        return None, f"{what}: {error}"


def to_csv(studies: Sequence[Study]) -> str:
    """All numbers of all result.json files, rates in [0, 1].

    A line per experiment, fold and pair of rules, and one for each domain of a fold that tests several.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for study in studies:
        for group in study.groups:
            for trial in group.trials:
                writer.writerows(_csv_rows(study, group, trial))
    return stream.getvalue()


def _csv_rows(study: Study, group: Group, trial: Trial) -> list[dict[str, Any]]:
    base = {
        "study": study.title,
        "experiment": group.name,
        "control": group.is_control,
        "axes": "; ".join(f"{key}={value}" for key, value in trial.planned.axes.items()),
        "seed": trial.seed,
        "state": "finished" if trial.finished else f"unfinished: {trial.state}",
    }
    rows = []
    for fold, judged in (trial.result or {"folds": {}})["folds"].items():
        rows += _judged_rows({**base, "fold": fold}, judged, trial.honest)
        for domain, part in judged.get("domains", {}).items():
            rows += _judged_rows({**base, "fold": fold, "domain": domain}, part, trial.honest)
    return rows or [base]


def _judged_rows(base: dict[str, Any], judged: dict[str, Any], honest: str) -> list[dict[str, Any]]:
    videos = {f"{name}_videos": number for name, number in judged["videos"].items()}
    rows = []
    for rule, numbers in judged.get("rules", judged.get("one_class", {})).items():
        types = "; ".join(f"{kind}={value}" for kind, value in numbers.get("apcer_per_type", {}).items())
        ends = {f"{metric}_{end}": value for metric, pair in numbers.get("intervals", {}).items()
                for end, value in zip(("low", "high"), pair, strict=True)}  # fmt: skip
        row = {**base, **videos, "rule": rule, "honest": rule == honest}
        rows.append({**row, **numbers.get("classification", {}), **numbers, **ends, "apcer_per_type": types})
    return rows
