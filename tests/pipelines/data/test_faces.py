"""A face dataset opened for training: every column, crop, mask and place, in a dataset written by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as Stored
from PIL import Image

from pipelines.data import faces as module
from pipelines.data.faces import Faces, has_masks, open_faces
from pipelines.data.records import CARD_NAME, face_features, picture_features
from pipelines.errors import AgfasError
from pipelines.files import write_json

COLUMNS = {
    "key": ["a/s/v/000", "a/t/w/003", "b/s/v/000", "b/u/x/001"],
    "label": [1, 0, 1, 1],
    "domain": ["a", "a", "b", "b"],
    "subject": ["s", "t", "s", "u"],
    "video": ["v", "w", "v", "x"],
    "attack_type": ["none", "print", "none", "none"],
    "split": ["train", "train", "dev", "test"],
    "frame": [0, 3, 0, 1],
}


def crop(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def cell(pixels: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def write(folder: Path, **more: tuple) -> Path:
    """The dataset, with further columns of (type, values)."""
    kinds = Features({**face_features(), **{name: kind for name, (kind, _) in more.items()}})
    columns = {**COLUMNS, "image": [cell(crop(number)) for number in range(4)], "landmarks": [[[1.0, 2.0]] * 5] * 4}
    columns |= {name: values for name, (_, values) in more.items()}
    Dataset.from_dict(columns, features=kinds).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": folder.name})
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Faces:
    """With masks, rules, places and pictures, of all but the second face."""
    left = np.zeros((8, 8), np.uint8)
    left[:, :3], left[:, 3], left[:, 4] = 255, 128, 127  # from 128 on, it is face
    places = picture_features()
    folder = write(
        tmp_path_factory.mktemp("full") / "full",
        mask=(Stored(), [cell(left), None, cell(255 - left), cell(left)]),
        frame_rule=(Value("string"), ["uniform", "released_train", "", "uniform"]),
        box=(places["box"], [[1, 2, 3, 4], None, [5, 6, 7, 8], [9, 9, 9, 9]]),
        points=(places["points"], [[[n, n + 0.5]] * 5 if n != 1 else None for n in range(4)]),
        picture=(places["picture"], [cell(crop(10 + n)) if n != 1 else None for n in range(4)]),
    )
    return open_faces(folder, 8)


def test_columns_and_crops(full):
    assert (len(full), full.size, full.fingerprint) == (4, 8, "full-8")
    assert {name: column.tolist() for name, column in full.columns().items()} == {
        **COLUMNS,
        "frame_rule": ["uniform", "released_train", "", "uniform"],
    }
    assert full.labels.dtype == np.int64
    assert np.array_equal(full.images[:], np.stack([crop(number) for number in range(4)]))
    assert (full.folder / "pixels-8.npy").is_file()
    assert (full.folder / "masks-8.npy").is_file()


def test_masks_are_of_0_and_1_and_a_face_without_one_is_kept_whole(full):
    masks = full.masks[:]
    assert masks.dtype == np.uint8
    assert masks[0].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 8
    assert masks[2].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 8
    assert masks[1].min() == 1
    half = module._stored_mask(Image.fromarray(masks[0] * np.uint8(200)), 4)
    assert half.tolist() == [[1, 1, 0, 0]] * 4
    assert module._stored_mask(None, 4).shape == (4, 4)


def test_places_and_pictures(full):
    nan = float("nan")
    np.testing.assert_array_equal(full.boxes, np.array([[1, 2, 3, 4], [nan] * 4, [5, 6, 7, 8], [9] * 4], np.float32))
    assert (full.points.dtype, full.points.shape) == (np.float32, (4, 5, 2))
    assert full.points[3].tolist() == [[3.0, 3.5]] * 5
    assert np.isnan(full.points[1]).all()
    assert full.has_picture.tolist() == [True, False, True, True]
    assert full.picture(1) is None
    for row in (0, 2, 3):
        assert np.array_equal(full.picture(row), crop(10 + row))


def test_live_faces_of_domains_and_splits(full):
    assert full.live(["a", "b"]).tolist() == [0]
    assert full.live(["b"], ("dev", "test")).tolist() == [2, 3]
    assert full.live(["a"], ("train", "dev", "test")).tolist() == [0]
    assert full.live(["c"]).tolist() == []


@pytest.mark.parametrize("empty", [False, True])
def test_what_a_dataset_lacks_is_none(tmp_path, empty):
    """Absent columns, and columns without a value."""
    places = {name: (kind, [None] * 4) for name, kind in picture_features().items()} if empty else {}
    more = {"mask": (Stored(), [None] * 4), **places} if empty else {}
    faces = open_faces(write(tmp_path / "few", **more), 4)
    assert not has_masks(faces.folder)
    assert faces.masks is faces.boxes is faces.points is faces.frame_rules is faces.picture(0) is None
    assert faces.has_picture.tolist() == [False] * 4
    assert set(faces.columns()) == set(COLUMNS)
    assert faces.images.shape == (4, 4, 4, 3)


def test_what_cannot_be_decoded_is_named_by_its_row(tmp_path):
    content = cell(crop(0))["bytes"]
    broken = {"bytes": content[:60] + bytes(len(content) - 60), "path": None}
    pictures = (picture_features()["picture"], [cell(crop(0)), broken, None, None])
    faces = open_faces(write(tmp_path / "faces", picture=pictures), 8)
    with pytest.raises(AgfasError, match=r"The picture of row 1 of .*/faces cannot be decoded \(.*\)\. Make the"):
        faces.picture(1)
    folder = write(tmp_path / "masked", mask=(Stored(), [cell(crop(0)[..., 0]), None, broken, None]))
    with pytest.raises(AgfasError, match=r"The mask of row 2 of .*/masked cannot be decoded"):
        open_faces(folder, 8)
