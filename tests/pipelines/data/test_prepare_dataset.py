"""What tasks leave on disk, and the dataset that is put together from it."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from prepare_stubs import finished, record

from pipelines.data.prepare import dataset
from pipelines.data.prepare.dataset import (
    TaskFiles,
    TaskRecords,
    prepared_features,
    task_schema,
    write_dataset,
)
from pipelines.data.prepare.sources import Noted, Refusal
from pipelines.data.records import load_faces, open_table
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json

PLAIN = {
    "key": "string", "image": "binary", "label": "int64", "attack_type": "string", "domain": "string",
    "subject": "string", "video": "string", "frame": "int32", "split": "string",
    "landmarks": "list<item: list<item: float>>", "source": "string", "source_frame": "int32", "frame_rule": "string",
    "picture": "binary", "box": "list<item: float>", "points": "list<item: list<item: float>>", "detector": "string",
    "detector_score": "float", "pose": "list<item: float>", "quality": "float", "mask": "binary", "age": "int32",
    "sex": "string", "ethnicity": "string", "subject_known": "bool", "hash": "uint64", "thumbnail": "binary",
}  # fmt: skip


def test_the_columns_of_a_task_and_of_a_dataset():
    schema = task_schema()
    assert {name: str(schema.field(name).type) for name in schema.names} == PLAIN
    assert schema.names == list(PLAIN)
    features = prepared_features()
    assert list(features) == [name for name in PLAIN if name not in ("hash", "thumbnail")]
    assert {name: str(feature.dtype) for name, feature in features.items() if hasattr(feature, "dtype")} == {
        **{name: kind.replace("float", "float32") for name, kind in PLAIN.items() if kind in
           ("string", "int32", "float", "bool")},
        **{"label": "int64", "landmarks": "float32", "points": "float32"},
        **dict.fromkeys(("image", "picture", "mask"), "PIL.Image.Image"),
    }  # fmt: skip
    assert (features["pose"].length, features["box"].length, features["landmarks"].shape) == (3, 4, (5, 2))


@pytest.mark.parametrize(
    ("bytes_each", "number", "lengths"), [(10, 130, [64, 64, 2]), (10, 64, [64]), (16_000_000, 3, [2, 1]), (1, 0, [])]
)
def test_records_are_written_by_number_and_by_bytes(bytes_each, number, lengths):
    picture = bytes(bytes_each)
    records = ({"picture": picture, "frame": n, "mask": None} for n in range(number))
    batches = list(dataset._batches(records))
    assert [len(batch) for batch in batches] == lengths
    assert [row["frame"] for batch in batches for row in batch] == list(range(number))
    just_less = [{"picture": picture[1:], "image": b""} for _ in range(number)]
    assert len(list(dataset._batches(just_less))) <= len(lengths)


def test_a_marker_counts_only_records_that_are_whole(tmp_path):
    files = finished(tmp_path, [record(0)]).files
    lines = {"refused": [Refusal("a.png", 3, "why", "frames 3", 2, True)], "noted": [Noted("b.gif", "two pages")]}
    files.finish(0, lines)
    path, marker = tmp_path / "tasks" / "000000.arrow", tmp_path / "tasks" / "000000.json"
    whole = path.read_bytes()
    written = read_json(marker)
    assert written == {
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "refused": [
            {"path": "a.png", "frame": 3, "reason": "why", "tried": "frames 3", "lost": 2, "filtered": True},
        ],
        "noted": [{"path": "b.gif", "note": "two pages"}],
    }
    assert (files.refusals(0), files.notes(0)) == (lines["refused"], lines["noted"])
    assert (files.scratch.name, files.scratch.is_dir(), files.size(0)) == ("scratch", True, len(whole))
    assert files.is_done(0)
    assert not files.is_done(1)
    files.make_folders()
    path.write_bytes(b"x" + whole[1:])
    assert not files.is_done(0)
    write_json(marker, {name: value for name, value in written.items() if name != "sha256"})
    assert files.is_done(0), "markers of earlier versions have no checksum"
    path.write_bytes(whole[1:])
    assert not files.is_done(0)
    path.unlink()
    assert not files.is_done(0)
    path.write_bytes(whole)
    marker.write_text("{")
    assert not files.is_done(0)
    marker.unlink()
    assert not files.is_done(0)


def test_tasks_are_grouped_into_files_of_at_most_500_million_bytes(tmp_path, monkeypatch):
    sizes = [600_000_000, 250_000_000, 250_000_000, 1, 499_999_999, 1]
    monkeypatch.setattr(TaskFiles, "size", lambda files, number: sizes[number])
    assert TaskRecords(TaskFiles(tmp_path), 6).groups() == [1, 2, 2, 1]
    assert TaskRecords(TaskFiles(tmp_path), 0).groups() == [0]


def test_pictures_are_found_over_the_tasks(tmp_path):
    records = finished(tmp_path, [record(0), record(1)], [], [record(2)], [record(3), record(4)])
    for rows in ([], [0], [1, 2], [0, 2, 4], [0, 1, 2, 3, 4], [4]):
        assert list(records.pictures(rows)) == [b"image%d" % row for row in rows]
    columns = records.columns()
    assert columns["hash"] == [2**63 + number for number in range(5)]
    assert (columns["key"][3], columns["thumbnail"][4]) == ("d/s/v/003", bytes([4]) * 256)
    assert list(columns) == [
        *("key", "label", "attack_type", "domain", "subject", "video", "split", "source", "quality", "subject_known"),
        *("hash", "thumbnail"),
    ]


def test_two_faces_of_one_key_are_refused(tmp_path):
    with pytest.raises(AgfasError, match=r"Two faces have the key d/s/v/000\. Rename .*, or leave out --all-faces"):
        finished(tmp_path, [record(0)], [record(1), record(0)]).columns()


def test_the_dataset_of_chosen_records_with_other_splits(tmp_path, monkeypatch):
    mask = b"a mask"
    records = finished(tmp_path / "work", [record(0), record(1, picture=b"whole")], [record(2), record(3, mask=mask)])
    monkeypatch.setattr(dataset, "_BYTES_A_FILE", 1)
    splits = ["test", "dev", "train", "dev"]
    content = write_dataset(records, splits, np.array([True, False, True, True]), tmp_path / "out")
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.arrow")) == names
    rows = open_table(tmp_path / "out").to_pylist()
    assert [(row["key"], row["split"], row["image"]["bytes"]) for row in rows] == [
        *(("d/s/v/000", "test", b"image0"), ("d/s/v/002", "train", b"image2"), ("d/s/v/003", "dev", b"image3"))
    ]
    assert [row["mask"] and row["mask"]["bytes"] for row in rows] == [None, None, mask]
    assert load_faces(tmp_path / "out").features == prepared_features()
    other = write_dataset(records, splits, np.array([True, True, False, False]), tmp_path / "other")
    with pa.memory_map(str(tmp_path / "other" / names[1])) as source:
        assert len(pa.ipc.open_stream(source).read_all()) == 0, "a file without a chosen record"
    # A name of datasets that people have made: it stays as it is.
    assert content == "0d0d7d80fc869c2e" != other
