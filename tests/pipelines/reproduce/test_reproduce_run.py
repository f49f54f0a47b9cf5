"""A table made end to end at tiny size: runs, both rules, videos, and labels that nobody can miss."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import AgfasError
from pipelines.evaluation.judge import is_judged, own_numbers, write_result
from pipelines.evaluation.settings import PAPERS_RULE, EvaluateSettings
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
from pipelines.report.contents import Group, Target, Trial
from pipelines.reproduce.printing import as_csv, as_markdown, differences, in_videos, minus
from pipelines.reproduce.request import Asked, make_recipe
from pipelines.reproduce.rows import plan_rows
from pipelines.reproduce.settings import RUNNING_BEST
from pipelines.reproduce.values import Ours, both_sides, value
from pipelines.stages import reproduce

CONFIGS = Path(__file__).parents[3] / "configs" / "paper"
ROWS = ("SSDG-R [21]", "SSAN-R [25]")
TINY = (
    "data.subjects=5", "data.live_videos=1", "data.attack_videos=2", "data.frames=1",
    "data.corpus_subjects=0", "train.steps=1", "train.warmup=1", "train.per_cell=1", "train.evaluations=1",
    "evaluate.replicates=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Asked, str, Path]:
    root = tmp_path_factory.mktemp("reproduce")
    asked = Asked("agfas/II", ("synthetic",), only=ROWS, seeds="0,1", output=root, configs=CONFIGS, overrides=TINY)
    lines: list[str] = []
    path = reproduce.run(asked, echo=lines.append)
    return asked, "\n".join(lines), path


@pytest.fixture
def copied(made, tmp_path) -> tuple[reproduce.Asked, Path]:
    """A copy of what was made, to be changed."""
    asked, _, path = made
    shutil.copytree(asked.output, tmp_path / "copied")
    return replace(asked, output=tmp_path / "copied"), tmp_path / "copied" / path.relative_to(asked.output)


def records(path: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with path.with_suffix(".csv").open(encoding="utf-8") as stream:
        return {(line["row"], line["head"], line["metric"]): line for line in csv.DictReader(stream)}


def test_it_ends_with_the_short_table_of_the_rows(made):
    _, shown, path = made
    *_, head, first, second, _, rules, few, _, last = shown.splitlines()
    assert few.startswith("Few test videos: ")
    assert head.split("  ")[0] == "experiment"
    assert all(re.search(r"\d+\.\d ± \d+\.\d \[.*\]", line) for line in (first, second))
    assert "looks at the test labels" in rules
    assert last.startswith(f"Table: {path}")


def test_ours_are_the_results_of_the_runs(made):
    asked, _, path = made
    recipe = make_recipe(asked)
    lines = records(path)
    for row in plan_rows(recipe, asked.only):
        if row.label not in ROWS:
            continue
        results = [read_json(Workspace(item.experiment).detector() / "result.json") for item in row.planned]
        for head, fold in (("M&I to C", "webcam_tablet_to_phone"), ("M&I to O", "webcam_tablet_to_kiosk")):
            for metric, name in (("HTER", "hter"), ("AUC", "auc")):
                line = lines[row.label, head, metric]
                assert (line["tested"], line["seeds"], line["comparable"]) == (fold, "0 1", "False")
                judged = [result["folds"][fold] for result in results]
                ours = {
                    "ours_papers_rule": [part["papers_best"][name] for part in judged],
                    "ours_honest": [part["rules"]["last/source_dev_eer"][name] for part in judged],
                }
                for column, values in ours.items():
                    assert float(line[column]) == pytest.approx(100 * sum(values) / 2)
                assert (line["papers_rule"], line["honest_rule"]) == ("running_best", "last/source_dev_eer")
                # The lowest HTER is the oracle's; the highest AUC may be another checkpoint's.
                oracle = [part["rules"][PAPERS_RULE][name] for part in judged]
                best = ours["ours_papers_rule"]
                assert best == pytest.approx(oracle) if name == "hter" else all(np.array(best) >= oracle)
                assert (line["live_videos"], line["attack_videos"]) == ("5", "10")


def test_differences_are_told_in_videos(made):
    lines = records(made[2])
    line, other = lines["SSAN-R [25]", "M&I to C", "HTER"], lines["SSDG-R [21]", "M&I to C", "HTER"]
    # Ten attacks: one of them is 5 points of HTER.
    assert float(line["one_video_points"]) == 5.0
    gap = float(line["ours_honest"]) - float(line["ours_papers_rule"])
    assert float(line["honest_minus_papers_rule_videos"]) == pytest.approx(gap / 5)
    assert float(line["ours_minus_reference_videos"]) == pytest.approx(
        (float(line["ours_honest"]) - float(other["ours_honest"])) / 5
    )
    # The paper's C has 450 attacks: 27.33 - 20.56 points are 60.9 of them.
    assert float(line["paper_minus_reference_videos"]) == pytest.approx((27.33 - 20.56) * 9)
    assert line["ours_minus_paper_videos"] == ""
    assert lines["SSAN-R [25]", "M&I to C", "AUC"]["honest_minus_papers_rule_videos"] == ""


def test_the_papers_rule_takes_hter_and_auc_apart_by_seed_and_domain():
    whole = {"rules": {}, "papers_best": {"hter": 0.3, "hter_step": 10, "auc": 0.8, "auc_step": 20}}
    part = {"rules": {}, "papers_best": {"hter": 0.1, "hter_step": 20, "auc": 0.9, "auc_step": 10}}
    live = {"videos": {"bonafide": 3, "attack": 0}, "one_class": {}}
    result = {"folds": {"to_b": {**whole, "domains": {"b": part, "c": live}}}}
    trials = tuple(
        Trial(Planned("a", {}, Experiment(seed=seed)), None, ("to_b",), {}, found)
        for seed, found in ((0, result), (4, result), (7, None))
    )
    group = Group("a", trials, False, 0)
    targets = {"b": Target("to_b", "b"), "": Target("to_b")}
    for domain, hter, auc in (("b", 0.1, 0.9), ("", 0.3, 0.8)):
        assert value([group], [targets[domain]], RUNNING_BEST, "hter", {}).by_seed == {0: hter, 4: hter}
        assert value([group], [targets[domain]], RUNNING_BEST, "auc", {}).by_seed == {0: auc, 4: auc}
    both = value([group], list(targets.values()), RUNNING_BEST, "hter", {})
    assert both.by_seed == pytest.approx({0: 0.2, 4: 0.2})
    for nowhere in (Target("to_b", "c"), Target("to_b", "d"), Target("to_c")):
        assert value([group], [nowhere], RUNNING_BEST, "auc", {}).by_seed == {}


def test_a_rule_that_was_not_judged_is_named(made):
    known = read_json(next(made[2].parents[1].glob("detectors/*/result.json")))
    (fold, *_) = known["folds"].values()
    settings = EvaluateSettings(threshold="source_dev_min_hter")
    assert own_numbers(fold, settings, "a row") == fold["rules"]["last/source_dev_min_hter"]
    del fold["rules"]["last/source_dev_min_hter"]
    with pytest.raises(AgfasError, match=r"'a row' was not judged under last/source_dev_min_hter, only under .*again"):
        own_numbers(fold, settings, "a row")


def test_without_scores_nothing_is_judged(tmp_path):
    with pytest.raises(AgfasError, match=r"holds no scores to judge\. Run `agfas evaluate`"):
        write_result(tmp_path, EvaluateSettings())


def test_other_data_are_labelled_everywhere(made):
    _, text, path = made
    markdown = path.read_text(encoding="utf-8")
    assert markdown in text
    assert markdown.splitlines()[0].endswith("on the built-in benchmark: not comparable with the paper's numbers")
    for line in markdown.splitlines():
        if line.startswith("| row |"):
            assert all("not comparable" in head for head in line.split("|")[2:-1])
        if line.startswith(("| SSDG-R [21]: ours", "| SSAN-R [25]: ours", "## ")):
            assert "on the built-in benchmark" in line or "(the built-in benchmark)" in line
    assert "phone in place of C" in markdown
    assert "Overrides of the command line: data.subjects=5" in markdown
    assert "Not run here: MADDG [19]: not implemented" in markdown
    assert "5 live, 10 attack, one video is 5.000 points of HTER" in markdown
    assert "| SSAN-R [25]: the paper | 27.33 | 28.75 |" in markdown
    assert "the papers' rule is the lowest HTER, at the target's own EER threshold, and the highest AUC" in markdown
    assert "two checkpoints; last/source_dev_eer is the honest one" in markdown


def test_running_again_makes_nothing_and_other_rows_keep_their_numbers(copied):
    asked, path = copied
    before = {item: item.stat().st_mtime_ns for item in path.parents[1].glob("detectors/*/*/done.json")}
    again = replace(asked, only=ROWS[:1])
    assert reproduce.run(again) == path
    assert {item: item.stat().st_mtime_ns for item in path.parents[1].glob("detectors/*/*/done.json")} == before
    assert [(part.name, part.done, part.total, part.amount) for part in reproduce.plan(again)] == [
        ("ssdg_r", 2, 2, 0)
    ] * 2
    assert "SSAN-R [25]: ours, honest rule" in path.read_text(encoding="utf-8")


def test_results_of_earlier_code_are_judged_again_from_their_scores(copied):
    asked, path = copied

    def numbers():
        return {where: {**line, "not_run": ""} for where, line in records(path).items()}

    before, results = numbers(), sorted(path.parents[1].glob("detectors/*/result.json"))
    for known in results:
        old = read_json(known)
        for fold in old["folds"].values():
            del fold["papers_best"]
            fold["rules"] = {rule: numbers for rule, numbers in fold["rules"].items() if "min_hter" not in rule}
        write_json(known, {**old, "key": "of earlier code"})
        assert not is_judged(known.parent, EvaluateSettings(replicates=100))
    # One row is run; the other one's results are old as well, and in the same table.
    again = replace(asked, only=ROWS[:1])
    reproduce.run(again, echo=lambda _: None)
    assert numbers() == before
    assert len(results) == 4
    for known in results:
        (fold, *_) = read_json(known)["folds"].values()
        assert "source_dev/source_dev_min_hter" in fold["rules"]
        assert is_judged(known.parent, EvaluateSettings(replicates=100))
        assert not is_judged(known.parent, EvaluateSettings(replicates=200))


def test_on_the_papers_own_data_the_difference_from_the_paper_is_told(made):
    asked, _, path = made
    recipe = make_recipe(asked)
    # As if the benchmark's domains were the paper's datasets: what is printed follows from that alone.
    own = replace(recipe, ground=replace(recipe.ground, own=True, title="the paper's own datasets"))
    table = both_sides(own, plan_rows(recipe, asked.only))
    line = records(path)["SSAN-R [25]", "M&I to C", "HTER"]
    expected = (float(line["ours_papers_rule"]) - 27.33) / 5
    found = differences(table, table.entries["SSAN-R [25]", "M&I to C", "HTER"])
    assert found["from_paper"] == pytest.approx(expected)
    markdown = as_markdown(table)
    assert f"| SSAN-R [25]: in videos: ours, papers' rule, minus the paper | {expected:+.1f} |" in markdown
    assert "not comparable" not in markdown
    assert "| row | M&I to C | M&I to O |" in markdown


def test_a_row_of_our_own_has_no_number_of_the_paper(made, tmp_path):
    asked, _, path = made
    for name in ("agfas.yaml", "agfas-II.yaml"):
        shutil.copy(CONFIGS / name, tmp_path / name)
    with (tmp_path / "agfas-II.yaml").open("a", encoding="utf-8") as stream:
        stream.write('  "Mine": {method: ssan_r, ours: "SSAN-R again"}\n')  # so its runs are there
    recipe = make_recipe(replace(asked, configs=tmp_path, only=(*ROWS, "Mine")))
    own = replace(recipe, ground=replace(recipe.ground, own=True))
    table = both_sides(own, plan_rows(recipe, (*ROWS, "Mine")))
    markdown, entry = as_markdown(table), table.entries["Mine", "M&I to C", "HTER"]
    assert "Mine: the paper" not in markdown
    assert "- Mine, our row: SSAN-R again." in markdown
    expected = records(path)["SSAN-R [25]", "M&I to C", "HTER"]
    assert entry.honest.mean == float(expected["ours_honest"])
    found = differences(table, entry)
    assert found["from_paper"] is found["paper_gain"] is None
    assert found["our_gain"] == float(expected["ours_minus_reference_videos"])
    shown = [line.split("|")[1].strip() for line in markdown.splitlines() if line.startswith("| Mine")]
    assert all(line.startswith("Mine (our row, not the paper's): ") for line in shown)
    assert not any("minus the paper" in line or "the paper, minus" in line for line in shown)
    (line,) = [line for line in csv.DictReader(as_csv(table).splitlines()) if line["row"] == "Mine"][:1]
    assert line["paper"] == line["paper_source"] == line["ours_minus_paper_videos"] == ""


@pytest.mark.slow
def test_transfers_averages_and_trainings_of_the_other_paper(tmp_path):
    def line_of(table: str, row: str) -> dict[str, dict[str, str]]:
        asked = Asked(table, ("synthetic",), only=(row,), output=tmp_path, configs=CONFIGS, overrides=TINY)
        found = records(reproduce.run(asked, echo=lambda _: None))
        return {metric: line for (label, _, metric), line in found.items() if label == row}

    matrix, within = (
        line_of(f"kuznetsov/{n}", row) for n, row in ((8, "3DMAD, LivenessNet"), (7, "LivenessNet, 3DMAD"))
    )
    (result,) = (read_json(path) for path in tmp_path.glob("detectors/*/result.json"))
    judged = result["folds"]["from_webcam"]["domains"]
    accuracies = {
        name: part["rules"]["last/source_dev_eer"]["classification"]["accuracy"] for name, part in judged.items()
    }
    assert float(within["Accuracy"]["ours_honest"]) == accuracies.pop("webcam")
    assert float(matrix["Avg. Accuracy"]["ours_honest"]) == pytest.approx(sum(accuracies.values()) / 3)
    assert float(matrix["Best Transfer"]["ours_honest"]) == max(accuracies.values())
    assert float(matrix["Worst Transfer"]["ours_honest"]) == min(accuracies.values())
    short = {"CSMAD": "phone", "MSSpoof": "tablet", "Replay-Attack": "kiosk"}
    assert accuracies[short[matrix["Best Transfer"]["ours_text"]]] == max(accuracies.values())
    trained = line_of("kuznetsov/13", "LivenessNet")
    (done,) = (read_json(path) for path in tmp_path.glob("detectors/*/combined/done.json"))
    assert float(trained["Total Parameters"]["ours_honest"]) == done["parameters"]
    assert float(trained["Training Time (s)"]["ours_honest"]) > 0
    assert trained["Val. Loss"]["ours_honest"] == ""


def test_a_table_without_its_data_is_the_papers_alone(tmp_path):
    asked = Asked("agfas/VI", data=tmp_path, output=tmp_path / "out", configs=CONFIGS)
    path = reproduce.run(asked, echo=lambda _: None)
    markdown = path.read_text(encoding="utf-8")
    assert "| T=800: the paper | 5.71 | 5.44 | 6.71 | 9.43 | 6.82 |" in markdown
    assert "ours, honest" not in markdown
    assert "inferred" in markdown
    assert not (tmp_path / "out" / "detectors").exists()


def test_a_difference_needs_seeds_that_both_have_and_a_count():
    assert minus(Ours({0: 3.0, 1: 5.0}), Ours({1: 4.0, 2: 9.0})) == 1.0
    assert minus(Ours({0: 3.0}), Ours({1: 4.0})) is None
    assert in_videos(2.38, (70, 210), "per cent") == pytest.approx(10, abs=0.01)
    assert in_videos(0.0238, (70, 210), "share") == pytest.approx(10, abs=0.01)
    assert in_videos(None, (70, 210), "share") is None
    assert in_videos(1.0, None, "share") is None
