"""The report's matrices, shapes, features, statistics and groups: what is drawn and said is what was measured."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Value
from made_up_study import DOMAINS, NOWHERE, data, experiment_of, matrix, unseen
from output_folder import make_experiment, make_output, save_detector, write_faces
from score_tables import make_table

from pipelines.data.records import CARD_NAME, face_features, load_faces
from pipelines.errors import AgfasError
from pipelines.evaluation.groups import Differential, Gap, GroupRate
from pipelines.evaluation.statistics import pairwise_tests
from pipelines.files import read_json, write_json
from pipelines.report import domains, facts, figures, groups, tables
from pipelines.report.charts import Radar
from pipelines.report.comparison import Comparison, study_statistics
from pipelines.report.contents import Data, Study, Target, targets_of, values_of
from pipelines.report.embedding import feature_map, neighbour_map, principal_axes, sample_rows
from pipelines.report.gather import _studies, gather
from pipelines.report.page import to_csv
from pipelines.stages import report

HONEST = "last/source_dev_eer"
IMAGE_ONLY = {"name": "image_only", "preset": "tiny", "image_size": 32}


def people(folder: Path, subjects: int) -> None:
    """A face dataset that records its persons: half of each domain's are female, ages in two bands."""
    write_faces(folder.parent / "plain", subjects=subjects, size=32)
    rows = load_faces(folder.parent / "plain").to_list()
    for row in rows:
        number = int(re.sub(r"\D", "", row["subject"]))
        row |= {"sex": "female" if number % 2 else "male", "age": 25 if number % 3 else 70, "ethnicity": ""}
    features = face_features()
    features.update({"age": Value("int32"), "sex": Value("string"), "ethnicity": Value("string")})
    Dataset.from_list(rows, features=features).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": "0123456789abcdef", "faces": len(rows)})


@pytest.fixture(scope="module")
def study() -> Study:
    """A cross-dataset matrix of two methods and two seeds, in memory."""
    return _studies(matrix(), {NOWHERE / "faces": data()})[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A detector on faces whose persons are recorded, and its report."""
    root = tmp_path_factory.mktemp("parts") / "sweep"
    people(root.parent / "faces", subjects=8)
    experiment = make_experiment(
        root,
        data={"name": "dataset", "path": str(root.parent / "faces"), "size": 32},
        detector=IMAGE_ONLY,
        protocol={"name": "limited", "train": ["kiosk", "webcam"], "test": ["phone"]},
    )
    (planned,) = make_output(root, experiment)
    save_detector(planned, seed=0)
    report.run(root)
    return root


@pytest.fixture(scope="module")
def on_disk(root) -> Study:
    return gather(root).studies[0]


@pytest.fixture(scope="module")
def page(root) -> str:
    return (root / "report" / "index.html").read_text(encoding="utf-8")


def judged(study: Study, label: str) -> list[dict]:
    return [trial.result["folds"] for trial in study.trials if trial.planned.label == label]


def test_targets_are_the_domains_of_every_fold(study):
    found = targets_of(study)
    assert found == [Target(f"from_{source}", target) for source in DOMAINS[:2] for target in DOMAINS[:2]]
    values = values_of(study.groups[0], Target("from_ann", "booth"), HONEST, "hter")
    for seed, folds in enumerate(judged(study, "erm")):
        assert values[seed] == folds["from_ann"]["domains"]["booth"]["rules"][HONEST]["hter"]
    recall = values_of(study.groups[0], Target("from_ann", "booth"), HONEST, "recall")
    far = values_of(study.groups[0], Target("from_ann", "booth"), HONEST, "far")
    assert recall == pytest.approx({seed: 1 - rate for seed, rate in far.items()})


def test_heat_maps_hold_the_means_and_frame_the_diagonal(study):
    maps = domains.matrix_figures(study)
    assert [name for name, _ in maps] == ["erm", "ssdg"]
    svg = maps[0][1]
    cells = re.findall(r"<title>(\w+), (\w+): ([\d.]+)</title>", svg)
    assert len(cells) == 4
    for source, target, shown in cells:
        values = [folds[f"from_{source}"]["domains"][target]["rules"][HONEST]["hter"] for folds in judged(study, "erm")]
        assert shown == f"{100 * np.mean(values):.1f}"
    assert svg.count('class="frame"') == 2


def test_within_and_across_are_means_of_the_diagonal_and_the_rest(study):
    (first, _) = domains.within_and_across(study).rows
    diagonal = [
        np.mean([folds[f"from_{name}"]["domains"][name]["rules"][HONEST]["hter"] for name in DOMAINS[:2]])
        for folds in judged(study, "erm")
    ]
    assert first.cells[0].text == f"{100 * np.mean(diagonal):.1f} ± {100 * np.std(diagonal, ddof=1):.1f}"


def test_every_seed_and_target_is_an_observation_of_the_tests(study):
    found = study_statistics(study, Comparison(study))
    assert [row.cells[4].text for row in found.summary.rows] == ["8", "8"]
    values = [
        {
            (seed, target): value
            for target in targets_of(study)
            for seed, value in values_of(group, target, HONEST, "hter").items()
        }
        for group in study.groups
    ]
    (pair,) = pairwise_tests({"erm": values[0], "ssdg": values[1]})
    assert found.pairs.rows[0].cells[4].text == f"{pair.p_holm:.3g}"
    assert pair.differs
    assert found.words[0].startswith("erm and ssdg differ by")
    assert "in favour of ssdg" in found.words[0]
    assert "F(1, 14)" in dict(found.summary.made)["Analysis of variance"]


def test_group_tables_tell_rates_persons_and_the_gap(root, on_disk, page):
    found = {table.title: table for table in groups.group_tables(on_disk)}
    assert list(found) == ["kiosk_webcam_to_phone: by age", "kiosk_webcam_to_phone: by sex"]
    table = found["kiosk_webcam_to_phone: by sex"]
    assert table.columns == ("BPCER image_only", "APCER image_only")
    assert [row.name for row in table.rows] == ["female", "male", "largest difference"]
    # 4 persons of each sex in the domain are too few to compare.
    assert ", 4 persons, too few" in table.rows[0].cells[0].small
    assert table.rows[2].cells[0].small == "fewer than two groups are large enough"
    faces = load_faces(root.parent / "faces")
    females = {
        f"{d}/{v}" for d, v, s in zip(faces["domain"], faces["video"], faces["sex"], strict=True) if s == "female"
    }
    (trial,) = on_disk.trials
    scores = trial.test_scores("kiosk_webcam_to_phone", HONEST)
    chosen = (scores.label == 1) & np.isin(scores.key, sorted(females))
    rejected = np.mean(scores.score[chosen] < trial.numbers("kiosk_webcam_to_phone", HONEST)["threshold"])
    assert table.rows[0].cells[0].text == f"{100 * rejected:.1f}"
    assert "By demographic group" in page


def test_cells_of_groups_by_hand():
    rates = (
        GroupRate("female", 3, 40, 20, 0.075, 0.02, 0.2, True),
        GroupRate("male", 0, 4, 2, 0.0, 0.0, 0.6, False),
    )
    gap = Gap("male", "female", 0.0756, -0.01, 0.2, None, 0.05)
    differential = Differential("BPCER", rates, gap, 3)
    cells = [groups._rate_cell(differential, name) for name in ("female", "male", "other")]
    assert [(cell.text, cell.small) for cell in cells] == [
        ("7.5", "[2.0, 20.0] 40 videos, 20 persons"),
        ("0.0", "[0.0, 60.0] 4 videos, 2 persons, too few"),
        ("–", ""),
    ]
    cell = groups._gap_cell(differential)
    assert (cell.text, cell.small, cell.kind) == ("7.6", "[-1.0, 20.0] female over male, p = 0.05", "")
    cell = groups._gap_cell(replace(differential, gap=replace(gap, ratio=2.04, p=0.0499)))
    assert (cell.small, cell.kind) == ("[-1.0, 20.0] female over male, 2.0 times, p = 0.0499", "worse")
    assert sorted(["60+", "18-29", "0-17", "female", "30-44"], key=groups._by_age) == [
        "0-17", "female", "18-29", "30-44", "60+",
    ]  # fmt: skip
    made = dict(groups._made([differential, replace(differential, unknown=1)], "last"))
    assert made["Not recorded"] == "3 videos of persons without a record are left out"
    assert "Live faces only" in made
    assert "Live faces only" not in dict(groups._made([replace(differential, measure="APCER", unknown=0)], "last"))


def test_a_persons_group_is_that_of_most_videos():
    table = make_table(np.zeros(4), np.ones(4, dtype=int))
    table = replace(table, domain=np.array(["a", "a", "a", "b"]), subject=np.array(["s", "s", "s", "s"]))
    ages = np.array(["18-29", "30-44", "30-44", ""])
    assert groups._of_persons(table, ages, "age").tolist() == ["30-44", "30-44", "30-44", ""]
    assert groups._of_persons(table, ages, "sex").tolist() == ages.tolist()


def test_groups_of_videos_are_of_those_that_have_a_record():
    columns = {
        "domain": ["a", "a", "a", "b", "b"], "video": ["1", "1", "2", "1", "2"], "sex": ["f", "f", "", "m", "f"],
        "age": [29, 30, -1, 0, 17],
    }  # fmt: skip
    some = Data(NOWHERE, {}, {}, columns)
    # The mean of a video's ages is 29.5, to the even one.
    assert groups._groups_by_video(some, "age") == {"a/1": "30-44", "b/1": "0-17", "b/2": "0-17"}
    assert groups._groups_by_video(some, "sex") == {"a/1": "f", "b/1": "m", "b/2": "f"}
    assert groups._groups_by_video(some, "ethnicity") == {}


def test_a_group_without_scores_has_no_rates():
    (both,) = _studies(unseen(), {})
    first, second = both.groups
    target = Target("all_to_unseen", "booth")
    group_of = {f"booth/v{number:02}": "f" for number in range(11)}
    found = groups._of_group(first, target, HONEST, "sex", group_of)
    assert [(one.measure, one.rates[0].videos) for one in found] == [("BPCER", 5), ("APCER", 6)]
    assert groups._of_group(second, target, HONEST, "sex", group_of) == ()
    assert groups._of_group(first, Target("all_to_unseen", "nowhere"), HONEST, "sex", group_of) == ()


def test_a_domain_of_live_faces_alone_has_rates_by_group():
    (both,) = _studies(unseen(), {NOWHERE / "others": data()})
    found = {table.title: table for table in groups.group_tables(both)}
    assert list(found) == [f"all_to_unseen on {name}: by {by}" for by in ("age", "sex") for name in ("booth", "car")]
    assert found["all_to_unseen on booth: by sex"].columns == ("BPCER first", "APCER first")


RULES = {
    "last/source_dev_eer": (
        "the last checkpoint", "equal error rate on held-out videos of the source domains",
    ),
    "source_dev/source_dev_min_acer": (
        "the best on held-out videos of the source domains",
        "lowest ACER, with APCER of the worst attack type, on held-out videos of the source domains",
    ),
    "oracle/source_dev_min_hter": (
        "the best on the test videos themselves",
        "lowest HTER, all attacks pooled, on held-out videos of the source domains",
    ),
    "oracle/target_eer": (
        "the best on the test videos themselves", "equal error rate on the test videos themselves, so that HTER is EER",
    ),
    "last/published": ("the last checkpoint", "the threshold of the publisher of the weights"),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_said_in_words(rule, study):
    made = dict(tables.how_made(study, rule))
    selection, threshold = rule.split("/")
    assert made["Checkpoint"].startswith(f"{selection}: {RULES[rule][0]}; of 90 steps, ")
    assert made["Threshold"] == f"{threshold}: {RULES[rule][1]}"


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        ({"cue": {"timestep": 201, "num_inference_steps": 10}}, "201, grid of 10"),
        ({"cue": {"timestep": 201, "samples": 4}}, "201, grid of 50, mean of 4"),
        ({"generator": {"name": "anoddpm"}, "cue": {"source": "anoddpm", "timestep": 201}}, "201, 201 ancestral steps"),
        (
            {"generator": {"name": "anoddpm"}, "cue": {"source": "anoddpm", "calls": 9, "samples": 2}},
            "801, 9 ancestral steps, mean of 2",
        ),
    ],
)
def test_how_a_restoration_is_sampled(settings, sampling):
    assert facts._sampling(experiment_of(**settings)) == sampling


@pytest.mark.parametrize(
    ("train", "cue", "words"),
    [
        ({}, {}, "training float32; cues U-Net float32, autoencoder float32"),
        (
            {"tf32": True},
            {"tf32": True},
            "training TF32 on a GPU; cues U-Net float32, autoencoder float32, TF32 on a GPU",
        ),
        (
            {"tf32": True, "mixed_precision": "fp16"},
            {"dtype": "bfloat16", "autoencoder_dtype": "bfloat16", "channels_last": True, "compile": True},
            "training fp16 beside TF32 on a GPU; cues U-Net bfloat16, autoencoder bfloat16, channels-last, compiled",
        ),
    ],
)
def test_the_arithmetic_of_an_experiment(train, cue, words):
    assert facts._arithmetic(experiment_of(train=train, cue=cue)) == words


def test_radar_and_trade_off_show_the_means(study):
    metrics, by_target = figures.radar_figures(study)
    values = [list(values_of(study.groups[1], t, HONEST, "auc").values()) for t in targets_of(study)]
    assert f"ssdg: AUC {100 * np.mean(values):.1f}," in metrics
    assert by_target.count('class="line ') == 2
    (rates,) = figures.trade_off_figures(study)
    apcer = np.mean([list(values_of(study.groups[1], t, HONEST, "apcer").values()) for t in targets_of(study)])
    assert f"ssdg: APCER {100 * apcer:.1f} %" in rates


def test_a_radars_rim_and_centre():
    radar = Radar("r", ["a", "b", "c", "d"], 50, 100)
    radar.line([100, 50, 20, 75], "c0", "x")
    points = re.search(r'class="line c0" points="([^"]+)"', radar.svg()).group(1)
    assert points == "190.0,70.0 190.0,174.0 190.0,174.0 138.0,174.0"


def test_the_feature_map_shows_faces_of_every_domain_and_label(on_disk, page):
    found = feature_map(on_disk)
    assert len(found.charts) == 4
    assert found.domains == (("kiosk", "c0"), ("phone", "c1"), ("webcam", "c2"))
    by_label = found.charts[0]
    # All records: the made-up development scores are of everything that is not tested.
    assert by_label.count("<circle") == 3 * 8 * 5
    assert by_label.count('class="dot live point"') == 3 * 8 * 2
    assert "phone, live" in by_label
    assert found.charts[2] in page


def test_features_are_projected_as_they_should_be():
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(3) * 20, 20, axis=0)
    features = np.hstack([centres, np.zeros((60, 5))]) + generator.normal(size=(60, 8))
    axes = principal_axes(features)
    assert np.var(axes[:, 0]) == pytest.approx(np.linalg.eigvalsh(np.cov(features.T, bias=True))[-1])
    places = neighbour_map(features)
    np.testing.assert_array_equal(places, neighbour_map(features))
    group = np.repeat(range(3), 20)
    nearest = [np.argsort(np.linalg.norm(places - place, axis=1))[1] for place in places]
    assert np.mean(group[nearest] == group) == 1.0


def test_a_sample_is_even_and_repeatable():
    table = make_table([1] * 300 + [0] * 20, np.linspace(0, 1, 320))
    rows = sample_rows(table, 30)
    assert len(rows) == 30
    assert np.sum(table.label[rows]) == 15
    np.testing.assert_array_equal(rows, sample_rows(table, 30))
    assert not np.array_equal(rows, sample_rows(table, 30, seed=1))
    assert len(sample_rows(table, 1000)) == 320


def test_too_few_faces_or_no_detector_is_said(on_disk, monkeypatch):
    monkeypatch.setattr("pipelines.report.embedding._FEWEST", 1000)
    with pytest.raises(AgfasError, match="1000 faces or more"):
        feature_map(on_disk)


def test_csv_has_a_line_for_every_domain(study):
    rows = [row for row in csv.DictReader(to_csv([study]).splitlines()) if row["experiment"] == "ssdg"]
    rows = [row for row in rows if row["seed"] == "1"]
    assert len(rows) == 2 * 3 * 2
    part = judged(study, "ssdg")[1]["from_booth"]["domains"]["ann"]["rules"]["oracle/target_eer"]
    (row,) = (r for r in rows if (r["fold"], r["domain"], r["rule"]) == ("from_booth", "ann", "oracle/target_eer"))
    assert float(row["mcc"]) == part["classification"]["mcc"]
    assert float(row["hter"]) == part["hter"]


def test_a_domain_of_live_faces_alone_has_its_bpcer(tmp_path):
    root = tmp_path / "out"
    write_faces(tmp_path / "faces", subjects=8)
    rows = load_faces(tmp_path / "faces").to_list()
    for row in rows:
        if row["domain"] == "webcam":
            row |= {"label": 1, "attack_type": "none"}
    Dataset.from_list(rows, features=face_features()).save_to_disk(str(tmp_path / "live"))
    write_json(tmp_path / "live" / CARD_NAME, read_json(tmp_path / "faces" / CARD_NAME))
    make_output(
        root,
        make_experiment(
            root,
            data={"name": "dataset", "path": str(tmp_path / "live"), "size": 16},
            detector={"name": "image_only"},
            protocol={"name": "all_to_unseen", "train": ["kiosk"], "test": ["phone", "webcam"]},
        ),
    )
    (study,) = gather(root).studies
    assert targets_of(study) == [Target("all_to_unseen", "phone")]
    assert targets_of(study, one_class=True)[1] == Target("all_to_unseen", "webcam")
    trial = study.trials[0]
    numbers = trial.judged(Target("all_to_unseen", "webcam"))["one_class"][HONEST]
    scores = trial.test_scores("all_to_unseen", HONEST)
    rejected = np.mean(scores.score[scores.domain == "webcam"] < numbers["threshold"])
    assert numbers["bpcer"] == pytest.approx(rejected)
    assert "hter" not in numbers
    assert numbers["threshold"] == trial.numbers("all_to_unseen", HONEST)["threshold"]
    (table,) = domains.domain_tables(study)
    assert "webcam lacks one class" in dict(table.made)["Domains"]
    assert [row.name for row in table.rows] == ["phone, image_only", "webcam, image_only"]
