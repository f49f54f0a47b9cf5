"""The columns of a face dataset, read from its Arrow files alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_from_disk
from output_folder import write_faces

from pipelines.data import faces, records
from pipelines.data.crop import to_square
from pipelines.data.faces import open_faces
from pipelines.data.records import (
    CARD_NAME,
    face_features,
    face_key,
    load_faces,
    open_saved,
    open_table,
    picture_features,
    read_card,
    read_columns,
    write_state,
)
from pipelines.errors import AgfasError

NAMES = ("key", "label", "domain", "subject", "video", "attack_type", "split", "frame")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("records") / "faces"
    write_faces(place)
    return place


def test_columns_are_those_that_datasets_reads(folder):
    table, columns = load_faces(folder), read_columns(folder, NAMES, optional=("age", "landmarks"))
    assert list(columns) == [*NAMES, "landmarks"]
    for name in NAMES:
        assert columns[name].tolist() == table[name][:]
    assert columns["label"].dtype == np.int64
    assert columns["key"].dtype == object
    assert open_table(folder).num_rows == len(table)


def test_no_torch_and_no_datasets_is_imported_for_columns_or_for_decoded_pixels(folder):
    open_faces(folder, 16)
    code = (
        "import sys; from pathlib import Path; from pipelines.data.faces import open_faces;"
        f" assert len(open_faces(Path({str(folder)!r}), 16)) == 60;"
        " assert not {'torch', 'datasets', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pixels_are_decoded_in_blocks_and_a_killed_decoding_goes_on(folder, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(folder, tmp_path / "faces", ignore=shutil.ignore_patterns("pixels-*")))
    monkeypatch.setattr(faces, "_BLOCK", 8)
    decoded = []

    def decode(picture, size, broken_from):
        if len(decoded) >= broken_from:
            raise OSError("broken")
        decoded.append(picture)
        return to_square(picture, size)

    monkeypatch.setattr(faces, "threads", lambda: 1)
    monkeypatch.setattr(faces, "to_square", partial(decode, broken_from=20))
    with pytest.raises(AgfasError, match=r"The image of row 20 of .*/faces cannot be decoded \(broken\)"):
        open_faces(copied, 16)
    monkeypatch.setattr(faces, "to_square", partial(decode, broken_from=100))
    opened = open_faces(copied, 16)
    assert len(decoded) == 20 + 60 - 16  # two whole blocks were kept
    expected = np.stack([to_square(picture, 16) for picture in load_faces(folder)["image"]])
    assert np.array_equal(opened.images, expected)
    assert np.array_equal(np.load(copied / "pixels-16.npy"), expected)


def test_a_table_without_its_columns_is_refused_by_every_reader(folder, tmp_path):
    load_faces(folder).remove_columns(["split", "frame"]).save_to_disk(str(tmp_path / "faces"))
    shutil.copy(folder / CARD_NAME, tmp_path / "faces")
    for read in (load_faces, open_table, partial(read_columns, names=["key"])):
        with pytest.raises(AgfasError, match="lacks the columns frame, split of a face dataset"):
            read(tmp_path / "faces")


def test_what_is_no_face_dataset_is_refused(folder, tmp_path):
    with pytest.raises(AgfasError, match="lacks the columns age"):
        read_columns(folder, ("key", "age"))
    with pytest.raises(AgfasError, match="there is no such folder"):
        read_columns(tmp_path / "nowhere", ("key",))
    with pytest.raises(AgfasError, match="not a readable face dataset"):
        read_columns(tmp_path, ("key",))


TEXT = {"dtype": "string", "_type": "Value"}
TYPES = {
    **dict.fromkeys(("key", "attack_type", "domain", "subject", "video", "split"), TEXT),
    "image": {"_type": "Image"},
    "label": {"names": ["attack", "bonafide"], "_type": "ClassLabel"},
    "frame": {"dtype": "int32", "_type": "Value"},
    "landmarks": {"shape": [5, 2], "dtype": "float32", "_type": "Array2D"},
}
PLACES = {
    "picture": {"_type": "Image"},
    "box": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"},
    "points": {"shape": [5, 2], "dtype": "float32", "_type": "Array2D"},
}


def test_columns_have_their_types_and_are_opened_by_datasets(folder, tmp_path):
    features = face_features()
    assert (records.ATTACK, records.BONAFIDE, records.NO_ATTACK) == (0, 1, "none")
    assert features["label"].names[records.BONAFIDE] == "bonafide"
    (tmp_path / "some.arrow").write_bytes((folder / "data-00000-of-00001.arrow").read_bytes())
    write_state(tmp_path, ["some.arrow"], features, "abc")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["features"] == TYPES
    assert json.loads(json.dumps(picture_features().to_dict())) == PLACES
    assert tuple(PLACES) == records.PICTURE_COLUMNS
    state = json.loads((tmp_path / "state.json").read_text())
    assert {name: value for name, value in state.items() if name != "_sha256"} == {
        "_data_files": [{"filename": "some.arrow"}], "_fingerprint": "abc", "_format_columns": None,
        "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None,
    }  # fmt: skip
    opened = open_saved(tmp_path)
    assert (opened._fingerprint, opened[:3]["key"]) == ("abc", load_faces(folder)[:3]["key"])
    assert load_from_disk(str(tmp_path))["label"][:4] == load_faces(folder)["label"][:4]


def test_a_key_counts_frames_with_three_digits():
    assert [face_key("d", "s", "v", frame) for frame in (7, 1234)] == ["d/s/v/007", "d/s/v/1234"]


def test_numbers_keep_their_types(tmp_path):
    table = pa.table({"a": [1, 2], "b": pa.array([0.5, None], pa.float32()), "c": ["x", None]})
    found = {name: records._as_array(table.column(name)) for name in table.column_names}
    assert {name: column.dtype for name, column in found.items()} == {"a": np.int64, "b": np.float32, "c": object}
    assert (found["a"].tolist(), found["c"].tolist()) == ([1, 2], ["x", None])


def test_a_card_says_why_it_is_not_there(folder, tmp_path):
    assert read_card(folder) == {"fingerprint": "0123456789abcdef", "faces": 60}
    with pytest.raises(AgfasError, match=rf"No face dataset at .*/{CARD_NAME}: it is a file"):
        read_card(folder / CARD_NAME)
    with pytest.raises(AgfasError, match="there is no such folder"):
        read_card(tmp_path / "nowhere")
    for begun in (".work", "state.json"):
        (tmp_path / begun / begun).mkdir(parents=True)
        with pytest.raises(AgfasError, match=r"so it is unfinished\. Run the command that makes it again"):
            read_card(tmp_path / begun)
    (tmp_path / "other").mkdir()
    with pytest.raises(
        AgfasError, match=r"is no face dataset: it has no face_dataset\.json\. Give the folder of `--out`"
    ):
        read_card(tmp_path / "other")


def test_a_dataset_of_no_face_is_refused(folder, tmp_path):
    schema = face_features().arrow_schema
    (tmp_path / "faces").mkdir()
    with pa.OSFile(str(tmp_path / "faces" / "none.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema):
        pass
    write_state(tmp_path / "faces", ["none.arrow"], face_features(), "0")
    for read in (load_faces, open_table):
        with pytest.raises(AgfasError, match=r"holds no face\. Check what it was made from"):
            read(tmp_path / "faces")
