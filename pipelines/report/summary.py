"""The short table that commands end with: one line per experiment, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.experiment.plan import Planned
from pipelines.markdown import aligned
from pipelines.report.comparison import Comparison
from pipelines.report.contents import Study
from pipelines.report.gather import read_results
from pipelines.report.tables import leave_out_table, warning_of


def summary(planned: Sequence[Planned]) -> str:
    """Honest HTER with its 95 % interval, honest AUC, and HTER under the papers' rule, of every experiment.

    Reads results and score tables; imports no torch and opens no faces.

    Args:
        planned: the experiments; seeds of one label share a line.
    """
    return "\n\n".join(_of_study(study) for study in read_results(planned))


def _of_study(study: Study) -> str:
    honest = leave_out_table(study, study.honest, "", Comparison(study)).rows
    papers = leave_out_table(study, study.papers, "").rows
    auc = 1 + len(study.folds)  # behind the mean HTER and the HTER of every fold
    lines = [("experiment", "honest HTER", "honest AUC", "papers' HTER")]
    for ours, theirs in zip(honest, papers, strict=True):
        lines.append((ours.title, str(ours.cells[0]), str(ours.cells[auc]), str(theirs.cells[0])))
    folds = f"mean of {len(study.folds)} folds" if len(study.folds) > 1 else ", ".join(study.folds) or "no fold"
    rules = f"honest: {study.honest}; papers': {study.papers}, which looks at the test labels"
    words = [f"{study.title}, {folds}, in %", "", aligned(lines), "", rules]
    return "\n".join([*words, warning] if (warning := warning_of(study)) else words)
