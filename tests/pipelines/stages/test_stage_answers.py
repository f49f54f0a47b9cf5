"""What stages print and write, whole: `threshold`, `probe`, `reproduce`, `report`, `inspect-dfg`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from score_tables import make_table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from training_parts import make_faces

from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.evaluation.operating_points import operating_points
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import expand
from pipelines.stages import inspect_dfg, probe, report, reproduce, threshold

# Thresholds.


def test_thresholds_are_a_table():
    dev = make_table([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.4, 0.5, 0.2, 0.1])
    target = make_table([1, 0], [0.7, 0.6])
    points = operating_points(dev, target, 0.0)
    text = threshold._as_table(threshold.Source("scores", dev, target), points)
    lines = text.splitlines()
    assert lines[:4] == [
        "scores",
        "A video is accepted as live if its mean score >= threshold. Rates in percent.",
        "",
        "kind        threshold   on         APCER    BPCER     ACER     HTER       F1        J accuracy",
    ]
    first = points[0]
    rates = (first.dev.apcer, first.dev.bpcer, first.dev.acer, first.dev.hter, first.dev.f1, first.dev.youden)
    cells = "".join(f"{100 * value:>9.2f}" for value in (*rates, first.dev.accuracy))
    assert lines[4] == f"{first.kind:<10}{first.threshold.value:>11.6f}   dev    {cells}"
    assert lines[5].startswith(" " * 24 + "target ")
    assert f"{first.kind}: {first.threshold.origin}" in lines
    (domain,) = set(target.domain.tolist())
    assert f"Every threshold is fixed before the target ({domain}) is looked at." in lines
    assert lines[-1].startswith("Few test videos: dev 3 live, dev 3 attack, target 1 live, target 1 attack")
    alone = threshold._as_table(threshold.Source("scores", dev, None), operating_points(dev, None, 0.0))
    assert "These rates are measured on the videos that the thresholds were chosen on: expect worse" in alone
    assert "target" not in alone.replace("target_", "")


# Probes.


def test_statistics_of_a_picture_are_those_of_a_slow_loop():
    image = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)) - 0.5
    found = probe.image_statistics(image).numpy()
    assert found.shape == (2, 39)
    for face in range(2):
        expected = []
        views = []
        for channel in image[face].double().numpy():
            padded = np.pad(channel, 1, mode="reflect")
            blurred = sum(padded[r : r + 8, c : c + 12] for r in range(3) for c in range(3)) / 9
            fine = channel - blurred
            coarse = channel.reshape(2, 4, 3, 4).mean(axis=(1, 3))
            views.append((channel, fine, coarse, channel[3:-3, 3:-3], fine[3:-3, 3:-3]))
        for place in range(5):
            expected += [np.abs(view[place]).mean() for view in views]
            expected += [view[place].std(ddof=1) for view in views]
        expected += [(view[1][:, 1:] * view[1][:, :-1]).mean() for view in views]
        expected += [(view[1][1:] * view[1][:-1]).mean() for view in views]
        expected += [(view[1][:, 2:] * view[1][:, :-2]).mean() for view in views]
        np.testing.assert_allclose(found[face], expected, atol=1e-6)


def test_a_probe_is_judged_by_the_videos_of_the_left_out_domain(monkeypatch):
    """Two faces a video; features of which one is telling, on scales that are brought to one."""
    faces = make_faces()
    object.__setattr__(faces, "videos", np.array([f"v{row // 8}-{row // 2 % 2}" for row in range(48)], dtype=object))
    draw = np.random.default_rng(0)
    features = np.stack([1000 + 50 * (faces.labels + draw.normal(0, 1, 48)), draw.normal(0, 0.01, 48)], axis=1)
    parts = {
        "train": np.flatnonzero(faces.domains == "a")[:18],
        "dev": np.arange(2),
        "test": np.flatnonzero(faces.domains == "b"),
    }
    monkeypatch.setattr(probe, "indices", lambda columns, fold: parts)
    train, test = parts["train"], parts["test"]
    mean, scale = features[train].mean(axis=0), features[train].std(axis=0)
    model = LogisticRegression(C=0.3, max_iter=3000, class_weight="balanced")
    model.fit((features[train] - mean) / scale, faces.labels[train])
    scores = model.decision_function((features[test] - mean) / scale)
    videos = sorted({faces.videos[row] for row in test})
    by_video = [scores[faces.videos[test] == video].mean() for video in videos]
    labels = [faces.labels[test][faces.videos[test] == video][0] for video in videos]
    judged = []
    monkeypatch.setattr(probe, "roc_auc_score", lambda *given: judged.append(given) or roc_auc_score(*given))
    found = probe.left_out_auc(features, faces, Fold("to_b", ("a",), ("a",), ("b",)))
    assert found == pytest.approx(roc_auc_score(labels, by_video))
    assert sorted(judged[0][1]) == pytest.approx(sorted(by_video))


def test_only_the_first_of_a_label_is_probed_and_others_are_compared_with_one(tmp_path):
    variants = [{"label": "one", "set": {}}, {"label": "two", "set": {"cue.form": "two_part"}}]
    grid = build_experiment({"sweep": {"axes": {"seed": [0, 1]}, "variants": variants}}, "the test")
    planned = probe._first_of_each_label(expand(grid))
    assert [(item.label, item.experiment.seed) for item in planned] == [("one", 0), ("two", 0)]
    assert probe._labelled(planned, "two") is planned[1]
    with pytest.raises(AgfasError, match=r"No cue is labelled 'tow': did you mean 'two'"):
        probe._labelled(planned, "tow")


def test_without_a_cue_there_is_nothing_to_probe():
    variants = [{"label": name, "set": {"detector.name": name}} for name in ("resnet18", "image_only")]
    grid = build_experiment({"sweep": {"variants": variants}}, "the test")
    with pytest.raises(AgfasError, match=r"no detector here takes one \(image_only, resnet18\)"):
        probe.run(grid)


@pytest.mark.parametrize("compared", [True, False])
def test_a_row_of_a_probe(monkeypatch, compared):
    faces = make_faces()
    faces.attack_types[faces.labels == 0] = np.array(["print", "replay"] * 12)
    rows = {"train": np.arange(0, 20), "dev": np.arange(20, 24), "test": np.arange(24, 40)}
    monkeypatch.setattr(probe, "protocol_folds", lambda protocol, columns: ["one", "two"])
    monkeypatch.setattr(probe, "indices", lambda columns, fold: rows)
    auc = {3: {"one": 0.25, "two": 0.5}, 39: {"one": 0.5, "two": 1.0}, 42: {"one": 0.1234, "two": 0.5678}}
    monkeypatch.setattr(probe, "left_out_auc", lambda features, given, fold: auc[features.shape[1]][fold])

    class Reader:
        channels = 3

        def batch(self, part):
            """Of attacks twice as large, of prints four times."""
            size = np.where(faces.labels[part] == 1, 1.0, np.where(faces.attack_types[part] == "print", 4.0, 0.5))
            return torch.from_numpy(size).float()[:, None, None, None] * torch.ones(len(part), 3, 8, 8)

    monkeypatch.setattr(probe, "cue_reader", lambda experiment, given: Reader())
    asked = []
    measured = SimpleNamespace(correlation=0.12345, psnr=31.2345)
    monkeypatch.setattr(probe, "agreement", lambda *given: asked.append(given) or measured)
    (item,) = expand(Experiment())
    row = probe._probe(item, faces, np.zeros((48, 3)), "the reference" if compared else None)
    expected = {
        "label": item.label, "auc_picture": 0.375, "auc_cue": 0.75, "auc_both": 0.346, "size_auc_print": 1.0,
        "size_auc_replay": 0.0, **({"correlation": 0.123, "psnr": 31.23} if compared else {}),
    }  # fmt: skip
    assert row == expected
    assert list(row) == list(expected)
    if compared:
        ((_, reference, judged),) = asked
        assert reference == "the reference"
        assert judged.tolist() == list(range(40))
    assert probe._agreement(None, "the reference", np.arange(2)) == {"correlation": "", "psnr": ""}


# Reports, tables, inspections.


def test_a_report_is_made_again_if_something_changed(monkeypatch, tmp_path):
    gathered, pages = SimpleNamespace(studies=["s"], key="one"), []

    def page(given, study):
        pages.append(study)
        return SimpleNamespace(grid=True, features=len(pages) > 1)

    monkeypatch.setattr(report, "gather", lambda root: gathered)
    monkeypatch.setattr(report, "_key", lambda given: given.key)
    monkeypatch.setattr(report, "StudyPage", page)
    monkeypatch.setattr(report, "to_csv", lambda studies: f"csv {len(pages)}")
    monkeypatch.setattr(report, "markdown", lambda given, found: f"markdown {len(found)}")
    monkeypatch.setattr(report, "render", lambda given, found: f"html {len(pages)}")
    folder = tmp_path / "report"
    # The first time, a picture is missing: the second makes it; the third finds all as it was.
    for made in ("html 1", "html 2", "html 2"):
        assert report.run(tmp_path) == folder / "index.html"
        assert (folder / "index.html").read_text() == made
    assert (folder / "results.csv").read_text() == "csv 2"
    assert (folder / "results.md").read_text() == "markdown 1"
    gathered.key = "two"
    report.run(tmp_path)
    assert (folder / "index.html").read_text() == "html 3"
    (folder / "index.html").unlink()
    report.run(tmp_path)
    assert (folder / "index.html").read_text() == "html 4"


def test_the_key_of_a_report_holds_all_that_decides_it(monkeypatch):
    def key(title="t", state="s", result=None, steps=1, stores=(), card=None) -> str:
        experiment = Experiment()
        trial = SimpleNamespace(planned=SimpleNamespace(title=title, experiment=experiment), state=state, result=result)
        run = SimpleNamespace(folder="f", done={}, environment={}, steps=steps, seconds=2.0)
        study = SimpleNamespace(data=None if card is None else SimpleNamespace(card=card))
        return report._key(SimpleNamespace(trials=[trial], runs=[run], studies=[study], cue_stores=list(stores)))

    changes = [
        {}, {"title": "u"}, {"state": "x"}, {"result": {"key": "a"}}, {"result": {"key": "b"}}, {"steps": 2},
        {"stores": ["c"]}, {"card": {}}, {"card": {"a": 1}},
    ]  # fmt: skip
    assert len({key(**change) for change in changes}) == len(changes)
    assert key(result={}) == key()
    seen = []
    monkeypatch.setattr(report, "folder_sha256", lambda folder, suffixes: seen.append((folder.name, suffixes)) or "x")
    key()
    assert seen == [(name, (".py", ".html")) for name in ("report", "evaluation")]


def rows_of(*kinds: str) -> list:
    """Rows of a table: `waits` for a dataset, `absent` is not run, `runs`."""
    return [
        SimpleNamespace(
            waits=kind == "waits", absent=kind != "runs", protocol="p",
            planned=[SimpleNamespace(experiment=f"{kind} {number}") for number in range(2)],
        )
        for kind in kinds
    ]  # fmt: skip


def test_a_tables_parts_are_of_what_runs_and_waits(monkeypatch):
    monkeypatch.setattr(reproduce, "parts_of", list)
    monkeypatch.setattr(reproduce, "folds_on", lambda protocol, domains: (protocol, domains))
    found = reproduce.parts_of_rows(rows_of("runs", "absent", "waits"), SimpleNamespace(domains=["d"]))
    assert found == [(f"{kind} {number}", ("p", ["d"])) for kind in ("runs", "waits") for number in range(2)]


@pytest.mark.parametrize("main", [True, False])
def test_a_table_is_planned_run_and_written(monkeypatch, tmp_path, main):
    recipe = SimpleNamespace(
        root=tmp_path, table=SimpleNamespace(table="agfas/IV"), joined=lambda folders: f"joined {folders}",
        ground=SimpleNamespace(folders=["a", "b"], live_folders=["c"], domains=["d"]),
    )  # fmt: skip
    rows, seen, said = rows_of("runs", "waits"), [], []
    monkeypatch.setattr(reproduce, "make_recipe", lambda asked: recipe)
    monkeypatch.setattr(reproduce, "plan_rows", lambda given, only: seen.append(only) or rows)
    monkeypatch.setattr(reproduce, "plan_lines", lambda given, planned: ["a line", "another"])
    monkeypatch.setattr(reproduce, "require_shared", lambda root: seen.append(root))
    monkeypatch.setattr("pipelines.data.join.join_faces", lambda folders, place: seen.append((folders, place)))
    monkeypatch.setattr("pipelines.stages.sweep.run_planned", lambda planned, jobs: seen.append((len(planned), jobs)))
    monkeypatch.setattr(reproduce, "is_main", lambda: main)
    monkeypatch.setattr(reproduce, "_judge_again", lambda planned: seen.append("judged"))
    monkeypatch.setattr("pipelines.reproduce.values.both_sides", lambda given, planned: "both")
    monkeypatch.setattr("pipelines.reproduce.printing.as_markdown", lambda made: f"markdown of {made}")
    monkeypatch.setattr("pipelines.reproduce.printing.as_csv", lambda made: f"csv of {made}")
    monkeypatch.setattr("pipelines.report.summary.summary", lambda planned: f"{len(planned)} rows")
    path = tmp_path / "tables" / "agfas-IV.md"
    assert reproduce.run(SimpleNamespace(only="some"), 3, said.append) == (path if main else None)
    assert seen == ["some", tmp_path, (["a", "b"], "joined ['a', 'b']"), (2, 3), *(["judged"] if main else [])]
    written = f"\nmarkdown of both\n2 rows\n\nTable: {path} and agfas-IV.csv; all runs: agfas report {tmp_path}"
    assert said == ["a line\nanother", *([written] if main else [])]
    if main:
        assert (path.read_text(), path.with_suffix(".csv").read_text()) == ("markdown of both", "csv of both")
    rows[:] = rows_of("waits", "absent")
    seen.clear()
    reproduce.run(SimpleNamespace(only="some"), 1, said.append)
    assert seen == ["some", *(["judged"] if main else [])]
    if main:
        assert said[-1].startswith("\nmarkdown of both\nTable: ")


@pytest.mark.parametrize(("faces", "result"), [(True, True), (True, False), (False, True)])
def test_kept_scores_are_judged_again(monkeypatch, tmp_path, faces, result):
    judged = []
    monkeypatch.setattr("pipelines.evaluation.judge.write_result", lambda *given: judged.append(given))
    place = tmp_path / "faces"
    if faces:
        place.mkdir()
    if result:
        (tmp_path / "result.json").touch()
    monkeypatch.setattr(
        reproduce, "Workspace", lambda experiment: SimpleNamespace(faces=place, detector=lambda: tmp_path)
    )
    row = SimpleNamespace(planned=[SimpleNamespace(experiment=SimpleNamespace(evaluate="rules"))])
    reproduce._judge_again([row])
    assert judged == ([(tmp_path, "rules")] if faces and result else [])


@pytest.mark.parametrize("proposed", [True, False])
def test_an_inspection_is_written_and_proposes_a_t_where_it_can(monkeypatch, tmp_path, capsys, proposed):
    curves = [SimpleNamespace(row=lambda: {"timestep": 21, "gain": 0.5})] if proposed else []
    monkeypatch.setattr("pipelines.inspection.theorems.propose", lambda given: 21 if given else None)
    monkeypatch.setattr("pipelines.inspection.figure.inspection_figure", lambda *given: given)
    monkeypatch.setattr("pipelines.inspection.figure.as_svg", lambda figure: f"<svg {figure[2]}>")
    rows = [{"group": "live", "error": 1}]
    inspect_dfg._write(tmp_path, rows, curves, {"live": 0.25})
    from pipelines.files import read_json
    from pipelines.inspection.theorems import RULE

    theorems = [{"timestep": 21, "gain": 0.5}] if proposed else []
    assert read_json(tmp_path / "inspect.json") == {
        "rule": RULE, "proposed_timestep": 21 if proposed else None, "theorems": theorems, "errors": rows,
        "identity_similarity_of_strangers": {"live": 0.25},
    }  # fmt: skip
    assert (tmp_path / "inspect.csv").read_text() == "group,error\nlive,1\n"
    assert (tmp_path / "inspect.svg").read_text() == f"<svg {21 if proposed else None}>"
    out = "group,error\nlive,1\n\n"
    if proposed:
        assert (tmp_path / "inspect_theorems.csv").read_text() == "timestep,gain\n21,0.5\n"
        out += f"timestep,gain\n21,0.5\n\nProposed t = 21: the {RULE}.\n"
    else:
        out += "No t is proposed: no domain has both live faces and attacks.\n"
    assert capsys.readouterr().out == out


def test_only_the_generator_is_inspected(tmp_path, capsys):
    baseline = build_experiment({"generator": {"name": "memae"}, "cue": {"source": "memae"}}, "the test")
    for call in (inspect_dfg.print_plan, inspect_dfg.run):
        with pytest.raises(AgfasError, match=r"inspect-dfg measures generator\.name = dfg, not memae\."):
            call(baseline, [21], 3)
    inspect_dfg.print_plan(build_experiment({"output": str(tmp_path)}, "the test"), [21, 41], 3)
    said = "at most 3 faces of each group at t = 21, 41; nothing made yet, nor any faces\n"
    assert capsys.readouterr().out == said
