"""Which frames of a video a dataset holds, and which of them an experiment uses: cases worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from output_folder import make_experiment, write_faces
from prepare_stubs import SquareDetector, save_video, scene

from pipelines.artefacts.faces import judged_rows
from pipelines.data.faces import open_faces
from pipelines.data.frames import Sampled, expected_frames, released, sampled_frames, used_frames
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.cutter import Cutter
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.worker import Worker, expected_faces
from pipelines.data.protocol_settings import LeaveOneOut, Within
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.errors import AgfasError

BOTH = "released_test released_train"


@pytest.mark.parametrize(
    ("count", "one", "two"),
    [
        (10, [6], [6, 1]),  # of the paper's ten
        (300, [6], [6, 156]),
        (11, [6], [6, 0]),  # 6 + 5 = 11
        (7, [6], [6, 2]),  # 6 + 3 - 7
        (6, [0], [0, 3]),
        (4, [2], [2, 0]),
        (2, [0], [0, 1]),
        (1, [0], [0]),
    ],
)
def test_the_public_codes_places(count, one, two):
    assert released(count, 1) == one
    assert released(count, 2) == two


def test_a_video_keeps_both_rules_beside_uniform_frames():
    uniform = [Sampled(15 + 30 * n, n, "uniform") for n in range(10)]
    assert sampled_frames(300, 10, "uniform") == uniform
    assert sampled_frames(300, 10, "released") == [Sampled(6, 0, BOTH), Sampled(156, 1, "released_test")]
    # The uniform frames keep their numbers, and so their keys and the noise of their cues; the others follow.
    both = sampled_frames(300, 10, "both")
    assert both == sorted([*uniform, Sampled(6, 10, BOTH), Sampled(156, 11, "released_test")])
    assert [sample.source_frame for sample in both][:3] == [6, 15, 45]


def test_a_frame_of_two_rules_is_kept_once():
    # Uniform: 0 1 3 4 5 6 7 9 10 11; released: 6, and (6 + 6) mod 12 = 0.
    marked = {sample.source_frame: (sample.number, sample.rules) for sample in sampled_frames(12, 10, "both")}
    assert len(marked) == 10
    assert marked[6] == (5, f"uniform {BOTH}")
    assert marked[0] == (0, "uniform released_test")
    assert marked[1] == (1, "uniform")


@pytest.mark.parametrize("rule", ["uniform", "released", "both"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 12, 13, 500])
def test_frames_are_in_order_and_their_numbers_distinct(count, rule):
    samples = sampled_frames(count, 10, rule)
    assert [sample.source_frame for sample in samples] == sorted({sample.source_frame for sample in samples})
    assert sorted(sample.number for sample in samples) == list(range(len(samples)))
    assert 1 <= len(samples) <= min(count, expected_frames(10, rule))
    if rule != "uniform":
        assert sum("released_train" in sample.rules for sample in samples) == 1
        assert sum("released_test" in sample.rules for sample in samples) == min(count, 2)


def columns(*videos: tuple[str, str, list[int], list[str]]) -> dict[str, np.ndarray]:
    """Records of (domain, video, frames, rules)."""
    rows = [
        (domain, video, frame, rule)
        for domain, video, frames, rules in videos
        for frame, rule in zip(frames, rules, strict=True)
    ]
    names = ("domain", "video", "frame", "frame_rule")
    return {name: np.array(column, dtype=object) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def used(table: dict[str, np.ndarray], choice: str, part: str) -> list[tuple[str, str, int]]:
    chosen = used_frames(table, choice, part)
    return [
        (d, v, f) for d, v, f, yes in zip(table["domain"], table["video"], table["frame"], chosen, strict=True) if yes
    ]


def test_of_stored_frames_the_rule_counts_those_that_are_there():
    """Ten uniform frames; nine, since a face was not found; one picture; the same name in another domain."""
    nine = [frame for frame in range(10) if frame != 3]
    table = columns(
        ("a", "v", list(range(10)), ["uniform"] * 10),
        ("a", "w", nine, ["uniform"] * 9),
        ("b", "v", [0], [""]),
        ("b", "u", [4, 2, 8], [""] * 3),
    )
    assert used(table, "released", "train") == [("a", "v", 6), ("a", "w", 7), ("b", "v", 0), ("b", "u", 2)]
    assert used(table, "released", "test") == [
        *[("a", "v", 1), ("a", "v", 6)],
        *[("a", "w", 1), ("a", "w", 7)],  # 6 + 4 - 9
        ("b", "v", 0),
        *[("b", "u", 4), ("b", "u", 2)],  # 6 mod 3 and 7 mod 3 of 2, 4, 8
    ]
    assert used(table, "released", "dev") == used(table, "released", "test")
    assert used_frames(table, "all", "train").all()
    assert used_frames(table, "uniform", "test").all()
    del table["frame_rule"]
    assert used(table, "released", "train") == [("a", "v", 6), ("a", "w", 7), ("b", "v", 0), ("b", "u", 2)]


def test_marked_frames_come_first():
    rules = ["uniform"] * 10 + [BOTH, "released_test"]
    table = columns(("a", "v", list(range(12)), rules), ("a", "w", list(range(10)), rules[:10]))
    assert used(table, "released", "train") == [("a", "v", 10), ("a", "w", 6)]
    assert used(table, "released", "test") == [("a", "v", 10), ("a", "v", 11), ("a", "w", 1), ("a", "w", 6)]
    assert used_frames(table, "uniform", "train").tolist() == [True] * 10 + [False] * 2 + [True] * 10


def dataset(rule: str = "uniform", count: int = 10) -> dict[str, np.ndarray]:
    """Three domains with six subjects each, a live and an attack video of `count` frames each."""
    rows = [
        (label, domain, f"s{person}", f"s{person}-{label}", ("train", "dev", "test")[person // 2], frame, rule)
        for domain in "ABC"
        for person in range(6)
        for label in (0, 1)
        for frame in range(count)
    ]
    names = ("label", "domain", "subject", "video", "split", "frame", "frame_rule")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def test_a_protocol_trains_on_one_frame_and_tests_two():
    table = dataset()
    folds = protocol_folds(LeaveOneOut(frames="released", train_splits=["train", "test"]), table)
    assert {fold.frames for fold in folds} == {"released"}
    rows = indices(table, folds[0])
    # Two sources with four subjects of train and test, two videos each; a target with six subjects.
    assert {part: len(chosen) for part, chosen in rows.items()} == {"train": 16, "dev": 2 * 2 * 2 * 2, "test": 24}
    assert set(table["frame"][rows["train"]]) == {6}
    assert set(table["frame"][rows["test"]]) == {1, 6}
    assert protocol_folds(Within(frames="uniform"), table)[0].frames == "uniform"
    assert len(indices(table, Fold("x", ("A",), ("A",), ("B",)))["train"]) == 40


def test_uniform_frames_that_were_not_prepared():
    table = dataset(BOTH, 1)
    fold = Fold("to_C", ("A", "B"), ("A", "B"), ("C",), frames="uniform")
    with pytest.raises(AgfasError, match=r"domain 'A' was prepared with frame_rule: released .* --frame-rule both"):
        indices(table, fold)
    table["frame_rule"] = np.where(table["domain"] == "B", table["frame_rule"], "uniform")
    assert len(indices(table, Fold("to_C", ("A",), ("A",), ("C",), frames="uniform"))["test"]) == 12


def test_cues_are_made_of_the_frames_that_are_used(tmp_path):
    experiment = make_experiment(tmp_path / "run", protocol={"name": "leave_one_out", "frames": "released"})
    table = dataset()
    assert set(table["frame"][judged_rows(experiment, table)]) == {1, 6}
    assert judged_rows(make_experiment(tmp_path / "run"), table).all()


def test_a_dataset_says_why_it_keeps_a_frame(tmp_path):
    def process(**recipe) -> list[dict]:
        cutter = Cutter.load(PrepareRecipe(size=32, **recipe), SquareDetector)
        worker = Worker(cutter, tmp_path, tmp_path)
        return list(worker.process(SourceFace(path, "d", "none", "s", "v")))

    path = save_video(tmp_path / "a.mp4", [scene((40, 20, 64), seed=n, size=(96, 128)) for n in range(20)])
    uniform, both, alone = (process(frames=4, frame_rule=rule) for rule in ("uniform", "both", "released"))
    assert [record["source_frame"] for record in uniform] == [2, 7, 12, 17]
    assert [record["source_frame"] for record in both] == [2, 6, 7, 12, 16, 17]
    assert [record["source_frame"] for record in alone] == [6, 16]
    keys = {record["key"]: record["image"] for record in both}
    assert {record["key"]: record["image"] for record in uniform}.items() <= keys.items()
    assert [record["frame_rule"] for record in both if record["frame"] >= 4] == [BOTH, "released_test"]
    assert expected_faces(SourceFace(path, "d", "none", "s", "v"), PrepareRecipe(frames=4, frame_rule="both")) == 6
    square = save_video(tmp_path / "a.mp4", [scene(seed=n, size=(64, 64)) for n in range(9)])
    assert square.exists()
    assert [record["frame_rule"] for record in process(frame_rule="released", aligned=True)] == ["released_test", BOTH]


def test_faces_give_their_frames(tmp_path: Path):
    write_faces(tmp_path / "faces", domains=("kiosk",))
    faces = open_faces(tmp_path / "faces", 16)
    assert set(faces.columns()) >= {"frame", "video"}
    assert "frame_rule" not in faces.columns()
    assert used_frames(faces.columns(), "released", "test").all()
