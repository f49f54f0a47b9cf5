"""The columns of a face dataset, read from its Arrow files alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from output_folder import write_faces

from pipelines.data import faces
from pipelines.data.crop import to_square
from pipelines.data.faces import open_faces
from pipelines.data.records import CARD_NAME, load_faces, open_table, read_columns
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
