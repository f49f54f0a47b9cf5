"""Score tables: what they refuse, how they travel, and how frames become videos."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_tables import make_table, random_table

from pipelines.errors import AgfasError
from pipelines.evaluation.scores import SCORE_COLUMNS, ScoreTable, concat, encode, read_scores
from pipelines.files import write_json
from pipelines.training.run import run_id, score_path


def frames_table(scores_of_videos: dict[str, list[float]], label: int = 1) -> ScoreTable:
    rows = [(video, i, score) for video, scores in scores_of_videos.items() for i, score in enumerate(scores)]
    return make_table(
        [label] * len(rows),
        [score for _, _, score in rows],
        key=[f"d/s/{video}/{i:03d}" for video, i, _ in rows],
        video=[video for video, _, _ in rows],
        subject=["s"] * len(rows),
    )


def assert_same(a: ScoreTable, b: ScoreTable) -> None:
    for name in SCORE_COLUMNS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_round_trip(tmp_path):
    table = random_table(50)
    path = tmp_path / "deep" / "scores.parquet"
    table.save(path, metadata={"role": "dev", "step": 400})
    loaded = ScoreTable.load(path)
    assert_same(loaded, table)
    assert loaded.metadata == {"role": "dev", "step": 400}
    assert {loaded.key.dtype.kind, loaded.attack_type.dtype.kind} == {"U"}
    assert set(json.loads(pq.read_schema(path).metadata[b"agfas"])) == {"role", "step", "sha256"}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert [file.name for file in path.parent.iterdir()] == ["scores.parquet"]


def test_saving_again_keeps_and_adds_metadata(tmp_path):
    path = tmp_path / "scores.parquet"
    random_table(10).save(path, metadata={"role": "dev", "step": 1})
    ScoreTable.load(path).save(path, metadata={"step": 2})
    assert ScoreTable.load(path).metadata == {"role": "dev", "step": 2}


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(AgfasError, match=r"There is no score table at .*none\.parquet\. Create it with"):
        ScoreTable.load(tmp_path / "none.parquet")
    broken = tmp_path / "broken.parquet"
    random_table(10).save(broken)
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(AgfasError, match="cannot be read as a score table"):
        ScoreTable.load(broken)
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(AgfasError, match="video, subject"):
        ScoreTable.load(tmp_path / "other.parquet")


def rewritten(path, **columns):
    """The file with other columns and the same metadata, as another program might write it."""
    table = pq.read_table(path)
    arrays = {name: columns.get(name, table[name]) for name in table.column_names}
    pq.write_table(pa.table(arrays).replace_schema_metadata(table.schema.metadata), path)
    return ScoreTable.load(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"score": [0.1, 0.2, 0.4]},
            "is not what was written .its checksum differs.. Remove it and run `agfas evaluate`",
        ),
        ({"subject": ["v00000", "v00001", "x"]}, "its checksum differs"),
        ({"label": [1, 1, 5]}, "is no score table: Row 2 of a score table has the label 5"),
        ({"score": [1, 2, 3]}, "The column score of the score table .* holds int64, not numbers"),
        ({"label": [0.0, 0.0, 1.0]}, "The column label .* holds double, not whole numbers"),
        ({"video": [1, 2, 3]}, "The column video .* holds int64, not text"),
        ({"domain": ["d", None, "d"]}, "The column domain .* has 1 empty values"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path, columns, message):
    path = tmp_path / "scores.parquet"
    make_table([0, 0, 1], [0.1, 0.2, 0.3]).save(path)
    rewritten(path, label=pa.array([0, 0, 1], pa.int8()), key=pa.array(["d/s/v00000/000", "d/s/v00001/000",
        "d/s/v00002/000"], pa.large_string()))  # fmt: skip
    with pytest.raises(AgfasError, match=message):
        rewritten(path, **columns)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.table([pa.array(["a"])] * 6 + [pa.array([1]), pa.array([0.5])], names=["key", *SCORE_COLUMNS])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(AgfasError, match="has the column key more than once"):
        ScoreTable.load(tmp_path / "twice.parquet")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"role": "test"}, "holds scores of another role: test. Remove it and run `agfas evaluate` again."),
        ({"step": 6}, "holds scores of another step: 6"),
        ({"fold": "to_y"}, "holds scores of another fold: to_y"),
        ({"run": "0"}, "holds scores of another run. Remove"),
    ],
)
def test_scores_of_another_place_are_refused(tmp_path, metadata, message):
    run = tmp_path / "to_x"
    write_json(run / "identity.json", {"seed": 1})
    own = {"role": "dev", "step": 5, "fold": "to_x", "run": run_id(run)}
    for known in ({}, own):
        random_table(5).save(score_path(run, 5, "dev"), known)
        assert_same(read_scores(run, 5, "dev"), random_table(5))
    random_table(5).save(score_path(run, 5, "dev"), {**own, **metadata})
    with pytest.raises(AgfasError, match=message):
        read_scores(run, 5, "dev")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scores": [0.1, 0.2]}, "equally long"),
        ({"scores": [0.1, float("nan"), 0.3]}, "1 of 3 scores are not finite.*'b'.*learning_rate"),
        ({"scores": [0.1, float("inf"), 0.3]}, "not finite"),
        ({"labels": [0, 2, 1]}, "Row 1 .* has the label 2"),
        ({"labels": [0, 0.5, 1]}, "has the label 0.5"),
        ({"key": ["a", "a", "b"]}, "'a' occurs 2 times"),
        ({"attack_type": ["print", "none", "none"]}, "'b' has label 0"),
        ({"attack_type": ["print", "print", "mask"]}, "'c' has label 1"),
    ],
)
def test_wrong_columns_are_refused(columns, message):
    right = {"labels": [0, 0, 1], "scores": [0.1, 0.2, 0.3], "key": ["a", "b", "c"]}
    with pytest.raises(AgfasError, match=message):
        make_table(**{**right, "attack_type": ["print", "print", "none"], **columns})


def test_frames_are_averaged_to_videos():
    videos = frames_table({"b": [0.2, 0.4], "a": [0.5, 0.6, 0.7]}).by_video()
    assert videos.key.tolist() == ["d/a", "d/b"]
    assert videos.video.tolist() == ["a", "b"]
    np.testing.assert_allclose(videos.score, [0.6, 0.3])
    assert videos.label.tolist() == [1, 1]


def test_a_video_name_belongs_to_its_domain():
    table = make_table([1, 0], [0.9, 0.2], video=["v", "v"], domain=["x", "y"])
    assert table.by_video().key.tolist() == ["x/v", "y/v"]


def test_averaging_is_exact_to_the_bit_in_any_order():
    generator = np.random.default_rng(0)
    table = frames_table({f"v{i}": generator.random(9).tolist() for i in range(40)})
    shuffled = table.where(generator.permutation(len(table)))
    assert_same(table.by_video(), shuffled.by_video())


def test_a_table_of_videos_stays_the_same():
    videos = random_table(30).by_video()
    assert_same(videos, videos.by_video())


@pytest.mark.parametrize(
    ("column", "values"),
    [("label", [1, 0]), ("subject", ["s", "t"]), ("attack_type", ["print", "mask"])],
)
def test_a_video_of_two_minds_is_refused(column, values):
    labels = values if column == "label" else [0, 0]
    columns = {"video": ["v", "v"], "subject": ["s", "s"]} | ({} if column == "label" else {column: values})
    if column == "label":
        columns["attack_type"] = ["none", "print"]
    table = make_table(labels, [0.1, 0.2], **columns)
    with pytest.raises(AgfasError, match="'d/v'"):
        table.by_video()


def test_where_and_concat_are_inverse():
    table = random_table(40)
    live = table.label == 1
    joined = concat([table.where(live), table.where(~live)])
    order = np.argsort(joined.key)
    assert_same(joined.where(order), table)


def test_concat_refuses_nothing_and_twice_the_same():
    with pytest.raises(AgfasError, match="no score table"):
        concat([])
    with pytest.raises(AgfasError, match="occurs 2 times"):
        concat([random_table(5), random_table(5)])


def test_concat_keeps_common_metadata(tmp_path):
    table = random_table(20)
    common = ScoreTable(**{name: getattr(table, name) for name in SCORE_COLUMNS}, metadata={"role": "dev"})
    assert concat([common.where([0, 1]), common.where([2])]).metadata == {"role": "dev"}
    assert concat([common.where([0, 1]), table.where([2])]).metadata == {}
    assert concat([common]).metadata == {"role": "dev"}


def test_codes_follow_the_sorted_names():
    codes, names = encode(np.array(["b", "a", "c", "a"]))
    assert names == ["a", "b", "c"]
    assert codes.tolist() == [1, 0, 2, 0]
    codes, names = make_table([1, 0, 0], [0.1, 0.2, 0.3], attack_type=["none", "print", "mask"]).attack_codes
    assert (codes.tolist(), names) == ([1, 2, 0], ["mask", "none", "print"])


def test_an_empty_table_is_allowed_but_not_judged(tmp_path):
    empty = random_table(5).where(np.zeros(5, dtype=bool))
    assert len(empty.by_video()) == 0
    empty.save(tmp_path / "empty.parquet")
    assert len(ScoreTable.load(tmp_path / "empty.parquet")) == 0
    with pytest.raises(AgfasError, match="The score table holds 0 scores but no bona fide: EER"):
        empty.require_both_classes()
    with pytest.raises(AgfasError, match="Theirs holds 2 scores but no attack: EER"):
        make_table([1, 1], [0.1, 0.2]).require_both_classes("Theirs")
