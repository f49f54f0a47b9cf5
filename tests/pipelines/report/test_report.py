"""A report shows the numbers of result.json, marks controls, and drops nothing."""

from __future__ import annotations

import csv
import html
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_study import judged, leave_one_out, synthetic, trial_of
from output_folder import DOMAINS, make_experiment, make_output, write_faces
from paired_tables import mean_interval, paired_difference

from pipelines.errors import AgfasError
from pipelines.evaluation import exact
from pipelines.evaluation.settings import SELECTION_RULES, THRESHOLD_RULES
from pipelines.experiment.plan import expand, read_plan, record
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
from pipelines.report import comparison as comparison_module
from pipelines.report import gather as gather_module
from pipelines.report.comparison import Comparison
from pipelines.report.contents import Trial
from pipelines.report.gather import _studies, gather
from pipelines.report.summary import _of_study, summary
from pipelines.report.tables import leave_out_table
from pipelines.stages import report, sweep

SWEEP = {
    "axes": {"seed": [0, 1]},
    "variants": [
        {"label": "image_only", "set": {"detector": {"name": "image_only"}}},
        {"label": "oanet t=401", "set": {"cue.timestep": 401}},
        {"label": "oanet <shuffled>", "set": {"cue.source": "shuffled"}},
    ],
}
HONEST, PAPERS = "last/source_dev_eer", "oracle/target_eer"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A sweep of three labels and two seeds, one experiment of which is half done, and its report."""
    root = tmp_path_factory.mktemp("report") / "sweep"
    write_faces(root.parent / "faces")
    make_output(root, make_experiment(root, sweep=SWEEP), ("oanet t=401 (seed=1)",), {"oanet t=401": 2.5})
    report.run(root)
    return root


@pytest.fixture(scope="module")
def page(written) -> str:
    return (written / "report" / "index.html").read_text(encoding="utf-8")


def results(root: Path, label: str) -> list[dict]:
    """The contents of result.json of a label's finished experiments."""
    planned = [trial.planned for trial in gather(root).trials if trial.planned.label == label]
    paths = [Workspace(item.experiment).detector() / "result.json" for item in planned]
    return [read_json(path) for path in paths if path.is_file()]


def cells_of(page: str, heading: str, row: str) -> list[str]:
    """The text of a table's row, found by the table's heading and the row's name."""
    table = page.split(f"<h3>{html.escape(heading)}</h3>")[1].split("</table>")[0]
    line = next(part for part in table.split("<tr") if f'scope="row">{html.escape(row)}' in part)
    return [re.sub("<[^>]+>", " ", cell).strip() for cell in re.findall(r"<td.*?>(.*?)</td>", line, re.S)]


@pytest.mark.parametrize(
    ("rule", "heading"), [(HONEST, f"Results under {HONEST}"), (PAPERS, f"The papers' rule: {PAPERS}")]
)
def test_leave_one_out_table_holds_the_numbers_of_result_json(written, page, rule, heading):
    page = page.replace("&#39;", "&#x27;")
    found = results(written, "image_only")
    cells = cells_of(page, heading, "image_only")
    assert len(cells) == 2 * (len(DOMAINS) + 1)
    for place, (metric, fold) in enumerate((m, d) for m in ("hter", "auc") for d in (None, *DOMAINS)):
        if fold is None:
            values = [result["mean"][rule][metric] for result in found]
        else:
            values = [result["folds"][f"to_{fold}"]["rules"][rule][metric] for result in found]
        expected = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
        assert cells[place].startswith(expected)
        if fold is not None:
            pairs = [result["folds"][f"to_{fold}"]["rules"][rule]["intervals"][metric] for result in found]
            low, high = 100 * np.mean(pairs, axis=0)
            assert cells[place].endswith(f"[{low:.1f}, {high:.1f}]")


def test_running_best_stands_beside_the_rules(written, page):
    cells = cells_of(page, "Mean HTER under every rule", "image_only")
    for cell, metric in zip(cells[-2:], ("hter", "auc"), strict=True):
        best = [np.mean([fold["papers_best"][metric] for fold in result["folds"].values()])
                for result in results(written, "image_only")]  # fmt: skip
        assert cell == f"{100 * np.mean(best):.1f} ± {100 * np.std(best, ddof=1):.1f}"


def test_csv_holds_every_number_in_full(written):
    with (written / "report" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    result = results(written, "oanet t=401")[0]
    chosen = [row for row in rows if row["experiment"] == "oanet t=401" and row["seed"] == "0"]
    assert len(chosen) == len(DOMAINS) * len(SELECTION_RULES) * len(THRESHOLD_RULES)
    for row in chosen:
        numbers = result["folds"][row["fold"]]["rules"][row["rule"]]
        for metric in ("hter", "auc", "eer", "apcer", "bpcer", "acer", "threshold"):
            assert float(row[metric]) == numbers[metric]
        assert row["threshold_origin"] == numbers["threshold_origin"]
        assert (row["honest"] == "True") == (row["rule"] == HONEST)
    assert {row["control"] for row in rows if row["experiment"] == "oanet <shuffled>"} == {"True"}
    waiting = [row for row in rows if row["experiment"] == "oanet t=401" and row["seed"] == "1"]
    assert [row["state"] for row in waiting] == ["unfinished: 1 of 3 detectors trained, 0 of 3 judged"]


def test_markdown_has_the_same_cells_as_the_page(written, page):
    text = (written / "report" / "results.md").read_text(encoding="utf-8")
    line = next(
        line for line in text.split(f"## Results under {HONEST}")[1].splitlines() if line.startswith("| image_only")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
    shown = [" ".join(cell.split()) for cell in cells_of(page, f"Results under {HONEST}", "image_only")]
    assert cells == shown


def test_unfinished_experiment_is_listed_and_marks_its_row(written, page):
    assert "1 of 6 experiments are unfinished" in page
    assert "oanet t=401 (seed=1): 1 of 3 detectors trained, 0 of 3 judged" in page
    assert "1 of 2 unfinished" in page
    assert "- oanet t=401 (seed=1): 1 of 3" in (written / "report" / "results.md").read_text(encoding="utf-8")


def test_controls_are_marked_and_stand_last(written):
    study = gather(written).studies[0]
    rows = leave_out_table(study, HONEST, "t").rows
    assert [row.name for row in rows] == ["image_only", "oanet t=401", "oanet <shuffled>"]
    assert [row.note for row in rows] == ["", "1 of 2 unfinished", "control"]


def test_the_page_says_in_which_arithmetic_its_experiments_computed(page):
    assert "training float32; cues U-Net float32, autoencoder float32" in page


def test_page_needs_nothing_from_elsewhere_and_escapes_names(page):
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<link" not in page
    assert "<script" not in page
    assert "http" not in page
    assert "oanet &lt;shuffled&gt;" in page
    assert "<shuffled>" not in page


@pytest.fixture
def enough(monkeypatch):
    """As if the few videos of the tests were enough for a bootstrap."""
    monkeypatch.setattr(exact, "FEWEST_ERRORS", 0)
    for module in (exact, comparison_module):
        monkeypatch.setattr(module, "FEWEST_VIDEOS", 0)


def test_differences_agree_with_the_bootstrap_of_single_tables(written, enough):
    study = gather(written).studies[0]
    comparison = Comparison(study)
    baseline, method, control = study.groups
    found = comparison.difference(control, baseline)
    assert found is not None
    assert found.seeds == 2
    means = [trial.mean(HONEST, "hter") for trial in (*control.trials, *baseline.trials)]
    assert found.mean == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2)
    assert comparison.difference(method, baseline).seeds == 1

    tables, thresholds = [], []
    for trial in baseline.trials:
        for fold in trial.folds:
            tables.append(trial.test_scores(fold, HONEST))
            thresholds.append(trial.numbers(fold, HONEST)["threshold"])
    expected = mean_interval(tables, thresholds, "hter", comparison.replicates)
    assert comparison.interval_of(baseline) == pytest.approx(expected)


def test_few_videos_have_exact_intervals_everywhere(written, page):
    study = gather(written).studies[0]
    comparison = Comparison(study)
    baseline, method, _ = study.groups
    folds = []
    for fold in study.folds:
        found = [
            (t.test_scores(fold, HONEST).by_video(), t.numbers(fold, HONEST)["threshold"]) for t in baseline.trials
        ]
        tallies = exact.mean_tallies([exact.tally(*each) for each in found])
        folds.append((tallies.value("hter"), tallies.ends("hter")))
    assert comparison.interval_of(baseline) == pytest.approx(exact.mean_ends(folds))
    for trial in baseline.trials:
        for fold in study.folds:
            numbers = trial.numbers(fold, HONEST)
            table = trial.test_scores(fold, HONEST).by_video()
            assert numbers["intervals"]["hter"] == pytest.approx(exact.tally(table, numbers["threshold"]).ends("hter"))
    difference = comparison.difference(method, baseline)
    assert difference.high - difference.low > 0.2
    for text in (page, (written / "report" / "results.md").read_text(), summary([t.planned for t in study.trials])):
        assert "Few test videos: to_kiosk 8 live, to_kiosk 12 attack, to_phone 8 live" in text


def test_difference_of_one_fold_and_seed_is_the_paired_one(enough):
    def trial(label: str, skill: float, number: int) -> Trial:
        changes = {"protocol": {"name": "limited", "train": ["ann"], "test": ["booth", "car"]}}
        folds = {"ann_to_car": judged(number)}
        return trial_of(label, 0, changes, folds, (), {"ann_to_car": ("booth", "car")}, skill)

    (study,) = _studies([trial("one", 0.0, 9), trial("other", 0.1, 5)], {})
    comparison = Comparison(study)
    one, other = (trial.test_scores("ann_to_car", HONEST) for trial in study.trials)
    _, *ends = paired_difference(other, one, (0.45, 0.45), "hter", comparison.replicates)
    found = comparison.difference(study.groups[1], study.groups[0])
    assert (found.mean, found.low, found.high, found.seeds) == pytest.approx((-0.04, *ends, 1))
    assert ends[0] < ends[1]


@pytest.mark.parametrize(
    ("tables", "replicates"), [(0, 1000), (80, 1000), (100, 800), (400, 200), (401, 200), (9999, 200)]
)
def test_many_tables_have_fewer_replicates(tables, replicates, monkeypatch):
    study = _studies(leave_one_out(), {})[0]
    monkeypatch.setattr(Trial, "finished", True)
    many = replace(study, groups=(replace(study.groups[0], trials=study.groups[0].trials[:1]),), folds=("a",) * tables)
    assert Comparison(many).replicates == replicates


def test_report_of_a_plan_of_which_nothing_is_made(tmp_path):
    root = tmp_path / "empty"
    record(root, expand(make_experiment(root, sweep=SWEEP)))
    page = report.run(root).read_text(encoding="utf-8")
    assert "6 of 6 experiments are unfinished" in page
    assert "nothing made yet: its faces are missing" in page


def test_other_rules_and_other_faces_never_share_a_table(tmp_path):
    root = tmp_path / "two"
    write_faces(tmp_path / "faces")
    variants = [{"label": "a", "set": {}}, {"label": "b", "set": {"protocol": {"name": "one_against_others"}}}]
    record(root, expand(make_experiment(root, sweep={"variants": variants})))
    studies = gather(root).studies
    assert [study.title for study in studies] == [
        "leave one out on faces at 16 px",
        "one against others on faces at 16 px",
    ]
    assert studies[1].folds == tuple(f"from_{name}" for name in DOMAINS)


def test_an_output_folder_is_read_as_it_lies(tmp_path, monkeypatch):
    root = tmp_path / "out"
    write_faces(tmp_path / "faces")
    changed = {"protocol": {"name": "leave_one_out", "domains": ["kiosk", "nowhere"]}}
    sweep = {"variants": [{"label": "a", "set": {}}, {"label": "b", "set": changed}]}
    planned = expand(make_experiment(root, sweep=sweep, detector={"name": "image_only"}))
    record(root, planned)
    for name in ("identity/2", "identity/1", "generator/3"):
        write_json(root / name / "identity.json", {})
    write_json(root / "identity" / "1" / "done.json", {"faces": 5})
    write_json(root / "generator" / "no-run" / "done.json", {})
    write_json(root / "cues" / "s" / "store.json", {"count": 3})
    fold = Workspace(planned[0].experiment).detector() / "to_phone"
    write_json(fold / "identity.json", {})
    write_json(fold / "environment.json", {"cores": 2})
    found = gather(root)
    assert [(run.kind, run.title, run.done) for run in found.shared] == [
        ("identity", "identity encoder 1", {"faces": 5}), ("identity", "identity encoder 2", None),
        ("generator", "generator 3", None),
    ]  # fmt: skip
    assert found.cue_stores == {"s": {"count": 3}}
    first, second = found.trials
    assert (first.folds, list(first.runs)) == (("to_kiosk", "to_phone", "to_webcam"), ["to_phone"])
    run = first.runs["to_phone"]
    assert (run.kind, run.title, run.folder, run.done) == ("detector", "a, to_phone", fold, None)
    assert (run.environment, run.metrics, run.steps, run.seconds) == ({"cores": 2}, [], 0, 0.0)
    assert first.state == "0 of 3 detectors trained, 0 of 3 judged"
    assert "nowhere" in second.state
    assert found.runs == [*found.shared, run]
    # Two persons of each domain are in its training split, with two live videos and an attack of each kind.
    faces = found.studies[0].data
    assert faces.counts["kiosk", "train", "none"] == (4, 4)
    assert faces.counts["kiosk", "dev", "mask"] == (1, 1)
    assert faces.attack_types == ["mask", "print", "replay"]
    names = ("domain", "split", "attack_type", "label", "video")
    frames = {name: np.array(["x", "x", "x"]) for name in names}
    frames["video"] = np.array(["1", "1", "2"])
    monkeypatch.setattr(gather_module, "read_columns", lambda folder, names, optional: frames)
    assert gather_module._read_data(tmp_path / "faces").counts == {("x", "x", "x"): (3, 2)}


def test_synthetic_numbers_come_with_their_warning(tmp_path):
    root = tmp_path / "synthetic"
    record(root, expand(make_experiment(root, data={"name": "synthetic"})))
    page = report.run(root).read_text(encoding="utf-8")
    assert "must not be compared with those of papers" in page


def test_timings_are_the_sum_of_the_logged_steps(written):
    gathered = gather(written)
    run = next(iter(gathered.trials[0].runs.values()))
    assert run.steps == 100
    assert run.seconds == pytest.approx(50.0)


def test_damaged_files_are_refused_instead_of_listed_as_unfinished(tmp_path):
    root = tmp_path / "one"
    write_faces(tmp_path / "faces")
    (planned,) = expand(make_experiment(root, detector={"name": "image_only"}))
    record(root, [planned])
    card, result = tmp_path / "faces" / "face_dataset.json", Workspace(planned.experiment).detector() / "result.json"
    write_json(result, {"folds": {}})
    for path in (result, card):
        text = path.read_text()
        path.write_text(text.replace("{", "[", 1))
        with pytest.raises(AgfasError, match=path.name):
            report.run(root)
        path.write_text(text)


def test_folder_that_is_no_output_is_refused(tmp_path):
    with pytest.raises(AgfasError, match="not the output folder"):
        report.run(tmp_path)


# The table at the end of a command: the report's numbers, aligned. It imports no torch, see `test_without_torch`.


def test_the_summarys_numbers_are_the_reports(written):
    (study,) = gather(written).studies
    honest = leave_out_table(study, study.honest, "", Comparison(study))
    papers = leave_out_table(study, study.papers, "")
    auc = honest.columns.index("AUC mean")
    lines = summary(read_plan(written)).splitlines()
    for ours, theirs in zip(honest.rows, papers.rows, strict=True):
        (line,) = (line for line in lines if line.startswith(ours.name))
        for cell in (ours.cells[0], ours.cells[auc], theirs.cells[0]):
            assert f"{cell.text} {cell.small}".strip() in line
    assert "oanet <shuffled> (control)" in "\n".join(lines)
    assert "oanet t=401 (1 of 2 unfinished)" in "\n".join(lines)
    title, _, head, *rows, _, rules, warning = lines
    assert title == "leave one out on faces at 16 px, mean of 3 folds, in %"
    place = head.index("papers' HTER")
    assert all(row[place - 1] == " " and row[place] != " " for row in rows)
    assert rules == "honest: last/source_dev_eer; papers': oracle/target_eer, which looks at the test labels"
    assert warning.startswith("Few test videos: to_kiosk 8 live, to_kiosk 12 attack, ")


@pytest.mark.parametrize(
    ("folds", "words"), [((), "no fold"), (("to_a",), "to_a"), (("to_a", "to_b"), "mean of 2 folds")]
)
def test_the_summary_names_its_folds(folds, words):
    (study,) = _studies(synthetic(), {})
    assert _of_study(replace(study, folds=folds)).splitlines() == [
        f"leave one out on the built-in synthetic benchmark at 32 px, {words}, in %",
        "",
        "experiment                 honest HTER  honest AUC  papers' HTER",
        "drawn (1 of 1 unfinished)  –            –           –",
        "",
        "honest: last/source_dev_eer; papers': oracle/target_eer, which looks at the test labels",
    ]


def test_studies_are_parted_by_an_empty_line_in_a_summary(tmp_path):
    variants = [{"label": "a", "set": {}}, {"label": "b", "set": {"protocol": {"name": "one_against_others"}}}]
    shown = summary(expand(make_experiment(tmp_path / "sweep", sweep={"variants": variants})))
    assert shown.count("–") == 6
    assert [part.splitlines()[0].split(" on ")[0] for part in shown.split("test labels\n\n")] == [
        "leave one out", "one against others",
    ]  # fmt: skip


def test_a_sweep_ends_with_the_summary(written, tmp_path, monkeypatch, capsys):
    shutil.copytree(written.parent / "faces", tmp_path / "faces")
    root = tmp_path / "sweep"
    monkeypatch.setattr(sweep, "run_planned", lambda planned, jobs: None)
    experiment = make_experiment(root, sweep=SWEEP)
    record(root, expand(experiment))
    sweep.run(experiment)
    shown = capsys.readouterr().out
    assert summary(read_plan(root)) in shown
    assert shown.rstrip().endswith(f"Report: {root / 'report' / 'index.html'}")
